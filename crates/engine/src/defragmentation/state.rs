//! [`PlanState`]: what the stages of a plan share.

use std::collections::{HashMap, HashSet};

use super::figures::BlockFigures;
use super::pass::Pass;
use crate::handle::{AllocationId, SlotKey};
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::request::DefragmentationAlgorithm as Algorithm;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{FreeRegion, MovableRegion};

/// Moves of a run beyond this many for each allocation there was at its start are not looked for: the work
/// of other threads could go on for ever.
const MOVES_PER_ALLOCATION: u64 = 16;

/// What the stages of a plan share.
pub(super) struct PlanState {
    pub algorithm: Algorithm,
    pub may_slide: bool,
    /// The free regions that the last survey found.
    pub gaps: Vec<(BlockIndex, FreeRegion)>,
    /// The figures of the last survey, kept up to date with the plan's own moves; by index of the block.
    pub blocks: Vec<BlockFigures>,
    /// Blocks with a region that may not move.
    pub pinned: HashSet<u32>,
    /// Blocks that a refill has filled.
    pub refilled: HashSet<u32>,
    /// Ids that the caller ignored.
    pub ignored: HashSet<AllocationId>,
    /// The source of each slide that has ended, and the key that it has now.
    pub slid: HashMap<SlotKey, SlotKey>,
    /// Whether nothing has moved between blocks since all were tidied.
    pub is_tidy: bool,
    /// Moves that ended with something moved or freed.
    pub progress: u64,
    /// `progress` when the stage began.
    pub progress_before: u64,
    /// Moves that may still be proposed; set by the first survey.
    pub moves_left: Option<u64>,
}

impl PlanState {
    pub fn new(algorithm: Algorithm, slides: bool) -> Self {
        Self {
            algorithm,
            may_slide: slides,
            gaps: Vec::new(),
            blocks: Vec::new(),
            pinned: HashSet::new(),
            refilled: HashSet::new(),
            ignored: HashSet::new(),
            slid: HashMap::new(),
            is_tidy: false,
            progress: 0,
            progress_before: 0,
            moves_left: None,
        }
    }

    /// Sets the limit of moves, once.
    pub fn limit_moves(&mut self) {
        let live: u64 = self.blocks.iter().map(|it| u64::from(it.count)).sum();
        self.moves_left.get_or_insert((live + 64).saturating_mul(MOVES_PER_ALLOCATION));
    }

    /// Returns whether anything has progressed since the last call, and begins to count anew.
    pub fn take_progress(&mut self) -> bool {
        let before = std::mem::replace(&mut self.progress_before, self.progress);
        before != self.progress
    }

    /// Returns the region if it may move: the caller did not ignore it before and does not object now.
    pub fn admits(&self, pool: &Pool, pass: &Pass<'_>, region: &MovableRegion) -> bool {
        let id = pool.id_of(region.key);
        region.tag.map_count == 0
            && !self.ignored.contains(&id)
            && self.moves_left.is_none_or(|left| left > 0)
            && pass.may_move(id)
    }

    /// Reserves a place for a region and adds the move to the pass; returns the free region that is left behind
    /// the place, with its block.
    pub fn propose(
        &mut self,
        pool: &Pool,
        pass: &mut Pass<'_>,
        region: &MovableRegion,
        destination: &Destination,
    ) -> Option<(BlockIndex, Option<FreeRegion>)> {
        let (it, block, rest) = pool.reserve_move(region.key, destination)?;
        pass.push(it);
        if let Some(left) = &mut self.moves_left {
            *left = left.saturating_sub(1);
        }
        self.note_moved(region, block);
        Some((block, rest))
    }

    /// Counts a region in the figures of another block.
    pub fn note_moved(&mut self, region: &MovableRegion, block: BlockIndex) {
        if block != region.block {
            let moved = region.footprint;
            if let Some(from) = self.blocks.get_mut(region.block.0 as usize) {
                from.live = from.live.saturating_sub(moved);
            }
            if let Some(to) = self.blocks.get_mut(block.0 as usize) {
                to.live += moved;
            }
        }
    }
}
