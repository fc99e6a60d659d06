//! Import and export of external memory.

pub(crate) mod dlpack;
pub(crate) mod export;
pub(crate) mod handle_types;
pub(crate) mod import;
