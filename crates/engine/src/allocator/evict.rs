//! Allocations that may be lost: making them evictable, the frame clock, and eviction with and without a request.

use std::sync::Arc;

use super::Allocator;
use crate::error::Error;
use crate::eviction::{Evictable, EvictionOwner, EvictionStatistics, Taken};
use crate::handle::{Allocation, PoolId, PoolKey};
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};
use crate::request::{AllocationCreateFlags as Create, AllocationRequest};

impl Allocator {
    /// Lets an allocation be taken away when a request with
    /// [`CAN_MAKE_OTHER_LOST`](crate::AllocationCreateFlags::CAN_MAKE_OTHER_LOST) needs room. It counts as used in
    /// the current frame. `priority` is from 0 to 1; those of the lowest one go first.
    ///
    /// While it is mapped or moves, it is not taken away. Its owner ends the result before freeing it.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the allocation was freed; [`Error::InvalidArgument`] for a priority that is not
    /// from 0 to 1; [`Error::NoHostMemory`].
    pub fn make_evictable(
        &self,
        allocation: &Allocation,
        priority: f32,
    ) -> Result<Evictable, Error> {
        if !(0.0..=1.0).contains(&priority) {
            return Err(Error::InvalidArgument(format!("priority is {priority}, not from 0 to 1")));
        }
        let id = allocation.id;
        let made = self.pools.with_pool(id.pool_key(), |pool| {
            pool.update_tag(id, |_| ())?;
            Some(self.eviction.add(pool, allocation, priority))
        });
        let made = made.unwrap_or(Err(Error::UseAfterFree));
        if made.is_ok() && is_active() {
            self.recorder().tell_now(&Told::MakeEvictable(id, priority));
        }
        made
    }

    /// Ends an evictable allocation; see [`Evictable::end`].
    pub fn end_evictable(&self, evictable: Evictable) -> bool {
        evictable.end()
    }

    /// Sets the number of the current frame: `vmaSetCurrentFrameIndex`. Without frames nothing is ever old enough to
    /// be lost. A number below the current one has no effect.
    pub fn set_frame(&self, frame: u64) {
        self.eviction.set_frame(frame);
        self.setup.quarantines.set_frame(frame);
        if is_active() {
            self.recorder().tell_now(&Told::Frame(frame));
        }
    }

    /// Returns the number of the current frame.
    pub fn frame(&self) -> u64 {
        self.eviction.frame()
    }

    /// Sets who is asked before allocations are taken away; `None`: nobody.
    pub fn set_eviction_owner(&self, owner: Option<Arc<dyn EvictionOwner>>) {
        self.eviction.set_owner(owner);
    }

    /// Takes away all evictable allocations of a pool, or of all pools, that were not used in the current frame or
    /// the `frames_in_use` frames before: VMA 2.3's `vmaMakePoolAllocationsLost`. Returns their number. May call the
    /// driver.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn make_allocations_lost(&self, pool: Option<PoolId>) -> Result<usize, Error> {
        if let Some(id) = pool {
            self.pools.get(id)?;
        }
        let taken = self.eviction.take_all(&self.pools, pool.map(PoolKey::Custom));
        let count = self.finish(taken);
        if is_active() {
            self.recorder().tell_now(&Told::MakeLost(pool, count));
        }
        Ok(count)
    }

    /// Frees memory of each heap whose usage exceeds its budget, until it does not: empty blocks first, then
    /// evictable allocations, the oldest first. Returns the bytes of memory objects freed. Calls the driver.
    pub fn evict_over_budget(&self) -> u64 {
        let ledger = &self.setup.ledger;
        ledger.refresh();
        let mut freed = 0;
        for heap in 0..self.device().info().heaps.len() as u32 {
            let over = || {
                let (usage, budget) = ledger.usage_and_budget(heap);
                usage.saturating_sub(budget)
            };
            if over() > 0 && ledger.kept(heap) > 0 {
                freed += self.release_empties_of(heap);
            }
            let bytes = over();
            if bytes > 0 {
                let taken = self.eviction.take_from_heap(&self.pools, heap, bytes);
                freed += taken.releases.iter().map(|release| release.bytes()).sum::<u64>();
                self.finish(taken);
            }
        }
        if is_active() {
            self.recorder().tell_now(&Told::EvictOverBudget(freed));
        }
        freed
    }

    /// Counts evictable and lost allocations of a memory type. O(pools).
    pub fn eviction_statistics(&self, memory_type_index: u32) -> EvictionStatistics {
        self.eviction.statistics(|it| it == memory_type_index)
    }

    /// Allocates from a pool; if there is no room and the request may take others away, at their cost.
    pub(super) fn allocate_in_pool(
        &self,
        pool: &Pool,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let made = match pool.allocate(request) {
            // What is in quarantine must not be the reason of a failure or of a loss.
            Err(error) if error.is_shortage() && pool.end_quarantine(true) => {
                pool.allocate(request)
            }
            made => made,
        };
        match made {
            Err(error) if error.is_shortage() => {
                let made = self.allocate_evicting(pool, request);
                made.ok_or_else(|| self.with_what_may_be_lost(error, pool, request))
            }
            made => made,
        }
    }

    /// Says why what may be lost was not taken away.
    #[cold]
    fn with_what_may_be_lost(
        &self,
        mut error: Error,
        pool: &Pool,
        request: &AllocationRequest,
    ) -> Error {
        if let Error::OutOfDeviceMemory { reason, .. } = &mut error
            && let Some(why) = self.eviction.why_not(pool, &request.create_info)
        {
            reason.push_str("; ");
            reason.push_str(&why);
        }
        error
    }

    #[cold]
    fn allocate_evicting(&self, pool: &Pool, request: &AllocationRequest) -> Option<Allocation> {
        if !request.create_info.may_evict() {
            return None;
        }
        // Retained empty blocks must not be the reason of a loss.
        let never = request.create_info.flags.contains(Create::NEVER_ALLOCATE);
        if !never
            && self.setup.ledger.kept(pool.heap()) > 0
            && self.release_empties_of(pool.heap()) > 0
            && let Ok(made) = pool.allocate(request)
        {
            return Some(made);
        }
        let mut taken = Taken::default();
        let made = self.eviction.allocate(&self.pools, pool, request, &mut taken);
        self.finish(taken);
        made
    }

    fn release_empties_of(&self, heap: u32) -> u64 {
        self.pools.release_empties(|pool| pool.heap() == heap, false).bytes()
    }

    /// Does what is left to do after allocations were taken away; returns their number.
    fn finish(&self, taken: Taken) -> usize {
        taken.named.iter().for_each(|&id| self.names.remove(id));
        for &(before, after) in &taken.renamed {
            self.names.hand_over(before, after);
        }
        taken.count
    }
}
