//! Which way a transfer of an image takes, and why.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;
use vkmem_engine::MemoryPropertyFlags;
use vkmem_vulkan::{TransferDirection, UsedImage};

use super::copies::check_queue;
use super::image_host::{why_host_gains, why_not_by_host};
use super::image_place::ImagePlace;
use super::state::{Registration, TransfersState, Way};
use super::way::{Chosen, is_busy, properties, why_unseen};
use crate::errors::{feature_not_present, invalid};
use crate::objects::image::Image;

/// What a call asks for.
pub struct Asked {
    pub direction: TransferDirection,
    /// Where the array lies, if in one piece: its address and its bytes.
    pub host: Option<(usize, usize)>,
    pub wanted: Option<Way>,
}

/// The queue that copies the texels.
fn check_queue_of(py: Python<'_>, place: &ImagePlace) -> PyResult<()> {
    let device = &place.resource.allocator.device;
    check_queue(py, device)?;
    let of_depth = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    let aspect = place.region.aspect;
    let flags = device.driver.queue_flags();
    if aspect.intersects(of_depth)
        && flags.contains(vk::QueueFlags::TRANSFER)
        && !flags.contains(vk::QueueFlags::GRAPHICS)
    {
        let why =
            format!("{aspect:?} is copied by a queue with GRAPHICS, and the device's has none");
        return Err(feature_not_present(py, &why));
    }
    Ok(())
}

/// The pages that the array lies in, if the device can copy between them and the image; else why not.
fn pages(
    place: &ImagePlace,
    state: &TransfersState,
    host: Option<(usize, usize)>,
) -> Result<Arc<Registration>, &'static str> {
    let found = host.and_then(|host| Some((state.registration(host)?, host.0)));
    let Some((registration, address)) = found else {
        return Err(
            "the array is not registered: Transfers.register() lets the device use its pages",
        );
    };
    if registration.part(address).offset.is_multiple_of(place.region.buffer_unit(1)) {
        return Ok(registration);
    }
    Err("the array does not begin at a multiple of 4 bytes and of a texel's bytes in its page")
}

/// Chooses, or says why there is no way. `used` says which layout the image shall be left in.
pub fn choose_image(
    image: &Bound<'_, Image>,
    state: &TransfersState,
    place: &ImagePlace,
    used: &UsedImage,
    asked: &Asked,
) -> PyResult<Chosen> {
    let py = image.py();
    let Asked { direction, host, wanted } = *asked;
    let resource = &*place.resource;
    let (usage, flag) = match direction {
        TransferDirection::Upload => (vk::ImageUsageFlags::TRANSFER_DST, "TRANSFER_DST"),
        TransferDirection::Download => (vk::ImageUsageFlags::TRANSFER_SRC, "TRANSFER_SRC"),
    };
    let refuse = |why: &str| invalid(py, format!("{} {why}", resource.describe()));
    if direction == TransferDirection::Download && !place.layout.is_defined() {
        return Err(refuse(
            "has no contents to download: its layout is UNDEFINED (set Image.layout after other code has filled it)",
        ));
    }
    let queue = check_queue_of(py, place);
    let has_usage = resource.usage & u64::from(usage.as_raw()) != 0;
    let can_copy = has_usage && queue.is_ok();
    let chosen = |way, why| Chosen { way, registration: None, waits: false, why };
    let no_copy = |otherwise: String| {
        if has_usage {
            return queue.err().unwrap_or_else(|| invalid(py, "there is no queue"));
        }
        refuse(&format!(
            "was created without ImageUsage.{flag}{otherwise}: pass image_usage=... | ImageUsage.{flag} at its creation"
        ))
    };
    // The host must not meet what the device does with the image.
    let by_host = |way, why| {
        if !is_busy(py, resource) {
            return chosen(way, why);
        }
        if wanted.is_none() && can_copy {
            return chosen(Way::Ring, "an earlier transfer of the image is in flight");
        }
        Chosen { waits: true, ..chosen(way, why) }
    };
    let direct = why_not_direct(place, direction, used.leave);
    let not_by_host = why_not_by_host(place, used, direction);
    match wanted {
        Some(Way::Blit) => return Err(invalid(py, "way is 'blit', which is no transfer")),
        Some(Way::Ring) if can_copy => return Ok(chosen(Way::Ring, "the call wants it")),
        Some(Way::Ring) => return Err(no_copy(String::new())),
        Some(Way::Import) if !can_copy => return Err(no_copy(String::new())),
        Some(Way::Import) => {
            let registration = Some(pages(place, state, host).map_err(|why| invalid(py, why))?);
            return Ok(Chosen { registration, ..chosen(Way::Import, "the call wants it") });
        }
        Some(Way::Host) => {
            return match not_by_host {
                None => Ok(by_host(Way::Host, "the call wants it")),
                Some(why) => Err(refuse(&format!("cannot be copied by the host: {why}"))),
            };
        }
        Some(Way::Direct) => {
            if let Some(why) = direct {
                return Err(refuse(&format!("has no direct way: {why}")));
            }
        }
        None => {}
    }
    if wanted.is_none()
        && can_copy
        && let Ok(registration) = pages(place, state, host)
    {
        let why = "the array is registered: the device uses its own pages";
        let registration = Some(registration);
        return Ok(Chosen { registration, ..chosen(Way::Import, why) });
    }
    let Some(direct) = direct else {
        return Ok(by_host(
            Way::Direct,
            "the host can reach the texels of the image, which lie in rows",
        ));
    };
    if not_by_host.is_none() {
        let gains = why_host_gains(image, place, used, direction);
        return Ok(match gains {
            Ok(why) => by_host(Way::Host, why),
            Err(why) if can_copy => chosen(Way::Ring, why),
            Err(_) => by_host(Way::Host, "the host can copy its texels, and the device cannot"),
        });
    }
    if can_copy {
        return Ok(chosen(Way::Ring, direct));
    }
    Err(no_copy(format!(", and {direct}")))
}

/// Why the host cannot read or write the texels themselves; `None` if it can.
fn why_not_direct(
    place: &ImagePlace,
    direction: TransferDirection,
    leave: Option<vk::ImageLayout>,
) -> Option<&'static str> {
    let resource = &*place.resource;
    let memory = properties(resource);
    if !place.is_linear {
        return Some("the texels of its tiling lie as the driver likes");
    }
    if place.is_disjoint {
        return Some("it is disjoint");
    }
    if let Some(why) = why_unseen(resource) {
        return Some(why);
    }
    if direction == TransferDirection::Download
        && !memory.contains(MemoryPropertyFlags::HOST_CACHED)
    {
        return Some("the host reads its memory slowly: it is not cached");
    }
    let layout = place.layout.get();
    let is_for_host = matches!(layout, vk::ImageLayout::GENERAL | vk::ImageLayout::PREINITIALIZED);
    if !is_for_host || place.layout.is_recorded() {
        return Some("its layout is not GENERAL or PREINITIALIZED, as the host needs it");
    }
    if leave.is_some_and(|wanted| wanted != layout) {
        return Some("it is to be left in another layout");
    }
    None
}
