//! The engine of vk-mem: decides where every Vulkan allocation goes.
//!
//! Start at [`Allocator`]; its only way to a driver is [`DeviceMemory`].
#![forbid(unsafe_code)]

mod allocation;
mod allocator;
mod arena;
mod blocks;
mod budget;
mod check;
mod dedicated;
mod device;
mod dump;
mod error;
mod external;
mod host_access;
mod host_ranges;
mod json;
mod memory_events;
mod memory_object;
mod memory_type;
mod more_maps;
mod names;
mod pool;
mod pools;
mod prefetch;
mod pressure;
mod request;
mod retention;
mod simulated;
mod statistics;
pub mod suballocator;
mod virtual_block;
mod virtual_blocks;
pub mod words;

pub use allocation::*;
pub use allocator::{AliasRequest, Allocator, AllocatorOptions, FailedItem, Freed};
pub use arena::BlockSizes;
pub use budget::HeapBudget;
pub use device::*;
pub use dump::{AliasDescription, Describe, Description};
pub use error::*;
pub use external::{ImportRequest, MemoryOf};
pub use host_access::HostRange;
pub use host_ranges::{HostRanges, HostWriter, WriterId, edges};
pub use memory_events::{MemoryEvent, MemoryEventKind, WakeUp};
pub use memory_object::Release;
pub use memory_type::{Candidates, MemoryTypes, Preferences, names as memory_property_names};
pub use pressure::{MEMORY_EVENTS, PAST_ALLOCATION_COUNT};
pub use request::*;
pub use retention::EmptyBlockRetention;
pub use simulated::*;
pub use statistics::{PoolStatistics, Statistics};
pub use virtual_block::{VirtualAllocation, VirtualBlock, VirtualRequest};
pub use virtual_blocks::VirtualBlocks;
