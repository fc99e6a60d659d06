//! Checks of the slices of buffer heaps.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Instant;

use vkmem_engine::{Error, GuardedUse};
use vkmem_vulkan::{CheckStopped, Finding, Stopped, Unchecked};

use super::moment::SliceKey;
use super::report::Report;
use super::slices::{DividedBuffer, Slice, Wanted, Which};
use super::state::DebugState;
use crate::lifetime::ownership::AllocatorState;

/// Memory of a slice that was written and must not have been.
pub(super) struct SliceFinding {
    key: SliceKey,
    finding: Finding,
    /// Whether the neighbour's margin on that side is as it was; `None` if there is none.
    is_facing_intact: Option<bool>,
}

/// The outcome of a check of slices.
#[derive(Default)]
pub(super) struct CheckedSlices {
    pub(super) findings: Vec<SliceFinding>,
    /// Number of ranges that were checked.
    pub(super) ranges: u64,
    pub(super) unchecked: Vec<Unchecked>,
}

/// Returns the margin of a neighbour that is next to a range of a slice: its offset, and which one it is.
fn facing(of: &DividedBuffer, offset: u64, is: GuardedUse) -> Option<(u64, GuardedUse)> {
    let [before, behind] = of.neighbours(offset);
    let (neighbour, its) = match is {
        GuardedUse::FrontMargin => (before, GuardedUse::BackMargin),
        GuardedUse::BackMargin => (behind, GuardedUse::FrontMargin),
        GuardedUse::Quarantined | GuardedUse::Unused => return None,
    };
    neighbour.filter(|it| it.1.has_margins).map(|(at, _)| (at, its))
}

impl DebugState {
    /// Returns whether slices are watched that a check of these would look at.
    pub(super) fn has_slices(&self, which: Which) -> bool {
        let slices = self.slices.lock();
        match which {
            Which::Pool(_) => !slices.wanted(which).is_empty(),
            _ => !slices.heaps.is_empty(),
        }
    }

    /// Checks slices in memory types.
    ///
    /// # Errors
    /// Those of the driver calls; `Interrupted` once a handler of a signal has raised something.
    pub(super) fn check_slices(
        &self,
        allocator: &AllocatorState,
        memory_type_bits: u32,
        which: Which,
    ) -> Result<CheckedSlices, Stopped> {
        let all = self.slices.lock().wanted(which);
        let mut checked = CheckedSlices::default();
        for wanted in &all {
            let memory = allocator.engine().hold_memory_of(wanted.of.id);
            let memory_type = memory.map(|it| it.memory.memory_type_index());
            if memory_type.is_ok_and(|it| memory_type_bits >> it & 1 == 1) {
                self.check_buffer(allocator, wanted, &mut checked)?;
            }
        }
        if let Which::Slice(_, only) = which {
            // The margins of neighbours were looked at for what they say of its own.
            checked.findings.retain(|it| it.key.offset == only);
        }
        Ok(checked)
    }

    fn check_buffer(
        &self,
        allocator: &AllocatorState,
        wanted: &Wanted,
        into: &mut CheckedSlices,
    ) -> Result<(), Stopped> {
        // While it moves its contents are on their way.
        let is_still = || wanted.resource.upgrade().is_some_and(|it| !it.pins.is_moving());
        if !is_still() {
            return Ok(());
        }
        let Wanted { of, ranges, owners, .. } = wanted;
        let pause = || self.running.pause();
        let checked = self.memory.check_parts(&allocator.device_allocator, *of, ranges, &pause);
        let (checked, indices) = match checked {
            // It has ended meanwhile.
            Err(CheckStopped::Failed(Error::UseAfterFree)) => return Ok(()),
            checked => self.outcome(checked)?,
        };
        let slices = self.slices.lock();
        if !is_still() || slices.buffers.get(&of.number).is_none_or(|it| it.id != of.id) {
            return Ok(());
        }
        into.ranges += checked.ranges;
        into.unchecked.extend(checked.unchecked);
        let is_wrong: HashSet<(u64, u8)> =
            indices.iter().map(|it| (owners[*it].offset, ranges[*it].is as u8)).collect();
        for (finding, index) in checked.findings.into_iter().zip(indices) {
            let key = owners[index];
            // What was given out again since it was listed is no finding.
            if let Some((of, _)) = slices.slice(key) {
                let facing = facing(of, key.offset, finding.range.is);
                let is_facing_intact = facing.map(|(at, is)| !is_wrong.contains(&(at, is as u8)));
                into.findings.push(SliceFinding { key, finding, is_facing_intact });
            }
        }
        Ok(())
    }

    /// Adds what is known of the slices to what was found.
    pub(super) fn slice_reports(
        &self,
        allocator: &AllocatorState,
        findings: Vec<SliceFinding>,
    ) -> Vec<Report> {
        let at = Instant::now();
        let mut names: HashMap<u64, String> = HashMap::new();
        for it in &findings {
            names.entry(it.key.buffer).or_insert_with(|| {
                let id = it.finding.range.id;
                let name = id.and_then(|id| allocator.engine().name(id).ok().flatten());
                name.map_or("a buffer".into(), |it| format!("buffer '{}'", it.escape_debug()))
            });
        }
        let slices = self.slices.lock();
        let report = |it: SliceFinding| {
            let (buffer, slice) = slices.slice(it.key)?;
            let name = &names[&it.key.buffer];
            let party = |(at, slice): (u64, &Slice)| slice.party(buffer.id, at, name);
            Some(Report {
                subject: party((it.key.offset, slice)),
                neighbours: buffer.neighbours(it.key.offset).map(|it| it.map(party)),
                finding: it.finding,
                at,
                slice: Some(it.key),
                is_facing_intact: it.is_facing_intact,
            })
        };
        findings.into_iter().filter_map(report).collect()
    }

    /// Keeps what was found for the call of this thread, but for what was told before.
    pub(super) fn keep_slices(&self, allocator: &AllocatorState, findings: Vec<SliceFinding>) {
        if findings.is_empty() {
            return;
        }
        let reports = self.slice_reports(allocator, findings);
        let new = self.note_told_slices(reports);
        let me = thread::current().id();
        let mut records = self.records.lock();
        new.into_iter().for_each(|it| records.find(me, it));
    }

    /// Notes faults of slices as told; returns those that were not told before.
    fn note_told_slices(&self, reports: Vec<Report>) -> Vec<Report> {
        let mut slices = self.slices.lock();
        let mut is_new = |it: &Report| match (it.slice, it.fault()) {
            (Some(key), Some(fault)) => slices.tell(key, fault),
            _ => true,
        };
        let (new, told): (Vec<Report>, Vec<Report>) = reports.into_iter().partition(&mut is_new);
        drop(slices);
        // Without the lock: they refer to Python objects.
        drop(told);
        new
    }

    /// Notes what a check on demand tells of slices.
    pub(super) fn note_slices(&self, reports: &[Report]) {
        let mut slices = self.slices.lock();
        for it in reports {
            if let (Some(key), Some(fault)) = (it.slice, it.fault()) {
                slices.tell(key, fault);
            }
        }
    }
}
