//! Ownership: which object keeps which alive, which may be used, and how each ends.

pub(crate) mod background;
pub(crate) mod bind;
pub(crate) mod bindings;
pub(crate) mod close;
pub(crate) mod counted;
pub(crate) mod create;
pub(crate) mod describe;
pub(crate) mod destroy_many;
pub(crate) mod device_memory;
pub(crate) mod end;
pub(crate) mod enter;
pub(crate) mod extras;
pub(crate) mod face;
pub(crate) mod frames;
pub(crate) mod host_buffer;
pub(crate) mod live;
pub(crate) mod memory_listener;
pub(crate) mod ownership;
pub(crate) mod pieces;
pub(crate) mod pins;
pub(crate) mod queue_lock;
pub(crate) mod release;
pub(crate) mod samples;
pub(crate) mod unflushed;
