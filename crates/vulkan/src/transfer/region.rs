//! Which texels of an image a transfer copies, and how they are cut into pieces.

use ash::vk;

use crate::driver::format::{self, FormatBlock};
use crate::driver::texel::{self, AspectTexels, ComponentKind, Components};

/// A box of texels of one aspect and one mip level, in some array layers.
#[derive(Clone, Copy, Debug)]
pub struct ImageRegion {
    /// The one aspect.
    pub aspect: vk::ImageAspectFlags,
    /// The mip level.
    pub mip_level: u32,
    /// The first array layer.
    pub base_layer: u32,
    /// The number of array layers; 1 of a 3D image.
    pub layer_count: u32,
    /// The first texel; of a plane in texels of the plane.
    pub offset: vk::Offset3D,
    /// The sides in texels; of a plane in texels of the plane.
    pub extent: vk::Extent3D,
    /// The unit of storage in a buffer.
    pub block: FormatBlock,
}

/// A part of a region that one Vulkan copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset in bytes among the bytes of the region.
    pub(super) from: u64,
    /// In bytes.
    pub(super) size: u64,
    /// Column, row and slice of the first block. Slices of a 3D image are its depths, of others its layers.
    pub(super) first: [u64; 3],
    /// Sides in blocks and slices.
    sides: [u64; 3],
}

fn greatest_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_divisor(other, one % other) }
}

/// The smallest multiple of both.
fn common_multiple(one: u64, other: u64) -> u64 {
    one / greatest_divisor(one, other) * other
}

impl ImageRegion {
    /// Blocks of a row, rows of a slice, slices.
    pub fn sides(&self) -> [u64; 3] {
        [
            self.extent.width.div_ceil(self.block.width).into(),
            self.extent.height.div_ceil(self.block.height).into(),
            u64::from(self.extent.depth) * u64::from(self.layer_count),
        ]
    }

    /// Bytes of all its texels, tightly packed; `None` above 64 bits.
    pub fn size(&self) -> Option<u64> {
        let [columns, rows, slices] = self.sides();
        columns.checked_mul(rows)?.checked_mul(slices)?.checked_mul(self.block.bytes.into())
    }

    /// What `bufferOffset` is a multiple of, on any queue; `optimal` is what the device likes it to be.
    pub fn buffer_unit(&self, optimal: u64) -> u64 {
        common_multiple(common_multiple(4, self.block.bytes.into()), optimal.max(1))
    }

    /// Bytes that pieces of at most `most` bytes are multiples of: slices, else rows, else blocks.
    pub(super) fn grain(&self, most: u64) -> u64 {
        let [columns, rows, _] = self.sides();
        let block = u64::from(self.block.bytes);
        let (row, slice) = (columns * block, columns * rows * block);
        [slice, row].into_iter().find(|it| *it <= most).unwrap_or(block)
    }

    /// The boxes that `size` bytes from an offset on fill, both in whole blocks.
    pub(super) fn pieces(&self, from: u64, size: u64) -> Vec<Piece> {
        let [columns, rows, _] = self.sides();
        let bytes = u64::from(self.block.bytes);
        let (mut at, end) = (from / bytes, (from + size) / bytes);
        let mut pieces = Vec::with_capacity(1);
        while at < end {
            let left = end - at;
            let (column, row, slice) = (at % columns, at / columns % rows, at / columns / rows);
            let sides = if column > 0 || left < columns {
                [left.min(columns - column), 1, 1]
            } else if row > 0 || left < columns * rows {
                [columns, (left / columns).min(rows - row), 1]
            } else {
                [columns, rows, left / (columns * rows)]
            };
            let blocks: u64 = sides.iter().product();
            pieces.push(Piece {
                from: at * bytes,
                size: blocks * bytes,
                first: [column, row, slice],
                sides,
            });
            at += blocks;
        }
        pieces
    }

    /// The copy of a piece whose bytes lie at an offset of a buffer.
    pub(super) fn copy(&self, piece: &Piece, buffer_offset: u64) -> vk::BufferImageCopy {
        // Inside of an image, whose sides have 31 bits.
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let [column, row, slice] = piece.first.map(narrow);
        let [columns, rows, slices] = piece.sides.map(narrow);
        let (x, y) = (column * self.block.width, row * self.block.height);
        let is_deep = self.extent.depth > 1;
        let (z, depth) = if is_deep { (slice, slices) } else { (0, 1) };
        let (layer, layers) = if is_deep { (0, self.layer_count) } else { (slice, slices) };
        // A block at the edge of a level has fewer texels.
        let width = (columns * self.block.width).min(self.extent.width - x);
        let height = (rows * self.block.height).min(self.extent.height - y);
        vk::BufferImageCopy {
            buffer_offset,
            buffer_row_length: 0,
            buffer_image_height: 0,
            image_subresource: vk::ImageSubresourceLayers {
                aspect_mask: self.aspect,
                mip_level: self.mip_level,
                base_array_layer: self.base_layer + layer,
                layer_count: layers,
            },
            image_offset: vk::Offset3D {
                x: self.offset.x + x as i32,
                y: self.offset.y + y as i32,
                z: self.offset.z + z as i32,
            },
            image_extent: vk::Extent3D { width, height, depth },
        }
    }
}

/// The texels of an aspect in a buffer, as `vkCmdCopyBufferToImage` reads them, and the texels of the image
/// that share one texel of a plane in each direction. 24 bits of depth take 32. `None` for a format that is
/// not known, and for an aspect that it has not.
pub fn copied_texels(
    format: vk::Format,
    aspect: vk::ImageAspectFlags,
) -> Option<(AspectTexels, [u32; 2])> {
    use vk::{Format, ImageAspectFlags as Aspect};
    if !texel::aspects(format).contains(aspect) || aspect.as_raw().count_ones() != 1 {
        return None;
    }
    let number = |bytes: u32, kind: ComponentKind| {
        let block = FormatBlock { bytes, width: 1, height: 1 };
        AspectTexels { block, components: Some(Components { count: 1, bytes, kind }) }
    };
    let combined = match (format, aspect) {
        (
            Format::D16_UNORM_S8_UINT | Format::D24_UNORM_S8_UINT | Format::D32_SFLOAT_S8_UINT,
            Aspect::STENCIL,
        ) => Some(number(1, ComponentKind::Unsigned)),
        (Format::D16_UNORM_S8_UINT, _) => Some(number(2, ComponentKind::Unsigned)),
        (Format::D24_UNORM_S8_UINT | Format::X8_D24_UNORM_PACK32, _) => {
            Some(number(4, ComponentKind::Unsigned))
        }
        (Format::D32_SFLOAT_S8_UINT, _) => Some(number(4, ComponentKind::Float)),
        _ => None,
    };
    if let Some(found) = combined {
        return Some((found, [1, 1]));
    }
    let mut found = texel::texels(format, aspect)?;
    if format::planes(format).is_empty() {
        return Some((found, [1, 1]));
    }
    let shared = [found.block.width, found.block.height];
    (found.block.width, found.block.height) = (1, 1);
    Some((found, shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(extent: [u32; 3], layer_count: u32, block: (u32, u32, u32)) -> ImageRegion {
        let [width, height, depth] = extent;
        ImageRegion {
            aspect: vk::ImageAspectFlags::COLOR,
            mip_level: 0,
            base_layer: 1,
            layer_count,
            offset: vk::Offset3D { x: 4, y: 8, z: 0 },
            extent: vk::Extent3D { width, height, depth },
            block: FormatBlock { bytes: block.0, width: block.1, height: block.2 },
        }
    }

    #[test]
    fn pieces_cover_all_blocks_once_in_their_order() {
        let cases = [
            region([5, 3, 1], 1, (4, 1, 1)),
            region([7, 4, 1], 3, (3, 1, 1)),
            region([7, 5, 6], 1, (2, 1, 1)),
            region([13, 9, 1], 2, (8, 4, 4)),
        ];
        for region in cases {
            let block = u64::from(region.block.bytes);
            let [columns, rows, slices] = region.sides();
            let whole = region.size().unwrap();
            assert_eq!(whole, columns * rows * slices * block);
            for step in 1..=whole / block {
                let mut next = 0;
                for from in (0..whole).step_by((step * block) as usize) {
                    let length = (step * block).min(whole - from);
                    let pieces = region.pieces(from, length);
                    assert!(pieces.len() <= 5);
                    for piece in pieces {
                        assert_eq!(piece.from, next);
                        let [column, row, slice] = piece.first;
                        assert_eq!(piece.from, ((slice * rows + row) * columns + column) * block);
                        next += piece.size;
                        let copy = region.copy(&piece, 0);
                        let (x, width) = (copy.image_offset.x - 4, copy.image_extent.width);
                        assert!(x as u32 + width <= region.extent.width);
                        let y = (copy.image_offset.y - 8) as u32;
                        assert!(y + copy.image_extent.height <= region.extent.height);
                        let z = copy.image_offset.z as u32;
                        assert!(z + copy.image_extent.depth <= region.extent.depth);
                        let part = copy.image_subresource;
                        assert!(part.base_array_layer + part.layer_count <= 1 + region.layer_count);
                    }
                }
                assert_eq!(next, whole);
            }
        }
    }

    #[test]
    fn what_is_whole_is_one_piece() {
        let region = region([16, 16, 1], 6, (4, 1, 1));
        assert_eq!(region.pieces(0, region.size().unwrap()).len(), 1);
        assert_eq!(region.grain(1 << 20), 16 * 16 * 4);
        assert_eq!((region.grain(1023), region.grain(63)), (64, 4));
    }

    #[test]
    fn offsets_suit_blocks_of_any_size() {
        let unit = |bytes, optimal| region([1, 1, 1], 1, (bytes, 1, 1)).buffer_unit(optimal);
        assert_eq!((unit(1, 1), unit(3, 1), unit(6, 1), unit(16, 1)), (4, 12, 12, 16));
        assert_eq!((unit(3, 64), unit(4, 128)), (192, 128));
    }

    #[test]
    fn texels_in_a_buffer() {
        use vk::{Format, ImageAspectFlags as Aspect};
        let of = |format, aspect| {
            copied_texels(format, aspect).map(|(it, shared)| (it.block.bytes, shared))
        };
        assert_eq!(of(Format::D24_UNORM_S8_UINT, Aspect::DEPTH), Some((4, [1, 1])));
        assert_eq!(of(Format::D32_SFLOAT_S8_UINT, Aspect::STENCIL), Some((1, [1, 1])));
        assert_eq!(of(Format::D32_SFLOAT, Aspect::STENCIL), None);
        assert_eq!(of(Format::G8_B8R8_2PLANE_420_UNORM, Aspect::PLANE_1), Some((2, [2, 2])));
        assert_eq!(of(Format::R8G8B8A8_UNORM, Aspect::COLOR), Some((4, [1, 1])));
    }
}
