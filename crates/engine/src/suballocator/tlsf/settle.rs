//! Merging freed regions, one later or all at once; `deferred.rs` explains why.

use super::super::node::NONE;
use super::super::values::FreedRegion;
use super::Tlsf;
use super::hot::Hot;
use crate::handle::SlotKey;

impl Tlsf {
    /// Defers merging from `slots` slots on instead of 4096.
    ///
    /// # Panics
    /// If it has blocks, or was set to keep generations apart.
    #[must_use]
    pub fn deferring_from(mut self, slots: usize) -> Self {
        assert!(self.blocks.is_empty() && !self.regions.will_have_generations_apart());
        self.deferred.from = slots;
        self
    }

    /// Keeps generations in a table of their own once merging is deferred: for callers of
    /// [`release`](super::super::Suballocator::release).
    ///
    /// # Panics
    /// If it has blocks.
    #[must_use]
    pub fn with_generations_apart(mut self) -> Self {
        self.regions.keep_generations_apart(self.deferred.from);
        self
    }

    /// See [`Suballocator::release`](super::super::Suballocator::release).
    #[inline(always)]
    pub(super) fn release_key(&mut self, key: SlotKey) -> Option<u64> {
        // Work that does not depend on the key first: the key may still be loading.
        let waiting = &mut self.deferred.waiting;
        self.deferred.settled += hot!(self, hot => hot.advance_released(waiting));
        if !self.regions.note_end(key) {
            return None;
        }
        self.deferred.waiting = [key.index(), self.deferred.waiting[0]];
        self.count_out(self.regions.block_of(key.index()));
        Some(std::mem::take(&mut self.deferred.settled))
    }

    /// Frees a region whose generation is kept apart and returns what it was, for which its node has to
    /// be read.
    #[cold]
    pub(super) fn free_at_once(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let (info, tag) = (self.regions.info(key)?, self.regions.tag(key)?);
        let bytes = self.release_key(key)?;
        self.settle_all();
        // This region is reported here; the others are not yet.
        self.deferred.settled = self.deferred.settled + bytes - info.size;
        let block_is_empty = self.live_counts[info.block.0 as usize] == 0;
        Some(FreedRegion { info, tag, block_is_empty })
    }

    /// See [`Suballocator::unreported`](super::super::Suballocator::unreported).
    pub(super) fn unreported_bytes(&self) -> u64 {
        if !self.regions.has_generations_apart() {
            return self.deferred.settled;
        }
        let waiting = self.deferred.waiting.iter().filter(|&&index| index != NONE);
        self.deferred.settled + waiting.map(|&it| self.regions.node(it).size()).sum::<u64>()
    }

    /// Merges all freed regions.
    #[inline(always)]
    pub(super) fn settle_all(&mut self) {
        if !self.deferred.is_empty() {
            self.coalesce_deferred();
        }
    }

    #[cold]
    #[inline(never)]
    fn coalesce_deferred(&mut self) {
        // In the order in which they were freed.
        for at in [1, 0] {
            let index = std::mem::replace(&mut self.deferred.waiting[at], NONE);
            if index == NONE {
                continue;
            }
            let (has_room, apart) = (self.can_index(), self.regions.has_generations_apart());
            if !has_room {
                let node = self.regions.node_mut(index);
                self.deferred.settled += if apart { node.size() } else { 0 };
                node.end_life_later();
                self.deferred.unindexed += 1;
            } else if apart {
                self.deferred.settled += hot!(self, hot => hot.coalesce_released(index));
            } else {
                hot!(self, hot => hot.coalesce(index));
            }
        }
        self.coalesce_unindexed();
    }

    fn can_index(&mut self) -> bool {
        self.free.has_room_for(1) || self.free.try_grow()
    }

    /// Merges regions that could not be merged when host memory was exhausted, as far as there is memory
    /// now. O(regions), but only after such a failure.
    fn coalesce_unindexed(&mut self) {
        let mut indices = 0..self.regions.nodes().len() as u32;
        while self.deferred.unindexed > 0
            && self.can_index()
            && let Some(index) = indices.find(|&it| self.regions.node(it).is_unmerged())
        {
            hot!(self, hot => hot.coalesce(index));
            self.deferred.unindexed -= 1;
        }
    }

    /// Frees a region while the index has no host memory: its place is reused only once it could be
    /// merged.
    #[cold]
    #[inline(never)]
    pub(super) fn free_unindexed(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let (info, tag) = (self.regions.info(key)?, self.regions.tag(key)?);
        if self.regions.has_generations_apart() {
            self.regions.note_end(key);
        }
        self.regions.node_mut(key.index()).end_life_later();
        self.deferred.unindexed += 1;
        let block_is_empty = self.count_out(info.block.0);
        Some(FreedRegion { info, tag, block_is_empty })
    }
}
