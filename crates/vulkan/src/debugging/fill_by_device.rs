//! Fills contents and writes margins of memory that cannot be mapped, in one submission.

use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{AllocationId, AllocationMemory, Error};

use crate::debugging::clear::clear_value;
use crate::debugging::job::Job;
use crate::debugging::scratch::{Purpose, Scratch};
use crate::debugging::target::{FillTarget, LeftOut, LeftOutPart};
use crate::debugging::windows::Windows;
use crate::driver::contract::Driver;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{LayoutChange, TransferCommand};

const NO_QUEUE: &str = "its memory cannot be mapped, and the device was wrapped without a queue";
const UNREACHABLE: &str =
    "its memory cannot be mapped, and the device allows no buffer for transfers over it";
const NO_TRANSFER: &str = "its memory cannot be mapped and is dedicated to it \
     (VkMemoryDedicatedAllocateInfo), and it was created without TRANSFER_DST";
const UNKNOWN: &str = "its memory cannot be mapped and is dedicated to a resource that is not known \
     (VkMemoryDedicatedAllocateInfo)";
const PREINITIALIZED: &str = "its memory cannot be mapped and is dedicated to it \
     (VkMemoryDedicatedAllocateInfo), and its initial layout is PREINITIALIZED";

/// Writes what is ordered for memory that cannot be mapped, and waits for it; returns the allocations whose margins
/// were written. Adds what was left out to `left_out`.
///
/// # Errors
/// Those of the driver calls.
///
/// # Safety
/// The handles are live, bound to their allocations, and not used by the device.
pub(super) unsafe fn write_by_device(
    driver: &Arc<dyn Driver>,
    mut jobs: Vec<(&FillTarget, Job)>,
    left_out: &mut Vec<LeftOut>,
) -> Result<Vec<AllocationId>, Error> {
    jobs.sort_by_key(|(_, job)| (job.place.memory.handle().0, job.place.offset));
    let mut script = Script::default();
    let mut filled = Vec::new();
    // Until the submission has ended.
    let mut windows = Vec::new();
    for group in jobs
        .chunk_by(|(_, one), (_, other)| one.place.memory.handle() == other.place.memory.handle())
    {
        let memory = &group[0].1.place.memory;
        let all = group.iter().flat_map(|(_, job)| {
            let AllocationMemory { offset, size, .. } = job.place;
            let [front, back] = job.margins();
            [front, offset..offset + size, back].into_iter().filter(|it| !it.is_empty())
        });
        let over = Windows::over(driver, memory, all)?;
        for (target, job) in group {
            let mut leave_out = |part, why| left_out.push(LeftOut { id: target.id, part, why });
            if let Err(why) = script.add_contents(driver.as_ref(), &over, target, job) {
                leave_out(LeftOutPart::Contents, why);
            }
            match script.add_margins(driver.as_ref(), &over, job) {
                Ok(true) => filled.push(target.id),
                Ok(false) => {}
                Err(why) => leave_out(LeftOutPart::Margins, why),
            }
        }
        windows.push(over);
    }
    // SAFETY: the caller guarantees the resources; the windows live.
    unsafe { script.run(driver) }?;
    Ok(filled)
}

/// Bytes that are copied to a part of a buffer.
struct Copied {
    /// Offset in the bytes.
    from: u64,
    to: vk::Buffer,
    offset: u64,
    size: u64,
}

/// The commands of one submission, and the bytes that they copy.
#[derive(Default)]
struct Script {
    commands: Vec<TransferCommand>,
    bytes: Vec<u8>,
    copies: Vec<Copied>,
}

impl Script {
    /// Adds the fill of a target's contents; `Err` says why it is left out.
    fn add_contents(
        &mut self,
        driver: &dyn Driver,
        windows: &Windows,
        target: &FillTarget,
        job: &Job,
    ) -> Result<(), &'static str> {
        let Some(byte) = job.contents else { return Ok(()) };
        if driver.queue_flags().is_empty() {
            return Err(NO_QUEUE);
        }
        let AllocationMemory { offset, size, ref memory, .. } = job.place;
        let range = offset..offset + size;
        if !memory.names_resource() {
            if !windows.reach(range.clone()) {
                return Err(UNREACHABLE);
            }
            for part in windows.parts(range) {
                self.fill(part.buffer, part.offset..part.offset + part.size, byte);
            }
            return Ok(());
        }
        // Both usages have the same bit.
        let is_target = target.usage & u64::from(vk::BufferUsageFlags::TRANSFER_DST.as_raw()) != 0;
        match (target.handle, &target.image) {
            _ if !is_target && target.handle != ResourceHandle::Memory => Err(NO_TRANSFER),
            (ResourceHandle::Buffer(buffer), _) => {
                self.fill(buffer, 0..target.buffer_size, byte);
                Ok(())
            }
            (ResourceHandle::Image(_), Some(image))
                if image.initial_layout == vk::ImageLayout::PREINITIALIZED =>
            {
                Err(PREINITIALIZED)
            }
            (ResourceHandle::Image(handle), Some(image)) => {
                let value = clear_value(driver, (image.format, image.tiling), byte)?;
                let (old, new) =
                    (vk::ImageLayout::UNDEFINED, vk::ImageLayout::TRANSFER_DST_OPTIMAL);
                let layouts = LayoutChange::of_whole(image.format, old, new);
                self.commands.push(TransferCommand::ClearImage { image: handle, value, layouts });
                Ok(())
            }
            (ResourceHandle::Image(_), None) | (ResourceHandle::Memory, _) => Err(UNKNOWN),
        }
    }

    /// Adds the margins of a job and returns whether it has any; `Err` says why they are left out.
    fn add_margins(
        &mut self,
        driver: &dyn Driver,
        windows: &Windows,
        job: &Job,
    ) -> Result<bool, &'static str> {
        let Some(pattern) = job.margins else { return Ok(false) };
        if driver.queue_flags().is_empty() {
            return Err(NO_QUEUE);
        }
        let both = job.margins();
        if !both.iter().all(|it| windows.reach(it.clone())) {
            return Err(UNREACHABLE);
        }
        for part in both.into_iter().flat_map(|it| windows.parts(it)) {
            let bytes = self.copy(part.buffer, part.offset, part.size);
            pattern.fill(part.at, bytes);
        }
        Ok(true)
    }

    /// Adds the fill of a range of a buffer with a byte: `vkCmdFillBuffer` for whole words, copies for the rest.
    fn fill(&mut self, buffer: vk::Buffer, range: Range<u64>, byte: u8) {
        let first = range.start.next_multiple_of(4).min(range.end);
        let last = (range.end / 4 * 4).max(first);
        if first < last {
            let value = u32::from_ne_bytes([byte; 4]);
            let (offset, size) = (first, last - first);
            self.commands.push(TransferCommand::FillBuffer { buffer, offset, size, value });
        }
        for rest in [range.start..first, last..range.end] {
            if !rest.is_empty() {
                self.copy(buffer, rest.start, rest.end - rest.start).fill(byte);
            }
        }
    }

    /// Adds a copy to a part of a buffer, and returns its bytes, which are to be filled in.
    fn copy(&mut self, to: vk::Buffer, offset: u64, size: u64) -> &mut [u8] {
        let from = self.bytes.len();
        self.copies.push(Copied { from: from as u64, to, offset, size });
        self.bytes.resize(from + size as usize, 0);
        &mut self.bytes[from..]
    }

    /// Submits everything and waits for it.
    ///
    /// # Safety
    /// The resources are live and not used by the device.
    unsafe fn run(mut self, driver: &Arc<dyn Driver>) -> Result<(), Error> {
        let mut scratch = None;
        if !self.copies.is_empty() {
            let size = self.bytes.len() as u64;
            let made = scratch.insert(Scratch::new(driver, size, Purpose::Upload)?);
            made.write(&self.bytes)?;
            let source = made.buffer;
            self.commands.extend(self.copies.iter().map(|it| TransferCommand::CopyBuffer {
                source,
                source_offset: it.from,
                target: it.to,
                target_offset: it.offset,
                size: it.size,
            }));
        }
        if !self.commands.is_empty() {
            // SAFETY: the caller guarantees the resources; the scratch buffer lives until the end.
            unsafe { driver.run(&self.commands) }?;
        }
        drop(scratch);
        Ok(())
    }
}
