//! Keys of regions, ids of pools and allocations, and the [`Allocation`] itself.

use std::num::NonZeroU64;

use crate::device::{HostAddress, MemoryHandle};

/// A slot and its generation as one 64-bit number: a key stored in two halves and loaded as a whole would
/// stall on store forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey(u64);

impl SlotKey {
    /// The key of no region.
    pub const NONE: Self = Self(0);

    /// Combines a slot and a generation.
    #[inline]
    pub fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// Returns the slot.
    #[inline]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// Returns the generation; odd for a key of a region.
    #[inline]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the key as a number: generation in the upper, slot in the lower 32 bits.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Creates a key from the result of [`to_bits`](Self::to_bits).
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The id of a custom pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub SlotKey);

/// The pool that an allocation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// The default pool of a memory type.
    Default(u32),
    /// A custom pool.
    Custom(PoolId),
}

/// The handle of an allocation: a slot and its generation. Copies are harmless; using a stale one is an
/// error.
///
/// It takes 16 bytes, because a program with many allocations stores many of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocationId {
    /// Slot and generation in its pool.
    pub key: SlotKey,
    /// Upper 32 bits: generation of a custom pool, or 0 for a default pool (no live pool has generation
    /// 0). Lower 32 bits: the pool's slot or the memory type, then one bit for dedicated memory. Stored
    /// inverted, so it is never 0 and an `Option` needs no extra space.
    place: NonZeroU64,
}

const _: () = assert!(size_of::<Option<AllocationId>>() == 16);

impl AllocationId {
    /// Creates the id of a slot in a pool, or of its dedicated memory if `dedicated`.
    ///
    /// # Panics
    /// If an allocator cannot return such a pool.
    #[inline]
    pub fn new(pool_key: PoolKey, dedicated: bool, key: SlotKey) -> Self {
        let (generation, index) = match pool_key {
            PoolKey::Default(index) => (0, index),
            PoolKey::Custom(PoolId(pool)) => {
                assert!(pool.generation() != 0, "no pool is {pool_key:?}");
                (pool.generation(), pool.index())
            }
        };
        assert!(index >> 31 == 0, "no pool is {pool_key:?}");
        let place = u64::from(generation) << 32 | u64::from(index << 1) | u64::from(dedicated);
        // The inverse is 0 only for the last life of the last of 2^31 pools.
        Self { key, place: NonZeroU64::new(!place).expect("fewer than 2^31 pools") }
    }

    /// Returns the pool.
    #[inline]
    pub fn pool_key(self) -> PoolKey {
        let place = !self.place.get();
        let (generation, index) = ((place >> 32) as u32, place as u32 >> 1);
        match generation {
            0 => PoolKey::Default(index),
            _ => PoolKey::Custom(PoolId(SlotKey::new(index, generation))),
        }
    }

    /// Returns whether the allocation has a memory object of its own.
    #[inline]
    pub fn is_dedicated(self) -> bool {
        self.place.get() & 1 == 0
    }
}

/// The address of the allocator's record of an allocation, to be prefetched before the allocation ends.
/// Not valid for anything else, because the record may have moved. 0 where it is not known, as for
/// dedicated memory. All hints compare equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheHint(pub u64);

impl PartialEq for CacheHint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CacheHint {}

/// An allocation: what it is and where. The fields that freeing reads come first, so that they share a
/// cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Allocation {
    /// The handle.
    pub id: AllocationId,
    /// The address to prefetch before it is freed.
    pub hint: CacheHint,
    /// Requested size in bytes.
    pub size: u64,
    /// The memory object that contains it.
    pub memory: MemoryHandle,
    /// Offset in that object, in bytes.
    pub offset: u64,
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Host address of its first byte, if it is persistently mapped.
    pub mapped: Option<HostAddress>,
}

impl Allocation {
    /// Returns whether the allocation has a memory object of its own.
    pub fn is_dedicated(&self) -> bool {
        self.id.is_dedicated()
    }
}
