//! Two-level segregated fit over all blocks of an arena.
//!
//! ```text
//!   first level     one bit a power of two         ...0001 0110
//!                                                       |  ||
//!   second level    16 bits, linear steps         [..1.....1...]        <- any class non-empty?
//!                                                    |     |
//!   bins            free regions of the class      sizes and nodes       <- of *any* block
//! ```
//!
//! After Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time
//! systems" (2004), with three changes: the nodes stand beside the memory, one index spans all
//! blocks, and a bounded look into the request's own size class comes before the class that is sure
//! to fit, which makes the fit much tighter at constant cost. The two levels of bits lie behind each
//! other in one array, so that a class is a number and the next one is one more.

use super::bins::{Bins, CLASSES};
use super::granularity::{Gap, Neighbour, align_up, place_in_gap};
use super::region::{MAX_PADDING, MAX_SIZE, NONE, Node, RegionTable};
use super::{
    BlockIndex, FreedRegion, Placement, RegionKey, RegionRequest, RegionView, Suballocator,
};
use crate::request::{ResourceKind, Strategy};

const SECOND_LEVEL_BITS: u32 = 4;
const SECOND_LEVELS: usize = 1 << SECOND_LEVEL_BITS;

/// Candidates that `MIN_MEMORY` looks at, to take the best of them.
const LOOK_BEST_FIT: u32 = 64;
/// Candidates looked at before giving up: far cheaper than a call of the driver.
const LOOK_LAST: u32 = 512;
/// A region's end is rounded up to its alignment, but not to more than this: what is left between
/// two regions of one alignment would serve nobody, and cost a node.
const MAX_ROUNDING: u64 = 256;

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
    free: Bins,
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
        assert!(granule < MAX_PADDING, "a granule of {granule} bytes");
        Self {
            regions: RegionTable::default(),
            blocks: Vec::new(),
            vacant_blocks: Vec::new(),
            free: Bins::default(),
            granule,
            granularity,
        }
    }

    /// The class that holds free regions of `size`.
    fn class_of(size: u64) -> usize {
        if size < SECOND_LEVELS as u64 {
            return size as usize;
        }
        let log2 = size.ilog2();
        let second = (size >> (log2 - SECOND_LEVEL_BITS)) as usize & (SECOND_LEVELS - 1);
        ((log2 - SECOND_LEVEL_BITS + 1) as usize) << SECOND_LEVEL_BITS | second
    }

    /// The first class all of whose regions are at least `size`.
    fn class_at_least(size: u64) -> usize {
        if size < SECOND_LEVELS as u64 {
            return Self::class_of(size);
        }
        let step = 1u64 << (size.ilog2() - SECOND_LEVEL_BITS);
        Self::class_of(size.saturating_add(step - 1))
    }

    fn link(&mut self, index: u32) {
        let size = self.regions.node(index).size();
        let position = self.free.insert(Self::class_of(size), size, index);
        self.regions.node_mut(index).set_position(position);
    }

    fn unlink(&mut self, index: u32) {
        let node = self.regions.node(index);
        let position = node.position();
        let moved = self.free.remove(Self::class_of(node.size()), position);
        self.regions.node_mut(moved).set_position(position);
    }

    /// Makes a linked region another one.
    fn resize(&mut self, index: u32, offset: u64, size: u64) {
        let node = *self.regions.node(index);
        let class = Self::class_of(size);
        if class == Self::class_of(node.size()) {
            self.free.resize(node.position(), size);
            self.regions.node_mut(index).set_free(offset, size);
        } else {
            self.unlink(index);
            let position = self.free.insert(class, size, index);
            let node = self.regions.node_mut(index);
            node.set_free(offset, size);
            node.set_position(position);
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
                // What rounding added holds nothing that could conflict.
                let edge = if before { node.offset + node.size() } else { node.offset };
                Neighbour { edge, kind: node.kind() }
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
        class: usize,
        size: u64,
        request: &RegionRequest,
        look: &mut u32,
        best: bool,
    ) -> Option<Candidate> {
        let mut found: Option<(u64, Candidate)> = None;
        for entry in self.free.of_class(class) {
            if *look == 0 {
                break;
            }
            *look -= 1;
            let node_size = self.regions.node(entry.node()).size();
            if found.is_none_or(|(smallest, _)| node_size < smallest)
                && let Some(offset) = self.fit(entry.node(), size, request)
            {
                found = Some((node_size, Candidate { node: entry.node(), offset }));
                if !best || node_size == size {
                    break;
                }
            }
        }
        found.map(|(_, candidate)| candidate)
    }

    /// The classes from `class` on, at most `look` regions in all.
    fn look_upwards(
        &self,
        mut class: usize,
        size: u64,
        request: &RegionRequest,
        mut look: u32,
        best: bool,
    ) -> Option<Candidate> {
        while look > 0 {
            class = self.free.next_used(class)?;
            if let Some(found) = self.look_in_class(class, size, request, &mut look, best) {
                return Some(found);
            }
            class += 1;
        }
        None
    }

    /// The best of the newest regions of the request's own class, or else of the next one that is in
    /// use: two lines of the cache.
    fn look_near(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        let own = Self::class_of(size);
        let found = self
            .free
            .best_of_newest(own, size)
            .or_else(|| self.free.best_of_newest(self.free.next_used(own + 1)?, size))?;
        self.fit(found, size, request).map(|offset| Candidate { node: found, offset })
    }

    /// A region so large that alignment and pages cannot matter.
    fn look_sure(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        let mut worst = size.checked_add((request.alignment - 1) & !(self.granule - 1))?;
        if self.granularity > 1 {
            // One page lost at either end.
            worst = worst.checked_add(2 * self.granularity)?;
        }
        let class = self.free.next_used(Self::class_at_least(worst))?;
        let node = self.free.best_of_newest(class, size)?;
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
        // Most unused ranges are as long as regions are: rounded.
        let rounded = align_up(size, self.rounding(request.alignment))?;
        let quick = match request.strategy {
            Strategy::MinOffset => return self.look_lowest_offset(size, request),
            Strategy::MinTime => self.look_newest(rounded, request),
            Strategy::Balanced => self.look_near(rounded, request),
            Strategy::MinMemory => {
                self.look_upwards(Self::class_of(size), size, request, LOOK_BEST_FIT, true)
            }
        };
        quick.or_else(|| self.search_longer(size, request))
    }

    /// The newest region of the first class that is sure to fit.
    fn look_newest(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        let node = self.free.newest(self.free.next_used(Self::class_at_least(size))?);
        self.fit(node, size, request).map(|offset| Candidate { node, offset })
    }

    #[cold]
    fn search_longer(&self, size: u64, request: &RegionRequest) -> Option<Candidate> {
        self.look_sure(size, request)
            .or_else(|| self.look_upwards(Self::class_of(size), size, request, LOOK_LAST, false))
    }

    /// What the size of a region is rounded up to where there is room.
    fn rounding(&self, alignment: u64) -> u64 {
        alignment.min(MAX_ROUNDING).max(self.granule)
    }

    /// Cuts the request out of a free region; what is left stays free.
    fn take(&mut self, at: Candidate, size: u64, request: &RegionRequest) -> Placement {
        let Node { offset: start, previous, next, .. } = *self.regions.node(at.node);
        let end = self.regions.node(at.node).end();
        let block = self.regions.block_of(at.node);
        let room = end - at.offset;
        let footprint = room.min(align_up(size, self.rounding(request.alignment)).unwrap_or(room));
        let rest = room - footprint;
        let padding = footprint - request.size;
        let index;
        if at.offset == start && rest == 0 {
            self.unlink(at.node);
            index = at.node;
        } else {
            // The request gets a slot of its own, as a rule one that was used just now; the region
            // that it is cut from keeps its slot, and often its class.
            index = self.regions.take(block);
            let (mut before, mut after) = (previous, next);
            if at.offset == start {
                after = at.node;
                self.resize(at.node, at.offset + footprint, rest);
                self.regions.node_mut(at.node).previous = index;
            } else {
                before = at.node;
                self.resize(at.node, start, at.offset - start);
                self.regions.node_mut(at.node).next = index;
                if rest > 0 {
                    let behind = self.regions.take(block);
                    let node = self.regions.node_mut(behind);
                    node.set_free(at.offset + footprint, rest);
                    node.previous = index;
                    node.next = next;
                    self.link(behind);
                    after = behind;
                    self.set_previous(next, behind);
                }
            }
            if after == next {
                self.set_previous(next, index);
            }
            if before == previous {
                self.set_next(block, previous, index);
            }
            let node = self.regions.node_mut(index);
            node.previous = before;
            node.next = after;
        }
        self.regions.node_mut(index).set_live(at.offset, request.size, request.kind, padding);
        self.blocks[block as usize].live += 1;
        let key = self.regions.begin_life(index);
        Placement { key, block: BlockIndex(block), offset: at.offset }
    }

    fn set_previous(&mut self, of: u32, index: u32) {
        if of != NONE {
            self.regions.node_mut(of).previous = index;
        }
    }

    fn set_next(&mut self, block: u32, of: u32, index: u32) {
        if of != NONE {
            self.regions.node_mut(of).next = index;
        } else {
            self.blocks[block as usize].first = index;
        }
    }

    /// Makes a region free, merged with its free neighbours. A neighbour keeps its slot, and often
    /// its class; the region's own slot, which is in the cache, is the next one to be taken.
    fn merge_and_link(&mut self, index: u32, block: u32) {
        let node = *self.regions.node(index);
        let Node { offset, previous, next, .. } = node;
        let before = self.free_neighbour(previous);
        match (before, self.free_neighbour(next)) {
            (None, None) => {
                let size = node.footprint();
                let position = self.free.insert(Self::class_of(size), size, index);
                let node = self.regions.node_mut(index);
                node.set_free(offset, size);
                node.set_position(position);
            }
            (None, Some(after)) => {
                self.resize(next, offset, after.end() - offset);
                self.regions.node_mut(next).previous = previous;
                self.set_next(block, previous, next);
                self.regions.give_back(index);
            }
            (Some(before), None) => {
                self.resize(previous, before.offset, node.end() - before.offset);
                self.regions.node_mut(previous).next = next;
                self.set_previous(next, previous);
                self.regions.give_back(index);
            }
            (Some(before), Some(after)) => {
                self.unlink(next);
                self.resize(previous, before.offset, after.end() - before.offset);
                self.regions.node_mut(previous).next = after.next;
                self.set_previous(after.next, previous);
                self.regions.give_back(next);
                self.regions.give_back(index);
            }
        }
    }

    fn free_neighbour(&self, index: u32) -> Option<Node> {
        (index != NONE).then(|| *self.regions.node(index)).filter(Node::is_free)
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
        self.free.reserve(Self::class_of(size));
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
        self.merge_and_link(key.index, info.block.0);
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
            self.free.reserve(Self::class_of(size));
            let last = self.regions.last_from(first);
            let index = self.regions.append_free(last, before, size - before);
            self.merge_and_link(index, block.0);
            self.blocks[block.0 as usize].size = size;
        }
    }

    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        let mut index = self.block(block).first;
        while index != NONE {
            let node = self.regions.node(index);
            let live = (!node.is_free()).then(|| (self.regions.key_of(index), node.kind()));
            visit(RegionView { offset: node.offset, size: node.size(), live });
            index = node.next;
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.free.bytes()
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
                    last_live = Some((node.offset + node.size(), node.kind()));
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
        if !self.free.marks_are_right() {
            return Err("a size class is marked wrongly".into());
        }
        for class in 0..CLASSES {
            for (position, entry) in self.free.positions_of_class(class) {
                let node = self.regions.node(entry.node());
                if !node.is_free()
                    || Self::class_of(node.size()) != class
                    || node.position() != position
                    || !Bins::agrees(entry, node.size(), entry.node())
                    || free == 0
                {
                    return Err(format!("class {class} is broken"));
                }
                free -= 1;
            }
        }
        if free == 0 { Ok(()) } else { Err("free regions are missing from their classes".into()) }
    }
}
