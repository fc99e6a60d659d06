//! [`Tally`]: what a thread of a replay counts.

use std::collections::BTreeMap;
use std::time::Duration;

use vkmem_engine::Error;

use crate::event::Kind;

/// Failed calls, leftovers and the like that are told one by one; others are only counted.
pub(super) const TOLD: usize = 16;

/// Calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionCalls {
    /// Number of calls that were played.
    pub count: u64,
    /// Number of them that failed.
    pub failed: u64,
    /// Time that they took in ns.
    pub time: u64,
}

/// An allocation that failed where it did not before, or the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCall {
    /// Index of the event.
    pub event: usize,
    /// Size in bytes.
    pub size: u64,
    /// The reason.
    pub what: String,
}

/// Allocations that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Their number.
    pub count: u64,
    /// The bytes that they asked for.
    pub bytes: u64,
    /// The first ones.
    pub first: Vec<FailedCall>,
}

impl Failures {
    pub(super) fn add(&mut self, event: usize, size: u64, what: impl FnOnce() -> String) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.first.len() < TOLD {
            self.first.push(FailedCall { event, size, what: what() });
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first.extend(other.first);
        self.first.sort_by_key(|it| it.event);
        self.first.truncate(TOLD);
    }
}

/// The first place that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Index of the event.
    pub event: usize,
    /// What was recorded.
    pub recorded: String,
    /// What it is now.
    pub now: String,
}

/// Places compared with those that were recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placements {
    /// Number of comparisons.
    pub checked: u64,
    /// Number of them that found a difference.
    pub differing: u64,
    /// The first difference.
    pub first: Option<Difference>,
}

impl Placements {
    pub(super) fn differ(&mut self, event: usize, recorded: String, now: String) {
        self.differing += 1;
        if self.first.as_ref().is_none_or(|it| event < it.event) {
            self.first = Some(Difference { event, recorded, now });
        }
    }
}

/// Resources of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Number of allocations.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What was never freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Number of allocations.
    pub allocations: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Number of pools.
    pub pools: u64,
    /// Number of virtual blocks and sets.
    pub spaces: u64,
    /// Number of virtual allocations.
    pub virtual_allocations: u64,
    /// The first allocations: the event that created each, its size and its name.
    pub first: Vec<(usize, u64, Option<String>)>,
}

/// What a thread counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    calls: BTreeMap<u8, FunctionCalls>,
    recent: Option<(u8, FunctionCalls)>,
    pub failed_now: Failures,
    pub succeeded_now: Failures,
    /// Allocations that failed then and now.
    pub failed_again: u64,
    /// Why events were not played, and how many.
    pub skipped: BTreeMap<&'static str, u64>,
    pub placements: Placements,
    pub classes: BTreeMap<&'static str, ClassFigures>,
    pub leftovers: Leftovers,
    pub moves: ClassFigures,
    pub losses: ClassFigures,
    pub recorded_losses: u64,
    pub frames: u64,
}

impl Tally {
    /// Counts a call that was played.
    #[inline]
    pub fn call(&mut self, kind: Kind, time: Duration, failed: bool) {
        let kind = kind as u8;
        if self.recent.is_none_or(|(recent, _)| recent != kind) {
            if let Some((recent, calls)) = self.recent.take() {
                self.calls.insert(recent, calls);
            }
            self.recent = Some((kind, self.calls.get(&kind).copied().unwrap_or_default()));
        }
        if let Some((_, calls)) = &mut self.recent {
            calls.count += 1;
            calls.failed += u64::from(failed);
            calls.time = calls.time.saturating_add(time.as_nanos() as u64);
        }
    }

    /// Counts an event that cannot be played.
    pub fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Counts a resource.
    #[inline]
    pub fn resource(&mut self, class: &'static str, bytes: u64) {
        let figures = self.classes.entry(class).or_default();
        *figures =
            ClassFigures { count: figures.count + 1, bytes: figures.bytes.saturating_add(bytes) };
    }

    /// Returns the calls by the name of their kind, in the order of the kinds.
    pub fn calls(&self) -> Vec<(&'static str, FunctionCalls)> {
        let mut all = self.calls.clone();
        all.extend(self.recent);
        let named = all
            .into_iter()
            .filter_map(|(kind, calls)| Kind::from_number(kind).map(|kind| (kind.name(), calls)));
        named.collect()
    }

    /// Adds what another thread has counted.
    pub fn merge(&mut self, mut other: Self) {
        self.calls.extend(self.recent.take());
        other.calls.extend(other.recent.take());
        for (kind, calls) in other.calls {
            let sum = self.calls.entry(kind).or_default();
            sum.count += calls.count;
            sum.failed += calls.failed;
            sum.time = sum.time.saturating_add(calls.time);
        }
        self.failed_now.merge(other.failed_now);
        self.succeeded_now.merge(other.succeeded_now);
        self.failed_again += other.failed_again;
        other
            .skipped
            .into_iter()
            .for_each(|(why, count)| *self.skipped.entry(why).or_default() += count);
        for (class, figures) in other.classes {
            let sum = self.classes.entry(class).or_default();
            sum.count += figures.count;
            sum.bytes = sum.bytes.saturating_add(figures.bytes);
        }
        self.moves.count += other.moves.count;
        self.moves.bytes += other.moves.bytes;
        self.losses.count += other.losses.count;
        self.losses.bytes += other.losses.bytes;
        self.recorded_losses += other.recorded_losses;
        self.frames += other.frames;
        let (mine, theirs) = (&mut self.leftovers, other.leftovers);
        mine.allocations += theirs.allocations;
        mine.bytes = mine.bytes.saturating_add(theirs.bytes);
        mine.pools += theirs.pools;
        mine.spaces += theirs.spaces;
        mine.virtual_allocations += theirs.virtual_allocations;
        mine.first.extend(theirs.first);
        mine.first.truncate(TOLD);
    }
}

/// Returns the first line of an error, for reports.
pub(super) fn reason(error: &Error) -> String {
    error.to_string()
}
