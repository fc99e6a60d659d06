//! Recordings of this library: magic and version, then blocks with length and checksum. `docs/formats.md` describes
//! them byte by byte.

pub(crate) mod block;
mod compact;
mod decoder;
mod encoder;
mod head;
mod records;
mod version;

pub(crate) use decoder::decode;
pub use encoder::Encoder;
pub(crate) use head::device_type;
pub(crate) use version::MAGIC;
pub use version::VERSION;
