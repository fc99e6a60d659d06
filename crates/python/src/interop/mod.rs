//! Memory that comes from other APIs or goes to them.

pub(crate) mod dlpack;
pub(crate) mod export;
pub(crate) mod handle_types;
pub(crate) mod import;
