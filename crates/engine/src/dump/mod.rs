//! Dumps of all allocations as JSON: VMA's format and additions to it.

pub(crate) mod additions;
pub(crate) mod describe;
pub(crate) mod json;
pub(crate) mod stats_string;
