//! The engine of vk-mem: decides where every Vulkan allocation goes.
//!
//! Start at [`Allocator`]; it calls a driver only through [`DeviceMemory`].
#![forbid(unsafe_code)]

mod allocator;
mod check;
mod debugging;
mod defragmentation;
mod device;
mod dump;
mod error;
mod eviction;
mod handle;
mod heap;
mod key_map;
pub mod lock;
mod pools;
pub mod recording;
mod request;
mod simulated;
mod slot_map;
mod statistics;
pub mod suballocator;
mod virtual_block;
pub mod words;

pub use allocator::alias::AliasRequest;
pub use allocator::host_ranges::{HostRanges, HostWriter, WriterId, edges};
pub use allocator::import::MemoryObjectInfo;
pub use allocator::many::Freed;
pub use allocator::memory_type::{
    Candidates, MemoryTypes, Preferences, names as memory_property_names,
};
pub use allocator::{Allocator, AllocatorOptions};
pub use debugging::guarded::{GuardBands, GuardedRange, GuardedUse};
pub use debugging::options::{DebugOptions, QuarantineLimit};
pub use debugging::pattern::{Difference, Pattern};
pub use defragmentation::{
    Defragmentation, DefragmentationInfo, DefragmentationStatistics, MoveEnd, MoveOutcome, PassEnd,
};
pub use device::*;
pub use dump::describe::{AliasDescription, Describe, Description, sort_call_sites};
pub use error::*;
pub use eviction::{Evictable, EvictionOwner, EvictionStatistics, Room};
pub use handle::*;
pub use heap::ledger::{HeapBudget, HeapUsage};
pub use heap::memory_events::{MemoryEvent, MemoryEventKind, WakeUp};
pub use heap::pressure::{LOSSES, MEMORY_EVENTS, PAST_ALLOCATION_COUNT};
pub use heap::retention::EmptyBlockRetention;
pub use key_map::{KeyHasher, KeyMap};
pub use pools::block_sizes::BlockSizes;
pub use pools::guarded_memory::{AllocationMemory, GuardedMemory, MappedMemory, MemoryAccess};
pub use pools::leaving::{QuarantineOwner, Quarantined};
pub use pools::memory_object::Release;
pub use pools::moves::{Move, MoveKind};
pub use request::*;
pub use simulated::*;
pub use slot_map::SlotMap;
pub use statistics::{PoolStatistics, Statistics};
pub use virtual_block::block::{VirtualAllocation, VirtualBlock, VirtualRequest};
pub use virtual_block::defragment::VirtualMove;
pub use virtual_block::set::VirtualBlocks;
