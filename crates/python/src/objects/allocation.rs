//! `vk_mem.Allocation`.

use std::hash::{DefaultHasher, Hash, Hasher};

use ash::vk;
use ash::vk::Handle;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::arguments::numbers::{flags, live_handle, real};
use crate::errors::{feature_not_present, invalid, pinned};
use crate::interop::export::memory_of;
use crate::lifetime::bind::BindPlace;
use crate::lifetime::handles::Handles;
use crate::lifetime::ownership::Held;
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;
use crate::package::BUFFER_SLICE;
use vkmem_engine::words::with_article;

/// A range of device memory: of a `Buffer` or an `Image`, or on its own.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Allocation;

impl Allocation {
    /// The memory of a `Buffer` or an `Image`.
    pub fn of_owner<'py>(owner: &Bound<'py, ResourceObject>) -> PyResult<Bound<'py, Self>> {
        owner.get().resource.check_live(owner.py())?;
        ResourceObject::make(owner.py(), ResourceObject::of_owner(owner), Self)
    }
}

fn resource<'a>(slf: &'a Bound<'_, Allocation>) -> PyResult<&'a Held> {
    let resource = &slf.as_super().get().resource;
    resource.check_live(slf.py())?;
    Ok(resource)
}

/// The `Buffer` that a caller names instead of a `VkBuffer`, or whose slice it names. `None` for a handle
/// of the caller's own.
pub fn named_buffer<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Buffer>>> {
    if value.is_exact_instance_of::<PyInt>() {
        return Ok(None);
    }
    if value.get_type().is_subclass(BUFFER_SLICE.get(value.py())?)? {
        return Ok(value.getattr(intern!(value.py(), "buffer"))?.cast_into().ok());
    }
    Ok(value.cast().ok().cloned())
}

/// Binds a buffer or an image of this package, which stays alive meanwhile.
pub fn bind_ours(
    slf: &Bound<'_, Allocation>,
    object: &Bound<'_, ResourceObject>,
    place: BindPlace,
) -> PyResult<()> {
    let (py, ours) = (slf.py(), &object.get().resource);
    let _pin = ours.enter(py)?;
    let memory = resource(slf)?;
    ours.check_device(py, &memory.allocator.device)?;
    if memory.ptr_eq(ours) {
        return memory.bind(py, ours.handles, place);
    }
    // A view of it would be one of other memory than its own from now on, and where that is memory of the
    // view, each would keep the other for ever.
    if !ours.is_bound() && ours.has_open_mapping() {
        let (ours, memory) = (ours.describe(), slf.as_super().get().face().describe());
        let why = "a view of its own memory is open";
        return Err(pinned(format!("cannot bind {ours} to {memory}: {why}")));
    }
    memory.bind(py, ours.handles, place)?;
    ResourceObject::lies_in(object, slf.as_super());
    Ok(())
}

#[pymethods]
impl Allocation {
    /// The `VkDeviceMemory` it lies in.
    #[getter]
    fn device_memory(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation.memory.0)
    }

    /// Where it starts in `device_memory`, in bytes.
    #[getter]
    fn offset(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation.offset)
    }

    /// In bytes.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation.size)
    }

    /// Index into the device's memory types.
    #[getter]
    fn memory_type_index(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(resource(slf)?.allocation.memory_type_index)
    }

    /// What memory of its type can do.
    #[getter]
    fn memory_properties<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let resource = resource(slf)?;
        let info = resource.allocator.device_allocator.driver().info();
        let bits = info.flags_of(resource.allocation.memory_type_index).bits();
        flags(slf.py(), "MemoryPropertyFlags", u64::from(bits))
    }

    /// Whether it has the `VkDeviceMemory` for itself (`VmaAllocationInfo2::dedicatedMemory`). Not whether
    /// that names a resource: see `names_resource`.
    #[getter]
    fn is_dedicated(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(resource(slf)?.allocation.is_dedicated())
    }

    /// Whether the `VkDeviceMemory` was allocated for its one buffer or image
    /// (`VkMemoryDedicatedAllocateInfo`), and no other may be bound to it. Whoever imports it has to say the
    /// same: CUDA by the flag `cudaExternalMemoryDedicated` (`CUDA_EXTERNAL_MEMORY_DEDICATED`), Vulkan by
    /// naming its own resource.
    #[getter]
    fn names_resource(slf: &Bound<'_, Self>) -> PyResult<bool> {
        memory_of(slf.py(), resource(slf)?).map(|memory| memory.names_resource)
    }

    /// Bytes of the whole `device_memory`: what an import elsewhere has to be told.
    #[getter]
    fn device_memory_size(slf: &Bound<'_, Self>) -> PyResult<u64> {
        memory_of(slf.py(), resource(slf)?).map(|memory| memory.size)
    }

    /// `ExternalMemoryHandleType` that `device_memory` can be exported as.
    #[getter]
    fn export_handle_types<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let types = memory_of(slf.py(), resource(slf)?)?.export_handle_types;
        flags(slf.py(), "ExternalMemoryHandleType", types.into())
    }

    /// Binds a buffer, `offset` bytes into this memory (`vmaBindBufferMemory2`): a `VkBuffer` of the
    /// caller's, or a `Buffer` that was created with `DONT_BIND`. The memory of such a `Buffer` is then
    /// this one: its own stays unused, and reading, writing or mapping the `Buffer` is refused.
    ///
    /// `bind_next` is the address or the first struct of a `pNext` chain of `VkBindBufferMemoryInfo`.
    /// Raises `FeatureNotPresentError` for one without Vulkan 1.1 and `VK_KHR_bind_memory2`.
    #[pyo3(signature = (buffer, offset = None, *, bind_next = None))]
    fn bind_buffer(
        slf: &Bound<'_, Self>,
        buffer: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        bind_next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let place = BindPlace::read(offset, bind_next)?;
        if let Some(ours) = named_buffer(buffer)? {
            return bind_ours(slf, ours.as_super(), place);
        }
        let buffer = vk::Buffer::from_raw(live_handle(buffer, "VkBuffer", "buffer")?);
        resource(slf)?.bind(slf.py(), Handles::Buffer(buffer), place)
    }

    /// Binds an image, `offset` bytes into this memory (`vmaBindImageMemory2`): a `VkImage` of the
    /// caller's, or an `Image`, as in `bind_buffer`. `bind_next` is a chain of `VkBindImageMemoryInfo`.
    #[pyo3(signature = (image, offset = None, *, bind_next = None))]
    fn bind_image(
        slf: &Bound<'_, Self>,
        image: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        bind_next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let place = BindPlace::read(offset, bind_next)?;
        if let Ok(ours) = image.cast::<Image>() {
            return bind_ours(slf, ours.as_super(), place);
        }
        let image = vk::Image::from_raw(live_handle(image, "VkImage", "image")?);
        resource(slf)?.bind(slf.py(), Handles::Image(image), place)
    }

    /// Frees memory of `allocate_memory*` (`vmaFreeMemory`). Nothing happens the second time.
    ///
    /// Raises `BufferError` while a view is open, and `InvalidArgumentError` for the memory of a `Buffer`
    /// or an `Image`, which is freed with that.
    fn free(slf: &Bound<'_, Self>) -> PyResult<()> {
        let base = slf.as_super().get();
        if base.has_owner() && !base.resource.pins.is_closed() {
            let class = base.resource.handles.class();
            return Err(invalid(
                slf.py(),
                format!("this memory belongs to {}: call destroy() on that", with_article(class)),
            ));
        }
        base.resource.destroy(slf.py())
    }

    /// Changes how likely the memory stays on the device when that runs short, from 0 to 1
    /// (`vkSetDeviceMemoryPriorityEXT`). Dedicated memory only: a block is shared by many.
    ///
    /// Raises `FeatureNotPresentError` without `VK_EXT_pageable_device_local_memory`.
    fn set_priority(slf: &Bound<'_, Self>, priority: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let priority = real(priority, "priority")? as f32;
        let resource = resource(slf)?;
        let _pin = resource.enter(py)?;
        if !(0.0..=1.0).contains(&priority) {
            return Err(invalid(py, format!("priority is {priority}, not from 0 to 1")));
        }
        if !resource.allocation.is_dedicated() {
            let what = slf.as_super().get().face().describe();
            return Err(invalid(
                py,
                format!("{what} shares its memory object: it has no priority"),
            ));
        }
        let driver = resource.allocator.device_allocator.driver();
        // SAFETY: the memory is live and pinned, the priority checked.
        if unsafe { driver.set_memory_priority(resource.allocation.memory, priority) } {
            return Ok(());
        }
        let why = "the device was not opened with VK_EXT_pageable_device_local_memory";
        Err(feature_not_present(py, why))
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            slf.as_super().get().resource.ptr_eq(&other.as_super().get().resource)
        })
    }

    fn __hash__(slf: &Bound<'_, Self>) -> u64 {
        let mut hasher = DefaultHasher::new();
        slf.as_super().get().resource.as_ptr().hash(&mut hasher);
        hasher.finish()
    }
}
