//! `vk_mem.Allocation`.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::prelude::*;
use vkmem_engine::words::with_article;

use super::resource::ResourceObject;
use crate::arguments::numbers::{flags, real};
use crate::errors::{feature_not_present, invalid};
use crate::interop::export::memory_of;
use crate::lifetime::ownership::ResourceRef;

/// A range of device memory: of a `Buffer` or an `Image`, or on its own.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Allocation;

impl Allocation {
    /// Returns the `Allocation` of a `Buffer` or an `Image`.
    pub fn of_owner<'py>(owner: &Bound<'py, ResourceObject>) -> PyResult<Bound<'py, Self>> {
        owner.get().resource.check_live(owner.py())?;
        ResourceObject::make(owner.py(), ResourceObject::of_owner(owner), Self)
    }
}

/// Returns its resource, of which it notes a use; raises if that has ended.
pub fn resource<'a>(slf: &'a Bound<'_, Allocation>) -> PyResult<&'a ResourceRef> {
    let resource = &slf.as_super().get().resource;
    resource.check_used(slf.py())?;
    Ok(resource)
}

#[pymethods]
impl Allocation {
    /// The `VkDeviceMemory` that it is part of.
    #[getter]
    fn device_memory(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation().memory.0)
    }

    /// Offset in `device_memory`, in bytes.
    #[getter]
    fn offset(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation().offset)
    }

    /// Size in bytes.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(resource(slf)?.allocation().size)
    }

    /// Index into the device's memory types.
    #[getter]
    fn memory_type_index(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(resource(slf)?.allocation().memory_type_index)
    }

    /// `MemoryPropertyFlags` of its memory type.
    #[getter]
    fn memory_properties<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let resource = resource(slf)?;
        let info = resource.allocator.device_allocator.driver().info();
        let bits = info.flags_of(resource.allocation().memory_type_index).bits();
        flags(slf.py(), "MemoryPropertyFlags", u64::from(bits))
    }

    /// Whether no other allocation shares the `VkDeviceMemory` (`VmaAllocationInfo2::dedicatedMemory`). It
    /// need not have been allocated for a resource: see `names_resource`.
    #[getter]
    fn is_dedicated(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(resource(slf)?.allocation().is_dedicated())
    }

    /// Whether the `VkDeviceMemory` was allocated for its one buffer or image
    /// (`VkMemoryDedicatedAllocateInfo`), so that no other may be bound to it. An API that imports it has to
    /// be told: CUDA by the flag `cudaExternalMemoryDedicated` (`CUDA_EXTERNAL_MEMORY_DEDICATED`), Vulkan by
    /// naming the importing resource.
    #[getter]
    fn names_resource(slf: &Bound<'_, Self>) -> PyResult<bool> {
        memory_of(slf.py(), resource(slf)?).map(|memory| memory.names_resource)
    }

    /// Size of the whole `device_memory` in bytes, which an import by another API requires.
    #[getter]
    fn device_memory_size(slf: &Bound<'_, Self>) -> PyResult<u64> {
        memory_of(slf.py(), resource(slf)?).map(|memory| memory.size)
    }

    /// `ExternalMemoryHandleType` flags that `device_memory` can be exported as.
    #[getter]
    fn export_handle_types<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let types = memory_of(slf.py(), resource(slf)?)?.export_handle_types;
        flags(slf.py(), "ExternalMemoryHandleType", types.into())
    }

    /// Frees memory of `allocate_memory*` (`vmaFreeMemory`). Does nothing if it was freed before.
    ///
    /// Raises `BufferError` while a view is open, and `InvalidArgumentError` for the memory of a `Buffer` or
    /// an `Image`, which is freed together with that.
    fn free(slf: &Bound<'_, Self>) -> PyResult<()> {
        let base = slf.as_super().get();
        if base.has_owner() && !base.resource.pins.is_closed() {
            let class = base.resource.handle().class();
            return Err(invalid(
                slf.py(),
                format!("this memory belongs to {}: call destroy() on that", with_article(class)),
            ));
        }
        base.resource.destroy(slf.py())
    }

    /// Sets the priority, from 0 to 1, with which the memory stays on the device when that is short of memory
    /// (`vkSetDeviceMemoryPriorityEXT`). For dedicated memory only, as a block is shared by many resources.
    ///
    /// Raises `FeatureNotPresentError` without `VK_EXT_pageable_device_local_memory`.
    fn set_priority(slf: &Bound<'_, Self>, priority: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let priority = real(priority, "priority")? as f32;
        let resource = resource(slf)?;
        resource.allocator.change(py, || {
            let _pin = resource.enter(py)?;
            if !(0.0..=1.0).contains(&priority) {
                return Err(invalid(py, format!("priority is {priority}, not from 0 to 1")));
            }
            if !resource.allocation().is_dedicated() {
                let what = slf.as_super().get().face().describe();
                return Err(invalid(
                    py,
                    format!("{what} shares its memory object: it has no priority"),
                ));
            }
            let driver = resource.allocator.device_allocator.driver();
            // SAFETY: the memory is live and pinned, the priority was checked.
            if unsafe { driver.set_memory_priority(resource.allocation().memory, priority) } {
                return Ok(());
            }
            let why = "the device was not opened with VK_EXT_pageable_device_local_memory";
            Err(feature_not_present(py, why))
        })
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
