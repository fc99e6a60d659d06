//! `vk_mem.Allocator`: creating and closing it; its methods by topic are in the other files of this folder.

mod alias;
mod budget;
mod corruption;
pub mod create;
mod defragment;
mod dump;
mod faults;
mod flush;
mod handlers;
pub mod heap_debugger;
mod import;
mod leaks;
mod losses;
mod many;
mod memory_types;
mod new_texels;
mod poison;
pub mod record;
mod relocate;
mod statistics;
mod stepping;
mod steps;
mod touches;
mod transfers;
mod when_full;

use std::sync::Arc;

use handlers::Handlers;
use pyo3::PyClass;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use steps::{Policy, Steps};
use vkmem_engine::words::counted;
use vkmem_engine::{
    Allocation as EngineAllocation, AllocationCreateFlags, AllocationRequest, Allocator as Engine,
    AllocatorOptions, EmptyBlockRetention, Error, human_bytes,
};
use vkmem_vulkan::DeviceAllocator;

use crate::arguments::callback::exchange;
use crate::arguments::numbers::unsigned;
use crate::arguments::{iterables, options};
use crate::debugging::raising::is_failing;
use crate::debugging::settings::DebugSettings;
use crate::debugging::{self, read};
use crate::errors::{IntoPyResult, invalid, out_of_host_memory};
use crate::interpreter::{detach, warn_unclosed};
use crate::lifetime::close::{close, register};
use crate::lifetime::create::{CommonOptions, CreatedResource, promised_host_access};
use crate::lifetime::enter::enter_pool;
use crate::lifetime::fault_records::FaultRecords;
use crate::lifetime::losing::check_frames_in_use;
use crate::lifetime::ownership::{AllocatorState, Resource, ResourceRef};
use crate::lifetime::release::release_all;
use crate::objects::allocation::Allocation;
use crate::objects::allocation_create_info::Keywords;
use crate::objects::device::Device;
use crate::objects::recording::session_of_keyword;
use crate::objects::resource::ResourceObject;
use crate::observe::event::{Event, EventKind};
use crate::process::host_memory;
use crate::process::links::Link;
use crate::recording::options::RecordedOptions;

/// `VK_MAX_MEMORY_HEAPS`
const MOST_HEAPS: usize = 16;

/// Allocates the memory of one device (`VmaAllocator`). Can be used from many threads at once.
///
/// `preferred_block_size` is the size of the blocks that it allocates in heaps above 1 GiB, in bytes, by
/// default 256 MiB (`preferredLargeHeapBlockSize`). In heaps up to 1 GiB, such as the 256 MiB window through
/// which the host accesses many GPUs, a block is an eighth of the heap, or `preferred_small_heap_block_size`.
/// `heap_size_limits` limits what it allocates from each heap, in bytes; None and missing entries do not.
/// `frames_in_flight` is the number of frames the device may still work on while the next one is recorded:
/// resources that were retired or never destroyed are released that many frames later, as
/// `set_current_frame_index` counts them, and not before `close` if that is never called.
///
/// `empty_block_retention` says which empty blocks are kept for later allocations while their heap is within
/// its budget: up to a number of bytes of a heap (int), a share of its budget (float), or an
/// `EmptyBlockRetention`; by default one block of each memory type. With `prefetch=True` a thread allocates
/// the next block when less than half a block is left, so that in a steady state no call waits for
/// `vkAllocateMemory`; dedicated memory cannot be prefetched.
///
/// With `enforce_allocation_count=False`, more than `maxMemoryAllocationCount` memory objects may be live as
/// long as the driver allocates them, since some drivers allow more than they report. The first one beyond
/// the limit issues a `RuntimeWarning`.
///
/// `track_call_sites=True` stores the Python stack of each live resource, up to 8 frames, or as many as a
/// number says (at most 64): `leaks()`, dumps and the warnings about resources that were never closed then
/// say where they were created. Frames of this package are left out.
///
/// `auto_defragment=True` makes `set_current_frame_index` do a `defragment_step` where the blocks of the default
/// pools are much larger than what is allocated in them; a `DefragmentationPolicy` says when and how much. It moves
/// what was created with `movable`.
///
/// With `defragment_when_full=True` a request that finds no room in its memory type or pool, although the blocks have
/// as many free bytes, first moves what is `movable` there together, up to 256 MiB and 1024 resources, waits for the
/// copies, and is tried again; only then the next, worse memory type is tried, in which it does the same, and
/// `on_out_of_memory` is called after the last one. With frames the old places are not free before the frames in
/// flight have ended. A request with `CAN_MAKE_OTHER_LOST` for which others than the oldest resources would be lost makes
/// room in one block instead: the oldest there are lost, and what is `movable` there and used by no frame in flight
/// moves to where they were, to which the same limits apply.
///
/// `frames_in_use` is the number of frames for which what was created with `CAN_BECOME_LOST` is not lost after its last
/// use, by default `frames_in_flight`, and not less. With `evict_over_budget=True`, `set_current_frame_index` takes
/// the memory of such resources where the usage of a heap is above its budget, least recently used first, until it is
/// not.
///
/// `strict_host_access=True` is for tests: memory that was not created for the host, by a HOST_ACCESS flag or
/// MAPPED, by required HOST_VISIBLE memory or one of VMA's older usages, cannot be mapped, read, written or
/// flushed then, wherever it lies. So a test on a device whose memory is all visible finds what fails on a
/// discrete card. Memory that was created with HOST_ACCESS_SEQUENTIAL_WRITE cannot be read either, which is slow
/// where it is write-combined, and what a transfer in flight uses cannot be written. By default it is on where the environment has `VK_MEM_STRICT=1`.
///
/// `debug` is a `Debug`: fills, margins, quarantine and other means to find faults of the program. Without it the
/// environment's `VK_MEM_DEBUG` is read, such as `fill,margin=16,corruption,quarantine=64M,check=frame,sites`: the
/// keywords of `Debug`, separated by commas, and `sites` for `track_call_sites`, or `all`. `debug=Debug()` switches all off, whatever the environment says.
///
/// `record` is the path of a file to which all calls are recorded until `close`, a `Ring` that keeps the last ones in
/// memory, or a `Recording` that several allocators share; a path that ends with `.pftrace` becomes a timeline for Perfetto
/// instead, which is complete up to the last calls at any time. Without it the environment's `VK_MEM_RECORD` is the path of one
/// recording of all allocators of the process, in which `%p` is the id of the process; `record=False` switches that off.
///
/// Every call that allocates takes the keywords of `AllocationCreateInfo`.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Allocator {
    state: Arc<AllocatorState>,
    device: Py<Device>,
    handlers: Handlers,
    steps: Steps,
    /// Whether the beginning of a frame loses resources where a heap is over its budget.
    evicts_over_budget: bool,
    /// What it does to find faults of the program.
    debug: DebugSettings,
    /// Where resources are and were, if the device was opened with `fault_reports`, or memory is watched.
    fault_records: Option<Arc<FaultRecords>>,
}

/// Allocates from the engine; releases the GIL if the driver has to be called.
#[inline(always)]
fn allocate(
    py: Python<'_>,
    engine: &Engine,
    request: &AllocationRequest,
) -> Result<EngineAllocation, Error> {
    match engine.try_allocate(request) {
        Some(allocation) => Ok(allocation),
        None => detach(py, || engine.allocate_slow(request)),
    }
}

/// Creates the Python object of a resource.
#[inline(always)]
fn python_object<T: PyClass<BaseType = ResourceObject>>(
    py: Python<'_>,
    resource: ResourceRef,
    user_data: Option<Link<PyAny>>,
    object: T,
) -> PyResult<Py<T>> {
    let base = ResourceObject::new(py, resource, user_data);
    Ok(ResourceObject::make(py, base, object)?.unbind())
}

impl Allocator {
    #[inline]
    fn finish<T: PyClass<BaseType = ResourceObject>>(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        made: CreatedResource,
        object: T,
    ) -> PyResult<Py<T>> {
        let resource = Resource::create(py, &self.state, made, &common_options(&keywords))?;
        let priority = keywords.may_be_lost().then(|| keywords.loss_priority());
        let (name, user_data) = (keywords.name.as_deref(), keywords.user_data);
        let made = self.create_object(py, resource, name, user_data, object)?;
        if let Some(priority) = priority {
            ResourceObject::set_losable(made.bind(py).as_super(), priority)?;
        }
        Ok(made)
    }

    /// Creates the Python object of a new resource, and passes the creation to listeners and handlers.
    #[inline(always)]
    fn create_object<T: PyClass<BaseType = ResourceObject>>(
        &self,
        py: Python<'_>,
        resource: ResourceRef,
        name: Option<&str>,
        user_data: Option<Link<PyAny>>,
        object: T,
    ) -> PyResult<Py<T>> {
        let new = std::slice::from_ref(&resource);
        let is_heard = self.state.events.tell_created(py, new, |_| name);
        if name.is_some() {
            let named = resource.set_name(name).or_raise(py);
            named.inspect_err(|_| resource.discard(py))?;
        }
        let made = python_object(py, resource, user_data, object)?;
        if is_heard {
            self.debug_new(py, std::iter::once(made.bind(py).as_any().clone()));
        }
        self.handlers.call_pending(py, &self.state);
        Ok(made)
    }

    /// Runs an attempt to allocate; `on_out_of_memory` may have it repeated.
    fn attempt<T>(
        &self,
        py: Python<'_>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> PyResult<T> {
        host_memory::check(py)?;
        self.handlers.retrying(py, &self.state, || {
            attempt().map_err(|error| self.add_pending_release(error))
        })
    }

    /// Adds to an out-of-memory error what retired or unclosed objects still hold.
    fn add_pending_release(&self, error: Error) -> Error {
        let (waiting, bytes) = self.state.waiting();
        match error {
            Error::OutOfDeviceMemory { reason, figures }
                if waiting > 0 && !figures.can_never_succeed =>
            {
                let held = human_bytes(bytes);
                let (was, hold) = if waiting == 1 { ("was", "holds") } else { ("were", "hold") };
                let reason = format!(
                    "{reason} (and {} that {was} retired or never closed {hold} {held} until \
                     set_current_frame_index() or close())",
                    counted(waiting, "object"),
                );
                Error::OutOfDeviceMemory { reason, figures }
            }
            other => other,
        }
    }

    fn bare_memory(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        request: &AllocationRequest,
    ) -> PyResult<Py<Allocation>> {
        keywords.check_losses(py)?;
        keywords
            .refuse_movable(py, "memory without a buffer or an image is the caller's to copy")?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        self.state
            .device_allocator
            .check_export(keywords.create.export_handle_types)
            .or_raise(py)?;
        let engine = self.state.engine();
        let made = self.attempt_in(py, &request.create_info, |create| {
            if std::ptr::eq(create, &request.create_info) {
                return allocate(py, engine, request);
            }
            allocate(py, engine, &AllocationRequest { create_info: *create, ..*request })
        })?;
        self.finish(py, keywords, CreatedResource::memory(made), Allocation)
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.steps.give_up();
        self.state.stop_delivery();
        exchange(&self.state.on_lost, None);
        exchange(&self.state.on_corruption, None);
    }
}

/// Begins to keep what explains faults, if the device was opened with `fault_reports`, or memory is watched: that
/// costs far more than these records.
fn begin_fault_reports(
    py: Python<'_>,
    state: &Arc<AllocatorState>,
    debug: &DebugSettings,
) -> PyResult<Option<Arc<FaultRecords>>> {
    let driver = &**state.device.driver;
    let has_reports = driver.has_fault_reports();
    if !has_reports && !debug.watches_memory() {
        return Ok(None);
    }
    if has_reports && let Err(error) = detach(py, || driver.begin_binding_reports()) {
        close(py, state)?;
        return Err(Error::from(error)).or_raise(py);
    }
    Ok(Some(FaultRecords::begin(state)))
}

fn common_options(keywords: &Keywords) -> CommonOptions {
    let dont_bind = keywords.create.flags.contains(AllocationCreateFlags::DONT_BIND);
    let host_access = promised_host_access(&keywords.create);
    CommonOptions { dont_bind, host_access, pool: keywords.pool.clone() }
}

fn frames(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    unsigned(value, "frames_in_flight")
}

fn no_more(_: &str, _: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(false)
}

#[pymethods]
impl Allocator {
    #[new]
    #[pyo3(signature = (
        device, *, preferred_block_size = None, heap_size_limits = None, frames_in_flight = 2,
        empty_block_retention = None, prefetch = false, track_call_sites = None,
        preferred_small_heap_block_size = None, enforce_allocation_count = true,
        strict_host_access = None, auto_defragment = None, defragment_when_full = false,
        frames_in_use = None, evict_over_budget = false, debug = None, record = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        device: &Bound<'_, PyAny>,
        preferred_block_size: Option<&Bound<'_, PyAny>>,
        heap_size_limits: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = frames)] frames_in_flight: u64,
        empty_block_retention: Option<&Bound<'_, PyAny>>,
        prefetch: bool,
        track_call_sites: Option<&Bound<'_, PyAny>>,
        preferred_small_heap_block_size: Option<&Bound<'_, PyAny>>,
        enforce_allocation_count: bool,
        strict_host_access: Option<bool>,
        auto_defragment: Option<&Bound<'_, PyAny>>,
        defragment_when_full: bool,
        frames_in_use: Option<&Bound<'_, PyAny>>,
        evict_over_budget: bool,
        debug: Option<&Bound<'_, PyAny>>,
        record: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        host_memory::check(py)?;
        let device = device.cast::<Device>().map_err(|_| {
            let kind = device.get_type().name().map_or("?".into(), |name| name.to_string());
            PyTypeError::new_err(format!(
                "device must be a vk_mem.Device (Device.open, Device.wrap) or a \
                 vk_mem.SimulatedDevice, not {kind}"
            ))
        })?;
        let limits = match heap_size_limits {
            None => Vec::new(),
            Some(limits) => iterables::read(limits, "heap_size_limits", MOST_HEAPS, |limit| {
                if limit.is_none() { Ok(u64::MAX) } else { unsigned(limit, "heap_size_limits") }
            })?,
        };
        let block_size = |size: Option<&Bound<'_, PyAny>>, name| {
            size.map(|size| unsigned(size, name)).transpose()
        };
        let small_heap = preferred_small_heap_block_size;
        let is_debug_given = debug.is_some();
        let (mut debug, call_sites) = read::debug_of_allocator(py, debug)?;
        let options = AllocatorOptions {
            debug: debug.engine_options(),
            preferred_block_size: block_size(preferred_block_size, "preferred_block_size")?,
            preferred_small_heap_block_size: block_size(
                small_heap,
                "preferred_small_heap_block_size",
            )?,
            exceed_allocation_count: !enforce_allocation_count,
            heap_size_limits: limits,
            empty_block_retention: empty_block_retention
                .map_or(Ok(EmptyBlockRetention::default()), options::retention)?,
            prefetch,
            frames_in_use: match frames_in_use {
                None => frames_in_flight,
                Some(frames) => {
                    let frames = unsigned(frames, "frames_in_use")?;
                    check_frames_in_use(py, frames, frames_in_flight)?;
                    frames
                }
            },
        };
        let depth = track_call_sites.or(call_sites.as_ref()).map_or(Ok(0), options::depth)?;
        let strict = match strict_host_access {
            Some(strict) => strict,
            None => debug.strict_host_access || options::strict_of_environment(py)?,
        };
        let auto = auto_defragment.map_or(Ok(None), Policy::read)?;
        let core = device.get().core.clone();
        let device_allocator =
            DeviceAllocator::new(Arc::clone(&core.driver), &options).or_raise(py)?;
        if let Err(refused) = poison::poison(py, &core, &mut debug, is_debug_given) {
            // Its end waits for its threads.
            detach(py, || drop(device_allocator));
            return Err(refused);
        }
        let frames = [frames_in_flight, options.frames_in_use];
        let recorded = session_of_keyword(py, record);
        let state = AllocatorState::new(device_allocator, core, frames, (depth, strict), options);
        let state = Arc::new(state);
        if register(&state).is_err() {
            state.pins.close(py).ok();
            return Err(out_of_host_memory(py));
        }
        let _ = state.recorded_options.set(RecordedOptions {
            frames_in_flight,
            strict_host_access: strict,
            call_site_depth: depth,
            defragments_when_full: defragment_when_full,
            defragments_by_itself: auto.is_some(),
            evicts_over_budget: evict_over_budget,
            watches_memory: debug.watches_memory(),
        });
        let recorded = recorded.and_then(|recorded| match recorded {
            Some((session, is_own)) => state.attach(py, &session, is_own),
            None => Ok(()),
        });
        if let Err(refused) = recorded {
            state.pins.close(py).ok();
            detach(py, || {
                state.engine().close();
            });
            return Err(refused);
        }
        let fault_records = begin_fault_reports(py, &state, &debug)?;
        let handlers = Handlers::default();
        if defragment_when_full {
            state.room_maker.get_or_init(|| handlers.rooms.clone());
        }
        if debug.watches_memory() {
            debugging::begin(&state, debug);
        }
        Ok(Self {
            state,
            device: device.clone().unbind(),
            handlers,
            steps: Steps::new(auto, defragment_when_full),
            evicts_over_budget: evict_over_budget,
            debug,
            fault_records,
        })
    }

    /// Sizes in bytes of the blocks that it allocates, by memory type; the first blocks are smaller.
    #[getter]
    fn preferred_block_sizes(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let _inside = self.state.enter(py)?;
        let engine = self.state.engine();
        let types = engine.device().info().types.len() as u32;
        Ok((0..types).map(|index| engine.preferred_block_size(index)).collect())
    }

    /// Whether the host is refused memory that was not created for it.
    #[getter]
    fn strict_host_access(&self, py: Python<'_>) -> PyResult<bool> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.strict_host_access)
    }

    /// What it does to find faults of the program: the `Debug` of `debug=`, or what `VK_MEM_DEBUG` says; None if
    /// all of that is off.
    #[getter]
    fn debug<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let _inside = self.state.enter(py)?;
        let is_on = self.debug != DebugSettings::default();
        is_on.then(|| read::debug_object(py, &self.debug)).transpose()
    }

    /// The device that it allocates from.
    #[getter]
    fn device(&self, py: Python<'_>) -> Py<Device> {
        self.device.clone_ref(py)
    }

    /// Number of frames that the device may still be working on.
    #[getter]
    fn frames_in_flight(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.frames_in_flight())
    }

    /// The last argument of `set_current_frame_index`; 0 at first.
    #[getter]
    fn current_frame_index(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.current_frame())
    }

    /// Begins a frame (`vmaSetCurrentFrameIndex`).
    ///
    /// Releases objects that were retired, or collected without `destroy()`, more than `frames_in_flight`
    /// frames ago. So the index counts frames and has to grow: it is not the index modulo the frames in
    /// flight. The same index again begins no frame. A counter of 32 bits, like VMA's, may wrap around: from
    /// the upper half of 32 bits to the lower one.
    ///
    /// Raises `InvalidArgumentError` for any other lower index.
    fn set_current_frame_index(&self, py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state.change(py, || {
        let _inside = self.state.enter(py)?;
        let frame = unsigned(frame, "frame")?;
        let frames = self.state.begin_frame(frame).map_err(|current| {
            invalid(
                py,
                format!(
                    "frame is {frame}, after {current}: it counts frames and has to grow (not modulo \
                     frames_in_flight), or to wrap around 32 bits"
                ),
            )
        })?;
        self.state.events.tell(EventKind::Frame, || Event::Frame(frame));
        if let Some(moves) = self.state.moves() {
            moves.retire(py, &self.state);
        }
        loop {
            let unused = self.state.take_unused(frames);
            if unused.is_empty() {
                break;
            }
            release_all(py, &self.state, &unused);
        }
        detach(py, || self.state.engine().refresh_budget());
        self.keep_budget(py);
        self.step_by_itself(py);
        self.handlers.call_pending(py, &self.state);
        self.state.debugger().map_or(Ok(()), |it| it.begin_frame(py, &self.state))
        })
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.state.pins.is_closed()
    }

    /// Frees all memory. Does nothing if it was called before.
    ///
    /// Objects that are still live are released and listed in a `ResourceWarning`. The allocator of a wrapped
    /// device has to be closed before the device is destroyed. Raises `BufferError`, and changes nothing,
    /// while a view is open or a call runs: in another thread, or in this one around a callback.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = close(py, &self.state)?;
        self.steps.give_up();
        closed.warn(py, &self.state)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().state.check_open(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let closed = self.close(py);
        match closed {
            // The current exception is the one to raise; it may hold the view itself.
            Err(error) if is_failing(exception) && error.is_instance_of::<PyBufferError>(py) => {
                warn_unclosed(py, &error.value(py).to_string());
                Ok(())
            }
            closed => closed,
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.device)?;
        self.state.device_memory.traverse(&visit)?;
        for slot in [&self.state.on_lost, &self.state.on_corruption] {
            if let Some(callback) = slot.try_lock() {
                visit.call(&*callback)?;
            }
        }
        self.handlers.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.device_memory.clear();
        exchange(&self.state.on_lost, None);
        exchange(&self.state.on_corruption, None);
        self.handlers.clear();
    }

    fn __repr__(&self) -> String {
        let name = &self.state.device_allocator.driver().info().name;
        if self.closed() {
            return format!("<vk_mem.Allocator of {name}, closed>");
        }
        if self.state.device.is_forked() {
            return format!("<vk_mem.Allocator of {name}, from before os.fork()>");
        }
        let live = self.state.live.lock().len();
        format!("<vk_mem.Allocator of {name}, {}>", counted(live, "live object"))
    }
}
