//! Allocations with a memory object of their own.

use std::sync::Arc;

use crate::device::DedicatedTarget;
use crate::error::Error;
use crate::handle::SlotKey;
use crate::lock::{Mutex, rank};
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::snapshot::{DedicatedSnapshot, NO_ROOM};
use crate::request::ResourceKind;
use crate::slot_map::SlotMap;
use crate::statistics::Statistics;
use crate::suballocator::RegionTag;

struct Slot {
    memory: Arc<MemoryObject>,
    kind: ResourceKind,
    /// What the memory object names (`VkMemoryDedicatedAllocateInfo`): nothing else may be bound.
    target: Option<DedicatedTarget>,
    tag: RegionTag,
    /// The whole object, but for what others made.
    offset: u64,
    size: u64,
}

/// The dedicated allocations of one memory type.
#[derive(Default)]
pub struct Dedicated {
    inside: Mutex<Inside, rank::Dedicated>,
}

#[derive(Default)]
struct Inside {
    slots: SlotMap<Slot>,
    bytes: u64,
}

impl Dedicated {
    /// Takes memory for one allocation more, so that nothing has to be undone later.
    pub fn try_reserve(&self) -> Result<(), Error> {
        let reserved = self.inside.lock().slots.try_reserve();
        reserved.then_some(()).ok_or(Error::NoHostMemory("a dedicated allocation"))
    }

    /// Takes a memory object in, and what it names; `size` bytes from `offset` on are the allocation.
    pub fn insert(
        &self,
        memory: Arc<MemoryObject>,
        kind: ResourceKind,
        target: Option<DedicatedTarget>,
        offset: u64,
        size: u64,
    ) -> SlotKey {
        let mut inside = self.inside.lock();
        inside.bytes += size;
        inside.slots.insert(Slot { memory, kind, target, tag: RegionTag::default(), offset, size })
    }

    /// Frees one; `None` if the key is stale. What the driver has to do goes to the [`Release`].
    pub fn free(&self, key: SlotKey, release: &mut Release) -> Option<RegionTag> {
        let mut inside = self.inside.lock();
        let Slot { memory, tag, size, .. } = inside.slots.remove(key)?;
        inside.bytes -= size;
        drop(inside);
        // Vulkan unmaps what it frees.
        release.free(Lease::new(memory));
        Some(tag)
    }

    /// Changes the tag of one, and gives its memory, its offset there and its size.
    pub fn update_tag<R>(
        &self,
        key: SlotKey,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>, u64, u64)> {
        let mut inside = self.inside.lock();
        let slot = inside.slots.get_mut(key)?;
        Some((update(&mut slot.tag), slot.memory.clone(), slot.offset, slot.size))
    }

    /// The memory of one and what it names.
    pub fn memory(&self, key: SlotKey) -> Option<(Arc<MemoryObject>, Option<DedicatedTarget>)> {
        let inside = self.inside.lock();
        let slot = inside.slots.get(key)?;
        Some((slot.memory.clone(), slot.target))
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
            statistics.add_allocation(slot.size);
        }
        statistics
    }

    /// All of them at one moment. O(slots).
    pub(crate) fn copy_for_dump(&self) -> Result<Vec<DedicatedSnapshot>, Error> {
        let inside = self.inside.lock();
        let mut copied = Vec::new();
        copied.try_reserve_exact(inside.slots.len()).map_err(|_| NO_ROOM)?;
        let copy = |(key, slot): (SlotKey, &Slot)| DedicatedSnapshot {
            key,
            size: slot.memory.size,
            named: slot.tag.named,
            kind: slot.kind,
        };
        copied.extend(inside.slots.iter().map(copy));
        Ok(copied)
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        let mut release = Release::default();
        let leases =
            self.inside.get_mut().slots.iter().map(|(_, it)| Lease::new(it.memory.clone()));
        leases.for_each(|it| release.free(it));
    }
}
