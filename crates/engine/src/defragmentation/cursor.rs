//! [`Cursor`]: a walk over the regions of a block.

use super::pass::Pass;
use crate::handle::SlotKey;
use crate::pools::pool::Pool;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{Met, MovableRegion, Walk};

/// The regions that are looked at under one lock.
pub(super) const REGIONS_PER_LOCK: usize = 64;

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
