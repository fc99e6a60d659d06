//! `vk_mem.Image`.

use ash::vk;
use pyo3::prelude::*;
use vkmem_vulkan::BindPlace;

use super::allocation::Allocation;
use super::resource::ResourceObject;
use crate::arguments::numbers::flags;

/// A `VkImage` and its memory.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Image {
    pub format: u32,
    pub extent: (u32, u32, u32),
    pub samples: u32,
    pub(super) image_type: u32,
    pub(super) mip_levels: u32,
    pub(super) array_layers: u32,
    pub(super) tiling: u32,
    pub(super) create_flags: u32,
}

impl Image {
    /// Takes the properties from a create info.
    pub fn of(info: &vk::ImageCreateInfo<'_>) -> Self {
        Self {
            format: info.format.as_raw() as u32,
            extent: (info.extent.width, info.extent.height, info.extent.depth),
            samples: info.samples.as_raw(),
            image_type: info.image_type.as_raw() as u32,
            mip_levels: info.mip_levels,
            array_layers: info.array_layers,
            tiling: info.tiling.as_raw() as u32,
            create_flags: info.flags.as_raw(),
        }
    }
}

/// Returns the properties; raises if the image was destroyed.
fn live<'a>(slf: &'a Bound<'_, Image>) -> PyResult<&'a Image> {
    slf.as_super().get().resource.check_live(slf.py())?;
    Ok(slf.get())
}

#[pymethods]
impl Image {
    /// The `VkImage`.
    #[getter]
    fn handle(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        Ok(resource.handle().raw())
    }

    /// `Format` (`VkFormat`).
    #[getter]
    fn format<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        flags(slf.py(), "Format", live(slf)?.format.into())
    }

    /// Width, height and depth in texels.
    #[getter]
    fn extent(slf: &Bound<'_, Self>) -> PyResult<(u32, u32, u32)> {
        Ok(live(slf)?.extent)
    }

    /// Width in texels.
    #[getter]
    fn width(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Self::extent(slf).map(|(width, ..)| width)
    }

    /// Height in texels; 1 for a 1D image.
    #[getter]
    fn height(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Self::extent(slf).map(|(_, height, _)| height)
    }

    /// Depth in texels; 1 for a 1D or a 2D image.
    #[getter]
    fn depth(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Self::extent(slf).map(|(.., depth)| depth)
    }

    /// Number of mip levels, each half the size of the one before.
    #[getter]
    fn mip_levels(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(live(slf)?.mip_levels)
    }

    /// Number of array layers.
    #[getter]
    fn array_layers(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(live(slf)?.array_layers)
    }

    /// `SampleCount`: samples per texel.
    #[getter]
    fn samples<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        flags(slf.py(), "SampleCount", live(slf)?.samples.into())
    }

    /// `ImageTiling`.
    #[getter]
    fn tiling<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        flags(slf.py(), "ImageTiling", live(slf)?.tiling.into())
    }

    /// `ImageType`: 1D, 2D or 3D.
    #[getter]
    fn image_type<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        flags(slf.py(), "ImageType", live(slf)?.image_type.into())
    }

    /// `ImageUsage` it was created with.
    #[getter]
    fn usage<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        flags(slf.py(), "ImageUsage", resource.usage)
    }

    /// The `Allocation` of its memory.
    #[getter]
    fn allocation<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Allocation>> {
        Allocation::of_owner(slf.as_super())
    }

    /// Binds an image that was created with `DONT_BIND` (`vmaBindImageMemory`).
    fn bind(slf: &Bound<'_, Self>) -> PyResult<()> {
        let resource = &slf.as_super().get().resource;
        resource.bind(slf.py(), resource.handle(), BindPlace::default())
    }

    /// Destroys the image and frees its memory (`vmaDestroyImage`). Does nothing if it was destroyed before.
    ///
    /// The device must have finished using it. Raises `BufferError` while a view is open.
    fn destroy(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().destroy(slf.py())
    }
}
