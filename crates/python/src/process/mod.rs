//! The Python process as a whole: its forks, its host memory, what is let go of in it.

pub(crate) mod forks;
pub(crate) mod host_memory;
pub(crate) mod links;
pub(crate) mod number;
