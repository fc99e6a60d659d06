//! Freeing allocations, and freeing empty blocks in the driver.

use std::sync::Arc;

use super::Allocator;
use crate::error::Error;
use crate::handle::AllocationId;
use crate::pools::memory_object::Release;
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};
use crate::suballocator::RegionTag;

impl Allocator {
    /// Frees an allocation: its region is free at once; pending driver calls are in the [`Release`].
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn free(&self, id: AllocationId) -> Result<Release, Error> {
        let release = self.free_untold(id)?;
        if is_active() {
            self.recorder().tell(&Told::Free(id));
        }
        Ok(release)
    }

    /// Frees an allocation like [`free`](Self::free), as a part of another call.
    pub(crate) fn free_untold(&self, id: AllocationId) -> Result<Release, Error> {
        let mut release = Release::default();
        let freed = self.pools.with_pool(id.pool_key(), |pool| pool.free(id, &mut release));
        self.forget(id, freed.ok_or(Error::UseAfterFree)?, &mut release);
        Ok(release)
    }

    /// Removes the records beside the region (name, further map counts) of an allocation that was freed,
    /// according to its tag.
    #[inline]
    pub(super) fn forget(&self, id: AllocationId, tag: RegionTag, release: &mut Release) {
        if tag.named {
            self.names.remove(id);
        }
        self.forget_maps(id, tag, release);
    }

    #[inline]
    pub(crate) fn forget_maps(&self, id: AllocationId, tag: RegionTag, release: &mut Release) {
        if tag.map_count == u8::MAX {
            release.unmap_more(self.more_maps.take(id));
        }
    }

    /// Frees an allocation that has a buffer, and calls `destroy`, which destroys the buffer, in any
    /// case. The region is free before `destroy` runs, but its memory object cannot be freed until
    /// `destroy` has returned, even if another thread frees the rest of the block: Vulkan would allow
    /// that, some drivers crash. In this order the free overlaps with the cache misses of the driver's
    /// buffer object. Not for images: a driver may refer to an image's place until it is destroyed.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    #[inline]
    pub fn free_around(&self, id: AllocationId, destroy: impl FnOnce()) -> Result<Release, Error> {
        let (mut release, mut lease) = (Release::default(), None);
        let free = |pool: &Pool| pool.free_leased(id, &mut release, &mut lease);
        let freed = self.pools.with_pool(id.pool_key(), free);
        if let Some(tag) = freed {
            self.forget(id, tag, &mut release);
            if is_active() {
                self.recorder().tell(&Told::Free(id));
            }
        }
        destroy();
        freed.ok_or(Error::UseAfterFree)?;
        if let Some(last) = lease.and_then(Arc::into_inner) {
            release.free(Arc::new(last));
        }
        Ok(release)
    }

    /// Makes the driver calls of frees in a thread of its own, one after the other: freeing a block can take
    /// milliseconds. [`trim`](Self::trim) and [`close`](Self::close) wait for them, and so does whoever would
    /// otherwise find no memory. Until then budgets count the memory as held.
    pub fn release_later(&self, releases: impl IntoIterator<Item = Release>) {
        for release in releases {
            if release.frees_memory() {
                self.setup.ledger.reclaimer.add(Box::new(|| drop(release)));
            }
        }
    }

    /// Frees retained empty blocks in the driver, except those of `min_block_count`; returns the bytes
    /// freed. The memory of a block in which another thread is destroying a buffer is freed right after
    /// that. Waits for memory that is given back [later](Self::release_later), which it does not count.
    pub fn trim(&self) -> u64 {
        let bytes = self.release_retained();
        if is_active() {
            self.recorder().tell_now(&Told::Trim(bytes));
        }
        self.wait_for_releases();
        bytes
    }

    /// Waits for memory that is given back [later](Self::release_later).
    pub fn wait_for_releases(&self) {
        self.setup.ledger.reclaimer.finish();
    }

    pub(super) fn release_retained(&self) -> u64 {
        self.pools.release_empties(|_| true, false).bytes()
    }

    /// Frees retained empty blocks like [`trim`](Self::trim); returns whether there were any.
    pub fn release_empty_blocks(&self) -> bool {
        let bytes = self.release_retained();
        if is_active() {
            self.recorder().tell_now(&Told::Trim(bytes));
        }
        bytes > 0
    }

    /// Stops the threads of the allocator and waits for the driver calls that they may be in. Memory that one
    /// of them was to give back is left to the device, which may be gone.
    pub fn stop_threads(&self) {
        self.stop_prefetch();
        self.setup.ledger.reclaimer.abandon();
    }

    fn stop_prefetch(&self) {
        if let Some(prefetcher) = &self.prefetcher {
            prefetcher.stop();
        }
    }

    /// Stops the threads of the allocator and frees every empty block; after that the device may be destroyed.
    pub fn close(&self) {
        self.stop_prefetch();
        if is_active() {
            self.recorder().tell_now(&Told::Close);
        }
        self.end_all_quarantines();
        drop(self.pools.release_empties(|_| true, true));
        self.setup.ledger.reclaimer.stop();
    }

    /// Frees the empty blocks of heaps that exceed their budget.
    pub(super) fn trim_over_budget(&self) {
        let ledger = &self.setup.ledger;
        let over = |pool: &Pool| ledger.is_over_budget(pool.rules().memory_type_index);
        let heaps = 0..self.device().info().heaps.len() as u32;
        if heaps.into_iter().any(|heap| ledger.kept(heap) > 0 && ledger.is_heap_over_budget(heap)) {
            drop(self.pools.release_empties(over, false));
        }
    }
}
