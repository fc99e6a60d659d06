//! Copies that the device makes.

pub(crate) mod copies;
