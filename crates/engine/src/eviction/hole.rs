//! [`find`]: neighbours in the blocks of a pool that leave room for a request when they are taken away.
//!
//! First the oldest ones are marked, one by one, until marked neighbours and the free regions between them have room.
//! If [`MARKS`] are not enough, each of them shows where old allocations lie: what is around it is weighed, whatever
//! its age.

use std::collections::{HashSet, VecDeque};

use super::group::{Mark, Records, Spared};
use super::rule::Rule;
use super::window::{Neighbour, Window, best};
use crate::handle::SlotKey;
use crate::pools::arena::evicting::{Hole, Regions};
use crate::suballocator::evicting::LiveRegion;
use crate::suballocator::{BlockIndex, RegionRequest};

/// Allocations that are marked, oldest first.
const MARKS: usize = 64;
/// Allocations that are tried: some are mapped, or being moved.
const MOST_TRIES: usize = 4 * MARKS;
/// Neighbours that are looked at after a window was found, and at most: a look may be some cache misses.
const LOOKS: usize = 128;
const MOST_LOOKS: usize = 4096;

/// A search for one request.
pub(super) struct Search<'a> {
    pub records: &'a mut Records,
    pub rule: &'a Rule,
    pub spared: &'a Spared,
    pub request: &'a RegionRequest,
}

impl Search<'_> {
    /// Returns a hole among the oldest allocations, and whom it costs.
    pub fn find(&mut self, regions: &mut Regions<'_>) -> Option<(Hole, Vec<Mark>)> {
        if regions.evicting().is_err() {
            return self.find_in_ring(regions);
        }
        let mut walk = self.records.oldest(self.rule);
        let mut marked: Vec<SlotKey> = Vec::with_capacity(MARKS);
        let mut is_marked = HashSet::with_capacity(MARKS);
        let (mut found, mut tries) = (None, 0);
        while marked.len() < MARKS
            && tries < MOST_TRIES
            && found.is_none()
            && let Some(mark) = walk.next(self.records, self.spared)
        {
            tries += 1;
            if !regions.is_live_and_loose(mark.id.key) {
                continue;
            }
            marked.push(mark.id.key);
            is_marked.insert(mark.id.key);
            found = self.around(regions, mark.id.key, u64::MAX, &|key| is_marked.contains(&key)).0;
        }
        walk.close(self.records);
        found
            .or_else(|| self.find_beside(regions, &marked))
            .map(|window| (Hole::Between(window.range), window.victims))
    }

    /// Returns the cheapest window around any of these.
    fn find_beside(&mut self, regions: &mut Regions<'_>, marked: &[SlotKey]) -> Option<Window> {
        // The region of a buddy block is up to twice as large.
        let size = self.request.size.checked_next_power_of_two().unwrap_or(u64::MAX);
        let reach = size.saturating_add(self.request.alignment);
        let mut cheapest: Option<Window> = None;
        let mut seen = HashSet::new();
        let mut looks = 0;
        for &key in marked {
            if looks >= if cheapest.is_some() { LOOKS } else { MOST_LOOKS } {
                break;
            }
            if seen.contains(&key) {
                continue;
            }
            let (window, row) = self.around(regions, key, reach, &|_| true);
            looks += row.len();
            seen.extend(row.iter().map(|it| it.region.key));
            if let Some(window) = window
                && cheapest.as_ref().is_none_or(|it| window.cost < it.cost)
            {
                cheapest = Some(window);
            }
        }
        cheapest
    }

    /// Returns the cheapest window in the row of eligible neighbours around a region for which `wanted` is true,
    /// no farther than `reach` bytes away, and the row.
    fn around(
        &mut self,
        regions: &mut Regions<'_>,
        key: SlotKey,
        reach: u64,
        wanted: &dyn Fn(SlotKey) -> bool,
    ) -> (Option<Window>, VecDeque<Neighbour>) {
        let mut row = VecDeque::new();
        let Some(region) = regions.evicting().ok().and_then(|it| it.look(key)) else {
            return (None, row);
        };
        let Some(mark) = self.records.eligible(key, self.rule, self.spared) else {
            return (None, row);
        };
        row.push_back(Neighbour { region, mark });
        let mut ends = [None; 2];
        for upwards in [false, true] {
            let mut last = region;
            loop {
                let Ok(evicting) = regions.evicting() else { break };
                let Some(next) = evicting.neighbour(last.key, upwards) else { break };
                let distance =
                    if upwards { next.offset - region.offset } else { region.end - next.end };
                let eligible = (wanted(next.key) && distance <= reach)
                    .then(|| self.eligible(regions, &next))
                    .flatten();
                let Some(mark) = eligible else {
                    ends[usize::from(upwards)] = Some(next.key);
                    break;
                };
                let neighbour = Neighbour { region: next, mark };
                if upwards {
                    row.push_back(neighbour)
                } else {
                    row.push_front(neighbour)
                }
                last = next;
            }
        }
        let window = match regions.evicting() {
            Ok(evicting) => best(evicting, self.request, &row, ends),
            Err(_) => None,
        };
        (window, row)
    }

    fn eligible(&self, regions: &Regions<'_>, region: &LiveRegion) -> Option<Mark> {
        if !regions.is_loose(region.key, region.tag) {
            return None;
        }
        self.records.eligible(region.key, self.rule, self.spared)
    }

    fn find_in_ring(&self, regions: &mut Regions<'_>) -> Option<(Hole, Vec<Mark>)> {
        let mut marks = Vec::new();
        let mut may_go = |key: SlotKey| {
            let mark = self.records.eligible(key, self.rule, self.spared);
            marks.extend(mark);
            mark.is_some()
        };
        let victims = regions.evicting().err()?.oldest_in_the_way(self.request, &mut may_go)?;
        let are_loose = victims.iter().all(|&key| regions.is_live_and_loose(key));
        are_loose.then_some((Hole::Oldest, marks))
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
        let evicting = regions.evicting().ok()?;
        let mut next = evicting.lowest(block);
        let mut cheapest: Option<Window> = None;
        let (mut row, mut below) = (VecDeque::new(), None);
        loop {
            let mark = next.and_then(|region| self.eligible(regions, &region));
            if let (Some(region), Some(mark)) = (next, mark) {
                row.push_back(Neighbour { region, mark });
            } else {
                let ends = [below, next.map(|it| it.key)];
                let window =
                    regions.evicting().ok().and_then(|it| best(it, self.request, &row, ends));
                if let Some(window) = window
                    && cheapest.as_ref().is_none_or(|it| window.cost < it.cost)
                {
                    cheapest = Some(window);
                }
                row.clear();
                below = next.map(|it| it.key);
            }
            let Some(region) = next else { return cheapest };
            next = regions.evicting().ok()?.neighbour(region.key, true);
        }
    }
}
