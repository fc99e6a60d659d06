//! Where the texels of a linearly tiled image lie, and the image as an array of NumPy.

use ash::vk;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_vulkan::ResourceHandle;
use vkmem_vulkan::texel::{self, AspectTexels, ComponentKind};

use super::image::Image;
use crate::arguments::numbers::{IMAGE_ASPECT, of_class, unsigned_32};
use crate::errors::invalid;
use crate::package::{SUBRESOURCE_LAYOUT, TEXEL_ARRAY};

/// A mip level, an array layer and one aspect of an image.
fn subresource(
    slf: &Bound<'_, Image>,
    mip_level: Option<&Bound<'_, PyAny>>,
    array_layer: Option<&Bound<'_, PyAny>>,
    aspect: Option<&Bound<'_, PyAny>>,
) -> PyResult<vk::ImageSubresource> {
    let (py, image) = (slf.py(), slf.get());
    let number = |value: Option<&Bound<'_, PyAny>>, name, count, one| {
        let value = value.map_or(Ok(0), |value| unsigned_32(value, name))?;
        if value < count {
            return Ok(value);
        }
        let what = slf.as_super().get().resource.describe();
        Err(invalid(py, format!("{name} is {value}: {what} has {count} {one}")))
    };
    let mip_level = number(mip_level, "mip_level", image.mip_levels, "mip levels")?;
    let array_layer = number(array_layer, "array_layer", image.array_layers, "array layers")?;
    let format = vk::Format::from_raw(image.format as i32);
    let known = texel::aspects(format);
    let first = 1 << known.as_raw().trailing_zeros();
    let aspect = aspect.map_or(Ok(first), |aspect| of_class(aspect, "aspect", &IMAGE_ASPECT))?;
    let aspect_mask = vk::ImageAspectFlags::from_raw(aspect);
    if aspect.count_ones() != 1 || !known.contains(aspect_mask) {
        let why =
            format!("aspect is {aspect:#x}: one of those of {format:?}, {known:?}, is wanted");
        return Err(invalid(py, why));
    }
    Ok(vk::ImageSubresource { aspect_mask, mip_level, array_layer })
}

/// `vkGetImageSubresourceLayout`; what means nothing for the kind of image is 0.
fn layout(
    slf: &Bound<'_, Image>,
    subresource: vk::ImageSubresource,
) -> PyResult<vk::SubresourceLayout> {
    let (py, image, resource) = (slf.py(), slf.get(), &slf.as_super().get().resource);
    let _pin = resource.enter(py)?;
    if image.tiling != vk::ImageTiling::LINEAR.as_raw() as u32 {
        let what = resource.describe();
        let why =
            format!("{what} is not of tiling LINEAR: its texels have no rows that Vulkan tells of");
        return Err(invalid(py, why));
    }
    let ResourceHandle::Image(handle) = resource.handle() else {
        return Err(invalid(py, "not an image"));
    };
    let driver = resource.allocator.device_allocator.driver();
    // SAFETY: a live, pinned image of this device and of linear tiling, and a subresource that it has.
    let mut found = unsafe { driver.subresource_layout(handle, subresource) };
    if image.array_layers == 1 {
        found.array_pitch = 0;
    }
    if image.image_type != vk::ImageType::TYPE_3D.as_raw() as u32 {
        found.depth_pitch = 0;
    }
    Ok(found)
}

/// That of the first subresource.
fn first(slf: &Bound<'_, Image>) -> PyResult<vk::SubresourceLayout> {
    slf.as_super().get().resource.check_live(slf.py())?;
    layout(slf, subresource(slf, None, None, None)?)
}

/// What NumPy calls the components of a texel, their bytes and their number: bytes where they have no one size.
pub fn dtype(texels: &AspectTexels) -> (String, u64, u64) {
    let Some(components) = texels.components else {
        return ("u1".into(), 1, texels.block.bytes.into());
    };
    let kind = match components.kind {
        ComponentKind::Unsigned => 'u',
        ComponentKind::Signed => 'i',
        ComponentKind::Float => 'f',
    };
    let bytes = components.bytes;
    (format!("{kind}{bytes}"), bytes.into(), components.count.into())
}

#[pymethods]
impl Image {
    /// Where a mip level and layer of an image of tiling `LINEAR` lies: a `SubresourceLayout` of `offset`, `size`,
    /// `row_pitch`, `array_pitch` and `depth_pitch` in bytes (`vkGetImageSubresourceLayout`). `array_pitch` is
    /// 0 without further layers, `depth_pitch` of an image that is not 3D.
    ///
    /// `aspect` is one `ImageAspect` of the format, the first one by default: `COLOR`, `DEPTH` or `STENCIL`,
    /// or a plane.
    ///
    /// Raises `InvalidArgumentError` for another tiling, or for what the image has not.
    #[pyo3(signature = (mip_level = None, array_layer = None, aspect = None))]
    fn subresource_layout<'py>(
        slf: &Bound<'py, Self>,
        mip_level: Option<&Bound<'py, PyAny>>,
        array_layer: Option<&Bound<'py, PyAny>>,
        aspect: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().resource.check_live(slf.py())?;
        let found = layout(slf, subresource(slf, mip_level, array_layer, aspect)?)?;
        SUBRESOURCE_LAYOUT.get(slf.py())?.call1((
            found.offset,
            found.size,
            found.row_pitch,
            found.array_pitch,
            found.depth_pitch,
        ))
    }

    /// Bytes from one row to the next of an image of tiling `LINEAR`; see `subresource_layout`.
    #[getter]
    fn row_pitch(slf: &Bound<'_, Self>) -> PyResult<u64> {
        first(slf).map(|it| it.row_pitch)
    }

    /// Bytes from one layer to the next; see `subresource_layout`.
    #[getter]
    fn array_pitch(slf: &Bound<'_, Self>) -> PyResult<u64> {
        first(slf).map(|it| it.array_pitch)
    }

    /// Bytes from one slice of a 3D image to the next; see `subresource_layout`.
    #[getter]
    fn depth_pitch(slf: &Bound<'_, Self>) -> PyResult<u64> {
        first(slf).map(|it| it.depth_pitch)
    }

    /// A NumPy array that is a view of a mip level and layer of an image of tiling `LINEAR`, as `Buffer.numpy` is
    /// one of a buffer: of shape `(height, width, channels)`, and `(depth, height, width, channels)` if it is 3D.
    ///
    /// Its dtype is that of the components, if they are of one size of 8, 16, 32 or 64 bits: normalized ones as
    /// the integers that they are stored as. Else the last side counts the bytes of a texel, or of a block of a
    /// compressed format, whose height and width count blocks.
    ///
    /// Raises what `map` and `subresource_layout` raise, and `InvalidArgumentError` for formats that are not
    /// known, of depth and stencil together, and for images created `DISJOINT`.
    #[pyo3(signature = (mip_level = None, array_layer = None, aspect = None, *, readonly = false))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        mip_level: Option<&Bound<'py, PyAny>>,
        array_layer: Option<&Bound<'py, PyAny>>,
        aspect: Option<&Bound<'py, PyAny>>,
        readonly: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, image, face) = (slf.py(), slf.get(), slf.as_super().get().face());
        drop(if readonly { face.enter_host_to_read(py)? } else { face.enter_host(py)? });
        let subresource = subresource(slf, mip_level, array_layer, aspect)?;
        let found = layout(slf, subresource)?;
        let refuse = |why: &str| invalid(py, format!("{} {why}", face.describe()));
        if image.create_flags & vk::ImageCreateFlags::DISJOINT.as_raw() != 0 {
            return Err(refuse("is disjoint: each of its planes has a place of its own"));
        }
        let format = vk::Format::from_raw(image.format as i32);
        let texels = texel::texels(format, subresource.aspect_mask).ok_or_else(|| {
            refuse(&format!("is of {format:?}, whose texels are no array that is known"))
        })?;
        let smaller = |length: u32| (length >> subresource.mip_level).max(1);
        let (width, height, depth) = image.extent;
        let columns = u64::from(smaller(width).div_ceil(texels.block.width));
        let rows = u64::from(smaller(height).div_ceil(texels.block.height));
        let (dtype, item, channels) = dtype(&texels);
        let texel = u64::from(texels.block.bytes);
        let (mut shape, mut strides) =
            (vec![rows, columns, channels], vec![found.row_pitch, texel, item]);
        if image.image_type == vk::ImageType::TYPE_3D.as_raw() as u32 {
            shape.insert(0, smaller(depth).into());
            strides.insert(0, found.depth_pitch);
        }
        let last = |(side, stride): (&u64, &u64)| (side - 1) * stride;
        let size = shape.iter().zip(&strides).map(last).sum::<u64>() + item;
        let (shape, strides) = (PyTuple::new(py, shape)?, PyTuple::new(py, strides)?);
        TEXEL_ARRAY.get(py)?.call1((slf, found.offset, size, dtype, shape, strides, readonly))
    }
}
