//! Pools: memory objects of one type, divided into blocks or dedicated.

pub(crate) mod arena;
pub(crate) mod block_sizes;
pub(crate) mod blocks;
pub(crate) mod dedicated;
mod filled;
pub(crate) mod guard;
mod guarded;
pub(crate) mod guarded_memory;
pub(crate) mod leaving;
pub(crate) mod margin;
pub(crate) mod memory_object;
pub(crate) mod moves;
pub(crate) mod overdue;
pub(crate) mod pool;
pub(crate) mod prefetch;
pub(crate) mod prefetch_queue;
pub(crate) mod quarantine;
pub(crate) mod registry;
pub(crate) mod setup;
pub(crate) mod snapshot;
