//! `vk_mem.Allocator`.

use std::sync::Arc;

use ash::vk::{self, Handle};
use pyo3::PyClass;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vkmem_engine::{
    Allocation as EngineAllocation, AllocationCreateFlags, AllocationRequest, Allocator as Engine,
    AllocatorOptions, Error, MemoryRequirements, ResourceKind, ResourceUse, human_bytes,
};
use vkmem_vulkan::DeviceAllocator;

use crate::allocation::Allocation;
use crate::allocation_info::{AllocationCreateInfo, Keywords};
use crate::buffer::Buffer;
use crate::close::{close, register};
use crate::create_info::{self, CommonKeywords, ImageKeywords};
use crate::device::Device;
use crate::errors::{IntoPyResult, invalid};
use crate::image::Image;
use crate::numbers::{live_handle, unsigned, unsigned_32};
use crate::pool::{self, Pool, PoolKeywords};
use crate::resource::{Handles, Resource, release_all};
use crate::resource_object::ResourceObject;
use crate::state::{AllocatorState, warn, warn_unclosed};
use crate::statistics::{HeapBudget, TotalStatistics};

/// Allocates the memory of one device (`VmaAllocator`). Usable from many threads at once.
///
/// `preferred_block_size` is the size of the blocks it takes from the driver, in bytes: by default
/// an eighth of heaps up to 1 GiB, else 256 MiB. `heap_size_limits` caps what it takes of each heap,
/// in bytes; None and missing entries do not. `frames_in_flight` is how many frames the device may
/// still work on while the next is recorded.
///
/// Every call that allocates takes the keywords of `AllocationCreateInfo`.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Allocator {
    state: Arc<AllocatorState>,
    device: Py<Device>,
}

/// Asks the engine; without the interpreter if the driver has to be called.
fn allocate(
    py: Python<'_>,
) -> impl FnMut(&Engine, &AllocationRequest) -> Result<EngineAllocation, Error> {
    move |engine, request| match engine.try_allocate(request) {
        Some(allocation) => Ok(allocation),
        None => py.detach(|| engine.allocate(request)),
    }
}

impl Allocator {
    fn finish<T: PyClass<BaseType = ResourceObject>>(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        handles: Handles,
        allocation: EngineAllocation,
        host_size: u64,
        object: T,
    ) -> PyResult<Py<T>> {
        let dont_bind = keywords.create.flags.contains(AllocationCreateFlags::DONT_BIND)
            && handles != Handles::Memory;
        let state = self.state.clone();
        let pool = keywords.pool;
        let resource = Resource::new(state, handles, allocation, host_size, dont_bind, pool);
        if let Some(name) = &keywords.name {
            self.state.engine().set_name(allocation.id, Some(name)).or_raise(py)?;
        }
        let base = ResourceObject::new(resource, keywords.user_data);
        Py::new(py, PyClassInitializer::from(base).add_subclass(object))
    }

    /// Says what unclosed objects hold when memory is missing.
    fn explain(&self, error: Error) -> Error {
        let (waiting, bytes) = self.state.waiting();
        match error {
            Error::OutOfDeviceMemory { reason, figures } if waiting > 0 => {
                let held = human_bytes(bytes);
                let reason = format!(
                    "{reason} (and {waiting} objects that were retired or never closed hold {held} until \
                     set_current_frame_index() or close())"
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
        let from = keywords.pool.clone();
        let _pool = pool::enter(py, from.as_ref(), &self.state)?;
        let made = allocate(py)(self.state.engine(), request);
        let made = made.map_err(|error| self.explain(error)).or_raise(py)?;
        self.finish(py, keywords, Handles::Memory, made, made.size, Allocation)
    }
}

impl Allocator {
    /// The memory type of an example.
    fn memory_type_like(&self, like: &Bound<'_, PyAny>) -> PyResult<u32> {
        let py = like.py();
        if let Ok(resource) = like.cast::<ResourceObject>() {
            let resource = &resource.get().resource;
            resource.check_live(py)?;
            return Ok(resource.allocation.memory_type_index);
        }
        let (what, wishes) = match like.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
            Ok((what, wishes)) if wishes.is_instance_of::<AllocationCreateInfo>() => {
                (what, Some(wishes))
            }
            _ => (like.clone(), None),
        };
        let create = match &wishes {
            Some(wishes) => wishes.cast::<AllocationCreateInfo>()?.get().create(),
            None => Default::default(),
        };
        let allocator = &self.state.device_allocator;
        let arguments: Vec<Bound<'_, PyAny>> =
            what.cast::<PyTuple>().map_or(vec![what.clone()], |it| it.iter().collect());
        let argument = |index: usize| arguments.get(index);
        if arguments.len() == 3 {
            let image = [argument(0), argument(1), argument(2)];
            let built = create_info::image(py, image, ImageKeywords::default())?;
            // SAFETY: made here from numbers.
            return unsafe { allocator.find_memory_type_for_image(&built.info, &create) }
                .or_raise(py);
        }
        let common = CommonKeywords::default();
        match create_info::buffer(py, argument(0), argument(1), common) {
            Ok(built) => {
                // SAFETY: made here, or a struct of the caller's that interop has checked.
                unsafe { allocator.find_memory_type_for_buffer(&built.info, &create) }.or_raise(py)
            }
            Err(no_buffer) if arguments.len() == 1 => {
                let image = [argument(0), None, None];
                let Ok(built) = create_info::image(py, image, ImageKeywords::default()) else {
                    return Err(no_buffer);
                };
                // SAFETY: a struct of the caller's that interop has checked.
                unsafe { allocator.find_memory_type_for_image(&built.info, &create) }.or_raise(py)
            }
            Err(error) => Err(error),
        }
    }
}

/// Binds, and frees the memory again if that fails.
fn bind_or_free(allocation: &Bound<'_, Allocation>, what: Handles) -> PyResult<()> {
    let resource = &allocation.as_super().get().resource;
    resource.bind(allocation.py(), what, 0).inspect_err(|_| {
        // The error of the bind is the one to tell.
        let _ = resource.destroy(allocation.py());
    })
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
        device, *, preferred_block_size = None, heap_size_limits = None, frames_in_flight = 2
    ))]
    fn new(
        py: Python<'_>,
        device: &Bound<'_, PyAny>,
        preferred_block_size: Option<&Bound<'_, PyAny>>,
        heap_size_limits: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = frames)] frames_in_flight: u64,
    ) -> PyResult<Self> {
        let device = device.cast::<Device>().map_err(|_| {
            let kind = device.get_type().name().map_or("?".into(), |name| name.to_string());
            PyTypeError::new_err(format!(
                "device must be a vk_mem.Device (Device.open, Device.wrap) or a \
                 vk_mem.SimulatedDevice, not {kind}"
            ))
        })?;
        let limits = match heap_size_limits {
            None => Vec::new(),
            Some(limits) => limits
                .try_iter()?
                .map(|limit| match limit? {
                    none if none.is_none() => Ok(u64::MAX),
                    limit => unsigned(&limit, "heap_size_limits"),
                })
                .collect::<PyResult<_>>()?,
        };
        let block_size = preferred_block_size.map(|it| unsigned(it, "preferred_block_size"));
        let options = AllocatorOptions {
            preferred_block_size: block_size.transpose()?,
            heap_size_limits: limits,
        };
        let core = device.get().core.clone();
        let device_allocator =
            DeviceAllocator::new(Arc::clone(&core.driver), &options).or_raise(py)?;
        let state = AllocatorState::new(device_allocator, core, frames_in_flight);
        let state = Arc::new(state);
        register(&state);
        Ok(Self { state, device: device.clone().unbind() })
    }

    /// Bytes of the blocks it takes from the driver, by memory type; the first ones are smaller.
    #[getter]
    fn preferred_block_sizes(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let _inside = self.state.enter(py)?;
        let engine = self.state.engine();
        let types = engine.device().info().types.len() as u32;
        Ok((0..types).map(|index| engine.preferred_block_size(index)).collect())
    }

    /// The device it allocates from.
    #[getter]
    fn device(&self, py: Python<'_>) -> Py<Device> {
        self.device.clone_ref(py)
    }

    /// Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`).
    ///
    /// Called as `create_buffer(size, buffer_usage)` with the size in bytes and a `BufferUsage`, or with
    /// a `VkBufferCreateInfo`: a struct of any binding in first place, or `info=` a struct or its
    /// address. Its `pNext` chain goes to Vulkan untouched.
    ///
    /// Beside those of an allocation (see `AllocationCreateInfo`; `MemoryUsage.AUTO` by default), the
    /// keywords are `create_flags` (`BufferCreateFlags`), `sharing_mode` and `queue_family_indices`.
    /// A failure leaves nothing behind.
    ///
    /// Raises `OutOfDeviceMemoryError`, `OutOfHostMemoryError`, `TooManyObjectsError`,
    /// `FeatureNotPresentError` (no memory type serves), `InvalidArgumentError`, `UseAfterFreeError`
    /// (closed).
    #[pyo3(
        signature = (size = None, buffer_usage = None, /, **keywords))]
    fn create_buffer(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Buffer>> {
        let _inside = self.state.enter(py)?;
        let mut common = CommonKeywords::default();
        let keywords =
            Keywords::read("create_buffer", keywords, |key, value| common.take(key, value))?;
        let from = keywords.pool.clone();
        let _pool = pool::enter(py, from.as_ref(), &self.state)?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        // SAFETY: made here, or a struct of the caller's that interop has checked.
        let made = unsafe {
            self.state.device_allocator.create_buffer(
                &built.info,
                &keywords.create,
                &mut allocate(py),
            )
        };
        let (buffer, allocation) = made.map_err(|error| self.explain(error)).or_raise(py)?;
        let object = Buffer { usage: u64::from(built.info.usage.as_raw()) };
        self.finish(py, keywords, Handles::Buffer(buffer), allocation, built.info.size, object)
    }

    /// Creates an image, allocates its memory and binds it (`vmaCreateImage`).
    ///
    /// Called as `create_image(format, extent, image_usage)`, where the extent is one to three sides in
    /// texels, width first, and makes a 1D, 2D or 3D image (for a NumPy array of rows that is
    /// `(a.shape[1], a.shape[0])`), or with a `VkImageCreateInfo` as in `create_buffer`.
    ///
    /// Beside those of an allocation the keywords are `tiling` (`ImageTiling.OPTIMAL` by default),
    /// `mip_levels`, `array_layers` and `samples` (1), `image_type`, `initial_layout`, `create_flags`
    /// (`ImageCreateFlags`), `sharing_mode` and `queue_family_indices`.
    ///
    /// Raises what `create_buffer` raises.
    #[pyo3(signature = (format = None, extent = None, image_usage = None, /, **keywords))]
    fn create_image(
        &self,
        py: Python<'_>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Image>> {
        let _inside = self.state.enter(py)?;
        let mut image = ImageKeywords::default();
        let keywords =
            Keywords::read("create_image", keywords, |key, value| image.take(key, value))?;
        let built = create_info::image(py, [format, extent, image_usage], image)?;
        let info = &built.info;
        let from = keywords.pool.clone();
        let _pool = pool::enter(py, from.as_ref(), &self.state)?;
        // SAFETY: made here, or a struct of the caller's that interop has checked.
        let made = unsafe {
            self.state.device_allocator.create_image(info, &keywords.create, &mut allocate(py))
        };
        let (image, allocation) = made.map_err(|error| self.explain(error)).or_raise(py)?;
        let object = Image {
            format: info.format.as_raw() as u32,
            extent: (info.extent.width, info.extent.height, info.extent.depth),
            usage: info.usage.as_raw(),
            samples: info.samples.as_raw(),
        };
        self.finish(py, keywords, Handles::Image(image), allocation, allocation.size, object)
    }

    /// Allocates `size` bytes without a buffer or an image (`vmaAllocateMemory`).
    ///
    /// `alignment` is a power of two, in bytes. `memory_type_bits` says which types will do; without it
    /// all do. What is bound to it later is not known, so it shares no page of
    /// `buffer_image_granularity` bytes with anything.
    ///
    /// Raises what `create_buffer` raises.
    #[pyo3(signature = (size, alignment = None, **keywords))]
    fn allocate_memory(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        alignment: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let keywords = Keywords::read("allocate_memory", keywords, no_more)?;
        let request = AllocationRequest {
            requirements: MemoryRequirements {
                size: unsigned(size, "size")?,
                alignment: alignment.map_or(Ok(1), |it| unsigned(it, "alignment"))?,
                memory_type_bits: u32::MAX,
                prefers_dedicated: false,
                requires_dedicated: false,
            },
            create_info: keywords.create,
            kind: ResourceKind::Unknown,
            resource_use: ResourceUse::Unknown,
            dedicated: None,
        };
        self.bare_memory(py, keywords, &request)
    }

    /// Allocates what a `VkBuffer` of the caller's needs, and binds it if `bind`
    /// (`vmaAllocateMemoryForBuffer`).
    ///
    /// Takes the handle of any binding. The buffer stays the caller's, who destroys it before freeing the
    /// memory. Raises what `create_buffer` raises.
    #[pyo3(signature = (buffer, *, bind = false, **keywords))]
    fn allocate_memory_for_buffer(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        bind: bool,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let keywords = Keywords::read("allocate_memory_for_buffer", keywords, no_more)?;
        let buffer = vk::Buffer::from_raw(live_handle(buffer, "VkBuffer")?);
        // SAFETY: the caller vouches for the handle.
        let request =
            unsafe { self.state.device_allocator.request_for_buffer(buffer, &keywords.create) };
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            bind_or_free(allocation.bind(py), Handles::Buffer(buffer))?;
        }
        Ok(allocation)
    }

    /// Allocates what a `VkImage` of the caller's needs, and binds it if `bind`
    /// (`vmaAllocateMemoryForImage`).
    ///
    /// `tiling` is the `ImageTiling` it was created with; without it the memory shares no page of
    /// `buffer_image_granularity` bytes with anything. Raises what `create_buffer` raises.
    #[pyo3(signature = (image, *, bind = false, **keywords))]
    fn allocate_memory_for_image(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        bind: bool,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let mut tiling = None;
        let keywords = Keywords::read("allocate_memory_for_image", keywords, |key, value| {
            if key == "tiling" && !value.is_none() {
                tiling = Some(vk::ImageTiling::from_raw(unsigned_32(value, key)? as i32));
            }
            Ok(key == "tiling")
        })?;
        let image = vk::Image::from_raw(live_handle(image, "VkImage")?);
        // SAFETY: the caller vouches for the handle.
        let request = unsafe {
            self.state.device_allocator.request_for_image(image, tiling, &keywords.create)
        };
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            bind_or_free(allocation.bind(py), Handles::Image(image))?;
        }
        Ok(allocation)
    }

    /// The memory type that an allocation would get first (`vmaFindMemoryTypeIndex`), among those
    /// that a resource allows (`VkMemoryRequirements::memoryTypeBits`); all without an argument.
    ///
    /// Raises `FeatureNotPresentError` if none serves.
    #[pyo3(signature = (allowed_type_bits = None, /, **keywords))]
    fn find_memory_type_index(
        &self,
        py: Python<'_>,
        allowed_type_bits: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let create = Keywords::read("find_memory_type_index", keywords, no_more)?.create;
        let bits =
            allowed_type_bits.map_or(Ok(u32::MAX), |it| unsigned_32(it, "memory_type_bits"))?;
        self.state.engine().find_memory_type_index(bits, &create, ResourceUse::Unknown).or_raise(py)
    }

    /// The memory type that such a buffer would get first (`vmaFindMemoryTypeIndexForBufferInfo`).
    ///
    /// Takes what `create_buffer` takes. Raises `FeatureNotPresentError` if none serves.
    #[pyo3(signature = (size = None, buffer_usage = None, /, **keywords))]
    fn find_memory_type_index_for_buffer_info(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let mut common = CommonKeywords::default();
        let name = "find_memory_type_index_for_buffer_info";
        let keywords = Keywords::read(name, keywords, |key, value| common.take(key, value))?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        let allocator = &self.state.device_allocator;
        // SAFETY: made here, or a struct of the caller's that interop has checked.
        unsafe { allocator.find_memory_type_for_buffer(&built.info, &keywords.create) }.or_raise(py)
    }

    /// The memory type that such an image would get first (`vmaFindMemoryTypeIndexForImageInfo`).
    ///
    /// Takes what `create_image` takes. Raises `FeatureNotPresentError` if none serves.
    #[pyo3(signature = (format = None, extent = None, image_usage = None, /, **keywords))]
    fn find_memory_type_index_for_image_info(
        &self,
        py: Python<'_>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let mut image = ImageKeywords::default();
        let name = "find_memory_type_index_for_image_info";
        let keywords = Keywords::read(name, keywords, |key, value| image.take(key, value))?;
        let built = create_info::image(py, [format, extent, image_usage], image)?;
        let allocator = &self.state.device_allocator;
        // SAFETY: made here, or a struct of the caller's that interop has checked.
        unsafe { allocator.find_memory_type_for_image(&built.info, &keywords.create) }.or_raise(py)
    }

    /// Makes a pool: memory of one type with rules of its own (`vmaCreatePool`).
    ///
    /// `memory_type_index` says which type, or `like` gives an example: a `Buffer`, an `Image` or an
    /// `Allocation`, or a pair of what `create_buffer` or `create_image` takes, as
    /// `((65536, BufferUsage.STORAGE_BUFFER), AllocationCreateInfo(...))`, or of a create-info struct
    /// and an `AllocationCreateInfo`.
    ///
    /// `block_size` is the size of each block in bytes; without it blocks are as in the default
    /// pools, and large resources get dedicated memory. `min_block_count` blocks are taken at once
    /// and kept, `max_block_count` is the most (0: no limit). `algorithm` is "tlsf", "linear" or
    /// "buddy". `ignore_buffer_image_granularity` is for pools of one kind of resource. `priority` is
    /// from 0 to 1 (`VK_EXT_memory_priority`). `min_alignment` is in bytes. `memory_allocate_next`
    /// is the address or struct of a `pNext` chain for each `vkAllocateMemory`, kept valid by the
    /// caller. With `fallback=True` a full pool allocates from the default pools. `name` is for
    /// people and dumps.
    ///
    /// Raises `OutOfDeviceMemoryError`, `InvalidArgumentError`.
    #[pyo3(signature = (**keywords))]
    fn create_pool(&self, py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Pool> {
        let _inside = self.state.enter(py)?;
        let mut keywords = PoolKeywords::read(keywords)?;
        match (&keywords.like, keywords.has_memory_type) {
            (Some(like), false) => {
                keywords.rules.memory_type_index = self.memory_type_like(like.bind(py))?;
            }
            (None, true) => {}
            _ => return Err(invalid(py, "a pool needs either memory_type_index= or like=")),
        }
        keywords.create(py, &self.state)
    }

    /// Usage and budget of every heap, in bytes (`vmaGetHeapBudgets`). Quick enough for every frame.
    fn heap_budgets(&self, py: Python<'_>) -> PyResult<Vec<HeapBudget>> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.engine().heap_budgets().into_iter().map(HeapBudget::from).collect())
    }

    /// Counts blocks, allocations and unused ranges by type and heap (`vmaCalculateStatistics`). Takes
    /// time in proportion to the number of allocations.
    fn calculate_statistics(&self, py: Python<'_>) -> PyResult<TotalStatistics> {
        let _inside = self.state.enter(py)?;
        Ok(py.detach(|| TotalStatistics::of(self.state.engine())))
    }

    /// Walks all bookkeeping of the engine. Raises `CorruptionError` with what is broken.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let _inside = self.state.enter(py)?;
        let checked = py.detach(|| self.state.engine().validate());
        checked.map_err(|broken| crate::errors::corruption(py, &broken))
    }

    /// Frames that the device may still be working on.
    #[getter]
    fn frames_in_flight(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.frames_in_flight())
    }

    /// What `set_current_frame_index` was called with last; 0 at first.
    #[getter]
    fn current_frame_index(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.current_frame())
    }

    /// Starts a frame (`vmaSetCurrentFrameIndex`).
    ///
    /// Objects that were collected without `destroy()` more than `frames_in_flight` frames ago are
    /// released.
    fn set_current_frame_index(&self, py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let _inside = self.state.enter(py)?;
        let old = self.state.begin_frame(unsigned(frame, "frame")?);
        release_all(py, &self.state, &old);
        py.detach(|| self.state.engine().refresh_budget());
        Ok(())
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.state.pins.is_closed()
    }

    /// Gives everything back to the driver. Nothing happens the second time.
    ///
    /// Objects that are still alive are released and listed in a `ResourceWarning`. Call it before the
    /// device of a wrapped allocator is destroyed. Raises `BufferError`, and changes nothing, while a view
    /// is open or another thread is inside a call.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        close(py, &self.state)?.map_or(Ok(()), |leaked| warn(py, &leaked))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        drop(slf.get().state.enter(slf.py())?);
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let closed = self.close(py);
        let failing = exception.iter().next().is_some_and(|kind| !kind.is_none());
        match closed {
            // The exception that is on its way is the one to tell; it may hold the view itself.
            Err(error) if failing && error.is_instance_of::<PyBufferError>(py) => {
                warn_unclosed(py, &error.value(py).to_string());
                Ok(())
            }
            closed => closed,
        }
    }

    fn __repr__(&self) -> String {
        let name = &self.state.device_allocator.driver().info().name;
        if self.closed() {
            return format!("<vk_mem.Allocator of {name}, closed>");
        }
        let live = self.state.live.lock().len();
        format!("<vk_mem.Allocator of {name}, {live} live objects>")
    }
}
