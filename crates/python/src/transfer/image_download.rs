//! Downloads: from an image into an array.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vkmem_engine::words::bytes;
use vkmem_vulkan::{HostSide, Target, TransferCall, TransferDirection, UsedImage, copy_bytes};

use super::copies::check_read;
use super::download::{Wanted, hand_out, hold_target, read_by_host};
use super::image_direct::read;
use super::image_host::{copy_imported_image, host_download};
use super::image_place::{ImagePlace, RegionKeywords, renewed, used_image};
use super::image_way::{Asked, choose_image};
use super::overlap::{mapped_range, meet, temporary};
use super::state::{Kept, Transfer, TransfersState, Way};
use super::watch::Watch;
use super::way::Chosen;
use crate::errors::invalid;
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::Image;
use crate::objects::image_layout::dtype;
use crate::package::NEW_TEXELS;

/// A download that was checked, and that nothing was done of.
pub struct Prepared {
    array: Py<PyAny>,
    target: Kept,
    address: usize,
    is_new: bool,
    place: ImagePlace,
    image: UsedImage,
    chosen: Chosen,
    /// The array lies in the memory of the image itself.
    is_inside: bool,
}

impl Prepared {
    /// Checks everything, and makes the array.
    pub fn new(
        py: Python<'_>,
        state: &TransfersState,
        allocator: &Arc<AllocatorState>,
        image: &Bound<'_, Image>,
        keywords: &RegionKeywords<'_, '_>,
        wanted: &Wanted<'_, '_>,
        way: Option<Way>,
    ) -> PyResult<Self> {
        let place = ImagePlace::of(py, allocator, image, keywords)?;
        let (array, is_new) = match wanted.out {
            Some(_) if wanted.dtype.is_some() || wanted.shape.is_some() => {
                return Err(invalid(py, "out= stands instead of dtype= and shape="));
            }
            Some(out) => (out.clone(), false),
            None => {
                let (name, _, channels) = dtype(&place.texels);
                let sides = PyTuple::new(py, place.sides())?;
                let natural = (name, sides, channels, place.size);
                let arguments = (wanted.dtype, wanted.shape, natural, place.describe());
                (NEW_TEXELS.get(py)?.call1(arguments)?, true)
            }
        };
        let buffer = hold_target(&array)?;
        let (address, length) = (buffer.address(), buffer.len() as u64);
        if length != place.size {
            let (what, region) = (place.resource.describe(), place.describe());
            let why = format!("{what}: {region}, and out has {}", bytes(length));
            return Err(invalid(py, why));
        }
        let used = used_image(image, None)?;
        let host = Some((address, buffer.len()));
        let asked = Asked { direction: TransferDirection::Download, host, wanted: way };
        let chosen = choose_image(image, state, &place, &used, &asked)?;
        let filled = address..address + buffer.len();
        let is_inside = chosen.way != Way::Import
            && mapped_range(py, &place.resource).is_some_and(|it| meet(&it, &filled));
        if is_inside && !chosen.way.is_by_host() {
            let what = place.resource.describe();
            let why = format!(
                "out lies in the memory of {what} itself, which the device reads meanwhile: download into another array"
            );
            return Err(invalid(py, why));
        }
        if !chosen.way.is_by_host() {
            check_read(py, &place.resource, HostSide::Image(place.image))?;
        }
        let target = Kept::new(buffer);
        let array = array.unbind();
        Ok(Self { array, target, address, is_new, place, image: used, chosen, is_inside })
    }

    /// Begins it.
    pub fn start(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        let Self { array, target, address, is_new, place, image, chosen, is_inside } = self;
        let size = place.size;
        let watch = Watch::of(progress, size)?;
        if chosen.waits {
            state.wait_for_resource(py, allocator, &place.resource)?;
        }
        let transfer =
            chosen.transfer(py, state, &place.resource, size, TransferDirection::Download)?;
        let mut image = renewed(image, &place.resource);
        *transfer.result.lock() = Some(array);
        *transfer.kept.lock() = Some(target);
        let job = &transfer.job;
        let kind = if is_new { Target::New } else { Target::InUse };
        let done = if let (Way::Import, Some(registration)) = (chosen.way, &chosen.registration) {
            let (host, part) = (registration.part(address), place.part(&image));
            detach(py, || copy_imported_image(state, allocator, job, batch, host, &part, false));
            Ok(())
        } else if chosen.way.is_by_host() {
            let _pin = place.resource.enter_memory(py)?;
            image = renewed(image, &place.resource);
            let read = detach(py, || {
                let read = |to| match chosen.way {
                    Way::Host => host_download(&place, &image, to, &watch),
                    _ => read(&place, to, kind, &watch),
                };
                if !is_inside {
                    return read(address);
                }
                let mut texels = temporary(size as usize)?;
                let from = texels.as_mut_ptr().expose_provenance();
                read(from)?;
                // SAFETY: as many bytes as the target has, which is held.
                unsafe { copy_bytes(from, address, texels.len(), kind) };
                Ok(())
            });
            read_by_host(state, job, read)
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
                // SAFETY: what keeps the target stays with the transfer until that has ended.
                unsafe { state.engine.download_image(&call, address, kind) }
            })
        };
        hand_out(py, state, transfer, watch, done)
    }
}
