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

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, ReentrantMutex, rank};
use vkmem_engine::{
    AllocationId, AllocatorOptions, HostRanges, PoolId, PoolKey, ResourceKind, Room,
};
use vkmem_vulkan::{DeviceAllocator, Driver, ImageContents, ResourceHandle, TrackedLayout};

use super::host_buffer::HeldBuffer;
use super::location::{Location, LocationCell};
use super::losable::{Losable, Losing};
use super::memory_listener::DeviceMemoryListener;
use super::movable::{Movability, Movable, MoveGate};
use super::pieces::Pieces;
use super::pins::Pins;
use super::{bindings, counted, live, table};
use crate::arguments::callback::Callback;
use crate::lifetime::queue_lock::OwnersLock;
use crate::observe::call_site::{CallSites, Origin};
use crate::observe::events::Events;
use crate::process::forks::Process;
use crate::process::links::Link;
use crate::recording::attached::Attached;
use crate::recording::options::RecordedOptions;
use crate::recording::space::RecordedSpace;

/// A strong reference to a resource.
pub type ResourceRef = counted::StrongRef<Resource>;

/// A weak reference to a resource.
pub type WeakResourceRef = counted::WeakRef<Resource>;

/// The list of live resources of an allocator.
pub type Live = live::Live<Resource>;

/// The memory of a resource.
pub type Binding = bindings::Binding<ResourceRef>;

/// The Rust half of a `Buffer`, an `Image` or an `Allocation`.
///
/// Fields that `destroy` needs come first, in the order of use: most of them have left the cache by then.
#[repr(C)]
pub struct Resource {
    /// Pinned by views and calls that use it; closed when destroyed.
    pub pins: Pins,
    /// Number of aliases, and of buffers and images of other allocations, that are bound to this memory.
    pub(crate) bound_here: AtomicU32,
    /// The allocator it was created with.
    pub allocator: Arc<AllocatorState>,
    /// Optional parts, allocated on first use.
    pub(crate) extras: OnceBox<Extras>,
    /// The pool it was allocated from, which it keeps alive.
    pub(super) pool: Option<Arc<PoolState>>,
    /// Its place in the list of live resources.
    pub(super) place: AtomicU32,
    /// Whether it is in the list of live resources.
    pub(super) listed: AtomicBool,
    /// Whether it was ended by `retire()`.
    pub(super) retired: AtomicBool,
    /// Whether it has ever had a name: most have not, so `destroy` need not ask for one.
    pub(crate) was_named: AtomicBool,
    /// Whether it was created with `DONT_BIND`, so that it may have no memory.
    pub(crate) dont_bind: bool,
    /// Kind of resource and its tiling.
    pub kind: ResourceKind,
    /// The host access that it was created for, to which `strict_host_access` keeps.
    pub(crate) host_access: HostAccess,
    /// The queue families that share it, bit i for index i; none if it is exclusive.
    pub(crate) families: u16,
    /// Number of open mappings, including those of aliases.
    pub(crate) open_mappings: AtomicU32,
    pub(super) location: LocationCell,
    /// Size in bytes that the host can access: that of a buffer, or of the memory.
    pub host_size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`; 0 for memory only.
    pub usage: u64,
    /// Its number among all resources of the allocator, in the order of creation.
    pub(super) serial: AtomicU64,
}

/// What memory was created for, as far as the host is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// Nothing: on some devices the host does not see it.
    #[default]
    None,
    /// Writes in order: it may be write-combined, where reads are very slow.
    Write,
    /// Reads and writes.
    Any,
}

/// Optional parts of a resource: in a box, so that resources without them are small.
#[derive(Default)]
pub struct Extras {
    /// Base and name of an alias.
    pub(crate) alias: Option<Alias>,
    /// Host memory that was imported; released after the memory object.
    pub(super) held: Mutex<Option<HeldBuffer>, rank::HeldMemory>,
    /// The name, for errors after the end.
    pub(super) last_name: OnceLock<String>,
    pub(super) origin: OnceLock<Origin>,
    pub(super) custom_data: Mutex<Option<Arc<str>>, rank::CustomData>,
    /// The layout of an image that transfers or the caller have changed.
    pub(super) layout: OnceLock<Arc<TrackedLayout>>,
    /// Open writers of non-coherent memory; those of an alias are its base's.
    pub(super) writers: Writers,
    /// What it needs to move.
    pub(super) movable: OnceLock<Box<Movable>>,
    /// How often it has moved: what is not movable moves where a program makes the copies.
    pub(super) generation: AtomicU64,
    /// What it has if it may be lost.
    pub(super) losable: OnceLock<Losable>,
}

/// Base and name of an alias.
pub struct Alias {
    /// The resource whose memory it uses; not an alias itself.
    pub base: ResourceRef,
    /// Its name: the engine stores names of allocations only.
    pub name: Mutex<Option<String>, rank::AliasName>,
}

/// Open writers of one allocation. Reentrant: a driver call may run Python code that comes back here.
pub type Writers = ReentrantMutex<RefCell<HostRanges>, rank::Writers>;

/// What an ended resource leaves to be released.
pub struct PendingRelease {
    /// The buffer or image to destroy.
    pub handle: ResourceHandle,
    /// The memory to free.
    pub id: AllocationId,
    /// Bytes that the release frees.
    pub size: u64,
    /// The resource whose memory an alias uses; `None` if it is no alias.
    pub alias_of: Option<WeakResourceRef>,
    /// Imported host memory; dropped after the memory object is freed.
    pub _held: Option<HeldBuffer>,
}

/// The Rust half of an `Allocator`.
pub struct AllocatorState {
    /// The engine and the driver.
    pub device_allocator: ManuallyDrop<DeviceAllocator>,
    /// The device, which it keeps alive.
    pub device: Arc<DeviceCore>,
    /// Pinned by running calls; closed when the allocator is.
    pub pins: Pins,
    /// Every resource that has not ended.
    pub live: Mutex<Live, rank::Live>,
    /// Names of open pools that have one.
    pub pool_names: Mutex<HashMap<PoolId, Arc<str>>, rank::PoolNames>,
    /// Callback for memory objects that are allocated or freed.
    pub device_memory: DeviceMemoryListener,
    /// Handlers of events: call sites, counts, watches.
    pub events: Events,
    /// Call sites of resources, if they are tracked.
    pub sites: Arc<CallSites>,
    /// Number of resources created so far; changed under the lock of `live`.
    pub(super) created: AtomicU64,
    pub(super) waiting: Mutex<Waiting, rank::Waiting>,
    /// Current frame index, as the caller counts.
    pub(super) frame: AtomicU64,
    pub(super) frames_in_flight: u64,
    /// Frames after which what was not used may be lost.
    pub(super) frames_in_use: u64,
    pub(super) abandoned: AtomicBool,
    /// The thread that closes the allocator, until everything is released.
    pub(super) closing: Mutex<Option<ThreadId>, rank::Closing>,
    /// Threads that are taking a sample.
    pub(super) samples: Mutex<Vec<ThreadId>, rank::Samples>,
    /// Number of `close` calls that block new samples.
    pub(super) sample_blocks: AtomicU32,
    /// Whether host access is refused to memory that was not created for it; for tests.
    pub strict_host_access: bool,
    /// Work that goes on after the calls that began it.
    pub background: Mutex<Vec<Arc<dyn Background>>, rank::Background>,
    /// The transfers of calls that name none.
    pub default_transfers: OnceLock<Arc<dyn Background>>,
    /// Who moves resources at the moment.
    pub moving: MoveGate,
    /// Those that can move.
    pub movables: table::Table<Resource>,
    /// What moves resources, from the first move on.
    pub moves: OnceLock<Arc<dyn Moves>>,
    /// What moves resources for a request that others are lost for; not set without `defragment_when_full`.
    pub room_maker: OnceLock<Arc<dyn RoomMaker>>,
    /// What is needed for losses, from the first resource on that may be lost.
    pub(super) losing: OnceLock<Box<Losing<Resource>>>,
    /// Called when resources were lost.
    pub on_lost: Callback,
    /// What looks for faults of the program in its memory; not set without debugging.
    pub debugger: OnceLock<Arc<dyn Debugger>>,
    /// Called when such a fault was found.
    pub on_corruption: Callback,
    /// What the engine was created with.
    pub(super) options: AllocatorOptions,
    /// What it has while it is recorded.
    pub(super) attached: Mutex<Option<Arc<Attached>>, rank::Attached>,
    /// What divides its memory, and is recorded with it.
    pub(super) spaces: Mutex<Vec<Weak<dyn RecordedSpace>>, rank::AttachedAllocators>,
    /// Options that only a recording tells.
    pub recorded_options: OnceLock<RecordedOptions>,
}

/// An ended resource, and how many frames had begun by then.
pub(super) struct Collected {
    pub(super) frame: u64,
    pub(super) pending: PendingRelease,
    /// Usage, for dumps.
    pub(super) usage: u64,
    /// Whether it was bound when it was created, so that it has an address.
    pub(super) is_bound: bool,
    pub(super) origin: Option<Origin>,
    /// The resource, if a view of it was open when it was retired: the view keeps it alive.
    pub(super) viewed: Option<WeakResourceRef>,
}

/// Resources that wait until no frame in flight can use them.
#[derive(Default)]
pub(super) struct Waiting {
    /// Frames begun so far, independent of the caller's index.
    pub(super) frames: u64,
    /// In pieces, as queueing a resource must not have to grow a large table.
    pub(super) collected: Pieces<Collected>,
    /// What was retired while a view was open. It waits for the end of the view as well.
    pub(super) viewed: Pieces<Collected>,
}

/// Work of an allocator's that may use its resources after the call that began it.
pub trait Background: Any + Send + Sync {
    /// Lets go of the resources that the device is done with. Waits for nothing.
    fn retire(&self, py: Python<'_>, allocator: &AllocatorState);

    /// Whether it still uses a resource, of which all uses are listed here that have not ended.
    fn uses(&self, resource: &Resource) -> bool;

    /// Whether it uses anything.
    fn is_busy(&self) -> bool;

    /// Waits until the device is done with all of it, or the time is up: whether it is. An exception where
    /// a signal's handler raises one.
    fn settle(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        until: Option<Instant>,
    ) -> PyResult<bool>;

    /// Gives back what it has of the allocator. Nothing of it is used any more.
    fn end(&self, allocator: &AllocatorState);
}

/// What an allocator's resources have left where they were before they moved, until nothing can use it there.
pub trait Moves: Background {
    /// Waits until the contents of a resource are where it is now; false if they have been there already.
    fn wait_for(&self, py: Python<'_>, allocator: &AllocatorState, resource: &Resource) -> bool;

    /// Waits for all moves, and releases what is left of them in some pools.
    fn release(&self, py: Python<'_>, allocator: &AllocatorState, wanted: &dyn Fn(PoolKey) -> bool);

    /// What is left: allocation and size in bytes, usage and call site of each.
    fn left(&self) -> Vec<(AllocationId, u64, u64, Option<Origin>)>;
}

/// Moves resources to make room for a request, where others are lost for it.
pub trait RoomMaker: Send + Sync {
    /// Which of some allocations could move now; each has with it whether no frame in flight uses it.
    fn movable(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        allocations: &[(AllocationId, bool)],
    ) -> Vec<bool>;

    /// Makes room, as `EvictionOwner::make_room` of the engine.
    fn make_room(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        room: &mut dyn Room,
    ) -> bool;
}

/// A new resource with its Python object.
pub struct Created<'py> {
    /// The resource.
    pub resource: ResourceRef,
    /// Its `Buffer`, `Image` or `Allocation`.
    pub object: Bound<'py, PyAny>,
    /// What is known of an image.
    pub image: Option<ImageContents>,
}

/// Fills memory, and checks what nobody may write. What it finds is raised by the call in which it is found, or
/// reported where nothing can be raised.
pub trait Debugger: Any + Send + Sync {
    /// Fills new resources and their margins. Nothing else uses them yet.
    fn created(&self, py: Python<'_>, allocator: &AllocatorState, made: &[Created<'_>]);

    /// Notes that a call of the program ends some resources, which may be freed later.
    fn ends(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        ids: &mut dyn Iterator<Item = AllocationId>,
    );

    /// Checks the margins of what is about to move or to be lost. The GIL is not held.
    fn leaves(&self, allocator: &AllocatorState, ids: &[AllocationId]);

    /// Notes where resources are that have moved, and writes the margins there; with each is the memory that it had.
    /// The GIL is not held.
    fn moved(&self, allocator: &AllocatorState, moved: &[(AllocationId, Location)]);

    /// Checks and fills what resources have left when they moved, before it is freed. The GIL is not held.
    fn frees_left(&self, allocator: &AllocatorState, ids: &[AllocationId]);

    /// Checks what a frame that begins has to check, and raises what was found.
    fn begin_frame(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Checks all at the beginning of a call, and raises what is found.
    fn enter(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Checks all at the beginning of a call that changes something, and keeps what is found until
    /// [`end_change`](Self::end_change); false, and nothing is done, inside of another one of this thread. An exception
    /// where a handler of a signal raises one.
    fn begin_change(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<bool>;

    /// Lets what was found at the beginning be raised.
    fn end_change(&self);

    /// Checks memory types or a pool, and raises what is found; returns the number of ranges that were checked.
    fn check(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        memory_type_bits: u32,
        pool: Option<PoolId>,
    ) -> PyResult<u64>;

    /// Checks all for the last time, for at most a time, and fills nothing from then on; returns whether the check has
    /// ended.
    fn check_at_exit(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        at_most: Duration,
    ) -> bool;

    /// Raises what calls of this thread have found.
    fn raise(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Reports what was found in a place where nothing can be raised: to the callback, or as warnings. An exception
    /// where warnings are errors.
    fn report(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;
}

/// The Rust half of a `Pool`, kept alive by everything that was allocated from it.
pub struct PoolState {
    /// The allocator it belongs to.
    pub allocator: Arc<AllocatorState>,
    /// Its id in the engine.
    pub id: PoolId,
    /// Its name, for messages and dumps.
    pub name: Mutex<Option<Arc<str>>, rank::PoolName>,
    /// Pinned by running calls that use it; closed when the pool is.
    pub pins: Pins,
    /// Whether what is created in it may move, unless the call says otherwise.
    pub movable: Movability,
    /// Whether the cycle collector has cleared the object that `memory_allocate_next` points into.
    pub is_collected: AtomicBool,
}

/// The Rust half of a `Device`, shared by its allocators.
pub struct DeviceCore {
    /// Vulkan, or a simulated device.
    pub driver: ManuallyDrop<Arc<dyn Driver>>,
    /// Whether the device was created here, so that this keeps it alive.
    pub is_owned: bool,
    /// The locks of the other code that submits to the queues of a wrapped device, each once.
    pub queue_locks: [Option<Arc<OwnersLock>>; 2],
    /// Number of allocators that have not ended.
    pub(super) open_allocators: AtomicUsize,
    /// The memory that buffers and images of the device are bound to.
    pub bindings: bindings::Bindings<ResourceRef>,
    pub(super) process: Process,
    /// The caller's loader and callbacks, kept alive as long as the driver may be called.
    pub(super) _kept: [Option<Link<PyAny>>; 2],
}
