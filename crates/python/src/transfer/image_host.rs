//! Images that the host copies itself (`VK_EXT_host_image_copy`), and those that the device copies from and to pages
//! of an array.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;
use vkmem_engine::{DeviceType, MemoryPropertyFlags};
use vkmem_vulkan::image_format::ImageFormatInfo;
use vkmem_vulkan::{
    BufferPart, HostImageCall, HostLayouts, HostSource, HostTexels, ImagePart, Job, Stopped,
    TransferDirection, UsedImage,
};

use super::image_place::ImagePlace;
use super::source::{Reader, Source};
use super::state::TransfersState;
use super::watch::Watch;
use super::way::properties;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::Image;

/// Why the host cannot copy the texels of an image; `None` if it can.
pub fn why_not_by_host(
    place: &ImagePlace,
    used: &UsedImage,
    direction: TransferDirection,
) -> Option<&'static str> {
    let resource = &*place.resource;
    let Some(copies) = resource.allocator.device_allocator.driver().host_image_copy() else {
        return Some("the device has no copies of images by the host (hostImageCopy)");
    };
    if resource.usage & u64::from(vk::ImageUsageFlags::HOST_TRANSFER_EXT.as_raw()) == 0 {
        return Some("it was created without ImageUsage.HOST_TRANSFER");
    }
    if place.layout.is_recorded() {
        return Some("an open batch is to write to it");
    }
    HostLayouts::of(copies, used, place.layout.get(), direction).err()
}

/// Whether copies by the host are as good as those by the device, or better; else why not.
pub fn why_host_gains(
    image: &Bound<'_, Image>,
    place: &ImagePlace,
    used: &UsedImage,
    direction: TransferDirection,
) -> Result<&'static str, &'static str> {
    let driver = place.resource.allocator.device_allocator.driver();
    let Some(copies) = driver.host_image_copy() else {
        return Err("the device has no copies of images by the host (hostImageCopy)");
    };
    let before = place.layout.get();
    if HostLayouts::of(copies, used, before, direction).map(|it| it.after) != Ok(used.after(before))
    {
        return Err("the host cannot bring it into the layout that its usage suggests");
    }
    if matches!(driver.info().device_type, DeviceType::IntegratedGpu | DeviceType::Cpu) {
        return Ok("the host can copy its texels, and shares its memory with the device");
    }
    let is_cached = properties(&place.resource).contains(MemoryPropertyFlags::HOST_CACHED);
    if direction == TransferDirection::Download && !is_cached {
        return Err("the host reads its memory slowly: it is not cached");
    }
    let found = image.get().host_copies.get_or_init(|| copies.performance(&kind(image)));
    match found {
        Some(it) if it.optimal_device_access || it.identical_memory_layout => {
            Ok("the host can copy its texels, which costs the device nothing")
        }
        _ => Err("its texels do not lie as the device likes them where the host copies them"),
    }
}

fn kind(image: &Bound<'_, Image>) -> ImageFormatInfo {
    let facts = image.get();
    ImageFormatInfo {
        format: facts.format.cast_signed(),
        image_type: facts.image_type.cast_signed(),
        tiling: facts.tiling.cast_signed(),
        // An image's usage has 32 bits.
        usage: image.as_super().get().resource.usage as u32,
        flags: facts.create_flags,
        stencil_usage: None,
        view_formats: Box::default(),
        handle_type: 0,
    }
}

fn call<'a>(
    place: &'a ImagePlace,
    image: &UsedImage,
    pause: &'a dyn Fn() -> bool,
    between: &'a dyn Fn(u64) -> bool,
) -> HostImageCall<'a> {
    let driver = &**place.resource.allocator.device_allocator.driver();
    HostImageCall { driver, part: place.part(image), pause, between }
}

/// The texels of an array that the device can read as they lie.
pub fn host_texels(place: &ImagePlace, source: &Source) -> Option<HostTexels> {
    if let Some(address) = source.address() {
        return Some(HostTexels::packed(address));
    }
    let Source::Strided(_, array) = source else { return None };
    let region = &place.region;
    let [columns, rows, _] = region.sides();
    let row = columns * u64::from(region.block.bytes);
    let (address, row_pitch, slice_pitch) = array.pitches(row as usize, rows as usize)?;
    HostTexels::pitched(region, address, row_pitch, slice_pitch)
}

/// Copies an array to the image, whose texels are gathered where the device cannot read them as they lie.
pub fn host_upload(
    place: &ImagePlace,
    image: &UsedImage,
    texels: Option<HostTexels>,
    reader: &Reader<'_>,
    watch: &Watch,
) -> Result<(), Stopped> {
    let (pause, between) = (|| watch.pause(), |so_far| watch.between(so_far));
    // SAFETY: the engine asks for parts of the source, which is held, and for memory of its own.
    let fill =
        |from: u64, length: usize, to: usize| unsafe { reader.fill(from as usize, length, to) };
    let source = texels.map_or(HostSource::Gathered(&fill), HostSource::Texels);
    // SAFETY: the image is pinned by the caller, and was looked at by `why_not_by_host`; the source is held.
    unsafe { call(place, image, &pause, &between).upload(&source) }
}

/// Copies the image to an address.
pub fn host_download(
    place: &ImagePlace,
    image: &UsedImage,
    to: usize,
    watch: &Watch,
) -> Result<(), Stopped> {
    let (pause, between) = (|| watch.pause(), |so_far| watch.between(so_far));
    // SAFETY: the image is pinned by the caller, and was looked at by `why_not_by_host`; the target is held and as
    // long as the texels.
    unsafe { call(place, image, &pause, &between).download(to) }
}

/// Submits a copy between pages of an array and an image, alone or with the others of a batch.
pub fn copy_imported_image(
    state: &TransfersState,
    allocator: &AllocatorState,
    job: &Arc<Job>,
    batch: Option<u64>,
    host: BufferPart,
    part: &ImagePart,
    writes: bool,
) {
    let on = &allocator.device_allocator;
    let number = batch.unwrap_or_else(|| state.engine.open_batch());
    state.engine.copy_whole_image(on, job, number, host, part, writes);
    if batch.is_none() {
        state.engine.close_batch(on, number);
    }
}
