//! Making resources, and the shared halves of allocators, pools and devices.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use ash::vk;
use once_cell::race::OnceBox;
use pyo3::prelude::*;
use vkmem_engine::lock::Mutex;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, MemoryPropertyFlags, MemoryUsage,
    PoolId, ResourceKind,
};
use vkmem_vulkan::{DeviceAllocator, Driver, ResourceHandle, buffer_usage, image_kind};

use super::bindings::Bindings;
use super::memory_listener::DeviceMemoryListener;
use super::ownership::{
    AllocatorState, DeviceCore, Extras, Live, Location, PoolState, Resource, ResourceRef,
};
use super::pins::Pins;
use crate::errors::out_of_host_memory;
use crate::lifetime::queue_lock::OwnersLock;
use crate::observe::call_site::CallSites;
use crate::observe::events::Events;
use crate::process::forks::Process;
use crate::process::links::Link;

/// What a new resource is made of.
pub struct Made {
    /// The handle and the memory.
    pub location: Location,
    /// Bytes that the host may see.
    pub host_size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`.
    pub usage: u64,
    /// What lies in the memory.
    pub kind: ResourceKind,
}

impl Made {
    /// Bare memory.
    pub fn memory(allocation: Allocation) -> Self {
        let (handle, host_size) = (ResourceHandle::Memory, allocation.size);
        let location = Location { handle, allocation };
        Self { location, host_size, usage: 0, kind: ResourceKind::Unknown }
    }

    /// An image, whose bytes are the driver's affair.
    pub fn image(image: vk::Image, allocation: Allocation, info: &vk::ImageCreateInfo<'_>) -> Self {
        let (handle, host_size) = (ResourceHandle::Image(image), allocation.size);
        let usage = u64::from(info.usage.as_raw());
        let location = Location { handle, allocation };
        Self { location, host_size, usage, kind: image_kind(info.tiling) }
    }

    /// A buffer.
    pub fn buffer(
        buffer: vk::Buffer,
        allocation: Allocation,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Self {
        let location = Location { handle: ResourceHandle::Buffer(buffer), allocation };
        let (host_size, usage) = (info.size, usage_of(info));
        Self { location, host_size, usage, kind: ResourceKind::Buffer }
    }
}

/// All bits of a buffer's usage.
#[inline(always)]
fn usage_of(info: &vk::BufferCreateInfo<'_>) -> u64 {
    if info.p_next.is_null() {
        return u64::from(info.usage.as_raw());
    }
    // SAFETY: the chain that the buffer was just created with, which its caller keeps for the call.
    unsafe { buffer_usage(info) }
}

/// What the resources of one call have in common.
#[derive(Clone, Default)]
pub struct Shared {
    /// Created with DONT_BIND.
    pub dont_bind: bool,
    /// The host was promised access: see [`promises_host_access`].
    pub host_access: bool,
    /// Where they were allocated from.
    pub pool: Option<Arc<PoolState>>,
}

/// Whether keywords ask for memory that the host can reach on every device: by a HOST_ACCESS flag, by MAPPED,
/// by required HOST_VISIBLE memory, or by one of VMA's older usages of the host.
pub fn promises_host_access(create: &AllocationCreateInfo) -> bool {
    let flags = AllocationCreateFlags::HOST_ACCESS_SEQUENTIAL_WRITE
        | AllocationCreateFlags::HOST_ACCESS_RANDOM
        | AllocationCreateFlags::MAPPED;
    let visible = MemoryPropertyFlags::HOST_VISIBLE
        | MemoryPropertyFlags::HOST_COHERENT
        | MemoryPropertyFlags::HOST_CACHED;
    create.flags.intersects(flags)
        || create.required_flags.intersects(visible)
        || matches!(
            create.usage,
            MemoryUsage::CpuOnly | MemoryUsage::CpuToGpu | MemoryUsage::GpuToCpu
        )
}

impl Resource {
    /// Registers a new resource with its allocator. Without host memory for that it is destroyed again.
    #[inline(always)]
    pub fn create(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        made: Made,
        shared: &Shared,
    ) -> PyResult<ResourceRef> {
        let resource =
            ResourceRef::new(Self::unregistered(allocator, made, shared, OnceBox::new()));
        let mut live = allocator.live.lock();
        if live.reserve(1).is_err() {
            drop(live);
            return Err(give_up(py, std::slice::from_ref(&resource)));
        }
        let serial = allocator.next_serials(1);
        list(&mut live, &resource, serial);
        let is_complete = allocator.device.bindings.is_complete();
        drop(live);
        if is_complete || resource.dont_bind {
            let resources = std::slice::from_ref(&resource);
            if allocator.device.bindings.enter(resources.iter().map(to_bind), is_complete).is_err()
            {
                return Err(give_up(py, resources));
            }
        }
        Ok(resource)
    }

    /// Registers many new resources, all of one kind, or destroys all of them again.
    pub fn create_many(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        made: impl Iterator<Item = Made>,
        shared: &Shared,
    ) -> PyResult<Vec<ResourceRef>> {
        let make =
            |made| ResourceRef::new(Self::unregistered(allocator, made, shared, OnceBox::new()));
        let resources: Vec<_> = made.map(make).collect();
        register(py, allocator, &resources)?;
        Ok(resources)
    }

    /// Registers a new resource that lies in the memory of another, which the caller has pinned.
    pub fn create_alias(
        py: Python<'_>,
        of: &ResourceRef,
        made: Made,
        name: Option<String>,
    ) -> PyResult<ResourceRef> {
        let base = of.alias().map_or(of, |alias| &alias.base).clone();
        base.bound_here.fetch_add(1, Ordering::AcqRel);
        let pool = base.pool.clone();
        let shared = Shared { dont_bind: false, host_access: base.host_access, pool };
        let allocator = base.allocator.clone();
        let was_named = name.is_some();
        let extras = OnceBox::with_value(Extras::of_alias(base, name));
        let resource = ResourceRef::new(Self::unregistered(&allocator, made, &shared, extras));
        resource.was_named.store(was_named, Ordering::Relaxed);
        register(py, &allocator, std::slice::from_ref(&resource))?;
        Ok(resource)
    }

    #[inline(always)]
    fn unregistered(
        allocator: &Arc<AllocatorState>,
        made: Made,
        shared: &Shared,
        extras: OnceBox<Extras>,
    ) -> Self {
        Self {
            pins: Pins::default(),
            bound_here: AtomicU32::new(0),
            allocator: allocator.clone(),
            extras,
            pool: shared.pool.clone(),
            place: AtomicU32::new(0),
            listed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            was_named: AtomicBool::new(false),
            dont_bind: shared.dont_bind && made.location.handle != ResourceHandle::Memory,
            kind: made.kind,
            host_access: shared.host_access,
            open_mappings: AtomicU32::new(0),
            location: made.location,
            host_size: made.host_size,
            usage: made.usage,
            serial: AtomicU64::new(0),
        }
    }
}

/// Enters one in the list of live things.
#[inline]
fn list(live: &mut Live, resource: &ResourceRef, serial: u64) {
    resource.serial.store(serial, Ordering::Relaxed);
    resource.place.store(live.insert(resource), Ordering::Relaxed);
    resource.listed.store(true, Ordering::Relaxed);
}

/// Enters them in the tables of their allocator and device. Without host memory for that they are
/// destroyed again.
fn register(py: Python<'_>, allocator: &AllocatorState, resources: &[ResourceRef]) -> PyResult<()> {
    let mut live = allocator.live.lock();
    if live.reserve(resources.len()).is_err() {
        drop(live);
        return Err(give_up(py, resources));
    }
    let serials = allocator.next_serials(resources.len())..;
    for (resource, serial) in resources.iter().zip(serials) {
        list(&mut live, resource, serial);
    }
    let is_complete = allocator.device.bindings.is_complete();
    drop(live);
    let entered = allocator.device.bindings.enter(resources.iter().map(to_bind), is_complete);
    entered.map_err(|_| give_up(py, resources))
}

/// Destroys resources that nobody has seen, one by one: there is no host memory for more than that. All
/// are of one call, so none lies in another.
#[cold]
fn give_up(py: Python<'_>, resources: &[ResourceRef]) -> PyErr {
    for resource in resources {
        resource.discard(py);
    }
    out_of_host_memory(py)
}

/// What a table of bindings has to know of a resource.
#[inline]
fn to_bind(resource: &ResourceRef) -> (ResourceHandle, bool) {
    (resource.handle(), resource.dont_bind)
}

impl AllocatorState {
    /// With nothing in it.
    pub fn new(
        device_allocator: DeviceAllocator,
        device: Arc<DeviceCore>,
        frames_in_flight: u64,
        call_site_depth: u32,
        strict_host_access: bool,
    ) -> Self {
        let sites = Arc::new(CallSites::new(call_site_depth as usize));
        let events = Events::default();
        // Before all others, which read the call sites of what was created.
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
            abandoned: AtomicBool::new(false),
            closing: Mutex::default(),
            samples: Mutex::default(),
            quiet: AtomicU32::new(0),
            strict_host_access,
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

    /// Returns how many resources were created so far.
    pub fn created_count(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }
}

impl PoolState {
    /// Makes the shared half of a new pool of the engine.
    pub fn new(allocator: &Arc<AllocatorState>, id: PoolId) -> Self {
        Self {
            allocator: allocator.clone(),
            id,
            name: Mutex::default(),
            pins: Pins::default(),
            is_collected: AtomicBool::new(false),
        }
    }
}

impl DeviceCore {
    /// Takes a device that was just opened or wrapped, and keeps what it needs of the caller's.
    pub fn new(
        driver: Arc<dyn Driver>,
        is_owned: bool,
        queue_lock: Option<Arc<OwnersLock>>,
        kept: [Option<Link<PyAny>>; 2],
    ) -> Self {
        let driver = ManuallyDrop::new(driver);
        let (bindings, process) = (Bindings::default(), Process::current());
        let open_allocators = AtomicUsize::new(0);
        Self { driver, is_owned, queue_lock, open_allocators, bindings, process, _kept: kept }
    }
}
