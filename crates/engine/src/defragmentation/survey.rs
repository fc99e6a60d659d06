//! Counting the bytes of each block.

use super::figures::{BlockFigures, is_linear};
use super::pass::Pass;
use super::state::PlanState;
use crate::pools::pool::Pool;

/// Slots that are counted under one lock: some ten microseconds.
const SLOTS_PER_LOCK: u32 = 512;

/// A survey under way.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The slot to go on with; `None`: not begun.
    next: Option<u32>,
}

impl PlanState {
    /// Goes on counting; returns the rest, `None` if there is none.
    pub(super) fn survey(
        &mut self,
        pool: &Pool,
        survey: Survey,
        pass: &mut Pass<'_>,
    ) -> Option<Survey> {
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
            return Some(Survey { next });
        }
        arena.visit_sources(&mut |region| {
            if let Some(it) = blocks.get_mut(region.block.0 as usize) {
                it.live = it.live.saturating_sub(region.footprint);
                it.count = it.count.saturating_sub(1);
            }
        });
        self.limit_moves();
        self.take_progress();
        None
    }

    fn figures_of(&mut self, block: u32) -> &mut BlockFigures {
        let index = block as usize;
        if index >= self.blocks.len() {
            self.blocks.resize(index + 1, BlockFigures::default());
        }
        &mut self.blocks[index]
    }
}
