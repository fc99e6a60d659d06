//! Creation of resources, and of the Rust half of allocators, pools and devices.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ash::vk;
use once_cell::race::OnceBox;
use pyo3::prelude::*;
use vkmem_engine::lock::Mutex;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, AllocationId, AllocatorOptions,
    CacheHint, MemoryHandle, MemoryPropertyFlags, MemoryUsage, PoolId, PoolKey, ResourceKind,
    SlotKey,
};
use vkmem_vulkan::{DeviceAllocator, Driver, ResourceHandle, buffer_usage, image_kind};

use super::bindings::Bindings;
use super::location::{Location, LocationCell};
use super::memory_listener::DeviceMemoryListener;
use super::movable::{Movability, MoveGate};
use super::ownership::{
    AllocatorState, DeviceCore, Extras, HostAccess, Live, PoolState, Resource, ResourceRef,
};
use super::pins::Pins;
use super::table::Table;
use crate::arguments::callback::Callback;
use crate::errors::out_of_host_memory;
use crate::lifetime::queue_lock::OwnersLock;
use crate::observe::call_site::CallSites;
use crate::observe::events::Events;
use crate::process::forks::Process;
use crate::process::links::Link;

/// Handle, memory and properties of a new resource, before it becomes a [`Resource`].
pub struct CreatedResource {
    /// Handle and memory.
    pub location: Location,
    /// Bytes that the host can access.
    pub host_size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`.
    pub usage: u64,
    /// Kind of resource, for `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// The queue families that share it, bit i for index i; none if it is exclusive.
    pub families: u16,
}

impl CreatedResource {
    /// Describes an allocation without a buffer or an image.
    pub fn memory(allocation: Allocation) -> Self {
        let (handle, host_size) = (ResourceHandle::Memory, allocation.size);
        let location = Location { handle, allocation };
        Self { location, host_size, usage: 0, kind: ResourceKind::Unknown, families: 0 }
    }

    /// Describes an image. Its host size is that of the memory, as the driver decides the layout of texels.
    pub fn image(image: vk::Image, allocation: Allocation, info: &vk::ImageCreateInfo<'_>) -> Self {
        let (handle, host_size) = (ResourceHandle::Image(image), allocation.size);
        let usage = u64::from(info.usage.as_raw());
        let location = Location { handle, allocation };
        let families = families_of(info.sharing_mode, || {
            (info.p_queue_family_indices, info.queue_family_index_count)
        });
        Self { location, host_size, usage, kind: image_kind(info.tiling), families }
    }

    /// Describes a buffer.
    pub fn buffer(
        buffer: vk::Buffer,
        allocation: Allocation,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Self {
        let location = Location { handle: ResourceHandle::Buffer(buffer), allocation };
        let (host_size, usage) = (info.size, usage_of(info));
        let families = families_of(info.sharing_mode, || {
            (info.p_queue_family_indices, info.queue_family_index_count)
        });
        Self { location, host_size, usage, kind: ResourceKind::Buffer, families }
    }
}

/// Returns all usage bits of a buffer.
#[inline(always)]
fn usage_of(info: &vk::BufferCreateInfo<'_>) -> u64 {
    if info.p_next.is_null() {
        return u64::from(info.usage.as_raw());
    }
    // SAFETY: the chain that the buffer was just created with, which the caller keeps valid for the call.
    unsafe { buffer_usage(info) }
}

/// Returns the queue families that share a resource as bits. Those without a bit of their own are left out, as are
/// those of a mode that this library does not know, of which the highest bit says that it is not exclusive.
#[inline(always)]
fn families_of(mode: vk::SharingMode, indices: impl FnOnce() -> (*const u32, u32)) -> u16 {
    if mode == vk::SharingMode::EXCLUSIVE {
        return 0;
    }
    bits_of(indices())
}

#[cold]
fn bits_of((indices, count): (*const u32, u32)) -> u16 {
    const OTHERS: u16 = 1 << 15;
    if indices.is_null() {
        return OTHERS;
    }
    // SAFETY: the create info that the resource was just created with, which the caller keeps valid for the call.
    let indices = unsafe { std::slice::from_raw_parts(indices, count as usize) };
    let bit = |index: &u32| if *index < 15 { 1 << *index } else { OTHERS };
    indices
        .iter()
        .fold(0, |all, index| all | bit(index))
        .max(u16::from(indices.is_empty()) * OTHERS)
}

/// Options that all resources of one call have in common.
#[derive(Clone, Default)]
pub struct CommonOptions {
    /// Created with `DONT_BIND`.
    pub dont_bind: bool,
    /// What the host was promised: see [`promised_host_access`].
    pub host_access: HostAccess,
    /// The pool they were allocated from.
    pub pool: Option<Arc<PoolState>>,
}

/// What keywords ask for memory for: by a HOST_ACCESS flag, by MAPPED, by required HOST_VISIBLE memory, or by one of
/// VMA's older usages of the host, the host can reach it on every device.
pub fn promised_host_access(create: &AllocationCreateInfo) -> HostAccess {
    let sequential = AllocationCreateFlags::HOST_ACCESS_SEQUENTIAL_WRITE;
    let flags =
        sequential | AllocationCreateFlags::HOST_ACCESS_RANDOM | AllocationCreateFlags::MAPPED;
    let visible = MemoryPropertyFlags::HOST_VISIBLE
        | MemoryPropertyFlags::HOST_COHERENT
        | MemoryPropertyFlags::HOST_CACHED;
    let is_cached = create.required_flags.contains(MemoryPropertyFlags::HOST_CACHED);
    let is_promised = create.flags.intersects(flags)
        || create.required_flags.intersects(visible)
        || matches!(
            create.usage,
            MemoryUsage::CpuOnly | MemoryUsage::CpuToGpu | MemoryUsage::GpuToCpu
        );
    match is_promised {
        true if create.flags.contains(sequential) && !is_cached => HostAccess::Write,
        true => HostAccess::Any,
        false => HostAccess::None,
    }
}

impl Resource {
    /// Registers a new resource with its allocator. Destroys it again if there is no host memory for that.
    #[inline(always)]
    pub fn create(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        created: CreatedResource,
        options: &CommonOptions,
    ) -> PyResult<ResourceRef> {
        let resource =
            ResourceRef::new(Self::unregistered(allocator, created, options, OnceBox::new()));
        let mut live = allocator.live.lock();
        if live.reserve(1).is_err() {
            drop(live);
            return Err(destroy_unregistered(py, std::slice::from_ref(&resource)));
        }
        let serial = allocator.next_serials(1);
        add_to_list(&mut live, &resource, serial);
        let is_complete = allocator.device.bindings.is_complete();
        drop(live);
        if is_complete || resource.dont_bind {
            let resources = std::slice::from_ref(&resource);
            let entries = resources.iter().map(binding_entry);
            if allocator.device.bindings.enter(entries, is_complete).is_err() {
                return Err(destroy_unregistered(py, resources));
            }
        }
        Ok(resource)
    }

    /// Registers many new resources, all of one kind. Destroys all of them again if there is no host memory.
    pub fn create_many(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        created: impl Iterator<Item = CreatedResource>,
        options: &CommonOptions,
    ) -> PyResult<Vec<ResourceRef>> {
        let make = |created| {
            ResourceRef::new(Self::unregistered(allocator, created, options, OnceBox::new()))
        };
        let resources: Vec<_> = created.map(make).collect();
        register(py, allocator, &resources)?;
        Ok(resources)
    }

    /// Registers a new resource in the memory of another one, which the caller has pinned.
    pub fn create_alias(
        py: Python<'_>,
        of: &ResourceRef,
        created: CreatedResource,
        name: Option<String>,
    ) -> PyResult<ResourceRef> {
        let base = of.alias().map_or(of, |alias| &alias.base).clone();
        base.bound_here.fetch_add(1, Ordering::AcqRel);
        let pool = base.pool.clone();
        let options = CommonOptions { dont_bind: false, host_access: base.host_access, pool };
        let allocator = base.allocator.clone();
        let was_named = name.is_some();
        let extras = OnceBox::with_value(Extras::of_alias(base, name));
        let resource = ResourceRef::new(Self::unregistered(&allocator, created, &options, extras));
        resource.was_named.store(was_named, Ordering::Relaxed);
        register(py, &allocator, std::slice::from_ref(&resource))?;
        Ok(resource)
    }

    /// Creates one that was lost from the start, and is in no list.
    pub fn lost(py: Python<'_>, allocator: &Arc<AllocatorState>) -> ResourceRef {
        // An id that no live allocation has, which is never looked up.
        let id = AllocationId::new(PoolKey::Default(0), true, SlotKey::NONE);
        let place = Allocation {
            id,
            hint: CacheHint::default(),
            size: 0,
            memory: MemoryHandle(0),
            offset: 0,
            memory_type_index: 0,
            mapped: None,
        };
        let options = CommonOptions::default();
        let extras = OnceBox::with_value(Extras::of_lost());
        let made = CreatedResource::memory(place);
        let resource = ResourceRef::new(Self::unregistered(allocator, made, &options, extras));
        resource.pins.close_to_new(py);
        resource
    }

    #[inline(always)]
    fn unregistered(
        allocator: &Arc<AllocatorState>,
        created: CreatedResource,
        options: &CommonOptions,
        extras: OnceBox<Extras>,
    ) -> Self {
        Self {
            pins: Pins::default(),
            bound_here: AtomicU32::new(0),
            allocator: allocator.clone(),
            extras,
            pool: options.pool.clone(),
            place: AtomicU32::new(0),
            listed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            was_named: AtomicBool::new(false),
            dont_bind: options.dont_bind && created.location.handle != ResourceHandle::Memory,
            kind: created.kind,
            host_access: options.host_access,
            families: created.families,
            open_mappings: AtomicU32::new(0),
            location: LocationCell::new(created.location),
            host_size: created.host_size,
            usage: created.usage,
            serial: AtomicU64::new(0),
        }
    }
}

/// Adds a resource to the list of live resources.
#[inline]
fn add_to_list(live: &mut Live, resource: &ResourceRef, serial: u64) {
    resource.serial.store(serial, Ordering::Relaxed);
    resource.place.store(live.insert(resource), Ordering::Relaxed);
    resource.listed.store(true, Ordering::Relaxed);
}

/// Adds resources to the tables of their allocator and device. Destroys all of them again if there is no host
/// memory for that.
fn register(py: Python<'_>, allocator: &AllocatorState, resources: &[ResourceRef]) -> PyResult<()> {
    let mut live = allocator.live.lock();
    if live.reserve(resources.len()).is_err() {
        drop(live);
        return Err(destroy_unregistered(py, resources));
    }
    let serials = allocator.next_serials(resources.len())..;
    for (resource, serial) in resources.iter().zip(serials) {
        add_to_list(&mut live, resource, serial);
    }
    let is_complete = allocator.device.bindings.is_complete();
    drop(live);
    let entered = allocator.device.bindings.enter(resources.iter().map(binding_entry), is_complete);
    entered.map_err(|_| destroy_unregistered(py, resources))
}

/// Destroys resources that no other code refers to, one by one, as there is no host memory for more. None is
/// an alias of another, as all were created in one call.
#[cold]
fn destroy_unregistered(py: Python<'_>, resources: &[ResourceRef]) -> PyErr {
    for resource in resources {
        resource.discard(py);
    }
    out_of_host_memory(py)
}

/// Returns what the table of bindings needs: the handle, and whether it was created with `DONT_BIND`.
#[inline]
fn binding_entry(resource: &ResourceRef) -> (ResourceHandle, bool) {
    (resource.handle(), resource.dont_bind)
}

impl AllocatorState {
    /// Creates the Rust half of an allocator without resources.
    pub fn new(
        device_allocator: DeviceAllocator,
        device: Arc<DeviceCore>,
        [frames_in_flight, frames_in_use]: [u64; 2],
        (call_site_depth, strict_host_access): (u32, bool),
        options: AllocatorOptions,
    ) -> Self {
        let sites = Arc::new(CallSites::new(call_site_depth as usize));
        let events = Events::default();
        // Switched on before any other event handler, as those read the call sites of new resources.
        if sites.is_tracking() {
            events.begin(sites.clone());
        }
        device.open_allocators.fetch_add(1, Ordering::Relaxed);
        Self {
            device_allocator: ManuallyDrop::new(device_allocator),
            device,
            pins: Pins::default(),
            live: Mutex::default(),
            pool_names: Mutex::default(),
            device_memory: DeviceMemoryListener::default(),
            events,
            sites,
            created: AtomicU64::new(0),
            waiting: Mutex::default(),
            frame: AtomicU64::new(0),
            frames_in_flight,
            frames_in_use,
            abandoned: AtomicBool::new(false),
            closing: Mutex::default(),
            samples: Mutex::default(),
            sample_blocks: AtomicU32::new(0),
            strict_host_access,
            background: Mutex::default(),
            default_transfers: OnceLock::new(),
            moving: MoveGate::default(),
            movables: Table::default(),
            moves: OnceLock::new(),
            room_maker: OnceLock::new(),
            losing: OnceLock::new(),
            on_lost: Callback::default(),
            debugger: OnceLock::new(),
            on_corruption: Callback::default(),
            options,
            attached: Mutex::default(),
            spaces: Mutex::default(),
            recorded_options: OnceLock::new(),
        }
    }
}

impl AllocatorState {
    /// Returns the first of `count` serial numbers for new resources; only under the lock of `live`.
    fn next_serials(&self, count: usize) -> u64 {
        let first = self.created.load(Ordering::Relaxed);
        self.created.store(first + count as u64, Ordering::Relaxed);
        first
    }

    /// Returns the number of resources created so far.
    pub fn created_count(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }
}

impl PoolState {
    /// Creates the Rust half of a pool that the engine has just created.
    pub fn new(allocator: &Arc<AllocatorState>, id: PoolId, movable: Movability) -> Self {
        Self {
            allocator: allocator.clone(),
            id,
            name: Mutex::default(),
            pins: Pins::default(),
            movable,
            is_collected: AtomicBool::new(false),
        }
    }
}

impl DeviceCore {
    /// Creates the shared half of a device that was just opened or wrapped; keeps the caller's loader and
    /// callbacks alive.
    pub fn new(
        driver: Arc<dyn Driver>,
        is_owned: bool,
        queue_locks: [Option<Arc<OwnersLock>>; 2],
        kept: [Option<Link<PyAny>>; 2],
    ) -> Self {
        let driver = ManuallyDrop::new(driver);
        let (bindings, process) = (Bindings::default(), Process::current());
        let open_allocators = AtomicUsize::new(0);
        Self { driver, is_owned, queue_locks, open_allocators, bindings, process, _kept: kept }
    }
}
