//! Compares memory with what it has to hold: memory that can be mapped by the host's view of it, and what the device
//! sees of memory that is not coherent, or cannot be mapped, through a copy.

use std::collections::HashSet;
use std::ops::Range;

use vkmem_engine::{
    Error, GuardedRange, GuardedUse, MappedMemory, MemoryAccess, MemoryPropertyFlags, MemoryRange,
    Pattern,
};

use crate::allocator::DeviceAllocator;
use crate::debugging::contents::{Comparison, Expected};
use crate::debugging::finding::{Checked, Finding, FreedContents};
use crate::debugging::read_by_device::DeviceReader;
use crate::driver::contract::Driver;
use crate::host::cache_hints::prefetch_line;

/// Bytes of mapped memory that are copied and compared at a time.
const STEP: usize = 512;
/// How many ranges before its own turn the memory of one is prefetched.
const AHEAD: usize = 8;

/// A check of the memory of one allocator.
pub(super) struct Check<'a> {
    allocator: &'a DeviceAllocator,
    key: u64,
    by_device: bool,
    reader: DeviceReader<'a>,
    outcome: Checked,
}

impl<'a> Check<'a> {
    pub(super) fn new(allocator: &'a DeviceAllocator, key: u64, by_device: bool) -> Self {
        let reader = DeviceReader::new(allocator.driver().as_ref());
        Self { allocator, key, by_device, reader, outcome: Checked::default() }
    }

    /// Checks ranges of a memory object, by ascending offset.
    ///
    /// # Errors
    /// Those of the driver calls.
    pub(super) fn run(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[GuardedRange],
        freed: FreedContents<'_>,
    ) -> Result<(), Error> {
        let pattern = Pattern::new(self.key, memory.handle());
        let expected = |range: &GuardedRange| match range.is {
            _ if range.size == 0 => None,
            GuardedUse::FrontMargin | GuardedUse::BackMargin => Some(Expected::Pattern(pattern)),
            GuardedUse::Quarantined => freed(range.id?).map(Expected::Byte),
            GuardedUse::Unused => None,
        };
        let info = self.allocator.driver().info();
        let index = memory.memory_type_index();
        let is_visible =
            !self.by_device && info.flags_of(index).contains(MemoryPropertyFlags::HOST_VISIBLE);
        let before = self.outcome.findings.len();
        let mut checked = 0;
        if is_visible {
            checked = self.compare_mapped(memory, ranges, expected)?;
        }
        if !is_visible || info.is_non_coherent(index) {
            let told = self.told(before);
            let untold =
                |range: &GuardedRange| expected(range).filter(|_| !told.contains(&range.offset));
            let pairs = ranges.iter().filter_map(|it| Some((it, untold(it)?)));
            let found = &mut self.outcome.findings;
            let (read, unchecked) = self.reader.compare(memory, pairs, |range, comparison| {
                found.extend(finding(memory, range, comparison));
            })?;
            if !is_visible {
                checked = read;
                self.outcome.unchecked.extend(unchecked);
            } else if unchecked.is_some() {
                let told = self.told(before);
                let untold = |range: &GuardedRange| {
                    expected(range).filter(|_| !told.contains(&range.offset))
                };
                let pairs = ranges.iter().filter_map(|it| Some((it, untold(it)?)));
                self.invalidate(memory, pairs)?;
                self.compare_mapped(memory, ranges, untold)?;
            }
        }
        self.outcome.ranges += checked;
        if checked > 0 {
            self.outcome.memory_type_bits |= 1 << index;
        }
        Ok(())
    }

    /// Returns the offsets of the ranges of the findings from a number on.
    fn told(&self, from: usize) -> HashSet<u64> {
        self.outcome.findings[from..].iter().map(|it| it.range.offset).collect()
    }

    /// Compares the host's view of those ranges of which `expected` knows what they hold; returns their number.
    fn compare_mapped(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[GuardedRange],
        expected: impl Fn(&GuardedRange) -> Option<Expected>,
    ) -> Result<u64, Error> {
        let mapped = memory.map()?;
        let mut told = HostReads { driver: self.allocator.driver().as_ref(), memory, told: 0..0 };
        let mut count = 0;
        let mut buffer = [0; STEP];
        for (at, range) in ranges.iter().enumerate() {
            // Margins are far apart, so each of them is in another page.
            if let Some(later) = ranges.get(at + AHEAD) {
                prefetch_line(mapped.address.at(later.offset).0.get() as u64);
            }
            let Some(expected) = expected(range) else { continue };
            count += 1;
            told.add(range);
            let comparison = compare_mapped(&mapped, range, expected, &mut buffer);
            self.outcome.findings.extend(finding(memory, range, comparison));
        }
        told.finish();
        Ok(count)
    }

    /// Makes what the device wrote visible to the host, except in atoms that are shared with a live allocation, where
    /// the host may have written what it has not flushed yet.
    fn invalidate<'r>(
        &self,
        memory: &MemoryAccess,
        ranges: impl Iterator<Item = (&'r GuardedRange, Expected)>,
    ) -> Result<(), Error> {
        let engine = self.allocator.engine();
        let Some(atom) = engine.atom_size(memory.memory_type_index()) else { return Ok(()) };
        let ranges: Vec<MemoryRange> =
            ranges.filter_map(|(range, _)| own_atoms(memory, range, atom)).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let _mapped = memory.map()?;
        let invalidated = self.allocator.driver().invalidate(&ranges);
        Ok(invalidated.map_err(|error| error.of("vkInvalidateMappedMemoryRanges"))?)
    }

    /// Returns the outcome: what was freed and given out again since it was listed is no finding.
    pub(super) fn finish(mut self) -> Checked {
        let engine = self.allocator.engine();
        self.outcome.findings.retain(|it| engine.is_guarded(&it.range));
        self.outcome.submissions = self.reader.submissions();
        self.outcome
    }
}

/// Returns the atoms of a range that no live allocation shares: the regions of allocations begin with an atom.
fn own_atoms(memory: &MemoryAccess, range: &GuardedRange, atom: u64) -> Option<MemoryRange> {
    let down = |offset: u64| offset / atom * atom;
    let up = |offset: u64| offset.next_multiple_of(atom).min(memory.size());
    let (first, end) = (range.offset, range.offset + range.size);
    let (start, end) = match range.is {
        GuardedUse::FrontMargin => (down(first), down(end)),
        GuardedUse::BackMargin => (up(first), up(end)),
        GuardedUse::Quarantined => (down(first), up(end)),
        GuardedUse::Unused => (up(first), down(end)),
    };
    let memory = memory.handle();
    (start < end).then(|| MemoryRange { memory, offset: start, size: end - start })
}

/// Tells a simulated device which memory the host reads, neighbours together.
struct HostReads<'a> {
    driver: &'a dyn Driver,
    memory: &'a MemoryAccess,
    told: Range<u64>,
}

impl HostReads<'_> {
    fn add(&mut self, range: &GuardedRange) {
        if range.offset != self.told.end {
            self.finish();
            self.told.start = range.offset;
        }
        self.told.end = range.offset + range.size;
    }

    fn finish(&self) {
        let Range { start, end } = self.told;
        if start < end {
            let range =
                MemoryRange { memory: self.memory.handle(), offset: start, size: end - start };
            self.driver.host_access(range, false);
        }
    }
}

/// Compares one range. Others may write it meanwhile, so its bytes are copied before they are looked at.
fn compare_mapped(
    mapped: &MappedMemory,
    range: &GuardedRange,
    expected: Expected,
    buffer: &mut [u8; STEP],
) -> Comparison {
    let mut comparison = Comparison::new(expected);
    let mut done = 0;
    while done < range.size {
        let at = range.offset + done;
        let step = (range.size - done).min(STEP as u64) as usize;
        let from = std::ptr::with_exposed_provenance::<u8>(mapped.address.at(at).0.get());
        let part = &mut buffer[..step];
        // SAFETY: inside of the mapped memory object, which stays mapped; the bytes may be written meanwhile by
        // what this is to find, and each of them has some value.
        unsafe { std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), step) };
        comparison.add(at, part);
        done += step as u64;
    }
    comparison
}

fn finding(memory: &MemoryAccess, range: &GuardedRange, comparison: Comparison) -> Option<Finding> {
    let (difference, found, expected) = comparison.finish()?;
    Some(Finding {
        range: *range,
        memory: memory.handle(),
        memory_type_index: memory.memory_type_index(),
        difference,
        found,
        expected,
    })
}
