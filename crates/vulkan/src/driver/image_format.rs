//! What images of a kind a device can have, asked once for each kind.
//!
//! Vulkan forbids larger ones, and drivers do not check it: some answer with memory requirements that are
//! far too small for the image.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ash::vk;
use parking_lot::RwLock;
use vkmem_engine::words::{self, counted};
use vkmem_engine::{Error, MemoryRequirements};

use crate::allocator::DeviceAllocator;
use crate::driver::chain;
use crate::driver::format;

/// `VkPhysicalDeviceImageFormatInfo2` with what can be chained to it: a kind of image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageFormatInfo {
    /// `VkFormat`
    pub format: i32,
    /// `VkImageType`
    pub image_type: i32,
    /// `VkImageTiling`: optimal or linear.
    pub tiling: i32,
    /// `VkImageUsageFlags`
    pub usage: u32,
    /// `VkImageCreateFlags`
    pub flags: u32,
    /// Of a `VkImageStencilUsageCreateInfo`.
    pub stencil_usage: Option<u32>,
    /// `VkFormat`s of a `VkImageFormatListCreateInfo`.
    pub view_formats: Box<[i32]>,
    /// One `VkExternalMemoryHandleTypeFlagBits`, or 0.
    pub handle_type: u32,
}

/// `VkImageFormatProperties`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormatProperties {
    /// In texels.
    pub max_extent: (u32, u32, u32),
    /// A count.
    pub max_mip_levels: u32,
    /// A count.
    pub max_array_layers: u32,
    /// `VkSampleCountFlags`
    pub sample_counts: u32,
}

/// What a device says of a kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSupport {
    /// It cannot be asked for.
    Unknown,
    /// `VK_ERROR_FORMAT_NOT_SUPPORTED`
    None,
    /// What images of this kind may be at most.
    UpTo(ImageFormatProperties),
}

/// Usages that only a `VkVideoProfileListInfoKHR` explains.
const VIDEO: u32 = 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000;

impl ImageFormatInfo {
    /// The kind of an image, but for external memory; and the handle types of that. `None` where the
    /// device cannot be asked with what is known here: for a DRM format modifier, for structures that say
    /// more than those above, for what is no image at all.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    pub(crate) unsafe fn of(info: &vk::ImageCreateInfo<'_>) -> Option<(Self, u32)> {
        let tiling_is_known =
            matches!(info.tiling, vk::ImageTiling::OPTIMAL | vk::ImageTiling::LINEAR);
        let type_is_known = (0..=2).contains(&info.image_type.as_raw());
        let usage = info.usage.as_raw();
        let format_is_known = info.format != vk::Format::UNDEFINED;
        if !tiling_is_known
            || !type_is_known
            || !format_is_known
            || usage == 0
            || usage & VIDEO != 0
        {
            return None;
        }
        // SAFETY: the caller vouches for the chain.
        let chained = unsafe { chain::of_image(info) };
        if chained.has_others {
            return None;
        }
        let found = Self {
            format: info.format.as_raw(),
            image_type: info.image_type.as_raw(),
            tiling: info.tiling.as_raw(),
            usage,
            flags: info.flags.as_raw(),
            stencil_usage: chained.stencil_usage,
            view_formats: chained.view_formats,
            handle_type: 0,
        };
        Some((found, chained.handle_types))
    }

    /// `R8G8B8A8_UNORM, 2D, OPTIMAL tiling, SAMPLED usage`
    fn describe(&self) -> String {
        let format = vk::Format::from_raw(self.format);
        let dimensions = self.image_type + 1;
        let tiling = vk::ImageTiling::from_raw(self.tiling);
        let usage = vk::ImageUsageFlags::from_raw(self.usage);
        let mut text = format!("{format:?}, {dimensions}D, {tiling:?} tiling, {usage:?} usage");
        if self.flags != 0 {
            let flags = vk::ImageCreateFlags::from_raw(self.flags);
            text.push_str(&format!(", flags {flags:?}"));
        }
        if self.handle_type != 0 {
            let name = crate::driver::external::names_of_types(self.handle_type);
            text.push_str(&format!(", shared as {name}"));
        }
        text
    }
}

/// Answers that were given before.
#[derive(Debug, Default)]
pub(crate) struct ImageFormats {
    known: RwLock<HashMap<ImageFormatInfo, ImageSupport, BuildHasherDefault<Mixer>>>,
}

/// Mixes a few numbers quickly. Who chooses them makes only a table of its own slow.
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

/// A program has few kinds of images. One that has more is asked again.
const MOST_KINDS: usize = 4096;

impl ImageFormats {
    /// The answer that was given before, or that of `ask`, without a lock meanwhile.
    fn find(
        &self,
        kind: &ImageFormatInfo,
        ask: impl FnOnce(&ImageFormatInfo) -> ImageSupport,
    ) -> ImageSupport {
        if let Some(known) = self.known.read().get(kind) {
            return *known;
        }
        let found = ask(kind);
        let mut known = self.known.write();
        if known.len() >= MOST_KINDS {
            known.clear();
        }
        // Without room for it the next image asks again.
        if known.try_reserve(1).is_ok() {
            known.insert(kind.clone(), found);
        }
        found
    }
}

impl DeviceAllocator {
    /// An error for an image that the device cannot have. Calls the driver once for each kind.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    pub(crate) unsafe fn check_image_format(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<(), Error> {
        // SAFETY: the caller vouches for the chain.
        let Some((mut kind, handle_types)) = (unsafe { ImageFormatInfo::of(info) }) else {
            return Ok(());
        };
        let ask = |kind: &ImageFormatInfo| self.driver().image_format_properties(kind);
        // With several handle types all of them have to allow it.
        let mut rest = handle_types;
        loop {
            kind.handle_type = rest & rest.wrapping_neg();
            rest &= !kind.handle_type;
            check(info, &kind, self.image_formats().find(&kind, ask))?;
            if rest == 0 {
                return Ok(());
            }
        }
    }
}

fn check(
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

/// Refuses an image for which the driver answers less memory than its texels take.
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
    // What never leaves the tiles of a GPU, and what a structure has compressed, may take less.
    // SAFETY: the caller vouches for the chain.
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
    fn only_structures_that_are_passed_on_are_asked_about() {
        let formats = [vk::Format::R8G8B8A8_UNORM, vk::Format::R8G8B8A8_SRGB];
        let mut list = vk::ImageFormatListCreateInfo::default().view_formats(&formats);
        let mut stencil =
            vk::ImageStencilUsageCreateInfo::default().stencil_usage(vk::ImageUsageFlags::SAMPLED);
        let mut external = vk::ExternalMemoryImageCreateInfo::default()
            .handle_types(vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD);
        let info = image().push_next(&mut list).push_next(&mut stencil).push_next(&mut external);
        let (kind, handle_types) = of(&info).expect("all of them are known");
        assert_eq!((kind.view_formats.len(), kind.stencil_usage, handle_types), (2, Some(4), 1));
        let mut other = vk::ImageDrmFormatModifierListCreateInfoEXT::default();
        assert!(of(&image().push_next(&mut other)).is_none());
        assert!(of(&image().tiling(vk::ImageTiling::DRM_FORMAT_MODIFIER_EXT)).is_none());
        assert!(of(&image().format(vk::Format::UNDEFINED)).is_none());
        assert!(of(&image().usage(vk::ImageUsageFlags::VIDEO_DECODE_DST_KHR)).is_none());
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
