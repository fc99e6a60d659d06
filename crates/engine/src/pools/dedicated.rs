//! [`Dedicated`]: allocations with a memory object of their own.

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
    /// The resource that the memory object is dedicated to (`VkMemoryDedicatedAllocateInfo`): no other
    /// may be bound.
    target: Option<DedicatedTarget>,
    tag: RegionTag,
    /// The range of the allocation in bytes: the whole memory object, unless it was imported.
    offset: u64,
    size: u64,
}

/// The dedicated allocations of one pool.
#[derive(Default)]
pub struct Dedicated {
    inside: Mutex<Inside, rank::Dedicated>,
}

#[derive(Default)]
struct Inside {
    slots: SlotMap<Slot>,
    bytes: u64,
}

impl Inside {
    /// Returns whether all these allocations are live and not mapped.
    fn are_loose(&self, keys: &[SlotKey]) -> bool {
        keys.iter().all(|&key| {
            let tag = self.slots.get(key).map(|slot| slot.tag);
            tag.is_some_and(|tag| !tag.is_mapped())
        })
    }
}

impl Dedicated {
    /// Reserves host memory for one more allocation, so that a later failure does not have to undo a
    /// driver call.
    pub fn try_reserve(&self) -> Result<(), Error> {
        let reserved = self.inside.lock().slots.try_reserve();
        reserved.then_some(()).ok_or(Error::NoHostMemory("a dedicated allocation"))
    }

    /// Adds a memory object; the allocation is `size` bytes from `offset` on.
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

    /// Frees an allocation and returns its tag; `None` if the key is stale. The driver call is added to
    /// `release`.
    pub fn free(&self, key: SlotKey, release: &mut Release) -> Option<RegionTag> {
        let mut inside = self.inside.lock();
        let Slot { memory, tag, size, .. } = inside.slots.remove(key)?;
        inside.bytes -= size;
        drop(inside);
        // `vkFreeMemory` unmaps the memory.
        release.free(Lease::new(memory));
        Some(tag)
    }

    /// Returns whether an allocation is live and not mapped.
    pub(crate) fn is_loose(&self, key: SlotKey) -> bool {
        self.inside.lock().are_loose(&[key])
    }

    /// Frees allocations; false and nothing changed if one of them was freed or mapped meanwhile. `freed` gets the
    /// key and the tag of each.
    pub(crate) fn lose(
        &self,
        keys: &[SlotKey],
        release: &mut Release,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> bool {
        let mut inside = self.inside.lock();
        if !inside.are_loose(keys) {
            return false;
        }
        for &key in keys {
            let gone = inside.slots.remove(key).expect("it was live just now");
            inside.bytes -= gone.size;
            release.free(Lease::new(gone.memory));
            freed(key, gone.tag);
        }
        true
    }

    /// Replaces an allocation by another one with its memory object; `None` and nothing changed if it was freed or
    /// mapped meanwhile. `freed` gets its tag.
    pub(crate) fn replace(
        &self,
        key: SlotKey,
        kind: ResourceKind,
        freed: &mut dyn FnMut(RegionTag),
    ) -> Option<(SlotKey, Arc<MemoryObject>)> {
        let mut inside = self.inside.lock();
        if !inside.are_loose(&[key]) {
            return None;
        }
        let Slot { memory, tag, offset, size, .. } = inside.slots.remove(key)?;
        freed(tag);
        let tag = RegionTag::default();
        let slot = Slot { memory: memory.clone(), kind, target: None, tag, offset, size };
        Some((inside.slots.insert(slot), memory))
    }

    /// Changes the tag of an allocation; returns the result, its memory object, its offset there and its
    /// size in bytes.
    pub fn update_tag<R>(
        &self,
        key: SlotKey,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>, u64, u64)> {
        let mut inside = self.inside.lock();
        let slot = inside.slots.get_mut(key)?;
        Some((update(&mut slot.tag), slot.memory.clone(), slot.offset, slot.size))
    }

    /// Returns the memory object of an allocation and the resource it is dedicated to.
    pub fn memory(&self, key: SlotKey) -> Option<(Arc<MemoryObject>, Option<DedicatedTarget>)> {
        let inside = self.inside.lock();
        let slot = inside.slots.get(key)?;
        Some((slot.memory.clone(), slot.target))
    }

    /// Returns the number of live allocations and their bytes. O(1).
    pub fn live(&self) -> (u64, u64) {
        let inside = self.inside.lock();
        (inside.slots.len() as u64, inside.bytes)
    }

    /// Counts memory objects and allocations. O(slots).
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for (_, slot) in self.inside.lock().slots.iter() {
            statistics.add_block(slot.memory.size);
            statistics.add_allocation(slot.size);
        }
        statistics
    }

    /// Copies all allocations, under one lock. O(slots).
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
