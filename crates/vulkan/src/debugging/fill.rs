//! Fills contents and writes margins: by the host what can be mapped, all else by the device.

use std::ops::Range;

use vkmem_engine::{
    AllocationId, Error, GuardBands, MappedMemory, MemoryAccess, MemoryHandle, MemoryPropertyFlags,
    MemoryRange, Pattern,
};

use crate::allocator::DeviceAllocator;
use crate::debugging::fill_by_device::write_by_device;
use crate::debugging::job::Job;
use crate::debugging::target::{FillTarget, LeftOut, LeftOutPart};
use crate::driver::contract::Driver;

const IMPORTED: &str = "its memory was imported, with what it holds";
const LAZY: &str =
    "its memory is LAZILY_ALLOCATED: the driver commits it when an attachment is first used";
const EXPORTED: &str =
    "a handle of its memory was exported, and what has imported that may still use it";
const PROTECTED: &str = "its memory is PROTECTED";

/// What is to be written.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// The byte that contents are filled with.
    pub(super) fill: Option<u8>,
    /// Whether they are those of what is about to be freed.
    pub(super) is_freed: bool,
    /// The key of the pattern that margins are filled with.
    pub(super) margins: Option<u64>,
    /// Whether the device writes what the host could write, too.
    pub(super) by_device: bool,
}

/// Writes what is ordered; returns what was left out.
///
/// # Errors
/// Those of the driver calls and of [`vkmem_engine::Allocator::note_filled`].
///
/// # Safety
/// The handles are live, bound to their allocations, and not used by the device or the host.
pub(super) unsafe fn write(
    allocator: &DeviceAllocator,
    targets: &[FillTarget],
    order: Order,
) -> Result<Vec<LeftOut>, Error> {
    let engine = allocator.engine();
    let mut left_out = Vec::new();
    let mut by_device = Vec::new();
    let mut by_host: Option<HostWriter> = None;
    for target in targets {
        let place = engine.hold_memory_of(target.id)?;
        let flags = allocator.driver().info().flags_of(place.memory.memory_type_index());
        let mut contents = order.fill.filter(|_| place.size > 0);
        if let (Some(why), Some(_)) =
            (why_not_filled(&place.memory, flags, order.is_freed), contents)
        {
            left_out.push(LeftOut { id: target.id, part: LeftOutPart::Contents, why });
            contents = None;
        }
        let pattern = |key| Pattern::new(key, place.memory.handle());
        let has_margins = !place.bands.is_empty();
        let margins = order.margins.filter(|_| has_margins).map(pattern);
        if contents.is_none() && margins.is_none() {
            continue;
        }
        let bands = match margins {
            Some(_) => GuardBands { slack: target.slack(place.size), ..place.bands },
            None => place.bands,
        };
        let job = Job { place, bands, contents, margins };
        if order.by_device || !flags.contains(MemoryPropertyFlags::HOST_VISIBLE) {
            by_device.push((target, job));
            continue;
        }
        let memory = &job.place.memory;
        let writer = match by_host.take() {
            Some(writer) if writer.memory == memory.handle() => writer,
            _ => HostWriter { memory: memory.handle(), mapped: memory.map()? },
        };
        writer.run(allocator, &job)?;
        by_host = Some(writer);
        if job.margins.is_some() {
            engine.note_filled(target.id, bands.slack)?;
        }
    }
    drop(by_host);
    if !by_device.is_empty() {
        // SAFETY: the caller guarantees the targets.
        let filled = unsafe { write_by_device(allocator.driver(), by_device, &mut left_out)? };
        for (id, bands) in filled {
            show_margins_to_host(allocator, id, bands)?;
            engine.note_filled(id, bands.slack)?;
        }
    }
    Ok(left_out)
}

/// Makes margins that the device wrote visible to the host, which reads them in a check: its view of memory that is not
/// coherent may still hold what was there before. Nothing unflushed is lost in atoms that hold contents as well, as the
/// host does not use the resource.
fn show_margins_to_host(
    allocator: &DeviceAllocator,
    id: AllocationId,
    bands: GuardBands,
) -> Result<(), Error> {
    let place = allocator.engine().hold_memory_of(id)?;
    let Some(atom) = allocator.engine().atom_size(place.memory.memory_type_index()) else {
        return Ok(());
    };
    let ranges = bands.ranges(place.place()).map(|margin| atoms_of(&place.memory, margin, atom));
    let _mapped = place.memory.map()?;
    let invalidated = allocator.driver().invalidate(&ranges);
    Ok(invalidated.map_err(|error| error.of("vkInvalidateMappedMemoryRanges"))?)
}

/// Returns whole atoms over a range from one margin of an allocation to the other: all of these are its own.
fn atoms_of(memory: &MemoryAccess, range: Range<u64>, atom: u64) -> MemoryRange {
    let offset = range.start / atom * atom;
    let end = range.end.next_multiple_of(atom).min(memory.size());
    MemoryRange { memory: memory.handle(), offset, size: end - offset }
}

/// Returns why the contents of memory are never filled.
pub(super) fn why_not_filled(
    memory: &MemoryAccess,
    flags: MemoryPropertyFlags,
    is_freed: bool,
) -> Option<&'static str> {
    if memory.is_imported() {
        Some(IMPORTED)
    } else if is_freed && memory.is_exported() {
        Some(EXPORTED)
    } else if flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED) {
        Some(LAZY)
    } else if flags.contains(MemoryPropertyFlags::PROTECTED) {
        Some(PROTECTED)
    } else {
        None
    }
}

/// Writes of the library, until this is dropped, to ranges that nothing need be bound to.
struct OwnWrites<'a> {
    driver: &'a dyn Driver,
    ranges: &'a [MemoryRange],
}

impl<'a> OwnWrites<'a> {
    fn begin(driver: &'a dyn Driver, ranges: &'a [MemoryRange]) -> Self {
        driver.begin_own_writes(ranges);
        Self { driver, ranges }
    }
}

impl Drop for OwnWrites<'_> {
    fn drop(&mut self) {
        self.driver.end_own_writes(self.ranges);
    }
}

/// A memory object that is mapped while it is written.
pub(super) struct HostWriter {
    pub(super) memory: MemoryHandle,
    pub(super) mapped: MappedMemory,
}

impl HostWriter {
    /// Writes what a job says.
    ///
    /// # Errors
    /// Those of `vkFlushMappedMemoryRanges`.
    pub(super) fn run(&self, allocator: &DeviceAllocator, job: &Job) -> Result<(), Error> {
        let Job { place, contents, margins, .. } = job;
        let Range { start: offset, end } = job.contents();
        let size = end - offset;
        let [front, back] = job.margins();
        let driver = allocator.driver();
        let memory = self.memory;
        let range =
            |it: Range<u64>| MemoryRange { memory, offset: it.start, size: it.end - it.start };
        let own = [range(front.clone()), range(offset..end), range(back.clone())];
        let _own_writes =
            driver.sees_host_access().then(|| OwnWrites::begin(driver.as_ref(), &own));
        let at = |offset| {
            std::ptr::with_exposed_provenance_mut::<u8>(self.mapped.address.at(offset).0.get())
        };
        if let Some(byte) = contents {
            driver.host_access(MemoryRange { memory, offset, size }, true);
            // SAFETY: the allocation's mapped memory, which nobody uses meanwhile.
            unsafe { std::ptr::write_bytes(at(offset), *byte, size as usize) };
        }
        if let Some(pattern) = margins {
            for Range { start, end } in [front.clone(), back.clone()] {
                let size = end - start;
                driver.host_access(MemoryRange { memory, offset: start, size }, true);
                // SAFETY: the allocation's mapped margin, which nobody may use.
                let bytes = unsafe { std::slice::from_raw_parts_mut(at(start), size as usize) };
                pattern.fill(start, bytes);
            }
        }
        let Some(atom) = allocator.engine().atom_size(place.memory.memory_type_index()) else {
            return Ok(());
        };
        let written = front.start..back.end.max(end);
        let flushed = driver.flush(&[atoms_of(&place.memory, written, atom)]);
        Ok(flushed.map_err(|error| error.of("vkFlushMappedMemoryRanges"))?)
    }
}
