//! Uploads: from an array into an image.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;
use vkmem_vulkan::{HostSide, Stopped, TransferCall, TransferDirection};

use super::copies::check_written;
use super::image_direct::write;
use super::image_host::{copy_imported_image, host_texels, host_upload};
use super::image_place::{ImagePlace, RegionKeywords, read_layout, renewed, used_image};
use super::image_way::{Asked, choose_image};
use super::overlap::mapped_range;
use super::source::Source;
use super::state::{Transfer, TransfersState, Way};
use super::watch::Watch;
use super::way::Chosen;
use crate::errors::invalid;
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::Image;
use vkmem_engine::words::bytes;
use vkmem_vulkan::UsedImage;

/// An upload that was checked, and that nothing was done of.
pub struct Prepared {
    source: Source,
    place: ImagePlace,
    image: UsedImage,
    chosen: Chosen,
}

impl Prepared {
    /// Checks everything.
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    pub fn new(
        py: Python<'_>,
        state: &TransfersState,
        allocator: &Arc<AllocatorState>,
        source: Source,
        image: &Bound<'_, Image>,
        keywords: &RegionKeywords<'_, '_>,
        layout: Option<&Bound<'_, PyAny>>,
        wanted: Option<Way>,
    ) -> PyResult<Self> {
        let place = ImagePlace::of(py, allocator, image, keywords)?;
        let given = source.size() as u64;
        if given != place.size {
            let (what, region) = (place.resource.describe(), place.describe());
            let why = format!("{what}: {region}, and the array has {}", bytes(given));
            return Err(invalid(py, why));
        }
        let leave = read_layout(image, layout)?;
        let used = used_image(image, leave)?;
        let host = source.address().map(|address| (address, source.size()));
        let asked = Asked { direction: TransferDirection::Upload, host, wanted };
        let chosen = choose_image(image, state, &place, &used, &asked)?;
        if !chosen.way.is_by_host() {
            check_written(py, &place.resource, HostSide::Image(place.image))?;
        }
        // Pieces begin at any row, copies by the host at each.
        let block = u64::from(place.texels.block.bytes);
        let is_cut = source.grain() > 1 && !block.is_multiple_of(source.grain());
        let source = if is_cut { source.with_grain(py, 1)? } else { source };
        Ok(Self { source, place, image: used, chosen })
    }

    /// Raises for an array whose sides stand in another order than those of the texels.
    pub fn check_shape(&self, py: Python<'_>, shape: Option<&[u64]>) -> PyResult<()> {
        self.place.check_shape(py, shape)
    }

    /// Begins it. Where the caller interrupts it, what was submitted goes on by itself.
    pub fn start(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        let Self { source, place, image, chosen } = self;
        let size = place.size;
        let watch = Watch::of(progress, size)?;
        if chosen.waits {
            state.wait_for_resource(py, allocator, &place.resource)?;
        }
        let source = match chosen.way {
            Way::Import => source,
            _ => source.apart_from(py, mapped_range(py, &place.resource))?,
        };
        let transfer =
            chosen.transfer(py, state, &place.resource, size, TransferDirection::Upload)?;
        let mut image = renewed(image, &place.resource);
        let job = &transfer.job;
        if let (Way::Import, Some(registration)) = (chosen.way, &chosen.registration) {
            let host = registration.part(source.address().unwrap_or_default());
            *transfer.kept.lock() = source.into_kept();
            let part = place.part(&image);
            detach(py, || copy_imported_image(state, allocator, job, batch, host, &part, true));
            state.count(&transfer);
            let transfer = transfer.into_object(py)?;
            state.add(transfer.clone_ref(py));
            watch.finish(py, &transfer.get().job)?;
            return Ok(transfer);
        }
        let reader = source.reader();
        let is_by_host = chosen.way.is_by_host();
        let done = if is_by_host {
            let _pin = place.resource.enter_memory(py)?;
            image = renewed(image, &place.resource);
            let texels = host_texels(&place, &source);
            let written = detach(py, || match chosen.way {
                Way::Host => host_upload(&place, &image, texels, &reader, &watch),
                _ => write(&place, &reader, &watch),
            });
            match written {
                Err(Stopped::Interrupted) => {
                    reader.raised()?;
                    watch.result(py, Err(Stopped::Interrupted))?;
                    return Err(invalid(py, "the upload was interrupted"));
                }
                Err(Stopped::Failed(error)) => state.engine.done_by_host(job, Err(error)),
                Ok(()) => state.engine.done_by_host(job, Ok(())),
            }
            Ok(())
        } else {
            let part = place.part(&image);
            detach(py, || {
                let call = TransferCall {
                    allocator: &allocator.device_allocator,
                    job,
                    batch,
                    part,
                    pause: &|| watch.pause(),
                    between: &|so_far| watch.between(so_far),
                };
                let fill = |from: u64, length: usize, to: usize| {
                    // SAFETY: the engine asks for parts of the source, which is held, and for memory of its
                    // ring.
                    unsafe { reader.fill(from as usize, length, to) }
                };
                state.engine.upload_image(&call, &fill, reader.is_serial())
            })
        };
        let raised = reader.raised();
        state.count(&transfer);
        let transfer = transfer.into_object(py)?;
        if !is_by_host {
            // What was submitted of it runs, whatever was raised.
            state.add(transfer.clone_ref(py));
        }
        raised?;
        if done.is_ok() {
            watch.finish(py, &transfer.get().job)?;
        }
        watch.result(py, done)?;
        Ok(transfer)
    }
}

/// Whether an image's usage has all flags.
pub fn has_usage(usage: u64, flags: vk::ImageUsageFlags) -> bool {
    let flags = u64::from(flags.as_raw());
    usage & flags == flags
}
