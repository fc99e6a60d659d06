//! Where the texels of a linearly tiled image lie: rows with padding, as most drivers have them.

use ash::vk::{self, Handle};
use vkmem_engine::Call;

use crate::driver::format::{self, FormatBlock};
use crate::driver::texel;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::rules::ImageShape;

/// Alignment of the rows of linearly tiled images, in bytes.
const ROW_ALIGNMENT: u64 = 32;

/// The place of one level of one plane, in bytes.
struct Level {
    row_pitch: u64,
    depth_pitch: u64,
    size: u64,
}

impl ImageShape {
    /// Returns the extent of a mip level in texels.
    pub(super) fn extent_of(&self, level: u32) -> vk::Extent3D {
        let smaller = |length: u32| (length >> level).max(1);
        vk::Extent3D {
            width: smaller(self.extent.width),
            height: smaller(self.extent.height),
            depth: smaller(self.extent.depth),
        }
    }

    /// Returns the texel block of each plane, as which depth and stencil count here; one for other formats
    /// without planes, none for an unknown one. Its width and height are in texels of the image.
    fn plane_blocks(&self) -> Vec<FormatBlock> {
        let planes = format::planes(self.format);
        if !planes.is_empty() {
            let block = |it: &format::FormatPlane| FormatBlock {
                bytes: it.bytes,
                width: it.width,
                height: it.height,
            };
            return planes.iter().map(block).collect();
        }
        let of_aspect = |aspect| {
            let found = texel::copied(self.format, aspect)?;
            Some(FormatBlock { bytes: found.stored, ..found.block })
        };
        let all = [
            vk::ImageAspectFlags::COLOR,
            vk::ImageAspectFlags::DEPTH,
            vk::ImageAspectFlags::STENCIL,
        ];
        all.into_iter().filter_map(of_aspect).collect()
    }

    fn linear_level(&self, block: FormatBlock, level: u32) -> Option<Level> {
        let extent = self.extent_of(level);
        let columns = u64::from(extent.width.div_ceil(block.width));
        let rows = u64::from(extent.height.div_ceil(block.height));
        let row_pitch =
            (columns * u64::from(block.bytes)).checked_next_multiple_of(ROW_ALIGNMENT)?;
        let depth_pitch = row_pitch.checked_mul(rows)?;
        Some(Level { row_pitch, depth_pitch, size: depth_pitch.checked_mul(extent.depth.into())? })
    }

    /// Returns the bytes of a level, with the padding of its rows: of one plane if its block is given.
    /// `None` for an unknown format, and on overflow.
    pub(super) fn linear_bytes(&self, plane: Option<FormatBlock>, level: u32) -> Option<u64> {
        let blocks = plane.map_or_else(|| self.plane_blocks(), |plane| vec![plane]);
        if blocks.is_empty() {
            return None;
        }
        blocks
            .into_iter()
            .try_fold(0_u64, |sum, block| sum.checked_add(self.linear_level(block, level)?.size))
    }

    /// Returns where a subresource of a linearly tiled image lies: levels one behind the other, in each
    /// its planes, and behind the last level the next layer. `Err` says what Vulkan forbids about it.
    pub(super) fn layout_of(
        &self,
        subresource: &vk::ImageSubresource,
    ) -> Result<vk::SubresourceLayout, String> {
        let vk::ImageSubresource { aspect_mask, mip_level, array_layer } = *subresource;
        if self.tiling != vk::ImageTiling::LINEAR {
            return Err(format!("the layout of an image of tiling {:?}", self.tiling));
        }
        if mip_level >= self.mip_levels || array_layer >= self.array_layers {
            return Err(format!("mip level {mip_level}, layer {array_layer}, which it has not"));
        }
        let known = texel::aspects(self.format);
        if aspect_mask.as_raw().count_ones() != 1 || !known.contains(aspect_mask) {
            return Err(format!("aspect {aspect_mask:?} of {:?}", self.format));
        }
        let unknown = || format!("{:?} has no known texels", self.format);
        let blocks = self.plane_blocks();
        let is_stencil = aspect_mask == vk::ImageAspectFlags::STENCIL && blocks.len() > 1;
        let plane = if is_stencil { 1 } else { texel::plane_of(aspect_mask) };
        let block = *blocks.get(plane).ok_or_else(unknown)?;
        // The planes of a disjoint image begin where each is bound.
        let disjoint = self.flags.contains(vk::ImageCreateFlags::DISJOINT);
        let whole = disjoint.then_some(block);
        let bytes = |level| self.linear_bytes(whole, level).ok_or_else(unknown);
        let mut layer_size = 0;
        for level in 0..self.mip_levels {
            layer_size += bytes(level)?;
        }
        let mut offset = u64::from(array_layer) * layer_size;
        for level in 0..mip_level {
            offset += bytes(level)?;
        }
        let before = if disjoint { &[] } else { &blocks[..plane] };
        for block in before {
            offset += self.linear_level(*block, mip_level).ok_or_else(unknown)?.size;
        }
        let Level { row_pitch, depth_pitch, size } =
            self.linear_level(block, mip_level).ok_or_else(unknown)?;
        Ok(vk::SubresourceLayout { offset, size, row_pitch, array_pitch: layer_size, depth_pitch })
    }
}

impl SimulatedDriver {
    /// See [`Driver::subresource_layout`](crate::Driver::subresource_layout).
    pub(super) fn layout_of(
        &self,
        image: vk::Image,
        subresource: &vk::ImageSubresource,
    ) -> vk::SubresourceLayout {
        let call = Call::ImageSubresourceLayout;
        // Cannot fail: it is only counted.
        let _ = self.device.enter(call);
        let shape = self.images.lock().get(image.as_raw()).map(|found| found.shape);
        shape.and_then(|shape| shape.layout_of(subresource)).unwrap_or_else(|what| {
            self.device.report_violation(call, format!("{:#x}: {what}", image.as_raw()));
            vk::SubresourceLayout::default()
        })
    }
}
