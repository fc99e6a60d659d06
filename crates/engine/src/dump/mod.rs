//! Describing everything that is held as text: VMA's JSON, and what is said beyond it.

pub(crate) mod additions;
pub(crate) mod describe;
pub(crate) mod json;
pub(crate) mod stats_string;
