//! Bytes of each heap: bookings, the driver's report, budgets and retention of empty blocks.

pub(crate) mod ledger;
pub(crate) mod memory_events;
pub(crate) mod pressure;
pub(crate) mod retention;
