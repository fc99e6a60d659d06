//! Counting the bytes of each block: the emptiest and the fullest blocks by their number of regions first, in
//! turns, so that the first moves need not wait for the rest.

use std::collections::VecDeque;

use super::evacuate::Evacuation;
use super::figures::{BlockFigures, is_linear};
use super::pass::Pass;
use super::state::PlanState;
use crate::handle::SlotKey;
use crate::pools::pool::Pool;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{Met, Walk};

/// Regions that are counted and blocks that are listed under one lock: some ten microseconds.
const REGIONS_PER_LOCK: usize = 256;
const BLOCKS_PER_LOCK: u32 = 1024;
/// How often the count of a block begins anew because the region to go on with was freed.
const RESTARTS: u32 = 16;

/// Regions that are counted in each pass in any case, until all are.
const LEAST_PACE: usize = 512;

/// The part of a mean block's bytes by which a block is clearly emptier or fuller.
const CLEARLY: u64 = 8;

/// A survey under way.
#[derive(Debug)]
pub(super) struct Survey {
    /// The place of the block that is listed next; `None`: all are.
    listing: Option<u32>,
    /// Blocks that were not counted yet, with their number of regions; in ascending order once all are listed.
    blocks: VecDeque<(u32, BlockIndex)>,
    /// The block that is being counted, and whether it is one of the fullest.
    current: Option<(BlockIndex, bool)>,
    /// The region to go on with; `None`: the first one.
    next: Option<SlotKey>,
    restarts: u32,
    takes_fullest: bool,
    /// Live bytes of a mean allocation, and of a mean block.
    mean: [u64; 2],
    /// Number of live regions, and of those in blocks that were not begun.
    all: u64,
    uncounted: u64,
    /// Bytes of blocks that may still be emptied ahead of the rest of the survey.
    may_empty: u64,
    /// Moves from the emptiest into the fullest blocks, as far as these are known.
    pub early: Evacuation,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            listing: Some(0),
            blocks: VecDeque::new(),
            current: None,
            next: None,
            restarts: 0,
            takes_fullest: false,
            mean: [0; 2],
            all: 0,
            uncounted: 0,
            may_empty: 0,
            early: Evacuation::default(),
        }
    }
}

impl PlanState {
    /// Goes on counting; returns whether that is done.
    pub(super) fn survey(&mut self, pool: &Pool, it: &mut Survey, pass: &mut Pass<'_>) -> bool {
        if let Some(from) = it.listing {
            self.list(pool, it, from, pass);
            return false;
        }
        pass.limit_by_bytes(it.mean[0]);
        let Some((block, is_fullest)) = it.current.or_else(|| it.take_next()) else {
            self.limit_moves();
            self.take_progress();
            return true;
        };
        if it.next.is_none() {
            self.figures_of(block.0).first_gap = self.gaps.len();
        }
        it.current = Some((block, is_fullest));
        match self.count(pool, block, it.next, pass) {
            Walk::At(next) => it.next = Some(next),
            Walk::Stale if it.restarts < RESTARTS => {
                it.restarts += 1;
                it.next = None;
                let figures = self.figures_of(block.0);
                let first_gap = figures.first_gap;
                *figures = BlockFigures { exists: true, ..BlockFigures::default() };
                self.gaps.truncate(first_gap);
            }
            Walk::Done | Walk::Stale => {
                (it.current, it.next, it.restarts) = (None, None, 0);
                it.learn(self, block, is_fullest);
            }
        }
        false
    }

    fn list(&mut self, pool: &Pool, it: &mut Survey, from: u32, pass: &mut Pass<'_>) {
        let arena = pool.arena();
        if from == 0 {
            self.blocks.clear();
            self.gaps.clear();
        }
        let mut listed = Vec::new();
        it.listing = arena.list_blocks(from, BLOCKS_PER_LOCK, &mut listed);
        pass.note_work(listed.len() / 16);
        for &(_, block) in &listed {
            self.figures_of(block.0).exists = true;
        }
        it.blocks.extend(listed);
        if it.listing.is_none() {
            it.blocks.make_contiguous().sort_unstable_by_key(|it| (it.0, it.1.0));
            let (bytes, count, live) = arena.fullness();
            let in_use = it.blocks.iter().filter(|(count, _)| *count > 0).count() as u64;
            it.mean = [live / count.max(1), live / in_use.max(1)];
            it.may_empty = bytes.saturating_sub(live) / 4 * 3;
            (it.all, it.uncounted) = (count, count);
        }
    }

    /// Adds regions of a block to its figures.
    fn count(
        &mut self,
        pool: &Pool,
        block: BlockIndex,
        from: Option<SlotKey>,
        pass: &mut Pass<'_>,
    ) -> Walk {
        let (figures, gaps) = (&mut self.blocks[block.0 as usize], &mut self.gaps);
        // Without host memory for it a free region is not used.
        let room = gaps.try_reserve(REGIONS_PER_LOCK + 1).is_ok();
        let mut met = 0;
        let walk = pool.arena().walk_all(block, from, REGIONS_PER_LOCK, &mut |it, is_source| {
            met += 1;
            match it {
                Met::Live(region) => {
                    figures.capacity += region.footprint;
                    if is_source {
                        figures.sources += 1;
                        return;
                    }
                    figures.live += region.footprint;
                    figures.count += 1;
                    figures.kinds[usize::from(is_linear(region.kind))] = true;
                }
                Met::Free(free) => {
                    figures.capacity += free.size;
                    if room {
                        figures.gaps += 1;
                        gaps.push((block, *free));
                    }
                }
            }
        });
        pass.note_work(met);
        walk
    }

    fn figures_of(&mut self, block: u32) -> &mut BlockFigures {
        let index = block as usize;
        if index >= self.blocks.len() {
            self.blocks.resize(index + 1, BlockFigures::default());
        }
        &mut self.blocks[index]
    }
}

impl Survey {
    fn take_next(&mut self) -> Option<(BlockIndex, bool)> {
        self.takes_fullest = !self.takes_fullest;
        let taken =
            if self.takes_fullest { self.blocks.pop_back() } else { self.blocks.pop_front() };
        taken.map(|(count, block)| {
            self.uncounted = self.uncounted.saturating_sub(u64::from(count));
            (block, self.takes_fullest)
        })
    }

    /// Returns whether the whole survey takes little more than a pass: then moves wait for it, and are the best.
    pub fn is_short(&self, pass: &Pass<'_>) -> bool {
        self.all <= pass.regions() as u64
    }

    /// Returns the number of regions that a pass is to count, so that the survey is complete by the time the
    /// moves ahead of it have been made.
    pub fn pace(&self, plan: &PlanState, pass: &Pass<'_>) -> usize {
        let Some(moves) = pass.expected_moves() else { return usize::MAX };
        if self.early.lacks_room() {
            return usize::MAX;
        }
        let ahead = self.early.regions_left(plan) + self.may_empty / 2 / self.mean[0].max(1);
        // With about as many free regions as live ones.
        let regions = (2 * self.uncounted).saturating_mul(moves as u64);
        usize::try_from(regions / ahead.max(1)).map_or(usize::MAX, |pace| pace.max(LEAST_PACE))
    }

    /// Prepares moves from or into a block that was counted, whatever the others hold. The emptiest blocks become
    /// empty, as far as the others surely have room, and the fullest are filled; a block whose bytes say clearly
    /// the opposite of its number of regions is taken by its bytes.
    fn learn(&mut self, plan: &PlanState, block: BlockIndex, is_fullest: bool) {
        let figures = &plan.blocks[block.0 as usize];
        let margin = self.mean[1] / CLEARLY;
        let is_full = match is_fullest {
            true => figures.live + margin >= self.mean[1],
            false => figures.live > self.mean[1] + margin,
        };
        if is_full {
            self.early.may_fill(plan, block);
        } else if figures.live > 0 && figures.capacity <= self.may_empty {
            self.may_empty -= figures.capacity;
            self.early.is_to_empty(block);
        }
    }
}
