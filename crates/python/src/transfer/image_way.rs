//! Which way a transfer of an image takes, and why.

use ash::vk;
use pyo3::prelude::*;
use vkmem_engine::MemoryPropertyFlags;
use vkmem_vulkan::TransferDirection;

use super::copies::check_queue;
use super::image_place::ImagePlace;
use super::state::Way;
use super::way::{Chosen, is_busy, properties};
use crate::errors::invalid;

/// Chooses, or says why there is no way. `leave` is the layout that the image shall be left in.
pub fn choose_image(
    py: Python<'_>,
    place: &ImagePlace,
    direction: TransferDirection,
    leave: Option<vk::ImageLayout>,
    wanted: Option<Way>,
) -> PyResult<Chosen> {
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
    let queue = check_queue(py, &resource.allocator.device);
    let has_usage = resource.usage & u64::from(usage.as_raw()) != 0;
    let can_copy = has_usage && queue.is_ok();
    let direct = why_not_direct(place, direction, leave);
    let chosen = |way, why| Chosen { way, registration: None, waits: false, why };
    match wanted {
        Some(Way::Import) => {
            return Err(invalid(py, "way is 'import', which is one of buffers and not of images"));
        }
        Some(Way::Blit) => return Err(invalid(py, "way is 'blit', which is no transfer")),
        Some(Way::Ring) if can_copy => return Ok(chosen(Way::Ring, "the call wants it")),
        Some(Way::Direct) | None if direct.is_none() => {
            let why = "the host can reach the texels of the image, which lie in rows";
            if !is_busy(py, resource) {
                return Ok(chosen(Way::Direct, why));
            }
            if wanted.is_none() && can_copy {
                return Ok(chosen(Way::Ring, "an earlier transfer of the image is in flight"));
            }
            return Ok(Chosen { waits: true, ..chosen(Way::Direct, why) });
        }
        Some(Way::Direct) => {
            let why = direct.unwrap_or("there is none");
            return Err(refuse(&format!("has no direct way: {why}")));
        }
        Some(Way::Ring) | None => {}
    }
    if can_copy {
        return Ok(chosen(Way::Ring, direct.unwrap_or("it is the only way")));
    }
    if has_usage {
        return Err(queue.err().unwrap_or_else(|| invalid(py, "there is no queue")));
    }
    let why =
        direct.filter(|_| wanted.is_none()).map_or(String::new(), |why| format!(", and {why}"));
    Err(refuse(&format!("was created without ImageUsage.{flag}{why}")))
}

/// Why the host cannot read or write the texels themselves; `None` if it can.
fn why_not_direct(
    place: &ImagePlace,
    direction: TransferDirection,
    leave: Option<vk::ImageLayout>,
) -> Option<&'static str> {
    let resource = &*place.resource;
    let memory = properties(resource);
    let may_map = resource.host_access || !resource.allocator.strict_host_access;
    if !place.is_linear {
        return Some("the texels of its tiling lie as the driver likes");
    }
    if place.is_disjoint {
        return Some("it is disjoint");
    }
    if !memory.contains(MemoryPropertyFlags::HOST_VISIBLE) || resource.dont_bind || !may_map {
        return Some("the host does not see its memory");
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
