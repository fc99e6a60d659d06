//! Copies between buffers and images, and between images, on the simulated queue.

use ash::vk::{self, Handle};
use vkmem_engine::Finding;
use vkmem_engine::words::bytes;

use crate::driver::contract::Driver;
use crate::driver::texel;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::Access;
use crate::simulated::layers::Needs;
use crate::simulated::surface::Part;
use crate::simulated::work::{Direction, Piece, Plan, Work};

pub(super) const READ: Needs = Needs {
    usage: vk::ImageUsageFlags::TRANSFER_SRC,
    feature: vk::FormatFeatureFlags::TRANSFER_SRC,
};
pub(super) const WRITTEN: Needs = Needs {
    usage: vk::ImageUsageFlags::TRANSFER_DST,
    feature: vk::FormatFeatureFlags::TRANSFER_DST,
};

/// Texels in a buffer or in the host's memory, in rows and slices as `VkBufferImageCopy` has them.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// Distances in blocks.
    row: u64,
    slice: u64,
    /// Bytes of a block.
    block: u64,
}

impl Rows {
    /// Returns the rows of a part. `Err` if the lengths do not hold it.
    pub(super) fn of(part: &Part, row_length: u32, image_height: u32) -> Result<Self, String> {
        let block = part.surface.texels.block;
        let [columns, rows, _] = part.counts;
        let fits = |length: u32, unit: u32, count: u64| {
            length == 0 || (length.is_multiple_of(unit) && u64::from(length / unit) >= count)
        };
        if !fits(row_length, block.width, columns) || !fits(image_height, block.height, rows) {
            return Err(format!(
                "rows of {row_length} and images of {image_height} texels do not hold {columns} x {rows} blocks"
            ));
        }
        let or = |length: u32, unit: u32, count| {
            if length == 0 { count } else { u64::from(length / unit) }
        };
        let row = or(row_length, block.width, columns);
        let slice = row * or(image_height, block.height, rows);
        Ok(Self { row, slice, block: block.bytes.into() })
    }

    /// Returns the bytes from the first copied block to the last.
    pub(super) fn size(&self, part: &Part) -> u64 {
        let [columns, rows, _] = part.counts;
        ((part.sheets() - 1) * self.slice + (rows - 1) * self.row + columns) * self.block
    }

    /// Returns the ranges that are contiguous on both sides: offset from the first block here, offset in the
    /// memory of the image, size, in bytes.
    pub(super) fn pieces(&self, part: &Part) -> Vec<(u64, u64, u64)> {
        let [columns, rows, _] = part.counts;
        let (stored, used) = (part.surface.block, u64::from(part.surface.texels.used));
        let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
        let mut add = |here: u64, there: u64, size: u64| match pieces.last_mut() {
            Some((h, t, s)) if (*h + *s, *t + *s) == (here, there) => *s += size,
            _ => pieces.push((here, there, size)),
        };
        for sheet in 0..part.sheets() {
            for row in 0..rows {
                let here = (sheet * self.slice + row * self.row) * self.block;
                let there = part.row_at(sheet, row);
                if self.block == stored && stored == used {
                    add(here, there, columns * used);
                    continue;
                }
                for column in 0..columns {
                    add(here + column * self.block, there + column * stored, used);
                }
            }
        }
        pieces
    }
}

impl SimulatedDriver {
    /// Plans a copy between a buffer and an image. `Err` names the violation of Vulkan's rules.
    pub(super) fn plan_texels(
        &self,
        buffer: vk::Buffer,
        image: vk::Image,
        region: &vk::BufferImageCopy,
        direction: Direction,
    ) -> Result<Plan, Finding> {
        let needs = if direction == Direction::ToImage { WRITTEN } else { READ };
        let part = self.layers_of(image, region.image_subresource, needs)?;
        let named = |what: String| format!("image {:#x}: {what}", image.as_raw());
        if part.surface.shape.samples != vk::SampleCountFlags::TYPE_1 {
            return Err(named("has more than one sample".into()).into());
        }
        let part = part.with_texels(region.image_offset, region.image_extent).map_err(named)?;
        self.check_aspect(part.aspect)?;
        self.check_granularity(&part).map_err(named)?;
        let rows =
            Rows::of(&part, region.buffer_row_length, region.buffer_image_height).map_err(named)?;
        let depth_or_stencil = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
        let is_depth_or_stencil = part.aspect.intersects(depth_or_stencil);
        let unit = if is_depth_or_stencil { 4 } else { rows.block };
        let offset = region.buffer_offset;
        if !offset.is_multiple_of(unit) {
            let unit = bytes(unit);
            let text =
                format!("buffer offset {offset} is not a multiple of the {unit} of a texel block");
            return Err(text.into());
        }
        let can_draw = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE;
        if !offset.is_multiple_of(4) && !self.flags_of_queue().intersects(can_draw) {
            let text = format!(
                "buffer offset {offset} is not a multiple of 4 bytes, on a queue for transfers only"
            );
            return Err(text.into());
        }
        let usage = match direction {
            Direction::ToImage => vk::BufferUsageFlags::TRANSFER_SRC,
            Direction::ToBuffer => vk::BufferUsageFlags::TRANSFER_DST,
        };
        let size = rows.size(&part);
        let place = self.buffer_place(buffer, offset, size, usage)?;
        let (memory, start) = place;
        let pieces = rows.pieces(&part).into_iter().map(|(in_buffer, in_image, size)| {
            let (of_buffer, of_image) =
                ((memory, start + in_buffer), (part.surface.memory, in_image));
            match direction {
                Direction::ToImage => Piece { from: of_buffer, to: of_image, size },
                Direction::ToBuffer => Piece { from: of_image, to: of_buffer, size },
            }
        });
        let to_image = direction == Direction::ToImage;
        Ok(Plan {
            work: Work::Copy(pieces.collect()),
            accesses: vec![
                Access::bytes(buffer, place, size, !to_image),
                Access::texels(part, to_image),
            ],
        })
    }

    /// Plans a copy between images. `Err` names the violation of Vulkan's rules.
    pub(super) fn plan_image_copy(
        &self,
        source: vk::Image,
        target: vk::Image,
        region: &vk::ImageCopy,
    ) -> Result<Plan, String> {
        let (mut pieces, mut accesses) = (Vec::new(), Vec::new());
        for (from, to) in pairs(region.src_subresource, region.dst_subresource)? {
            let from = self.layers_of(source, from, READ)?;
            let to = self.layers_of(target, to, WRITTEN)?;
            self.check_aspect(from.aspect)?;
            are_compatible(&from, &to)?;
            // Slices of a volume may be layers of an array: the extent counts those of either.
            let [from_depth, to_depth] = depths(&from, &to, region.extent.depth)?;
            let extent = vk::Extent3D { depth: from_depth, ..region.extent };
            let from = from
                .with_texels(region.src_offset, extent)
                .map_err(|what| format!("image {:#x}: {what}", source.as_raw()))?;
            let counts = [from.counts[0], from.counts[1], to_depth.into()];
            let to = to
                .with_blocks(region.dst_offset, counts)
                .map_err(|what| format!("image {:#x}: {what}", target.as_raw()))?;
            for part in [&from, &to] {
                self.check_granularity(part)
                    .map_err(|what| format!("image {:#x}: {what}", part.image.as_raw()))?;
            }
            if from.sheets() != to.sheets() {
                let (one, two) = (from.sheets(), to.sheets());
                return Err(format!("a copy of {one} layers or slices to {two}"));
            }
            if from.overlaps(&to) {
                return Err(format!(
                    "image {:#x}: the source of the copy overlaps its target",
                    source.as_raw()
                ));
            }
            pieces.extend(between(&from, &to));
            accesses.extend([Access::texels(from, false), Access::texels(to, true)]);
        }
        Ok(Plan { work: Work::Copy(pieces), accesses })
    }

    /// Queues for transfers only may copy in larger units than texel blocks.
    fn check_granularity(&self, part: &Part) -> Result<(), String> {
        let vk::Extent3D { width, height, depth } = self.image_granularity();
        let (extent, block) = (part.surface.extent, part.surface.texels.block);
        let whole = [
            extent.width.div_ceil(block.width),
            extent.height.div_ceil(block.height),
            extent.depth,
        ];
        for (at, unit) in [width, height, depth].into_iter().enumerate() {
            let (first, count, whole) = (part.first[at], part.counts[at], u64::from(whole[at]));
            // 0: only whole levels.
            let unit = if unit == 0 { whole } else { unit.into() };
            let fits = count.is_multiple_of(unit) || first + count == whole;
            if !first.is_multiple_of(unit) || !fits {
                return Err(format!(
                    "blocks {first} + {count} of {whole} are no multiples of the queue's {unit}"
                ));
            }
        }
        Ok(())
    }

    /// Queues without `GRAPHICS` do not copy depth and stencil.
    pub(super) fn check_aspect(&self, aspect: vk::ImageAspectFlags) -> Result<(), String> {
        let depth_or_stencil = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
        let is_allowed = !aspect.intersects(depth_or_stencil)
            || self.flags_of_queue().contains(vk::QueueFlags::GRAPHICS);
        is_allowed
            .then_some(())
            .ok_or_else(|| format!("a copy of {aspect:?} on a queue without GRAPHICS"))
    }
}

/// Returns the pairs of single aspects that a copy names. `Err` if the aspects of its sides do not fit.
pub(super) fn pairs(
    from: vk::ImageSubresourceLayers,
    to: vk::ImageSubresourceLayers,
) -> Result<Vec<(vk::ImageSubresourceLayers, vk::ImageSubresourceLayers)>, String> {
    let (one, two) = (from.aspect_mask, to.aspect_mask);
    let depth_or_stencil = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    let is_single = one.as_raw().count_ones() == 1 && two.as_raw().count_ones() == 1;
    if one != two && (!is_single || (one | two).intersects(depth_or_stencil)) {
        return Err(format!("a copy from {one:?} to {two:?}"));
    }
    if one != two {
        return Ok(vec![(from, to)]);
    }
    let bits = (0..u32::BITS).map(|bit| one.as_raw() & (1 << bit)).filter(|bit| *bit != 0);
    let single = |layers, aspect| vk::ImageSubresourceLayers { aspect_mask: aspect, ..layers };
    let found: Vec<_> = bits
        .map(vk::ImageAspectFlags::from_raw)
        .map(|aspect| (single(from, aspect), single(to, aspect)))
        .collect();
    if found.is_empty() { Err("a copy of no aspect".into()) } else { Ok(found) }
}

/// Returns the depth of either side of a copy between images.
fn depths(from: &Part, to: &Part, depth: u32) -> Result<[u32; 2], String> {
    let is_volume = |part: &Part| part.surface.shape.image_type == vk::ImageType::TYPE_3D;
    let of_flat = |part: &Part| {
        let layers = part.layers;
        let fits = layers == depth;
        fits.then_some(1).ok_or_else(|| format!("a copy of depth {depth} and of {layers} layers"))
    };
    match (is_volume(from), is_volume(to)) {
        (true, false) => Ok([depth, of_flat(to)?]),
        (false, true) => Ok([of_flat(from)?, depth]),
        _ => Ok([depth, depth]),
    }
}

/// Checks that texels of one part can be copied to another one byte by byte.
fn are_compatible(from: &Part, to: &Part) -> Result<(), String> {
    let (one, two) = (from.surface.shape, to.surface.shape);
    let has_depth = |format| !texel::aspects(format).intersects(vk::ImageAspectFlags::COLOR);
    let is_plane = |part: &Part| part.aspect.as_raw() >= vk::ImageAspectFlags::PLANE_0.as_raw();
    let is_depth = |part: &Part| has_depth(part.surface.shape.format) && !is_plane(part);
    let (first, second) = (one.format, two.format);
    if (is_depth(from) || is_depth(to)) && first != second {
        return Err(format!("a copy from {first:?} to {second:?}"));
    }
    let (size, other) = (from.surface.texels.block.bytes, to.surface.texels.block.bytes);
    if size != other {
        return Err(format!("a copy from {first:?}, of {size} bytes, to {second:?}, of {other}"));
    }
    if one.samples != two.samples {
        return Err(format!("a copy from {:?} to {:?} samples", one.samples, two.samples));
    }
    Ok(())
}

/// Returns the ranges of memory that are copied from one part to another of as many blocks.
fn between(from: &Part, to: &Part) -> Vec<Piece> {
    let [columns, rows, _] = from.counts;
    let (one, two) = (&from.surface, &to.surface);
    // All bytes of the samples of a block.
    let used = u64::from(one.texels.used) * u64::from(one.shape.samples.as_raw());
    let mut pieces = Vec::new();
    for sheet in 0..from.sheets() {
        for row in 0..rows {
            let (source, target) = (from.row_at(sheet, row), to.row_at(sheet, row));
            let mut add = |column: u64, size| {
                pieces.push(Piece {
                    from: (one.memory, source + column * one.block),
                    to: (two.memory, target + column * two.block),
                    size,
                });
            };
            if one.block == used && two.block == used {
                add(0, columns * used);
            } else {
                (0..columns).for_each(|column| add(column, used));
            }
        }
    }
    pieces
}
