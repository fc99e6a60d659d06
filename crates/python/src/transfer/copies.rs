//! Copies and fills on a device's queue, with checks that Vulkan leaves to the caller.

use std::sync::Arc;

use ash::vk;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::words::bytes;
use vkmem_engine::{AllocationCreateFlags, AllocationCreateInfo, Error};
use vkmem_vulkan::{
    DeviceAllocator, HostSide, LayoutChange, ResourceHandle, TransferCommand, first_texels, format,
};

use crate::arguments::image_layout::read_image_layout;
use crate::arguments::numbers::{unsigned, unsigned_32, unsigned_or_zero};
use crate::errors::{IntoPyResult, feature_not_present, invalid};
use crate::interpreter::detach;
use crate::lifetime::ownership::{DeviceCore, Resource, ResourceRef};
use crate::memory::host_copy;
use crate::objects::buffer::Buffer;
use crate::objects::device::Device;
use crate::objects::image::{Image, tracked_layout};
use crate::package::BUFFER_RANGE;

pub(super) const TRANSFER_SRC: u64 = vk::BufferUsageFlags::TRANSFER_SRC.as_raw() as u64;
pub(super) const TRANSFER_DST: u64 = vk::BufferUsageFlags::TRANSFER_DST.as_raw() as u64;

/// Warns if the host has written to bytes that a copy reads, without a flush.
pub(super) fn check_read(py: Python<'_>, resource: &Resource, place: HostSide) -> PyResult<()> {
    let harm = "the device reads there: it sees what was there before";
    resource.check_flushed(py, place, harm)
}

/// Warns if the host has written to bytes that a copy or a fill overwrites, without a flush.
pub(super) fn check_written(py: Python<'_>, resource: &Resource, place: HostSide) -> PyResult<()> {
    let harm = "the device writes there: either write may get lost";
    resource.check_flushed(py, place, harm)
}

/// A `Buffer`, or the range of one that a `BufferSlice` describes.
pub struct Part<'py> {
    pub(super) buffer: Bound<'py, Buffer>,
    /// Offset in the buffer, in bytes.
    pub(super) start: u64,
    /// Size of the slice in bytes; `None` for a whole buffer.
    pub(super) slice: Option<u64>,
}

impl<'py> Part<'py> {
    /// All of a buffer.
    pub(super) fn whole(buffer: &Bound<'py, Buffer>) -> Self {
        Self { buffer: buffer.clone(), start: 0, slice: None }
    }

    /// Reads a buffer or slice argument.
    pub(super) fn read(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        Self::read_or(value, name, "a vk_mem.Buffer or a range of one")
    }

    /// Reads one where an image was possible, too.
    pub(super) fn read_if_no_image(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::read_or(value, "resource", "a vk_mem.Buffer, a range of one or a vk_mem.Image")
    }

    fn read_or(value: &Bound<'py, PyAny>, name: &str, wanted: &str) -> PyResult<Self> {
        if let Ok(buffer) = value.cast::<Buffer>() {
            return Ok(Self { buffer: buffer.clone(), start: 0, slice: None });
        }
        if value.is_instance(BUFFER_RANGE.get(value.py())?)? {
            let number = |name| unsigned(&value.getattr(name)?, name);
            return Ok(Self {
                buffer: value.getattr("buffer")?.cast_into::<Buffer>()?,
                start: number("offset")?,
                slice: Some(number("size")?),
            });
        }
        let kind = value.get_type().name()?;
        let why = format!("{name} must be {wanted}, not {kind}");
        Err(PyTypeError::new_err(why))
    }

    pub(super) fn resource(&self) -> &ResourceRef {
        &self.buffer.as_super().get().resource
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.slice.unwrap_or(self.resource().host_size)
    }

    /// Raises unless a range lies in the part and is not empty, as Vulkan copies no empty range.
    pub(super) fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let Some(whole) = self.slice else {
            return check_range(py, self.resource(), offset, size);
        };
        let what = format!("{} at offset {offset}", bytes(size));
        let slice = format!("a slice of {}", bytes(whole));
        if offset > whole || size > whole - offset {
            return Err(invalid(py, format!("{what}: outside of {slice}")));
        }
        if size == 0 {
            return Err(invalid(py, format!("{what} of {slice}: nothing to do")));
        }
        Ok(())
    }
}

/// Returns the buffer, if it is of this device, bound, and was created with a usage.
fn usable<'a>(
    core: &Arc<DeviceCore>,
    part: &'a Part<'_>,
    usage: u64,
) -> PyResult<(&'a Resource, vk::Buffer)> {
    let py = part.buffer.py();
    core.check_process(py)?;
    let resource: &Resource = part.resource();
    check_device(py, core, resource)?;
    if resource.usage & usage == 0 {
        let name = if usage == TRANSFER_SRC { "TRANSFER_SRC" } else { "TRANSFER_DST" };
        let what = resource.describe();
        return Err(invalid(py, format!("{what} was created without BufferUsage.{name}")));
    }
    check_bound(py, resource)?;
    match resource.handle() {
        ResourceHandle::Buffer(handle) => Ok((resource, handle)),
        ResourceHandle::Image(_) | ResourceHandle::Memory => Err(invalid(py, "not a buffer")),
    }
}

pub(super) fn check_device(
    py: Python<'_>,
    core: &Arc<DeviceCore>,
    resource: &Resource,
) -> PyResult<()> {
    resource.check_live(py)?;
    resource.check_device(py, core)
}

pub(super) fn check_bound(py: Python<'_>, resource: &Resource) -> PyResult<()> {
    if resource.is_bound() {
        return Ok(());
    }
    Err(invalid(py, format!("{} is not bound to memory: call bind()", resource.describe())))
}

/// Raises unless a range lies in the resource and is not empty, as Vulkan copies no empty range.
fn check_range(py: Python<'_>, resource: &Resource, offset: u64, size: u64) -> PyResult<()> {
    resource.check_range(py, offset, size)?;
    if size == 0 {
        let what = resource.describe();
        return Err(invalid(py, format!("0 bytes at offset {offset} of {what}: nothing to do")));
    }
    Ok(())
}

pub(super) fn check_queue(py: Python<'_>, core: &DeviceCore) -> PyResult<()> {
    let handles = core.driver.handles();
    if handles.device != 0 && handles.queue == 0 {
        let why = "the device was wrapped without queue=: copies and fills need one";
        return Err(feature_not_present(py, why));
    }
    Ok(())
}

fn run(py: Python<'_>, core: &DeviceCore, command: TransferCommand) -> PyResult<()> {
    // SAFETY: the callers below have checked queue, device, usage and ranges, and hold pins.
    let done = detach(py, || unsafe { core.driver.run(&[command]) });
    done.map_err(Error::from).or_raise(py)
}

/// A fill of any size: `vkCmdFillBuffer` writes whole words only.
#[derive(Clone, Copy)]
struct Fill {
    buffer: vk::Buffer,
    offset: u64,
    size: u64,
    value: u32,
}

/// Size of a word in bytes.
const WORD: u64 = 4;

impl Fill {
    /// Returns the bytes after the last whole word.
    fn tail(&self) -> u64 {
        self.size % WORD
    }

    /// Returns the commands; the bytes after the last whole word are copied from a buffer of one word.
    fn commands(&self, word: Option<vk::Buffer>) -> Vec<TransferCommand> {
        let Self { buffer, offset, value, .. } = *self;
        let (tail, words) = (self.tail(), self.size - self.tail());
        let mut commands = Vec::with_capacity(4);
        if words > 0 {
            commands.push(TransferCommand::FillBuffer { buffer, offset, size: words, value });
        }
        if let Some(source) = word {
            let (target, target_offset) = (buffer, offset + words);
            commands.extend([
                TransferCommand::FillBuffer { buffer: source, offset: 0, size: WORD, value },
                TransferCommand::Barrier,
                TransferCommand::CopyBuffer {
                    source,
                    source_offset: 0,
                    target,
                    target_offset,
                    size: tail,
                },
            ]);
        }
        commands
    }

    /// Fills the range, with a temporary buffer of one word if the size is not a multiple of it.
    ///
    /// # Safety
    /// The buffer is live and can be copied to, the range lies in it, and the device has a queue.
    unsafe fn run(&self, allocator: &DeviceAllocator) -> Result<(), Error> {
        let driver = allocator.driver();
        if self.tail() == 0 {
            // SAFETY: the caller guarantees the buffer.
            return Ok(unsafe { driver.run(&self.commands(None)) }?);
        }
        let info = vk::BufferCreateInfo::default()
            .size(WORD)
            .usage(vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST);
        // With dedicated memory, so that no block is allocated and retained for it.
        let create = AllocationCreateInfo {
            flags: AllocationCreateFlags::DEDICATED_MEMORY,
            ..Default::default()
        };
        // SAFETY: created here and not shared; the transfer has ended when the buffer is destroyed.
        unsafe {
            let (word, allocation) =
                allocator.create_buffer(&info, &create, |on, request| on.allocate(request))?;
            let done = driver.run(&self.commands(Some(word)));
            drop(allocator.destroy(ResourceHandle::Buffer(word), Some(allocation.id)));
            Ok(done?)
        }
    }
}

/// Implements `Device.fill_buffer` (`vkCmdFillBuffer`).
fn fill_buffer(
    py: Python<'_>,
    core: &Arc<DeviceCore>,
    part: &Part<'_>,
    value: u32,
    offset: Option<&Bound<'_, PyAny>>,
    size: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (resource, handle) = usable(core, part, TRANSFER_DST)?;
    resource.allocator.change(py, || {
        let _pin = resource.enter(py)?;
        let offset = unsigned_or_zero(offset, "offset")?;
        let whole = part.size().saturating_sub(offset);
        let size = host_copy::size(size)?.unwrap_or(whole);
        part.check_range(py, offset, size)?;
        let start = part.start + offset;
        if !start.is_multiple_of(WORD) {
            let offset = match part.slice {
                None => format!("offset is {offset}"),
                Some(_) => format!("the range's offset and offset are {start} together"),
            };
            return Err(invalid(py, format!("{offset}; that of a fill is a multiple of 4")));
        }
        if !size.is_multiple_of(WORD) && offset + size != part.size() {
            let why =
                "that of a fill is a multiple of 4, or reaches the end of the buffer or slice";
            return Err(invalid(py, format!("size is {size}; {why}")));
        }
        check_queue(py, core)?;
        let offset = start;
        check_written(py, resource, HostSide::Buffer { buffer: handle, offset, size })?;
        let fill = Fill { buffer: handle, offset, size, value };
        let allocator = &resource.allocator.device_allocator;
        // SAFETY: device, usage and range were checked above, and the pin is held.
        detach(py, || unsafe { fill.run(allocator) }).or_raise(py)
    })
}

/// Implements `Device.copy_buffer` (`vkCmdCopyBuffer`).
fn copy_buffer(
    py: Python<'_>,
    core: &Arc<DeviceCore>,
    source: &Part<'_>,
    target: &Part<'_>,
    size: Option<&Bound<'_, PyAny>>,
    source_offset: Option<&Bound<'_, PyAny>>,
    target_offset: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (from, from_handle) = usable(core, source, TRANSFER_SRC)?;
    let (to, to_handle) = usable(core, target, TRANSFER_DST)?;
    from.allocator.change(py, || {
        to.allocator.change(py, || {
            let (_pin_from, _pin_to) = (from.enter(py)?, to.enter(py)?);
            let source_offset = unsigned_or_zero(source_offset, "source_offset")?;
            let target_offset = unsigned_or_zero(target_offset, "target_offset")?;
            let whole = source.size().saturating_sub(source_offset);
            let size = host_copy::size(size)?.unwrap_or(whole);
            source.check_range(py, source_offset, size)?;
            target.check_range(py, target_offset, size)?;
            let (source_offset, target_offset) =
                (source.start + source_offset, target.start + target_offset);
            if from_handle == to_handle && source_offset.abs_diff(target_offset) < size {
                return Err(invalid(py, "the two ranges of one buffer overlap"));
            }
            let place = |of: &Resource, offset| of.allocation().offset + offset;
            if (from.alias().is_some() || to.alias().is_some())
                && from.allocation().memory == to.allocation().memory
                && place(from, source_offset).abs_diff(place(to, target_offset)) < size
            {
                return Err(invalid(
                    py,
                    "the two ranges overlap in the memory that the buffers share",
                ));
            }
            check_queue(py, core)?;
            let read = HostSide::Buffer { buffer: from_handle, offset: source_offset, size };
            check_read(py, from, read)?;
            let written = HostSide::Buffer { buffer: to_handle, offset: target_offset, size };
            check_written(py, to, written)?;
            let command = TransferCommand::CopyBuffer {
                source: from_handle,
                source_offset,
                target: to_handle,
                target_offset,
                size,
            };
            run(py, core, command)
        })
    })
}

/// Implements `Device.copy_buffer_to_image` and `copy_image_to_buffer` (`vkCmdCopyBufferToImage`,
/// `vkCmdCopyImageToBuffer`).
fn copy_image(
    py: Python<'_>,
    core: &Arc<DeviceCore>,
    part: &Part<'_>,
    image: &Bound<'_, Image>,
    buffer_offset: Option<&Bound<'_, PyAny>>,
    layout: Option<&Bound<'_, PyAny>>,
    to_image: bool,
) -> PyResult<()> {
    let usage = if to_image { TRANSFER_SRC } else { TRANSFER_DST };
    let (memory, buffer) = usable(core, part, usage)?;
    let texels = &image.as_super().get().resource;
    check_device(py, core, texels)?;
    memory.allocator.change(py, || {
        texels.allocator.change(py, || {
            let (_pin_memory, _pin_texels) = (memory.enter(py)?, texels.enter(py)?);
            let (facts, tracked) = (image.get(), tracked_layout(image));
            let wanted = if to_image {
                (vk::ImageUsageFlags::TRANSFER_DST, "TRANSFER_DST")
            } else {
                (vk::ImageUsageFlags::TRANSFER_SRC, "TRANSFER_SRC")
            };
            if texels.usage & u64::from(wanted.0.as_raw()) == 0 {
                let what = texels.describe();
                return Err(invalid(
                    py,
                    format!("{what} was created without ImageUsage.{}", wanted.1),
                ));
            }
            check_bound(py, texels)?;
            if facts.samples > 1 {
                let (what, samples) = (texels.describe(), facts.samples);
                return Err(invalid(
                    py,
                    format!("{what} has {samples} samples: it cannot be copied"),
                ));
            }
            let ResourceHandle::Image(image) = texels.handle() else {
                return Err(invalid(py, "not an image"));
            };
            let (width, height, depth) = facts.extent;
            let extent = vk::Extent3D { width, height, depth };
            let texel_format = vk::Format::from_raw(facts.format as i32);
            if (vk::Format::D16_UNORM.as_raw()..=vk::Format::D32_SFLOAT_S8_UINT.as_raw())
                .contains(&texel_format.as_raw())
            {
                let what = texels.describe();
                return Err(invalid(py, format!("{what} holds depth or stencil, not colour")));
            }
            let block = format::block(texel_format);
            let size = block.and_then(|block| block.size_of(extent));
            let (Some(block), Some(size)) = (block, size) else {
                return Err(invalid(
                    py,
                    format!("texels of format {} have no known size", facts.format),
                ));
            };
            let buffer_offset = unsigned_or_zero(buffer_offset, "buffer_offset")?;
            part.check_range(py, buffer_offset, size)?;
            let place = if part.slice.is_some() { "the slice's offset and " } else { "" };
            let buffer_offset = part.start + buffer_offset;
            if !buffer_offset.is_multiple_of(block.bytes.into()) {
                let bytes = block.bytes;
                let why = format!(
                    "{place}buffer_offset is {buffer_offset}, not a multiple of a texel's {bytes}"
                );
                return Err(invalid(py, why + " bytes"));
            }
            let default = match tracked.get() {
                vk::ImageLayout::UNDEFINED => vk::ImageLayout::GENERAL,
                known if !to_image => known,
                _ => vk::ImageLayout::GENERAL,
            };
            let layout = layout.map_or(Ok(default), read_image_layout)?;
            if to_image
                && matches!(layout, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED)
            {
                let layout = layout.as_raw();
                return Err(invalid(py, format!("no image can be left in the layout {layout}")));
            }
            check_queue(py, core)?;
            let (of_buffer, of_image) =
                (HostSide::Buffer { buffer, offset: buffer_offset, size }, HostSide::Image(image));
            if to_image {
                check_read(py, memory, of_buffer)?;
                check_written(py, texels, of_image)?;
            } else {
                check_read(py, texels, of_image)?;
                check_written(py, memory, of_buffer)?;
            }
            let region = first_texels(buffer_offset, extent);
            let command = if to_image {
                let layouts = LayoutChange::of_new_image(layout);
                TransferCommand::CopyBufferToImage { buffer, image, region, layouts }
            } else {
                let layouts = LayoutChange::kept(&region, layout);
                TransferCommand::CopyImageToBuffer { image, buffer, region, layouts }
            };
            run(py, core, command)?;
            if to_image {
                tracked.set(layout);
            }
            Ok(())
        })
    })
}

fn fill_value(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    unsigned_32(value, "value")
}

#[pymethods]
impl Device {
    /// Fills `size` bytes of a buffer or `BufferSlice` with a 32-bit value on the device's queue, and waits
    /// (`vkCmdFillBuffer`). Without a size, fills up to the end. The offset is a multiple of 4, and so is the
    /// size unless the range reaches the end. The last 1 to 3 bytes of such a range get the first bytes of
    /// the value, in the host's byte order.
    #[pyo3(signature = (buffer, value = 0, *, offset = None, size = None))]
    fn fill_buffer(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = fill_value)] value: u32,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let part = Part::read(buffer, "buffer")?;
        self::fill_buffer(py, &self.core, &part, value, offset, size)
    }

    /// Copies `size` bytes between buffers on the device's queue, and waits (`vkCmdCopyBuffer`). Without a
    /// size, copies up to the end of the source. The offsets of a `BufferSlice` count from its start, and its
    /// end limits the size.
    #[pyo3(signature = (source, target, size = None, *, source_offset = None, target_offset = None))]
    fn copy_buffer(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        size: Option<&Bound<'_, PyAny>>,
        source_offset: Option<&Bound<'_, PyAny>>,
        target_offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (from, to) = (source_offset, target_offset);
        let (source, target) = (Part::read(source, "source")?, Part::read(target, "target")?);
        self::copy_buffer(py, &self.core, &source, &target, size, from, to)
    }

    /// Fills the first mip level and layer of a colour image from tightly packed texels, and waits
    /// (`vkCmdCopyBufferToImage`). The image is left in `layout`, `ImageLayout.GENERAL` by default.
    #[pyo3(signature = (buffer, image, *, buffer_offset = None, layout = None))]
    fn copy_buffer_to_image(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        image: &Bound<'_, Image>,
        buffer_offset: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let part = Part::read(buffer, "buffer")?;
        self::copy_image(py, &self.core, &part, image, buffer_offset, layout, true)
    }

    /// Copies the first mip level and layer of a colour image, which is in `layout`, to tightly packed
    /// texels, and waits (`vkCmdCopyImageToBuffer`). By default that is `Image.layout`, or `GENERAL` where
    /// that is `UNDEFINED`.
    #[pyo3(signature = (image, buffer, *, buffer_offset = None, layout = None))]
    fn copy_image_to_buffer(
        &self,
        py: Python<'_>,
        image: &Bound<'_, Image>,
        buffer: &Bound<'_, PyAny>,
        buffer_offset: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let part = Part::read(buffer, "buffer")?;
        self::copy_image(py, &self.core, &part, image, buffer_offset, layout, false)
    }
}
