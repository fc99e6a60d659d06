//! Moves of allocations within one pool.

use super::Pool;
use crate::handle::{Allocation, AllocationId, CacheHint, SlotKey};
use crate::pools::arena::Arena;
use crate::pools::arena::moving::{Destination, Reserved};
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::pools::moves::{Move, MoveKind};
use crate::request::Algorithm;
use crate::suballocator::BlockIndex;
use crate::suballocator::moving::{FreeRegion, MovableRegion};

impl Pool {
    /// Returns the blocks, for walks over their regions.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Returns whether walks over a block go from its upper end down.
    pub(crate) fn walks_down(&self) -> bool {
        self.rules.algorithm == Algorithm::Tlsf
    }

    /// Returns the id of a region.
    pub(crate) fn id_of(&self, key: SlotKey) -> AllocationId {
        AllocationId::new(self.pool_key, false, key)
    }

    fn allocation_at(
        &self,
        key: SlotKey,
        memory: &MemoryObject,
        offset: u64,
        size: u64,
        is_mapped: bool,
    ) -> Allocation {
        let mapped = if is_mapped { memory.mapped_at() } else { None };
        Allocation {
            id: self.id_of(key),
            memory: memory.handle,
            offset,
            size,
            memory_type_index: memory.memory_type_index,
            mapped: mapped.map(|address| address.at(offset)),
            hint: CacheHint::default(),
        }
    }

    /// Reserves a place for an allocation and returns the move, with the block of its destination and the free
    /// region that is left behind it; `None` if there is no place or the allocation may not move. Maps the place if the allocation is persistently
    /// mapped, which may call the driver; if that fails, there is no move.
    pub(crate) fn reserve_move(
        &self,
        key: SlotKey,
        destination: &Destination,
    ) -> Option<(Move, BlockIndex, Option<FreeRegion>)> {
        let Reserved { source, memory, placed, block, rest } =
            self.arena.reserve(key, destination)?;
        let kind = match destination {
            Destination::Down => MoveKind::Slide,
            _ => MoveKind::Apart,
        };
        let is_mapped = source.tag.persistently_mapped;
        if is_mapped && kind == MoveKind::Apart {
            if placed.memory.map().is_err() {
                self.arena.forget_move(key, placed.key);
                let mut release = Release::default();
                self.arena.free(placed.key, &mut release);
                drop(release);
                return None;
            }
            self.mark_mapped(false, &placed);
        }
        let PlacedRegion { key: place, memory: to, offset } = &placed;
        let [front, back] = self.margins.around(source.alignment);
        let (size, offset) = (source.size - front - back, *offset + front);
        let source = self.allocation_at(key, &memory, source.offset + front, size, is_mapped);
        let destination = self.allocation_at(*place, to, offset, size, is_mapped);
        Some((Move { kind, source, destination }, block, rest))
    }

    /// Returns a move to a place of the same block that is not reserved yet: until then the destination has the id of
    /// the source. Source and `offset` are those of regions, with margins.
    pub(crate) fn planned_move(
        &self,
        source: &MovableRegion,
        memory: &MemoryObject,
        offset: u64,
    ) -> Move {
        let [front, back] = self.margins.around(source.alignment);
        let size = source.size - front - back;
        let at = |offset| self.allocation_at(source.key, memory, offset + front, size, false);
        Move { kind: MoveKind::Apart, source: at(source.offset), destination: at(offset) }
    }

    /// Ends a move with the allocation at its destination and returns it as it is there. The source of a
    /// move [apart](MoveKind::Apart) stays live until it is freed, which the caller does at once or later. `None`
    /// if the source or the destination was freed, or the source was mapped meanwhile: then nothing has changed.
    pub(crate) fn settle_move(&self, it: &Move, is_freed_at_once: bool) -> Option<Allocation> {
        let (source, destination) = (it.source.id.key, it.destination.id.key);
        match it.kind {
            MoveKind::Apart => {
                let is_settled = self.arena.settle_move(source, destination, is_freed_at_once);
                is_settled.then_some(it.destination)
            }
            MoveKind::Slide => {
                let placed = self.arena.slide(source, destination)?;
                let is_mapped = it.source.mapped.is_some();
                let (size, offset) = (it.source.size, placed.offset);
                Some(self.allocation_at(placed.key, &placed.memory, offset, size, is_mapped))
            }
        }
    }

    /// Notes that the source of a move that was settled is freed.
    pub(crate) fn forget_source(&self, it: &Move) {
        self.arena.forget_source(it.source.id.key);
    }

    /// Ends a move with the allocation at its source. The destination is freed by the caller.
    pub(crate) fn forget_move(&self, it: &Move) {
        self.arena.forget_move(it.source.id.key, it.destination.id.key);
    }
}
