//! How a recording begins.

/// The first bytes of a recording. The first is no text, the last two are changed by what converts line ends.
pub(crate) const MAGIC: [u8; 8] = *b"\x89VKMEM\r\n";
/// The version of the format. A reader refuses another major version; a minor one adds what readers can skip.
pub const VERSION: (u16, u16) = (1, 1);

/// Returns the version as descriptions have it.
pub(crate) fn version() -> (u32, u32) {
    (VERSION.0.into(), VERSION.1.into())
}
