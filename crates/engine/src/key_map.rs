//! [`KeyMap`]: tables by keys that no attacker chooses.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by ids, handles or other numbers that the library or the driver makes.
pub type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// Takes one multiplication a number. It does not resist collisions that are chosen on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        // An odd number without a pattern: the fractional part of the golden ratio.
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // Tables use the highest bits and the lowest ones; of a product only the highest depend on all of a number.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{AllocationId, PoolKey, SlotKey};

    /// The most keys that share a value of some bits, where a random function has 1 key a value.
    fn most_alike(keys: impl Iterator<Item = u64>, bits: impl Fn(u64) -> u64) -> usize {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        keys.for_each(|key| *counts.entry(bits(key)).or_default() += 1);
        counts.into_values().max().unwrap_or(0)
    }

    #[test]
    fn keys_of_the_library_spread_in_all_bits_that_tables_use() {
        use std::hash::{BuildHasher, Hash};
        fn hash(key: impl Hash) -> u64 {
            BuildHasherDefault::<KeyHasher>::default().hash_one(key)
        }
        let count = 1 << 12;
        let ids = (0..count).map(|at| {
            let key = SlotKey::new(at as u32, 2 * at as u32 + 1);
            hash(AllocationId::new(PoolKey::Default(3), false, key))
        });
        let one_slot = (0..count).map(|at| {
            let key = SlotKey::new(7, 2 * at as u32 + 1);
            hash(AllocationId::new(PoolKey::Default(3), false, key))
        });
        let handles = (0..count).map(|at| hash((1 << 56) + at));
        let addresses = (0..count).map(|at| hash(0x7F00_0000_0000 + at * 4096));
        for hashes in [ids.collect(), one_slot.collect(), handles.collect(), addresses.collect()] {
            let hashes: Vec<u64> = hashes;
            assert!(most_alike(hashes.iter().copied(), |it| it & (count - 1)) < 12);
            assert!(most_alike(hashes.iter().copied(), |it| it >> 57) < 4 * count as usize / 128);
        }
    }
}
