//! How a recording begins.

/// The first bytes of a recording. The first is no text, the last two are changed by what converts line ends.
pub(crate) const MAGIC: [u8; 8] = *b"\x89VKMEM\r\n";
/// The version of the format. A reader refuses another major version; a minor one adds what readers can skip.
pub const VERSION: (u32, u32) = (1, 1);
