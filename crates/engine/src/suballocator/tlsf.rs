//! Two-level segregated fit over all blocks of an arena.
//!
//! ```text
//!   first level     one bit a power of two         ...0001 0110
//!                                                       |  ||
//!   second level    32 bits, linear steps         [..1.....1...]        <- any class non-empty?
//!                                                    |     |
//!   heads           free list of the class         node   node -> node  <- nodes of *any* block
//! ```
//!
//! After Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time
//! systems" (2004), with three changes: the nodes stand beside the memory, one index spans all
//! blocks, and a bounded look into the request's own size class comes before the class that is sure
//! to fit, which makes the fit much tighter at constant cost.

use super::granularity::{Gap, Neighbour, align_up, place_in_gap};
use super::region::{MAX_SIZE, NONE, RegionTable};
use super::{
    BlockIndex, FreedRegion, Placement, RegionKey, RegionRequest, RegionView, Suballocator,
};
use crate::request::{ResourceKind, Strategy};

const SECOND_LEVEL_BITS: u32 = 5;
const SECOND_LEVELS: usize = 1 << SECOND_LEVEL_BITS;
const FIRST_LEVELS: usize = 64 - SECOND_LEVEL_BITS as usize;

/// Candidates looked at in the request's own class, where only some fit.
const LOOK_OWN_CLASS: u32 = 4;
/// The same for `MIN_MEMORY`, which takes the best of them.
const LOOK_BEST_FIT: u32 = 16;
/// Candidates looked at in larger classes before the one that is sure to fit.
const LOOK_ABOVE: u32 = 4;
/// Candidates looked at before giving up: far cheaper than a call of the driver.
const LOOK_LAST: u32 = 512;

#[derive(Debug)]
struct Block {
    size: u64,
    /// The region at offset 0.
    first: u32,
    live: u32,
    used: bool,
}

/// A place found by a search, not yet taken.
#[derive(Clone, Copy)]
struct Candidate {
    node: u32,
    offset: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Tlsf {
    regions: RegionTable,
    blocks: Vec<Block>,
    vacant_blocks: Vec<u32>,
    first_level: u64,
    second_level: [u32; FIRST_LEVELS],
    heads: Box<[[u32; SECOND_LEVELS]]>,
    /// Sizes and offsets of regions are multiples of it, but for the end of a block.
    granule: u64,
    /// `bufferImageGranularity`.
    granularity: u64,
}

impl Tlsf {
    /// Without blocks. Both are powers of two: sizes are rounded up to `granule` bytes, and
    /// `granularity` is the page that conflicting kinds must not share; 1 switches it off.
    pub fn new(granule: u64, granularity: u64) -> Self {
        assert!(granule.is_power_of_two() && granularity.is_power_of_two());
        Self {
            regions: RegionTable::default(),
            blocks: Vec::new(),
            vacant_blocks: Vec::new(),
            first_level: 0,
            second_level: [0; FIRST_LEVELS],
            heads: vec![[NONE; SECOND_LEVELS]; FIRST_LEVELS].into_boxed_slice(),
            granule,
            granularity,
        }
    }

    /// The class that holds free regions of `size`.
    fn class_of(size: u64) -> (usize, usize) {
        if size < SECOND_LEVELS as u64 {
            return (0, size as usize);
        }
        let log2 = size.ilog2();
        let second = (size >> (log2 - SECOND_LEVEL_BITS)) as usize & (SECOND_LEVELS - 1);
        ((log2 - SECOND_LEVEL_BITS + 1) as usize, second)
    }

    /// The first class all of whose regions are at least `size`.
    fn class_at_least(size: u64) -> (usize, usize) {
        if size < SECOND_LEVELS as u64 {
            return Self::class_of(size);
        }
        let step = 1u64 << (size.ilog2() - SECOND_LEVEL_BITS);
        Self::class_of(size.saturating_add(step - 1))
    }

    fn class_after((first, second): (usize, usize)) -> (usize, usize) {
        if second + 1 < SECOND_LEVELS { (first, second + 1) } else { (first + 1, 0) }
    }

    /// The first class with a region in it, from `class` on.
    fn next_used_class(&self, (first, second): (usize, usize)) -> Option<(usize, usize)> {
        if first >= FIRST_LEVELS {
            return None;
        }
        let here = self.second_level[first] & (!0u32 << second);
        if here != 0 {
            return Some((first, here.trailing_zeros() as usize));
        }
        let above = self.first_level & (!0u64).checked_shl(first as u32 + 1).unwrap_or(0);
        if above == 0 {
            return None;
        }
        let first = above.trailing_zeros() as usize;
        Some((first, self.second_level[first].trailing_zeros() as usize))
    }

    fn link(&mut self, index: u32) {
        let (first, second) = Self::class_of(self.regions.node(index).size());
        let head = self.heads[first][second];
        let node = self.regions.node_mut(index);
        node.set_previous_free(NONE);
        node.set_next_free(head);
        if head != NONE {
            self.regions.node_mut(head).set_previous_free(index);
        }
        self.heads[first][second] = index;
        self.second_level[first] |= 1 << second;
        self.first_level |= 1 << first;
    }

    fn unlink(&mut self, index: u32) {
        let node = self.regions.node(index);
        let (before, after) = (node.previous_free(), node.next_free());
        if after != NONE {
            self.regions.node_mut(after).set_previous_free(before);
        }
        if before != NONE {
            self.regions.node_mut(before).set_next_free(after);
            return;
        }
        let (first, second) = Self::class_of(self.regions.node(index).size());
        self.heads[first][second] = after;
        if after == NONE {
            self.second_level[first] &= !(1 << second);
            if self.second_level[first] == 0 {
                self.first_level &= !(1 << first);
            }
        }
    }

    /// The offset at which the request fits into a free region, if it does.
    fn fit(&self, index: u32, size: u64, request: &RegionRequest) -> Option<u64> {
        let node = self.regions.node(index);
        if node.size() < size {
            return None;
        }
        if self.granularity == 1 {
            let offset = align_up(node.offset, request.alignment)?;
            return (offset.checked_add(size)? <= node.end()).then_some(offset);
        }
        // Free neighbours are always merged, so the nodes on both sides are live.
        let neighbour = |index: u32, before: bool| {
            (index != NONE).then(|| {
                let node = self.regions.node(index);
                Neighbour { edge: if before { node.end() } else { node.offset }, kind: node.kind() }
            })
        };
        let gap = Gap {
            start: node.offset,
            end: node.end(),
            before: neighbour(node.previous, true),
            after: neighbour(node.next, false),
        };
        place_in_gap(&gap, size, request.alignment, request.kind, self.granularity)
    }

    /// The first, or the smallest, of the first `look` regions of a class that fits.
    fn look_in_class(
        &self,
        (first, second): (usize, usize),
        size: u64,
        request: &RegionRequest,
        look: &mut u32,
        best: bool,
    ) -> Option<Candidate> {
        let mut index = self.heads[first][second];
        let mut found: Option<(u64, Candidate)> = None;
        while index != NONE && *look > 0 {
            *look -= 1;
            let node = self.regions.node(index);
            let node_size = node.size();
            if found.is_none_or(|(smallest, _)| node_size < smallest)
                && let Some(offset) = self.fit(index, size, request)
            {
                found = Some((node_size, Candidate { node: index, offset }));
                if !best || node_size == size {
                    break;
                }
            }
            index = node.next_free();
        }
        found.map(|(_, candidate)| candidate)
    }

    /// The classes from `class` on, at most `look` regions in all.
    fn look_upwards(
        &self,
        mut class: (usize, usize),
        size: u64,
        request: &RegionRequest,
        mut look: u32,
        best: bool,
    ) -> Option<Candidate> {
        while look > 0 {
            class = self.next_used_class(class)?;
            if let Some(found) = self.look_in_class(class, size, request, &mut look, best) {
                return Some(found);
            }
            class = Self::class_after(class);
        }
        None
    }

    /// A region so large that alignment and pages cannot matter.
    fn look_sure(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        let mut worst = size.checked_add((request.alignment - 1) & !(self.granule - 1))?;
        if self.granularity > 1 {
            // One page lost at either end.
            worst = worst.checked_add(2 * self.granularity)?;
        }
        let (first, second) = self.next_used_class(Self::class_at_least(worst))?;
        let node = self.heads[first][second];
        self.fit(node, size, request).map(|offset| Candidate { node, offset })
    }

    fn look_lowest_offset(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        for block in self.blocks.iter().filter(|block| block.used) {
            let mut index = block.first;
            while index != NONE {
                let node = self.regions.node(index);
                if node.is_free()
                    && let Some(offset) = self.fit(index, size, request)
                {
                    return Some(Candidate { node: index, offset });
                }
                index = node.next;
            }
        }
        None
    }

    fn search(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        let own = Self::class_of(size);
        let above = Self::class_after(own);
        let quick = match request.strategy {
            Strategy::MinOffset => return self.look_lowest_offset(size, request),
            Strategy::MinTime => self.look_sure(size, request),
            Strategy::Balanced => self
                .look_in_class(own, size, request, &mut { LOOK_OWN_CLASS }, false)
                .or_else(|| self.look_upwards(above, size, request, LOOK_ABOVE, false))
                .or_else(|| self.look_sure(size, request)),
            Strategy::MinMemory => self
                .look_in_class(own, size, request, &mut { LOOK_BEST_FIT }, true)
                .or_else(|| self.look_upwards(above, size, request, LOOK_BEST_FIT, true))
                .or_else(|| self.look_sure(size, request)),
        };
        quick.or_else(|| self.look_upwards(own, size, request, LOOK_LAST, false))
    }

    /// Cuts the request out of a free region; what is left stays free.
    fn take(&mut self, at: Candidate, size: u64, request: &RegionRequest) -> Placement {
        self.unlink(at.node);
        let block = self.regions.block_of(at.node);
        let node = *self.regions.node(at.node);
        let mut index = at.node;
        if at.offset > node.offset {
            // The front stays free in its slot; the request gets a new one behind it.
            index = self.regions.take(block);
            self.regions.node_mut(at.node).set_free(node.offset, at.offset - node.offset);
            self.regions.node_mut(at.node).next = index;
            self.link(at.node);
            self.regions.node_mut(index).previous = at.node;
            self.regions.node_mut(index).next = node.next;
            if node.next != NONE {
                self.regions.node_mut(node.next).previous = index;
            }
        }
        let end = at.offset + size;
        if end < node.end() {
            let rest = self.regions.take(block);
            let rest_node = self.regions.node_mut(rest);
            rest_node.set_free(end, node.end() - end);
            rest_node.previous = index;
            rest_node.next = node.next;
            if node.next != NONE {
                self.regions.node_mut(node.next).previous = rest;
            }
            self.regions.node_mut(index).next = rest;
            self.link(rest);
        }
        let padding = size - request.size;
        self.regions.node_mut(index).set_live(at.offset, size, request.kind, padding);
        self.blocks[block as usize].live += 1;
        let key = self.regions.begin_life(index);
        Placement { key, block: BlockIndex(block), offset: at.offset }
    }

    /// Merges a free, unlinked region with its free neighbours and links the result.
    fn merge_and_link(&mut self, mut index: u32) {
        let next = self.regions.node(index).next;
        if next != NONE && self.regions.node(next).is_free() {
            self.unlink(next);
            self.absorb_next(index, next);
        }
        let previous = self.regions.node(index).previous;
        if previous != NONE && self.regions.node(previous).is_free() {
            self.unlink(previous);
            self.absorb_next(previous, index);
            index = previous;
        }
        self.link(index);
    }

    fn absorb_next(&mut self, index: u32, next: u32) {
        let gone = *self.regions.node(next);
        let node = self.regions.node_mut(index);
        let (offset, size) = (node.offset, node.size() + gone.size());
        node.set_free(offset, size);
        node.next = gone.next;
        if gone.next != NONE {
            self.regions.node_mut(gone.next).previous = index;
        }
        self.regions.give_back(next);
    }

    fn block(&self, block: BlockIndex) -> &Block {
        let block = &self.blocks[block.0 as usize];
        assert!(block.used, "the block was removed");
        block
    }
}

impl Suballocator for Tlsf {
    fn add_block(&mut self, size: u64) -> BlockIndex {
        assert!(size > 0 && size <= MAX_SIZE, "a block of {size} bytes");
        let block = self.vacant_blocks.pop().unwrap_or_else(|| {
            self.blocks.push(Block { size: 0, first: NONE, live: 0, used: false });
            (self.blocks.len() - 1) as u32
        });
        let first = self.regions.take(block);
        let node = self.regions.node_mut(first);
        node.set_free(0, size);
        node.previous = NONE;
        node.next = NONE;
        self.link(first);
        self.blocks[block as usize] = Block { size, first, live: 0, used: true };
        BlockIndex(block)
    }

    fn remove_block(&mut self, block: BlockIndex) {
        let Block { first, live, .. } = *self.block(block);
        assert!(live == 0, "a block with live regions cannot be removed");
        self.unlink(first);
        self.regions.give_back(first);
        self.blocks[block.0 as usize].used = false;
        self.vacant_blocks.push(block.0);
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        self.block(block).live == 0
    }

    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        let size = align_up(request.size, self.granule)?;
        if size > MAX_SIZE {
            return None;
        }
        let found = self.search(size, request)?;
        Some(self.take(found, size, request))
    }

    fn free(&mut self, key: RegionKey) -> Option<FreedRegion> {
        let info = self.region(key)?;
        self.regions.end_life(key.index);
        let node = self.regions.node_mut(key.index);
        let (offset, size) = (node.offset, node.size());
        node.set_free(offset, size);
        self.merge_and_link(key.index);
        let block = &mut self.blocks[info.block.0 as usize];
        block.live -= 1;
        Some(FreedRegion { info, block_is_empty: block.live == 0 })
    }

    fn regions(&self) -> &RegionTable {
        &self.regions
    }

    fn regions_mut(&mut self) -> &mut RegionTable {
        &mut self.regions
    }

    fn grow_block(&mut self, block: BlockIndex, size: u64) {
        let Block { size: before, first, .. } = *self.block(block);
        assert!(size >= before && size <= MAX_SIZE, "a block of {before} bytes grows to {size}");
        if size > before {
            let last = self.regions.last_from(first);
            let index = self.regions.append_free(last, before, size - before);
            self.merge_and_link(index);
            self.blocks[block.0 as usize].size = size;
        }
    }

    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        let mut index = self.block(block).first;
        while index != NONE {
            let node = self.regions.node(index);
            let live = (!node.is_free()).then(|| (self.regions.key_of(index), node.kind()));
            let padding = if node.is_free() { 0 } else { node.padding() };
            visit(RegionView { offset: node.offset, size: node.size() - padding, live });
            index = node.next;
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.heads.len() * size_of::<[u32; SECOND_LEVELS]>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.vacant_blocks.capacity() * size_of::<u32>()
    }

    fn validate(&self) -> Result<(), String> {
        let mut regions = 0;
        let mut free = 0;
        for (number, block) in self.blocks.iter().enumerate().filter(|(_, block)| block.used) {
            let at = |what: &str| format!("block {number}: {what}");
            let (mut index, mut previous, mut end, mut live) = (block.first, NONE, 0, 0);
            // The last live region and where it ends, for the pages.
            let mut last_live: Option<(u64, ResourceKind)> = None;
            while index != NONE {
                let node = self.regions.node(index);
                regions += 1;
                if self.regions.block_of(index) != number as u32 {
                    return Err(at("a region that says it lies in another block"));
                }
                if node.previous != previous || node.offset != end || node.size() == 0 {
                    return Err(at(&format!("regions do not follow each other at {end}")));
                }
                if node.is_free() {
                    free += 1;
                    if previous != NONE && self.regions.node(previous).is_free() {
                        return Err(at(&format!("two free regions side by side at {end}")));
                    }
                } else {
                    live += 1;
                    if self.regions.key_of(index).generation.is_multiple_of(2) {
                        return Err(at("a live region without a key"));
                    }
                    let page = |offset: u64| offset & !(self.granularity - 1);
                    if self.granularity > 1
                        && let Some((last_end, kind)) = last_live
                        && page(last_end - 1) == page(node.offset)
                        && super::granularity::conflict(kind, node.kind())
                    {
                        return Err(at(&format!("conflicting kinds share the page of {end}")));
                    }
                    last_live = Some((node.end(), node.kind()));
                }
                end = node.end();
                previous = index;
                index = node.next;
            }
            if end != block.size || live != block.live {
                return Err(at("its regions do not add up to its size and count"));
            }
        }
        if regions != self.regions.used_slots() {
            return Err("region slots are lost".into());
        }
        self.validate_lists(free)
    }
}

impl Tlsf {
    fn validate_lists(&self, mut free: usize) -> Result<(), String> {
        for first in 0..FIRST_LEVELS {
            if (self.second_level[first] != 0) != (self.first_level >> first & 1 == 1) {
                return Err(format!("first level bit {first} is wrong"));
            }
            for second in 0..SECOND_LEVELS {
                let mut index = self.heads[first][second];
                if (index != NONE) != (self.second_level[first] >> second & 1 == 1) {
                    return Err(format!("second level bit {first}, {second} is wrong"));
                }
                let mut previous = NONE;
                while index != NONE {
                    let node = self.regions.node(index);
                    if !node.is_free()
                        || Self::class_of(node.size()) != (first, second)
                        || node.previous_free() != previous
                        || free == 0
                    {
                        return Err(format!("the list of class {first}, {second} is broken"));
                    }
                    free -= 1;
                    previous = index;
                    index = node.next_free();
                }
            }
        }
        if free == 0 { Ok(()) } else { Err("free regions are missing from the lists".into()) }
    }
}
