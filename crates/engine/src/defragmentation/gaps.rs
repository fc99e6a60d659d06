//! [`Gaps`]: free regions of some blocks by size, as a survey found them.
//!
//! The arena's own index cannot tell blocks apart: most of its entries of a size may lie in the blocks that
//! are being emptied. So a plan keeps the free regions of the blocks that stay, and checks each when it is
//! used. Size classes as in the arena's index, sixteen for each power of two.

use crate::suballocator::BlockIndex;
use crate::suballocator::moving::FreeRegion;

/// The fitting regions of a class that are compared, and the regions that are tried at all.
const COMPARED: usize = 4;
const TRIED: usize = 64;

/// Free regions by size class.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    classes: Vec<Vec<(BlockIndex, FreeRegion)>>,
    /// Bit c % 64 of word c / 64: class c has a region.
    used: [u64; 16],
}

fn class_of(size: u64) -> usize {
    let exponent = size.max(16).ilog2();
    (exponent as usize) << 4 | (size.max(16) >> (exponent - 4) & 15) as usize
}

impl Gaps {
    /// Adds a free region, if there is host memory.
    pub fn add(&mut self, block: BlockIndex, free: FreeRegion) {
        let class = class_of(free.size);
        if class >= self.classes.len() {
            let more = class + 1 - self.classes.len();
            if self.classes.try_reserve(more).is_err() {
                return;
            }
            self.classes.resize_with(class + 1, Vec::new);
        }
        let regions = &mut self.classes[class];
        if regions.try_reserve(1).is_ok() {
            regions.push((block, free));
            self.used[class / 64] |= 1 << (class % 64);
        }
    }

    /// Returns the regions, by size class.
    pub fn into_classes(self) -> Vec<Vec<(BlockIndex, FreeRegion)>> {
        self.classes
    }

    fn next_used(&self, class: usize) -> Option<usize> {
        let mut word = class / 64;
        let mut here = self.used.get(word)? & (!0 << (class % 64));
        while here == 0 {
            word += 1;
            here = *self.used.get(word)?;
        }
        Some(word * 64 + here.trailing_zeros() as usize)
    }

    fn remove(&mut self, class: usize, at: usize) {
        self.classes[class].swap_remove(at);
        if self.classes[class].is_empty() {
            self.used[class / 64] &= !(1 << (class % 64));
        }
    }

    /// Calls `place` with the smallest regions of at least `size` bytes in the blocks that are accepted, until
    /// one serves; that is removed. A region of `sure` bytes that does not serve is no longer there, and
    /// removed as well. O(1): a bounded number of regions is compared.
    pub fn place<T>(
        &mut self,
        (size, sure): (u64, u64),
        accepts: impl Fn(BlockIndex) -> bool,
        mut place: impl FnMut(BlockIndex, FreeRegion) -> Option<T>,
    ) -> Option<T> {
        let (mut class, mut tries) = (class_of(size), TRIED);
        let mut are_sure = false;
        while let Some(used) = self.next_used(class) {
            // Each that was tried is at or behind this place.
            let mut untried = self.classes[used].len();
            while tries > 0
                && let Some((at, (block, free))) = self.best(used, untried, size, &accepts)
            {
                tries -= 1;
                if let Some(placed) = place(block, free) {
                    self.remove(used, at);
                    return Some(placed);
                }
                if free.size >= sure {
                    self.remove(used, at);
                    untried = untried.min(self.classes[used].len());
                } else {
                    untried = at;
                }
            }
            class = used + 1;
            if tries == 0 {
                if are_sure {
                    return None;
                }
                // Many small ones between regions that are aligned, say, and none of them serves.
                (are_sure, tries) = (true, TRIED);
                class = class.max(class_of(sure));
            }
        }
        None
    }

    /// Returns the smallest of the last few fitting regions of a class before a place.
    fn best(
        &self,
        class: usize,
        before: usize,
        size: u64,
        accepts: &impl Fn(BlockIndex) -> bool,
    ) -> Option<(usize, (BlockIndex, FreeRegion))> {
        let regions = self.classes[class].get(..before)?;
        let last = regions.iter().copied().enumerate().rev().take(4 * COMPARED);
        let fits = last.filter(|(_, (block, free))| free.size >= size && accepts(*block));
        fits.take(COMPARED).min_by_key(|(_, (_, free))| free.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_serves_is_taken() {
        let mut gaps = Gaps::default();
        for size in [1000u64, 17, 64, 65, 1 << 40, 300] {
            gaps.add(BlockIndex(size as u32 % 3), FreeRegion { size, offset: 0, slot: 0 });
        }
        let take =
            |gaps: &mut Gaps, size| gaps.place((size, size), |_| true, |_, free| Some(free.size));
        assert_eq!(take(&mut gaps, 64), Some(64));
        assert_eq!(take(&mut gaps, 64), Some(65));
        assert_eq!(take(&mut gaps, 64), Some(300));
        assert_eq!(take(&mut gaps, 1), Some(17));
        assert_eq!(take(&mut gaps, 2000), Some(1 << 40));
        assert_eq!(take(&mut gaps, 1001), None);
        // What does not serve although it must is forgotten.
        assert_eq!(gaps.place((10, 10), |_| true, |_, _| None::<u64>), None);
        assert_eq!(take(&mut gaps, 10), None);
    }

    #[test]
    fn many_that_do_not_serve_hide_none_that_does() {
        let mut gaps = Gaps::default();
        for slot in 0..10 * TRIED as u32 {
            gaps.add(
                BlockIndex(0),
                FreeRegion { size: 20 + u64::from(slot % 40), offset: 0, slot },
            );
        }
        gaps.add(BlockIndex(1), FreeRegion { size: 1 << 20, offset: 0, slot: 0 });
        // As if each of the small ones were not aligned.
        let aligned = |_, free: FreeRegion| (free.size >= 100).then_some(free.size);
        assert_eq!(gaps.place((12, 100), |_| true, aligned), Some(1 << 20));
    }

    #[test]
    fn blocks_that_are_not_accepted_are_passed_over() {
        let mut gaps = Gaps::default();
        for block in 0..3 {
            gaps.add(BlockIndex(block), FreeRegion { size: 100, offset: 0, slot: block });
        }
        let found = gaps.place((50, 50), |block| block.0 == 1, |_, free| Some(free.slot));
        assert_eq!(found, Some(1));
        assert_eq!(gaps.place((50, 50), |block| block.0 == 1, |_, free| Some(free.slot)), None);
    }
}
