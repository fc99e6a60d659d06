//! Walks over the regions of an arena, and places for those that are to move.

use std::sync::Arc;

use super::Arena;
use crate::handle::SlotKey;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::MemoryObject;
use crate::recording::order::mark;
use crate::suballocator::moving::{FreeRegion, Met, MovableRegion, Walk};
use crate::suballocator::{BlockIndex, Suballocator};

/// Where a region is to move.
pub(crate) enum Destination {
    /// To a free region of a block.
    In(BlockIndex, FreeRegion),
    /// Down by less than its size, in its own block.
    Down,
}

/// A place that is reserved for a region.
pub(crate) struct Reserved {
    /// The region that is to move.
    pub source: MovableRegion,
    /// The memory object of its block.
    pub memory: Arc<MemoryObject>,
    /// The place. For [`Destination::Down`]: the gap below the region.
    pub placed: PlacedRegion,
    /// The block of the place.
    pub block: BlockIndex,
    /// The free region that is left behind the place.
    pub rest: Option<FreeRegion>,
}

impl Arena {
    /// Adds index and number of live regions of the blocks in `limit` places from `from` on to `found`, if there
    /// is host memory; returns the place to continue from, `None` at the end. O(`limit`).
    pub(crate) fn list_blocks(
        &self,
        from: u32,
        limit: u32,
        found: &mut Vec<(u32, BlockIndex)>,
    ) -> Option<u32> {
        if found.try_reserve(limit as usize).is_err() {
            return None;
        }
        let mut state = self.state.lock();
        let blocks = &mut state.blocks;
        let end = blocks.places();
        let stop = end.min(from.saturating_add(limit));
        for block in (from..stop).map(BlockIndex) {
            if !blocks.contains(block) {
                continue;
            }
            let count = blocks.suballocator.moving().map_or(0, |it| it.live_count(block));
            found.push((count, block));
        }
        (stop < end).then_some(stop)
    }

    /// Returns the bytes of all blocks, and the number and the bytes of the live regions with their margins. O(1).
    pub(crate) fn fullness(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        let (count, bytes) = state.blocks.taken();
        (state.blocks.bytes(), count, bytes)
    }

    /// Merges freed regions and continues a walk over a block like [`walk`](Self::walk), but also over regions
    /// that take part in a move or are in quarantine: `visit` is told whether the region is to be freed. O(`limit`).
    pub(crate) fn walk_all(
        &self,
        block: BlockIndex,
        from: Option<SlotKey>,
        limit: usize,
        visit: &mut dyn FnMut(&Met, bool),
    ) -> Walk {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.blocks.contains(block) {
            return Walk::Done;
        }
        state.blocks.suballocator.settle();
        let (moving, guard) = (&state.moving, state.blocks.guard.as_deref());
        state.blocks.suballocator.moving().map_or(Walk::Done, |suballocator| {
            suballocator.walk(block, from, limit, &mut |met| {
                let is_source = match met {
                    // What is in quarantine is to be freed as well.
                    Met::Live(region) => {
                        !moving.is_empty() && moving.is_source(region.key)
                            || guard.is_some_and(|guard| guard.is_quarantined(region.key))
                    }
                    Met::Free(_) => false,
                };
                visit(met, is_source);
                true
            })
        })
    }

    /// Continues a walk over a block: see
    /// [`Moving::walk`](crate::suballocator::moving::Moving::walk). Regions that take part in a move or are in
    /// quarantine are skipped. O(`limit`).
    pub(crate) fn walk(
        &self,
        block: BlockIndex,
        from: Option<SlotKey>,
        limit: usize,
        visit: &mut dyn FnMut(&Met) -> bool,
    ) -> Walk {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.blocks.contains(block) {
            return Walk::Done;
        }
        let (moving, guard) = (&state.moving, state.blocks.guard.as_deref());
        state.blocks.suballocator.moving().map_or(Walk::Done, |suballocator| {
            suballocator.walk(block, from, limit, &mut |met| match met {
                Met::Live(region) if !moving.is_empty() && moving.contains(region.key) => true,
                Met::Live(region) if guard.is_some_and(|it| it.is_quarantined(region.key)) => true,
                met => visit(met),
            })
        })
    }

    /// Returns the next live region above another one of a block; see
    /// [`Moving::above`](crate::suballocator::moving::Moving::above).
    pub(crate) fn above(&self, block: BlockIndex, below: Option<SlotKey>) -> Option<MovableRegion> {
        let mut state = self.state.lock();
        if !state.blocks.contains(block) {
            return None;
        }
        state.blocks.suballocator.settle();
        state.blocks.suballocator.moving()?.above(block, below)
    }

    /// Reserves a place for a region; `None` if there is none, or if the region was freed, is mapped by
    /// calls of `map` or takes part in a move already. Makes no driver call.
    pub(crate) fn reserve(&self, key: SlotKey, destination: &Destination) -> Option<Reserved> {
        let mut state = self.state.lock();
        let inside = &mut *state;
        if inside.blocks.is_quarantined(key) {
            return None;
        }
        let suballocator = inside.blocks.suballocator.moving()?;
        let source = suballocator.movable(key)?;
        if source.tag.map_count > 0 || inside.moving.contains(key) {
            return None;
        }
        let request = source.request();
        let placement = match destination {
            Destination::In(block, free) => suballocator.place_in(*block, free, &request)?,
            Destination::Down => suballocator.hold_gap_before(key)?,
        };
        // A reserved gap has a size of its own.
        let size = inside.blocks.suballocator.region(placement.key).map_or(0, |it| it.size);
        let rest = inside.blocks.suballocator.moving()?.free_behind(placement.key);
        inside.blocks.note_placed(placement.block, size);
        let alignment = inside.blocks.suballocator.regions().alignment(placement.key);
        inside.blocks.note_margins(placement.key, alignment);
        let placed = PlacedRegion {
            key: placement.key,
            memory: inside.blocks.memory(placement.block).clone(),
            offset: placement.offset,
        };
        if !inside.moving.add(key, true) || !inside.moving.add(placed.key, false) {
            inside.moving.remove(key);
            inside.blocks.take_back(&placed);
            return None;
        }
        let suballocator = &inside.blocks.suballocator;
        inside.moving.sweep(|key| suballocator.region(key).is_some());
        let memory = inside.blocks.memory(source.block).clone();
        self.check(&state);
        Some(Reserved { source, memory, placed, block: placement.block, rest })
    }

    /// Notes that a move ended with the region at its destination. The source takes part in no further
    /// move until it is freed. A caller that frees it at once calls [`forget_source`](Self::forget_source) then.
    /// Returns false if either was freed, or the source was mapped meanwhile.
    pub(crate) fn settle_move(
        &self,
        source: SlotKey,
        destination: SlotKey,
        is_freed_at_once: bool,
    ) -> bool {
        let mut state = self.state.lock();
        let suballocator = &state.blocks.suballocator;
        let is_whole = suballocator.tag(source).is_some_and(|tag| tag.map_count == 0)
            && suballocator.region(destination).is_some();
        if is_whole {
            mark();
            state.moving.remove(destination);
            if !is_freed_at_once {
                state.moving.will_be_freed(source);
            }
        }
        is_whole
    }

    /// Notes that the source of a move that was settled is freed. Only then, as another run would move it once
    /// more in between.
    pub(crate) fn forget_source(&self, source: SlotKey) {
        self.state.lock().moving.remove(source);
    }

    /// Notes that a move ended with the region at its source.
    pub(crate) fn forget_move(&self, source: SlotKey, destination: SlotKey) {
        let mut state = self.state.lock();
        state.moving.remove(source);
        state.moving.remove(destination);
    }

    /// Returns whether moves may be open.
    pub(crate) fn is_moving(&self) -> bool {
        !self.state.lock().moving.is_empty()
    }

    /// Gives back what a run has used to note moves, unless others use it.
    pub(crate) fn end_moves(&self) {
        let unused = self.state.lock().moving.take_unused();
        drop(unused);
    }

    /// Shifts a region down over the gap that was reserved for that; returns the new place of its payload, `None` if either
    /// was freed or the region was mapped meanwhile.
    pub(crate) fn slide(&self, source: SlotKey, gap: SlotKey) -> Option<PlacedRegion> {
        let mut state = self.state.lock();
        let inside = &mut *state;
        let suballocator = inside.blocks.suballocator.moving()?;
        let (region, held) = (suballocator.movable(source)?, suballocator.movable(gap)?);
        if region.tag.map_count > 0 {
            return None;
        }
        let placement = suballocator.slide(source, gap)?;
        mark();
        inside.blocks.note_slid(held.size);
        inside.moving.remove(source);
        inside.moving.remove(gap);
        let memory = inside.blocks.memory(placement.block).clone();
        self.check(&state);
        let [front, _] = self.margins.around(region.alignment);
        Some(PlacedRegion { key: placement.key, memory, offset: placement.offset + front })
    }
}
