//! Copies that the device makes.

pub(crate) mod copies;
pub(crate) mod queue_lock;
