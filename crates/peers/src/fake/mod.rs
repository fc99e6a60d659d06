//! Vulkan entry points without a driver, for peers that need some.
//!
//! Every dispatchable handle is the address of a [`FakeVulkan`], and the memory behind it is any
//! [`DeviceMemory`](vkmem_engine::DeviceMemory), such as the one that our engine uses. So all peers have
//! the same heaps, types, limits, latencies and failures, and a simulated device counts their calls in
//! the same way.

mod description;
mod entry;
mod memory;
mod resources;
mod state;

pub use entry::get_instance_proc_addr;
pub use state::FakeVulkan;
