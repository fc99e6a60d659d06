//! Copies on the simulated queue, on what the device sees of the memory.

use std::ops::Range;

use ash::vk::{self, Handle};
use vkmem_engine::{Call, MemoryHandle, MemoryRange};

use crate::driver::contract::{HostSide, TransferCommand};
use crate::driver::{format, texel};
use crate::simulated::driver::SimulatedDriver;
use vkmem_engine::words::bytes;

/// Memory and the offset in it, in bytes.
type MemoryOffset = (MemoryHandle, u64);

impl SimulatedDriver {
    /// Runs one command. `Err` says what Vulkan forbids about it; it then did nothing.
    pub(super) fn run(&self, command: &TransferCommand) -> Result<(), String> {
        match *command {
            TransferCommand::FillBuffer { buffer, offset, size, value } => {
                if !offset.is_multiple_of(4) || !size.is_multiple_of(4) {
                    return Err(format!("a fill of {offset} + {size}, not multiples of 4"));
                }
                let usage = vk::BufferUsageFlags::TRANSFER_DST;
                let (memory, offset) = self.buffer_place(buffer, offset, size, usage)?;
                self.device.device_fill(memory, offset, size, &value.to_ne_bytes());
            }
            TransferCommand::CopyBuffer { source, source_offset, target, target_offset, size } => {
                let usage = vk::BufferUsageFlags::TRANSFER_SRC;
                let from = self.buffer_place(source, source_offset, size, usage)?;
                let usage = vk::BufferUsageFlags::TRANSFER_DST;
                let to = self.buffer_place(target, target_offset, size, usage)?;
                self.device.device_copy(from.0, from.1, to.0, to.1, size);
            }
            TransferCommand::CopyBufferToImage { buffer, buffer_offset, image, extent, layout } => {
                let usage = vk::ImageUsageFlags::TRANSFER_DST;
                // What the image held is lost, so any layout will do before.
                let to = self.image_place(image, extent, usage, None)?;
                if matches!(layout, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED) {
                    return Err(format!("an image is not left in {layout:?}"));
                }
                aligned_to_texel(buffer_offset, to.block)?;
                let usage = vk::BufferUsageFlags::TRANSFER_SRC;
                let from = self.buffer_place(buffer, buffer_offset, to.size, usage)?;
                for (packed, place, size) in to.runs() {
                    self.device.device_copy(from.0, from.1 + packed, to.memory, place, size);
                }
                if let Ok(found) = self.images.lock().get_mut(image.as_raw()) {
                    found.shape.layout = layout;
                }
            }
            TransferCommand::CopyImageToBuffer { image, extent, layout, buffer, buffer_offset } => {
                let usage = vk::ImageUsageFlags::TRANSFER_SRC;
                let from = self.image_place(image, extent, usage, Some(layout))?;
                aligned_to_texel(buffer_offset, from.block)?;
                let usage = vk::BufferUsageFlags::TRANSFER_DST;
                let to = self.buffer_place(buffer, buffer_offset, from.size, usage)?;
                for (packed, place, size) in from.runs() {
                    self.device.device_copy(from.memory, place, to.0, to.1 + packed, size);
                }
            }
        }
        Ok(())
    }

    /// See [`Driver::unflushed`](crate::Driver::unflushed).
    pub(super) fn unflushed_at(&self, place: HostSide) -> Option<Range<u64>> {
        // The start of what is asked about, and where the range that is looked at lies behind it.
        let (range, before) = match place {
            HostSide::Memory(range) => (range, 0),
            HostSide::Buffer { buffer, offset, size } => {
                let (memory, start) = self.buffers.lock().get(buffer.as_raw()).ok()?.bound?;
                (MemoryRange { memory, offset: start + offset, size }, offset)
            }
            HostSide::Image(image) => {
                let images = self.images.lock();
                let found = images.get(image.as_raw()).ok()?;
                let (memory, offset) = found.bound?;
                (MemoryRange { memory, offset, size: found.requirements.size }, 0)
            }
        };
        let found = self.device.unflushed(range)?;
        let start = range.offset - before;
        Some(found.start - start..found.end - start)
    }

    /// What a resource is bound to, if that still exists.
    fn live_memory(&self, bound: Option<MemoryOffset>) -> Result<MemoryOffset, String> {
        let (memory, offset) = bound.ok_or("is not bound")?;
        match self.device.memory(memory) {
            Some(_) => Ok((memory, offset)),
            None => Err(format!("its memory {:#x} was freed", memory.0)),
        }
    }

    /// Where a range of a buffer lies.
    fn buffer_place(
        &self,
        buffer: vk::Buffer,
        offset: u64,
        size: u64,
        usage: vk::BufferUsageFlags,
    ) -> Result<MemoryOffset, String> {
        let handle = buffer.as_raw();
        let named = |what: String| format!("buffer {handle:#x}: {what}");
        let buffers = self.buffers.lock();
        let found = buffers.get(handle).map_err(named)?;
        if size == 0 {
            return Err(named("a copy of nothing".into()));
        }
        if found.shape.usage & u64::from(usage.as_raw()) == 0 {
            return Err(named(format!("was created without {usage:?}")));
        }
        if offset.checked_add(size).is_none_or(|end| end > found.shape.size) {
            let whole = found.shape.size;
            return Err(named(format!("{offset} + {size} lies outside its {}", bytes(whole))));
        }
        let (memory, start) = self.live_memory(found.bound).map_err(named)?;
        Ok((memory, start + offset))
    }

    /// Where the first level and layer of an image lies.
    fn image_place(
        &self,
        image: vk::Image,
        extent: vk::Extent3D,
        usage: vk::ImageUsageFlags,
        layout: Option<vk::ImageLayout>,
    ) -> Result<ImagePlace, String> {
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
        if extent != shape.extent {
            return Err(named(format!("is {:?}, not {extent:?}", shape.extent)));
        }
        if let Some(layout) = layout.filter(|layout| *layout != shape.layout) {
            return Err(named(format!("is in {:?}, not in {layout:?}", shape.layout)));
        }
        let block = format::block(shape.format);
        let block =
            block.ok_or_else(|| named(format!("{:?} has no single block", shape.format)))?;
        let size = block.size_of(extent).expect("no image outgrows its requirements");
        let (memory, offset) = self.live_memory(found.bound).map_err(named)?;
        let whole = ImagePlace {
            memory,
            offset,
            size,
            block: block.bytes.into(),
            run: size,
            runs: (1, 1),
            pitch: (0, 0),
        };
        if shape.tiling != vk::ImageTiling::LINEAR {
            return Ok(whole);
        }
        let subresource = vk::ImageSubresource {
            aspect_mask: texel::aspects(shape.format),
            mip_level: 0,
            array_layer: 0,
        };
        let layout = shape.layout_of(&subresource).map_err(named)?;
        let rows = u64::from(extent.height.div_ceil(block.height));
        let slices = u64::from(extent.depth);
        Ok(ImagePlace {
            offset: offset + layout.offset,
            run: size / rows / slices,
            runs: (slices, rows),
            pitch: (layout.depth_pitch, layout.row_pitch),
            ..whole
        })
    }

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

/// Where the texels of an image lie: in one run, or row by row.
struct ImagePlace {
    memory: MemoryHandle,
    /// In bytes, as all here.
    offset: u64,
    /// Of all texels, tightly packed.
    size: u64,
    /// Of a texel block.
    block: u64,
    /// Of one run.
    run: u64,
    /// Slices, and runs of each.
    runs: (u64, u64),
    /// From one slice to the next, and from one run to the next.
    pitch: (u64, u64),
}

impl ImagePlace {
    /// Each run: where it is in tightly packed texels, where in the memory, and its size.
    fn runs(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let Self { offset, run, runs: (slices, rows), pitch, .. } = *self;
        (0..slices * rows).map(move |index| {
            let (slice, row) = (index / rows, index % rows);
            (index * run, offset + slice * pitch.0 + row * pitch.1, run)
        })
    }
}

fn aligned_to_texel(offset: u64, block: u64) -> Result<(), String> {
    if offset.is_multiple_of(block) {
        return Ok(());
    }
    Err(format!(
        "buffer offset {offset} is not a multiple of the {} of a texel block",
        bytes(block)
    ))
}
