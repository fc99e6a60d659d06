//! Keys of regions, pools and allocations.

use std::num::NonZeroU64;

use crate::device::{HostAddress, MemoryHandle};

/// A slot and the generation in which it was taken, in one number: a key that was stored in halves
/// and is loaded as a whole waits for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey(u64);

impl SlotKey {
    /// The key of no region.
    pub const NONE: Self = Self(0);

    /// Makes the key of a slot and a generation.
    #[inline]
    pub fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot.
    #[inline]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// Odd while the region lives.
    #[inline]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The generation above, the slot below.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`to_bits`](Self::to_bits) gave.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A custom pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub SlotKey);

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
    pub key: SlotKey,
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
    pub fn new(home: Home, dedicated: bool, key: SlotKey) -> Self {
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
            _ => Home::Custom(PoolId(SlotKey::new(index, generation))),
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
