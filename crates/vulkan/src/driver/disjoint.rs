//! Disjoint images, whose planes are bound separately (`VK_IMAGE_CREATE_DISJOINT_BIT`).
//!
//! All planes of such an image are placed in one allocation, one behind the other, each with its
//! alignment. So a disjoint image is created, bound, counted and destroyed like any other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ash::vk::{self, Handle};
use vkmem_engine::MemoryRequirements;
use vkmem_engine::lock::{Mutex, rank};

use crate::driver::format;

/// Returns the number of planes of an image; 0 if it is not disjoint.
pub(crate) fn plane_count(info: &vk::ImageCreateInfo<'_>) -> u32 {
    if !info.flags.contains(vk::ImageCreateFlags::DISJOINT) {
        return 0;
    }
    format::planes(info.format).len() as u32
}

/// Returns `VK_IMAGE_ASPECT_PLANE_0_BIT` and the like.
pub(crate) fn aspect(plane: u32) -> vk::ImageAspectFlags {
    vk::ImageAspectFlags::from_raw(vk::ImageAspectFlags::PLANE_0.as_raw() << plane)
}

/// Returns the combined requirements of several planes, and the offset of each in bytes. A memory type is
/// allowed if all planes allow it.
pub fn combined_requirements(planes: &[MemoryRequirements]) -> (MemoryRequirements, Vec<u64>) {
    let mut whole = MemoryRequirements {
        size: 0,
        alignment: 1,
        memory_type_bits: u32::MAX,
        prefers_dedicated: false,
        requires_dedicated: false,
    };
    let mut offsets = Vec::with_capacity(planes.len());
    for plane in planes {
        let offset = whole.size.checked_next_multiple_of(plane.alignment).unwrap_or(u64::MAX);
        offsets.push(offset);
        whole.size = offset.saturating_add(plane.size);
        whole.alignment = whole.alignment.max(plane.alignment);
        whole.memory_type_bits &= plane.memory_type_bits;
        // Vulkan forbids dedicating memory to a disjoint image.
        whole.prefers_dedicated |= plane.prefers_dedicated;
        whole.requires_dedicated |= plane.requires_dedicated;
    }
    (whole, offsets)
}

/// The disjoint images of a device that were created here, with their number of planes. The table is read
/// only while there are any.
#[derive(Debug, Default)]
pub(crate) struct DisjointImages {
    count: AtomicUsize,
    planes: Mutex<HashMap<u64, u32>, rank::DisjointImages>,
}

impl DisjointImages {
    pub(crate) fn insert(&self, image: vk::Image, planes: u32) {
        if planes > 0 && self.planes.lock().insert(image.as_raw(), planes).is_none() {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Removes an image; to be called before it is destroyed, as the driver may reuse its handle at once.
    pub(crate) fn remove(&self, image: vk::Image) {
        if self.any() && self.planes.lock().remove(&image.as_raw()).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Returns the number of planes; 0 if the image is not disjoint.
    pub(crate) fn planes_of(&self, image: vk::Image) -> u32 {
        if !self.any() {
            return 0;
        }
        self.planes.lock().get(&image.as_raw()).copied().unwrap_or(0)
    }

    fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_follow_each_other_as_aligned_as_they_need() {
        let plane = |size, alignment, memory_type_bits| MemoryRequirements {
            size,
            alignment,
            memory_type_bits,
            prefers_dedicated: false,
            requires_dedicated: false,
        };
        let (whole, offsets) = combined_requirements(&[
            plane(100, 16, 0b111),
            plane(50, 256, 0b110),
            plane(50, 64, 0b011),
        ]);
        assert_eq!(offsets, [0, 256, 320]);
        assert_eq!((whole.size, whole.alignment, whole.memory_type_bits), (370, 256, 0b010));
    }

    #[test]
    fn aspects_of_planes() {
        assert_eq!(aspect(0), vk::ImageAspectFlags::PLANE_0);
        assert_eq!(aspect(2), vk::ImageAspectFlags::PLANE_2);
    }

    #[test]
    fn an_image_is_known_until_it_ends() {
        let images = DisjointImages::default();
        let image = vk::Image::from_raw(7);
        assert_eq!(images.planes_of(image), 0);
        images.insert(image, 3);
        images.insert(vk::Image::from_raw(8), 0);
        assert_eq!((images.planes_of(image), images.planes_of(vk::Image::from_raw(8))), (3, 0));
        images.remove(image);
        images.remove(image);
        assert_eq!((images.planes_of(image), images.any()), (0, false));
    }
}
