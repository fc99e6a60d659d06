//! Parts of an allocation that have margins and a quarantine of their own: slices of a buffer that another library, or
//! another layer, divides.
//!
//! Their margins hold a pattern that depends on the distance from the start of the allocation, so that it moves with the
//! contents. All is written and read over the memory object: the resource that is bound to it needs no usage for that.

use vkmem_engine::{
    AllocationId, AllocationMemory, Error, GuardedRange, GuardedUse, MemoryHandle,
    MemoryPropertyFlags, Pattern,
};

use crate::allocator::DeviceAllocator;
use crate::debugging::MemoryDebugger;
use crate::debugging::fill::{HostWriter, why_not_filled};
use crate::debugging::fill_by_device::write_by_device;
use crate::debugging::finding::Checked;
use crate::debugging::job::Job;
use crate::debugging::target::{FillTarget, LeftOut, LeftOutPart};
use crate::debugging::unfinished::CheckStopped;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::stopped::Pause;

/// An allocation that is divided into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divided {
    /// The allocation.
    pub id: AllocationId,
    /// Tells it apart from others that are divided; the pattern of the margins depends on it.
    pub number: u64,
}

/// A part of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in bytes from the start of the allocation.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Bytes right before and right behind it that are its margins.
    pub margin: u64,
}

/// What is written into a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartOrder {
    /// The byte that its contents are filled with, if they are.
    pub fill: Option<u8>,
    /// Whether its margins are filled with the pattern.
    pub with_margins: bool,
    /// Whether it has ended: then what has imported its memory may still use it.
    pub is_freed: bool,
}

/// A range of a divided allocation that nobody may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// Where it begins, in bytes from the start of the allocation.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Where it begins, counted from the start of its part, in bytes.
    pub from_start: i64,
    /// Why nobody may write it.
    pub is: GuardedUse,
    /// The byte that contents in quarantine were filled with; `None` if they were not: then they are not checked.
    pub contents: Option<u8>,
}

impl Part {
    /// Returns the margins before and behind it.
    pub fn margins(&self) -> [PartRange; 2] {
        let Self { offset, size, margin } = *self;
        let range = |at: u64, is| {
            let from_start = at.cast_signed() - offset.cast_signed();
            PartRange { offset: at, size: margin, from_start, is, contents: None }
        };
        [
            range(offset - margin, GuardedUse::FrontMargin),
            range(offset + size, GuardedUse::BackMargin),
        ]
    }
}

impl MemoryDebugger {
    /// Returns the pattern of the margins in a divided allocation.
    fn pattern_of(&self, of: Divided, place: &AllocationMemory) -> Pattern {
        // No memory object has such a handle: those of drivers are pointers, or small numbers.
        Pattern::new(self.key, MemoryHandle(!of.number)).counted_from(place.offset)
    }

    /// Fills the contents of a part, and writes the pattern into its margins. Returns what was left out, and why.
    ///
    /// # Errors
    /// Those of the driver calls: then any of it may be unwritten. [`Error::UseAfterFree`] for an allocation that was
    /// freed, [`Error::InvalidArgument`] for a part that is not inside of it.
    ///
    /// # Safety
    /// Neither the host nor the device uses the part and its margins, and the allocation does not move meanwhile.
    pub unsafe fn write_part(
        &self,
        allocator: &DeviceAllocator,
        of: Divided,
        part: Part,
        order: PartOrder,
    ) -> Result<Vec<LeftOut>, Error> {
        let PartOrder { fill, with_margins, .. } = order;
        let place = allocator.engine().hold_memory_of(of.id)?;
        let flags = allocator.driver().info().flags_of(place.memory.memory_type_index());
        let mut left_out = Vec::new();
        let mut contents = fill.filter(|_| part.size > 0);
        if let (Some(why), Some(_)) =
            (why_not_filled(&place.memory, flags, order.is_freed), contents)
        {
            left_out.push(LeftOut { id: of.id, part: LeftOutPart::Contents, why });
            contents = None;
        }
        let margins = (with_margins && part.margin > 0).then(|| self.pattern_of(of, &place));
        if contents.is_none() && margins.is_none() {
            return Ok(left_out);
        }
        let outside = || Error::InvalidArgument("a part is outside of its allocation".into());
        let place = place.part(part.offset, part.size, part.margin).ok_or_else(outside)?;
        let bands = place.bands;
        let job = Job { place, bands, contents, margins };
        if !self.by_device && flags.contains(MemoryPropertyFlags::HOST_VISIBLE) {
            let memory = &job.place.memory;
            let writer = HostWriter { memory: memory.handle(), mapped: memory.map()? };
            writer.run(allocator, &job)?;
            return Ok(left_out);
        }
        let target = FillTarget {
            handle: ResourceHandle::Memory,
            usage: 0,
            buffer_size: 0,
            image: None,
            id: of.id,
        };
        let jobs = vec![(&target, job)];
        // SAFETY: nothing of the resource is named; the caller guarantees that nobody uses this part of its memory.
        unsafe { write_by_device(allocator.driver(), jobs, &mut left_out)? };
        Ok(left_out)
    }

    /// Checks ranges of a divided allocation, by ascending offset. Each finding has the range in the memory object, and
    /// goes with the index of its range in `ranges`.
    ///
    /// # Errors
    /// Those of the driver calls; [`Error::UseAfterFree`] for an allocation that was freed; `Interrupted` if `pause`
    /// wants to stop.
    pub fn check_parts(
        &self,
        allocator: &DeviceAllocator,
        of: Divided,
        ranges: &[PartRange],
        pause: Pause<'_>,
    ) -> Result<(Checked, Vec<usize>), CheckStopped> {
        let mut check = self.begin_check(allocator, pause)?;
        let place = allocator.engine().hold_memory_of(of.id)?;
        let start = place.offset;
        let guarded: Vec<GuardedRange> = ranges
            .iter()
            .map(|it| GuardedRange {
                offset: start + it.offset,
                size: it.size,
                from_start: it.from_start,
                is: it.is,
                id: Some(of.id),
                neighbours: [None; 2],
            })
            .collect();
        let index = |it: &GuardedRange| ranges.partition_point(|at| start + at.offset < it.offset);
        let contents = |it: &GuardedRange| ranges[index(it)].contents;
        let pattern = self.pattern_of(of, &place);
        if let Err(why) = check.compare(&place.memory, &guarded, pattern, &contents) {
            return Err(check.stopped(why, place));
        }
        let checked = check.finish_parts();
        let indices = checked.findings.iter().map(|it| index(&it.range)).collect();
        Ok((checked, indices))
    }
}
