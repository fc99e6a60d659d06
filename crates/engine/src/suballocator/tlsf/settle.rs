//! Merging the freed regions of a suballocator, later or all at once: see `deferred.rs` for why.

use super::super::node::NONE;
use super::super::values::FreedRegion;
use super::Tlsf;
use super::hot::Hot;
use crate::handle::SlotKey;

impl Tlsf {
    /// Merges freed regions later from so many slots on, not from 4096 on.
    ///
    /// # Panics
    /// If it has blocks, or was told to keep generations apart.
    #[must_use]
    pub fn deferring_from(mut self, slots: usize) -> Self {
        assert!(self.blocks.is_empty() && !self.regions.will_have_generations_apart());
        self.deferred.from = slots;
        self
    }

    /// Keeps generations apart from the nodes in tables whose freed regions are merged later: for who
    /// [releases](super::super::Suballocator::release).
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
        // First what does not depend on the key, which may have to be waited for.
        let waiting = &mut self.deferred.waiting;
        self.deferred.settled += hot!(self, hot => hot.advance_released(waiting));
        if !self.regions.note_end(key) {
            return None;
        }
        self.deferred.waiting = [key.index(), self.deferred.waiting[0]];
        self.count_out(self.regions.block_of(key.index()));
        Some(std::mem::take(&mut self.deferred.settled))
    }

    /// Frees a region whose generation is kept apart and says what it was, for which its node is needed.
    #[cold]
    pub(super) fn free_at_once(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let (info, tag) = (self.regions.info(key)?, self.regions.tag(key)?);
        let bytes = self.release_key(key)?;
        self.settle_all();
        // All but this one are still to be told of.
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

    /// Merges all that was freed.
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
                self.deferred.stuck += 1;
            } else if apart {
                self.deferred.settled += hot!(self, hot => hot.coalesce_released(index));
            } else {
                hot!(self, hot => hot.coalesce(index));
            }
        }
        self.coalesce_stuck();
    }

    fn can_index(&mut self) -> bool {
        self.free.has_room_for(1) || self.free.try_grow()
    }

    /// Merges what could not be merged before, as far as there is host memory now. O(regions), after a
    /// lack of it only.
    fn coalesce_stuck(&mut self) {
        let mut indices = 0..self.regions.nodes().len() as u32;
        while self.deferred.stuck > 0
            && self.can_index()
            && let Some(index) = indices.find(|&it| self.regions.node(it).is_unmerged())
        {
            hot!(self, hot => hot.coalesce(index));
            self.deferred.stuck -= 1;
        }
    }

    /// Frees a region without host memory for the index: its place is taken again only after it could be
    /// merged.
    #[cold]
    #[inline(never)]
    pub(super) fn free_unindexed(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let (info, tag) = (self.regions.info(key)?, self.regions.tag(key)?);
        if self.regions.has_generations_apart() {
            self.regions.note_end(key);
        }
        self.regions.node_mut(key.index()).end_life_later();
        self.deferred.stuck += 1;
        let block_is_empty = self.count_out(info.block.0);
        Some(FreedRegion { info, tag, block_is_empty })
    }
}
