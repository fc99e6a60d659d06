//! Copies between buffers and images on the simulated queue.
//!
//! Texels of an image are tightly packed in its memory: layer by layer; in each layer the mip levels, largest
//! first; in each level depth before stencil.

use ash::vk::{self, Handle};
use vkmem_engine::words::bytes;

use crate::driver::format::{self, FormatBlock};
use crate::driver::submission::LayoutChange;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::resources::{MemoryOffset, Resource};
use crate::simulated::rules::ImageShape;

/// The direction of a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToImage,
    ToBuffer,
}

impl Direction {
    fn usages(self) -> (vk::BufferUsageFlags, vk::ImageUsageFlags) {
        match self {
            Self::ToImage => {
                (vk::BufferUsageFlags::TRANSFER_SRC, vk::ImageUsageFlags::TRANSFER_DST)
            }
            Self::ToBuffer => {
                (vk::BufferUsageFlags::TRANSFER_DST, vk::ImageUsageFlags::TRANSFER_SRC)
            }
        }
    }

    fn layout(self) -> vk::ImageLayout {
        match self {
            Self::ToImage => vk::ImageLayout::TRANSFER_DST_OPTIMAL,
            Self::ToBuffer => vk::ImageLayout::TRANSFER_SRC_OPTIMAL,
        }
    }
}

/// How one aspect of a format is stored in images and in buffers.
#[derive(Clone, Copy)]
struct Texels {
    /// The block of texels in a buffer.
    block: FormatBlock,
    /// Bytes per block that the image stores: 24-bit depth takes 32 bits in a buffer.
    stored: u64,
    /// Bytes per block of the aspects before it.
    before: u64,
}

/// Returns the layout of an aspect of a format. `Err`: the reason if the format has no such aspect.
fn texels(of: vk::Format, aspect: vk::ImageAspectFlags) -> Result<Texels, String> {
    let whole = format::block(of).ok_or_else(|| format!("{of:?} has no single block"))?;
    let aspects: &[(vk::ImageAspectFlags, u64, u32)] = {
        const DEPTH: vk::ImageAspectFlags = vk::ImageAspectFlags::DEPTH;
        const STENCIL: vk::ImageAspectFlags = vk::ImageAspectFlags::STENCIL;
        match of {
            vk::Format::D16_UNORM => &[(DEPTH, 2, 2)],
            vk::Format::X8_D24_UNORM_PACK32 | vk::Format::D32_SFLOAT => &[(DEPTH, 4, 4)],
            vk::Format::S8_UINT => &[(STENCIL, 1, 1)],
            vk::Format::D16_UNORM_S8_UINT => &[(DEPTH, 2, 2), (STENCIL, 1, 1)],
            vk::Format::D24_UNORM_S8_UINT => &[(DEPTH, 3, 4), (STENCIL, 1, 1)],
            vk::Format::D32_SFLOAT_S8_UINT => &[(DEPTH, 4, 4), (STENCIL, 1, 1)],
            _ if aspect == vk::ImageAspectFlags::COLOR => {
                return Ok(Texels { block: whole, stored: whole.bytes.into(), before: 0 });
            }
            _ => &[],
        }
    };
    let mut before = 0;
    for (known, stored, in_buffer) in aspects {
        if *known == aspect {
            let block = FormatBlock { bytes: *in_buffer, ..whole };
            return Ok(Texels { block, stored: *stored, before });
        }
        before += stored;
    }
    Err(format!("{of:?} has no aspect {aspect:?} that is copied by itself"))
}

/// A region in blocks, after all checks.
struct Blocks {
    /// Size of a block in bytes, in the buffer and in the image.
    in_buffer: u64,
    in_image: u64,
    /// Blocks in a row, rows in a slice, slices in a layer.
    columns: u64,
    rows: u64,
    slices: u64,
    layers: u64,
    /// Distance of rows and slices in the buffer, in blocks.
    buffer_row: u64,
    buffer_slice: u64,
    /// Offset of the first block in the image, and distances of rows, slices and layers there, in bytes.
    first: u64,
    image_row: u64,
    image_slice: u64,
    image_layer: u64,
}

impl Blocks {
    fn of(shape: &ImageShape, region: &vk::BufferImageCopy) -> Result<Self, String> {
        let part = region.image_subresource;
        if part.mip_level >= shape.mip_levels {
            return Err(format!("has no mip level {}", part.mip_level));
        }
        let end = part.base_array_layer.checked_add(part.layer_count);
        if part.layer_count == 0 || end.is_none_or(|end| end > shape.array_layers) {
            let (base, count) = (part.base_array_layer, part.layer_count);
            return Err(format!("layers {base} + {count} lie outside its {}", shape.array_layers));
        }
        let Texels { block, stored, before } = texels(shape.format, part.aspect_mask)?;
        let level = shape.extent_of(part.mip_level);
        let (offset, extent) = (region.image_offset, region.image_extent);
        for (start, length, whole, unit) in [
            (offset.x, extent.width, level.width, block.width),
            (offset.y, extent.height, level.height, block.height),
            (offset.z, extent.depth, level.depth, 1),
        ] {
            let end = i64::from(start) + i64::from(length);
            if start < 0 || length == 0 || end > i64::from(whole) {
                return Err(format!("{offset:?} + {extent:?} lies outside its {level:?}"));
            }
            let is_whole = |length: i64| length % i64::from(unit) == 0;
            if !is_whole(start.into()) || !(is_whole(length.into()) || end == i64::from(whole)) {
                return Err(format!("{offset:?} + {extent:?} cuts texel blocks"));
            }
        }
        let (row, height) = (region.buffer_row_length, region.buffer_image_height);
        if (row != 0 && (row < extent.width || !row.is_multiple_of(block.width)))
            || (height != 0 && (height < extent.height || !height.is_multiple_of(block.height)))
        {
            return Err(format!("rows of {row} and images of {height} do not hold {extent:?}"));
        }
        let across = |length: u32| u64::from(length.div_ceil(block.width));
        let down = |length: u32| u64::from(length.div_ceil(block.height));
        let blocks = |it: vk::Extent3D| across(it.width) * down(it.height) * u64::from(it.depth);
        let (columns, rows) = (across(extent.width), down(extent.height));
        let buffer_row = if row == 0 { columns } else { across(row) };
        let buffer_rows = if height == 0 { rows } else { down(height) };
        let whole: u64 = format::block(shape.format).map_or(0, |it| it.bytes.into());
        let levels = |count: u32| -> u64 {
            (0..count).map(|level| blocks(shape.extent_of(level)) * whole).sum()
        };
        let row = across(level.width) * stored;
        let (start, image_row, image_slice, image_layer) =
            if shape.tiling == vk::ImageTiling::LINEAR {
                let layout = shape.layout_of(&vk::ImageSubresource {
                    aspect_mask: part.aspect_mask,
                    mip_level: part.mip_level,
                    array_layer: part.base_array_layer,
                })?;
                (layout.offset, layout.row_pitch, layout.depth_pitch, layout.array_pitch)
            } else {
                let layer = levels(shape.mip_levels);
                let start = u64::from(part.base_array_layer) * layer
                    + levels(part.mip_level)
                    + blocks(level) * before;
                (start, row, row * down(level.height), layer)
            };
        // Not negative, as the region lies inside of the level.
        let block_of = |at: i32, unit: u32| u64::from(at.unsigned_abs() / unit);
        let first = start
            + block_of(offset.z, 1) * image_slice
            + block_of(offset.y, block.height) * image_row
            + block_of(offset.x, block.width) * stored;
        Ok(Self {
            in_buffer: block.bytes.into(),
            in_image: stored,
            columns,
            rows,
            slices: extent.depth.into(),
            layers: part.layer_count.into(),
            buffer_row,
            buffer_slice: buffer_row * buffer_rows,
            first,
            image_row,
            image_slice,
            image_layer,
        })
    }

    /// Returns the bytes of the buffer from the first copied block to the last.
    fn buffer_size(&self) -> u64 {
        let slices = self.slices * self.layers - 1;
        let blocks = slices * self.buffer_slice + (self.rows - 1) * self.buffer_row + self.columns;
        blocks * self.in_buffer
    }

    /// Returns ranges that are contiguous on both sides: offset in the buffer, offset in the image, size, in
    /// bytes.
    fn pieces(&self) -> Vec<(u64, u64, u64)> {
        let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
        let mut add = |buffer: u64, image: u64, size: u64| match pieces.last_mut() {
            Some((b, i, s)) if (*b + *s, *i + *s) == (buffer, image) => *s += size,
            _ => pieces.push((buffer, image, size)),
        };
        for layer in 0..self.layers {
            for slice in 0..self.slices {
                for row in 0..self.rows {
                    let slices = (layer * self.slices + slice) * self.buffer_slice;
                    let buffer = (slices + row * self.buffer_row) * self.in_buffer;
                    let image = self.first
                        + layer * self.image_layer
                        + slice * self.image_slice
                        + row * self.image_row;
                    if self.in_buffer == self.in_image {
                        add(buffer, image, self.columns * self.in_image);
                        continue;
                    }
                    for column in 0..self.columns {
                        let (buffer, image) =
                            (buffer + column * self.in_buffer, image + column * self.in_image);
                        add(buffer, image, self.in_image);
                    }
                }
            }
        }
        pieces
    }
}

impl Resource<ImageShape> {
    /// Returns the mip levels and layers of a range.
    fn subresources(&self, range: &vk::ImageSubresourceRange) -> Vec<(u32, u32)> {
        let count = |count: u32, base: u32, whole: u32| {
            let rest = whole.saturating_sub(base);
            if count == vk::REMAINING_MIP_LEVELS { rest } else { count.min(rest) }
        };
        let shape = &self.shape;
        let levels = count(range.level_count, range.base_mip_level, shape.mip_levels);
        let layers = count(range.layer_count, range.base_array_layer, shape.array_layers);
        let of_level = |level: u32| {
            (0..layers).map(move |at| (range.base_mip_level + level, range.base_array_layer + at))
        };
        (0..levels).flat_map(of_level).collect()
    }

    fn layout(&self, subresource: (u32, u32)) -> vk::ImageLayout {
        self.layouts.get(&subresource).copied().unwrap_or(self.shape.layout)
    }
}

impl SimulatedDriver {
    /// Copies a region. `Err` names the violation of Vulkan's rules; then nothing was copied.
    pub(super) fn copy_image(
        &self,
        buffer: vk::Buffer,
        image: vk::Image,
        region: &vk::BufferImageCopy,
        layouts: LayoutChange,
        direction: Direction,
    ) -> Result<(), String> {
        let (buffer_usage, image_usage) = direction.usages();
        let (in_image, blocks) = self.image_place(image, region, &layouts, image_usage)?;
        let is_colour = region.image_subresource.aspect_mask == vk::ImageAspectFlags::COLOR;
        let unit = if is_colour { blocks.in_buffer } else { 4 };
        if !region.buffer_offset.is_multiple_of(unit) {
            let offset = region.buffer_offset;
            let unit = bytes(unit);
            return Err(format!(
                "buffer offset {offset} is not a multiple of the {unit} of a texel block"
            ));
        }
        let size = blocks.buffer_size();
        let in_buffer = self.buffer_place(buffer, region.buffer_offset, size, buffer_usage)?;
        for (from_buffer, from_image, size) in blocks.pieces() {
            let of_buffer = (in_buffer.0, in_buffer.1 + from_buffer);
            let of_image = (in_image.0, in_image.1 + from_image);
            let (from, to) = match direction {
                Direction::ToImage => (of_buffer, of_image),
                Direction::ToBuffer => (of_image, of_buffer),
            };
            self.device.device_copy(from.0, from.1, to.0, to.1, size);
        }
        let after = if layouts.is_final() { layouts.new } else { direction.layout() };
        if let Ok(found) = self.images.lock().get_mut(image.as_raw()) {
            for subresource in found.subresources(&layouts.range) {
                found.layouts.insert(subresource, after);
            }
        }
        Ok(())
    }

    /// Returns the place of an image in memory, and the layout of a region in it.
    fn image_place(
        &self,
        image: vk::Image,
        region: &vk::BufferImageCopy,
        layouts: &LayoutChange,
        usage: vk::ImageUsageFlags,
    ) -> Result<(MemoryOffset, Blocks), String> {
        let handle = image.as_raw();
        let named = |what: String| format!("image {handle:#x}: {what}");
        let images = self.images.lock();
        let found = images.get(handle).map_err(named)?;
        let shape = &found.shape;
        if !shape.usage.contains(usage) {
            return Err(named(format!("was created without {usage:?}")));
        }
        if shape.samples != vk::SampleCountFlags::TYPE_1 {
            return Err(named("has more than one sample".into()));
        }
        let blocks = Blocks::of(shape, region).map_err(named)?;
        let part = region.image_subresource;
        let changed = found.subresources(&layouts.range);
        for layer in part.base_array_layer..part.base_array_layer + part.layer_count {
            if !changed.contains(&(part.mip_level, layer)) {
                let level = part.mip_level;
                let what =
                    format!("level {level} of layer {layer} is put into no layout for the copy");
                return Err(named(what));
            }
        }
        // `UNDEFINED` is allowed for any current layout.
        if layouts.old != vk::ImageLayout::UNDEFINED {
            for subresource in changed {
                let layout = found.layout(subresource);
                if layout != layouts.old {
                    return Err(named(format!("is in {layout:?}, not in {:?}", layouts.old)));
                }
            }
        }
        let place = self.live_memory(found.bound).map_err(named)?;
        Ok((place, blocks))
    }
}
