//! Allocations with a memory object of their own.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::allocation::SlotMap;
use crate::memory_object::{MemoryObject, Release};
use crate::statistics::Statistics;
use crate::suballocator::{RegionKey, RegionTag};

struct Slot {
    memory: Arc<MemoryObject>,
    tag: RegionTag,
}

/// The dedicated allocations of one memory type.
#[derive(Default)]
pub struct Dedicated {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    slots: SlotMap<Slot>,
    bytes: u64,
}

impl Dedicated {
    /// Takes a memory object in.
    pub fn insert(&self, memory: Arc<MemoryObject>) -> RegionKey {
        let mut inside = self.inside.lock();
        inside.bytes += memory.size;
        inside.slots.insert(Slot { memory, tag: RegionTag::default() })
    }

    /// Frees one. What the driver has to do is in the [`Release`].
    pub fn free(&self, key: RegionKey) -> Option<(Release, RegionTag)> {
        let mut inside = self.inside.lock();
        let Slot { memory, tag } = inside.slots.remove(key)?;
        inside.bytes -= memory.size;
        drop(inside);
        let mut release = Release::default();
        // Vulkan unmaps what it frees.
        release.free(memory);
        Some((release, tag))
    }

    /// Changes the tag of one, and gives its memory.
    pub fn update_tag<R>(
        &self,
        key: RegionKey,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>)> {
        let mut inside = self.inside.lock();
        let slot = inside.slots.get_mut(key)?;
        Some((update(&mut slot.tag), slot.memory.clone()))
    }

    /// Live allocations and their bytes. O(1).
    pub fn live(&self) -> (u64, u64) {
        let inside = self.inside.lock();
        (inside.slots.len() as u64, inside.bytes)
    }

    /// Counts everything. O(slots).
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for (_, slot) in self.inside.lock().slots.iter() {
            statistics.add_block(slot.memory.size);
            statistics.add_allocation(slot.memory.size);
        }
        statistics
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        let mut release = Release::default();
        self.inside.get_mut().slots.iter().for_each(|(_, slot)| release.free(slot.memory.clone()));
    }
}
