//! [`Row`]: which neighbours in a row are taken for a request.

use std::collections::VecDeque;

use super::group::Mark;
use super::host_memory::{collect, push_back};
use super::rule::Priority;
use crate::handle::SlotKey;
use crate::pools::arena::evicting::Regions;
use crate::suballocator::evicting::{Evicting, LiveRegion, Range};
use crate::suballocator::{BlockIndex, RegionRequest};

/// A neighbour that may be taken away.
#[derive(Clone, Copy)]
pub(super) struct Neighbour {
    pub region: LiveRegion,
    pub mark: Mark,
}

/// What taking a window away costs; smaller is better: the highest priority in it, then the frame of its last use,
/// then its bytes.
pub(super) type Cost = (Priority, u64, u64);

/// A range, and the allocations in it.
pub(super) struct Window {
    pub range: Range,
    pub victims: Vec<Mark>,
    pub cost: Cost,
}

impl Window {
    /// Returns the cheaper one; the first of equals.
    pub fn cheaper(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.cost < one.cost { other } else { one }),
            (one, other) => one.or(other),
        }
    }
}

/// Neighbours in a row, by ascending offset.
#[derive(Default)]
pub(super) struct Row {
    pub neighbours: VecDeque<Neighbour>,
    /// The live regions below and above the row.
    pub ends: [Option<SlotKey>; 2],
}

/// The bytes of a block from the first to the last of a row.
pub(super) struct LiveRange {
    block: BlockIndex,
    start: u64,
    end: u64,
}

impl LiveRange {
    pub fn contains(&self, region: &LiveRegion) -> bool {
        region.block == self.block && (self.start..self.end).contains(&region.offset)
    }
}

impl Row {
    pub fn range(&self) -> Option<LiveRange> {
        let (first, last) = (self.neighbours.front()?.region, self.neighbours.back()?.region);
        Some(LiveRange { block: first.block, start: first.offset, end: last.end })
    }

    /// Returns the cheapest window in which a request fits.
    ///
    /// # Time complexity
    /// O(neighbours).
    pub fn best(&self, regions: &mut Regions<'_>, request: &RegionRequest) -> Option<Window> {
        best(regions.evicting().ok()?, request, &self.neighbours, self.ends)
    }
}

fn best(
    suballocator: &dyn Evicting,
    request: &RegionRequest,
    row: &VecDeque<Neighbour>,
    [below, above]: [Option<SlotKey>; 2],
) -> Option<Window> {
    let block = row.front()?.region.block;
    let key = |at: usize| row[at].region.key;
    let range = |first: usize, last: usize| Range {
        block,
        below: if first == 0 { below } else { Some(key(first - 1)) },
        above: if last + 1 == row.len() { above } else { Some(key(last + 1)) },
    };
    let fits = |first, last| suballocator.fit_between(&range(first, last), request).is_some();
    let mut best: Option<(usize, usize, Cost)> = None;
    // Those that no later one of the window outranks, the highest first.
    let mut highest: VecDeque<usize> = VecDeque::new();
    let (mut end, mut bytes) = (0, 0);
    for first in 0..row.len() {
        // The window is first..end; growing it once it fits would only make it more expensive.
        while end <= first || !fits(first, end - 1) {
            if end == row.len() {
                return finish(row, best, range);
            }
            let rank = row[end].mark.rank();
            while highest.back().is_some_and(|&at| row[at].mark.rank() <= rank) {
                highest.pop_back();
            }
            push_back(&mut highest, end)?;
            bytes += row[end].region.size;
            end += 1;
        }
        if let Some(&highest) = highest.front() {
            let (priority, frame) = row[highest].mark.rank();
            let cost = (priority, frame, bytes);
            if best.is_none_or(|(.., least)| cost < least) {
                best = Some((first, end - 1, cost));
            }
        }
        if highest.front() == Some(&first) {
            highest.pop_front();
        }
        bytes -= row[first].region.size;
    }
    finish(row, best, range)
}

fn finish(
    row: &VecDeque<Neighbour>,
    best: Option<(usize, usize, Cost)>,
    range: impl Fn(usize, usize) -> Range,
) -> Option<Window> {
    let (first, last, cost) = best?;
    let victims = collect(row.range(first..=last).map(|it| it.mark))?;
    Some(Window { range: range(first, last), victims, cost })
}
