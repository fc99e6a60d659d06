//! Memory that comes from other APIs or goes to them.

pub(crate) mod import;
