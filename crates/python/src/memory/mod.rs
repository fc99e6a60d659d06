//! The memory of a resource as the host reads and writes it.

pub(crate) mod exports;
pub(crate) mod host_access;
pub(crate) mod host_copy;
pub(crate) mod mapping;
