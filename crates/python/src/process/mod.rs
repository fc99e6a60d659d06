//! The Python process: forks, host memory, dropping of Python objects.

pub(crate) mod forks;
pub(crate) mod host_memory;
pub(crate) mod links;
pub(crate) mod number;
