//! Search for room among regions that may be lost, and replacing them.

use std::sync::Arc;

use super::{Arena, State};
use crate::handle::SlotKey;
use crate::pools::blocks::PlacedRegion;
use crate::pools::guard::Guard;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::pools::moves::MovingRegions;
use crate::recording::order::mark;
use crate::suballocator::evicting::{Evicting, LiveRegion, Range};
use crate::suballocator::moving::MovableRegion;
use crate::suballocator::{
    AnySuballocator, BlockIndex, FreedRegion, Linear, RegionRequest, RegionTag, Suballocator,
};

/// Where regions are to be replaced by one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hole {
    /// A range of neighbours.
    Between(Range),
    /// The oldest regions of a ring.
    Oldest,
    /// All regions of a block.
    Block(BlockIndex),
}

/// The regions of an arena, for a search under its lock.
pub(crate) struct Regions<'a> {
    suballocator: &'a mut AnySuballocator,
    moving: &'a MovingRegions,
    guard: Option<&'a Guard>,
}

impl Regions<'_> {
    /// Returns the suballocator for replacing neighbours; for linear, where only the oldest regions of a ring can
    /// be replaced, that itself.
    pub fn evicting(&mut self) -> Result<&mut dyn Evicting, &mut Linear> {
        self.suballocator.evicting()
    }

    /// Returns a live region; `None` if the key is stale, and for linear.
    pub fn look(&mut self, key: SlotKey) -> Option<LiveRegion> {
        self.evicting().ok()?.look(key)
    }

    /// Returns the next live region above or below one; `None` at the border of the block, and for linear.
    pub fn neighbour(&mut self, key: SlotKey, upwards: bool) -> Option<LiveRegion> {
        self.evicting().ok()?.neighbour(key, upwards)
    }

    /// Returns whether a region could be freed: it is neither mapped nor takes part in a move.
    pub fn is_loose(&self, key: SlotKey, tag: RegionTag) -> bool {
        !tag.is_mapped()
            && (self.moving.is_empty() || !self.moving.contains(key))
            && self.guard.is_none_or(|guard| !guard.is_quarantined(key))
    }

    /// Returns whether a region is live and could be freed.
    pub fn is_live_and_loose(&self, key: SlotKey) -> bool {
        self.suballocator.tag(key).is_some_and(|tag| self.is_loose(key, tag))
    }

    /// Adds the live regions of a block to `found`, by ascending offset, each with whether it could be freed; false if
    /// there is no host memory, and for linear.
    ///
    /// # Time complexity
    /// O(regions of the block).
    pub fn list(&mut self, block: BlockIndex, found: &mut Vec<(MovableRegion, bool)>) -> bool {
        let Some(moving) = self.suballocator.moving() else { return false };
        let mut last = None;
        while let Some(region) = moving.above(block, last) {
            let takes_part = !self.moving.is_empty() && self.moving.contains(region.key);
            if found.try_reserve(1).is_err() {
                return false;
            }
            found.push((region, !region.tag.is_mapped() && !takes_part));
            last = Some(region.key);
        }
        true
    }

    /// Returns the keys of all live regions of a block if `may_go` is true for each; `None` if not.
    ///
    /// # Time complexity
    /// O(regions up to the first that may not); O(regions) for linear.
    pub fn all_of(
        &mut self,
        block: BlockIndex,
        may_go: &mut dyn FnMut(SlotKey) -> bool,
    ) -> Option<Vec<SlotKey>> {
        let mut keys = Vec::new();
        if let Ok(evicting) = self.suballocator.evicting() {
            let mut next = evicting.lowest(block);
            while let Some(region) = next {
                if !may_go(region.key) || keys.try_reserve(1).is_err() {
                    return None;
                }
                keys.push(region.key);
                next = evicting.neighbour(region.key, true);
            }
        } else {
            let mut all = true;
            self.suballocator.visit_live(block, &mut |_, _, key, _| {
                all = all && may_go(key) && keys.try_reserve(1).is_ok();
                if all {
                    keys.push(key);
                }
            });
            if !all {
                return None;
            }
        }
        keys.iter().all(|&key| self.is_live_and_loose(key)).then_some(keys)
    }
}

impl State {
    /// Returns whether all these regions are live and could be freed.
    pub(super) fn are_loose(&self, keys: &[SlotKey]) -> bool {
        keys.iter().all(|&key| {
            let tag = self.blocks.suballocator.tag(key);
            tag.is_some_and(|tag| !tag.is_mapped())
                && !self.moving.contains(key)
                && !self.blocks.is_quarantined(key)
        })
    }
}

impl Arena {
    /// Merges freed regions and calls `search` with all of them, under the lock.
    pub(crate) fn search<R>(&self, search: impl FnOnce(&mut Regions<'_>) -> R) -> R {
        let mut state = self.state.lock();
        let State { blocks, moving, .. } = &mut *state;
        blocks.suballocator.settle();
        let guard = blocks.guard.as_deref();
        search(&mut Regions { suballocator: &mut blocks.suballocator, moving, guard })
    }

    /// Calls `search` like [`search`](Self::search); `None` if a block does not exist any more.
    pub(crate) fn search_block<R>(
        &self,
        block: BlockIndex,
        search: impl FnOnce(&mut Regions<'_>) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        let State { blocks, moving, .. } = &mut *state;
        if !blocks.contains(block) {
            return None;
        }
        blocks.suballocator.settle();
        let guard = blocks.guard.as_deref();
        Some(search(&mut Regions { suballocator: &mut blocks.suballocator, moving, guard }))
    }

    /// Returns whether a region is live and could be freed. O(1).
    pub(crate) fn is_loose(&self, key: SlotKey) -> bool {
        self.state.lock().are_loose(&[key])
    }

    /// Returns the number of places for blocks, some of which may be vacant. O(1).
    pub(crate) fn block_places(&self) -> u32 {
        self.state.lock().blocks.places()
    }

    /// Returns the number of blocks, including those that are being allocated.
    pub(crate) fn block_count(&self) -> u32 {
        let state = self.state.lock();
        state.blocks.count() + state.growing
    }

    /// Returns the memory object of a block; `None` if it was removed, or if it could not be freed at once. O(1).
    pub(crate) fn block(&self, block: BlockIndex) -> Option<Arc<MemoryObject>> {
        let blocks = &self.state.lock().blocks;
        let is_free = blocks.contains(block) && blocks.is_freed_with(block);
        is_free.then(|| blocks.memory(block).clone())
    }

    /// Returns the block that contains a region; `None` if the key is stale. O(1).
    pub(crate) fn block_of(&self, key: SlotKey) -> Option<BlockIndex> {
        Some(self.state.lock().blocks.suballocator.region(key)?.block)
    }

    /// Frees regions and places a request where they were, both or neither; `freed` gets the key and the tag of
    /// each. `None` if one of them was freed, mapped or moved meanwhile, or if there is no room.
    pub(crate) fn replace(
        &self,
        hole: &Hole,
        victims: &[SlotKey],
        request: &RegionRequest,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> Option<PlacedRegion> {
        let mut state = self.state.lock();
        if !state.are_loose(victims) {
            return None;
        }
        let blocks = &mut state.blocks;
        let range = match *hole {
            Hole::Between(range) => Some(range),
            Hole::Block(block) => Some(Range { block, below: None, above: None }),
            Hole::Oldest => None,
        };
        if range.is_some_and(|range| !blocks.contains(range.block)) {
            return None;
        }
        blocks.suballocator.settle();
        if let Hole::Block(block) = *hole
            && blocks.suballocator.evicting().is_err()
        {
            let placed = Self::replace_all(&mut state, block, victims, request, freed);
            mark();
            self.check(&state);
            return placed;
        }
        let margins = blocks.margins_of_all(victims);
        let (mut keys, mut bytes) = (victims.iter(), 0);
        let mut note = |it: FreedRegion| {
            bytes += it.info.size;
            if let Some(&key) = keys.next() {
                freed(key, it.tag);
            }
        };
        let placement = match (range, blocks.suballocator.evicting()) {
            (Some(range), Ok(it)) => it.replace(&range, victims, request, &mut note),
            (None, Err(linear)) => linear.replace_oldest(victims, request, &mut note),
            _ => None,
        }?;
        blocks.note_replaced((victims.len(), bytes), (1, request.size));
        blocks.note_replaced_margins(margins, [(placement.key, request.alignment)]);
        let memory = blocks.memory(placement.block).clone();
        mark();
        self.check(&state);
        Some(PlacedRegion { key: placement.key, memory, offset: placement.offset })
    }

    /// Returns whether the live regions of a block are exactly these, and all could be freed, and the block with them.
    pub(crate) fn holds_only(&self, block: BlockIndex, keys: &[SlotKey]) -> bool {
        let mut state = self.state.lock();
        if !state.blocks.contains(block) || !state.are_loose(keys) {
            return false;
        }
        let blocks = &mut state.blocks;
        if !blocks.is_freed_with(block) {
            return false;
        }
        blocks.holds_only(block, keys)
    }

    /// Frees regions of a block for good, whatever happened to them meanwhile; those that were freed are skipped. A
    /// block that becomes empty is removed, unless it is one of `min_block_count`.
    pub(crate) fn lose_block(
        &self,
        block: BlockIndex,
        victims: &[SlotKey],
        releases: &mut Vec<Release>,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) {
        let mut state = self.state.lock();
        let blocks = &mut state.blocks;
        let mut is_empty = false;
        for &key in victims {
            let Some(gone) = blocks.free(key) else { continue };
            if gone.tag.is_mapped() {
                let mut release = Release::default();
                release.unmap(blocks.memory(gone.block).clone(), gone.tag.maps());
                releases.push(release);
            }
            freed(key, gone.tag);
            is_empty = gone.block_is_empty;
        }
        if is_empty {
            blocks.suballocator.settle();
            if blocks.count() <= blocks.min_count() {
                blocks.keep(block);
            } else {
                let mut release = Release::default();
                blocks.remove_empty(block, &mut release);
                releases.push(release);
            }
        }
        self.check(&state);
    }

    /// Frees regions as ordinary frees do, both or neither of all; false and nothing changed if one of them was
    /// freed, mapped or moved meanwhile.
    pub(crate) fn lose(
        &self,
        victims: &[SlotKey],
        release: &mut Release,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> bool {
        let mut state = self.state.lock();
        if !state.are_loose(victims) {
            return false;
        }
        for &key in victims {
            let tag = state.free(key, false, release, |_, _| {}).expect("it was live just now");
            freed(key, tag);
        }
        self.check(&state);
        true
    }
}
