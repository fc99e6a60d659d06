//! Vulkan entry points without a driver, for the peers that want some.
//!
//! Every dispatchable handle is the address of a [`FakeVulkan`], and the memory behind it is any
//! [`DeviceMemory`](vkmem_engine::DeviceMemory): the one that our engine is given. So all peers see the same heaps, types,
//! limits, latencies and failures, and a simulated device counts their calls alike.

mod description;
mod entry;
mod memory;
mod resources;
mod state;

pub use entry::get_instance_proc_addr;
pub use state::FakeVulkan;
