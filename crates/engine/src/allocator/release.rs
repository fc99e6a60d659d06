//! The end of allocations, and giving empty blocks back to the driver.

use std::sync::Arc;

use super::Allocator;
use crate::error::Error;
use crate::handle::AllocationId;
use crate::pools::memory_object::Release;
use crate::pools::pool::Pool;
use crate::suballocator::RegionTag;

impl Allocator {
    /// Frees an allocation: its place is free at once, the driver's part is in the [`Release`].
    pub fn free(&self, id: AllocationId) -> Result<Release, Error> {
        let mut release = Release::default();
        let freed = self.pools.in_home(id.home(), |pool| pool.free(id, &mut release));
        self.forget(id, freed.ok_or(Error::UseAfterFree)?, &mut release);
        Ok(release)
    }

    /// After its end, by the tag it had: what is kept beside the region of few.
    #[inline]
    fn forget(&self, id: AllocationId, tag: RegionTag, release: &mut Release) {
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

    /// Frees an allocation in which a buffer lies. Its place is free at once; `destroy`, which ends the
    /// buffer and runs in any case, comes before the driver can get the memory back, whoever frees the
    /// rest of the block meanwhile: Vulkan allows the memory to go first, some drivers crash. In this
    /// order the free is done while the processor waits for what the driver keeps of the buffer. Not for
    /// images: drivers may keep something about the place of one until they destroy it.
    #[inline]
    pub fn free_around(&self, id: AllocationId, destroy: impl FnOnce()) -> Result<Release, Error> {
        let (mut release, mut lease) = (Release::default(), None);
        let free = |pool: &Pool| pool.free_leased(id, &mut release, &mut lease);
        let freed = self.pools.in_home(id.home(), free);
        if let Some(tag) = freed {
            self.forget(id, tag, &mut release);
        }
        destroy();
        freed.ok_or(Error::UseAfterFree)?;
        if let Some(last) = lease.and_then(Arc::into_inner) {
            release.free(Arc::new(last));
        }
        Ok(release)
    }

    /// Gives empty blocks that are kept back to the driver, but for those of `min_block_count`;
    /// how many bytes. One in which a buffer is being destroyed by another thread goes right after that.
    pub fn trim(&self) -> u64 {
        self.pools.release_empties(|_| true, false).bytes()
    }

    /// Gives empty blocks back as `trim` does; whether there were any.
    pub fn release_spares(&self) -> bool {
        self.trim() > 0
    }

    /// Ends the work in the background, and waits for the call of the driver that it may be in.
    pub fn stop_prefetch(&self) {
        if let Some(prefetcher) = &self.prefetcher {
            prefetcher.stop();
        }
    }

    /// Ends the work in the background and gives every empty block back: the device may go.
    pub fn close(&self) {
        self.stop_prefetch();
        drop(self.pools.release_empties(|_| true, true));
    }

    /// Gives empty blocks of heaps that are over their budget back.
    pub(super) fn trim_over_budget(&self) {
        let ledger = &self.setup.ledger;
        let over = |pool: &Pool| ledger.is_over_budget(pool.rules().memory_type_index);
        let heaps = 0..self.device().info().heaps.len() as u32;
        if heaps.into_iter().any(|heap| ledger.kept(heap) > 0 && ledger.is_heap_over_budget(heap)) {
            drop(self.pools.release_empties(over, false));
        }
    }
}
