//! Counting the bytes of each block.

use std::collections::HashSet;

use super::evacuate::Evacuation;
use super::pass::Pass;
use super::plan::{PoolPlan, Stage, Step};
use crate::pools::pool::Pool;
use crate::request::ResourceKind;

/// Slots that are counted under one lock: some ten microseconds.
const SLOTS_PER_LOCK: u32 = 512;

/// What a block holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockFigures {
    /// Whether there is such a block.
    pub exists: bool,
    /// Bytes that can be divided: of its live and its free regions.
    pub capacity: u64,
    /// Bytes of live regions, without those that are to be freed because they have moved.
    pub live: u64,
    /// Number of live regions.
    pub count: u32,
    /// Number of free regions.
    pub gaps: u32,
    /// Whether there are live regions of other kinds, and of linear ones: buffers and linear images.
    pub kinds: [bool; 2],
}

impl BlockFigures {
    pub fn is_empty(&self) -> bool {
        self.exists && self.live == 0
    }

    pub fn is_in_use(&self) -> bool {
        self.exists && self.live > 0
    }

    /// Returns whether there are regions of kinds that must not share a page.
    pub fn is_mixed(&self) -> bool {
        self.kinds == [true; 2]
    }

    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.live)
    }
}

/// Returns whether resources of a kind may share a page with buffers.
pub(super) fn is_linear(kind: ResourceKind) -> bool {
    matches!(kind, ResourceKind::Buffer | ResourceKind::ImageLinear)
}

/// A survey under way.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The slot to go on with; `None`: not begun.
    next: Option<u32>,
}

impl PoolPlan {
    pub(super) fn survey(&mut self, pool: &Pool, survey: Survey, pass: &mut Pass<'_>) -> Step {
        // Counting takes a fraction of the time of a walk.
        pass.note_work(SLOTS_PER_LOCK as usize / 16);
        let arena = pool.arena();
        let from = match survey.next {
            Some(next) => next,
            None => {
                self.blocks.clear();
                self.gaps.clear();
                for (block, _) in arena.blocks_to_move() {
                    self.figures_of(block.0).exists = true;
                }
                0
            }
        };
        let (blocks, gaps) = (&mut self.blocks, &mut self.gaps);
        // Without host memory for it a free region is not used.
        let room = gaps.try_reserve(SLOTS_PER_LOCK as usize).is_ok();
        let next = arena.scan(from, SLOTS_PER_LOCK, &mut |region| {
            let Some(it) = blocks.get_mut(region.block.0 as usize).filter(|it| it.exists) else {
                return;
            };
            if let Some((bytes, kind)) = region.live {
                (it.capacity, it.live) = (it.capacity + bytes, it.live + bytes);
                it.count += 1;
                it.kinds[usize::from(is_linear(kind))] = true;
            }
            if let Some(free) = region.free {
                it.capacity += free.size;
                it.gaps += 1;
                if room {
                    gaps.push((region.block, free));
                }
            }
        });
        if next.is_some() {
            self.stage = Stage::Survey(Survey { next });
            return Step::Next;
        }
        arena.visit_sources(&mut |region| {
            if let Some(it) = blocks.get_mut(region.block.0 as usize) {
                it.live = it.live.saturating_sub(region.footprint);
                it.count = it.count.saturating_sub(1);
            }
        });
        self.limit_moves();
        self.take_progress();
        self.stage = Stage::Evacuate(Evacuation::of_emptiest(self));
        Step::Next
    }

    fn figures_of(&mut self, block: u32) -> &mut BlockFigures {
        let index = block as usize;
        if index >= self.blocks.len() {
            self.blocks.resize(index + 1, BlockFigures::default());
        }
        &mut self.blocks[index]
    }
}

/// Returns the blocks in use by ascending live bytes, the later of two equal ones first.
pub(super) fn emptiest_first(blocks: &[BlockFigures], without: &HashSet<u32>) -> Vec<u32> {
    let in_use =
        (0u32..).zip(blocks).filter(|(index, it)| it.is_in_use() && !without.contains(index));
    let mut order: Vec<(u64, std::cmp::Reverse<u32>)> =
        in_use.map(|(index, it)| (it.live, std::cmp::Reverse(index))).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index.0).collect()
}
