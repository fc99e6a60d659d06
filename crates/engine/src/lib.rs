//! The engine of vk-mem: decides where every Vulkan allocation goes.
//!
//! Start at [`Allocator`]; its only way to a driver is [`DeviceMemory`].
#![forbid(unsafe_code)]

mod allocation;
mod allocator;
mod arena;
mod budget;
mod check;
mod dedicated;
mod device;
mod error;
mod host_access;
mod memory_object;
mod memory_type;
mod names;
mod pool;
mod request;
mod simulated;
mod statistics;
pub mod suballocator;
mod virtual_block;

pub use allocation::*;
pub use allocator::{Allocator, AllocatorOptions};
pub use arena::BlockSizes;
pub use budget::HeapBudget;
pub use device::*;
pub use error::*;
pub use memory_object::Release;
pub use memory_type::{Candidates, Preferences, names as memory_property_names};
pub use request::*;
pub use simulated::*;
pub use statistics::Statistics;
pub use virtual_block::{VirtualAllocation, VirtualBlock, VirtualRequest};
