//! [`find`]: neighbours in the blocks of a pool that leave room for a request when they are taken away.
//!
//! First the oldest ones are marked, one by one, until marked neighbours and the free regions between them have room.
//! If [`MARKS`] are not enough, each of them shows where old allocations lie: what is around it is weighed, whatever
//! its age.

use super::group::{Mark, Records, Spared};
use super::rule::Rule;
use super::window::{LiveRange, Neighbour, Row, Window};
use crate::handle::SlotKey;
use crate::pools::arena::evicting::{Hole, Regions};
use crate::suballocator::evicting::LiveRegion;
use crate::suballocator::{BlockIndex, RegionRequest};

/// Allocations that are marked, oldest first.
const MARKS: usize = 64;
/// Marks after which the search goes on only if some in a row have half of the room.
const FIRST_MARKS: usize = 16;
/// Allocations that are tried: some are mapped, or being moved.
const MOST_TRIES: usize = 4 * MARKS;
/// Neighbours that are looked at after a window was found, and as long as it is one of the [`RECENT`]: a look may be
/// some cache misses.
const LOOKS: usize = 64;
const MORE_LOOKS: usize = 8 * LOOKS;
/// Neighbours that are looked at as long as no window was found.
const MOST_LOOKS: usize = 4096;
/// A window is recent if its last use is in this part of the time since that of the oldest allocation.
const RECENT: u64 = 8;

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
        let mut marked: Vec<Mark> = Vec::with_capacity(MARKS);
        let (mut found, mut tries, mut widest) = (None, 0, 0);
        let half = self.request.size / 2;
        while marked.len() < if widest < half { FIRST_MARKS } else { MARKS }
            && tries < MOST_TRIES
            && found.is_none()
            && let Some(mark) = walk.next(self.records, self.spared)
        {
            tries += 1;
            if !regions.is_live_and_loose(mark.id.key) {
                continue;
            }
            marked.push(mark);
            let wanted = |key| marked.iter().any(|mark| mark.id.key == key);
            let row = self.around(regions, &mark, u64::MAX, &wanted);
            widest = widest.max(row.width());
            found = row.best(regions, self.request);
        }
        walk.close(self.records);
        found
            .or_else(|| self.find_beside(regions, &marked))
            .map(|window| (Hole::Between(window.range), window.victims))
    }

    /// Returns the cheapest window around any of these, of which the first is the oldest.
    fn find_beside(&mut self, regions: &mut Regions<'_>, marked: &[Mark]) -> Option<Window> {
        let (newest, oldest) = (self.rule.newest(), marked.first()?.stamp.frame());
        let is_recent = |window: &Window| newest - window.cost.1 < (newest - oldest) / RECENT;
        let reach = regions.evicting().ok()?.reach(self.request);
        let mut cheapest: Option<Window> = None;
        let mut seen: Vec<LiveRange> = Vec::new();
        let mut looks = 0;
        for mark in marked {
            let most = match &cheapest {
                None => MOST_LOOKS,
                Some(window) if is_recent(window) => MORE_LOOKS,
                Some(_) => LOOKS,
            };
            if looks >= most {
                break;
            }
            let Some(region) = regions.look(mark.id.key) else { continue };
            if seen.iter().any(|range| range.contains(&region)) {
                continue;
            }
            let row = self.around(regions, mark, reach, &|_| true);
            looks += row.neighbours.len();
            seen.extend(row.range());
            if let Some(window) = row.best(regions, self.request)
                && cheapest.as_ref().is_none_or(|it| window.cost < it.cost)
            {
                cheapest = Some(window);
            }
        }
        cheapest
    }

    /// Returns the row of eligible neighbours around one for which `wanted` is true, up to about `reach` bytes away.
    fn around(
        &self,
        regions: &mut Regions<'_>,
        mark: &Mark,
        reach: u64,
        wanted: &dyn Fn(SlotKey) -> bool,
    ) -> Row {
        let mut row = Row::default();
        let Some(region) = regions.look(mark.id.key) else { return row };
        row.neighbours.push_back(Neighbour { region, mark: *mark });
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
                match upwards {
                    true => row.neighbours.push_back(neighbour),
                    false => row.neighbours.push_front(neighbour),
                }
                last = next;
            }
        }
        row
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
        let mut next = regions.evicting().ok()?.lowest(block);
        let mut cheapest: Option<Window> = None;
        let mut row = Row::default();
        loop {
            let mark = next.and_then(|region| self.eligible(regions, &region));
            if let (Some(region), Some(mark)) = (next, mark) {
                row.neighbours.push_back(Neighbour { region, mark });
            } else {
                row.ends[1] = next.map(|it| it.key);
                if let Some(window) = row.best(regions, self.request)
                    && cheapest.as_ref().is_none_or(|it| window.cost < it.cost)
                {
                    cheapest = Some(window);
                }
                row.neighbours.clear();
                row.ends[0] = row.ends[1];
            }
            let Some(region) = next else { return cheapest };
            next = regions.neighbour(region.key, true);
        }
    }
}
