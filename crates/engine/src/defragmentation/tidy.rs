//! Tidying blocks: regions move down into free regions of their own block, if that joins free memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cursor::{Cursor, REGIONS_PER_LOCK};
use super::figures::BlockFigures;
use super::pass::Pass;
use super::state::PlanState;
use crate::handle::SlotKey;
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::request::DefragmentationAlgorithm as Algorithm;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{FreeRegion, Met, MovableRegion, Walk};

/// A block is swept again if one in this many of its regions moved.
const FRUITFUL: u32 = 64;

/// A sweep over some blocks.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    /// Blocks still to be tidied, the next one first.
    blocks: VecDeque<u32>,
    /// Blocks in which something moves, and how many regions: in order, so that a program always moves alike.
    moved: BTreeMap<u32, u32>,
    /// The free regions of the first block, in the order of the walk.
    all: Vec<FreeRegion>,
    /// How many of these the walk has passed.
    passed: usize,
    /// Those below the walk, by size.
    below: BTreeSet<FreeRegion>,
    /// The region from which the search for free regions goes on.
    next: Option<SlotKey>,
    /// The way through the regions, once the free ones are known.
    cursor: Option<Cursor>,
    read: Vec<MovableRegion>,
    has_more: bool,
    /// Whether an earlier sweep moved something.
    pub has_progressed: bool,
}

impl PlanState {
    /// Begins a sweep over all blocks that may be worth it, unless all are tidy.
    pub(super) fn tidying(&self) -> Option<Tidying> {
        let in_use = self.blocks.iter().filter(|it| it.is_in_use()).count();
        // A pool's only block is always tidied, as in VMA.
        if (self.algorithm == Algorithm::Fast && in_use > 1) || self.is_tidy {
            return None;
        }
        let is_worth_it = |it: &BlockFigures| it.is_in_use() && it.gaps > 1;
        let blocks = (0u32..).zip(&self.blocks).filter(|(_, it)| is_worth_it(it));
        let blocks = blocks.map(|(index, _)| index).collect();
        Some(Tidying { blocks, ..Tidying::default() })
    }

    /// Goes on with a sweep as far as the pass has room; returns it, and whether it is at its end.
    pub(super) fn tidy(
        &mut self,
        pool: &Pool,
        mut it: Tidying,
        pass: &mut Pass<'_>,
    ) -> (Tidying, bool) {
        while !pass.is_full() {
            let Some(&block) = it.blocks.front() else { return (it, true) };
            if let Some(region) = it.read.last().copied() {
                if !pass.has_room_for(region.size) {
                    break;
                }
                it.read.pop();
                self.tidy_region(pool, &mut it, &region, pass);
            } else if let Some(cursor) = &mut it.cursor {
                if it.has_more {
                    it.has_more = cursor.read(pool, pass, &mut it.read);
                    it.read.reverse();
                } else {
                    it.leave_block();
                }
            } else {
                it.find_gaps(pool, pass, BlockIndex(block));
            }
        }
        (it, false)
    }

    fn tidy_region(
        &mut self,
        pool: &Pool,
        it: &mut Tidying,
        region: &MovableRegion,
        pass: &mut Pass<'_>,
    ) {
        // Only free regions below it are of use, and best the smallest.
        if region.gaps == [0, 0] {
            // It joins nothing, wherever it goes.
            return;
        }
        it.go_below(pool, region.offset);
        let least = FreeRegion { size: region.size, offset: 0, slot: 0 };
        let Some(gap) = it.below.range(least..).next().copied() else { return };
        if !joins_free_memory(region, &gap)
            || !self.is_cheap_enough(region)
            || !self.admits(pool, pass, region)
        {
            return;
        }
        it.below.remove(&gap);
        let destination = Destination::In(region.block, gap);
        if let Some((block, rest)) = self.propose(pool, pass, region, &destination) {
            *it.moved.entry(block.0).or_insert(0) += 1;
            it.below.extend(rest);
        }
    }

    /// Returns whether the free memory beside a region is worth its bytes.
    pub(super) fn is_cheap_enough(&self, region: &MovableRegion) -> bool {
        let beside = region.gaps[0] + region.gaps[1];
        self.algorithm != Algorithm::Balanced || beside >= region.footprint / 2
    }

    /// Begins another sweep over the blocks in which much has moved, after the moves of the last one have ended;
    /// `None` if nothing has.
    pub(super) fn sweep_again(&mut self, swept: Tidying) -> Option<Tidying> {
        if !self.take_progress() {
            self.is_tidy = true;
            return None;
        }
        let count = |block: u32| self.blocks.get(block as usize).map_or(0, |it| it.count);
        let is_worth_it = |&(block, moved): &(u32, u32)| moved > count(block) / FRUITFUL;
        let blocks = swept.moved.into_iter().filter(is_worth_it).map(|it| it.0).collect();
        Some(Tidying { blocks, has_progressed: true, ..Tidying::default() })
    }
}

impl Tidying {
    /// Keeps the free regions below an offset in `below`. TLSF's walk goes down, so that they become fewer;
    /// buddy's goes up.
    fn go_below(&mut self, pool: &Pool, offset: u64) {
        while let Some(gap) = self.all.get(self.passed)
            && if pool.walks_down() { gap.offset > offset } else { gap.offset < offset }
        {
            match pool.walks_down() {
                true => self.below.remove(gap),
                false => self.below.insert(*gap),
            };
            self.passed += 1;
        }
    }

    fn find_gaps(&mut self, pool: &Pool, pass: &mut Pass<'_>, block: BlockIndex) {
        pass.note_work(4 * REGIONS_PER_LOCK);
        let gaps = &mut self.all;
        let walk = pool.arena().walk(block, self.next, 4 * REGIONS_PER_LOCK, &mut |met| {
            if let Met::Free(free) = met {
                gaps.push(*free);
            }
            true
        });
        match walk {
            Walk::At(next) => self.next = Some(next),
            // What is not known is not used; the next sweep finds it.
            Walk::Done | Walk::Stale => {
                if pool.walks_down() {
                    self.below.extend(&self.all);
                }
                (self.cursor, self.has_more) = (Some(Cursor::new(block)), true);
            }
        }
    }

    fn leave_block(&mut self) {
        self.blocks.pop_front();
        self.all.clear();
        self.below.clear();
        self.passed = 0;
        (self.next, self.cursor) = (None, None);
    }
}

/// Returns whether the sum of the squares of all free regions grows if a region moves into a free one below
/// it: free memory is then joined, or drawn from a smaller free region to a larger one.
fn joins_free_memory(region: &MovableRegion, gap: &FreeRegion) -> bool {
    let square = |size: u64| u128::from(size) * u128::from(size);
    let [before, after] = region.gaps;
    let moved = region.footprint;
    let left = gap.size.saturating_sub(moved);
    if gap.offset + gap.size == region.offset {
        // It is the free region directly below: what is left of it moves above the region.
        return after > 0 && left.saturating_add(moved) > 0;
    }
    square(left) + square(before + moved + after)
        > square(gap.size) + square(before) + square(after)
}
