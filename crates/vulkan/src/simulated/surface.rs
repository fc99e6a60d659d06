//! Where the texels of a part of an image lie in memory.
//!
//! Texels of an optimally tiled image are tightly packed: layer by layer; in each layer the mip levels, largest
//! first; in each level its aspects, depth before stencil, planes in their order. The planes of a disjoint image
//! are images of their own. Samples of a texel lie side by side.

use std::ops::Range;

use ash::vk;
use vkmem_engine::MemoryHandle;

use crate::driver::texel::{self, CopiedTexels};
use crate::simulated::resources::{MemoryOffset, Resource};
use crate::simulated::rules::ImageShape;

/// One aspect of one mip level of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surface {
    pub(super) shape: ImageShape,
    pub(super) texels: CopiedTexels,
    /// In texels of the aspect.
    pub(super) extent: vk::Extent3D,
    pub(super) memory: MemoryHandle,
    /// Offset of the first layer in the memory, in bytes.
    start: u64,
    /// Distances of blocks, rows of blocks, depth slices and layers, in bytes.
    pub(super) block: u64,
    pub(super) row: u64,
    pub(super) slice: u64,
    layer: u64,
}

/// The aspects that lie behind each other in each level of an image.
pub(super) fn aspects_of(format: vk::Format) -> impl Iterator<Item = vk::ImageAspectFlags> {
    let all = texel::aspects(format).as_raw();
    (0..u32::BITS)
        .map(move |bit| vk::ImageAspectFlags::from_raw(all & (1 << bit)))
        .filter(|it| !it.is_empty())
}

/// Returns the bytes of one layer of an aspect of a level without padding.
fn packed(shape: &ImageShape, texels: &CopiedTexels, level: u32) -> u64 {
    let extent = texels.extent(shape.extent_of(level));
    let columns = u64::from(extent.width.div_ceil(texels.block.width));
    let rows = u64::from(extent.height.div_ceil(texels.block.height));
    columns * rows * u64::from(extent.depth) * stride(shape, texels)
}

fn stride(shape: &ImageShape, texels: &CopiedTexels) -> u64 {
    // The bit of a sample count is the count itself.
    u64::from(texels.stored) * u64::from(shape.samples.as_raw())
}

impl Surface {
    /// Returns the place of an aspect of a level of an image that is bound to memory at `place`; for a disjoint
    /// image, where its plane is bound.
    pub(super) fn of(
        shape: &ImageShape,
        (memory, offset): MemoryOffset,
        aspect: vk::ImageAspectFlags,
        level: u32,
    ) -> Result<Self, String> {
        let format = shape.format;
        let texels = texel::copied(format, aspect).ok_or_else(|| {
            format!("{format:?} has no aspect {aspect:?} that is copied by itself")
        })?;
        let extent = texels.extent(shape.extent_of(level));
        let block = stride(shape, &texels);
        if shape.tiling == vk::ImageTiling::LINEAR {
            let place = shape.layout_of(&vk::ImageSubresource {
                aspect_mask: aspect,
                mip_level: level,
                array_layer: 0,
            })?;
            let (row, slice, layer) = (place.row_pitch, place.depth_pitch, place.array_pitch);
            let start = offset + place.offset;
            return Ok(Self {
                shape: *shape,
                texels,
                extent,
                memory,
                start,
                block,
                row,
                slice,
                layer,
            });
        }
        let disjoint = shape.flags.contains(vk::ImageCreateFlags::DISJOINT);
        let together: Vec<_> = aspects_of(format)
            .filter(|it| !disjoint || *it == aspect)
            .filter_map(|it| Some((it, texel::copied(format, it)?)))
            .collect();
        let of_level =
            |level| together.iter().map(|(_, texels)| packed(shape, texels, level)).sum::<u64>();
        let before = together.iter().take_while(|(it, _)| *it != aspect);
        let before: u64 = before.map(|(_, texels)| packed(shape, texels, level)).sum();
        let layer = (0..shape.mip_levels).map(of_level).sum();
        let start = offset + (0..level).map(of_level).sum::<u64>() + before;
        let row = u64::from(extent.width.div_ceil(texels.block.width)) * block;
        let slice = u64::from(extent.height.div_ceil(texels.block.height)) * row;
        Ok(Self { shape: *shape, texels, extent, memory, start, block, row, slice, layer })
    }

    /// Returns the offset in memory of a row of blocks, in bytes.
    pub(super) fn row_at(&self, layer: u64, slice: u64, row: u64) -> u64 {
        self.start + layer * self.layer + slice * self.slice + row * self.row
    }
}

/// A box of blocks of a surface, in some of its layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) image: vk::Image,
    pub(super) aspect: vk::ImageAspectFlags,
    pub(super) level: u32,
    pub(super) surface: Surface,
    pub(super) base_layer: u32,
    pub(super) layers: u32,
    /// First block of the box, and their number, in each direction.
    pub(super) first: [u64; 3],
    pub(super) counts: [u64; 3],
}

impl Part {
    /// Returns the number of layers times depth slices.
    pub(super) fn sheets(&self) -> u64 {
        u64::from(self.layers) * self.counts[2]
    }

    /// Returns the offset in memory of a row of the box, in bytes.
    pub(super) fn row_at(&self, sheet: u64, row: u64) -> u64 {
        let (layer, slice) = (sheet / self.counts[2], sheet % self.counts[2]);
        let [x, y, z] = self.first;
        let layer = u64::from(self.base_layer) + layer;
        self.surface.row_at(layer, z + slice, y + row) + x * self.surface.block
    }

    /// Puts a box of texels in place. `Err` if it does not lie inside, or cuts blocks.
    pub(super) fn with_texels(
        mut self,
        offset: vk::Offset3D,
        extent: vk::Extent3D,
    ) -> Result<Self, String> {
        let (block, whole) = (self.surface.texels.block, self.surface.extent);
        let sides = [
            (offset.x, extent.width, whole.width, block.width),
            (offset.y, extent.height, whole.height, block.height),
            (offset.z, extent.depth, whole.depth, 1),
        ];
        for (at, (start, length, whole_length, unit)) in sides.into_iter().enumerate() {
            let end = i64::from(start) + i64::from(length);
            if start < 0 || length == 0 || end > i64::from(whole_length) {
                return Err(format!("{offset:?} + {extent:?} lies outside its {whole:?}"));
            }
            let is_whole = |length: i64| length % i64::from(unit) == 0;
            let reaches_the_end = end == i64::from(whole_length);
            if !is_whole(start.into()) || !(is_whole(length.into()) || reaches_the_end) {
                return Err(format!("{offset:?} + {extent:?} cuts texel blocks"));
            }
            // Not negative, as the box lies inside.
            self.first[at] = u64::from(start.unsigned_abs() / unit);
            self.counts[at] = u64::from(length.div_ceil(unit));
        }
        Ok(self)
    }

    /// Puts a box of `counts` blocks in place. `Err` if it does not lie inside.
    pub(super) fn with_blocks(
        self,
        offset: vk::Offset3D,
        counts: [u64; 3],
    ) -> Result<Self, String> {
        let (block, whole) = (self.surface.texels.block, self.surface.extent);
        // As many texels as the blocks have, fewer at the edge of the image.
        let length = |count: u64, unit: u32, start: i32, whole: u32| {
            let full = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(unit);
            let rest = i64::from(whole) - i64::from(start);
            let rest = u32::try_from(rest).unwrap_or(0);
            if full > rest && u64::from(rest.div_ceil(unit)) == count { rest } else { full }
        };
        let extent = vk::Extent3D {
            width: length(counts[0], block.width, offset.x, whole.width),
            height: length(counts[1], block.height, offset.y, whole.height),
            depth: length(counts[2], 1, offset.z, whole.depth),
        };
        self.with_texels(offset, extent)
    }

    /// Returns the layers as a range.
    pub(super) fn layer_range(&self) -> Range<u32> {
        self.base_layer..self.base_layer + self.layers
    }

    /// Returns whether two parts have texels in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.layer_range(), other.layer_range());
        (self.image, self.aspect, self.level) == (other.image, other.aspect, other.level)
            && one.start < two.end
            && two.start < one.end
            && (0..3).all(|at| {
                self.first[at] < other.first[at] + other.counts[at]
                    && other.first[at] < self.first[at] + self.counts[at]
            })
    }
}

impl Resource<ImageShape> {
    /// Returns where an image, or the plane of a disjoint one, is bound.
    pub(super) fn bound_at(&self, aspect: vk::ImageAspectFlags) -> Option<MemoryOffset> {
        if !self.shape.flags.contains(vk::ImageCreateFlags::DISJOINT) {
            return self.bound;
        }
        let plane = texel::plane_of(aspect);
        let found = self.planes.iter().find(|(index, ..)| *index as usize == plane);
        found.map(|(_, memory, offset)| (*memory, *offset))
    }
}
