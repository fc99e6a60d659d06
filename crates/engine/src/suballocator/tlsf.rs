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

mod check;

use super::bins::{Bins, class_at_least, class_of};
use super::granularity::{Gap, Neighbour, place_in_gap};
use super::region::{
    FREE_LINK, MAX_PADDING, MAX_SIZE, NONE, Node, RegionTable, is_free_link, target,
};
use super::{BlockIndex, FreedRegion, Placement, RegionKey, RegionRequest, Suballocator};
use crate::request::{ResourceKind, Strategy};
use crate::statistics::Statistics;

/// Candidates that `MIN_MEMORY` looks at, to take the best of them.
const LOOK_BEST_FIT: u32 = 64;
/// Candidates looked at before giving up: far cheaper than a call of the driver.
const LOOK_LAST: u32 = 512;
/// A region's end is rounded up to its alignment, but not to more than this: what is left between
/// two regions of one alignment would serve nobody, and cost a node. Nor is more added than the region
/// has: small ones of a large alignment may be all that a block holds.
const MAX_ROUNDING: u64 = 256;

#[derive(Debug)]
struct Block {
    size: u64,
    /// The region at offset 0.
    first: u32,
    live: u32,
    used: bool,
}

/// A place found by a search, not yet taken. An `Option` of it would go through memory, which costs
/// more than the rest of a short search.
#[derive(Clone, Copy)]
struct Candidate {
    /// `NONE` if nothing was found.
    node: u32,
    offset: u64,
}

impl Candidate {
    const NOTHING: Self = Self { node: NONE, offset: 0 };

    fn is_found(self) -> bool {
        self.node != NONE
    }
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
    /// Kinds that live here, or have lived here since it was last empty: one bit for those that may
    /// share pages with each other.
    kinds: u8,
    /// Whether neighbours may forbid a place to the request at hand.
    careful: bool,
    /// Blocks with live regions.
    busy_blocks: u32,
}

/// The bit of a kind in [`Tlsf::kinds`]; a kind that shares pages with nothing has two.
fn kind_bits(kind: ResourceKind) -> u8 {
    match kind {
        ResourceKind::Buffer | ResourceKind::ImageLinear => 0b001,
        ResourceKind::ImageOptimal => 0b010,
        ResourceKind::Unknown | ResourceKind::ImageUnknown => 0b101,
    }
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
            kinds: 0,
            careful: false,
            busy_blocks: 0,
        }
    }

    fn unlink(&mut self, index: u32) {
        let node = self.regions.node(index);
        let position = node.position();
        let moved = self.free.remove(class_of(node.size()), position);
        self.regions.node_mut(moved).set_position(position);
    }

    /// Makes a linked region another one.
    #[inline(always)]
    fn resize(&mut self, index: u32, offset: u64, size: u64) -> &mut Node {
        let node = self.regions.node(index);
        let (before, mut position) = (class_of(node.size()), node.position());
        let class = class_of(size);
        if class == before {
            self.free.resize(position, size);
        } else {
            let moved = self.free.remove(before, position);
            self.regions.node_mut(moved).set_position(position);
            position = self.free.insert(class, size, index);
        }
        let node = self.regions.node_mut(index);
        node.set_free_at(offset, size, position);
        node
    }

    /// A free region and the offset at which the request fits into it, if it does.
    #[inline(always)]
    fn fit(&self, index: u32, size: u64, request: &RegionRequest) -> Candidate {
        if self.careful {
            return self.fit_beside(index, size, request);
        }
        let node = self.regions.node(index);
        // Neither can overflow: blocks and sizes are below 2^60, alignments are powers of two.
        let offset = node.offset.wrapping_add(request.alignment - 1) & !(request.alignment - 1);
        let fits = offset.wrapping_add(size) <= node.offset.wrapping_add(node.size());
        Candidate { node: if fits { index } else { NONE }, offset }
    }

    /// The same where neighbours may forbid it.
    fn fit_beside(&self, index: u32, size: u64, request: &RegionRequest) -> Candidate {
        let node = self.regions.node(index);
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
            .map_or(Candidate::NOTHING, |offset| Candidate { node: index, offset })
    }

    /// The first, or the smallest, of the first `look` regions of a class that fits.
    fn look_in_class(
        &self,
        class: usize,
        size: u64,
        request: &RegionRequest,
        look: &mut u32,
        best: bool,
    ) -> Candidate {
        let (mut found, mut smallest) = (Candidate::NOTHING, u64::MAX);
        for entry in self.free.of_class(class) {
            if *look == 0 {
                break;
            }
            *look -= 1;
            let node_size = self.regions.node(entry.node()).size();
            if node_size >= smallest {
                continue;
            }
            let here = self.fit(entry.node(), size, request);
            if here.is_found() {
                (found, smallest) = (here, node_size);
                if !best || node_size == size {
                    break;
                }
            }
        }
        found
    }

    /// The classes from `class` on, at most `look` regions in all.
    fn look_upwards(
        &self,
        mut class: usize,
        size: u64,
        request: &RegionRequest,
        mut look: u32,
        best: bool,
    ) -> Candidate {
        while look > 0
            && let Some(used) = self.free.next_used(class)
        {
            let found = self.look_in_class(used, size, request, &mut look, best);
            if found.is_found() {
                return found;
            }
            class = used + 1;
        }
        Candidate::NOTHING
    }

    /// The best of the newest regions of the request's own class, or else of the next one that is in
    /// use: two lines of the cache.
    #[inline(always)]
    fn look_near(&self, size: u64, request: &RegionRequest) -> Candidate {
        let own = class_of(size);
        let mut found = self.free.best_of_newest(own, size);
        if found == NONE
            && let Some(next) = self.free.next_used(own + 1)
        {
            found = self.free.best_of_newest(next, size);
        }
        if found == NONE { Candidate::NOTHING } else { self.fit(found, size, request) }
    }

    /// A region so large that alignment and pages cannot matter.
    fn look_sure(&self, size: u64, request: &RegionRequest) -> Candidate {
        let padding = (request.alignment - 1) & !(self.granule - 1);
        // One page lost at either end.
        let pages = if self.careful { 2 * self.granularity } else { 0 };
        let worst = size.saturating_add(padding).saturating_add(pages);
        if worst <= MAX_SIZE
            && let Some(class) = self.free.next_used(class_at_least(worst))
        {
            return self.fit(self.free.newest(class), size, request);
        }
        Candidate::NOTHING
    }

    fn look_lowest_offset(&self, size: u64, request: &RegionRequest) -> Candidate {
        for block in self.blocks.iter().filter(|block| block.used) {
            let mut index = block.first;
            while index != NONE {
                let node = self.regions.node(index);
                if node.is_free() {
                    let found = self.fit(index, size, request);
                    if found.is_found() {
                        return found;
                    }
                }
                index = target(node.next);
            }
        }
        Candidate::NOTHING
    }

    /// `rounded` is what the request takes up where there is room: most unused ranges are as long.
    #[inline(always)]
    fn search(&self, size: u64, rounded: u64, request: &RegionRequest) -> Candidate {
        let quick = if request.strategy == Strategy::Balanced {
            self.look_near(rounded, request)
        } else {
            self.look_otherwise(size, rounded, request)
        };
        if quick.is_found() { quick } else { self.search_longer(size, request) }
    }

    #[inline(never)]
    fn look_otherwise(&self, size: u64, rounded: u64, request: &RegionRequest) -> Candidate {
        match request.strategy {
            Strategy::Balanced => self.look_near(rounded, request),
            Strategy::MinTime => self.look_newest(rounded, request),
            Strategy::MinMemory => {
                self.look_upwards(class_of(size), size, request, LOOK_BEST_FIT, true)
            }
            Strategy::MinOffset => self.look_lowest_offset(size, request),
        }
    }

    /// The newest region of the first class that is sure to fit.
    #[inline(always)]
    fn look_newest(&self, size: u64, request: &RegionRequest) -> Candidate {
        match self.free.next_used(class_at_least(size)) {
            Some(class) => self.fit(self.free.newest(class), size, request),
            None => Candidate::NOTHING,
        }
    }

    #[cold]
    #[inline(never)]
    fn search_longer(&self, size: u64, request: &RegionRequest) -> Candidate {
        if request.strategy == Strategy::MinOffset {
            return Candidate::NOTHING;
        }
        let sure = self.look_sure(size, request);
        if sure.is_found() {
            return sure;
        }
        self.look_upwards(class_of(size), size, request, LOOK_LAST, false)
    }

    /// What the size of a region is rounded up to where there is room.
    fn rounding(&self, alignment: u64) -> u64 {
        alignment.min(MAX_ROUNDING).max(self.granule)
    }

    /// Cuts the request out of a free region, rounded where there is room; what is left stays free.
    #[inline(always)]
    fn take(&mut self, at: Candidate, rounded: u64, request: &RegionRequest) -> Placement {
        let node = self.regions.node(at.node);
        let Node { offset: start, previous, next, .. } = *node;
        let room = start + node.size() - at.offset;
        let footprint = room.min(rounded);
        let rest = room - footprint;
        let padding = footprint - request.size;
        let block = self.regions.block_of(at.node);
        let (index, before, after) = if at.offset != start {
            self.take_behind(at, footprint, rest, block)
        } else if rest > 0 {
            // The request gets a slot of its own, as a rule one that was used just now; the region
            // that it is cut from keeps its slot, and often its class.
            let index = self.regions.take(block);
            self.resize(at.node, at.offset + footprint, rest).previous = index;
            self.set_next(block, previous, index);
            (index, previous, at.node | FREE_LINK)
        } else {
            self.unlink(at.node);
            self.set_next(block, previous, at.node);
            self.set_previous(next, at.node);
            (at.node, previous, next)
        };
        let live = &mut self.blocks[block as usize].live;
        *live += 1;
        self.busy_blocks += u32::from(*live == 1);
        let node = self.regions.node_mut(index);
        node.previous = before;
        node.next = after;
        node.set_live(at.offset, request.size, request.kind, padding);
        let key = RegionKey::new(index, node.begin_life());
        Placement { key, block: BlockIndex(block), offset: at.offset }
    }

    /// Cuts a slot out of a free region whose lower end the alignment leaves over; the slot and its
    /// neighbours.
    #[cold]
    #[inline(never)]
    fn take_behind(
        &mut self,
        at: Candidate,
        footprint: u64,
        rest: u64,
        block: u32,
    ) -> (u32, u32, u32) {
        let Node { offset: start, next, .. } = *self.regions.node(at.node);
        let index = self.regions.take(block);
        self.resize(at.node, start, at.offset - start).next = index;
        let mut after = next;
        if rest > 0 {
            let behind = self.regions.take(block);
            self.set_free(behind, at.offset + footprint, rest);
            let node = self.regions.node_mut(behind);
            node.previous = index;
            node.next = next;
            after = behind | FREE_LINK;
        }
        self.set_previous(next, if rest > 0 { after } else { index });
        (index, at.node | FREE_LINK, after)
    }

    /// Makes an unlinked region a free one, and links it.
    fn set_free(&mut self, index: u32, offset: u64, size: u64) {
        let position = self.free.insert(class_of(size), size, index);
        self.regions.node_mut(index).set_free_at(offset, size, position);
    }

    /// Links the region `of`, if it is one, to what lies before it.
    fn set_previous(&mut self, of: u32, link: u32) {
        if of != NONE {
            self.regions.node_mut(of).previous = link;
        }
    }

    /// Links the region `of`, or the start of the block, to what lies behind it.
    fn set_next(&mut self, block: u32, of: u32, link: u32) {
        if of != NONE {
            self.regions.node_mut(of).next = link;
        } else {
            self.blocks[block as usize].first = target(link);
        }
    }

    /// Makes a region free, merged with its free neighbours. A neighbour keeps its slot, and often
    /// its class; the region's own slot, which is in the cache, is the next one to be taken.
    #[inline(always)]
    fn merge_and_link(&mut self, index: u32, node: Node, block: u32) {
        let Node { offset, previous, next, .. } = node;
        let end = node.end();
        if is_free_link(previous) {
            let survivor = target(previous);
            let (mut end, mut behind) = (end, next);
            if is_free_link(next) {
                let after = target(next);
                let gone = *self.regions.node(after);
                (end, behind) = (gone.offset + gone.size(), gone.next);
                self.unlink(after);
                self.regions.give_back(after);
            }
            let start = self.regions.node(survivor).offset;
            self.resize(survivor, start, end - start).next = behind;
            self.set_previous(behind, previous);
            self.regions.give_back(index);
        } else if is_free_link(next) {
            let survivor = target(next);
            let after = self.regions.node(survivor);
            let end = after.offset + after.size();
            self.resize(survivor, offset, end - offset).previous = previous;
            self.set_next(block, previous, next);
            self.regions.give_back(index);
        } else {
            self.set_free(index, offset, end - offset);
            self.set_next(block, previous, index | FREE_LINK);
            self.set_previous(next, index | FREE_LINK);
        }
    }

    /// Makes a block one free region.
    fn start(&mut self, block: u32, size: u64) {
        let first = self.regions.take(block);
        self.set_free(first, 0, size);
        let node = self.regions.node_mut(first);
        node.previous = NONE;
        node.next = NONE;
        self.blocks[block as usize] = Block { size, first, live: 0, used: true };
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
        self.free.reserve(class_of(size));
        self.start(block, size);
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

    #[inline]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        if request.size > MAX_SIZE {
            return None;
        }
        let up = |multiple: u64| request.size.wrapping_add(multiple - 1) & !(multiple - 1);
        let size = up(self.granule);
        if size > MAX_SIZE {
            return None;
        }
        let rounded = up(self.rounding(request.alignment)).min(MAX_SIZE);
        let rounded = if rounded - size <= size { rounded } else { size };
        let kinds = self.kinds | kind_bits(request.kind);
        self.careful = self.granularity != 1 && !kinds.is_power_of_two();
        let found = self.search(size, rounded, request);
        if !found.is_found() {
            return None;
        }
        self.kinds = kinds;
        Some(self.take(found, rounded, request))
    }

    #[inline]
    fn free(&mut self, key: RegionKey) -> Option<FreedRegion> {
        let node = self.regions.end_life(key)?;
        let index = self.regions.block_of(key.index());
        self.merge_and_link(key.index(), node, index);
        let live = &mut self.blocks[index as usize].live;
        *live -= 1;
        let block_is_empty = *live == 0;
        if block_is_empty {
            self.busy_blocks -= 1;
            if self.busy_blocks == 0 {
                self.kinds = 0;
            }
        }
        Some(FreedRegion { info: node.info(index), block_is_empty })
    }

    fn clear(&mut self) {
        self.regions.clear();
        self.free.clear();
        (self.kinds, self.busy_blocks) = (0, 0);
        for block in 0..self.blocks.len() {
            if self.blocks[block].used {
                self.start(block as u32, self.blocks[block].size);
            }
        }
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
            self.free.reserve(class_of(size));
            let last = self.regions.last_from(first);
            let index = self.regions.append_free(last, before, size - before);
            if self.regions.node(last).is_free() {
                self.regions.node_mut(index).previous |= FREE_LINK;
            }
            self.merge_and_link(index, *self.regions.node(index), block.0);
            self.blocks[block.0 as usize].size = size;
        }
    }

    fn block_size(&self, block: BlockIndex) -> u64 {
        self.block(block).size
    }

    fn visit_live(
        &self,
        block: BlockIndex,
        visit: &mut dyn FnMut(u64, u64, RegionKey, ResourceKind),
    ) {
        self.regions.visit_live_from(self.block(block).first, visit);
    }

    fn count(&self, _: &mut dyn Iterator<Item = BlockIndex>, statistics: &mut Statistics) {
        self.regions.count(statistics);
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.free.bytes()
            + self.blocks.capacity() * size_of::<Block>()
            + self.vacant_blocks.capacity() * size_of::<u32>()
    }

    fn validate(&self) -> Result<(), String> {
        self.check()
    }
}
