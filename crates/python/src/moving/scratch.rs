//! Memory that resources slide through, kept from pass to pass of a run: allocating it takes longer than the copies.

use std::cmp::Reverse;
use std::sync::Arc;

use vkmem_engine::{Allocation, AllocationId, AllocationRequest, Error};

use crate::lifetime::ownership::AllocatorState;

/// A memory object of its own, and how many bytes of it a pass uses.
struct Room {
    memory: Allocation,
    used: u64,
}

impl Room {
    /// Takes a part of it, if there is room.
    fn take(&mut self, request: &AllocationRequest, alignment: u64) -> Option<Allocation> {
        let needs = &request.requirements;
        let at = self.used.checked_next_multiple_of(alignment)?;
        let end = at.checked_add(needs.size)?;
        let fits = needs.memory_type_bits >> self.memory.memory_type_index & 1 == 1
            && end <= self.memory.size
            && (self.memory.offset + at).is_multiple_of(alignment);
        if !fits {
            return None;
        }
        self.used = end;
        Some(Allocation { offset: self.memory.offset + at, size: needs.size, ..self.memory })
    }
}

/// Memory for the time of a pass, freed when this is dropped.
pub struct Scratch {
    allocator: Arc<AllocatorState>,
    rooms: Vec<Room>,
}

impl Scratch {
    /// Without any memory.
    pub fn new(allocator: Arc<AllocatorState>) -> Self {
        Self { allocator, rooms: Vec::new() }
    }

    /// Frees what the passes before have left except the largest of each memory type, all of which can be used
    /// again: the copies of those passes have ended.
    pub fn begin_pass(&mut self) {
        // The largest first, within each memory type.
        self.rooms.sort_by_key(|it| (it.memory.memory_type_index, Reverse(it.memory.size)));
        let (mut last, mut freed) = (None, Vec::new());
        self.rooms.retain_mut(|it| {
            it.used = 0;
            let is_first =
                last.replace(it.memory.memory_type_index) != Some(it.memory.memory_type_index);
            if !is_first {
                freed.push(it.memory.id);
            }
            is_first
        });
        self.free(&freed);
    }

    /// Returns memory for a resource. If some has to be allocated, it is for `ahead` bytes, or for those of this
    /// one alone if there is not so much. May call the driver.
    pub fn take(&mut self, request: &AllocationRequest, ahead: u64) -> Result<Allocation, Error> {
        let engine = self.allocator.engine();
        let granularity = engine.device().info().limits.buffer_image_granularity;
        let alignment = request.requirements.alignment.max(granularity).max(1);
        if let Some(taken) = self.rooms.iter_mut().find_map(|room| room.take(request, alignment)) {
            return Ok(taken);
        }
        let mut larger = *request;
        larger.requirements.size = ahead.max(request.requirements.size);
        let memory = engine.allocate(&larger).or_else(|_| engine.allocate(request))?;
        let mut room = Room { memory, used: 0 };
        let taken = room.take(request, alignment);
        self.rooms.push(room);
        taken.ok_or(Error::NoHostMemory("a place in memory of its own"))
    }

    fn free(&self, ids: &[AllocationId]) {
        if !ids.is_empty() {
            let engine = self.allocator.engine();
            engine.release_later(engine.free_many(ids).releases);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let ids: Vec<AllocationId> = self.rooms.iter().map(|it| it.memory.id).collect();
        crate::interpreter::without_gil(|| self.free(&ids));
    }
}
