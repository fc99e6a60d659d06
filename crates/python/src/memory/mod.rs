//! Host access to the memory of a resource: mapping, reading and writing.

pub(crate) mod exports;
pub(crate) mod host_access;
pub(crate) mod host_copy;
pub(crate) mod mapping;
