//! Bytes of each heap: what is booked, what the driver says, and what follows from it.

pub(crate) mod ledger;
pub(crate) mod memory_events;
pub(crate) mod pressure;
pub(crate) mod retention;
