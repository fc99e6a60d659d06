//! Fills contents and writes margins of memory that cannot be mapped, in one submission unless it is much.

use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{AllocationId, Error, GuardBands};

use crate::debugging::clear::clear_value;
use crate::debugging::job::Job;
use crate::debugging::scratch::{Purpose, Scratch};
use crate::debugging::target::{FillTarget, LeftOut, LeftOutPart};
use crate::debugging::windows::Windows;
use crate::driver::contract::Driver;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{LayoutChange, TransferCommand};

/// Bytes of margins that are written by one submission at most.
const AT_ONCE: usize = 64 << 20;
/// Bytes of a margin that are copied together at most.
const PIECE: u64 = 1 << 20;
const NO_ROOM: Error = Error::NoHostMemory("what memory is filled with");

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
) -> Result<Vec<(AllocationId, GuardBands)>, Error> {
    jobs.sort_by_key(|(_, job)| (job.place.memory.handle().0, job.place.offset));
    let mut script = Script::new(driver);
    let mut filled = Vec::new();
    // Until the submission has ended.
    let mut windows = Vec::new();
    for group in jobs
        .chunk_by(|(_, one), (_, other)| one.place.memory.handle() == other.place.memory.handle())
    {
        let memory = &group[0].1.place.memory;
        let all = group.iter().flat_map(|(_, job)| {
            let [front, back] = job.margins();
            [front, job.contents(), back].into_iter().filter(|it| !it.is_empty())
        });
        let over = Windows::over(driver, memory, all)?;
        for (target, job) in group {
            let mut leave_out = |part, why| left_out.push(LeftOut { id: target.id, part, why });
            // SAFETY: the caller guarantees the resources; the windows live.
            match unsafe { script.add_contents(&over, target, job) } {
                Err(Stop::LeftOut(why)) => leave_out(LeftOutPart::Contents, why),
                Err(Stop::Failed(error)) => return Err(error),
                Ok(()) => {}
            }
            // SAFETY: as above.
            match unsafe { script.add_margins(&over, job) } {
                Ok(true) => filled.push((target.id, job.bands)),
                Ok(false) => {}
                Err(Stop::LeftOut(why)) => leave_out(LeftOutPart::Margins, why),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        windows.push(over);
    }
    // SAFETY: the caller guarantees the resources; the windows live.
    unsafe { script.run() }?;
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

/// Why something is not written.
enum Stop {
    /// It cannot be: the reason.
    LeftOut(&'static str),
    /// A call has failed.
    Failed(Error),
}

impl From<&'static str> for Stop {
    fn from(why: &'static str) -> Self {
        Self::LeftOut(why)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The commands of one submission, and the bytes that they copy.
struct Script<'a> {
    driver: &'a Arc<dyn Driver>,
    commands: Vec<TransferCommand>,
    bytes: Vec<u8>,
    copies: Vec<Copied>,
    /// What the bytes go through, kept for the next submission.
    scratch: Option<Scratch>,
}

impl<'a> Script<'a> {
    fn new(driver: &'a Arc<dyn Driver>) -> Self {
        let (commands, bytes, copies) = (Vec::new(), Vec::new(), Vec::new());
        Self { driver, commands, bytes, copies, scratch: None }
    }

    /// Adds the fill of a target's contents; submits what is there if that is much.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    unsafe fn add_contents(
        &mut self,
        windows: &Windows,
        target: &FillTarget,
        job: &Job,
    ) -> Result<(), Stop> {
        let Some(byte) = job.contents else { return Ok(()) };
        let driver = self.driver;
        if driver.queue_flags().is_empty() {
            return Err(NO_QUEUE.into());
        }
        let range = job.contents();
        if !job.place.memory.names_resource() {
            if !windows.reach(range.clone()) {
                return Err(UNREACHABLE.into());
            }
            for part in windows.parts(range) {
                let inside = part.offset..part.offset + part.size;
                // SAFETY: the caller guarantees it.
                unsafe { self.fill(part.buffer, inside, byte) }?;
            }
            return Ok(());
        }
        // Both usages have the same bit.
        let is_target = target.usage & u64::from(vk::BufferUsageFlags::TRANSFER_DST.as_raw()) != 0;
        match (target.handle, &target.image) {
            _ if !is_target && target.handle != ResourceHandle::Memory => Err(NO_TRANSFER.into()),
            (ResourceHandle::Buffer(buffer), _) => {
                // SAFETY: the caller guarantees it.
                Ok(unsafe { self.fill(buffer, 0..target.buffer_size, byte) }?)
            }
            (ResourceHandle::Image(_), Some(image))
                if image.initial_layout == vk::ImageLayout::PREINITIALIZED =>
            {
                Err(PREINITIALIZED.into())
            }
            (ResourceHandle::Image(handle), Some(image)) => {
                let value = clear_value(driver.as_ref(), (image.format, image.tiling), byte)?;
                let (old, new) =
                    (vk::ImageLayout::UNDEFINED, vk::ImageLayout::TRANSFER_DST_OPTIMAL);
                let layouts = LayoutChange::of_whole(image.format, old, new);
                self.command(TransferCommand::ClearImage { image: handle, value, layouts })?;
                Ok(())
            }
            (ResourceHandle::Image(_), None) | (ResourceHandle::Memory, _) => Err(UNKNOWN.into()),
        }
    }

    /// Adds the margins of a job and returns whether it has any; submits what is there if that is much.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    unsafe fn add_margins(&mut self, windows: &Windows, job: &Job) -> Result<bool, Stop> {
        let Some(pattern) = job.margins else { return Ok(false) };
        if self.driver.queue_flags().is_empty() {
            return Err(NO_QUEUE.into());
        }
        let both = job.margins();
        if !both.iter().all(|it| windows.reach(it.clone())) {
            return Err(UNREACHABLE.into());
        }
        for part in both.into_iter().flat_map(|it| windows.parts(it)) {
            let mut done = 0;
            while done < part.size {
                let size = PIECE.min(part.size - done);
                // SAFETY: the caller guarantees it.
                let bytes = unsafe { self.copy(part.buffer, part.offset + done, size) }?;
                pattern.fill(part.at + done, bytes);
                done += size;
            }
        }
        Ok(true)
    }

    fn command(&mut self, command: TransferCommand) -> Result<(), Error> {
        self.commands.try_reserve(1).map_err(|_| NO_ROOM)?;
        self.commands.push(command);
        Ok(())
    }

    /// Adds the fill of a range of a buffer with a byte: `vkCmdFillBuffer` for whole words, copies for the rest.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    unsafe fn fill(
        &mut self,
        buffer: vk::Buffer,
        range: Range<u64>,
        byte: u8,
    ) -> Result<(), Error> {
        let first = range.start.next_multiple_of(4).min(range.end);
        let last = (range.end / 4 * 4).max(first);
        if first < last {
            let value = u32::from_ne_bytes([byte; 4]);
            let (offset, size) = (first, last - first);
            self.command(TransferCommand::FillBuffer { buffer, offset, size, value })?;
        }
        for rest in [range.start..first, last..range.end] {
            if !rest.is_empty() {
                // SAFETY: the caller guarantees it.
                unsafe { self.copy(buffer, rest.start, rest.end - rest.start) }?.fill(byte);
            }
        }
        Ok(())
    }

    /// Adds a copy to a part of a buffer, and returns its bytes, which are to be filled in.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    unsafe fn copy(&mut self, to: vk::Buffer, offset: u64, size: u64) -> Result<&mut [u8], Error> {
        if self.bytes.len() + size as usize > AT_ONCE {
            // SAFETY: the caller guarantees it.
            unsafe { self.run() }?;
        }
        let from = self.bytes.len();
        self.copies.try_reserve(1).map_err(|_| NO_ROOM)?;
        self.bytes.try_reserve(size as usize).map_err(|_| NO_ROOM)?;
        self.copies.push(Copied { from: from as u64, to, offset, size });
        self.bytes.resize(from + size as usize, 0);
        Ok(&mut self.bytes[from..])
    }

    /// Submits what there is and waits for it.
    ///
    /// # Safety
    /// The resources, and the buffers over memory objects, are live and not used by the device.
    unsafe fn run(&mut self) -> Result<(), Error> {
        if !self.copies.is_empty() {
            let size = self.bytes.len() as u64;
            if self.scratch.as_ref().is_none_or(|it| it.size < size) {
                self.scratch = None;
                self.scratch = Some(Scratch::new(self.driver, size, Purpose::Upload)?);
            }
            let scratch = self.scratch.as_ref().expect("made above");
            scratch.write(&self.bytes)?;
            let source = scratch.buffer;
            self.commands.try_reserve(self.copies.len()).map_err(|_| NO_ROOM)?;
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
            unsafe { self.driver.run(&self.commands) }?;
        }
        self.commands.clear();
        self.copies.clear();
        self.bytes.clear();
        Ok(())
    }
}
