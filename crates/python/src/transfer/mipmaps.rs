//! Chains of mip levels: each level of an image from the one before, by blits.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;
use vkmem_vulkan::{MipChain, TransferDirection, texel};

use super::copies::check_queue;
use super::image_place::{check_image, read_layout, renewed, used_image};
use super::image_upload::has_usage;
use super::state::{Transfer, TransfersState, Way};
use super::way::Chosen;
use crate::arguments::numbers::{FILTER, of_class};
use crate::errors::{feature_not_present, invalid};
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::{Image, tracked_layout};

/// Levels of a chain down to a single texel.
pub fn full_chain(extent: vk::Extent3D) -> u32 {
    let longest = extent.width.max(extent.height).max(extent.depth).max(1);
    longest.ilog2() + 1
}

/// The features that blits of a format lack, by their names in Vulkan.
fn missing(features: vk::FormatFeatureFlags, filter: vk::Filter) -> Option<&'static str> {
    use vk::FormatFeatureFlags as F;
    let needed = [
        (F::BLIT_SRC, "VK_FORMAT_FEATURE_BLIT_SRC_BIT"),
        (F::BLIT_DST, "VK_FORMAT_FEATURE_BLIT_DST_BIT"),
        (F::SAMPLED_IMAGE_FILTER_LINEAR, "VK_FORMAT_FEATURE_SAMPLED_IMAGE_FILTER_LINEAR_BIT"),
    ];
    let count = if filter == vk::Filter::LINEAR { 3 } else { 2 };
    needed[..count].iter().find(|(flag, _)| !features.contains(*flag)).map(|(_, name)| *name)
}

/// Checks that the levels can be made, and says how. `leave` is the layout that the image is left in.
fn chain(
    py: Python<'_>,
    allocator: &Arc<AllocatorState>,
    image: &Bound<'_, Image>,
    filter: Option<&Bound<'_, PyAny>>,
    layout: Option<&Bound<'_, PyAny>>,
) -> PyResult<MipChain> {
    check_image(py, allocator, image)?;
    let (facts, resource) = (image.get(), &image.as_super().get().resource);
    let refuse = |why: String| invalid(py, format!("{} {why}", resource.describe()));
    if facts.mip_levels < 2 {
        return Err(refuse("has one mip level: there are none to make of it".into()));
    }
    for (flag, name) in [
        (vk::ImageUsageFlags::TRANSFER_SRC, "TRANSFER_SRC"),
        (vk::ImageUsageFlags::TRANSFER_DST, "TRANSFER_DST"),
    ] {
        if !has_usage(resource.usage, flag) {
            return Err(refuse(format!("was created without ImageUsage.{name}")));
        }
    }
    let leave = read_layout(image, layout)?;
    if !tracked_layout(image).is_defined() {
        return Err(refuse(
            "has no contents to make mip levels of: its layout is UNDEFINED".into(),
        ));
    }
    check_queue(py, &allocator.device)?;
    let driver = &allocator.device.driver;
    if !driver.queue_flags().contains(vk::QueueFlags::GRAPHICS) {
        let why = "mip levels are made by a queue with GRAPHICS, and the device's has none";
        return Err(feature_not_present(py, why));
    }
    let format = vk::Format::from_raw(facts.format.cast_signed());
    let tiling = vk::ImageTiling::from_raw(facts.tiling.cast_signed());
    let aspect = texel::aspects(format);
    if aspect.as_raw().count_ones() != 1 {
        let why = format!("is of {format:?}, whose {aspect:?} have no one mip level to filter");
        return Err(refuse(why));
    }
    let features = driver.format_features(format, tiling);
    let filter = match filter {
        Some(given) => vk::Filter::from_raw(of_class(given, "filter", &FILTER)?.cast_signed()),
        // Numbers that stand for something, as integers do, have no mean.
        None if missing(features, vk::Filter::LINEAR).is_none() => vk::Filter::LINEAR,
        None if is_integer(format) || aspect != vk::ImageAspectFlags::COLOR => vk::Filter::NEAREST,
        None => vk::Filter::LINEAR,
    };
    if let Some(name) = missing(features, filter) {
        let why = format!(
            "{}: the device's {format:?} of tiling {tiling:?} has no {name}, as mip levels by {filter:?} need",
            resource.describe()
        );
        return Err(feature_not_present(py, &why));
    }
    let (width, height, depth) = facts.extent;
    Ok(MipChain {
        image: used_image(image, leave)?,
        aspect,
        extent: vk::Extent3D { width, height, depth },
        mip_levels: facts.mip_levels,
        array_layers: facts.array_layers,
        filter,
    })
}

fn is_integer(format: vk::Format) -> bool {
    let name = format!("{format:?}");
    name.contains("UINT") || name.contains("SINT")
}

/// Begins to make the levels of an image.
pub fn start(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    allocator: &Arc<AllocatorState>,
    batch: Option<u64>,
    image: &Bound<'_, Image>,
    filter: Option<&Bound<'_, PyAny>>,
    layout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<Transfer>> {
    let mut chain = chain(py, allocator, image, filter, layout)?;
    let resource = &image.as_super().get().resource;
    let why = "the device makes them";
    let chosen = Chosen { way: Way::Blit, registration: None, waits: false, why };
    let transfer = chosen.transfer(py, state, resource, 0, TransferDirection::Upload)?;
    chain.image = renewed(chain.image, resource);
    let (on, job) = (&allocator.device_allocator, &transfer.job);
    detach(py, || match batch {
        Some(batch) => state.engine.generate_mips(on, job, batch, &chain),
        None => {
            let batch = state.engine.open_batch();
            state.engine.generate_mips(on, job, batch, &chain);
            state.engine.close_batch(on, batch);
        }
    });
    let transfer = transfer.into_object(py)?;
    state.add(transfer.clone_ref(py));
    Ok(transfer)
}
