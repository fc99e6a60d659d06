//! [`Pattern`]: the bytes that memory which nobody may write has to hold.

use crate::device::MemoryHandle;

/// The two highest bits of each byte.
const HIGH_BITS: u64 = 0xC0C0_C0C0_C0C0_C0C0;
/// The highest bit of each byte.
const HIGH_BIT: u64 = 0x8080_8080_8080_8080;

/// The finalizer of SplitMix64: each bit of the result depends on each bit of `value`.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The pattern of one memory object. Each byte depends on a key, on the memory object and on its offset there, so
/// that bytes that were copied from elsewhere, also from another margin, are told apart.
///
/// All bytes are from 0x80 to 0xBF: a single byte that is written over one of them is found for sure if it is zero,
/// all bits set, text, a small number, or what memory is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
    /// Where the offsets of the pattern begin in the memory object.
    start: u64,
}

/// Where memory differs from a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Offset in the memory object of the first byte that differs.
    pub offset: u64,
    /// Bytes from the first to the last one that differs.
    pub length: u64,
    /// Number of bytes that differ.
    pub count: u64,
}

impl Pattern {
    /// Returns the pattern of a memory object; `key` is the same for the life of an allocator.
    pub fn new(key: u64, memory: MemoryHandle) -> Self {
        Self { seed: mix(key ^ mix(memory.0 ^ 0x9E37_79B9_7F4A_7C15)), start: 0 }
    }

    /// Returns the pattern whose bytes depend on their distance from `start`, an offset in the memory object at or
    /// before all bytes that are asked for: it stays what it is where all of them move together.
    #[must_use]
    pub fn counted_from(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// Returns the eight bytes from an offset on that is a multiple of 8, the first one lowest.
    fn word(self, index: u64) -> u64 {
        let word = mix(self.seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        word & !HIGH_BITS | HIGH_BIT
    }

    /// Calls `run` with each eight bytes of a range, fewer at its end: where they begin in the range, their number,
    /// and the bytes of the pattern. Stops when it returns false.
    #[inline]
    fn words(self, offset: u64, length: usize, mut run: impl FnMut(usize, usize, u64) -> bool) {
        let from_start = offset - self.start;
        let (mut index, shift) = (from_start / 8, 8 * (from_start % 8) as u32);
        let mut low = self.word(index);
        let mut at = 0;
        while at < length {
            index += 1;
            let count = (length - at).min(8);
            // The last bytes may lie in one word.
            let needs_next = u64::from(shift / 8) + count as u64 > 8 || at + 8 < length;
            let high = if needs_next { self.word(index) } else { 0 };
            let bytes = if shift == 0 { low } else { low >> shift | high << (64 - shift) };
            if !run(at, count, bytes) {
                return;
            }
            low = high;
            at += 8;
        }
    }

    /// Writes the bytes from `offset` of the memory object on.
    pub fn fill(self, offset: u64, into: &mut [u8]) {
        self.words(offset, into.len(), |at, count, word| {
            into[at..at + count].copy_from_slice(&word.to_le_bytes()[..count]);
            true
        });
    }

    /// Returns whether bytes that were read from `offset` of the memory object on are the pattern.
    #[inline]
    pub fn is_at(self, offset: u64, found: &[u8]) -> bool {
        let mut is_same = true;
        self.words(offset, found.len(), |at, count, word| {
            let mut bytes = [0; 8];
            if count == 8 {
                bytes.copy_from_slice(&found[at..at + 8]);
            } else {
                bytes[..count].copy_from_slice(&found[at..at + count]);
            }
            let differs = (u64::from_le_bytes(bytes) ^ word) << (64 - 8 * count as u32);
            is_same = differs == 0;
            is_same
        });
        is_same
    }

    /// Compares bytes that were read from `offset` of the memory object on; `None` if they are the pattern.
    pub fn first_difference(self, offset: u64, found: &[u8]) -> Option<Difference> {
        if self.is_at(offset, found) {
            return None;
        }
        let mut ends: Option<(usize, usize, u64)> = None;
        self.words(offset, found.len(), |at, count, word| {
            for (place, expected) in (at..).zip(&word.to_le_bytes()[..count]) {
                if found[place] != *expected {
                    let (first, _, count) = ends.unwrap_or((place, place, 0));
                    ends = Some((first, place, count + 1));
                }
            }
            true
        });
        ends.map(|(first, last, count)| Difference {
            offset: offset + first as u64,
            length: (last - first) as u64 + 1,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: u64, memory: u64, offset: u64, length: usize) -> Vec<u8> {
        let mut all = vec![0; length];
        Pattern::new(key, MemoryHandle(memory)).fill(offset, &mut all);
        all
    }

    #[test]
    fn parts_of_a_range_are_those_of_the_whole() {
        let whole = bytes(7, 3, 0, 256);
        for start in 0..64 {
            for length in 0..40 {
                let part = &whole[start as usize..][..length];
                assert_eq!(bytes(7, 3, start, length), part);
                assert!(Pattern::new(7, MemoryHandle(3)).is_at(start, part));
            }
        }
    }

    #[test]
    fn a_pattern_that_is_counted_from_a_place_moves_with_it() {
        let (at, here) = (Pattern::new(7, MemoryHandle(3)), bytes(7, 3, 20, 40));
        for start in [0, 1, 8, 4097] {
            let moved = at.counted_from(start);
            assert!(moved.is_at(start + 20, &here));
            let mut changed = here.clone();
            changed[9] ^= 1;
            let expected = Difference { offset: start + 29, length: 1, count: 1 };
            assert_eq!(moved.first_difference(start + 20, &changed), Some(expected));
        }
    }

    #[test]
    fn bytes_that_programs_write_are_not_in_it() {
        let all = bytes(3, 8, 0, 1 << 16);
        assert!(all.iter().all(|byte| (0x80..0xC0).contains(byte)));
        assert_eq!((0x80..0xC0).filter(|byte| all.contains(byte)).count(), 64);
    }

    #[test]
    fn a_copy_from_another_place_is_found() {
        let pattern = Pattern::new(1, MemoryHandle(9));
        let whole = bytes(1, 9, 0, 1 << 16);
        for shift in (1..=4096).chain([8192, 32768]) {
            for length in [16, 64] {
                let copied = &whole[shift..shift + length];
                assert!(pattern.first_difference(0, copied).is_some(), "{shift}, {length}");
            }
        }
        for (key, memory) in [(2, 9), (1, 10), (0, 0)] {
            assert!(pattern.first_difference(0, &bytes(key, memory, 0, 16)).is_some());
        }
    }

    #[test]
    fn each_bit_that_changes_is_found_where_it_is() {
        let pattern = Pattern::new(5, MemoryHandle(u64::MAX));
        for offset in [0, 1, 7, 4093, u64::from(u32::MAX) + 3] {
            let mut found = vec![0; 35];
            pattern.fill(offset, &mut found);
            assert_eq!(pattern.first_difference(offset, &found), None);
            for at in 0..found.len() {
                for bit in 0..8 {
                    found[at] ^= 1 << bit;
                    let expected = Difference { offset: offset + at as u64, length: 1, count: 1 };
                    assert_eq!(pattern.first_difference(offset, &found), Some(expected));
                    found[at] ^= 1 << bit;
                }
            }
            found[3] ^= 1;
            found[30] ^= 0x80;
            let expected = Difference { offset: offset + 3, length: 28, count: 2 };
            assert_eq!(pattern.first_difference(offset, &found), Some(expected));
        }
    }
}
