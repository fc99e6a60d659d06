//! Compares memory with what it has to hold: memory that can be mapped by the host's view of it, and what the device
//! sees of memory that is not coherent, or cannot be mapped, through a copy.

use std::any::Any;
use std::collections::HashSet;
use std::time::Instant;

use vkmem_engine::{
    DeviceInfo, Error, GuardedRange, GuardedUse, MappedMemory, MemoryAccess, MemoryPropertyFlags,
    MemoryRange, Pattern,
};

use crate::allocator::DeviceAllocator;
use crate::debugging::contents::{Comparison, Expected};
use crate::debugging::finding::{Checked, Finding, FreedContents};
use crate::debugging::read_by_device::DeviceReader;
use crate::debugging::unfinished::{CheckStopped, UnfinishedCheck};
use crate::driver::stopped::{Pause, SLICE, Stopped};
use crate::host::cache_hints::prefetch_line;
use crate::host::uncached::read_uncached;

/// Bytes of mapped memory that are copied and compared at a time.
const STEP: usize = 512;
/// How many ranges before its own turn the memory of one is prefetched.
const AHEAD: usize = 8;
const NO_ROOM: Error = Error::NoHostMemory("a check of memory");

/// A check of the memory of one allocator.
pub(super) struct Check<'a> {
    allocator: &'a DeviceAllocator,
    key: u64,
    by_device: bool,
    reader: DeviceReader<'a>,
    outcome: Checked,
    unfinished: Option<UnfinishedCheck>,
    pause: Pause<'a>,
    /// When it was asked last whether to stop.
    asked: Instant,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        allocator: &'a DeviceAllocator,
        (key, by_device): (u64, bool),
        pause: Pause<'a>,
    ) -> Self {
        let reader = DeviceReader::new(allocator.driver(), pause);
        let (outcome, asked) = (Checked::default(), Instant::now());
        Self { allocator, key, by_device, reader, outcome, unfinished: None, pause, asked }
    }

    /// Returns why it has stopped; `memory` keeps the memory object from being freed that it was looking at.
    pub(super) fn stopped(self, why: Stopped, memory: impl Any + Send + Sync) -> CheckStopped {
        match (why, self.unfinished) {
            (Stopped::Failed(error), _) => CheckStopped::Failed(error),
            (Stopped::Interrupted, None) => CheckStopped::Interrupted(None),
            (Stopped::Interrupted, Some(mut unfinished)) => {
                unfinished.keep(memory);
                CheckStopped::Interrupted(Some(Box::new(unfinished)))
            }
        }
    }

    fn is_visible(&self, memory: &MemoryAccess) -> bool {
        let flags = self.allocator.driver().info().flags_of(memory.memory_type_index());
        !self.by_device && flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
    }

    /// Prepares for a check of ranges of a memory object, by ascending offset.
    pub(super) fn expect(&mut self, memory: &MemoryAccess, ranges: &[GuardedRange]) {
        if !self.is_visible(memory) {
            self.reader.expect(memory, ranges);
        }
    }

    /// Checks ranges of a memory object, by ascending offset.
    ///
    /// # Errors
    /// Those of the driver calls, and `Interrupted`.
    pub(super) fn run(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[GuardedRange],
        freed: FreedContents<'_>,
    ) -> Result<(), Stopped> {
        if self.asked.elapsed() >= SLICE {
            self.asked = Instant::now();
            if (self.pause)() {
                return Err(Stopped::Interrupted);
            }
        }
        let pattern = Pattern::new(self.key, memory.handle());
        let contents = |range: &GuardedRange| freed(range.id?);
        self.compare(memory, ranges, pattern, &contents)
    }

    /// Compares ranges of a memory object, by ascending offset, with the pattern of margins and the byte that contents
    /// were filled with.
    ///
    /// # Errors
    /// Those of the driver calls, and `Interrupted`.
    pub(super) fn compare(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[GuardedRange],
        pattern: Pattern,
        contents: &dyn Fn(&GuardedRange) -> Option<u8>,
    ) -> Result<(), Stopped> {
        let expected = |range: &GuardedRange| match range.is {
            _ if range.size == 0 => None,
            GuardedUse::FrontMargin | GuardedUse::BackMargin => Some(Expected::Pattern(pattern)),
            GuardedUse::Quarantined => contents(range).map(Expected::Byte),
            GuardedUse::Unused => None,
        };
        let mut wanted: Vec<(&GuardedRange, Expected)> = Vec::new();
        wanted.try_reserve_exact(ranges.len()).map_err(|_| NO_ROOM)?;
        // Asked once: what is freed meanwhile may have another answer later.
        wanted.extend(ranges.iter().filter_map(|range| Some((range, expected(range)?))));
        let info = self.allocator.driver().info();
        let index = memory.memory_type_index();
        let is_visible = self.is_visible(memory);
        let before = self.outcome.findings.len();
        let mut checked = 0;
        if is_visible {
            checked = self.compare_mapped(memory, &wanted)?;
        }
        if !is_visible || info.is_non_coherent(index) {
            self.drop_told(before, &mut wanted);
            let found = &mut self.outcome.findings;
            let (read, unchecked) = self.reader.compare(
                memory,
                &wanted,
                &mut self.unfinished,
                |range, comparison| found.extend(finding(memory, range, comparison)),
            )?;
            if !is_visible {
                checked = read;
                self.outcome.unchecked.extend(unchecked);
            } else if unchecked.is_some() {
                self.drop_told(before, &mut wanted);
                self.invalidate(memory, &wanted)?;
                self.compare_mapped(memory, &wanted)?;
            }
        }
        self.outcome.ranges += checked;
        if checked > 0 {
            self.outcome.memory_type_bits |= 1 << index;
        }
        Ok(())
    }

    /// Leaves out the ranges of the findings from a number on.
    fn drop_told(&self, from: usize, wanted: &mut Vec<(&GuardedRange, Expected)>) {
        let told: HashSet<u64> =
            self.outcome.findings[from..].iter().map(|it| it.range.offset).collect();
        if !told.is_empty() {
            wanted.retain(|(range, _)| !told.contains(&range.offset));
        }
    }

    /// Compares the host's view of ranges with what they have to hold; returns their number. What the device wrote is
    /// not made visible for that: it is read by a copy.
    fn compare_mapped(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[(&GuardedRange, Expected)],
    ) -> Result<u64, Error> {
        let view = View::of(memory, self.allocator.driver().info())?;
        let mut buffer = [0; STEP];
        for (at, &(range, expected)) in ranges.iter().enumerate() {
            // Margins are far apart, so each of them is in another page.
            if let Some((later, _)) = ranges.get(at + AHEAD) {
                prefetch_line(view.mapped.address.at(later.offset).0.get() as u64);
            }
            let comparison = view.compare(range, expected, &mut buffer);
            self.outcome.findings.extend(finding(memory, range, comparison));
        }
        Ok(ranges.len() as u64)
    }

    /// Makes what the device wrote visible to the host, except in atoms that are shared with a live allocation, where
    /// the host may have written what it has not flushed yet.
    fn invalidate(
        &self,
        memory: &MemoryAccess,
        ranges: &[(&GuardedRange, Expected)],
    ) -> Result<(), Error> {
        let engine = self.allocator.engine();
        let Some(atom) = engine.atom_size(memory.memory_type_index()) else { return Ok(()) };
        let ranges: Vec<MemoryRange> =
            ranges.iter().filter_map(|(range, _)| own_atoms(memory, range, atom)).collect();
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
        self.finish_parts()
    }

    /// Returns the outcome of a check of parts: the caller knows which of them are still what they were.
    pub(super) fn finish_parts(mut self) -> Checked {
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

/// The host's view of a memory object.
struct View {
    mapped: MappedMemory,
    size: u64,
    is_cached: bool,
}

impl View {
    fn of(memory: &MemoryAccess, info: &DeviceInfo) -> Result<Self, Error> {
        let flags = info.flags_of(memory.memory_type_index());
        let is_cached = flags.contains(MemoryPropertyFlags::HOST_CACHED);
        Ok(Self { mapped: memory.map()?, size: memory.size(), is_cached })
    }

    /// Compares one range. Others may write it meanwhile, so its bytes are copied before they are looked at.
    fn compare(
        &self,
        range: &GuardedRange,
        expected: Expected,
        buffer: &mut [u8; STEP],
    ) -> Comparison {
        let mut comparison = Comparison::new(expected);
        let mut done = 0;
        while done < range.size {
            let at = range.offset + done;
            let step = (range.size - done).min(STEP as u64) as usize;
            let part = &mut buffer[..step];
            self.read(at, part);
            comparison.add(at, part);
            done += step as u64;
        }
        comparison
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let address = |offset| self.mapped.address.at(offset).0.get();
        let from = address(offset);
        if !self.is_cached {
            // SAFETY: the memory object is mapped and stays so; the bytes may be written meanwhile.
            return unsafe { read_uncached(address(0)..address(self.size), from, into) };
        }
        let from = std::ptr::with_exposed_provenance::<u8>(from);
        // SAFETY: inside of the mapped memory object, which stays mapped; the bytes may be written meanwhile by
        // what this is to find, and each of them has some value.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }
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
