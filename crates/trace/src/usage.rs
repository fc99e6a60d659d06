//! [`Usage`]: what is held and live after each event of a trace.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Call, Event, MoveResult};
use crate::numbering::{Numbering, makes_allocation};
use crate::objects::Objects;
use crate::trace::Trace;
use crate::values::Placed;
use vkmem_engine::{DeviceInfo, MoveKind};

/// Bytes and numbers of one heap, memory type, pool, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Number of memory objects.
    pub block_count: u64,
    /// Their size in bytes.
    pub block_bytes: u64,
    /// Number of live allocations.
    pub allocation_count: u64,
    /// Their size in bytes.
    pub allocation_bytes: u64,
}

impl Held {
    fn hold(&mut self, size: u64, more: bool) {
        add(&mut self.block_count, 1, more);
        add(&mut self.block_bytes, size, more);
    }

    fn allocate(&mut self, size: u64, more: bool) {
        add(&mut self.allocation_count, 1, more);
        add(&mut self.allocation_bytes, size, more);
    }
}

fn add(value: &mut u64, by: u64, more: bool) {
    *value = if more { value.saturating_add(by) } else { value.saturating_sub(by) };
}

/// Whom a memory object belongs to.
type Owner = Option<u32>;

#[derive(Clone, Copy, Debug)]
struct Memory {
    memory_type: Option<u32>,
    size: u64,
    /// The pool, once it is known.
    owner: Option<Owner>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    size: u64,
    memory_type: Option<u32>,
    pool: Owner,
    memory: Option<u32>,
    offset: u64,
    /// Bytes that a move has reserved for it.
    reserved: Option<u64>,
}

/// What is held and live, kept up event by event: as the recording says it, not as a replay would have it. Where a trace
/// does not say where allocations went, only sizes of allocations count.
///
/// A memory object belongs to the pool of the first allocation in it; the trace does not say more of it.
#[derive(Debug)]
pub struct Usage {
    /// The heap of each memory type.
    heap_of: Vec<usize>,
    total: Held,
    heaps: Vec<Held>,
    types: Vec<Held>,
    pools: BTreeMap<u32, Held>,
    memories: Objects<Memory>,
    allocations: Objects<Live>,
    /// Memory objects that were allocated since the last call that could own them.
    fresh: BTreeSet<u32>,
    /// Pools whose figures the last event has changed.
    touched: Vec<u32>,
    /// Whether anything was in each memory type, and those for which the last event was the first.
    used: Vec<bool>,
    newly_used: Vec<usize>,
}

impl Usage {
    /// Begins before the first event of a trace.
    pub fn new(trace: &Trace) -> Self {
        let memories = Objects::placed(Numbering::of_memories(trace));
        let allocations = Objects::placed(Numbering::of_objects(trace, makes_allocation));
        Self::begin(trace.description().device.as_ref(), memories, allocations)
    }

    /// Begins before the first of events that still come, on the device that they have, if they are of one.
    pub fn growing(device: Option<&DeviceInfo>) -> Self {
        Self::begin(device, Objects::growing(), Objects::growing())
    }

    fn begin(
        device: Option<&DeviceInfo>,
        memories: Objects<Memory>,
        allocations: Objects<Live>,
    ) -> Self {
        let types = device.map_or(&[][..], |it| &it.types);
        Self {
            heap_of: types.iter().map(|it| it.heap_index as usize).collect(),
            total: Held::default(),
            heaps: vec![Held::default(); device.map_or(0, |it| it.heaps.len())],
            types: vec![Held::default(); types.len()],
            pools: BTreeMap::new(),
            memories,
            allocations,
            fresh: BTreeSet::new(),
            touched: Vec::new(),
            used: vec![false; types.len()],
            newly_used: Vec::new(),
        }
    }

    /// Returns the sum of all heaps.
    pub fn total(&self) -> Held {
        self.total
    }

    /// Returns each heap of the device, if the trace describes it.
    pub fn heaps(&self) -> &[Held] {
        &self.heaps
    }

    /// Returns each memory type of the device, if the trace describes it.
    pub fn types(&self) -> &[Held] {
        &self.types
    }

    /// Returns each custom pool that exists, by its number.
    pub fn pools(&self) -> &BTreeMap<u32, Held> {
        &self.pools
    }

    /// Returns the size in bytes, memory type and memory object of a live allocation.
    pub(crate) fn allocation(&self, number: u32) -> Option<(u64, Option<u32>, Option<u32>)> {
        let live = self.allocations.get(number)?;
        Some((live.size, live.memory_type, live.memory))
    }

    /// Returns memory type and size in bytes of a memory object that is held.
    pub(crate) fn memory(&self, number: u32) -> Option<(Option<u32>, u64)> {
        let memory = self.memories.get(number)?;
        Some((memory.memory_type, memory.size))
    }

    /// Returns the pools whose figures the last event has changed.
    pub(crate) fn touched_pools(&self) -> &[u32] {
        &self.touched
    }

    /// Returns a custom pool; nothing if it does not exist.
    pub(crate) fn pool(&self, number: u32) -> Held {
        self.pools.get(&number).copied().unwrap_or_default()
    }

    /// Returns the heap of a memory type, if the device is known.
    pub(crate) fn heap_of(&self, memory_type: usize) -> Option<usize> {
        self.heap_of.get(memory_type).copied()
    }

    /// Returns the memory types of a heap that anything was in so far.
    pub(crate) fn used_types(&self, heap: usize) -> impl Iterator<Item = usize> {
        let used = self.heap_of.iter().zip(&self.used).enumerate();
        used.filter(move |(_, (of, is_used))| **of == heap && **is_used).map(|(index, _)| index)
    }

    /// Returns the memory types that nothing was in before the last event.
    pub(crate) fn newly_used_types(&self) -> &[usize] {
        &self.newly_used
    }

    /// Takes an event.
    pub fn apply(&mut self, event: &Event<'_>) {
        self.touched.clear();
        self.newly_used.clear();
        match &event.call {
            Call::AllocateMemory { memory: Some(number), memory_type, size, .. } => {
                self.hold(*number, *memory_type, *size);
            }
            Call::FreeMemory { memory } => self.give_back(*memory),
            Call::CreatePool { pool: Some(pool), .. } => {
                self.pools.entry(*pool).or_default();
                self.touched.push(*pool);
                for memory in std::mem::take(&mut self.fresh) {
                    self.own(memory, Some(*pool));
                }
            }
            Call::DestroyPool { pool } => {
                self.pools.remove(pool);
                self.touched.push(*pool);
            }
            Call::Allocate { allocation, request, size, buffer_size, placed, .. } => {
                let size = size.or(*buffer_size).unwrap_or(0);
                self.allocate(*allocation, request.pool, size, *placed);
            }
            Call::Import { allocation, size, placed, .. } => {
                self.allocate(*allocation, None, *size, *placed);
            }
            Call::Free { allocation } => self.free(*allocation),
            Call::Lose { allocations } => allocations.iter().for_each(|it| self.free(it)),
            Call::Resize { allocation, size } => self.resize(*allocation, *size),
            Call::KeepSource { allocation, of } => self.keep_source(*allocation, *of),
            Call::ProposeMove { allocation, kind, placed, .. } => {
                self.propose(*allocation, *kind, placed);
            }
            Call::EndMove { allocation, result, placed, .. } => {
                self.end_move(*allocation, *result, *placed);
            }
            _ => {}
        }
    }

    /// Changes the figures of a memory type, its heap, and all.
    fn each(&mut self, memory_type: Option<u32>, pool: Owner, change: impl Fn(&mut Held)) {
        change(&mut self.total);
        if let Some(memory_type) = memory_type.map(|it| it as usize)
            && let Some(of_type) = self.types.get_mut(memory_type)
        {
            change(of_type);
            if let Some(of_heap) = self.heaps.get_mut(self.heap_of[memory_type]) {
                change(of_heap);
            }
            if !self.used[memory_type] {
                self.used[memory_type] = true;
                self.newly_used.push(memory_type);
            }
        }
        if let Some(pool) = pool
            && let Some(of_pool) = self.pools.get_mut(&pool)
        {
            change(of_pool);
            self.touched.push(pool);
        }
    }

    fn hold(&mut self, number: u32, memory_type: Option<u32>, size: u64) {
        let is_held = self.memories.get(number).is_some();
        if !is_held && self.memories.insert(number, Memory { memory_type, size, owner: None }) {
            self.fresh.insert(number);
            self.each(memory_type, None, |it| it.hold(size, true));
        }
    }

    fn give_back(&mut self, number: u32) {
        let Some(memory) = self.memories.remove(number) else { return };
        self.fresh.remove(&number);
        let owner = memory.owner.flatten();
        self.each(memory.memory_type, owner, |it| it.hold(memory.size, false));
    }

    /// Notes whom a memory object belongs to, unless it is known; returns whom it belongs to.
    fn own(&mut self, number: u32, owner: Owner) -> Owner {
        let Some(memory) = self.memories.get_mut(number) else { return owner };
        if let Some(known) = memory.owner {
            return known;
        }
        memory.owner = Some(owner);
        let size = memory.size;
        if let Some(pool) = owner
            && let Some(of_pool) = self.pools.get_mut(&pool)
        {
            of_pool.hold(size, true);
            self.touched.push(pool);
        }
        owner
    }

    fn allocate(&mut self, number: u32, pool: Owner, size: u64, placed: Option<Placed>) {
        self.fresh.clear();
        let memory = placed.and_then(|it| it.memory);
        let pool = memory.map_or(pool, |it| self.own(it, pool));
        let memory_type = placed.and_then(|it| it.memory_type);
        let offset = placed.map_or(0, |it| it.offset);
        let live = Live { size, memory_type, pool, memory, offset, reserved: None };
        if self.allocations.insert(number, live) {
            self.each(memory_type, pool, |it| it.allocate(size, true));
        }
    }

    fn free(&mut self, number: u32) {
        let Some(live) = self.allocations.remove(number) else { return };
        self.each(live.memory_type, live.pool, |it| it.allocate(live.size, false));
        if let Some(bytes) = live.reserved {
            self.each(live.memory_type, live.pool, |it| it.allocate(bytes, false));
        }
    }

    fn resize(&mut self, number: u32, size: u64) {
        let Some(live) = self.allocations.get_mut(number) else { return };
        let (old, memory_type, pool) = (live.size, live.memory_type, live.pool);
        live.size = size;
        self.each(memory_type, pool, |it| {
            it.allocate(old, false);
            it.allocate(size, true);
        });
    }

    /// A destination counts as an allocation of its own until the move ends; of a slide only the gap below it does.
    fn propose(&mut self, number: u32, kind: MoveKind, placed: &Placed) {
        let Some(live) = self.allocations.get_mut(number) else { return };
        if live.reserved.is_some() {
            return;
        }
        let bytes = match kind {
            MoveKind::Apart => live.size,
            MoveKind::Slide => live.offset.saturating_sub(placed.offset),
        };
        live.reserved = Some(bytes);
        let (memory_type, pool) = (live.memory_type, live.pool);
        self.each(memory_type, pool, |it| it.allocate(bytes, true));
    }

    /// The old place of an allocation that moves is one of its own from now on.
    fn keep_source(&mut self, number: u32, of: u32) {
        let Some(live) = self.allocations.get(of) else { return };
        let Live { size, memory_type, pool, memory, offset, .. } = *live;
        let placed = Placed { memory_type, memory, offset, is_dedicated: false };
        self.allocate(number, pool, size, Some(placed));
    }

    fn end_move(&mut self, number: u32, result: MoveResult, placed: Option<Placed>) {
        let Some(live) = self.allocations.get_mut(number) else { return };
        if let Some(placed) = placed {
            (live.memory, live.offset) = (placed.memory.or(live.memory), placed.offset);
        }
        let reserved = live.reserved.take();
        let (memory_type, pool, memory) = (live.memory_type, live.pool, live.memory);
        if let Some(bytes) = reserved {
            self.each(memory_type, pool, |it| it.allocate(bytes, false));
        }
        if let Some(memory) = memory {
            self.own(memory, pool);
        }
        if result == MoveResult::Destroyed {
            self.free(number);
        }
    }
}
