//! `vk_mem.Image`.

use ash::vk;
use pyo3::prelude::*;

use crate::allocation::Allocation;
use crate::bind::BindPlace;
use crate::numbers::flags;
use crate::resource_object::ResourceObject;

/// A `VkImage` and its memory.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Image {
    pub format: u32,
    pub extent: (u32, u32, u32),
    pub samples: u32,
}

impl Image {
    /// What is known of one from its create info.
    pub fn of(info: &vk::ImageCreateInfo<'_>) -> Self {
        Self {
            format: info.format.as_raw() as u32,
            extent: (info.extent.width, info.extent.height, info.extent.depth),
            samples: info.samples.as_raw(),
        }
    }
}

#[pymethods]
impl Image {
    /// The `VkImage`.
    #[getter]
    fn handle(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        Ok(resource.handles.raw())
    }

    /// `VkFormat`
    #[getter]
    fn format<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().resource.check_live(slf.py())?;
        flags(slf.py(), "Format", u64::from(slf.get().format))
    }

    /// Width, height and depth in texels.
    #[getter]
    fn extent(slf: &Bound<'_, Self>) -> PyResult<(u32, u32, u32)> {
        slf.as_super().get().resource.check_live(slf.py())?;
        Ok(slf.get().extent)
    }

    /// What it was created for.
    #[getter]
    fn usage<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        flags(slf.py(), "ImageUsage", resource.usage)
    }

    /// Its memory.
    #[getter]
    fn allocation<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Allocation>> {
        Allocation::of_owner(slf.as_super())
    }

    /// Binds an image that was created with `DONT_BIND` (`vmaBindImageMemory`).
    fn bind(slf: &Bound<'_, Self>) -> PyResult<()> {
        let resource = &slf.as_super().get().resource;
        resource.bind(slf.py(), resource.handles, BindPlace::default())
    }

    /// Destroys the image and frees its memory (`vmaDestroyImage`). Nothing happens the second time.
    ///
    /// The device must be done with it. Raises `BufferError` while a view is open.
    fn destroy(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().destroy(slf.py())
    }
}
