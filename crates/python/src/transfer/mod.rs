//! Copies and fills by the device.

pub(crate) mod copies;
