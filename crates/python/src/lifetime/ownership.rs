//! One thing that an allocator gave out: a buffer, an image or bare memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ash::vk;
use ash::vk::Handle;
use once_cell::race::OnceBox;
use pyo3::prelude::*;
use vkmem_engine::{
    Allocation, DeviceError, Error, MemoryRequirements, Release, ResourceKind, human_bytes,
};
use vkmem_vulkan::{buffer_usage, expect_at, image_kind};

use crate::errors::{invalid, out_of_host_memory, pinned, use_after_free};
use crate::lifetime::bindings::Binding;
use crate::lifetime::counted::Held;
use crate::lifetime::extras::Extras;
use crate::lifetime::frames::{AllocatorState, warn_unclosed};
use crate::lifetime::live::Live;
use crate::lifetime::pins::{NotClosed, Pinned, Pins};
use crate::lifetime::release::Remains;
use crate::lifetime::unflushed;
use crate::objects::device::DeviceCore;
use crate::objects::pool::PoolState;
use vkmem_engine::words::bytes;

/// What `retire` is called in errors.
const RETIRE: &str = "retire";

/// What was made on top of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handles {
    /// Nothing.
    Memory,
    /// A `VkBuffer`.
    Buffer(vk::Buffer),
    /// A `VkImage`.
    Image(vk::Image),
}

impl Handles {
    /// The name of the Python class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Memory => "Allocation",
            Self::Buffer(_) => "Buffer",
            Self::Image(_) => "Image",
        }
    }

    /// As a number; 0 for bare memory.
    pub fn raw(self) -> u64 {
        match self {
            Self::Memory => 0,
            Self::Buffer(buffer) => buffer.as_raw(),
            Self::Image(image) => image.as_raw(),
        }
    }
}

/// The shared half of a `Buffer`, an `Image` or an `Allocation`.
///
/// What its end needs stands first, in this order: by then most have left the cache.
#[repr(C)]
pub struct Resource {
    /// Views and calls that use it; closed when destroyed.
    pub pins: Pins,
    /// Buffers and images of other allocations that live in this memory, and aliases.
    pub(crate) bound_here: AtomicU32,
    /// What it is.
    pub handles: Handles,
    /// Its allocator.
    pub allocator: Arc<AllocatorState>,
    /// What few have.
    pub(crate) extras: OnceBox<Extras>,
    /// Kept alive by what was allocated from it.
    pool: Option<Arc<PoolState>>,
    /// Its place in the list of live things.
    place: AtomicU32,
    /// Whether it stands there.
    listed: AtomicBool,
    /// It ended by `retire()`.
    retired: AtomicBool,
    /// It had a name at some time. Most never have one, and need not be asked for it at their end.
    pub(crate) was_named: AtomicBool,
    /// Created with DONT_BIND, so it may be without memory.
    pub(crate) dont_bind: bool,
    /// What lies in the memory, tiling and all; for dumps.
    pub kind: ResourceKind,
    /// Open mappings, those of aliases included.
    pub(crate) open_mappings: AtomicU32,
    /// Where its memory is.
    pub allocation: Allocation,
    /// Bytes that the host may see: the size of a buffer, else of the memory.
    pub host_size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`; 0 for bare memory.
    pub usage: u64,
    /// Its number among all resources of the allocator, in the order of creation.
    serial: AtomicU64,
}

/// What a new resource is made of.
pub struct Made {
    /// What it is.
    pub handles: Handles,
    /// Where its memory is.
    pub allocation: Allocation,
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
        let (handles, host_size) = (Handles::Memory, allocation.size);
        Self { handles, allocation, host_size, usage: 0, kind: ResourceKind::Unknown }
    }

    /// An image, whose bytes are the driver's affair.
    pub fn image(image: vk::Image, allocation: Allocation, info: &vk::ImageCreateInfo<'_>) -> Self {
        let (handles, host_size) = (Handles::Image(image), allocation.size);
        let usage = u64::from(info.usage.as_raw());
        Self { handles, allocation, host_size, usage, kind: image_kind(info.tiling) }
    }

    /// A buffer.
    pub fn buffer(
        buffer: vk::Buffer,
        allocation: Allocation,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Self {
        let handles = Handles::Buffer(buffer);
        let (host_size, usage) = (info.size, usage_of(info));
        Self { handles, allocation, host_size, usage, kind: ResourceKind::Buffer }
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
    /// Where they were allocated from.
    pub pool: Option<Arc<PoolState>>,
}

impl Resource {
    /// Registers a new resource with its allocator. Without host memory for that it is destroyed again.
    #[inline(always)]
    pub fn create(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        made: Made,
        shared: &Shared,
    ) -> PyResult<Held> {
        let resource = Held::new(Self::unregistered(allocator, made, shared, OnceBox::new()));
        let mut live = allocator.live.lock();
        if live.reserve(1).is_err() {
            drop(live);
            return Err(give_up(py, std::slice::from_ref(&resource)));
        }
        let serial = allocator.observed.next_serials(1);
        enter(&mut live, &resource, serial);
        let is_complete = allocator.device.bindings.is_complete();
        drop(live);
        if is_complete || resource.dont_bind {
            let resources = std::slice::from_ref(&resource);
            if allocator.device.bindings.enter(resources, is_complete).is_err() {
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
    ) -> PyResult<Vec<Held>> {
        let make = |made| Held::new(Self::unregistered(allocator, made, shared, OnceBox::new()));
        let resources: Vec<_> = made.map(make).collect();
        register(py, allocator, &resources)?;
        Ok(resources)
    }

    /// Registers a new resource that lies in the memory of another, which the caller has pinned.
    pub fn create_alias(
        py: Python<'_>,
        of: &Held,
        made: Made,
        name: Option<String>,
    ) -> PyResult<Held> {
        let base = of.alias().map_or(of, |alias| &alias.base).clone();
        base.bound_here.fetch_add(1, Ordering::AcqRel);
        let shared = Shared { dont_bind: false, pool: base.pool.clone() };
        let allocator = base.allocator.clone();
        let was_named = name.is_some();
        let extras = OnceBox::with_value(Extras::of_alias(base, name));
        let resource = Held::new(Self::unregistered(&allocator, made, &shared, extras));
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
            handles: made.handles,
            allocator: allocator.clone(),
            extras,
            pool: shared.pool.clone(),
            place: AtomicU32::new(0),
            listed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            was_named: AtomicBool::new(false),
            dont_bind: shared.dont_bind && made.handles != Handles::Memory,
            kind: made.kind,
            open_mappings: AtomicU32::new(0),
            allocation: made.allocation,
            host_size: made.host_size,
            usage: made.usage,
            serial: AtomicU64::new(0),
        }
    }

    /// Its number among all resources of the allocator.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Registers a use; an exception after destroy.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.allocator.device.check_process(py)?;
        self.pins.pin(py).ok_or_else(|| self.dead(py))
    }

    /// An exception after destroy.
    pub fn check_live(&self, py: Python<'_>) -> PyResult<()> {
        if self.pins.is_closed() { Err(self.dead(py)) } else { Ok(()) }
    }

    /// That it is of a device. Its handle means nothing on another one, and drivers do not look.
    pub fn check_device(&self, py: Python<'_>, device: &Arc<DeviceCore>) -> PyResult<()> {
        if Arc::ptr_eq(device, &self.allocator.device) {
            return Ok(());
        }
        Err(invalid(py, format!("{} is of another device", self.describe())))
    }

    fn dead(&self, py: Python<'_>) -> PyErr {
        let verb = match self.handles {
            _ if self.retired.load(Ordering::Relaxed) => "retired",
            Handles::Memory => "freed",
            Handles::Buffer(_) | Handles::Image(_) => "destroyed",
        };
        let name = self.last_name().map_or(String::new(), quoted);
        use_after_free(py, format!("{}{name} was {verb}", self.handles.class()))
    }

    /// `Buffer 'staging'`
    pub fn title(&self) -> String {
        let name = self.name().ok().flatten();
        let name = name.map_or(String::new(), |name| quoted(&name));
        format!("{}{name}", self.handles.class())
    }

    /// `Buffer 'staging' (16384 bytes, memory type 3)`
    pub fn describe(&self) -> String {
        let (title, size) = (self.title(), bytes(self.host_size));
        format!("{title} ({size}, memory type {})", self.allocation.memory_type_index)
    }

    /// `, created at a.py:3 in f, called from b.py:7 in g`; empty if that is not kept.
    pub fn made_at(&self, py: Python<'_>) -> String {
        let Some(origin) = self.origin() else { return String::new() };
        let lines = self.allocator.observed.sites.lines(py, origin.site);
        format!(", created at {}", lines.join(", called from "))
    }

    /// An exception unless the range lies in what the host may see.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.host_size;
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// Bytes that come free with it.
    pub fn own_size(&self) -> u64 {
        if self.alias().is_some() { 0 } else { self.allocation.size }
    }

    /// The exception of such a range.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        if offset > self.host_size {
            return invalid(py, format!("offset {offset} is outside of {what}"));
        }
        invalid(py, format!("{} at offset {offset}: outside of {what}", bytes(size)))
    }

    /// What has to be given back of it.
    #[inline]
    pub(crate) fn remains(&self) -> Remains {
        let alias_of = self.alias().map(|alias| alias.base.downgrade());
        let (id, size) = (self.allocation.id, self.own_size());
        Remains { handles: self.handles, id, size, alias_of, _held: self.take_held() }
    }

    /// Ends it, unless a view or a call uses it. Nothing happens the second time.
    #[inline]
    pub fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        // Once the allocator is closed, so is this. The driver may call back, and from there the
        // interpreter may be let go of: so it stays open.
        let Some(_inside) = self.allocator.pins.pin(py) else { return Ok(()) };
        expect_at(self.allocation.hint.0);
        self.allocator.device.check_process(py)?;
        if !self.end(py, "destroy")? {
            return Ok(());
        }
        if let Some(lost) = self.lost_writes() {
            self.give_back(py);
            return unflushed::warn(py, &lost);
        }
        self.give_back(py);
        Ok(())
    }

    /// Destroys the handle and frees the memory.
    #[inline(always)]
    fn give_back(&self, py: Python<'_>) {
        let release = self.remains().release(&self.allocator);
        if release.calls_driver() {
            self.end_release(py, release);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_release(&self, py: Python<'_>, release: Release) {
        py.detach(|| drop(release));
        self.allocator.tell_device_memory(py);
    }

    /// Closes it and leaves the list of live things; false if that was done before.
    #[inline]
    fn end(&self, py: Python<'_>, verb: &str) -> PyResult<bool> {
        match self.pins.close(py) {
            Err(NotClosed::Already) => return Ok(false),
            Err(NotClosed::InUse) => return Err(self.still_in_use(verb)),
            Ok(()) => {}
        }
        // From here on nothing new is bound to it.
        let bound = self.bound_here.load(Ordering::Acquire);
        // What was retired before it is released before it.
        let waits = || verb == RETIRE && bound == self.allocator.waiting_in(self);
        if bound > 0 && !waits() {
            self.pins.reopen(py);
            return Err(self.still_bound(verb));
        }
        self.bury();
        Ok(true)
    }

    /// Destroys one that nobody has seen yet.
    #[cold]
    pub fn discard(&self, py: Python<'_>) {
        if self.pins.close(py).is_ok() {
            self.leave();
            drop(self.remains().release(&self.allocator));
            self.allocator.tell_device_memory(py);
        }
    }

    /// Ends it for Python; the device may go on for the frames in flight.
    pub fn retire(&self, py: Python<'_>) -> PyResult<()> {
        self.allocator.device.check_process(py)?;
        if self.end(py, RETIRE)? {
            self.retired.store(true, Ordering::Relaxed);
            let lost = self.lost_writes();
            self.allocator.collect(self);
            if let Some(lost) = lost {
                return unflushed::warn(py, &lost);
            }
        }
        Ok(())
    }

    /// The exception where something is bound to its memory.
    pub(crate) fn still_bound(&self, verb: &str) -> PyErr {
        let what = self.describe();
        pinned(format!("cannot {verb} {what}: a buffer or an image is bound to it"))
    }

    /// The exception where a view or a call uses it.
    pub(crate) fn still_in_use(&self, verb: &str) -> PyErr {
        pinned(format!(
            "cannot {verb} {}: a view of its memory is open, or another thread uses it",
            self.describe()
        ))
    }

    /// Remembers the name for errors and leaves the list of live things.
    #[inline]
    fn bury(&self) {
        if self.was_named.load(Ordering::Relaxed)
            && let Ok(Some(name)) = self.name()
        {
            self.remember_name(name);
        }
        self.leave();
    }

    /// Leaves the list of live things.
    #[inline]
    fn leave(&self) {
        self.leave_list(&mut self.allocator.live.lock());
    }

    /// The same, for who has the list of its allocator locked.
    #[inline]
    pub(crate) fn leave_list(&self, live: &mut Live) {
        if self.is_listed() {
            live.remove(self.place.load(Ordering::Relaxed), self);
            self.listed.store(false, Ordering::Release);
        }
    }

    /// Whether the list of live things knows it.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// The same for a closing allocator, which releases all remains together.
    pub fn close_for_allocator(&self, py: Python<'_>) -> Option<Remains> {
        self.pins.close(py).ok()?;
        self.bury();
        Some(self.remains())
    }

    /// What becomes of it when nothing keeps it alive any more. It is on no list after that, unless the
    /// process came out of a fork.
    #[inline]
    pub(crate) fn let_go(&self) {
        if !(self.pins.is_closed() && !self.is_listed() || self.allocator.device.is_forked()) {
            self.leave_behind();
        }
    }

    #[cold]
    fn leave_behind(&self) {
        if self.pins.is_closed() || self.allocator.pins.is_closed() {
            return self.leave();
        }
        // Nobody holds it any more, but the device may still be using it.
        let description = self.describe();
        let lost = self.lost_writes();
        self.leave();
        let remains_size = self.allocator.collect(self);
        Python::try_attach(|py| {
            let made = self.made_at(py);
            warn_unclosed(
                py,
                &format!(
                    "unclosed {description}, {}{made}: it is released when no frame in flight can \
                     use it, or with its allocator",
                    human_bytes(remains_size)
                ),
            );
            unflushed::warn_in_finaliser(py, lost.as_slice());
        });
    }
    pub(crate) fn bind_error(&self, call: &'static str, error: DeviceError) -> Error {
        let Allocation { memory_type_index, size, .. } = self.allocation;
        let figures = self.allocator.engine().figures(Some(memory_type_index), size);
        Error::of_call(call, error, figures)
    }

    /// Vulkan does not check it, and drivers write where they are told to.
    pub(crate) fn check_fit(&self, needs: &MemoryRequirements, offset: u64) -> Result<(), Error> {
        let have = &self.allocation;
        let end = offset.checked_add(needs.size);
        let why = if end.is_none_or(|end| end > have.size) {
            format!("needs {} from offset {offset} on", bytes(needs.size))
        } else if !(have.offset + offset).is_multiple_of(needs.alignment) {
            format!("needs an alignment of {}, which offset {offset} has not", needs.alignment)
        } else if needs.memory_type_bits >> have.memory_type_index & 1 == 0 {
            format!("cannot live in it (memoryTypeBits {:#x})", needs.memory_type_bits)
        } else {
            return Ok(());
        };
        let what = self.describe();
        Err(Error::InvalidArgument(format!("it does not fit {what}: it {why}")))
    }

    /// Registers a use of its own memory by the host; an exception where the caller has bound the
    /// resource to other memory, which is the one to read and to write.
    pub fn enter_memory<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter(py)?;
        if !self.dont_bind {
            return Ok(pin);
        }
        let other = match self.allocator.device.bindings.lock().get(&self.handles) {
            Some(Binding::Foreign(memory)) => memory.clone(),
            _ => return Ok(pin),
        };
        let (what, other) = (self.describe(), other.describe());
        let why = format!("{what} is bound to {other}, not to memory of its own: use that one");
        Err(invalid(py, why))
    }

    /// Whether it has memory, as far as this library knows: some drivers crash when they copy to or
    /// from what has none.
    pub fn is_bound(&self) -> bool {
        !self.dont_bind
            || !matches!(
                self.allocator.device.bindings.lock().get(&self.handles),
                Some(Binding::Unbound)
            )
    }
}

/// A name in a message, on one line.
pub fn quoted(name: &str) -> String {
    format!(" '{}'", name.escape_debug())
}

/// Enters one in the list of live things.
#[inline]
fn enter(live: &mut Live, resource: &Held, serial: u64) {
    resource.serial.store(serial, Ordering::Relaxed);
    resource.place.store(live.insert(resource), Ordering::Relaxed);
    resource.listed.store(true, Ordering::Relaxed);
}

/// Enters them in the tables of their allocator and device. Without host memory for that they are
/// destroyed again.
fn register(py: Python<'_>, allocator: &AllocatorState, resources: &[Held]) -> PyResult<()> {
    let mut live = allocator.live.lock();
    if live.reserve(resources.len()).is_err() {
        drop(live);
        return Err(give_up(py, resources));
    }
    let serials = allocator.observed.next_serials(resources.len())..;
    for (resource, serial) in resources.iter().zip(serials) {
        enter(&mut live, resource, serial);
    }
    let is_complete = allocator.device.bindings.is_complete();
    drop(live);
    let entered = allocator.device.bindings.enter(resources, is_complete);
    entered.map_err(|_| give_up(py, resources))
}

/// Destroys resources that nobody has seen, one by one: there is no host memory for more than that. All
/// are of one call, so none lies in another.
#[cold]
fn give_up(py: Python<'_>, resources: &[Held]) -> PyErr {
    for resource in resources {
        resource.discard(py);
    }
    out_of_host_memory(py)
}
