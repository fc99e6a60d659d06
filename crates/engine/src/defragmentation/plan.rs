//! [`PoolPlan`]: the way through one pool.

use std::collections::{HashMap, HashSet};

use super::evacuate::Evacuation;
use super::pass::Pass;
use super::slide::Slides;
use super::survey::{BlockFigures, Survey};
use super::tidy::Tidying;
use crate::handle::{AllocationId, PoolKey, SlotKey};
use crate::pools::arena::moving::Destination;
use crate::pools::pool::Pool;
use crate::request::DefragmentationAlgorithm as Algorithm;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{FreeRegion, Met, MovableRegion, Walk};

/// Moves of a run beyond this many for each allocation there was at its start are not looked for: the work
/// of other threads could go on for ever.
const MOVES_PER_ALLOCATION: u64 = 16;

/// The regions that are looked at under one lock.
pub(super) const REGIONS_PER_LOCK: usize = 64;

/// What a step of a plan leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next step.
    Next,
    /// The moves so far have to end before the next step makes sense.
    Wait,
    /// Nothing: the pool is done.
    Done,
}

/// The stage of a round.
pub(super) enum Stage {
    Survey(Survey),
    Evacuate(Evacuation),
    /// The moves of an evacuation have ended.
    Evacuated,
    Tidy(Tidying),
    /// The moves of a sweep have ended.
    Tidied(Tidying),
    Slide(Slides),
    Refill(Evacuation),
    Done,
}

impl Stage {
    /// Returns the first stage of a round.
    pub fn first() -> Self {
        Self::Survey(Survey::default())
    }
}

/// The way through one pool.
pub(super) struct PoolPlan {
    pub pool_key: PoolKey,
    pub algorithm: Algorithm,
    pub slides: bool,
    pub stage: Stage,
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

impl PoolPlan {
    /// Begins with a survey.
    pub fn new(pool_key: PoolKey, algorithm: Algorithm, slides: bool) -> Self {
        Self {
            pool_key,
            algorithm,
            slides,
            stage: Stage::first(),
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

    /// Makes the next step, which may add moves to the pass.
    pub fn advance(&mut self, pool: &Pool, pass: &mut Pass<'_>) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Survey(survey) => self.survey(pool, survey, pass),
            Stage::Evacuate(evacuation) => match self.evacuate(pool, evacuation, pass) {
                Some(unfinished) => self.go_on(Stage::Evacuate(unfinished)),
                None => self.wait_for(Stage::Evacuated),
            },
            Stage::Evacuated if self.take_progress() => {
                self.is_tidy = false;
                self.go_on(Stage::first())
            }
            Stage::Evacuated => self.begin_tidying(pool),
            Stage::Tidy(tidying) => match self.tidy(pool, tidying, pass) {
                (unfinished, false) => self.go_on(Stage::Tidy(unfinished)),
                (swept, true) => self.wait_for(Stage::Tidied(swept)),
            },
            Stage::Tidied(swept) => self.after_sweep(pool, swept),
            Stage::Slide(slides) => self.slide(pool, slides, pass),
            Stage::Refill(evacuation) => match self.evacuate(pool, evacuation, pass) {
                Some(unfinished) => self.go_on(Stage::Refill(unfinished)),
                None => self.wait_for(Stage::first()),
            },
            Stage::Done => Step::Done,
        }
    }

    pub fn go_on(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Next
    }

    pub fn wait_for(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Wait
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

/// A walk over the live regions of a block, some at a time. It goes on where it was, also if the region it
/// was to go on with was freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub block: BlockIndex,
    /// The region to go on with; `None`: the first of the walk.
    next: Option<SlotKey>,
    /// Offset of the last region that was passed, if the walk has to catch up with it.
    passed: Option<u64>,
    catches_up: bool,
    /// How often it may begin anew.
    restarts_left: u32,
}

/// The times that a walk begins anew because the region to go on with was freed.
const RESTARTS: u32 = 64;

impl Cursor {
    pub fn new(block: BlockIndex) -> Self {
        Self { block, next: None, passed: None, catches_up: false, restarts_left: RESTARTS }
    }

    /// Stores the next regions in `found` and returns whether there are more.
    pub fn read(
        &mut self,
        pool: &Pool,
        pass: &mut Pass<'_>,
        found: &mut Vec<MovableRegion>,
    ) -> bool {
        pass.note_work(REGIONS_PER_LOCK);
        found.clear();
        if found.try_reserve(REGIONS_PER_LOCK).is_err() {
            return false;
        }
        let (passed, catches_up) = (self.passed, self.catches_up);
        // TLSF walks down, buddy up.
        let is_passed = |offset: u64| {
            catches_up
                && passed.is_some_and(|passed| match pool.walks_down() {
                    true => offset >= passed,
                    false => offset <= passed,
                })
        };
        let walk = pool.arena().walk(self.block, self.next, REGIONS_PER_LOCK, &mut |met| {
            if let Met::Live(region) = met
                && !is_passed(region.offset)
            {
                found.push(*region);
            }
            true
        });
        if let Some(last) = found.last() {
            (self.passed, self.catches_up) = (Some(last.offset), false);
        }
        match walk {
            Walk::Done => false,
            Walk::At(next) => {
                self.next = Some(next);
                true
            }
            Walk::Stale if self.restarts_left > 0 => {
                self.restarts_left -= 1;
                (self.next, self.catches_up) = (None, true);
                true
            }
            Walk::Stale => false,
        }
    }
}
