//! [`VirtualBlocks`]: many virtual blocks as one, with an index of which may have room.
//!
//! A block that could not serve a size cannot serve any larger one until something in it is freed. So
//! each block is indexed by the largest size that it may still serve, and a request only tries blocks
//! whose index is at least its size. A failed try lowers the block's index; the cost of a failed try is
//! paid by the free or the new block that raised it.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::handle::SlotKey;
use crate::request::Algorithm;
use crate::virtual_block::block::{VirtualAllocation, VirtualBlock, VirtualRequest};

struct Entry {
    block: VirtualBlock,
    /// Upper bound of the size that the block has room for, in units.
    may_serve: u64,
}

/// Several virtual blocks with one algorithm and one alignment.
pub struct VirtualBlocks {
    algorithm: Algorithm,
    /// Minimum alignment of every offset.
    alignment: u64,
    /// Units before and behind each allocation that nobody may write.
    margin: u64,
    entries: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    /// The blocks by `may_serve`; the second number is the index in `entries`.
    filed: BTreeSet<(u64, u32)>,
    allocated: u64,
}

impl VirtualBlocks {
    /// Creates an empty set. All blocks use one algorithm, and every offset is a multiple of `alignment`;
    /// 0 means 1.
    pub fn new(algorithm: Algorithm, alignment: u64) -> Self {
        Self::with_margin(algorithm, alignment, 0)
    }

    /// Creates an empty set like [`new`](Self::new), whose blocks have margins; see [`VirtualBlock::with_margin`].
    pub fn with_margin(algorithm: Algorithm, alignment: u64, margin: u64) -> Self {
        let alignment = alignment.max(1);
        let (entries, vacant, filed) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { algorithm, alignment, margin, entries, vacant, filed, allocated: 0 }
    }

    /// Returns the size of all allocations in units. O(1).
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Adds a block of `size` units and returns its number; numbers of removed blocks are reused.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of 0 or 2^60 and more; [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// O(log *b*) for *b* blocks.
    pub fn add(&mut self, size: u64) -> Result<u32, Error> {
        let block = VirtualBlock::with_margin(size, self.algorithm, self.margin)?;
        let entries = self.entries.len();
        if self.entries.try_reserve(1).is_err() || self.vacant.try_reserve(entries + 1).is_err() {
            return Err(Error::NoHostMemory("a virtual block"));
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        self.entries[number as usize] = Some(Entry { block, may_serve: size });
        self.filed.insert((size, number));
        Ok(number)
    }

    /// Removes a block with all its allocations.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if there is no such block.
    ///
    /// # Time complexity
    /// O(log *b*) for *b* blocks.
    pub fn remove(&mut self, number: u32) -> Result<(), Error> {
        let slot = self.entries.get_mut(number as usize).ok_or(Error::UseAfterFree)?;
        let entry = slot.take().ok_or(Error::UseAfterFree)?;
        self.filed.remove(&(entry.may_serve, number));
        self.allocated -= entry.block.live().1;
        self.vacant.push(number);
        Ok(())
    }

    /// Allocates a range in any block; returns `None` if no block has room. Tries the block with the
    /// smallest sufficient `may_serve` first, so that others become empty.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of 0 or an alignment without a common multiple;
    /// [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// O(log *b*) amortised for *b* blocks, plus that of [`VirtualBlock::allocate`]: each failed try
    /// lowers `may_serve` of a block, which only `free` and `add` raise. O(*b* log *b*) in the worst
    /// case.
    pub fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
    ) -> Result<Option<(u32, VirtualAllocation)>, Error> {
        if size == 0 {
            return Err(Error::InvalidArgument("size is 0".into()));
        }
        let alignment = common_multiple(alignment.max(1), self.alignment)?;
        let request = VirtualRequest::new(size, alignment);
        let mut from = (size, 0);
        while let Some(&(may_serve, number)) = self.filed.range(from..).next() {
            let Some(entry) = &mut self.entries[number as usize] else { break };
            match entry.block.allocate(&request) {
                Ok(made) => {
                    self.allocated += size;
                    return Ok(Some((number, made)));
                }
                Err(Error::VirtualBlockFull { .. }) => {
                    // Every gap starts at the common alignment; a gap of the size plus what a larger
                    // alignment may skip and a larger margin takes would have been large enough.
                    let front = |alignment: u64| self.margin.div_ceil(alignment) * alignment;
                    let more = front(alignment) - front(self.alignment);
                    let skipped = match self.margin {
                        0 => alignment - self.alignment,
                        // A margin may end anywhere.
                        _ => alignment - 1,
                    };
                    let lower = size.saturating_add(skipped).saturating_add(more) - 1;
                    if lower < may_serve {
                        entry.may_serve = lower;
                        self.filed.remove(&(may_serve, number));
                        self.filed.insert((lower, number));
                    }
                    from = (may_serve, number + 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Frees a range; returns whether its block is now empty.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if there is no such block or the key is stale.
    ///
    /// # Time complexity
    /// O(log *b*) for *b* blocks, plus that of [`VirtualBlock::free`].
    pub fn free(&mut self, number: u32, key: SlotKey) -> Result<bool, Error> {
        let entry = self.entries.get_mut(number as usize).and_then(Option::as_mut);
        let entry = entry.ok_or(Error::UseAfterFree)?;
        let before = entry.block.live().1;
        entry.block.free(key)?;
        let (count, live) = entry.block.live();
        self.allocated -= before - live;
        let may_serve = entry.block.size() - live;
        self.filed.remove(&(entry.may_serve, number));
        self.filed.insert((may_serve, number));
        entry.may_serve = may_serve;
        Ok(count == 0)
    }

    /// Returns a live allocation of a block.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if there is no such block, or the key is stale.
    ///
    /// # Time complexity
    /// O(1).
    pub fn info(&self, number: u32, key: SlotKey) -> Result<VirtualAllocation, Error> {
        let entry = self.entries.get(number as usize).and_then(Option::as_ref);
        entry.ok_or(Error::UseAfterFree)?.block.info(key)
    }

    /// Calls `block` with number and size of each block, and after it `live` with the number and each of its
    /// allocations, by ascending offset. O(ranges).
    pub fn visit(
        &self,
        block: &mut dyn FnMut(u32, u64),
        live: &mut dyn FnMut(u32, VirtualAllocation),
    ) {
        for (number, entry) in (0u32..).zip(&self.entries) {
            let Some(entry) = entry else { continue };
            block(number, entry.block.size());
            entry.block.visit_live(&mut |it| live(number, it));
        }
    }

    /// Checks all invariants and returns the first one that is broken. O(ranges).
    pub fn validate(&self) -> Result<(), String> {
        let mut allocated = 0;
        for (number, entry) in (0u32..).zip(&self.entries) {
            let Some(entry) = entry else { continue };
            entry.block.validate()?;
            allocated += entry.block.live().1;
            if !self.filed.contains(&(entry.may_serve, number)) {
                return Err(format!("block {number} is not filed"));
            }
        }
        let count = self.entries.iter().flatten().count();
        if (count, allocated) == (self.filed.len(), self.allocated) {
            Ok(())
        } else {
            Err("blocks or what lives in them are counted wrongly".into())
        }
    }
}

/// Returns the least common multiple of two alignments.
fn common_multiple(one: u64, other: u64) -> Result<u64, Error> {
    if one.is_power_of_two() && other.is_power_of_two() {
        return Ok(one.max(other));
    }
    let (mut divisor, mut rest) = (one, other);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one / divisor).checked_mul(other).ok_or_else(|| {
        Error::InvalidArgument(format!("no offset but 0 is a multiple of {one} and of {other}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(blocks: &mut VirtualBlocks, size: u64) -> Option<(u32, VirtualAllocation)> {
        let found = blocks.allocate(size, 1).expect("a request that can be");
        blocks.validate().expect("sound");
        found
    }

    #[test]
    fn room_is_found_wherever_it_is() {
        for algorithm in Algorithm::ALL {
            let mut blocks = VirtualBlocks::new(algorithm, 16);
            assert!(place(&mut blocks, 64).is_none());
            let numbers: Vec<u32> = (0..50).map(|_| blocks.add(256).unwrap()).collect();
            let mut made: Vec<_> = (0..200).map(|_| place(&mut blocks, 64).unwrap()).collect();
            assert!(place(&mut blocks, 1).is_none());
            assert_eq!(blocks.allocated(), 200 * 64);
            // Frees each allocation and allocates it again, whichever block it was in.
            for _ in 0..made.len() {
                let (number, freed) = made.remove(0);
                blocks.free(number, freed.key).unwrap();
                assert_eq!(blocks.free(number, freed.key), Err(Error::UseAfterFree));
                let (found, again) = place(&mut blocks, 64).unwrap();
                assert_eq!((found, again.offset), (number, freed.offset));
                made.push((found, again));
            }
            blocks.remove(numbers[3]).unwrap();
            assert_eq!(blocks.remove(numbers[3]), Err(Error::UseAfterFree));
            assert_eq!(blocks.allocated(), 49 * 256);
            assert_eq!(blocks.add(512), Ok(numbers[3]));
            assert_eq!(place(&mut blocks, 500).map(|it| it.0), Some(numbers[3]));
        }
    }

    #[test]
    fn a_large_alignment_that_fails_hides_no_room() {
        let mut blocks = VirtualBlocks::new(Algorithm::Tlsf, 4);
        let block = blocks.add(96).unwrap();
        let (_, first) = place(&mut blocks, 4).unwrap();
        assert_eq!(blocks.allocate(64, 64).unwrap(), None);
        assert_eq!(place(&mut blocks, 92).map(|it| it.0), Some(block));
        assert!(place(&mut blocks, 4).is_none());
        assert_eq!(blocks.free(block, first.key), Ok(false));
        assert_eq!(place(&mut blocks, 4).map(|it| it.1.offset), Some(0));
    }

    #[test]
    fn strides_keep_the_common_alignment_too() {
        for algorithm in Algorithm::ALL {
            let mut blocks = VirtualBlocks::new(algorithm, 16);
            (0..3).for_each(|it| assert_eq!(blocks.add(4096), Ok(it)));
            let mut made = 0;
            for alignment in [12, 20, 36, 0, 1, 7].into_iter().cycle().take(60) {
                let Some((_, it)) = blocks.allocate(24, alignment).unwrap() else { break };
                assert!(it.offset.is_multiple_of(16), "{algorithm:?}");
                assert!(alignment == 0 || it.offset.is_multiple_of(alignment), "{algorithm:?}");
                blocks.validate().unwrap();
                made += 1;
            }
            assert_eq!(made, 60, "{algorithm:?}");
        }
    }

    #[test]
    fn a_stride_that_fails_hides_no_room() {
        let mut blocks = VirtualBlocks::new(Algorithm::Tlsf, 4);
        let block = blocks.add(96).unwrap();
        place(&mut blocks, 4).unwrap();
        assert_eq!(blocks.allocate(64, 36).unwrap(), None);
        assert_eq!(place(&mut blocks, 92).map(|it| it.0), Some(block));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut blocks = VirtualBlocks::new(Algorithm::Tlsf, 4);
        blocks.add(64).unwrap();
        for (size, alignment) in [(0, 1), (1, u64::MAX)] {
            let refused = blocks.allocate(size, alignment);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        }
        assert!(blocks.add(0).is_err());
        blocks.validate().unwrap();
    }
}
