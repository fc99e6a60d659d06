//! Sliding: from the lowest region of a block up, each moves down over the gap directly below it. Each
//! region is moved once, as far as it goes; what lies above it follows when it has arrived.

use std::collections::VecDeque;

use super::figures::BlockFigures;
use super::pass::Pass;
use super::state::PlanState;
use crate::handle::SlotKey;
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::request::DefragmentationAlgorithm as Algorithm;
use crate::suballocator::BlockIndex;

/// A block is slid together if its live bytes are at most this many times its free ones,
const SLIDE_PER_FREE: u64 = 16;
/// or if it has at most this many regions.
const FEW: u32 = 4;

/// A block that is being slid together.
#[derive(Debug)]
struct Sliding {
    block: BlockIndex,
    /// The last region that is in its place; `None`: the start of the block.
    placed: Option<SlotKey>,
    /// The region that moves.
    moving: Option<SlotKey>,
}

/// Blocks that are being slid together.
#[derive(Debug, Default)]
pub(super) struct Slides {
    blocks: VecDeque<Sliding>,
    /// Blocks of which nothing more can be done before a move ends.
    waiting: VecDeque<Sliding>,
}

impl Slides {
    pub fn of(blocks: impl Iterator<Item = u32>) -> Self {
        let blocks = blocks
            .map(|block| Sliding { block: BlockIndex(block), placed: None, moving: None })
            .collect();
        Self { blocks, waiting: VecDeque::new() }
    }
}

impl PlanState {
    /// Begins to slide the blocks together that may be worth it, if the run may slide at all.
    pub(super) fn slides(&self) -> Option<Slides> {
        if !self.may_slide || self.algorithm == Algorithm::Fast {
            return None;
        }
        // A block that is full but for little would be moved as a whole for it.
        let is_worth_it = |it: &BlockFigures| {
            let is_loose = it.free() >= it.live / SLIDE_PER_FREE || it.count <= FEW;
            it.is_in_use() && it.gaps > 0 && is_loose
        };
        let blocks = (0u32..).zip(&self.blocks).filter(|(_, it)| is_worth_it(it));
        Some(Slides::of(blocks.map(|(index, _)| index)))
    }

    /// Proposes one slide for each block, as far as the pass has room. Returns the rest, and whether it has to
    /// wait for these moves to end; `None` if there is no rest.
    pub(super) fn slide(
        &mut self,
        pool: &Pool,
        mut it: Slides,
        pass: &mut Pass<'_>,
    ) -> Option<(Slides, bool)> {
        while let Some(mut at) = it.blocks.pop_front() {
            if let Some(source) = at.moving.take() {
                // A move that has not ended is the end of this block.
                let Some(arrived) = self.slid.remove(&source) else { continue };
                at.placed = Some(arrived);
            }
            match self.slide_next(pool, &mut at, pass) {
                Slid::Proposed => it.waiting.push_back(at),
                Slid::NoRoom => {
                    it.blocks.push_front(at);
                    return Some((it, false));
                }
                Slid::AllInPlace => {}
            }
        }
        it.blocks = std::mem::take(&mut it.waiting);
        (!it.blocks.is_empty()).then_some((it, true))
    }

    fn slide_next(&mut self, pool: &Pool, at: &mut Sliding, pass: &mut Pass<'_>) -> Slid {
        while !pass.is_full()
            && let Some(region) = pool.arena().above(at.block, at.placed)
        {
            if region.gaps[0] > 0 && self.is_cheap_enough(&region) {
                if !pass.has_room_for(region.size) {
                    return Slid::NoRoom;
                }
                if self.admits(pool, pass, &region)
                    && self.propose(pool, pass, &region, &Destination::Down).is_some()
                {
                    at.moving = Some(region.key);
                    return Slid::Proposed;
                }
            }
            at.placed = Some(region.key);
            pass.note_work(1);
        }
        if pass.is_full() { Slid::NoRoom } else { Slid::AllInPlace }
    }
}

/// What came of the next region of a block.
enum Slid {
    Proposed,
    NoRoom,
    AllInPlace,
}
