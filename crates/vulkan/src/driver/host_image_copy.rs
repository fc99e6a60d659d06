//! The trait [`HostImageCopy`]: copies between the host's memory and images without a queue
//! (`VK_EXT_host_image_copy`, Vulkan 1.4).

use ash::vk;
use vkmem_engine::CallError;

use crate::driver::image_format::ImageFormatInfo;
use crate::driver::submission::LayoutChange;

/// Texels of an image, and their place in the host's memory: `VkMemoryToImageCopy` and `VkImageToMemoryCopy`.
#[derive(Clone, Copy, Debug)]
pub struct HostRegion {
    /// Address of the first texel in the host's memory.
    pub address: usize,
    /// Texels in a row there; 0 means rows without gaps.
    pub row_length: u32,
    /// Rows in a slice there; 0 means slices without gaps.
    pub image_height: u32,
    /// Aspect, mip level and layers.
    pub subresource: vk::ImageSubresourceLayers,
    /// First texel in the image.
    pub offset: vk::Offset3D,
    /// Texels in each direction.
    pub extent: vk::Extent3D,
}

/// What `HOST_TRANSFER` usage costs images of a kind: `VkHostImageCopyDevicePerformanceQuery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCopyPerformance {
    /// Whether the device accesses images with that usage as fast as those without.
    pub optimal_device_access: bool,
    /// Whether they are arranged in memory like those without.
    pub identical_memory_layout: bool,
}

/// Copies by the host between its memory and images, which are created with `HOST_TRANSFER` usage. They wait for
/// nothing: no submission that has not ended may use the subresources.
pub trait HostImageCopy {
    /// Returns the layouts that images can be copied from; `GENERAL` is among them.
    fn source_layouts(&self) -> &[vk::ImageLayout];

    /// Returns the layouts that images can be copied to; `GENERAL` is among them.
    fn target_layouts(&self) -> &[vk::ImageLayout];

    /// `vkGetPhysicalDeviceImageFormatProperties2` with `VkHostImageCopyDevicePerformanceQuery`. The kind includes
    /// `HOST_TRANSFER` usage; `None` if such images are not supported.
    fn performance(&self, kind: &ImageFormatInfo) -> Option<HostCopyPerformance>;

    /// `vkCopyMemoryToImage`
    ///
    /// # Errors
    /// Those of the driver call.
    ///
    /// # Safety
    /// The image is live, bound, in this layout, and not used by the device; regions lie inside it, and their
    /// memory is readable and not written meanwhile.
    unsafe fn copy_memory_to_image(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError>;

    /// `vkCopyImageToMemory`
    ///
    /// # Errors
    /// Those of the driver call.
    ///
    /// # Safety
    /// The image is live, bound, in this layout, and not written by the device; regions lie inside it, and their
    /// memory is writable and not accessed meanwhile.
    unsafe fn copy_image_to_memory(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError>;

    /// `vkTransitionImageLayout`. The old layout is `UNDEFINED`, `PREINITIALIZED` or one of
    /// [`source_layouts`](Self::source_layouts), the new one among those of source or target.
    ///
    /// # Errors
    /// Those of the driver call.
    ///
    /// # Safety
    /// The image is live, bound, in the old layout, and not used by the device.
    unsafe fn transition_image_layout(
        &self,
        image: vk::Image,
        layouts: LayoutChange,
    ) -> Result<(), CallError>;
}
