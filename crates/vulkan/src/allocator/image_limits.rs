//! Limits of images: queried once for each kind of image and checked before an image is created.
//!
//! Vulkan forbids images above these limits, and drivers do not check them: some report memory
//! requirements that are far too small for the image.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ash::vk;
use vkmem_engine::lock::{RwLock, rank};
use vkmem_engine::words::{self, counted};
use vkmem_engine::{Error, MemoryRequirements};

use crate::driver::image_format::{ImageFormatInfo, ImageSupport};
use crate::driver::{chain, format};

type Known = HashMap<ImageFormatInfo, ImageSupport, BuildHasherDefault<Mixer>>;

/// A cache of queried limits, by kind of image.
#[derive(Debug, Default)]
pub(crate) struct ImageFormats {
    known: RwLock<Known, rank::ImageFormats>,
}

/// A fast hasher for a few numbers. It does not resist collisions chosen on purpose: a caller who chooses
/// them only slows down a table of its own.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_i32(&mut self, value: i32) {
        self.write_u32(value.cast_unsigned());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_usize(value.cast_unsigned());
    }

    fn write_u64(&mut self, value: u64) {
        // An odd number without a pattern: the fractional part of the golden ratio.
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The cache is cleared at this many kinds. A program uses few; one that uses more queries again.
const MAX_CACHED_KINDS: usize = 4096;

impl ImageFormats {
    /// Returns the cached limits of a kind, or those that `ask` returns; no lock is held during `ask`.
    pub(crate) fn find(
        &self,
        kind: &ImageFormatInfo,
        ask: impl FnOnce(&ImageFormatInfo) -> ImageSupport,
    ) -> ImageSupport {
        if let Some(known) = self.known.read().get(kind) {
            return *known;
        }
        let found = ask(kind);
        let mut known = self.known.write();
        if known.len() >= MAX_CACHED_KINDS {
            known.clear();
        }
        // Without host memory for the entry, the next image queries again.
        if known.try_reserve(1).is_ok() {
            known.insert(kind.clone(), found);
        }
        found
    }
}

pub(crate) fn check(
    info: &vk::ImageCreateInfo<'_>,
    kind: &ImageFormatInfo,
    support: ImageSupport,
) -> Result<(), Error> {
    let most = match support {
        ImageSupport::Unknown => return Ok(()),
        ImageSupport::None => {
            return Err(Error::FeatureNotPresent(format!(
                "this device has no images of {} (vkGetPhysicalDeviceImageFormatProperties)",
                kind.describe()
            )));
        }
        ImageSupport::UpTo(most) => most,
    };
    let vk::Extent3D { width, height, depth } = info.extent;
    let (max_width, max_height, max_depth) = most.max_extent;
    let wrong = if width > max_width || height > max_height || depth > max_depth {
        format!(
            "{width} x {height} x {depth} texels; the most is {max_width} x {max_height} x {max_depth}"
        )
    } else if info.mip_levels > most.max_mip_levels {
        format!("{}; the most is {}", counted(info.mip_levels, "mip level"), most.max_mip_levels)
    } else if info.array_layers > most.max_array_layers {
        format!(
            "{}; the most is {}",
            counted(info.array_layers, "array layer"),
            most.max_array_layers
        )
    } else if info.samples.as_raw() & !most.sample_counts != 0 || info.samples.is_empty() {
        let counts = (0..u32::BITS).map(|bit| 1_u32 << bit);
        let counts: Vec<_> = counts
            .filter(|count| most.sample_counts & count != 0)
            .map(|count| count.to_string())
            .collect();
        format!("{}; it can be {}", counted(info.samples.as_raw(), "sample"), counts.join(", "))
    } else {
        return Ok(());
    };
    Err(Error::InvalidArgument(format!(
        "an image of {wrong} on this device for {} (vkGetPhysicalDeviceImageFormatProperties)",
        kind.describe()
    )))
}

/// Rejects an image for which the driver reports less memory than its texels take.
///
/// # Errors
/// [`Error::InvalidArgument`]
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn check_image_size(
    info: &vk::ImageCreateInfo<'_>,
    requirements: &MemoryRequirements,
) -> Result<(), Error> {
    let vk::Extent3D { width, height, depth } = info.extent;
    if requirements.size == 0 {
        return Err(Error::InvalidArgument(format!(
            "the driver has no size for an image of {width} x {height} x {depth} texels: it is beyond \
             the device's limits (maxImageDimension)"
        )));
    }
    // Transient attachments may stay in tile memory and compressed images may take less memory.
    // SAFETY: the caller guarantees a valid chain.
    let compressed = unsafe { chain::of_image(info) }.has_others;
    if compressed || info.usage.contains(vk::ImageUsageFlags::TRANSIENT_ATTACHMENT) {
        return Ok(());
    }
    let texels = format::block(info.format).and_then(|block| block.size_of(info.extent));
    let bytes = texels
        .and_then(|it| it.checked_mul(info.array_layers.into()))
        .and_then(|it| it.checked_mul(info.samples.as_raw().into()));
    if bytes.is_none_or(|bytes| requirements.size >= bytes) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "the driver has {} for an image of {width} x {height} x {depth} texels, {} and {}, which takes \
         {} at least: it is beyond what the driver can count",
        words::bytes(requirements.size),
        counted(info.array_layers, "layer"),
        counted(info.samples.as_raw(), "sample"),
        words::bytes(bytes.unwrap_or(u64::MAX))
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::image_format::ImageFormatProperties;

    const MOST: ImageFormatProperties = ImageFormatProperties {
        max_extent: (4096, 4096, 1),
        max_mip_levels: 13,
        max_array_layers: 256,
        sample_counts: 1 | 4,
    };

    fn image() -> vk::ImageCreateInfo<'static> {
        vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(vk::Format::R8G8B8A8_UNORM)
            .extent(vk::Extent3D { width: 4096, height: 4096, depth: 1 })
            .mip_levels(13)
            .array_layers(256)
            .samples(vk::SampleCountFlags::TYPE_4)
            .usage(vk::ImageUsageFlags::SAMPLED)
    }

    fn of(info: &vk::ImageCreateInfo<'_>) -> Option<(ImageFormatInfo, u32)> {
        // SAFETY: the structures of the chain live.
        unsafe { ImageFormatInfo::of(info) }
    }

    #[test]
    fn what_is_at_the_limit_passes_and_what_is_beyond_it_does_not() {
        let (kind, _) = of(&image()).expect("a kind that can be asked for");
        let check = |info: &vk::ImageCreateInfo<'_>| check(info, &kind, ImageSupport::UpTo(MOST));
        assert_eq!(check(&image()), Ok(()));
        let beyond = [
            (image().mip_levels(14), "14 mip levels; the most is 13"),
            (image().array_layers(257), "257 array layers; the most is 256"),
            (image().samples(vk::SampleCountFlags::TYPE_2), "2 samples; it can be 1, 4"),
            (
                image().extent(vk::Extent3D { width: 1, height: 4097, depth: 1 }),
                "1 x 4097 x 1 texels; the most is 4096 x 4096 x 1",
            ),
        ];
        for (info, words) in beyond {
            let text = check(&info).unwrap_err().to_string();
            assert!(text.contains(words) && text.contains("R8G8B8A8_UNORM, 2D, OPTIMAL"), "{text}");
        }
    }

    #[test]
    fn a_kind_is_asked_for_once() {
        let formats = ImageFormats::default();
        let (kind, _) = of(&image()).expect("a kind that can be asked for");
        let asked = std::cell::Cell::new(0);
        for _ in 0..3 {
            let found = formats.find(&kind, |_| {
                asked.set(asked.get() + 1);
                ImageSupport::None
            });
            assert_eq!(found, ImageSupport::None);
        }
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn too_few_bytes_are_refused() {
        let needs = |size| MemoryRequirements {
            size,
            alignment: 1,
            memory_type_bits: 1,
            prefers_dedicated: false,
            requires_dedicated: false,
        };
        // SAFETY: there is no chain.
        let check_image_size = |info: &_, needs| unsafe { check_image_size(info, &needs) };
        let plain = image().array_layers(2).samples(vk::SampleCountFlags::TYPE_1);
        let bytes = 4096 * 4096 * 4 * 2;
        assert_eq!(check_image_size(&plain, needs(bytes)), Ok(()));
        for size in [0, bytes - 1] {
            assert!(check_image_size(&plain, needs(size)).is_err());
        }
        let transient = plain.usage(vk::ImageUsageFlags::TRANSIENT_ATTACHMENT);
        assert_eq!(check_image_size(&transient, needs(1)), Ok(()));
    }
}
