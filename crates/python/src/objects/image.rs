//! `vk_mem.Image`.

use std::sync::{Arc, OnceLock};

use ash::vk;
use pyo3::prelude::*;
use vkmem_vulkan::{BindPlace, HostCopyPerformance, ImageContents, TrackedLayout};

use super::allocation::Allocation;
use super::resource::ResourceObject;
use crate::arguments::image_layout::read_image_layout;
use crate::arguments::numbers::flags;
use crate::errors::invalid;

/// A `VkImage` and its memory.
#[pyclass(module = "vk_mem", extends = ResourceObject, frozen)]
pub struct Image {
    pub format: u32,
    pub extent: (u32, u32, u32),
    pub samples: u32,
    pub image_type: u32,
    pub mip_levels: u32,
    pub array_layers: u32,
    pub tiling: u32,
    pub create_flags: u32,
    pub initial_layout: vk::ImageLayout,
    /// What copies by the host cost it, once that was asked.
    pub host_copies: OnceLock<Option<HostCopyPerformance>>,
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
            initial_layout: info.initial_layout,
            host_copies: OnceLock::new(),
        }
    }
}

/// What a clear of an image needs to know.
pub fn contents(image: &Image) -> ImageContents {
    ImageContents {
        format: vk::Format::from_raw(image.format.cast_signed()),
        tiling: vk::ImageTiling::from_raw(image.tiling.cast_signed()),
        initial_layout: image.initial_layout,
    }
}

/// The layout of an image, as far as this package knows.
pub fn tracked_layout<'a>(image: &'a Bound<'_, Image>) -> &'a Arc<TrackedLayout> {
    image.as_super().get().resource.layout(image.get().initial_layout)
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
        resource.check_used(slf.py())?;
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

    /// `ImageLayout` that the whole image is in once the device has done what was submitted: that of the last
    /// upload, download or chain of mip levels, or the initial one. Set it after commands of your own that
    /// leave the image in another layout; nothing is submitted then.
    ///
    /// Raises `InvalidArgumentError` for a number that is no layout.
    #[getter]
    fn layout<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        live(slf)?;
        // Numbers of layouts are not negative.
        let layout = tracked_layout(slf).get().as_raw() as u32;
        flags(slf.py(), "ImageLayout", layout.into())
    }

    #[setter]
    fn set_layout(slf: &Bound<'_, Self>, layout: &Bound<'_, PyAny>) -> PyResult<()> {
        live(slf)?;
        let layout = read_image_layout(layout)?;
        if layout == vk::ImageLayout::PREINITIALIZED
            && slf.get().initial_layout != vk::ImageLayout::PREINITIALIZED
        {
            let why = "layout is PREINITIALIZED, and the image was not created in that";
            return Err(invalid(slf.py(), why));
        }
        tracked_layout(slf).set(layout);
        Ok(())
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
