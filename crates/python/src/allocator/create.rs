//! Creation of single buffers, images and allocations.

use std::ffi::CStr;

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};
use vkmem_engine::{AllocationCreateInfo, AllocationRequest, Error};
use vkmem_vulkan::kept_info::{BufferLinks, ImageLinks, KeptBuffer, KeptImage, KeptInfo};
use vkmem_vulkan::{BindPlace, ResourceHandle};

use super::new_texels::NewTexels;
use super::{Allocator, allocate, no_more};
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::fast_call::FastMethod;
use crate::arguments::numbers::{
    BUFFER_USAGE, IMAGE_TILING, live_handle, of_class, unsigned, wide_of_class,
};
use crate::errors::{IntoPyResult, to_py};
use crate::interop::import::ImportKeywords;
use crate::lifetime::create::{CommonOptions, CreatedResource};
use crate::lifetime::enter::enter_pool;
use crate::lifetime::movable::Movable;
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

/// Why imported memory cannot move, nor be lost.
pub(super) const IMPORTED: &str = "its memory is imported: it belongs to others, too";

impl Allocator {
    /// Creates a buffer from a create info. The caller has pinned the pool of the keywords. `failed` is the
    /// error of a first attempt that the caller made.
    fn create_built(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        info: &vk::BufferCreateInfo<'static>,
        mut failed: Option<Error>,
    ) -> PyResult<Py<Buffer>> {
        keywords.check_losses(py)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = keywords.keep(py, || unsafe { KeptBuffer::of(info) })?;
        let (mut links, again) = (BufferLinks::default(), kept.clone());
        let info = &again.as_ref().map_or(*info, |kept| kept.info(&mut links));
        let movability = keywords.movability();
        let (buffer, allocation) = self.attempt_in(py, &keywords.create, |create| {
            if let Some(error) = failed.take() {
                return Err(error);
            }
            let allocator = &self.state.device_allocator;
            // SAFETY: created here, or a struct of the caller that interop has checked.
            unsafe {
                allocator.create_buffer(info, create, |on, request| allocate(py, on, request))
            }
        })?;
        let made = CreatedResource::buffer(buffer, allocation, info);
        let buffer = self.finish(py, keywords, made, Buffer)?;
        if let Some(kept) = kept {
            let movable = Movable::new(KeptInfo::Buffer(kept), movability);
            ResourceObject::set_movable(buffer.bind(py).as_super(), movable)?;
        }
        Ok(buffer)
    }

    /// Creates a buffer of a size and a usage, without keywords. Drops no unbound reference to a Python
    /// object; see [`FastMethod::plain_call`].
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
        self.state.note_call_site(py);
        // SAFETY: created here.
        let made = unsafe {
            let allocator = &self.state.device_allocator;
            allocator.create_buffer(&info, &create, |on, request| match on.try_allocate(request) {
                Some(allocation) => Ok(allocation),
                None => self.allocate_first_choice(py, request),
            })
        };
        match made {
            Ok((buffer, allocation)) => {
                let made = CreatedResource::buffer(buffer, allocation, &info);
                let resource = Resource::create(py, &self.state, made, &CommonOptions::default())?;
                self.create_object(py, resource, None, None, Buffer)
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
            keywords.refuse_movable(py, IMPORTED)?;
            keywords.refuse_losable(py, IMPORTED)?;
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
            Some(importing) => {
                keywords.refuse_movable(py, IMPORTED)?;
                keywords.refuse_losable(py, IMPORTED)?;
                self.import_buffer(py, keywords, &built, importing)?
            }
            None => self.create_built(py, keywords, &built.info, None)?,
        };
        Transfers::of(&self.state).fill_new(buffer.bind(py), data).inspect_err(|_| {
            // What went wrong with the data is the one to tell.
            let _ = buffer.bind(py).as_super().get().destroy(py);
        })?;
        Ok(buffer)
    }

    /// Creates an image from a create info. The caller has pinned the pool of the keywords.
    fn create_built_image(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        info: &vk::ImageCreateInfo<'static>,
    ) -> PyResult<Py<Image>> {
        keywords.check_losses(py)?;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        let kept = keywords.keep(py, || unsafe { KeptImage::of(info) })?;
        let (mut links, again) = (ImageLinks::default(), kept.clone());
        let info = &again.as_ref().map_or(*info, |kept| kept.info(&mut links));
        let movability = keywords.movability();
        let (image, allocation) = self.attempt_in(py, &keywords.create, |create| {
            let allocator = &self.state.device_allocator;
            // SAFETY: created here, or a struct of the caller that interop has checked.
            unsafe { allocator.create_image(info, create, |on, request| allocate(py, on, request)) }
        })?;
        let made = CreatedResource::image(image, allocation, info);
        let image = self.finish(py, keywords, made, Image::of(info))?;
        if let Some(kept) = kept {
            let movable = Movable::new(KeptInfo::Image(kept), movability);
            ResourceObject::set_movable(image.bind(py).as_super(), movable)?;
        }
        Ok(image)
    }

    /// Allocates memory for planes of a disjoint image of the caller.
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
        // SAFETY: the caller guarantees the handle and its planes.
        let request =
            unsafe { allocator.request_for_planes(image, planes, tiling, &keywords.create) };
        let (request, offsets) = request.or_raise(py)?;
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            let resource = &allocation.bind(py).as_super().get().resource;
            let pin = resource.enter(py)?;
            let places = planes.iter().copied().zip(offsets);
            // SAFETY: the memory is live, pinned and large enough; the caller guarantees the image.
            let bound = unsafe { allocator.bind_planes(image, &resource.allocation(), places) };
            drop(pin);
            if let Err(error) = bound {
                // The error of the bind is the one to raise.
                let _ = resource.destroy(py);
                return Err(to_py(py, &error));
            }
        }
        Ok(allocation)
    }

    /// Binds a buffer or image of the caller; frees the memory again if that fails.
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
            // The error of the bind is the one to raise.
            let _ = resource.destroy(py);
        })
    }

    /// Pins a resource of this package whose handle was passed, so that it is not destroyed during the call.
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

/// `Allocator.create_buffer`: the method that is called most often, for every resource of a frame.
pub struct CreateBuffer;

impl FastMethod<2> for CreateBuffer {
    type Class = Allocator;
    const NAME: &'static CStr = c"create_buffer";
    const POSITIONAL: [&'static str; 2] = ["size", "buffer_usage"];
    const DOC: &'static CStr = c"create_buffer($self, size=None, buffer_usage=None, **keywords)
--

Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`).

Called as `create_buffer(size, buffer_usage)` with the size in bytes and a `BufferUsage`, or names
of it such as `\"VERTEX_BUFFER|TRANSFER_DST\"`; or with a `VkBufferCreateInfo`: a struct of any
binding as the first argument, or `info=` a struct or its address. Its `pNext` chain is passed on
unchanged.

Keywords, besides those of an allocation (see `AllocationCreateInfo`; `MemoryUsage.AUTO` by
default), are `create_flags` (`BufferCreateFlags`), `sharing_mode` and `queue_family_indices`.
A failure leaves nothing behind.

With `data` it is filled from an array, as by `Buffer.upload`: its size is that of the data where none is given, and
`TRANSFER_DST` is added to its usage. Where that fails the buffer is destroyed.

With `export_handle_types` the memory can be exported (`export_fd`). One of `import_fd`,
`import_win32_handle` and `import_host_pointer` creates the buffer in imported memory, as
`import_memory_fd`, `import_memory_win32_handle` and `import_host_pointer` do; a descriptor is
consumed on success. Their keywords are `import_handle_type`; `import_size`, the size of the whole
`VkDeviceMemory` (by default what the buffer requires, in whole pages if `import_host_pointer` is
an address); `import_offset`, the offset of the buffer in it (0); and `import_memory_type_index`.
Memory that was exported from another allocator is described by `memory_type_index`,
`device_memory_size` and `offset` of the `Allocation` there; flags and usage have to be the same.

Raises `OutOfDeviceMemoryError`, `OutOfHostMemoryError`, `TooManyObjectsError`,
`FeatureNotPresentError` (no suitable memory type), `InvalidArgumentError`, `UseAfterFreeError`
(closed).";

    fn plain_call<'py>(
        slf: &Bound<'py, Allocator>,
        positional: [Option<&Bound<'py, PyAny>>; 2],
    ) -> Option<PyResult<Py<PyAny>>> {
        let [Some(size), Some(usage)] = positional else { return None };
        // Any other object may be a struct, which has to be kept alive during the call.
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
    /// Called as `create_image(format, extent, image_usage)`, or with a `VkImageCreateInfo` as in
    /// `create_buffer`. Format and usage may be names, such as `"R8G8B8A8_UNORM"` or WebGPU's `"rgba8unorm"`.
    /// The extent has one to three sides in texels, width first, which gives a 1D, 2D or 3D image (for a
    /// NumPy array of rows: `(a.shape[1], a.shape[0])`).
    ///
    /// Keywords, besides those of an allocation, are `tiling` (`ImageTiling.OPTIMAL` by default),
    /// `mip_levels`, `array_layers` and `samples` (1), `image_type`, `initial_layout`, `create_flags`
    /// (`ImageCreateFlags`), `sharing_mode` and `queue_family_indices`.
    ///
    /// With `data` the first mip level of all layers is filled from an array, as by `Image.upload`, and left in
    /// `layout`; `TRANSFER_DST` is added to the usage. With `generate_mipmaps=True` the other levels are made of
    /// it, as by `Image.generate_mipmaps`: all down to a single texel unless `mip_levels` is given;
    /// `TRANSFER_SRC` is added, too. A create-info struct keeps its own usage and levels. Where that fails the
    /// image is destroyed.
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
        let mut texels = NewTexels::default();
        let keywords = Keywords::read("create_image", keywords, |key, value| {
            Ok(import.take(key, value)? || texels.take(key, value)? || image.take(key, value)?)
        })?;
        let of_struct = image.common.has_info() || image_usage.is_none();
        let has_mip_levels = image.has_mip_levels();
        let mut built = create_info::image(py, [format, extent, image_usage], image)?;
        texels.prepare(py, &mut built.info, of_struct, has_mip_levels)?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        let made = match import.finish(py)? {
            Some(importing) => {
                keywords.refuse_movable(py, IMPORTED)?;
                keywords.refuse_losable(py, IMPORTED)?;
                self.import_image(py, keywords, &built, importing)?
            }
            None => self.create_built_image(py, keywords, &built.info)?,
        };
        texels.fill(&self.state, made.bind(py))?;
        Ok(made)
    }

    /// Allocates `size` bytes without a buffer or an image (`vmaAllocateMemory`).
    ///
    /// `alignment` is a power of two, in bytes. `memory_type_bits` is a mask of allowed memory types, by
    /// default all. As the kind of resource is unknown, the allocation shares no page of
    /// `buffer_image_granularity` bytes with any other.
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

    /// Allocates the memory that a `VkBuffer` of the caller requires; binds it if `bind` is true
    /// (`vmaAllocateMemoryForBuffer`).
    ///
    /// Takes the handle of any binding. The caller keeps the buffer, and destroys it before freeing the
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
        // SAFETY: the caller guarantees the handle, or it is of a pinned buffer of this device.
        let request =
            unsafe { self.state.device_allocator.request_for_buffer(buffer, &keywords.create) };
        let allocation = self.bare_memory(py, keywords, &request)?;
        if bind {
            self.bind_or_free(allocation.bind(py), ResourceHandle::Buffer(buffer), ours)?;
        }
        Ok(allocation)
    }

    /// Allocates the memory that a `VkImage` of the caller requires; binds it if `bind` is true
    /// (`vmaAllocateMemoryForImage`).
    ///
    /// `tiling` is the `ImageTiling` the image was created with; without it the allocation shares no page of
    /// `buffer_image_granularity` bytes with any other.
    ///
    /// For a disjoint image, `plane` is the index of the plane that the memory is for, counted from 0, or
    /// several, such as `(0, 1)`: they are placed one after the other, each at its alignment
    /// (`VkImagePlaneMemoryRequirementsInfo`), and `bind` binds them in one call. A caller that binds them
    /// itself computes their offsets from their requirements.
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
        // SAFETY: the caller guarantees the handle, or it is of a pinned image of this device.
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
