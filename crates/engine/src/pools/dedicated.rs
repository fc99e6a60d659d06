//! [`Dedicated`]: allocations with a memory object of their own.

use std::sync::Arc;

use crate::debugging::guarded::{GuardedRange, GuardedUse};
use crate::debugging::options::DebugOptions;
use crate::device::DedicatedTarget;
use crate::error::Error;
use crate::handle::{AllocationId, PoolKey, SlotKey};
use crate::lock::{Mutex, rank};
use crate::pools::guarded_memory::{AllocationMemory, GuardedMemory};
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::quarantine::{Entry, Quarantine, Quarantines};
use crate::pools::snapshot::{DedicatedSnapshot, NO_ROOM, QuarantinedSnapshot};
use crate::recording::order::mark;
use crate::request::ResourceKind;
use crate::slot_map::SlotMap;
use crate::statistics::Statistics;
use crate::suballocator::RegionTag;

struct Slot {
    memory: Arc<MemoryObject>,
    lease: Arc<Lease>,
    kind: ResourceKind,
    /// The resource that the memory object is dedicated to (`VkMemoryDedicatedAllocateInfo`): no other
    /// may be bound.
    target: Option<DedicatedTarget>,
    tag: RegionTag,
    /// The range of the allocation in bytes: all of the memory object but the margins, unless it was imported.
    offset: u64,
    size: u64,
    /// Bytes of the margins before and behind it.
    margins: [u64; 2],
    /// Whether its margins hold the pattern.
    is_filled: bool,
}

/// What keeps the memory of a freed allocation in quarantine.
#[derive(Clone)]
pub(crate) struct HeldObject {
    pub memory: Arc<MemoryObject>,
    lease: Arc<Lease>,
    /// Offset of the allocation in bytes.
    pub offset: u64,
    margins: [u64; 2],
    is_filled: bool,
}

impl HeldObject {
    /// Returns the bytes on either side of the allocation that hold the pattern, if its margins are so large.
    pub fn margin(&self, bytes: u64) -> u64 {
        if self.is_filled && self.margins != [0, 0] { bytes } else { 0 }
    }
}

/// The dedicated allocations of one pool.
pub struct Dedicated {
    inside: Mutex<Inside, rank::Dedicated>,
    quarantines: Arc<Quarantines>,
    pool_key: PoolKey,
    /// The bytes on either side that are checked.
    margin: u64,
}

struct Inside {
    slots: SlotMap<Slot>,
    bytes: u64,
    /// Freed allocations whose memory is not given back yet, by the keys that they had.
    quarantine: Option<Quarantine<HeldObject>>,
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

impl Inside {
    fn statistics_of_quarantine(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for (_, entry) in self.quarantine.iter().flat_map(Quarantine::iter) {
            statistics.add_block(entry.memory.memory.size);
            statistics.add_quarantined(entry.size);
            let margins = entry.memory.margins.into_iter().filter(|&size| size != 0);
            margins.for_each(|size| statistics.add_margin(size));
        }
        statistics
    }
}

impl Dedicated {
    pub fn new(debug: &DebugOptions, quarantines: &Arc<Quarantines>, pool_key: PoolKey) -> Self {
        let quarantine = debug.quarantine.map(Quarantine::new);
        let inside = Mutex::new(Inside { slots: SlotMap::default(), bytes: 0, quarantine });
        Self { inside, quarantines: quarantines.clone(), pool_key, margin: debug.margin }
    }

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
        margins: [u64; 2],
    ) -> SlotKey {
        let mut inside = self.inside.lock();
        mark();
        inside.bytes += size;
        let tag = RegionTag::default();
        let (lease, is_filled) = (Lease::new(memory.clone()), false);
        let slot = Slot { memory, lease, kind, target, tag, offset, size, margins, is_filled };
        inside.slots.insert(slot)
    }

    /// Frees an allocation and returns its tag; `None` if the key is stale. The driver call is added to
    /// `release`. The memory goes to the quarantine, if the pool has one.
    pub fn free(&self, key: SlotKey, release: &mut Release) -> Option<RegionTag> {
        let mut inside = self.inside.lock();
        let inside = &mut *inside;
        let Slot { memory, lease, tag, size, offset, margins, is_filled, .. } =
            inside.slots.remove(key)?;
        mark();
        inside.bytes -= size;
        let mut quarantine = inside.quarantine.as_mut();
        if let Some(it) = &mut quarantine
            && !it.try_reserve()
        {
            quarantine = None;
        }
        match quarantine {
            Some(quarantine) => {
                let frame = self.quarantines.frame();
                let maps = u64::from(tag.map_count) + u64::from(tag.persistently_mapped);
                release.unmap(memory.clone(), maps);
                let memory = HeldObject { memory, lease, offset, margins, is_filled };
                quarantine.push(key, Entry { former: key, size, frame, memory });
                if quarantine.is_overdue(frame) {
                    release.end_overdue(self.quarantines.clone(), self.pool_key);
                }
            }
            // `vkFreeMemory` unmaps the memory.
            None => release.free(lease),
        }
        Some(tag)
    }

    /// Lets freed allocations leave the quarantine; see [`Quarantine::take_leaving`].
    pub(crate) fn take_leaving(&self, all: bool) -> Vec<(SlotKey, Entry<HeldObject>)> {
        let frame = self.quarantines.frame();
        let quarantine = &mut self.inside.lock().quarantine;
        quarantine.as_mut().map_or(Vec::new(), |it| it.take_leaving(frame, all))
    }

    /// Frees the memory of allocations that leave the quarantine.
    pub(crate) fn end_leaving(
        &self,
        leaving: Vec<(SlotKey, Entry<HeldObject>)>,
        release: &mut Release,
    ) {
        let mut inside = self.inside.lock();
        for (key, entry) in leaving {
            let removed = inside.quarantine.as_mut().and_then(|it| it.remove(key));
            debug_assert!(removed.is_some());
            release.free(entry.memory.lease);
        }
    }

    /// Notes that the margins of an allocation hold the pattern; returns false if the key is stale.
    pub(crate) fn note_filled(&self, key: SlotKey) -> bool {
        let mut inside = self.inside.lock();
        inside.slots.get_mut(key).map(|slot| slot.is_filled = true).is_some()
    }

    /// Adds the margins of all allocations, and what is in quarantine, to `found`; `false` without host memory.
    /// O(slots).
    pub(crate) fn guarded(&self, found: &mut Vec<GuardedMemory>) -> bool {
        let inside = self.inside.lock();
        let quarantined = inside.quarantine.iter().flat_map(Quarantine::iter);
        let count = inside.slots.len() + quarantined.clone().count();
        if found.try_reserve(count).is_err() {
            return false;
        }
        for (key, slot) in inside.slots.iter() {
            found.extend(self.guards(key, slot));
        }
        for (key, entry) in quarantined {
            let HeldObject { memory, lease, offset, margins, is_filled } = &entry.memory;
            let id = AllocationId::new(self.pool_key, true, key);
            let whole = (*offset, entry.size);
            let margins = if *is_filled { *margins } else { [0; 2] };
            let mut ranges = self.ranges(id, whole, margins);
            let quarantined = GuardedRange {
                offset: *offset,
                size: entry.size,
                is: GuardedUse::Quarantined,
                id: Some(id),
                neighbours: [None; 2],
            };
            // Between its margins.
            ranges.insert(ranges.len().min(1), quarantined);
            found.push(GuardedMemory::new(self.pool_key, memory.clone(), lease.clone(), ranges));
        }
        true
    }

    /// Returns the margins of an allocation; `None` if the key is stale.
    pub(crate) fn guarded_of(&self, key: SlotKey) -> Option<GuardedMemory> {
        let inside = self.inside.lock();
        let slot = inside.slots.get(key)?;
        let (memory, lease) = (slot.memory.clone(), slot.lease.clone());
        let none = GuardedMemory::new(self.pool_key, memory, lease, Vec::new());
        Some(self.guards(key, slot).unwrap_or(none))
    }

    /// Returns where an allocation and its margins lie; `None` if the key is stale.
    pub(crate) fn hold_memory_of(&self, key: SlotKey) -> Option<AllocationMemory> {
        let inside = self.inside.lock();
        let slot = inside.slots.get(key)?;
        let memory = (slot.memory.clone(), slot.lease.clone());
        let margin = if slot.margins == [0, 0] { 0 } else { self.margin };
        let id = AllocationId::new(self.pool_key, true, key);
        let margin = (margin, slot.is_filled && margin != 0);
        let place = (slot.offset, slot.size);
        Some(AllocationMemory::new(id, memory, place, margin))
    }

    /// Returns whether a freed allocation is in quarantine.
    pub(crate) fn is_quarantined(&self, key: SlotKey) -> bool {
        self.inside.lock().quarantine.as_ref().is_some_and(|it| it.contains(key))
    }

    fn guards(&self, key: SlotKey, slot: &Slot) -> Option<GuardedMemory> {
        if !slot.is_filled || slot.margins == [0, 0] {
            return None;
        }
        let id = AllocationId::new(self.pool_key, true, key);
        let ranges = self.ranges(id, (slot.offset, slot.size), slot.margins);
        Some(GuardedMemory::new(self.pool_key, slot.memory.clone(), slot.lease.clone(), ranges))
    }

    fn ranges(&self, id: AllocationId, place: (u64, u64), margins: [u64; 2]) -> Vec<GuardedRange> {
        match margins {
            [0, 0] => Vec::new(),
            _ => GuardedRange::margins_of(id, place, self.margin).into(),
        }
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
            release.free(gone.lease);
            freed(key, gone.tag);
        }
        true
    }

    /// Replaces an allocation by another one with its memory object; `None` and nothing changed if it was freed or
    /// mapped meanwhile. The memory object has the size of both with their margins. `freed` gets its tag.
    pub(crate) fn replace(
        &self,
        key: SlotKey,
        kind: ResourceKind,
        margins: [u64; 2],
        freed: &mut dyn FnMut(RegionTag),
    ) -> Option<(SlotKey, Arc<MemoryObject>)> {
        let mut inside = self.inside.lock();
        if !inside.are_loose(&[key]) {
            return None;
        }
        let gone = inside.slots.remove(key)?;
        mark();
        freed(gone.tag);
        let (memory, [offset, back]) = (gone.memory.clone(), margins);
        let size = memory.size - offset - back;
        inside.bytes = inside.bytes + size - gone.size;
        let tag = RegionTag::default();
        let slot =
            Slot { kind, target: None, tag, offset, size, margins, is_filled: false, ..gone };
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

    /// Calls `visit` with each memory object, under the lock.
    pub(crate) fn each_memory(&self, visit: &mut dyn FnMut(&MemoryObject)) {
        self.inside.lock().slots.iter().for_each(|(_, slot)| visit(&slot.memory));
    }

    /// Counts memory objects and allocations. O(slots).
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        let inside = self.inside.lock();
        for (_, slot) in inside.slots.iter() {
            statistics.add_block(slot.memory.size);
            statistics.add_allocation(slot.size);
            let margins = slot.margins.into_iter().filter(|&size| size != 0);
            margins.for_each(|size| statistics.add_margin(size));
        }
        statistics.add(&inside.statistics_of_quarantine());
        statistics
    }

    /// Copies all allocations and what is in quarantine, under one lock. O(*n* log *n*) for the latter.
    pub(crate) fn copy_for_dump(
        &self,
    ) -> Result<(Vec<DedicatedSnapshot>, Vec<QuarantinedSnapshot>), Error> {
        let inside = self.inside.lock();
        let mut copied = Vec::new();
        copied.try_reserve_exact(inside.slots.len()).map_err(|_| NO_ROOM)?;
        let copy = |(key, slot): (SlotKey, &Slot)| DedicatedSnapshot {
            key,
            memory_size: slot.memory.size,
            margins: slot.margins,
            named: slot.tag.named,
            kind: slot.kind,
        };
        copied.extend(inside.slots.iter().map(copy));
        let mut quarantined = Vec::new();
        let held = inside.quarantine.as_ref().map_or(0, |it| it.held().0 as usize);
        quarantined.try_reserve_exact(held).map_err(|_| NO_ROOM)?;
        let entries = inside.quarantine.iter().flat_map(Quarantine::iter);
        quarantined.extend(entries.map(|(_, entry)| QuarantinedSnapshot {
            size: entry.size,
            margins: entry.memory.margins,
            memory_size: entry.memory.memory.size,
        }));
        drop(inside);
        quarantined.sort_unstable();
        Ok((copied, quarantined))
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        let mut release = Release::default();
        let inside = self.inside.get_mut();
        let leases = inside.slots.iter().map(|(_, it)| it.lease.clone());
        leases.for_each(|it| release.free(it));
        let held = inside.quarantine.iter().flat_map(Quarantine::iter);
        held.for_each(|(_, it)| release.free(it.memory.lease.clone()));
        // The leases in the tables are no reason to keep the memory.
        inside.slots = SlotMap::default();
        inside.quarantine = None;
    }
}
