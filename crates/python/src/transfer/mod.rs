//! Copies and fills by the device.

pub(crate) mod copies;
pub(crate) mod queue_lock;
