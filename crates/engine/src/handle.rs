//! Handles of allocations, and the slot map that catches stale ones.

use std::num::NonZeroU64;

use crate::device::{HostAddress, MemoryHandle};
use crate::suballocator::RegionKey;

/// A custom pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub RegionKey);

/// The pool in which an allocation lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// The default pool of a memory type.
    Default(u32),
    /// One that the caller made.
    Custom(PoolId),
}

/// What the caller holds: a slot and its generation. Copies are harmless, a stale one is an error.
///
/// 16 bytes, as who has many allocations has many of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocationId {
    /// Slot and generation in its home.
    pub key: RegionKey,
    /// The generation of a custom pool above, or 0, which no pool has while it lives; then its slot, or
    /// the memory type; then a bit for dedicated memory. All of it inverted: so it is never 0, and an
    /// `Option` takes no more.
    place: NonZeroU64,
}

const _: () = assert!(size_of::<Option<AllocationId>>() == 16);

impl AllocationId {
    /// Of a slot in a home, among those with a memory object of their own if `dedicated`.
    ///
    /// # Panics
    /// If the home is none that an allocator gives out.
    #[inline]
    pub fn new(home: Home, dedicated: bool, key: RegionKey) -> Self {
        let (generation, index) = match home {
            Home::Default(index) => (0, index),
            Home::Custom(PoolId(pool)) => {
                assert!(pool.generation() != 0, "no pool is {home:?}");
                (pool.generation(), pool.index())
            }
        };
        assert!(index >> 31 == 0, "no pool is {home:?}");
        let place = u64::from(generation) << 32 | u64::from(index << 1) | u64::from(dedicated);
        // Only the last life of all of the last pool of 2^31 could be 0.
        Self { key, place: NonZeroU64::new(!place).expect("fewer than 2^31 pools") }
    }

    /// Where to look.
    #[inline]
    pub fn home(self) -> Home {
        let place = !self.place.get();
        let (generation, index) = ((place >> 32) as u32, place as u32 >> 1);
        match generation {
            0 => Home::Default(index),
            _ => Home::Custom(PoolId(RegionKey::new(index, generation))),
        }
    }

    /// Whether it has a memory object of its own there.
    #[inline]
    pub fn is_dedicated(self) -> bool {
        self.place.get() & 1 == 0
    }
}

/// The address of what the allocator keeps of an allocation: to be fetched into the cache a while before
/// the allocation ends, and good for nothing else, as it may have moved since. 0 where it is not known, as of
/// dedicated memory or one of many. All are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheHint(pub u64);

impl PartialEq for CacheHint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CacheHint {}

/// What an allocation is and where. What its end asks for stands first, as that is all that is read of
/// most by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Allocation {
    /// The handle.
    pub id: AllocationId,
    /// What to fetch before it ends.
    pub hint: CacheHint,
    /// As requested, in bytes.
    pub size: u64,
    /// The memory object it lies in.
    pub memory: MemoryHandle,
    /// In that object, in bytes.
    pub offset: u64,
    /// Index into the device's types.
    pub memory_type_index: u32,
    /// Where a persistently mapped allocation starts in the host's address space.
    pub mapped: Option<HostAddress>,
}

impl Allocation {
    /// Whether it has a memory object of its own.
    pub fn is_dedicated(&self) -> bool {
        self.id.is_dedicated()
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under keys that go stale when their value is removed.
#[derive(Debug)]
pub struct SlotMap<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
}

impl<T> Default for SlotMap<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> SlotMap<T> {
    /// Takes memory for one value more, and for the end of it; false if there is none.
    #[must_use]
    pub fn try_reserve(&mut self) -> bool {
        let slots = self.slots.len() + 1;
        let vacant = slots - self.vacant.len();
        !self.vacant.is_empty()
            || (self.slots.try_reserve(1).is_ok() && self.vacant.try_reserve(vacant).is_ok())
    }

    /// Takes a value in. O(1), amortised. After [`try_reserve`](Self::try_reserve) it takes no memory.
    pub fn insert(&mut self, value: T) -> RegionKey {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 slots")
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.value = Some(value);
        RegionKey::new(index, slot.generation)
    }

    fn slot(&self, key: RegionKey) -> Option<&Slot<T>> {
        self.slots.get(key.index() as usize).filter(|slot| slot.generation == key.generation())
    }

    /// The value, unless the key is stale. O(1).
    pub fn get(&self, key: RegionKey) -> Option<&T> {
        self.slot(key)?.value.as_ref()
    }

    /// The value, unless the key is stale. O(1).
    pub fn get_mut(&mut self, key: RegionKey) -> Option<&mut T> {
        self.slot(key)?;
        self.slots[key.index() as usize].value.as_mut()
    }

    /// Takes the value out; the key is stale from now on. O(1).
    pub fn remove(&mut self, key: RegionKey) -> Option<T> {
        self.slot(key)?;
        let slot = &mut self.slots[key.index() as usize];
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(key.index());
        Some(value)
    }

    /// All keys and values. O(slots).
    pub fn iter(&self) -> impl Iterator<Item = (RegionKey, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = RegionKey::new(index as u32, slot.generation);
            Some((key, slot.value.as_ref()?))
        })
    }

    /// How many values there are. O(1).
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Whether there are none. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_is_stale_for_ever() {
        let mut map = SlotMap::default();
        let a = map.insert("a");
        assert_eq!(map.get(a), Some(&"a"));
        assert_eq!(map.remove(a), Some("a"));
        assert_eq!(map.remove(a), None);
        let b = map.insert("b");
        assert_eq!(b.index(), a.index());
        assert_eq!(map.get(a), None);
        assert_eq!(map.get_mut(b), Some(&mut "b"));
        assert_eq!((map.len(), map.is_empty()), (1, false));
        assert_eq!(map.iter().count(), 1);
        let (c, d) = (map.insert("c"), map.insert("d"));
        assert_eq!(map.remove(c), Some("c"));
        assert!(map.get(d).is_some());
    }
}
