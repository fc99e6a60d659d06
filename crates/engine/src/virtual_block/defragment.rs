//! Defragmentation of a virtual block: all moves at once, in an order in which they can be copied one after
//! the other.

use std::collections::{BTreeMap, BTreeSet};

use super::block::VirtualBlock;
use crate::error::Error;
use crate::handle::SlotKey;
use crate::request::{Algorithm, DefragmentationAlgorithm as Way};
use crate::suballocator::moving::{Met, MovableRegion, Walk};

const NO_MEMORY: Error = Error::NoHostMemory("the moves of a virtual block");

/// A move within a virtual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualMove {
    /// The handle of the allocation, which stays valid.
    pub key: SlotKey,
    /// Offset before the move, in the caller's unit.
    pub old_offset: u64,
    /// Offset after the move, in the caller's unit; less than before.
    pub new_offset: u64,
    /// Size in the caller's unit.
    pub size: u64,
}

impl VirtualBlock {
    /// Moves allocations down and returns the moves, in an order in which they can be copied one after the
    /// other. A destination may overlap its own source, but nothing that is copied later. Handles stay valid;
    /// offsets and sizes in the block are those after all moves.
    ///
    /// `Fast` moves into free ranges that exist. `Balanced` also slides allocations down over a free range of
    /// at least half their size. `Full` and `Extensive` slide all together, so only what alignments require
    /// stays free below the last one; no allocation moves twice. The buddy algorithm, whose ranges are powers
    /// of two, joins free ranges until no two of one size are left, whichever of these is given; there an
    /// allocation may move once for each power of two.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] for the linear algorithm, whose order is the caller's;
    /// [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// O(*n* log *n*) for *n* allocations; `Full` and `Extensive` with TLSF: O(*n*).
    pub fn defragment(&mut self, way: Way) -> Result<Vec<VirtualMove>, Error> {
        let regions = self.regions_by_offset()?;
        let mut layout = Layout { regions, moves: Vec::new() };
        let reserved = layout.moves.try_reserve_exact(layout.regions.len());
        reserved.map_err(|_| NO_MEMORY)?;
        match (self.algorithm(), way) {
            (Algorithm::Buddy, _) => layout.join_buddies(self.size()),
            (_, Way::Full | Way::Extensive) => layout.slide(|_, _| true),
            (_, Way::Fast) => layout.fill_gaps(self.size()),
            (_, Way::Balanced) => {
                layout.fill_gaps(self.size());
                layout.slide(|region, gap| gap >= region.footprint / 2);
            }
        }
        if layout.moves.is_empty() {
            return Ok(layout.moves);
        }
        layout.regions.sort_unstable_by_key(|region| region.offset);
        let mut places = Vec::new();
        places.try_reserve_exact(layout.regions.len()).map_err(|_| NO_MEMORY)?;
        places.extend(layout.regions.iter().map(|region| (region.key, region.offset)));
        let (block, suballocator) = self.parts();
        let done = suballocator.moving().is_some_and(|it| it.rearrange(block, &places));
        if !done {
            return Err(NO_MEMORY);
        }
        for it in &mut layout.moves {
            // A move leaves as many units before each of them as there were.
            let (offset, size) = self.payload(it.key, it.old_offset, it.size);
            it.new_offset += offset - it.old_offset;
            (it.old_offset, it.size) = (offset, size);
        }
        Ok(layout.moves)
    }

    fn regions_by_offset(&mut self) -> Result<Vec<MovableRegion>, Error> {
        let (count, _) = self.live();
        let (block, suballocator) = self.parts();
        let Some(moving) = suballocator.moving() else {
            let reason = "a virtual block with the linear algorithm cannot be defragmented";
            return Err(Error::FeatureNotPresent(reason.into()));
        };
        let mut regions = Vec::new();
        regions.try_reserve_exact(count as usize).map_err(|_| NO_MEMORY)?;
        let walk = moving.walk(block, None, usize::MAX, &mut |met| {
            if let Met::Live(region) = met {
                regions.push(*region);
            }
            true
        });
        debug_assert_eq!(walk, Walk::Done);
        regions.sort_unstable_by_key(|region| region.offset);
        Ok(regions)
    }
}

/// The regions of a block, at the offsets that they will have after the moves so far.
struct Layout {
    /// At first by ascending offset.
    regions: Vec<MovableRegion>,
    moves: Vec<VirtualMove>,
}

/// Free ranges by offset and by size.
#[derive(Default)]
struct Gaps {
    by_offset: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl Gaps {
    fn add(&mut self, start: u64, end: u64) {
        if start < end {
            self.by_offset.insert(start, end - start);
            self.by_size.insert((end - start, start));
        }
    }

    fn remove(&mut self, start: u64) -> u64 {
        let size = self.by_offset.remove(&start).unwrap_or(0);
        self.by_size.remove(&(size, start));
        size
    }

    /// Returns the start of the range that ends at an offset, and the end of the one that begins at another.
    fn around(&self, start: u64, end: u64) -> (u64, u64) {
        let before = self.by_offset.range(..start).next_back();
        let before = before.filter(|&(&from, &size)| from + size == start);
        let after = self.by_offset.get(&end).copied().unwrap_or(0);
        (before.map_or(start, |(&from, _)| from), end + after)
    }

    /// Frees a range and joins it with those beside it.
    fn free(&mut self, start: u64, end: u64) {
        let (from, to) = self.around(start, end);
        self.remove(from);
        self.remove(end);
        self.add(from, to);
    }
}

fn square(size: u64) -> u128 {
    u128::from(size) * u128::from(size)
}

impl Layout {
    fn shift(&mut self, at: usize, new_offset: u64) {
        let region = &mut self.regions[at];
        let (key, size) = (region.key, region.size);
        self.moves.push(VirtualMove { key, old_offset: region.offset, new_offset, size });
        region.offset = new_offset;
    }

    /// Moves regions, the highest first, into the smallest free range below them that fits, if that joins
    /// free memory.
    fn fill_gaps(&mut self, size: u64) {
        let (mut gaps, mut end) = (Gaps::default(), 0);
        for region in &self.regions {
            gaps.add(end, region.offset);
            end = region.offset + region.footprint;
        }
        gaps.add(end, size);
        for at in (0..self.regions.len()).rev() {
            let region = self.regions[at];
            let (start, end) = (region.offset, region.offset + region.footprint);
            let place = gaps.by_size.range((region.footprint, 0)..).find_map(|&(size, from)| {
                let offset = from.next_multiple_of(region.alignment);
                let fits = offset + region.footprint <= from + size && from < start;
                fits.then_some((from, size, offset))
            });
            let Some((from, size, offset)) = place else { continue };
            let (before, after) = gaps.around(start, end);
            let joined = after - before;
            let gain = square(joined)
                + square(offset - from)
                + square(from + size - offset - region.footprint);
            let loss = square(size) + square(start - before) + square(after - end);
            // What lies directly below is no other range, so moving into it joins it with what is above.
            let joins = if from == before { after > end } else { gain > loss };
            if !joins {
                continue;
            }
            gaps.remove(from);
            gaps.add(from, offset);
            gaps.add(offset + region.footprint, from + size);
            gaps.free(start, end);
            self.shift(at, offset);
        }
    }

    /// Slides regions that have not moved yet down, the lowest first, where `wanted` says so about a region
    /// and the free units below it.
    fn slide(&mut self, wanted: impl Fn(&MovableRegion, u64) -> bool) {
        let moved: BTreeSet<SlotKey> = self.moves.iter().map(|it| it.key).collect();
        self.regions.sort_unstable_by_key(|region| region.offset);
        let mut end = 0u64;
        for at in 0..self.regions.len() {
            let region = self.regions[at];
            let lowest = end.next_multiple_of(region.alignment);
            let can = lowest < region.offset && !moved.contains(&region.key);
            if can && wanted(&region, region.offset - lowest) {
                self.shift(at, lowest);
            }
            end = self.regions[at].offset + region.footprint;
        }
    }

    /// Joins free ranges of the buddy system: of two of one size, the lower one takes what lies in the buddy
    /// of the other.
    fn join_buddies(&mut self, size: u64) {
        let orders = size.ilog2() as usize + 1;
        let mut free: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); orders];
        let (mut live, mut end) = (BTreeMap::new(), 0);
        let usable = 1u64 << size.ilog2();
        for (at, region) in self.regions.iter().enumerate() {
            split_range(end, region.offset, &mut free);
            end = region.offset + region.footprint;
            live.insert(region.offset, at);
        }
        split_range(end, usable, &mut free);
        for order in 0..orders {
            let size = 1u64 << order;
            while let Some(&to) = free[order].first() {
                // The highest one whose buddy can be moved.
                let can_move = |from: u64| {
                    live.range(from..from + size).all(|(offset, &at): (&u64, &usize)| {
                        let new_offset = to + (offset - from);
                        new_offset.is_multiple_of(self.regions[at].alignment)
                    })
                };
                let found = free[order].iter().rev().copied();
                let found = found.take_while(|&it| it != to).find(|&it| can_move(it ^ size));
                let Some(beside) = found else { break };
                let from = beside ^ size;
                let inside: Vec<(u64, usize)> =
                    live.range(from..from + size).map(|(&offset, &at)| (offset, at)).collect();
                for (offset, at) in inside {
                    live.remove(&offset);
                    live.insert(to + (offset - from), at);
                    self.shift(at, to + (offset - from));
                }
                for lower in &mut free[..order] {
                    let inside: Vec<u64> = lower.range(from..from + size).copied().collect();
                    for offset in inside {
                        lower.remove(&offset);
                        lower.insert(to + (offset - from));
                    }
                }
                free[order].remove(&to);
                free[order].remove(&beside);
                let (mut start, mut order) = (from.min(beside), order + 1);
                while free[order].remove(&(start ^ 1 << order)) {
                    start &= !(1 << order);
                    order += 1;
                }
                free[order].insert(start);
            }
        }
    }
}

/// Adds a free range to the free ranges of powers of two at multiples of their size.
fn split_range(mut start: u64, end: u64, free: &mut [BTreeSet<u64>]) {
    while start < end {
        let fits = (end - start).ilog2();
        let order = if start == 0 { fits } else { fits.min(start.trailing_zeros()) };
        free[order as usize].insert(start);
        start += 1 << order;
    }
}
