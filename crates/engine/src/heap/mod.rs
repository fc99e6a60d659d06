//! Bytes of each heap: bookings, the driver's report, budgets, retention of empty blocks, and memory
//! that is given back later.

pub(crate) mod ledger;
pub(crate) mod memory_events;
pub(crate) mod pressure;
pub(crate) mod reclaimer;
pub(crate) mod retention;
