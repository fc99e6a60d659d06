//! [`Numbers`]: the numbers of objects in a recording.

use std::collections::HashMap;
use std::hash::Hash;

use vkmem_engine::{Allocation, AllocationId, MemoryHandle, PoolId, PoolKey};

use crate::dictionary::Mixing;
use crate::values::Placed;

type Map<K, V> = HashMap<K, V, Mixing>;

/// A live allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub number: u32,
    pub size: u64,
    pub memory_type: u32,
    /// Whether it was taken away, so that it counts no more.
    pub is_lost: bool,
}

/// Numbers of objects of all allocators of a recording. Lost allocations keep theirs until they are freed.
#[derive(Debug)]
pub(super) struct Numbers {
    allocations: Map<(u16, AllocationId), Live>,
    /// By handle, and whether it is an image.
    aliases: Map<(u16, (u64, bool)), u32>,
    pools: Map<(u16, PoolId), u32>,
    memories: Map<(u16, u64), u32>,
    threads: Map<u32, u32>,
    /// Number and bytes of the live allocations of each memory type of an allocator.
    counts: Map<(u16, u32), (u64, u64)>,
    next_allocation: u32,
    next_pool: u32,
    next_memory: u32,
}

fn map<K: Eq + Hash, V>() -> Map<K, V> {
    HashMap::with_hasher(Mixing::new())
}

impl Numbers {
    pub fn new() -> Self {
        Self {
            allocations: map(),
            aliases: map(),
            pools: map(),
            memories: map(),
            threads: map(),
            counts: map(),
            next_allocation: 0,
            next_pool: 0,
            next_memory: 0,
        }
    }

    /// Returns the number of a thread.
    pub fn thread(&mut self, thread: u32) -> u32 {
        let next = self.threads.len() as u32;
        *self.threads.entry(thread).or_insert(next)
    }

    fn count(&mut self, allocator: u16, live: Live, more: bool) {
        let counts = self.counts.entry((allocator, live.memory_type)).or_default();
        let (count, bytes) = *counts;
        *counts = match more {
            true => (count + 1, bytes.saturating_add(live.size)),
            false => (count.saturating_sub(1), bytes.saturating_sub(live.size)),
        };
    }

    /// Returns number and bytes of the live allocations of the memory types for which `is_wanted` is true.
    pub fn live(&self, allocator: u16, is_wanted: impl Fn(u32) -> bool) -> (u64, u64) {
        let wanted = self.counts.iter().filter(|((of, it), _)| *of == allocator && is_wanted(*it));
        wanted.fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1))
    }

    fn next_allocation(&mut self) -> u32 {
        self.next_allocation = self.next_allocation.wrapping_add(1);
        self.next_allocation.wrapping_sub(1)
    }

    /// Numbers an allocation.
    pub fn add(&mut self, allocator: u16, it: &Allocation) -> u32 {
        let number = self.next_allocation();
        let (size, memory_type) = (it.size, it.memory_type_index);
        let live = Live { number, size, memory_type, is_lost: false };
        self.allocations.insert((allocator, it.id), live);
        self.count(allocator, live, true);
        number
    }

    /// Returns the number of an allocation.
    pub fn get(&self, allocator: u16, id: AllocationId) -> Option<u32> {
        self.allocations.get(&(allocator, id)).map(|it| it.number)
    }

    /// Forgets an allocation that was freed; returns its number.
    pub fn remove(&mut self, allocator: u16, id: AllocationId) -> Option<u32> {
        let live = self.allocations.remove(&(allocator, id))?;
        if !live.is_lost {
            self.count(allocator, live, false);
        }
        Some(live.number)
    }

    /// Notes that an allocation was taken away; returns its number.
    pub fn lose(&mut self, allocator: u16, id: AllocationId) -> Option<u32> {
        let live = self.allocations.get_mut(&(allocator, id)).filter(|it| !it.is_lost)?;
        live.is_lost = true;
        let live = *live;
        self.count(allocator, live, false);
        Some(live.number)
    }

    /// Gives the number of an allocation that has moved to its new id, and a new one to the old id if that stays;
    /// returns both.
    pub fn relocate(
        &mut self,
        allocator: u16,
        from: AllocationId,
        to: &Allocation,
        keeps_source: bool,
    ) -> Option<(u32, Option<u32>)> {
        let live = self.allocations.remove(&(allocator, from))?;
        self.allocations.insert((allocator, to.id), live);
        let source = match keeps_source {
            true => self.keep(allocator, from, to.id).map(|it| it.0),
            false => None,
        };
        Some((live.number, source))
    }

    /// Gives the old id of an allocation that has moved a number, as that stays; returns it, and the number of the
    /// allocation.
    pub fn keep(
        &mut self,
        allocator: u16,
        from: AllocationId,
        to: AllocationId,
    ) -> Option<(u32, u32)> {
        let live = *self.allocations.get(&(allocator, to))?;
        let source = Live { number: self.next_allocation(), ..live };
        self.allocations.insert((allocator, from), source);
        self.count(allocator, source, true);
        Some((source.number, live.number))
    }

    /// Numbers an alias.
    pub fn add_alias(&mut self, allocator: u16, handle: (u64, bool)) -> u32 {
        let number = self.next_allocation();
        self.aliases.insert((allocator, handle), number);
        number
    }

    /// Returns the number of an alias.
    pub fn alias(&self, allocator: u16, handle: (u64, bool)) -> Option<u32> {
        self.aliases.get(&(allocator, handle)).copied()
    }

    /// Forgets an alias; returns its number.
    pub fn remove_alias(&mut self, allocator: u16, handle: (u64, bool)) -> Option<u32> {
        self.aliases.remove(&(allocator, handle))
    }

    /// Numbers a pool.
    pub fn add_pool(&mut self, allocator: u16, id: PoolId) -> u32 {
        let number = self.next_pool;
        self.next_pool = self.next_pool.wrapping_add(1);
        self.pools.insert((allocator, id), number);
        number
    }

    /// Returns the number of a pool.
    pub fn pool(&self, allocator: u16, id: PoolId) -> Option<u32> {
        self.pools.get(&(allocator, id)).copied()
    }

    /// Forgets a pool; returns its number.
    pub fn remove_pool(&mut self, allocator: u16, id: PoolId) -> Option<u32> {
        self.pools.remove(&(allocator, id))
    }

    /// Returns the number of a custom pool, or the memory type of a default one; `None` for a pool without a number.
    pub fn pool_of(&self, allocator: u16, key: PoolKey) -> Option<(Option<u32>, Option<u32>)> {
        match key {
            PoolKey::Default(memory_type) => Some((None, Some(memory_type))),
            PoolKey::Custom(id) => Some((Some(self.pool(allocator, id)?), None)),
        }
    }

    /// Numbers a memory object.
    pub fn add_memory(&mut self, allocator: u16, handle: MemoryHandle) -> u32 {
        let number = self.next_memory;
        self.next_memory = self.next_memory.wrapping_add(1);
        self.memories.insert((allocator, handle.0), number);
        number
    }

    /// Returns whether a memory object has a number.
    pub fn has_memory(&self, allocator: u16, handle: MemoryHandle) -> bool {
        self.memories.contains_key(&(allocator, handle.0))
    }

    /// Returns the number of a memory object; one that was there before the recording began gets its number now.
    pub fn memory(&mut self, allocator: u16, handle: MemoryHandle) -> u32 {
        match self.memories.get(&(allocator, handle.0)) {
            Some(number) => *number,
            None => self.add_memory(allocator, handle),
        }
    }

    /// Forgets a memory object; returns its number.
    pub fn remove_memory(&mut self, allocator: u16, handle: MemoryHandle) -> Option<u32> {
        self.memories.remove(&(allocator, handle.0))
    }

    /// Returns where an allocation is.
    pub fn placed(&mut self, allocator: u16, it: &Allocation) -> Placed {
        Placed {
            memory_type: Some(it.memory_type_index),
            memory: Some(self.memory(allocator, it.memory)),
            offset: it.offset,
            is_dedicated: it.is_dedicated(),
        }
    }

    /// Forgets all objects of an allocator, which was closed.
    pub fn forget(&mut self, allocator: u16) {
        self.allocations.retain(|key, _| key.0 != allocator);
        self.aliases.retain(|key, _| key.0 != allocator);
        self.pools.retain(|key, _| key.0 != allocator);
        self.memories.retain(|key, _| key.0 != allocator);
        self.counts.retain(|key, _| key.0 != allocator);
    }
}
