//! Emptying blocks: the emptiest into the free regions of the fullest, or one with many gaps into an empty
//! one.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use super::cursor::Cursor;
use super::figures::{emptiest_first, is_linear};
use super::gaps::Gaps;
use super::pass::Pass;
use super::state::PlanState;
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::request::DefragmentationAlgorithm as Algorithm;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{FreeRegion, MovableRegion};

/// Refilling may move this many times the bytes of the block that it makes superfluous.
const REFILL_PER_BLOCK: u64 = 4;

/// Free regions that are added at once to those in which places are looked for.
const LEARNT_AT_ONCE: usize = 512;

/// Blocks that are being emptied.
#[derive(Debug, Default)]
pub(super) struct Evacuation {
    /// The blocks to be emptied, the next one first.
    victims: VecDeque<u32>,
    /// The blocks that stay.
    kept: HashSet<u32>,
    /// Blocks whose free regions were added ahead of the survey.
    known: HashSet<u32>,
    /// Free regions that are still to be added to the two below: places in the plan's list, and whether of
    /// blocks that stay. All of them at once would take more time than the moves of a pass.
    to_learn: VecDeque<(bool, Range<usize>)>,
    /// Likewise, what an evacuation ahead of the survey has left.
    inherited: Vec<Vec<(BlockIndex, FreeRegion)>>,
    /// The free regions of the blocks that stay.
    room: Gaps,
    /// Those of the others: a region may also go to another victim, if that is fuller.
    room_of_others: Gaps,
    /// Whether there was no place for a region since room was added last.
    lacks_room: bool,
    /// Whether regions were looked at.
    has_begun: bool,
    cursor: Option<Cursor>,
    /// Regions that were read and not dealt with yet, the next one last.
    read: Vec<MovableRegion>,
    /// Whether the cursor has more.
    has_more: bool,
    /// Whether the regions move by kind, and of which kinds now: first linear ones, then all others.
    group: Option<Group>,
}

/// Kinds of resources that may share a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Linear,
    Others,
}

impl Group {
    fn has(self, region: &MovableRegion) -> bool {
        is_linear(region.kind) == (self == Self::Linear)
    }
}

impl Evacuation {
    /// Chooses the blocks with the fewest live bytes, such that the others can hold everything: this moves
    /// the fewest bytes.
    pub fn of_emptiest(plan: &PlanState, early: Self) -> Self {
        let (blocks, pinned) = (&plan.blocks, &plan.pinned);
        let live: u64 = blocks.iter().map(|it| it.live).sum();
        let is_in_use = |index: &&u32| blocks.get(**index as usize).is_some_and(|it| it.live > 0);
        let mut kept: HashSet<u32> = pinned.iter().filter(is_in_use).copied().collect();
        let mut room: u64 = kept.iter().map(|&it| blocks[it as usize].capacity).sum();
        let mut victims = emptiest_first(blocks, pinned);
        while room < live
            && let Some(fullest) = victims.pop()
        {
            room = room.saturating_add(blocks[fullest as usize].capacity);
            kept.insert(fullest);
        }
        let mut it = Self { victims: victims.into(), kept, ..Self::default() };
        if it.victims.is_empty() {
            return it;
        }
        // The fullest first, so that these are filled first.
        let by_fullness = |&block: &u32| Reverse(blocks[block as usize].live);
        let mut kept: Vec<u32> = it.kept.iter().copied().collect();
        kept.sort_unstable_by_key(|block| (by_fullness(block), *block));
        let others = it.victims.iter().rev().map(|&block| (false, block));
        let all = kept.into_iter().map(|block| (true, block)).chain(others);
        // Without moves ahead of the survey all are as it found them, and come in the best order.
        let early = if early.has_begun { early } else { Self::default() };
        let unknown = all.filter(|(_, block)| !early.known.contains(block));
        let ranges = unknown.map(|(stays, block)| (stays, blocks[block as usize].gap_range()));
        it.to_learn = ranges.collect();
        // The smallest first: otherwise small regions would go to large free ones while only these are known.
        it.inherited = early.room_of_others.into_classes();
        it.inherited.reverse();
        it
    }

    /// Adds a block that is to become empty.
    pub fn is_to_empty(&mut self, block: BlockIndex) {
        self.victims.push_back(block.0);
    }

    /// Adds the free regions of a block, for regions of blocks that are less full.
    pub fn may_fill(&mut self, plan: &PlanState, block: BlockIndex) {
        self.known.insert(block.0);
        self.lacks_room = false;
        for &(block, free) in &plan.gaps[plan.blocks[block.0 as usize].gap_range()] {
            self.room_of_others.add(block, free);
        }
    }

    /// Returns whether no block is left to become empty.
    pub fn is_done(&self) -> bool {
        self.victims.is_empty()
    }

    /// Returns whether there was no place for a region since room was added last.
    pub fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// Returns the number of regions in the blocks that are left to become empty, of the first one all.
    pub fn regions_left(&self, plan: &PlanState) -> u64 {
        self.victims.iter().map(|&block| u64::from(plan.blocks[block as usize].count)).sum()
    }

    /// Returns whether there are free regions that were not looked at.
    fn may_learn(&self) -> bool {
        !self.to_learn.is_empty() || !self.inherited.is_empty()
    }

    /// Adds some more free regions to those in which places are looked for.
    fn learn(&mut self, plan: &PlanState, pass: &mut Pass<'_>) {
        if !self.may_learn() {
            return;
        }
        pass.note_work(LEARNT_AT_ONCE / 8);
        let mut left = LEARNT_AT_ONCE;
        while left > 0 {
            if let Some(class) = self.inherited.last_mut() {
                match class.pop() {
                    Some((block, free)) => {
                        let stays = self.kept.contains(&block.0);
                        let room = if stays { &mut self.room } else { &mut self.room_of_others };
                        room.add(block, free);
                        left -= 1;
                    }
                    None => drop(self.inherited.pop()),
                }
                continue;
            }
            let Some((stays, range)) = self.to_learn.front_mut() else { return };
            let end = range.end.min(range.start + left);
            let room = if *stays { &mut self.room } else { &mut self.room_of_others };
            for &(block, free) in plan.gaps.get(range.start..end).unwrap_or_default() {
                room.add(block, free);
            }
            left -= end - range.start;
            range.start = end;
            if range.start == range.end {
                self.to_learn.pop_front();
            }
        }
    }

    /// Chooses one block to be moved into an empty one.
    fn into_empty(plan: &PlanState, victim: u32, empty: u32, by_kind: bool) -> Self {
        let group = by_kind.then_some(Group::Linear);
        let mut it =
            Self { victims: [victim].into(), kept: [empty].into(), group, ..Self::default() };
        it.to_learn.push_back((true, plan.blocks[empty as usize].gap_range()));
        it
    }
}

impl PlanState {
    /// Empties blocks as far as the pass has room; returns whether all is done.
    pub(super) fn evacuate(
        &mut self,
        pool: &Pool,
        it: &mut Evacuation,
        pass: &mut Pass<'_>,
    ) -> bool {
        it.learn(self, pass);
        while !pass.is_full() {
            if let Some(region) = it.read.last().copied() {
                if !pass.has_room_for(region.size) {
                    break;
                }
                if self.evacuate_region(pool, it, &region, pass) {
                    it.read.pop();
                }
                continue;
            }
            let Some(&victim) = it.victims.front() else { return true };
            let cursor = it.cursor.get_or_insert_with(|| {
                (it.has_begun, it.has_more) = (true, true);
                Cursor::new(BlockIndex(victim))
            });
            if it.has_more {
                it.has_more = cursor.read(pool, pass, &mut it.read);
                it.read.reverse();
                if let Some(group) = it.group {
                    it.read.retain(|region| group.has(region));
                }
            } else if it.group == Some(Group::Linear) {
                (it.group, it.cursor) = (Some(Group::Others), None);
            } else {
                it.leave_victim();
            }
        }
        false
    }

    /// Finds a place for a region, if there is one. Returns false if that is to be done in the next pass.
    fn evacuate_region(
        &mut self,
        pool: &Pool,
        it: &mut Evacuation,
        region: &MovableRegion,
        pass: &mut Pass<'_>,
    ) -> bool {
        let from = region.block.0;
        if !self.admits(pool, pass, region) {
            // The block cannot become empty: it is better filled.
            self.pinned.insert(from);
            it.leave_victim();
            it.kept.insert(from);
            // Nothing was read ahead any more.
            return false;
        }
        let sizes = (region.size, surely_fits(pool, region));
        loop {
            if self.place(pool, it, region, sizes, pass) {
                return true;
            }
            if !it.may_learn() {
                it.lacks_room = true;
                return true;
            }
            if !pass.may_search() {
                pass.end();
                return false;
            }
            it.learn(self, pass);
        }
    }

    /// Proposes a move of a region to a place that is known; returns whether there is one.
    fn place(
        &mut self,
        pool: &Pool,
        it: &mut Evacuation,
        region: &MovableRegion,
        sizes: (u64, u64),
        pass: &mut Pass<'_>,
    ) -> bool {
        let from = region.block.0;
        let mut try_in = |plan: &mut Self, block, free| {
            plan.propose(pool, pass, region, &Destination::In(block, free))
        };
        let placed = it.room.place(sizes, |_| true, |block, free| try_in(self, block, free));
        if let Some((block, rest)) = placed {
            rest.into_iter().for_each(|rest| it.room.add(block, rest));
            return true;
        }
        let blocks = std::mem::take(&mut self.blocks);
        let left = blocks.get(from as usize).map_or(0, |it| it.live);
        let is_fuller = |block: BlockIndex| {
            let other = blocks.get(block.0 as usize);
            block.0 != from
                && other.is_some_and(|it| it.is_in_use() && it.live + region.footprint > left)
        };
        let others = &mut it.room_of_others;
        let placed = others.place(sizes, is_fuller, |block, free| try_in(self, block, free));
        self.blocks = blocks;
        let Some((block, rest)) = placed else { return false };
        self.note_moved(region, block);
        rest.into_iter().for_each(|rest| others.add(block, rest));
        true
    }

    /// Begins to refill an empty block, if that brings the pool nearer to a block less.
    pub(super) fn refill(&mut self, pool: &Pool) -> Option<Evacuation> {
        if !matches!(self.algorithm, Algorithm::Full | Algorithm::Extensive) {
            return None;
        }
        let least = self.blocks.iter().filter(|it| it.is_in_use()).map(|it| it.capacity).min();
        let empty = (0u32..).zip(&self.blocks).find(|(_, it)| it.is_empty());
        let (Some((empty, room)), Some(least)) = (empty, least) else { return None };
        let can_be = |index: &u32| {
            let it = &self.blocks[*index as usize];
            it.gaps > 1 && it.live <= room.capacity && !self.refilled.contains(index)
        };
        let mut victims = emptiest_first(&self.blocks, &self.pinned);
        victims.retain(can_be);
        let sorts = self.algorithm == Algorithm::Extensive && pool.granularity() > 1;
        let mixed = victims.iter().find(|&&it| sorts && self.blocks[it as usize].is_mixed());
        let victim = *match self.is_worth_refilling(&victims, least) {
            true => victims.first(),
            false => mixed,
        }?;
        self.refilled.insert(empty);
        Some(Evacuation::into_empty(self, victim, empty, sorts))
    }
}

impl PlanState {
    /// Returns whether the first of these blocks have free memory for a whole block, so that joining it makes
    /// one superfluous, without moving many times its bytes.
    fn is_worth_refilling(&self, victims: &[u32], least: u64) -> bool {
        let (mut free, mut moved) = (0u64, 0u64);
        for &victim in victims {
            let it = &self.blocks[victim as usize];
            (free, moved) = (free.saturating_add(it.free()), moved.saturating_add(it.live));
            if free >= least {
                return moved <= least.saturating_mul(REFILL_PER_BLOCK);
            }
        }
        false
    }
}

impl Evacuation {
    fn leave_victim(&mut self) {
        self.victims.pop_front();
        self.read.clear();
        self.cursor = None;
    }
}

/// Returns the size of a free region that is large enough for a region whatever its alignment and page conflicts
/// cost, in bytes.
fn surely_fits(pool: &Pool, region: &MovableRegion) -> u64 {
    let costs = region.alignment.saturating_add(2 * pool.granularity()).saturating_add(32);
    region.footprint.saturating_add(costs)
}
