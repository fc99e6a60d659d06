//! Recordings of allocators: files and rings in memory, and which allocator tells which.

pub(crate) mod attached;
pub(crate) mod counter;
pub(crate) mod environment;
pub(crate) mod failure;
pub(crate) mod options;
pub(crate) mod session;
pub(crate) mod space;
pub(crate) mod timeline;
