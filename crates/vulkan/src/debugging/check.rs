//! Compares memory with what it has to hold: memory that can be mapped by the host's view of it, and what the device
//! sees of memory that is not coherent, or cannot be mapped, through a copy.

use std::collections::HashSet;

use vkmem_engine::{
    Error, GuardedRange, GuardedUse, MappedMemory, MemoryAccess, MemoryPropertyFlags, MemoryRange,
    Pattern,
};

use crate::allocator::DeviceAllocator;
use crate::debugging::FreedContents;
use crate::debugging::contents::{Comparison, Expected};
use crate::debugging::finding::{Checked, Finding, Unchecked};
use crate::debugging::read_by_device::DeviceReader;
use crate::driver::contract::Driver;

/// Bytes of mapped memory that are copied and compared at a time.
const STEP: u64 = 16 << 10;

/// A check of the memory of one allocator.
pub(super) struct Check<'a> {
    allocator: &'a DeviceAllocator,
    key: u64,
    reader: DeviceReader<'a>,
    outcome: Checked,
}

/// A range with what it has to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) range: GuardedRange,
    pub(super) expected: Expected,
}

impl<'a> Check<'a> {
    pub(super) fn new(allocator: &'a DeviceAllocator, key: u64) -> Self {
        let reader = DeviceReader::new(allocator.driver().as_ref());
        Self { allocator, key, reader, outcome: Checked::default() }
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
            GuardedUse::FrontMargin | GuardedUse::BackMargin => Some(Expected::Pattern(pattern)),
            GuardedUse::Quarantined => freed(range.id?).map(Expected::Byte),
            GuardedUse::Unused => None,
        };
        let spans: Vec<Span> = ranges
            .iter()
            .filter(|range| range.size > 0)
            .filter_map(|range| Some(Span { range: *range, expected: expected(range)? }))
            .collect();
        if spans.is_empty() {
            return Ok(());
        }
        let info = self.allocator.driver().info();
        let index = memory.memory_type_index();
        let is_visible = info.flags_of(index).contains(MemoryPropertyFlags::HOST_VISIBLE);
        let before = self.outcome.findings.len();
        let mut unchecked = None;
        if is_visible {
            self.compare_mapped(memory, &spans)?;
        }
        if !is_visible || info.is_non_coherent(index) {
            let rest = self.untold(before, &spans);
            let found = &mut self.outcome.findings;
            unchecked = self.reader.compare(memory, &rest, |span, differs| {
                found.extend(finding(memory, span, differs));
            })?;
            if is_visible && unchecked.take().is_some() {
                let rest = self.untold(before, &spans);
                self.invalidate(memory, &rest)?;
                self.compare_mapped(memory, &rest)?;
            }
        }
        let count = spans.len() as u64;
        let missed = unchecked.map_or(0, |it: Unchecked| it.ranges);
        self.outcome.unchecked.extend(unchecked);
        self.outcome.ranges += count - missed;
        if missed < count {
            self.outcome.memory_type_bits |= 1 << index;
        }
        Ok(())
    }

    /// Returns the spans that are not among the findings from a number on.
    fn untold(&self, from: usize, spans: &[Span]) -> Vec<Span> {
        let told: HashSet<u64> =
            self.outcome.findings[from..].iter().map(|it| it.range.offset).collect();
        spans.iter().filter(|it| !told.contains(&it.range.offset)).copied().collect()
    }

    /// Compares the host's view of memory.
    fn compare_mapped(&mut self, memory: &MemoryAccess, spans: &[Span]) -> Result<(), Error> {
        let mapped = memory.map()?;
        let driver = self.allocator.driver().as_ref();
        tell_host_reads(driver, memory, spans);
        let mut buffer = vec![0; STEP as usize];
        for span in spans {
            let differs = compare_mapped(&mapped, span, &mut buffer);
            self.outcome.findings.extend(finding(memory, span, differs));
        }
        Ok(())
    }

    /// Makes what the device wrote visible to the host, except in atoms that are shared with a live allocation, where
    /// the host may have written what it has not flushed yet.
    fn invalidate(&self, memory: &MemoryAccess, spans: &[Span]) -> Result<(), Error> {
        let engine = self.allocator.engine();
        let Some(atom) = engine.atom_size(memory.memory_type_index()) else { return Ok(()) };
        let ranges: Vec<MemoryRange> =
            spans.iter().filter_map(|span| own_atoms(memory, &span.range, atom)).collect();
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
fn tell_host_reads(driver: &dyn Driver, memory: &MemoryAccess, spans: &[Span]) {
    let end = |range: &GuardedRange| range.offset + range.size;
    for group in spans.chunk_by(|one, other| end(&one.range) == other.range.offset) {
        let (first, last) = (&group[0].range, &group[group.len() - 1].range);
        let (offset, size) = (first.offset, end(last) - first.offset);
        driver.host_access(MemoryRange { memory: memory.handle(), offset, size }, false);
    }
}

/// Compares one range. Others may write it meanwhile, so its bytes are copied before they are looked at.
fn compare_mapped(mapped: &MappedMemory, span: &Span, buffer: &mut [u8]) -> Comparison {
    let GuardedRange { offset, size, .. } = span.range;
    let mut comparison = Comparison::new(span.expected);
    let mut done = 0;
    while done < size {
        let (at, step) = (offset + done, STEP.min(size - done));
        let from = std::ptr::with_exposed_provenance::<u8>(mapped.address.at(at).0.get());
        let part = &mut buffer[..step as usize];
        // SAFETY: inside of the mapped memory object, which stays mapped; the bytes may be written meanwhile by
        // what this is to find, and each of them has some value.
        unsafe { std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), part.len()) };
        comparison.add(at, part);
        done += step;
    }
    comparison
}

fn finding(memory: &MemoryAccess, span: &Span, comparison: Comparison) -> Option<Finding> {
    let (difference, found, expected) = comparison.finish()?;
    Some(Finding {
        range: span.range,
        memory: memory.handle(),
        memory_type_index: memory.memory_type_index(),
        difference,
        found,
        expected,
    })
}
