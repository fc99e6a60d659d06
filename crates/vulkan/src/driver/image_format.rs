//! [`ImageFormatInfo`] and [`ImageSupport`]: the query for the limits of a kind of image, and its result.

use ash::vk;

use crate::driver::chain;
use crate::driver::external::handle_type_names;

/// A kind of image: `VkPhysicalDeviceImageFormatInfo2` with the structures that can be chained to it.
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
    /// Usage of the stencil aspect (`VkImageStencilUsageCreateInfo`).
    pub stencil_usage: Option<u32>,
    /// `VkFormat`s of a `VkImageFormatListCreateInfo`.
    pub view_formats: Box<[i32]>,
    /// One `VkExternalMemoryHandleTypeFlagBits`, or 0.
    pub handle_type: u32,
}

/// Limits of a kind of image: `VkImageFormatProperties`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormatProperties {
    /// Maximum extent in texels.
    pub max_extent: (u32, u32, u32),
    /// Maximum number of mip levels.
    pub max_mip_levels: u32,
    /// Maximum number of array layers.
    pub max_array_layers: u32,
    /// `VkSampleCountFlags`
    pub sample_counts: u32,
}

/// The device's answer for a kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSupport {
    /// The limits cannot be queried.
    Unknown,
    /// Not supported: `VK_ERROR_FORMAT_NOT_SUPPORTED`.
    None,
    /// Supported within these limits.
    UpTo(ImageFormatProperties),
}

/// Usages that need a `VkVideoProfileListInfoKHR`.
const VIDEO: u32 = 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000;

impl ImageFormatInfo {
    /// Returns the kind of an image, without external memory, and its external handle types. `None` if
    /// the device cannot be queried with this information: for a DRM format modifier, for unknown chained
    /// structures, or for an invalid image.
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
        // SAFETY: the caller guarantees a valid chain.
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

    /// Formats the kind: `R8G8B8A8_UNORM, 2D, OPTIMAL tiling, SAMPLED usage`.
    pub(crate) fn describe(&self) -> String {
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
            let name = handle_type_names(self.handle_type);
            text.push_str(&format!(", shared as {name}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
