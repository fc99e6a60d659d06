//! [`MemoryDebugger`]: writes what new, freed and unowned memory is to hold, and checks that it still holds it.
//!
//! Memory that can be mapped is written and read by the host; all other memory by the device's queue, through
//! buffers that lie over the memory objects. Nothing is kept between two calls. Each call may wait for the device,
//! so the caller holds no lock, and none of Python's.

mod check;
mod clear;
mod contents;
mod fill;
mod fill_by_device;
pub(crate) mod finding;
mod job;
pub(crate) mod parts;
mod read_by_device;
mod regions;
mod scratch;
pub(crate) mod target;
pub(crate) mod unfinished;
mod windows;

use vkmem_engine::{AllocationId, DeviceError, Error, GuardedRange, PoolId, Quarantined};

use crate::allocator::DeviceAllocator;
use crate::debugging::check::Check;
use crate::debugging::fill::{Order, write};
use crate::debugging::finding::{Checked, FreedContents};
use crate::debugging::target::{FillTarget, LeftOut};
use crate::debugging::unfinished::CheckStopped;
use crate::driver::stopped::{Pause, Stopped};

/// Writes and checks the memory of one allocator.
#[derive(Clone, Copy, Debug)]
pub struct MemoryDebugger {
    key: u64,
    by_device: bool,
}

impl MemoryDebugger {
    /// Creates the debugger of an allocator; margins hold the [`Pattern`](vkmem_engine::Pattern) of this key.
    pub fn new(key: u64) -> Self {
        Self { key, by_device: false }
    }

    /// Lets the device read and write all memory, also what can be mapped: for tests of that on devices all of whose
    /// memory can be mapped.
    #[must_use]
    pub fn by_device(self) -> Self {
        Self { by_device: true, ..self }
    }

    /// Fills the contents of new resources with a byte, if there is one, and writes the pattern into their margins,
    /// which are listed and checked from then on. What cannot be mapped is written in one submission for all.
    /// Returns what was left out, and why.
    ///
    /// # Errors
    /// Those of the driver calls: then some of it may be unwritten, and the margins of those are not checked.
    /// [`Error::UseAfterFree`] for an allocation that was freed.
    ///
    /// # Safety
    /// The handles are live, bound to their allocations, and not used by the device or the host.
    pub unsafe fn prepare(
        &self,
        allocator: &DeviceAllocator,
        targets: &[FillTarget],
        fill: Option<u8>,
    ) -> Result<Vec<LeftOut>, Error> {
        // SAFETY: the caller guarantees the targets.
        unsafe { write(allocator, targets, self.order(fill, Some(self.key))) }
    }

    /// Fills the contents of resources that are about to be freed with a byte, unless a handle of their memory was
    /// exported. Returns what was left out, and why: those contents must not be checked.
    ///
    /// # Errors
    /// Those of the driver calls: then any of the contents may be unwritten.
    ///
    /// # Safety
    /// As for [`prepare`](Self::prepare).
    pub unsafe fn fill_freed(
        &self,
        allocator: &DeviceAllocator,
        targets: &[FillTarget],
        fill: u8,
    ) -> Result<Vec<LeftOut>, Error> {
        // SAFETY: the caller guarantees the targets.
        unsafe {
            write(allocator, targets, Order { is_freed: true, ..self.order(Some(fill), None) })
        }
    }

    fn order(&self, fill: Option<u8>, margins: Option<u64>) -> Order {
        Order { fill, is_freed: false, margins, by_device: self.by_device }
    }

    /// Begins a check, unless the device is lost: then nothing is known of what any memory holds.
    fn begin_check<'a>(
        &self,
        allocator: &'a DeviceAllocator,
        pause: Pause<'a>,
    ) -> Result<Check<'a>, Error> {
        if allocator.driver().is_known_lost() {
            return Err(DeviceError::DeviceLost.of("vkQueueSubmit").into());
        }
        Ok(Check::new(allocator, (self.key, self.by_device), pause))
    }

    /// Checks the margins of some allocations, without looking up their neighbours, unless `pause` wants to stop that.
    ///
    /// # Errors
    /// Those of the driver calls; [`Error::UseAfterFree`] for an allocation that was freed; `Interrupted`.
    pub fn check_some(
        &self,
        allocator: &DeviceAllocator,
        ids: &[AllocationId],
        pause: Pause<'_>,
    ) -> Result<Checked, CheckStopped> {
        let mut check = self.begin_check(allocator, pause)?;
        // No room for lists, as this is part of each free.
        if let [id] = ids {
            let it = allocator.engine().hold_memory_of(*id)?;
            if it.is_filled {
                let ranges = GuardedRange::margins_of(it.id, it.place(), it.bands);
                if let Err(why) = check.run(&it.memory, &ranges, &|_| None) {
                    return Err(check.stopped(why, it));
                }
            }
            return Ok(check.finish());
        }
        let mut places = Vec::with_capacity(ids.len());
        for id in ids {
            let place = allocator.engine().hold_memory_of(*id)?;
            if place.is_filled {
                places.push(place);
            }
        }
        places.sort_by_key(|it| (it.memory.handle().0, it.offset));
        for group in places.chunk_by(|one, other| one.memory.handle() == other.memory.handle()) {
            let ranges: Vec<GuardedRange> = group
                .iter()
                .flat_map(|it| GuardedRange::margins_of(it.id, it.place(), it.bands))
                .collect();
            if let Err(why) = check.run(&group[0].memory, &ranges, &|_| None) {
                return Err(check.stopped(why, places));
            }
        }
        Ok(check.finish())
    }

    /// Checks margins and quarantine of one pool, or of all pools of memory types. What the device has not finished
    /// yet is not seen, unless it was submitted to the device's own queue before. Goes on until `pause` wants to stop
    /// that.
    ///
    /// # Errors
    /// Those of the driver calls; [`Error::UseAfterFree`] if the id of the pool is stale; `Interrupted`.
    pub fn check(
        &self,
        allocator: &DeviceAllocator,
        (memory_type_bits, pool): (u32, Option<PoolId>),
        freed: FreedContents<'_>,
        pause: Pause<'_>,
    ) -> Result<Checked, CheckStopped> {
        let mut check = self.begin_check(allocator, pause)?;
        let all = allocator.engine().guarded_ranges(memory_type_bits, pool, false)?;
        all.iter().for_each(|it| check.expect(&it.memory, &it.ranges));
        for it in all {
            if let Err(why) = check.run(&it.memory, &it.ranges, freed) {
                return Err(check.stopped(why, it));
            }
        }
        Ok(check.finish())
    }

    /// Checks what leaves the quarantine, contents and margins; to be called by
    /// [`QuarantineOwner::leaving`](vkmem_engine::QuarantineOwner::leaving). It does not stop before its end: the memory
    /// is given out again.
    ///
    /// # Errors
    /// Those of the driver calls.
    pub fn check_leaving(
        &self,
        allocator: &DeviceAllocator,
        items: &[Quarantined],
        freed: FreedContents<'_>,
    ) -> Result<Checked, Error> {
        let mut items: Vec<&Quarantined> = items.iter().collect();
        items.sort_by_key(|it| (it.memory.handle().0, it.offset));
        let mut check = self.begin_check(allocator, &|| false)?;
        for group in items.chunk_by(|one, other| one.memory.handle() == other.memory.handle()) {
            let mut ranges = Vec::with_capacity(3 * group.len());
            for it in group {
                let place = (it.offset, it.size);
                let [front, back] = GuardedRange::margins_of(it.id, place, it.bands);
                ranges.extend([front, GuardedRange::quarantined(it.id, place, it.bands), back]);
            }
            if let Err(Stopped::Failed(error)) = check.run(&group[0].memory, &ranges, freed) {
                return Err(error);
            }
        }
        Ok(check.finish())
    }
}
