//! Copies by the host between its memory and images of a real device.

use std::ffi::c_void;
use std::ptr;

use ash::vk;
use vkmem_engine::{CallError, DeviceError};

use crate::device::vulkan_device::VulkanDevice;
use crate::driver::host_image_copy::{HostCopyPerformance, HostImageCopy, HostRegion};
use crate::driver::image_format::ImageFormatInfo;
use crate::driver::submission::LayoutChange;
use crate::instance::functions::HostImageCopyFunctions;

fn answered(call: &'static str, result: vk::Result) -> Result<(), CallError> {
    result.result().map_err(|error| DeviceError::from_vk_result(error.as_raw()).of(call))
}

fn count(regions: &[HostRegion]) -> u32 {
    u32::try_from(regions.len()).expect("fewer regions than memory holds")
}

impl VulkanDevice {
    fn host_functions(&self, call: &'static str) -> Result<&HostImageCopyFunctions, CallError> {
        let found = self.host_images.as_ref().map(|it| &it.functions);
        found.ok_or(DeviceError::FeatureNotPresent.of(call))
    }
}

impl HostImageCopy for VulkanDevice {
    fn source_layouts(&self) -> &[vk::ImageLayout] {
        self.host_images.as_ref().map_or(&[], |it| &it.source_layouts)
    }

    fn target_layouts(&self) -> &[vk::ImageLayout] {
        self.host_images.as_ref().map_or(&[], |it| &it.target_layouts)
    }

    fn performance(&self, kind: &ImageFormatInfo) -> Option<HostCopyPerformance> {
        self.host_images.as_ref()?;
        self.instance.host_copy_performance(self.physical_device, self.info.api_version, kind)
    }

    unsafe fn copy_memory_to_image(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError> {
        const CALL: &str = "vkCopyMemoryToImage";
        let copy = self.host_functions(CALL)?.copy_memory_to_image;
        if regions.is_empty() {
            return Ok(());
        }
        let regions_of: Vec<_> = regions
            .iter()
            .map(|region| vk::MemoryToImageCopyEXT {
                p_host_pointer: ptr::with_exposed_provenance::<c_void>(region.address),
                memory_row_length: region.row_length,
                memory_image_height: region.image_height,
                image_subresource: region.subresource,
                image_offset: region.offset,
                image_extent: region.extent,
                ..Default::default()
            })
            .collect();
        let info = vk::CopyMemoryToImageInfoEXT {
            dst_image: image,
            dst_image_layout: layout,
            region_count: count(regions),
            p_regions: regions_of.as_ptr(),
            ..Default::default()
        };
        // SAFETY: the caller guarantees image, layout, regions and their memory; the feature is enabled.
        answered(CALL, unsafe { copy(self.logical.handle, &info) })
    }

    unsafe fn copy_image_to_memory(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError> {
        const CALL: &str = "vkCopyImageToMemory";
        let copy = self.host_functions(CALL)?.copy_image_to_memory;
        if regions.is_empty() {
            return Ok(());
        }
        let regions_of: Vec<_> = regions
            .iter()
            .map(|region| vk::ImageToMemoryCopyEXT {
                p_host_pointer: ptr::with_exposed_provenance_mut::<c_void>(region.address),
                memory_row_length: region.row_length,
                memory_image_height: region.image_height,
                image_subresource: region.subresource,
                image_offset: region.offset,
                image_extent: region.extent,
                ..Default::default()
            })
            .collect();
        let info = vk::CopyImageToMemoryInfoEXT {
            src_image: image,
            src_image_layout: layout,
            region_count: count(regions),
            p_regions: regions_of.as_ptr(),
            ..Default::default()
        };
        // SAFETY: the caller guarantees image, layout, regions and their memory; the feature is enabled.
        answered(CALL, unsafe { copy(self.logical.handle, &info) })
    }

    unsafe fn transition_image_layout(
        &self,
        image: vk::Image,
        layouts: LayoutChange,
    ) -> Result<(), CallError> {
        const CALL: &str = "vkTransitionImageLayout";
        let transition = self.host_functions(CALL)?.transition_image_layout;
        let info = vk::HostImageLayoutTransitionInfoEXT::default()
            .image(image)
            .old_layout(layouts.old)
            .new_layout(layouts.new)
            .subresource_range(layouts.range);
        // SAFETY: the caller guarantees image and layouts; the feature is enabled.
        answered(CALL, unsafe { transition(self.logical.handle, 1, &info) })
    }
}
