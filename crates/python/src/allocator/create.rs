//! Buffers, images and bare memory, one at a time.

use std::ffi::CStr;

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};
use vkmem_engine::{AllocationCreateInfo, AllocationRequest, Error};
use vkmem_vulkan::{BindPlace, ResourceHandle};

use super::{Allocator, allocate, no_more};
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::fast_call::FastMethod;
use crate::arguments::numbers::{
    BUFFER_USAGE, IMAGE_TILING, live_handle, of_class, unsigned, wide_of_class,
};
use crate::errors::{IntoPyResult, to_py};
use crate::interop::import::ImportKeywords;
use crate::lifetime::create::{Made, Shared};
use crate::lifetime::enter::enter_pool;
use crate::lifetime::ownership::Resource;
use crate::lifetime::pins::Pinned;
use crate::objects::allocation::Allocation;
use crate::objects::allocation_create_info::Keywords;
use crate::objects::binding::{bind_ours, named_buffer};
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;
use crate::process::host_memory;
use crate::transfer::source::Source;
use crate::transfer::transfers::Transfers;

impl Allocator {
    /// The caller has the pool of the keywords open. The first attempt may have been made before, and
    /// have failed.
    fn create_built(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        info: &vk::BufferCreateInfo<'static>,
        mut failed: Option<Error>,
    ) -> PyResult<Py<Buffer>> {
        let (buffer, allocation) = self.attempt(py, || {
            if let Some(error) = failed.take() {
                return Err(error);
            }
            let (allocator, create) = (&self.state.device_allocator, &keywords.create);
            // SAFETY: made here, or a struct of the caller's that interop has checked.
            unsafe {
                allocator.create_buffer(info, create, |on, request| allocate(py, on, request))
            }
        })?;
        self.finish(py, keywords, Made::buffer(buffer, allocation, info), Buffer)
    }

    /// Of a size and a usage, without keywords. Holds no reference of Python's when it ends.
    fn create_plain_buffer(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        usage: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Buffer>> {
        let _inside = self.state.enter(py)?;
        host_memory::check(py)?;
        let (info, wide) = create_info::plain_buffer(size, usage)?;
        if wide.is_some() {
            return Python::attach(|py| self.create_buffer(py, Some(size), Some(usage), None));
        }
        let create = AllocationCreateInfo::default();
        // SAFETY: made here.
        let made = unsafe {
            let allocator = &self.state.device_allocator;
            allocator.create_buffer(&info, &create, |on, request| allocate(py, on, request))
        };
        match made {
            Ok((buffer, allocation)) => {
                let made = Made::buffer(buffer, allocation, &info);
                let resource = Resource::create(py, &self.state, made, &Shared::default())?;
                self.announce(py, resource, None, None, Buffer)
            }
            Err(error) => {
                Python::attach(|py| self.create_built(py, Keywords::default(), &info, Some(error)))
            }
        }
    }

    fn create_buffer(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Buffer>> {
        let _inside = self.state.enter(py)?;
        let (mut common, mut import) = (CommonKeywords::default(), ImportKeywords::default());
        let mut data = None;
        let keywords = Keywords::read("create_buffer", keywords, |key, value| {
            if key == "data" {
                data = (!value.is_none()).then(|| Source::read(value, None, "data")).transpose()?;
                return Ok(true);
            }
            Ok(import.take(key, value)? || common.take(key, value)?)
        })?;
        if let Some(data) = data {
            return self.create_filled_buffer(
                py,
                size,
                buffer_usage,
                keywords,
                common,
                import,
                data,
            );
        }
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        if let Some(importing) = import.finish(py)? {
            return self.import_buffer(py, keywords, &built, importing);
        }
        self.create_built(py, keywords, &built.info, None)
    }

    /// `create_buffer(data=...)`
    #[allow(clippy::too_many_arguments, reason = "what was read of the keywords")]
    #[cold]
    fn create_filled_buffer(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Keywords,
        common: CommonKeywords,
        import: ImportKeywords,
        data: Source,
    ) -> PyResult<Py<Buffer>> {
        const TRANSFER_DST: u64 = vk::BufferUsageFlags::TRANSFER_DST.as_raw() as u64;
        let is_struct = common.has_info() || size.is_some() && buffer_usage.is_none();
        let number = |number: u64| Ok::<_, PyErr>(number.into_pyobject(py)?.into_any());
        let whole = number(data.size() as u64)?;
        let size = if is_struct { size.cloned() } else { Some(size.cloned().unwrap_or(whole)) };
        // As a number of its own class it is what the caller gave; a struct has its own.
        let usage = buffer_usage
            .map(|usage| {
                number(wide_of_class(usage, "buffer_usage", &BUFFER_USAGE)? | TRANSFER_DST)
            })
            .transpose()?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        let built = create_info::buffer(py, size.as_ref(), usage.as_ref(), common)?;
        let buffer = match import.finish(py)? {
            Some(importing) => self.import_buffer(py, keywords, &built, importing)?,
            None => self.create_built(py, keywords, &built.info, None)?,
        };
        Transfers::of(&self.state).fill_new(buffer.bind(py), data).inspect_err(|_| {
            // What went wrong with the data is the one to tell.
            let _ = buffer.bind(py).as_super().get().destroy(py);
        })?;
        Ok(buffer)
    }

    /// Memory for planes of a disjoint image of the caller's.
    fn memory_for_planes(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        image: vk::Image,
        planes: &[u32],
        tiling: Option<vk::ImageTiling>,
        bind: bool,
    ) -> PyResult<Py<Allocation>> {
        let allocator = &self.state.device_allocator;
        // SAFETY: the caller vouches for the handle and its planes.
        let request =
            unsafe { allocator.request_for_planes(image, planes, tiling, &keywords.create) };
        let (request, offsets) = request.or_raise(py)?;
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            let resource = &allocation.bind(py).as_super().get().resource;
            let pin = resource.enter(py)?;
            let places = planes.iter().copied().zip(offsets);
            // SAFETY: the memory is live, pinned and large enough; the caller vouches for the image.
            let bound = unsafe { allocator.bind_planes(image, resource.allocation(), places) };
            drop(pin);
            if let Err(error) = bound {
                // The error of the bind is the one to tell.
                let _ = resource.destroy(py);
                return Err(to_py(py, &error));
            }
        }
        Ok(allocation)
    }

    /// Binds a resource of the caller's, and frees the memory again if that fails.
    fn bind_or_free(
        &self,
        allocation: &Bound<'_, Allocation>,
        what: ResourceHandle,
        ours: Option<&Bound<'_, ResourceObject>>,
    ) -> PyResult<()> {
        let (py, resource) = (allocation.py(), &allocation.as_super().get().resource);
        let bound = match ours {
            Some(ours) => bind_ours(allocation, ours, BindPlace::default()),
            None => {
                let _pin = resource.enter(py)?;
                self.attempt(py, || resource.try_bind(what, BindPlace::default()))
            }
        };
        bound.inspect_err(|_| {
            // The error of the bind is the one to tell.
            let _ = resource.destroy(py);
        })
    }

    /// Keeps a resource of this package, whose handle a call is about, from being destroyed meanwhile.
    fn pin<'a>(
        &self,
        py: Python<'a>,
        ours: Option<&'a Bound<'_, ResourceObject>>,
    ) -> PyResult<Option<Pinned<'a>>> {
        let Some(ours) = ours.map(|it| &it.get().resource) else { return Ok(None) };
        let pin = ours.enter(py)?;
        ours.check_device(py, &self.state.device)?;
        Ok(Some(pin))
    }
}

/// `Allocator.create_buffer`. The one method that is called for each thing of a frame.
pub struct CreateBuffer;

impl FastMethod<2> for CreateBuffer {
    type Class = Allocator;
    const NAME: &'static CStr = c"create_buffer";
    const POSITIONAL: [&'static str; 2] = ["size", "buffer_usage"];
    const DOC: &'static CStr = c"create_buffer($self, size=None, buffer_usage=None, **keywords)
--

Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`).

Called as `create_buffer(size, buffer_usage)` with the size in bytes and a `BufferUsage`, or names
of it as `\"VERTEX_BUFFER|TRANSFER_DST\"`, or with a `VkBufferCreateInfo`: a struct of any binding in first place, or `info=` a struct or its
address. Its `pNext` chain goes to Vulkan untouched.

Beside those of an allocation (see `AllocationCreateInfo`; `MemoryUsage.AUTO` by default), the
keywords are `create_flags` (`BufferCreateFlags`), `sharing_mode` and `queue_family_indices`.
A failure leaves nothing behind.

With `data` it is filled from an array, as by `Buffer.upload`: its size is that of the data where none is given, and
`TRANSFER_DST` is added to its usage. Where that fails the buffer is destroyed.

With `export_handle_types` the memory can be exported (`export_fd`). One of `import_fd`,
`import_win32_handle` and `import_host_pointer` puts the buffer on memory that others made, as
`import_memory_fd` and its relatives do, with the same fate of a descriptor. Beside it stand
`import_handle_type`; `import_size`, of the whole `VkDeviceMemory` (what the buffer needs by
default, in whole pages where `import_host_pointer` is an address); `import_offset`, where the
buffer starts in it (0); and `import_memory_type_index`.
Memory that was exported from another allocator is described by `memory_type_index`,
`device_memory_size` and `offset` of the `Allocation` there; flags and usage are the same.

Raises `OutOfDeviceMemoryError`, `OutOfHostMemoryError`, `TooManyObjectsError`,
`FeatureNotPresentError` (no memory type serves), `InvalidArgumentError`, `UseAfterFreeError`
(closed).";

    fn plain_call<'py>(
        slf: &Bound<'py, Allocator>,
        positional: [Option<&Bound<'py, PyAny>>; 2],
    ) -> Option<PyResult<Py<PyAny>>> {
        let [Some(size), Some(usage)] = positional else { return None };
        // Anything else may be a struct, which is kept for the time of the call.
        if !size.is_exact_instance_of::<PyInt>() {
            return None;
        }
        Some(slf.get().create_plain_buffer(slf.py(), size, usage).map(Py::into_any))
    }

    fn call<'py>(
        slf: &Bound<'py, Allocator>,
        [size, usage]: [Option<&Bound<'py, PyAny>>; 2],
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        slf.get().create_buffer(slf.py(), size, usage, keywords).map(Py::into_any)
    }
}

#[pymethods]
impl Allocator {
    /// Creates an image, allocates its memory and binds it (`vmaCreateImage`).
    ///
    /// Called as `create_image(format, extent, image_usage)`, where format and usage may be names, as
    /// `"R8G8B8A8_UNORM"` or WebGPU's `"rgba8unorm"`, and the extent is one to three sides in texels,
    /// width first, and makes a 1D, 2D or 3D image (for a NumPy array of rows that is
    /// `(a.shape[1], a.shape[0])`), or with a `VkImageCreateInfo` as in `create_buffer`.
    ///
    /// Beside those of an allocation the keywords are `tiling` (`ImageTiling.OPTIMAL` by default),
    /// `mip_levels`, `array_layers` and `samples` (1), `image_type`, `initial_layout`, `create_flags`
    /// (`ImageCreateFlags`), `sharing_mode` and `queue_family_indices`.
    ///
    /// Raises what `create_buffer` raises.
    #[pyo3(signature = (format = None, extent = None, image_usage = None, **keywords))]
    fn create_image(
        &self,
        py: Python<'_>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Image>> {
        let _inside = self.state.enter(py)?;
        let (mut image, mut import) = (ImageKeywords::default(), ImportKeywords::default());
        let keywords = Keywords::read("create_image", keywords, |key, value| {
            Ok(import.take(key, value)? || image.take(key, value)?)
        })?;
        let built = create_info::image(py, [format, extent, image_usage], image)?;
        let info = &built.info;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        if let Some(importing) = import.finish(py)? {
            return self.import_image(py, keywords, &built, importing);
        }
        let (image, allocation) = self.attempt(py, || {
            let (allocator, create) = (&self.state.device_allocator, &keywords.create);
            // SAFETY: made here, or a struct of the caller's that interop has checked.
            unsafe { allocator.create_image(info, create, |on, request| allocate(py, on, request)) }
        })?;
        self.finish(py, keywords, Made::image(image, allocation, info), Image::of(info))
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
        let size = unsigned(size, "size")?;
        let alignment = alignment.map_or(Ok(1), |it| unsigned(it, "alignment"))?;
        let request = AllocationRequest::of_memory(size, alignment, &keywords.create);
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
        let ours = named_buffer(buffer)?;
        let ours = ours.as_ref().map(|it| it.as_super());
        let _pin = self.pin(py, ours)?;
        let buffer = vk::Buffer::from_raw(live_handle(buffer, "VkBuffer", "buffer")?);
        // SAFETY: the caller vouches for the handle, or it is of a pinned buffer of this device.
        let request =
            unsafe { self.state.device_allocator.request_for_buffer(buffer, &keywords.create) };
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            self.bind_or_free(allocation.bind(py), ResourceHandle::Buffer(buffer), ours)?;
        }
        Ok(allocation)
    }

    /// Allocates what a `VkImage` of the caller's needs, and binds it if `bind`
    /// (`vmaAllocateMemoryForImage`).
    ///
    /// `tiling` is the `ImageTiling` it was created with; without it the memory shares no page of
    /// `buffer_image_granularity` bytes with anything.
    ///
    /// Of a disjoint image `plane` says which plane the memory is for, counted from 0, or which planes, as
    /// `(0, 1)`: those lie one behind the other, each as aligned as it needs
    /// (`VkImagePlaneMemoryRequirementsInfo`), and `bind` binds them in one call. Where they start is for
    /// the caller to compute from their requirements, or to leave to `bind`.
    ///
    /// Raises what `create_buffer` raises.
    #[pyo3(signature = (image, *, bind = false, **keywords))]
    fn allocate_memory_for_image(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        bind: bool,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let (mut tiling, mut planes) = (None, None);
        let keywords = Keywords::read("allocate_memory_for_image", keywords, |key, value| {
            match key {
                "tiling" | "plane" if value.is_none() => {}
                "tiling" => {
                    let number = of_class(value, key, &IMAGE_TILING)?;
                    tiling = Some(vk::ImageTiling::from_raw(number as i32));
                }
                "plane" => planes = Some(create_info::planes(value)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let ours = image.cast::<Image>().ok().map(|it| it.as_super());
        let _pin = self.pin(py, ours)?;
        let image = vk::Image::from_raw(live_handle(image, "VkImage", "image")?);
        if let Some(planes) = planes {
            return self.memory_for_planes(py, keywords, image, &planes, tiling, bind);
        }
        // SAFETY: the caller vouches for the handle, or it is of a pinned image of this device.
        let request = unsafe {
            self.state.device_allocator.request_for_image(image, tiling, &keywords.create)
        };
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            self.bind_or_free(allocation.bind(py), ResourceHandle::Image(image), ours)?;
        }
        Ok(allocation)
    }
}
