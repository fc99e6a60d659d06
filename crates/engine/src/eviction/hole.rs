//! [`find`]: neighbours in the blocks of a pool that leave room for a request when they are taken away.
//!
//! First the oldest ones are marked, one by one, until marked neighbours and the free regions between them have room.
//! If that is not enough, each of them shows where old allocations lie: what is around it is weighed, whatever its
//! age. Old ones that are alone among recent ones would hide the others, so more are marked while only recent ones
//! were found.

use super::group::{Mark, Oldest, Records, Spared};
use super::host_memory::{push, push_back};
use super::rule::Rule;
use super::window::{LiveRange, Neighbour, Row, Window};
use crate::handle::SlotKey;
use crate::pools::arena::evicting::{Hole, Regions};
use crate::suballocator::evicting::LiveRegion;
use crate::suballocator::{BlockIndex, RegionRequest};

/// Allocations that are marked, oldest first; more of them as long as only a recent window was found.
const MARKS: [usize; 3] = [16, 64, 256];
/// Allocations that are tried: some are mapped, or being moved.
const MOST_TRIES: usize = 1024;
/// Neighbours of marked ones that are looked at after a window was found, and as long as it is one of the
/// [`RECENT`]: a look may be some cache misses.
const LOOKS: usize = 64;
const MORE_LOOKS: usize = 4 * LOOKS;
/// Neighbours that are looked at as long as no window was found.
const MOST_LOOKS: usize = 4096;
/// A window is recent if its last use is in this part of the time since that of the oldest allocation.
const RECENT: u64 = 8;

/// A hole, and whom it costs.
pub(super) struct Found {
    pub hole: Hole,
    pub victims: Vec<Mark>,
    /// Whether those are among the oldest third of the pool.
    pub are_oldest: bool,
}

impl Found {
    pub fn of(window: Window, are_oldest: bool) -> Self {
        Self { hole: Hole::Between(window.range), victims: window.victims, are_oldest }
    }
}

/// A search for one request.
pub(super) struct Search<'a> {
    pub records: &'a mut Records,
    pub rule: &'a Rule,
    pub spared: &'a Spared,
    pub request: &'a RegionRequest,
}

impl Search<'_> {
    /// Returns a hole among the oldest allocations, or around one of them.
    pub fn find(&mut self, regions: &mut Regions<'_>) -> Option<Found> {
        if regions.evicting().is_err() {
            return self.find_in_ring(regions);
        }
        let mut walk = self.records.oldest(self.rule);
        let (mut marked, mut tries) = (Vec::new(), 0);
        let (mut cheapest, mut are_oldest): (Option<Window>, bool) = (None, false);
        for most in MARKS {
            let new = marked.len();
            let joined = self.mark(regions, &mut walk, &mut marked, (&mut tries, most));
            if joined.is_some() {
                let third = self.records.counts.evictable.0 / 3;
                (cheapest, are_oldest) = (joined, marked.len() as u64 <= third.max(1));
                break;
            }
            let oldest = marked.first().map_or(0, |mark| mark.stamp.frame());
            let beside = self.find_beside(regions, &marked[new..], oldest);
            cheapest = Window::cheaper(cheapest, beside);
            let is_over = marked.len() < most;
            if is_over || cheapest.as_ref().is_some_and(|it| !self.is_recent(it, oldest)) {
                break;
            }
        }
        walk.close(self.records);
        cheapest.map(|window| Found::of(window, are_oldest))
    }

    /// Marks the oldest ones, up to `most` in all, until marked neighbours have room; returns their window.
    fn mark(
        &mut self,
        regions: &mut Regions<'_>,
        walk: &mut Oldest,
        marked: &mut Vec<Mark>,
        (tries, most): (&mut usize, usize),
    ) -> Option<Window> {
        while marked.len() < most && *tries < MOST_TRIES {
            let mark = walk.next(self.records, self.spared)?;
            *tries += 1;
            if !regions.is_live_and_loose(mark.id.key) {
                continue;
            }
            push(marked, mark)?;
            let wanted = |key| marked.iter().any(|mark| mark.id.key == key);
            let row = self.around(regions, &mark, u64::MAX, &wanted)?;
            let window = row.best(regions, self.request);
            if window.is_some() {
                return window;
            }
        }
        None
    }

    /// Returns whether a window was used late since the last use of the oldest allocation.
    fn is_recent(&self, window: &Window, oldest: u64) -> bool {
        let newest = self.rule.newest();
        newest - window.cost.1 < (newest - oldest) / RECENT
    }

    /// Returns the cheapest window around any of these.
    fn find_beside(
        &mut self,
        regions: &mut Regions<'_>,
        marked: &[Mark],
        oldest: u64,
    ) -> Option<Window> {
        let reach = regions.evicting().ok()?.reach(self.request);
        let mut cheapest: Option<Window> = None;
        let mut seen: Vec<LiveRange> = Vec::new();
        let mut looks = 0;
        for mark in marked {
            let most = match &cheapest {
                None => MOST_LOOKS,
                Some(window) if self.is_recent(window, oldest) => MORE_LOOKS,
                Some(_) => LOOKS,
            };
            if looks >= most {
                break;
            }
            let Some(region) = regions.look(mark.id.key) else { continue };
            if seen.iter().any(|range| range.contains(&region)) {
                continue;
            }
            let row = self.around(regions, mark, reach, &|_| true)?;
            looks += row.neighbours.len();
            if let Some(range) = row.range() {
                push(&mut seen, range)?;
            }
            cheapest = Window::cheaper(cheapest, row.best(regions, self.request));
        }
        cheapest
    }

    /// Returns the row of eligible neighbours around one for which `wanted` is true, up to about `reach` bytes away;
    /// `None` without host memory.
    fn around(
        &self,
        regions: &mut Regions<'_>,
        mark: &Mark,
        reach: u64,
        wanted: &dyn Fn(SlotKey) -> bool,
    ) -> Option<Row> {
        let mut row = Row::default();
        let Some(region) = regions.look(mark.id.key) else { return Some(row) };
        push_back(&mut row.neighbours, Neighbour { region, mark: *mark })?;
        for upwards in [false, true] {
            let mut last = region;
            while let Some(next) = regions.neighbour(last.key, upwards) {
                let distance =
                    if upwards { next.offset - region.offset } else { region.end - next.end };
                let eligible = (wanted(next.key) && distance <= reach)
                    .then(|| self.eligible(regions, &next))
                    .flatten();
                let Some(mark) = eligible else {
                    row.ends[usize::from(upwards)] = Some(next.key);
                    break;
                };
                let neighbour = Neighbour { region: next, mark };
                row.neighbours.try_reserve(1).ok()?;
                match upwards {
                    true => row.neighbours.push_back(neighbour),
                    false => row.neighbours.push_front(neighbour),
                }
                last = next;
            }
        }
        Some(row)
    }

    fn eligible(&self, regions: &Regions<'_>, region: &LiveRegion) -> Option<Mark> {
        if !regions.is_loose(region.key, region.tag) {
            return None;
        }
        self.records.eligible(region.key, self.rule, self.spared)
    }

    fn find_in_ring(&self, regions: &mut Regions<'_>) -> Option<Found> {
        let mut marks = Vec::new();
        let mut may_go = |key: SlotKey| {
            let mark = self.records.eligible(key, self.rule, self.spared);
            mark.is_some_and(|mark| push(&mut marks, mark).is_some())
        };
        let victims = regions.evicting().err()?.oldest_in_the_way(self.request, &mut may_go)?;
        let are_loose = victims.iter().all(|&key| regions.is_live_and_loose(key));
        are_loose.then_some(Found { hole: Hole::Oldest, victims: marks, are_oldest: true })
    }

    /// Returns the cheapest window of a whole block.
    ///
    /// # Time complexity
    /// O(regions of the block).
    pub fn find_in_block(
        &mut self,
        regions: &mut Regions<'_>,
        block: BlockIndex,
    ) -> Option<Window> {
        let mut next = regions.evicting().ok()?.lowest(block);
        let mut cheapest: Option<Window> = None;
        let mut row = Row::default();
        loop {
            let mark = next.and_then(|region| self.eligible(regions, &region));
            if let (Some(region), Some(mark)) = (next, mark) {
                push_back(&mut row.neighbours, Neighbour { region, mark })?;
            } else {
                row.ends[1] = next.map(|it| it.key);
                cheapest = Window::cheaper(cheapest, row.best(regions, self.request));
                row.neighbours.clear();
                row.ends[0] = row.ends[1];
            }
            let Some(region) = next else { return cheapest };
            next = regions.neighbour(region.key, true);
        }
    }
}
