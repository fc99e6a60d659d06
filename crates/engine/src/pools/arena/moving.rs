//! Walks over the regions of an arena, and places for those that are to move.

use std::sync::Arc;

use super::Arena;
use crate::handle::SlotKey;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::MemoryObject;
use crate::request::Strategy;
use crate::suballocator::moving::{FreeRegion, Met, MovableRegion, Scanned, Walk};
use crate::suballocator::{BlockIndex, RegionRequest, Suballocator};

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
    /// Merges freed regions and returns index and size in bytes of each block. O(blocks).
    pub(crate) fn blocks_to_move(&self) -> Vec<(BlockIndex, u64)> {
        let mut state = self.state.lock();
        state.blocks.suballocator.settle();
        // Regions that were freed take part in no move any more.
        let mut moving = std::mem::take(&mut state.moving);
        moving.0.retain(|&key, _| state.blocks.suballocator.region(key).is_some());
        state.moving = moving;
        state.blocks.iter().map(|(block, memory)| (block, memory.size)).collect()
    }

    /// Calls `visit` with the regions of `limit` slots from `from` on; returns the slot to continue from, `None`
    /// at the end. O(`limit`).
    pub(crate) fn scan(
        &self,
        from: u32,
        limit: u32,
        visit: &mut dyn FnMut(Scanned),
    ) -> Option<u32> {
        let state = self.state.lock();
        state.blocks.suballocator.regions().scan(from, limit, visit)
    }

    /// Calls `visit` with each region that has a destination already and is not freed yet. O(moves).
    pub(crate) fn visit_sources(&self, visit: &mut dyn FnMut(MovableRegion)) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(suballocator) = state.blocks.suballocator.moving() else { return };
        for (&key, &is_source) in &state.moving.0 {
            if is_source && let Some(region) = suballocator.movable(key) {
                visit(region);
            }
        }
    }

    /// Continues a walk over a block: see
    /// [`Moving::walk`](crate::suballocator::moving::Moving::walk). Regions that take part in a move are
    /// skipped. O(`limit`).
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
        let moving = &state.moving.0;
        state.blocks.suballocator.moving().map_or(Walk::Done, |suballocator| {
            suballocator.walk(block, from, limit, &mut |met| match met {
                Met::Live(region) if !moving.is_empty() && moving.contains_key(&region.key) => true,
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
        let suballocator = inside.blocks.suballocator.moving()?;
        let source = suballocator.movable(key)?;
        let is_free_to_move = source.tag.map_count == 0
            && !inside.moving.0.contains_key(&key)
            && inside.moving.0.try_reserve(2).is_ok();
        if !is_free_to_move {
            return None;
        }
        let request = RegionRequest {
            size: source.size,
            alignment: source.alignment,
            kind: source.kind,
            upper: false,
            strategy: Strategy::Balanced,
        };
        let placement = match destination {
            Destination::In(block, free) => suballocator.place_in(*block, free, &request)?,
            Destination::Down => suballocator.hold_gap_before(key)?,
        };
        let size = suballocator.movable(placement.key).map_or(0, |placed| placed.size);
        let rest = suballocator.free_behind(placement.key);
        inside.blocks.note_placed(placement.block, size);
        inside.moving.0.insert(key, true);
        inside.moving.0.insert(placement.key, false);
        let memory = inside.blocks.memory(source.block).clone();
        let placed = PlacedRegion {
            key: placement.key,
            memory: inside.blocks.memory(placement.block).clone(),
            offset: placement.offset,
        };
        self.check(&state);
        Some(Reserved { source, memory, placed, block: placement.block, rest })
    }

    /// Notes that a move ended with the region at its destination. The source takes part in no further
    /// move. Returns false if either was freed, or the source was mapped meanwhile.
    pub(crate) fn settle_move(&self, source: SlotKey, destination: SlotKey) -> bool {
        let mut state = self.state.lock();
        let suballocator = &state.blocks.suballocator;
        let is_whole = suballocator.tag(source).is_some_and(|tag| tag.map_count == 0)
            && suballocator.region(destination).is_some();
        if is_whole {
            state.moving.0.remove(&destination);
        }
        is_whole
    }

    /// Notes that a move ended with the region at its source.
    pub(crate) fn forget_move(&self, source: SlotKey, destination: SlotKey) {
        let mut state = self.state.lock();
        state.moving.0.remove(&source);
        state.moving.0.remove(&destination);
    }

    /// Shifts a region down over the gap that was reserved for that; returns its new place, `None` if either
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
        inside.blocks.note_slid(held.size);
        inside.moving.0.remove(&source);
        inside.moving.0.remove(&gap);
        let memory = inside.blocks.memory(placement.block).clone();
        self.check(&state);
        Some(PlacedRegion { key: placement.key, memory, offset: placement.offset })
    }
}
