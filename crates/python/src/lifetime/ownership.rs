//! The types of the ownership graph; their methods are in the other files of this folder.
//!
//! ```text
//!   Buffer, Image, Allocation
//!     | resource: ResourceRef
//!     v            pool              allocator                device
//!   Resource ------------> PoolState ---------> AllocatorState ------> DeviceCore
//!     | |        allocator                      ^     |                    |
//!     | +---------------------------------------+     |                    |
//!     | extras.alias.base: ResourceRef                |                    |
//!     v                                               |                    |
//!   Resource <-- ListedRef ------------ live ---------+                    |   not counted
//!            <-- WeakResourceRef ------ waiting, by alias_of               |   not counted
//!            <-- ResourceRef ---------- bindings, by Binding::Foreign -----+   counted
//! ```
//!
//! A resource keeps its pool and its allocator alive, and an alias the resource whose memory it uses.
//! References in the other direction do not count, except that of a binding, which is removed when the bound
//! resource ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use once_cell::race::OnceBox;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, ReentrantMutex, rank};
use vkmem_engine::{Allocation, AllocationId, HostRanges, PoolId, ResourceKind};
use vkmem_vulkan::{DeviceAllocator, Driver, ResourceHandle};

use super::host_buffer::HeldBuffer;
use super::memory_listener::DeviceMemoryListener;
use super::pieces::Pieces;
use super::pins::Pins;
use super::{bindings, counted, live};
use crate::lifetime::queue_lock::OwnersLock;
use crate::observe::call_site::{CallSites, Origin};
use crate::observe::events::Events;
use crate::process::forks::Process;
use crate::process::links::Link;

/// Keeps a resource alive.
pub type ResourceRef = counted::StrongRef<Resource>;

/// Knows a resource and does not keep it alive.
pub type WeakResourceRef = counted::WeakRef<Resource>;

/// The list of what an allocator gave out and that has not ended.
pub type Live = live::Live<Resource>;

/// Which memory a resource has.
pub type Binding = bindings::Binding<ResourceRef>;

/// The shared half of a `Buffer`, an `Image` or an `Allocation`.
///
/// What its end needs stands first, in this order: by then most have left the cache.
#[repr(C)]
pub struct Resource {
    /// Views and calls that use it; closed when destroyed.
    pub pins: Pins,
    /// Buffers and images of other allocations that live in this memory, and aliases.
    pub(crate) bound_here: AtomicU32,
    /// Its allocator.
    pub allocator: Arc<AllocatorState>,
    /// What few have.
    pub(crate) extras: OnceBox<Extras>,
    /// Kept alive by what was allocated from it.
    pub(super) pool: Option<Arc<PoolState>>,
    /// Its place in the list of live things.
    pub(super) place: AtomicU32,
    /// Whether it stands there.
    pub(super) listed: AtomicBool,
    /// It ended by `retire()`.
    pub(super) retired: AtomicBool,
    /// It had a name at some time. Most never have one, and need not be asked for it at their end.
    pub(crate) was_named: AtomicBool,
    /// Created with DONT_BIND, so it may be without memory.
    pub(crate) dont_bind: bool,
    /// What lies in the memory, tiling and all.
    pub kind: ResourceKind,
    /// Whether the host was promised access when it was created: what `strict_host_access` asks for.
    pub(crate) host_access: bool,
    /// Open mappings, those of aliases included.
    pub(crate) open_mappings: AtomicU32,
    pub(super) location: Location,
    /// Bytes that the host may see: the size of a buffer, else of the memory.
    pub host_size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`; 0 for bare memory.
    pub usage: u64,
    /// Its number among all resources of the allocator, in the order of creation.
    pub(super) serial: AtomicU64,
}

/// What a resource is for Vulkan, and where it lies. Both change together when it moves, so they are one
/// value.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Location {
    /// The buffer or image.
    pub handle: ResourceHandle,
    /// The memory, or the place in the memory of another resource for an alias.
    pub allocation: Allocation,
}

/// What few resources have: in a box, so that the others are small.
#[derive(Default)]
pub struct Extras {
    /// It lies in the memory of another one.
    pub(crate) alias: Option<Alias>,
    /// Memory of the host that the device works on; goes with the memory object.
    pub(super) held: Mutex<Option<HeldBuffer>, rank::HeldMemory>,
    /// For errors after the end.
    pub(super) last_name: OnceLock<String>,
    pub(super) origin: OnceLock<Origin>,
    pub(super) custom_data: Mutex<Option<Arc<str>>, rank::CustomData>,
    /// Open writers of its memory, where that is not coherent and it is no alias.
    pub(super) writers: Writers,
}

/// What an alias has beside its own handle.
pub struct Alias {
    /// Whose memory it is; no alias itself.
    pub base: ResourceRef,
    /// The engine keeps the names of allocations only.
    pub name: Mutex<Option<String>, rank::AliasName>,
}

/// Open writers of one allocation. Reentrant: a callback of the driver may run Python code that comes
/// back here.
pub type Writers = ReentrantMutex<RefCell<HostRanges>, rank::Writers>;

/// The handle and the memory of a resource.
pub struct PendingRelease {
    /// What is destroyed.
    pub handle: ResourceHandle,
    /// What is freed.
    pub id: AllocationId,
    /// Bytes that come free with it.
    pub size: u64,
    /// Whose memory it is, if it is an alias.
    pub alias_of: Option<WeakResourceRef>,
    /// Dropped after the memory was given back.
    pub _held: Option<HeldBuffer>,
}

/// The shared half of an `Allocator`.
pub struct AllocatorState {
    /// The engine and the driver.
    pub device_allocator: ManuallyDrop<DeviceAllocator>,
    /// Keeps the device alive.
    pub device: Arc<DeviceCore>,
    /// Who is inside a call; closed when the allocator is.
    pub pins: Pins,
    /// Everything that is not destroyed.
    pub live: Mutex<Live, rank::Live>,
    /// Names of open pools that have one.
    pub pool_names: Mutex<HashMap<PoolId, Arc<str>>, rank::PoolNames>,
    /// Who is told of memory objects.
    pub device_memory: DeviceMemoryListener,
    /// Call sites and counts, for those who ask.
    pub events: Events,
    /// Where resources were created, if that is kept.
    pub sites: Arc<CallSites>,
    /// Resources so far; changed under the lock of `live`.
    pub(super) created: AtomicU64,
    pub(super) waiting: Mutex<Waiting, rank::Waiting>,
    /// As the caller counts.
    pub(super) frame: AtomicU64,
    pub(super) frames_in_flight: u64,
    pub(super) abandoned: AtomicBool,
    /// Who closes it, until everything is released.
    pub(super) closing: Mutex<Option<ThreadId>, rank::Closing>,
    /// Threads inside of a sample.
    pub(super) samples: Mutex<Vec<ThreadId>, rank::Samples>,
    /// Calls that want none.
    pub(super) quiet: AtomicU32,
    /// Whether the host is refused what it was not promised; for tests.
    pub strict_host_access: bool,
}

/// A resource that nobody holds any more, and how many frames had begun when that was noticed.
pub(super) struct Collected {
    pub(super) frame: u64,
    pub(super) pending: PendingRelease,
    /// For dumps.
    pub(super) usage: u64,
    pub(super) origin: Option<Origin>,
    /// The resource, if a view of it was open when it was retired: the view keeps it alive.
    pub(super) viewed: Option<WeakResourceRef>,
}

/// What waits for the frames in flight to end.
#[derive(Default)]
pub(super) struct Waiting {
    /// Frames begun so far, whatever index the caller counts them by.
    pub(super) frames: u64,
    /// In pieces: what is put aside must not need a large table to grow.
    pub(super) collected: Pieces<Collected>,
    /// What was retired while a view was open. It waits for the end of the view as well.
    pub(super) viewed: Pieces<Collected>,
}

/// The shared half of a `Pool`: everything that was allocated from it keeps it alive.
pub struct PoolState {
    /// Its allocator.
    pub allocator: Arc<AllocatorState>,
    /// Its id in the engine.
    pub id: PoolId,
    /// For people and dumps.
    pub name: Mutex<Option<Arc<str>>, rank::PoolName>,
    /// Who is inside a call that uses it; closed when the pool is.
    pub pins: Pins,
    /// What `memory_allocate_next` points into is gone: the cycle collector has found it.
    pub is_collected: AtomicBool,
}

/// What a device and its allocators share.
pub struct DeviceCore {
    /// Vulkan, or a simulation.
    pub driver: ManuallyDrop<Arc<dyn Driver>>,
    /// Made here, so it is alive as long as this.
    pub is_owned: bool,
    /// Of whoever else submits to the queue of a wrapped device.
    pub queue_lock: Option<Arc<OwnersLock>>,
    /// Allocators that have not ended.
    pub(super) open_allocators: AtomicUsize,
    /// What is bound to what.
    pub bindings: bindings::Bindings<ResourceRef>,
    pub(super) process: Process,
    /// What the caller's loader and callbacks are, kept for as long as the driver may be called.
    pub(super) _kept: [Option<Link<PyAny>>; 2],
}
