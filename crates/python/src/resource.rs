//! One thing that an allocator gave out: a buffer, an image or bare memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_engine::suballocator::RegionKey;
use vkmem_engine::{Allocation, Error, Home, MemoryRequirements, Release, human_bytes};

use crate::device::Binding;
use crate::errors::{IntoPyResult, invalid, pinned, use_after_free};
use crate::pins::{NotClosed, Pinned, Pins};
use crate::pool::PoolState;
use crate::state::{AllocatorState, warn_unclosed};

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
pub struct Resource {
    /// Its allocator.
    pub allocator: Arc<AllocatorState>,
    /// What it is.
    pub handles: Handles,
    /// Where its memory is.
    pub allocation: Allocation,
    /// Kept alive by what was allocated from it.
    _pool: Option<Arc<PoolState>>,
    /// Bytes that the host may see: the size of a buffer, else of the memory.
    pub host_size: u64,
    /// Views and calls that use it; closed when destroyed.
    pub pins: Pins,
    /// Created with DONT_BIND, so it may be without memory.
    dont_bind: bool,
    /// Buffers and images of other allocations that live in this memory.
    bound_here: AtomicU32,
    /// Open mappings: the first invalidates, each flushes at its end.
    open_mappings: AtomicU32,
    place: OnceLock<RegionKey>,
    last_name: OnceLock<String>,
}

/// What has to be given back of a resource, without its Python side.
pub struct Remains {
    handles: Handles,
    allocation: Allocation,
}

impl Remains {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.allocation.size
    }

    /// The pool it lies in.
    pub fn home(&self) -> Home {
        self.allocation.id.home
    }

    /// Destroys the handle and frees the memory; the slow part is in the [`Release`].
    pub fn release(&self, state: &AllocatorState) -> Release {
        let driver = state.device_allocator.driver();
        // Before the handle is free to be given out again.
        let binding = match self.handles {
            Handles::Memory => None,
            handles => state.device.bindings.lock().remove(&handles),
        };
        match self.handles {
            Handles::Memory => {}
            // SAFETY: the pins show that nobody uses it, and it is destroyed once.
            Handles::Buffer(buffer) => unsafe { driver.destroy_buffer(buffer) },
            // SAFETY: as above.
            Handles::Image(image) => unsafe { driver.destroy_image(image) },
        }
        if let Some(Binding::Foreign(memory)) = binding {
            memory.bound_here.fetch_sub(1, Ordering::AcqRel);
        }
        state.engine().free(self.allocation.id).unwrap_or_default()
    }
}

/// Releases many, without the interpreter: the driver may take its time.
pub fn release_all(py: Python<'_>, state: &AllocatorState, remains: &[Remains]) {
    py.detach(|| remains.iter().for_each(|it| drop(it.release(state))));
}

impl Resource {
    /// Registers a new resource with its allocator.
    pub fn new(
        allocator: Arc<AllocatorState>,
        handles: Handles,
        allocation: Allocation,
        host_size: u64,
        dont_bind: bool,
        pool: Option<Arc<PoolState>>,
    ) -> Arc<Self> {
        if handles != Handles::Memory {
            let binding = if dont_bind { Binding::Unbound } else { Binding::Own };
            allocator.device.bindings.lock().insert(handles, binding);
        }
        let resource = Arc::new(Self {
            allocator,
            handles,
            allocation,
            _pool: pool,
            host_size,
            pins: Pins::default(),
            dont_bind,
            bound_here: AtomicU32::new(0),
            open_mappings: AtomicU32::new(0),
            place: OnceLock::new(),
            last_name: OnceLock::new(),
        });
        let place = resource.allocator.live.lock().insert(Arc::downgrade(&resource));
        resource.place.get_or_init(|| place);
        resource
    }

    /// Registers a use; an exception after destroy.
    pub fn enter(&self, py: Python<'_>) -> PyResult<Pinned<'_>> {
        self.allocator.device.check_process(py)?;
        self.pins.pin().ok_or_else(|| self.dead(py))
    }

    /// An exception after destroy.
    pub fn check_live(&self, py: Python<'_>) -> PyResult<()> {
        if self.pins.is_closed() { Err(self.dead(py)) } else { Ok(()) }
    }

    fn dead(&self, py: Python<'_>) -> PyErr {
        let verb = if self.handles == Handles::Memory { "freed" } else { "destroyed" };
        let name = self.last_name.get().map_or(String::new(), |name| quoted(name));
        use_after_free(py, format!("{}{name} was {verb}", self.handles.class()))
    }

    /// `Buffer 'staging' (16384 bytes, memory type 3)`
    pub fn describe(&self) -> String {
        let name = self.allocator.engine().name(self.allocation.id).ok().flatten();
        let name = name.map_or(String::new(), |name| quoted(&name));
        format!(
            "{}{name} ({} bytes, memory type {})",
            self.handles.class(),
            self.host_size,
            self.allocation.memory_type_index
        )
    }

    /// An exception unless the range lies in what the host may see.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.host_size;
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// The exception of such a range.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        invalid(py, format!("{size} bytes at offset {offset} are outside of {what}"))
    }

    fn remains(&self) -> Remains {
        Remains { handles: self.handles, allocation: self.allocation }
    }

    /// Ends it, unless a view or a call uses it. Nothing happens the second time.
    pub fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        // So that the allocator does not say it is closed while the driver still works here. Once it
        // is closed, so is this.
        let Some(_inside) = self.allocator.pins.pin() else { return Ok(()) };
        self.allocator.device.check_process(py)?;
        if !self.end("destroy")? {
            return Ok(());
        }
        let release = self.remains().release(&self.allocator);
        if release.calls_driver() {
            py.detach(|| drop(release));
        }
        Ok(())
    }

    /// Closes it and leaves the list of live things; false if that was done before.
    fn end(&self, verb: &str) -> PyResult<bool> {
        match self.pins.close() {
            Err(NotClosed::Already) => return Ok(false),
            Err(NotClosed::InUse) => return Err(self.still_in_use(verb)),
            Ok(()) => {}
        }
        // From here on nothing new is bound to it.
        if self.bound_here.load(Ordering::Acquire) > 0 {
            self.pins.reopen();
            let what = self.describe();
            return Err(pinned(format!(
                "cannot {verb} {what}: a buffer or an image is bound to it"
            )));
        }
        self.bury();
        Ok(true)
    }

    /// Ends it for Python; the device may go on for the frames in flight.
    pub fn retire(&self) -> PyResult<()> {
        if self.end("retire")? {
            self.allocator.collect(self.remains());
        }
        Ok(())
    }

    fn still_in_use(&self, verb: &str) -> PyErr {
        pinned(format!(
            "cannot {verb} {}: a view of its memory is open, or another thread uses it",
            self.describe()
        ))
    }

    /// Remembers the name for errors and leaves the list of live things.
    fn bury(&self) {
        if let Ok(Some(name)) = self.allocator.engine().name(self.allocation.id) {
            self.last_name.get_or_init(|| name);
        }
        if let Some(place) = self.place.get() {
            self.allocator.live.lock().remove(*place);
        }
    }

    /// The same for a closing allocator, which releases all remains together.
    pub fn close_for_allocator(&self) -> Option<Remains> {
        self.pins.close().ok()?;
        self.bury();
        Some(self.remains())
    }

    /// Counts an open mapping; whether it is the first.
    pub fn begin_mapping(&self) -> bool {
        self.open_mappings.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Whether any is open.
    pub fn has_open_mapping(&self) -> bool {
        self.open_mappings.load(Ordering::Acquire) > 0
    }

    /// Counts it out.
    pub fn end_mapping(&self) {
        self.open_mappings.fetch_sub(1, Ordering::AcqRel);
    }

    /// Binds a resource of the caller's, or one of DONT_BIND, to this memory.
    pub fn bind(self: &Arc<Self>, py: Python<'_>, what: Handles, offset: u64) -> PyResult<()> {
        let _pin = self.enter(py)?;
        // The exception is made without the lock: that runs Python code, which may come back here.
        self.try_bind(what, offset).or_raise(py)
    }

    fn try_bind(self: &Arc<Self>, what: Handles, offset: u64) -> Result<(), Error> {
        let driver = self.allocator.device_allocator.driver();
        let mut bindings = self.allocator.device.bindings.lock();
        if let Some(Binding::Own | Binding::Foreign(_)) = bindings.get(&what) {
            let class = what.class();
            return Err(Error::InvalidArgument(format!("the {class} is bound already")));
        }
        let needs = match what {
            Handles::Memory => return Ok(()),
            // SAFETY: the caller vouches for the buffer.
            Handles::Buffer(buffer) => unsafe { driver.buffer_requirements(buffer) },
            // SAFETY: the caller vouches for the image.
            Handles::Image(image) => unsafe { driver.image_requirements(image) },
        };
        self.check_fit(&needs, offset)?;
        let place = self.allocation.offset + offset;
        let memory = self.allocation.memory;
        match what {
            Handles::Memory => {}
            // SAFETY: the memory is live, pinned and fits; the caller vouches for the buffer.
            Handles::Buffer(buffer) => unsafe { driver.bind_buffer(buffer, memory, place) }?,
            // SAFETY: the memory is live, pinned and fits; the caller vouches for the image.
            Handles::Image(image) => unsafe { driver.bind_image(image, memory, place) }?,
        }
        if let Some(binding) = bindings.get_mut(&what) {
            *binding = if what == self.handles {
                Binding::Own
            } else {
                self.bound_here.fetch_add(1, Ordering::AcqRel);
                Binding::Foreign(self.clone())
            };
        }
        Ok(())
    }

    /// Vulkan does not check it, and drivers write where they are told to.
    fn check_fit(&self, needs: &MemoryRequirements, offset: u64) -> Result<(), Error> {
        let have = &self.allocation;
        let end = offset.checked_add(needs.size);
        let why = if end.is_none_or(|end| end > have.size) {
            format!("needs {} bytes from offset {offset} on", needs.size)
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
fn quoted(name: &str) -> String {
    format!(" '{}'", name.escape_debug())
}

impl Drop for Resource {
    fn drop(&mut self) {
        let over = self.pins.is_closed() || self.allocator.pins.is_closed();
        if over || self.allocator.device.is_forked() {
            return;
        }
        // Nobody holds it any more, but the device may still be using it.
        let description = self.describe();
        if let Some(place) = self.place.get() {
            self.allocator.live.lock().remove(*place);
        }
        self.allocator.collect(self.remains());
        Python::try_attach(|py| {
            warn_unclosed(
                py,
                &format!(
                    "unclosed {description}, {}: it is released when no frame in flight can use \
                     it, or with its allocator",
                    human_bytes(self.allocation.size)
                ),
            );
        });
    }
}

/// Live resources of an allocator.
pub fn live_resources(live: &vkmem_engine::SlotMap<Weak<Resource>>) -> Vec<Arc<Resource>> {
    live.iter().filter_map(|(_, resource)| resource.upgrade()).collect()
}
