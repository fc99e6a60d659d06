//! [`Windows`]: buffers that lie over a memory object, through which the device reads and writes any byte of it.

use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{Error, MemoryAccess};

use crate::driver::contract::Driver;

/// Bytes of a memory object under one buffer: the least `maxBufferSize` that a device may have.
const WINDOW: u64 = 1 << 30;

/// A buffer over a part of a memory object.
struct Window {
    start: u64,
    size: u64,
    buffer: vk::Buffer,
}

/// Buffers over parts of one memory object. They live for one call: a buffer that is kept would have to go before
/// the memory object does.
pub(super) struct Windows {
    driver: Arc<dyn Driver>,
    windows: Vec<Window>,
}

impl Windows {
    /// Creates the buffers over those parts of a memory object that contain some of `ranges`. What they do not reach
    /// is not under any of them.
    ///
    /// # Errors
    /// Those of `vkCreateBuffer` and `vkBindBufferMemory`.
    pub(super) fn over(
        driver: &Arc<dyn Driver>,
        memory: &MemoryAccess,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Self, Error> {
        let mut made = Self { driver: driver.clone(), windows: Vec::new() };
        if memory.names_resource() || driver.queue_flags().is_empty() {
            return Ok(made);
        }
        let mut numbers: Vec<u64> = Vec::new();
        for range in ranges {
            let (first, last) = (range.start / WINDOW, range.end.max(1).div_ceil(WINDOW));
            for number in first..last {
                if numbers.last().is_none_or(|it| *it < number) {
                    numbers.push(number);
                } else if let Err(at) = numbers.binary_search(&number) {
                    numbers.insert(at, number);
                }
            }
        }
        for number in numbers {
            let start = number * WINDOW;
            made.add(memory, start, WINDOW.min(memory.size() - start))?;
        }
        Ok(made)
    }

    /// Adds a buffer over as many of `size` bytes as one can have.
    fn add(&mut self, memory: &MemoryAccess, start: u64, size: u64) -> Result<(), Error> {
        let mut wanted = size;
        // A second time with a size that is a multiple of the alignment, to which drivers round.
        for _ in 0..2 {
            if wanted == 0 {
                return Ok(());
            }
            let usage = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
            let mut info = vk::BufferCreateInfo::default().size(wanted).usage(usage);
            let types = memory.export_handle_types();
            let mut external = vk::ExternalMemoryBufferCreateInfo::default()
                .handle_types(vk::ExternalMemoryHandleTypeFlags::from_raw(types));
            if types != 0 {
                info = info.push_next(&mut external);
            }
            // SAFETY: a valid create info, with structures that live for the call.
            let buffer = unsafe { self.driver.create_buffer(&info) };
            let buffer = buffer.map_err(|error| error.of("vkCreateBuffer"))?;
            // From here on it is destroyed with the others.
            self.windows.push(Window { start, size: wanted, buffer });
            // SAFETY: made above.
            let needs = unsafe { self.driver.buffer_requirements(buffer) };
            let is_allowed = needs.memory_type_bits >> memory.memory_type_index() & 1 == 1
                && !needs.requires_dedicated
                && start.is_multiple_of(needs.alignment);
            if is_allowed && needs.size <= size {
                // SAFETY: the buffer is new, the memory is live, and it fits there.
                let bound = unsafe { self.driver.bind_buffer(buffer, memory.handle(), start) };
                bound.map_err(|error| error.of("vkBindBufferMemory"))?;
                self.driver.hide_bindings(vk::ObjectType::BUFFER, vk::Handle::as_raw(buffer));
                return Ok(());
            }
            self.remove_last();
            wanted = if is_allowed { size / needs.alignment * needs.alignment } else { 0 };
        }
        Ok(())
    }

    fn remove_last(&mut self) {
        if let Some(window) = self.windows.pop() {
            // SAFETY: made in `add`; every submission that used it was waited for.
            unsafe { self.driver.destroy_buffer(window.buffer) };
        }
    }

    /// Returns whether all of a range lies under the buffers.
    pub(super) fn reach(&self, range: Range<u64>) -> bool {
        if self.under_one(&range).is_some() {
            return true;
        }
        let mut rest = range;
        while let Some(part) = self.first_part(rest.clone()) {
            if part.at != rest.start {
                return false;
            }
            rest.start += part.size;
        }
        rest.is_empty()
    }

    /// Returns the first part of a range that lies under one buffer.
    #[inline]
    pub(super) fn first_part(&self, range: Range<u64>) -> Option<Part> {
        self.under_one(&range).or_else(|| self.parts(range).next())
    }

    /// Returns a range as one part, if all of it lies under one buffer, as almost all ranges do.
    #[inline]
    fn under_one(&self, range: &Range<u64>) -> Option<Part> {
        let holds = |it: &&Window| it.start <= range.start && range.end <= it.start + it.size;
        let it = self.windows.iter().find(holds).filter(|_| !range.is_empty())?;
        let (offset, size) = (range.start - it.start, range.end - range.start);
        Some(Part { buffer: it.buffer, offset, at: range.start, size })
    }

    /// Returns the parts of a range that lie under one buffer each, by ascending offset.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + Clone {
        let windows = self.windows.iter().skip_while({
            let start = range.start;
            move |it| it.start + it.size <= start
        });
        let end = if range.is_empty() { 0 } else { range.end };
        windows.take_while(move |it| it.start < end).map(move |it| {
            let (start, end) = (range.start.max(it.start), range.end.min(it.start + it.size));
            Part { buffer: it.buffer, offset: start - it.start, at: start, size: end - start }
        })
    }
}

/// A part of a memory object under one buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) buffer: vk::Buffer,
    /// Offset in the buffer, in bytes.
    pub(super) offset: u64,
    /// Offset in the memory object, in bytes.
    pub(super) at: u64,
    /// Size in bytes.
    pub(super) size: u64,
}

impl Drop for Windows {
    fn drop(&mut self) {
        while !self.windows.is_empty() {
            self.remove_last();
        }
    }
}
