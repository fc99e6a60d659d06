//! What an allocator asks of a device, and how what it hands over is read.

pub(crate) mod chain;
pub(crate) mod contract;
pub mod disjoint;
pub mod external;
pub mod format;
pub mod image_format;
pub(crate) mod submission;
