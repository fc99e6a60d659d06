//! Which texels of an image a transfer is about.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;
use vkmem_engine::words::bytes;
use vkmem_vulkan::texel::{self, AspectTexels};
use vkmem_vulkan::{
    ImagePart, ImageRegion, LayoutChange, ResourceHandle, TrackedLayout, UsedImage, copied_texels,
};

use super::copies::{check_bound, check_device};
use super::way::{is_shared, sharing};
use crate::arguments::image_layout::read_image_layout;
use crate::arguments::iterables;
use crate::arguments::numbers::{IMAGE_ASPECT, of_class, unsigned_32};
use crate::errors::invalid;
use crate::lifetime::ownership::{AllocatorState, Resource, ResourceRef};
use crate::objects::image::{Image, tracked_layout};
use crate::objects::image_layout::dtype;

/// The keywords that name texels.
#[derive(Clone, Copy, Default)]
pub struct RegionKeywords<'a, 'py> {
    pub mip_level: Option<&'a Bound<'py, PyAny>>,
    pub base_layer: Option<&'a Bound<'py, PyAny>>,
    pub layer_count: Option<&'a Bound<'py, PyAny>>,
    pub offset: Option<&'a Bound<'py, PyAny>>,
    pub extent: Option<&'a Bound<'py, PyAny>>,
    pub aspect: Option<&'a Bound<'py, PyAny>>,
}

impl RegionKeywords<'_, '_> {
    /// The first keyword that a buffer has not.
    pub fn of_images_only(&self) -> Option<&'static str> {
        let given = [
            (self.mip_level, "mip_level"),
            (self.base_layer, "base_layer"),
            (self.layer_count, "layer_count"),
            (self.extent, "extent"),
            (self.aspect, "aspect"),
        ];
        given.into_iter().find(|(value, _)| value.is_some()).map(|(_, name)| name)
    }
}

/// The texels of an image that a transfer is about.
pub struct ImagePlace {
    pub resource: ResourceRef,
    pub image: vk::Image,
    pub region: ImageRegion,
    /// Bytes of the texels.
    pub size: u64,
    pub texels: AspectTexels,
    pub format: vk::Format,
    pub layout: Arc<TrackedLayout>,
    pub is_linear: bool,
    pub is_disjoint: bool,
    is_3d: bool,
}

/// Up to three numbers, with `default` in place of those that are missing.
fn sides(value: &Bound<'_, PyAny>, name: &str, default: u32) -> PyResult<[u32; 3]> {
    let found = iterables::read(value, name, 3, |side| unsigned_32(side, name))?;
    if found.is_empty() {
        return Err(invalid(value.py(), format!("{name} is empty: it has one to three numbers")));
    }
    Ok(std::array::from_fn(|index| found.get(index).copied().unwrap_or(default)))
}

/// The shape of an array, if it has one.
pub fn shape_of(array: &Bound<'_, PyAny>) -> Option<Vec<u64>> {
    array.getattr("shape").ok()?.extract().ok()
}

/// Says how many of something there are where a number is none of them.
fn there_is_no(what: &str, number: u32, count: u32) -> String {
    match count {
        1 => format!("has one {what}, 0; there is no {number}"),
        _ => format!("has {count} {what}s, 0 to {}; there is no {number}", count.saturating_sub(1)),
    }
}

/// The usages of which an image needs one to be in a layout; empty where any will do.
fn usages(layout: vk::ImageLayout) -> vk::ImageUsageFlags {
    use vk::{ImageLayout as L, ImageUsageFlags as U};
    match layout {
        L::COLOR_ATTACHMENT_OPTIMAL => U::COLOR_ATTACHMENT,
        L::DEPTH_STENCIL_ATTACHMENT_OPTIMAL
        | L::DEPTH_ATTACHMENT_OPTIMAL
        | L::STENCIL_ATTACHMENT_OPTIMAL => U::DEPTH_STENCIL_ATTACHMENT,
        L::DEPTH_STENCIL_READ_ONLY_OPTIMAL
        | L::DEPTH_READ_ONLY_OPTIMAL
        | L::STENCIL_READ_ONLY_OPTIMAL => {
            U::DEPTH_STENCIL_ATTACHMENT | U::SAMPLED | U::INPUT_ATTACHMENT
        }
        L::SHADER_READ_ONLY_OPTIMAL => U::SAMPLED | U::INPUT_ATTACHMENT,
        L::TRANSFER_SRC_OPTIMAL => U::TRANSFER_SRC,
        L::TRANSFER_DST_OPTIMAL => U::TRANSFER_DST,
        _ => U::empty(),
    }
}

/// The layout that an image is left in where nobody says otherwise.
fn useful_layout(usage: vk::ImageUsageFlags, is_linear: bool) -> vk::ImageLayout {
    use vk::ImageLayout as L;
    // The host reads and writes texels in it.
    if is_linear {
        return L::GENERAL;
    }
    if usage.intersects(usages(L::SHADER_READ_ONLY_OPTIMAL)) {
        return L::SHADER_READ_ONLY_OPTIMAL;
    }
    if usage.contains(vk::ImageUsageFlags::STORAGE) {
        return L::GENERAL;
    }
    let others = [
        L::COLOR_ATTACHMENT_OPTIMAL,
        L::DEPTH_STENCIL_ATTACHMENT_OPTIMAL,
        L::TRANSFER_SRC_OPTIMAL,
        L::TRANSFER_DST_OPTIMAL,
    ];
    others.into_iter().find(|it| usage.intersects(usages(*it))).unwrap_or(L::GENERAL)
}

/// Reads the keyword `layout`: one that an image can be left in.
pub fn read_layout(
    image: &Bound<'_, Image>,
    layout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<vk::ImageLayout>> {
    let Some(given) = layout else { return Ok(None) };
    let (py, resource) = (image.py(), &image.as_super().get().resource);
    let layout = read_image_layout(given)?;
    if matches!(layout, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED) {
        return Err(invalid(py, format!("layout is {layout:?}, which no image can be left in")));
    }
    let (needed, usage) = (usages(layout), image_usage(resource.usage));
    if !needed.is_empty() && !usage.intersects(needed) {
        let what = resource.describe();
        let why = format!("layout is {layout:?}, and {what} was created without {needed:?}");
        return Err(invalid(py, why));
    }
    Ok(Some(layout))
}

fn image_usage(usage: u64) -> vk::ImageUsageFlags {
    // An image's usage has 32 bits.
    vk::ImageUsageFlags::from_raw(usage as u32)
}

/// The image of a resource that commands use.
pub fn used_image(image: &Bound<'_, Image>, leave: Option<vk::ImageLayout>) -> PyResult<UsedImage> {
    let (facts, resource) = (image.get(), &image.as_super().get().resource);
    let ResourceHandle::Image(handle) = resource.handle() else {
        return Err(invalid(image.py(), "not an image"));
    };
    let format = vk::Format::from_raw(facts.format.cast_signed());
    let undefined = vk::ImageLayout::UNDEFINED;
    let is_linear = facts.tiling == vk::ImageTiling::LINEAR.as_raw().cast_unsigned();
    Ok(UsedImage {
        image: handle,
        is_shared: is_shared(resource),
        sharing: sharing(resource),
        range: LayoutChange::of_whole(format, undefined, undefined).range,
        layout: tracked_layout(image).clone(),
        leave,
        otherwise: useful_layout(image_usage(resource.usage), is_linear),
    })
}

/// Returns the image with the handle that it has now: a move may have ended since it was read. The caller has
/// pinned it.
pub fn renewed(mut used: UsedImage, resource: &Resource) -> UsedImage {
    if let ResourceHandle::Image(handle) = resource.handle() {
        used.image = handle;
    }
    used
}

/// Checks that an image is of the allocator, bound, and can be copied.
pub fn check_image(
    py: Python<'_>,
    allocator: &Arc<AllocatorState>,
    image: &Bound<'_, Image>,
) -> PyResult<()> {
    let (facts, resource) = (image.get(), &image.as_super().get().resource);
    check_device(py, &allocator.device, resource)?;
    let refuse = |why: String| invalid(py, format!("{} {why}", resource.describe()));
    if !Arc::ptr_eq(&resource.allocator, allocator) {
        return Err(refuse("is of another allocator".into()));
    }
    check_bound(py, resource)?;
    if facts.samples > 1 {
        return Err(refuse(format!("has {} samples: it cannot be copied", facts.samples)));
    }
    Ok(())
}

impl ImagePlace {
    /// Reads the keywords, and checks that the image has those texels.
    pub fn of(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        image: &Bound<'_, Image>,
        keywords: &RegionKeywords<'_, '_>,
    ) -> PyResult<Self> {
        check_image(py, allocator, image)?;
        let (facts, resource) = (image.get(), &image.as_super().get().resource);
        let refuse = |why: String| invalid(py, format!("{} {why}", resource.describe()));
        let ResourceHandle::Image(handle) = resource.handle() else {
            return Err(invalid(py, "not an image"));
        };
        let format = vk::Format::from_raw(facts.format.cast_signed());
        let known = texel::aspects(format);
        let first = 1 << known.as_raw().trailing_zeros();
        let aspect = keywords.aspect.map_or(Ok(first), |it| of_class(it, "aspect", &IMAGE_ASPECT));
        let aspect = vk::ImageAspectFlags::from_raw(aspect?);
        if aspect.as_raw().count_ones() != 1 || !known.contains(aspect) {
            let given = if aspect.is_empty() { "0".into() } else { format!("{aspect:?}") };
            let why =
                format!("aspect is {given}: one of those of {format:?}, {known:?}, is wanted");
            return Err(invalid(py, why));
        }
        let Some((texels, shared)) = copied_texels(format, aspect) else {
            return Err(refuse(format!("is of {format:?}, whose texels have no known size")));
        };
        let number = |value: Option<&Bound<'_, PyAny>>, name, default| {
            value.map_or(Ok(default), |value| unsigned_32(value, name))
        };
        let mip_level = number(keywords.mip_level, "mip_level", 0)?;
        if mip_level >= facts.mip_levels {
            return Err(refuse(there_is_no("mip level", mip_level, facts.mip_levels)));
        }
        let base_layer = number(keywords.base_layer, "base_layer", 0)?;
        if base_layer >= facts.array_layers {
            return Err(refuse(there_is_no("array layer", base_layer, facts.array_layers)));
        }
        let rest = facts.array_layers - base_layer;
        let layer_count = number(keywords.layer_count, "layer_count", rest)?;
        if layer_count == 0 || layer_count > rest {
            let (base, count, all) = (base_layer, layer_count, facts.array_layers);
            let why = format!(
                "has {all} array layers: base_layer {base} and layer_count {count} name others"
            );
            return Err(refuse(why));
        }
        let (width, height, depth) = facts.extent;
        let level = |side: u32, shared: u32| (side >> mip_level).max(1).div_ceil(shared);
        let whole = [level(width, shared[0]), level(height, shared[1]), level(depth, 1)];
        let offset = keywords.offset.map_or(Ok([0; 3]), |it| sides(it, "offset", 0))?;
        let left: [u32; 3] = std::array::from_fn(|side| whole[side].saturating_sub(offset[side]));
        let extent = keywords.extent.map_or(Ok(left), |it| sides(it, "extent", 1))?;
        let block = texels.block;
        for (side, unit) in [block.width, block.height, 1].into_iter().enumerate() {
            let (start, length) = (offset[side], extent[side]);
            if length == 0 || length > left[side] {
                let why = format!(
                    "has no texels of extent {extent:?} at offset {offset:?} in its mip level {mip_level}, whose extent is {whole:?}"
                );
                return Err(refuse(why));
            }
            let is_whole = length.is_multiple_of(unit) || length == left[side];
            if !start.is_multiple_of(unit) || !is_whole {
                let (width, height) = (block.width, block.height);
                let why = format!(
                    "is of {format:?}: texels {extent:?} at {offset:?} cut its blocks of {width} x {height}"
                );
                return Err(refuse(why));
            }
        }
        let [x, y, z] = offset.map(u32::cast_signed);
        let [width, height, depth] = extent;
        let region = ImageRegion {
            aspect,
            mip_level,
            base_layer,
            layer_count,
            offset: vk::Offset3D { x, y, z },
            extent: vk::Extent3D { width, height, depth },
            block,
        };
        let size = region.size().ok_or_else(|| refuse("is too large".into()))?;
        Ok(Self {
            resource: resource.clone(),
            image: handle,
            region,
            size,
            texels,
            format,
            layout: tracked_layout(image).clone(),
            is_linear: facts.tiling == vk::ImageTiling::LINEAR.as_raw().cast_unsigned(),
            is_disjoint: vk::ImageCreateFlags::from_raw(facts.create_flags)
                .contains(vk::ImageCreateFlags::DISJOINT),
            is_3d: facts.image_type == vk::ImageType::TYPE_3D.as_raw().cast_unsigned(),
        })
    }

    /// Sides of the array that it becomes, without the components of a texel.
    pub fn sides(&self) -> Vec<u64> {
        let [columns, rows, _] = self.region.sides();
        let mut sides = Vec::with_capacity(4);
        if self.region.layer_count > 1 {
            sides.push(self.region.layer_count.into());
        }
        if self.is_3d {
            sides.push(self.region.extent.depth.into());
        }
        sides.extend([rows, columns]);
        sides
    }

    /// Raises for an array whose width stands before its height: its bytes would fit, in another order.
    pub fn check_shape(&self, py: Python<'_>, shape: Option<&[u64]>) -> PyResult<()> {
        let Some(shape) = shape else { return Ok(()) };
        let sides = self.sides();
        let mut turned = sides.clone();
        let count = turned.len();
        turned.swap(count - 2, count - 1);
        let (_, _, channels) = dtype(&self.texels);
        let rest = shape.strip_prefix(&*turned);
        if turned == sides || !rest.is_some_and(|rest| rest.is_empty() || rest == [channels]) {
            return Ok(());
        }
        let what = self.resource.describe();
        let expected: Vec<u64> = sides.iter().chain(rest.unwrap_or_default()).copied().collect();
        let why = format!(
            "the array has the shape {shape:?}, and the texels of {what} have {expected:?}, the height before the width: turn it with numpy.swapaxes, or pass it flat if its bytes are in that order"
        );
        Err(invalid(py, why))
    }

    /// As errors name it, with its bytes.
    pub fn describe(&self) -> String {
        let ImageRegion { offset, extent, mip_level, base_layer, layer_count, .. } = self.region;
        let vk::Extent3D { width, height, depth } = extent;
        let mut text = format!("{width} x {height}");
        if self.is_3d {
            text += &format!(" x {depth}");
        }
        text += " texels";
        if (offset.x, offset.y, offset.z) != (0, 0, 0) {
            text += &format!(" at ({}, {}, {})", offset.x, offset.y, offset.z);
        }
        text += &format!(" of mip level {mip_level}");
        match layer_count {
            1 => text += &format!(" of layer {base_layer}"),
            _ => text += &format!(" of layers {base_layer} to {}", base_layer + layer_count - 1),
        }
        let (aspect, format, size) = (self.region.aspect, self.format, bytes(self.size));
        format!("{text}, {aspect:?} of {format:?}, have {size}")
    }

    /// For the engine.
    pub fn part(&self, image: &UsedImage) -> ImagePart {
        ImagePart { image: image.clone(), region: self.region }
    }
}
