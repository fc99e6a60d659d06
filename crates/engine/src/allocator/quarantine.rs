//! Freeing into the quarantine, and memory that nobody may write.

use std::sync::Arc;

use super::Allocator;
use crate::debugging::guarded::{GuardedRange, GuardedUse};
use crate::error::Error;
use crate::handle::{AllocationId, PoolId, PoolKey};
use crate::pools::guarded_memory::{AllocationMemory, GuardedMemory};
use crate::pools::leaving::QuarantineOwner;
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};

const NO_ROOM: Error = Error::NoHostMemory("the ranges that nobody may write");

impl Allocator {
    /// Sets who looks at freed memory before it is given out again; `None`: nobody.
    pub fn set_quarantine_owner(&self, owner: Option<Arc<dyn QuarantineOwner>>) {
        self.setup.quarantines.set_owner(owner);
    }

    /// Ends the quarantine of everything that was freed; returns whether there was any. May call the driver.
    pub fn end_quarantines(&self) -> bool {
        let any = self.end_all_quarantines();
        if any && is_active() {
            self.recorder().tell_now(&Told::EndQuarantine { all: true });
        }
        any
    }

    pub(super) fn end_all_quarantines(&self) -> bool {
        let mut any = false;
        self.each_pool(|pool| any |= pool.end_quarantine(true));
        any
    }

    /// Ends the quarantine of what is overdue, of which pools take notice only when something of theirs is freed or
    /// when they have no room; returns whether there was any. May call the driver. To be called once per frame.
    pub fn end_overdue_quarantines(&self) -> bool {
        let mut any = false;
        self.each_pool(|pool| any |= pool.end_quarantine(false));
        if any && is_active() {
            self.recorder().tell_now(&Told::EndQuarantine { all: false });
        }
        any
    }

    pub(super) fn end_quarantine_of(&self, id: PoolId) {
        if let Ok(pool) = self.pools.get(id)
            && pool.live().0 == 0
        {
            pool.end_quarantine(true);
        }
    }

    /// Calls `run` with each pool, without a lock.
    fn each_pool(&self, mut run: impl FnMut(&Pool)) {
        self.pools.defaults.iter().for_each(&mut run);
        let mut custom = Vec::new();
        self.pools.each_custom(|pool| {
            if let (PoolKey::Custom(id), true) = (pool.pool_key(), custom.try_reserve(1).is_ok()) {
                custom.push(id);
            }
        });
        custom.iter().filter_map(|&id| self.pools.get(id).ok()).for_each(|pool| run(&pool));
    }

    /// Notes that the margins of an allocation hold the [`Pattern`](crate::Pattern), which the owner has written:
    /// from now on they are listed. After a move the destination is another allocation.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale; [`Error::NoHostMemory`].
    pub fn note_filled(&self, id: AllocationId) -> Result<(), Error> {
        self.pools
            .with_pool(id.pool_key(), |pool| pool.note_filled(id))
            .unwrap_or(Err(Error::UseAfterFree))
    }

    /// Returns the ranges that nobody may write, by memory object, in one pool or in the default and custom pools of
    /// memory types: margins that [hold the pattern](Self::note_filled), what is in quarantine, and, if
    /// `with_unused`, what belongs to no allocation. Each block is listed under its lock.
    ///
    /// Other threads may free and allocate meanwhile. So who finds a range changed asks
    /// [`is_guarded`](Self::is_guarded) afterwards: if that is still true, nobody was allowed to write it. Unused
    /// ranges are not told apart from ones that were used in between.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id of the pool is stale; [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// O(regions of these pools).
    pub fn guarded_ranges(
        &self,
        memory_type_bits: u32,
        pool: Option<PoolId>,
        with_unused: bool,
    ) -> Result<Vec<GuardedMemory>, Error> {
        let mut found = Vec::new();
        if let Some(id) = pool {
            let listed = self.pools.get(id)?.guarded_ranges(with_unused, &mut found);
            return if listed { Ok(found) } else { Err(NO_ROOM) };
        }
        let mut listed = true;
        self.each_pool(|pool| {
            if memory_type_bits >> pool.rules().memory_type_index & 1 == 1 {
                listed = listed && pool.guarded_ranges(with_unused, &mut found);
            }
        });
        if listed { Ok(found) } else { Err(NO_ROOM) }
    }

    /// Returns the margins of one allocation, none if they do not [hold the pattern](Self::note_filled). Its
    /// neighbours are only looked up if asked for, which takes O(regions of the block).
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale; [`Error::NoHostMemory`].
    pub fn guarded_ranges_of(
        &self,
        id: AllocationId,
        with_neighbours: bool,
    ) -> Result<GuardedMemory, Error> {
        self.pools
            .with_pool(id.pool_key(), |pool| pool.guarded_ranges_of(id, with_neighbours))
            .unwrap_or(Err(Error::UseAfterFree))
    }

    /// Returns where an allocation and its margins lie, whether they hold the pattern or not. O(1).
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn hold_memory_of(&self, id: AllocationId) -> Result<AllocationMemory, Error> {
        let found = self.pools.with_pool(id.pool_key(), |pool| pool.hold_memory_of(id));
        found.ok_or(Error::UseAfterFree)
    }

    /// Returns whether a range of a margin or of the quarantine is still what it was when it was listed.
    pub fn is_guarded(&self, range: &GuardedRange) -> bool {
        let Some(id) = range.id else { return false };
        let is_quarantined = range.is == GuardedUse::Quarantined;
        let guarded = self.pools.with_pool(id.pool_key(), |pool| {
            Some(
                pool.is_quarantined(id)
                    || (!is_quarantined && pool.update_tag(id, |_| ()).is_some()),
            )
        });
        guarded.unwrap_or(false)
    }
}
