//! Copies by the host between its memory and simulated images.

use std::ptr;

use ash::vk::{self, Handle};
use vkmem_engine::{Call, CallError, VALIDATION_FAILED};

use crate::driver::format;
use crate::driver::host_image_copy::{HostCopyPerformance, HostImageCopy, HostRegion};
use crate::driver::image_format::{ImageFormatInfo, ImageSupport};
use crate::driver::submission::{LayoutChange, TransferCommand};
use crate::instance::extensions::HOST_IMAGE_COPY;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::image_copy::Rows;
use crate::simulated::layers::Needs;
use crate::simulated::surface::Part;

const SOURCES: [vk::ImageLayout; 3] = [
    vk::ImageLayout::GENERAL,
    vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL,
    vk::ImageLayout::TRANSFER_SRC_OPTIMAL,
];
const TARGETS: [vk::ImageLayout; 3] = [
    vk::ImageLayout::GENERAL,
    vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL,
    vk::ImageLayout::TRANSFER_DST_OPTIMAL,
];

const HOST: Needs = Needs {
    usage: vk::ImageUsageFlags::HOST_TRANSFER_EXT,
    feature: vk::FormatFeatureFlags::empty(),
};

impl SimulatedDriver {
    /// Returns whether the feature `hostImageCopy` is enabled.
    pub(super) fn has_host_image_copy(&self) -> bool {
        self.features.iter().any(|it| it == HOST_IMAGE_COPY)
    }

    /// Returns whether images with `HOST_TRANSFER` usage are supported: not those with planes, as on most devices.
    pub(super) fn can_copy_by_host(&self, of: vk::Format) -> bool {
        self.has_host_image_copy() && format::block(of).is_some()
    }

    /// Counts a call, and reports what Vulkan forbids about it.
    fn checked_host_call(
        &self,
        call: Call,
        run: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), CallError> {
        self.device.enter(call).map_err(|error| error.of(call.name()))?;
        run().map_err(|what| {
            self.device.report_violation(call, what);
            VALIDATION_FAILED.of(call.name())
        })
    }

    /// Returns the part of an image that the host copies, and its rows in the host's memory. `Err` says what Vulkan
    /// forbids about them.
    fn host_part(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        region: &HostRegion,
    ) -> Result<(Part, Rows), String> {
        let named = |what: String| format!("image {:#x}: {what}", image.as_raw());
        let part = self.layers_of(image, region.subresource, HOST)?;
        if part.surface.shape.samples != vk::SampleCountFlags::TYPE_1 {
            return Err(named("has more than one sample".into()));
        }
        let part = part.with_texels(region.offset, region.extent).map_err(named)?;
        let rows = Rows::of(&part, region.row_length, region.image_height).map_err(named)?;
        let range = vk::ImageSubresourceRange {
            aspect_mask: part.aspect,
            base_mip_level: part.level,
            level_count: 1,
            base_array_layer: part.base_layer,
            layer_count: part.layers,
        };
        self.check_host_layouts(image, &range, layout)?;
        Ok((part, rows))
    }

    /// Checks that a range is in a layout, and that no submission uses the image.
    fn check_host_layouts(
        &self,
        image: vk::Image,
        range: &vk::ImageSubresourceRange,
        layout: vk::ImageLayout,
    ) -> Result<(), String> {
        let named = |what: String| format!("image {:#x}: {what}", image.as_raw());
        let uses = |command: &TransferCommand| {
            command.images().iter().flatten().any(|(used, ..)| *used == image)
        };
        let state = self.submissions.state.lock();
        if let Some(found) = state.pending.iter().find(|it| it.commands.iter().any(uses)) {
            let number = found.number;
            return Err(named(format!("is used by submission {number}, which has not ended")));
        }
        let images = self.images.lock();
        let found = images.get(image.as_raw()).map_err(named)?;
        for subresource in found.subresources(range) {
            let current = found.layout(subresource);
            if layout != vk::ImageLayout::UNDEFINED && current != layout {
                return Err(named(format!("is in {current:?}, not in {layout:?}")));
            }
        }
        Ok(())
    }
}

/// Checks that a layout is among those that the device names.
fn check_among(layout: vk::ImageLayout, allowed: &[vk::ImageLayout]) -> Result<(), String> {
    let is_allowed = allowed.contains(&layout);
    is_allowed.then_some(()).ok_or_else(|| format!("{layout:?} is none of the layouts {allowed:?}"))
}

impl HostImageCopy for SimulatedDriver {
    fn source_layouts(&self) -> &[vk::ImageLayout] {
        &SOURCES
    }

    fn target_layouts(&self) -> &[vk::ImageLayout] {
        &TARGETS
    }

    fn performance(&self, kind: &ImageFormatInfo) -> Option<HostCopyPerformance> {
        // Cannot fail: it is only counted.
        let _ = self.device.enter(Call::ImageFormatProperties);
        let usage = vk::ImageUsageFlags::from_raw(kind.usage);
        if !usage.contains(HOST.usage) || self.image_support(kind) == ImageSupport::None {
            return None;
        }
        // Devices compress what they draw to, unless the host reads it.
        let drawn = vk::ImageUsageFlags::COLOR_ATTACHMENT
            | vk::ImageUsageFlags::DEPTH_STENCIL_ATTACHMENT
            | vk::ImageUsageFlags::STORAGE;
        let is_as_without = !usage.intersects(drawn);
        Some(HostCopyPerformance {
            optimal_device_access: is_as_without,
            identical_memory_layout: is_as_without,
        })
    }

    unsafe fn copy_memory_to_image(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError> {
        self.checked_host_call(Call::CopyMemoryToImage, || {
            check_among(layout, &TARGETS)?;
            let all = regions.iter().map(|region| self.host_part(image, layout, region));
            let parts: Vec<_> = all.collect::<Result<_, _>>()?;
            for (region, (part, rows)) in regions.iter().zip(&parts) {
                for (from, to, size) in rows.pieces(part) {
                    let mut bytes = vec![0; size as usize];
                    let source = region.address + from as usize;
                    // SAFETY: the caller guarantees readable memory for the region.
                    unsafe {
                        let source = ptr::with_exposed_provenance::<u8>(source);
                        ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
                    }
                    self.device.device_fill(part.surface.memory, to, size, &bytes);
                }
            }
            Ok(())
        })
    }

    unsafe fn copy_image_to_memory(
        &self,
        image: vk::Image,
        layout: vk::ImageLayout,
        regions: &[HostRegion],
    ) -> Result<(), CallError> {
        self.checked_host_call(Call::CopyImageToMemory, || {
            check_among(layout, &SOURCES)?;
            let all = regions.iter().map(|region| self.host_part(image, layout, region));
            let parts: Vec<_> = all.collect::<Result<_, _>>()?;
            for (region, (part, rows)) in regions.iter().zip(&parts) {
                for (to, from, size) in rows.pieces(part) {
                    let bytes = self.device.device_read(part.surface.memory, from, size);
                    let target = region.address + to as usize;
                    // SAFETY: the caller guarantees writable memory for the region.
                    unsafe {
                        let target = ptr::with_exposed_provenance_mut::<u8>(target);
                        ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
                    }
                }
            }
            Ok(())
        })
    }

    unsafe fn transition_image_layout(
        &self,
        image: vk::Image,
        layouts: LayoutChange,
    ) -> Result<(), CallError> {
        self.checked_host_call(Call::TransitionImageLayout, || {
            let named = |what: String| format!("image {:#x}: {what}", image.as_raw());
            let LayoutChange { range, old, new } = layouts;
            if !matches!(old, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED) {
                check_among(old, &SOURCES)?;
            }
            check_among(new, &[SOURCES, TARGETS].concat())?;
            self.check_host_layouts(image, &range, old)?;
            let mut images = self.images.lock();
            let found = images.get_mut(image.as_raw()).map_err(named)?;
            if !found.shape.usage.contains(HOST.usage) {
                return Err(named(format!("was created without {:?}", HOST.usage)));
            }
            found.check_aspects(range.aspect_mask).map_err(named)?;
            for subresource in found.subresources(&range) {
                found.layouts.insert(subresource, new);
            }
            Ok(())
        })
    }
}
