//! `vk_mem.Buffer`.

use pyo3::prelude::*;
use vkmem_vulkan::{BindPlace, ResourceHandle};

use super::allocation::Allocation;
use super::resource::ResourceObject;
use crate::arguments::numbers::flags;
use crate::errors::{feature_not_present, invalid};

/// A `VkBuffer` and its memory.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Buffer;

#[pymethods]
impl Buffer {
    /// The `VkBuffer`.
    #[getter]
    fn handle(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let resource = &slf.as_super().get().resource;
        resource.check_used(slf.py())?;
        Ok(resource.handle().raw())
    }

    /// Requested size in bytes. The memory may be larger: `allocation.size`.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        Ok(resource.host_size)
    }

    /// `BufferUsage` it was created with.
    #[getter]
    fn usage<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        flags(slf.py(), "BufferUsage", resource.usage)
    }

    /// Address of the buffer for shaders (`vkGetBufferDeviceAddress`). Whoever has asked for it keeps a movable
    /// buffer where it is, unless that was created with `movable="with_address"`.
    ///
    /// Raises `FeatureNotPresentError` unless the device has `bufferDeviceAddress` enabled and the buffer was
    /// created with `BufferUsage.SHADER_DEVICE_ADDRESS`.
    #[getter]
    fn device_address(slf: &Bound<'_, Self>) -> PyResult<u64> {
        const SHADER_DEVICE_ADDRESS: u64 = 0x20000;
        let py = slf.py();
        let resource = &slf.as_super().get().resource;
        let _pin = resource.enter(py)?;
        if resource.usage & SHADER_DEVICE_ADDRESS == 0 {
            let what = resource.describe();
            let why = format!("{what} was created without BufferUsage.SHADER_DEVICE_ADDRESS");
            return Err(feature_not_present(py, &why));
        }
        if !resource.is_bound() {
            let what = resource.describe();
            return Err(invalid(py, format!("{what} is not bound to memory: call bind()")));
        }
        let driver = resource.allocator.device_allocator.driver();
        let address = match resource.handle() {
            // SAFETY: a live, pinned, bound buffer of this device with the usage.
            ResourceHandle::Buffer(buffer) => unsafe { driver.buffer_device_address(buffer) },
            ResourceHandle::Image(_) | ResourceHandle::Memory => None,
        };
        if let (Some(movable), Some(_)) = (resource.movable(), address) {
            movable.give_address();
        }
        address.ok_or_else(|| {
            feature_not_present(py, "the device was not opened with bufferDeviceAddress")
        })
    }

    /// The `Allocation` of its memory.
    #[getter]
    fn allocation<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Allocation>> {
        Allocation::of_owner(slf.as_super())
    }

    /// Binds a buffer that was created with `DONT_BIND` (`vmaBindBufferMemory`).
    fn bind(slf: &Bound<'_, Self>) -> PyResult<()> {
        let resource = &slf.as_super().get().resource;
        resource.bind(slf.py(), resource.handle(), BindPlace::default())
    }

    /// Destroys the buffer and frees its memory (`vmaDestroyBuffer`). Does nothing if it was destroyed
    /// before.
    ///
    /// The device must have finished using it. Raises `BufferError` while a view is open.
    fn destroy(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().destroy(slf.py())
    }
}
