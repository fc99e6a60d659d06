//! [`Ranges`]: which addresses the allocator holds.

use std::collections::BTreeMap;

/// Disjoint ranges by their first address. Neighbours stay apart: each is a segment of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges<T> {
    by_start: BTreeMap<u64, (u64, T)>,
}

impl<T: Copy> Ranges<T> {
    /// Adds the range of `size` bytes from `start` on; `start + size` must be a number.
    pub fn insert(&mut self, start: u64, size: u64, value: T) {
        self.by_start.insert(start, (size, value));
    }

    /// Removes a range. Returns what was removed: those that overlap it, each as a whole, so that the caller adds what is
    /// left of them.
    pub fn take_overlapping(&mut self, start: u64, size: u64) -> Vec<(u64, u64, T)> {
        let end = start + size;
        let before = self.by_start.range(..start).next_back();
        let first = before.filter(|(at, (size, _))| **at + size > start).map_or(start, |it| *it.0);
        let found: Vec<u64> = self.by_start.range(first..end).map(|(at, _)| *at).collect();
        let mut taken = Vec::new();
        for at in found {
            let (size, value) = self.by_start.remove(&at).expect("it was found");
            taken.push((at, size, value));
        }
        taken
    }

    /// Returns start and value of the range that contains an address.
    pub fn find(&self, address: u64) -> Option<(u64, T)> {
        let (start, (size, value)) = self.by_start.range(..=address).next_back()?;
        (address - start < *size).then_some((*start, *value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, T)> {
        self.by_start.iter().map(|(start, (size, value))| (*start, *size, *value))
    }
}

/// Returns what is left of a range without another one: below and above it.
pub(super) fn without(range: (u64, u64), hole: (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let ((start, size), (from, length)) = (range, hole);
    let (end, to) = (start + size, from + length);
    [(start, from.clamp(start, end) - start), (to.clamp(start, end), end - to.clamp(start, end))]
        .into_iter()
        .filter(|(_, size)| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_found() {
        let mut ranges = Ranges::default();
        for start in [0, 10, 20] {
            ranges.insert(start, 10, start);
        }
        assert_eq!(ranges.find(19), Some((10, 10)));
        assert_eq!(ranges.find(30), None);
        assert_eq!(ranges.take_overlapping(15, 10), [(10, 10, 10), (20, 10, 20)]);
        assert_eq!(ranges.find(12), None);
        assert_eq!(Vec::from_iter(ranges.iter()), [(0, 10, 0)]);
        assert_eq!(Vec::from_iter(without((10, 10), (15, 10))), [(10, 5)]);
        assert_eq!(Vec::from_iter(without((10, 10), (12, 3))), [(10, 2), (15, 5)]);
        assert_eq!(without((10, 10), (0, 50)).count(), 0);
        assert_eq!(Vec::from_iter(without((10, 10), (50, 5))), [(10, 10)]);
    }
}
