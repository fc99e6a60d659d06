//! Sliding: from the lowest region of a block up, each moves down over the gap directly below it. Each
//! region is moved once, as far as it goes; what lies above it follows when it has arrived.

use std::collections::VecDeque;

use super::pass::Pass;
use super::plan::{PoolPlan, Stage, Step};
use crate::handle::SlotKey;
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::suballocator::BlockIndex;

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

impl PoolPlan {
    /// Proposes one slide for each block, as far as the pass has room.
    pub(super) fn slide(&mut self, pool: &Pool, mut it: Slides, pass: &mut Pass<'_>) -> Step {
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
                    return self.go_on(Stage::Slide(it));
                }
                Slid::AllInPlace => {}
            }
        }
        if it.waiting.is_empty() {
            return match self.take_progress() {
                true => self.go_on(Stage::first()),
                false => self.begin_refill(pool),
            };
        }
        it.blocks = std::mem::take(&mut it.waiting);
        self.wait_for(Stage::Slide(it))
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
