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

/// Makes a [`Hot`] of a suballocator's tables, and evaluates an expression with it.
macro_rules! hot {
    ($it:expr, $hot:ident => $call:expr) => {{
        let (nodes, block_of, slots) = $it.regions.parts();
        if let (Some(nodes), Some(free)) = (nodes.near(), $it.free.near()) {
            #[allow(unused_mut)]
            let mut $hot = Hot { nodes, free, slots, block_of };
            $call
        } else {
            #[allow(unused_mut)]
            let mut $hot = Hot { nodes: nodes.far(), free: $it.free.far(), slots, block_of };
            $call
        }
    }};
}

mod check;
mod deferred;
mod hot;
mod multiple;
mod run;
mod settle;

use deferred::Deferred;
use hot::{Candidate, Hot, ROOM, fit};

use super::bins::{Bins, Entry, class_at_least, class_of};
use super::interface::{Suballocator, count_by_walk};
use super::node::{MAX_PADDING, MAX_SIZE, NONE, target};
use super::region::RegionTable;
use super::values::{BlockIndex, FreedRegion, Placement, RegionRequest};
use crate::handle::SlotKey;
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
    /// The node before its first and behind its last region.
    edge: u32,
    used: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Tlsf {
    regions: RegionTable,
    blocks: Vec<Block>,
    /// Live regions of each. Close together, as each call counts: of ten thousand blocks, all of it
    /// together leaves the cache.
    live_counts: Vec<u32>,
    vacant_blocks: Vec<u32>,
    free: Bins,
    /// Sizes and offsets of regions are multiples of it, but for the end of a block.
    granule: u64,
    /// `bufferImageGranularity`.
    granularity: u64,
    /// Kinds that live here, or were to live here since it was last empty, where that matters: one bit
    /// for those that may share pages with each other.
    kinds: u8,
    /// Whether neighbours may forbid a place to the request at hand.
    careful: bool,
    /// Blocks with live regions.
    busy_blocks: u32,
    deferred: Deferred,
    starved: bool,
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
            live_counts: Vec::new(),
            vacant_blocks: Vec::new(),
            free: Bins::default(),
            granule,
            granularity,
            kinds: 0,
            careful: false,
            busy_blocks: 0,
            deferred: Deferred::default(),
            starved: false,
        }
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

    /// A region so large that alignment and pages cannot matter.
    fn look_sure(&self, size: u64, request: &RegionRequest) -> Candidate {
        let padding = (request.alignment - 1) & !(self.granule - 1);
        // One page lost at either end.
        let pages = if self.careful { 2 * self.granularity } else { 0 };
        let worst = size.saturating_add(padding).saturating_add(pages);
        if worst <= MAX_SIZE
            && let Some(class) = self.free.next_used(class_at_least(worst))
        {
            return match self.free.of_class(class).next() {
                Some(entry) => self.fit(entry.node(), size, request),
                None => Candidate::NOTHING,
            };
        }
        Candidate::NOTHING
    }

    fn look_lowest_offset(&self, size: u64, request: &RegionRequest) -> Candidate {
        for block in self.blocks.iter().filter(|block| block.used) {
            let mut index = target(self.regions.node(block.edge).next);
            while index != block.edge {
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

    /// With another strategy, or where the first look found nothing.
    #[inline(never)]
    fn allocate_otherwise(&mut self, request: &RegionRequest) -> Option<SlotKey> {
        let (size, rounded) = self.sizes(request).or_else(|| {
            let size = request.size.checked_next_multiple_of(self.granule)?;
            (size <= MAX_SIZE).then_some((size, size))
        })?;
        let granularity = self.granularity();
        let mut found = if request.strategy == Strategy::MinTime {
            hot!(self, hot => hot.fit(hot.look_at_once(rounded).0, rounded, request, granularity))
        } else {
            Candidate::NOTHING
        };
        if !found.is_found() {
            self.settle_all();
            if !self.make_room() {
                return None;
            }
            found = self.search(size, request);
        }
        if !found.is_found() {
            return None;
        }
        let size = self.regions.node(found.node).size();
        let known = (Some(size), class_of(size));
        let placement = hot!(self, hot => hot.take(found, known, rounded, request));
        self.count_in(placement.key, placement.block);
        Some(placement.key)
    }

    /// From a region that was found whose lower end is not aligned, or whose neighbours may forbid it.
    #[inline(never)]
    fn allocate_near(
        &mut self,
        found: (Entry, usize),
        rounded: u64,
        request: &RegionRequest,
    ) -> Option<SlotKey> {
        let granularity = self.granularity();
        let taken = hot!(self, hot => hot.take_found(found, rounded, request, granularity));
        let Some(placement) = taken else { return self.allocate_otherwise(request) };
        self.count_in(placement.key, placement.block);
        Some(placement.key)
    }

    #[inline(always)]
    fn count_in(&mut self, key: SlotKey, block: BlockIndex) {
        self.regions.note_life(key);
        let live = &mut self.live_counts[block.0 as usize];
        *live = live.wrapping_add(1);
        if *live == 1 {
            self.busy_blocks += 1;
        }
    }

    /// Counts a region out of its block; whether that was the last one.
    #[inline(always)]
    fn count_out(&mut self, block: u32) -> bool {
        let live = &mut self.live_counts[block as usize];
        *live = live.wrapping_sub(1);
        let block_is_empty = *live == 0;
        if block_is_empty {
            self.busy_blocks -= 1;
            if self.busy_blocks == 0 {
                // What waits has a kind, too.
                self.settle_all();
                if self.deferred.is_empty() {
                    self.kinds = 0;
                }
            }
        }
        block_is_empty
    }

    /// What a request takes up at least, and what it takes up where there is room; `None` near the
    /// end of numbers.
    #[inline(always)]
    fn sizes(&self, request: &RegionRequest) -> Option<(u64, u64)> {
        if request.size > MAX_SIZE - 2 * MAX_PADDING {
            return None;
        }
        let up = |to: u64| request.size.wrapping_add(to.wrapping_sub(1)) & to.wrapping_neg();
        let size = up(self.granule);
        let rounded = up(request.alignment.min(MAX_ROUNDING).max(self.granule));
        Some((size, if rounded.wrapping_sub(size) <= size { rounded } else { size }))
    }

    fn search(&self, size: u64, request: &RegionRequest) -> Candidate {
        let found = match request.strategy {
            Strategy::Balanced | Strategy::MinTime => Candidate::NOTHING,
            Strategy::MinMemory => {
                self.look_upwards(class_of(size), size, request, LOOK_BEST_FIT, true)
            }
            Strategy::MinOffset => return self.look_lowest_offset(size, request),
        };
        if found.is_found() {
            return found;
        }
        let sure = self.look_sure(size, request);
        if sure.is_found() {
            return sure;
        }
        self.look_upwards(class_of(size), size, request, LOOK_LAST, false)
    }

    /// Makes a block one free region.
    fn start(&mut self, block: u32, size: u64) {
        let (edge, first) = (self.regions.take(block), self.regions.take(block));
        self.blocks[block as usize] = Block { size, edge, used: true };
        self.live_counts[block as usize] = 0;
        self.regions.node_mut(edge).set_edge(edge);
        // After `clear`, in memory that it has.
        assert!(self.free.has_room_for(1) || self.free.try_grow(), "memory was reserved");
        self.put_in(edge, first, 0, size);
    }

    /// Makes a slot a free region behind the last one of a block, merged with it if that is free.
    fn put_in(&mut self, edge: u32, index: u32, offset: u64, size: u64) {
        let last = self.regions.node(edge).previous;
        let node = self.regions.node_mut(index);
        node.set_free(offset, size);
        node.previous = last;
        node.next = edge;
        hot!(self, hot => hot.merge(index, offset, offset + size, [last, edge]));
    }

    /// A kind is to live here: from now on neighbours may matter.
    #[inline(always)]
    fn note_kind(&mut self, kind: ResourceKind) {
        if self.granularity != 1 {
            self.kinds |= kind_bits(kind);
            self.careful = !self.kinds.is_power_of_two();
        }
    }

    /// For what the next call may take; false without host memory for it.
    #[inline(always)]
    fn make_room(&mut self) -> bool {
        (self.regions.has_room_for(ROOM) && self.free.has_room_for(ROOM as u32)) || self.grow()
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> bool {
        let grown = (self.regions.has_room_for(ROOM) || self.regions.try_grow())
            && (self.free.has_room_for(ROOM as u32) || self.free.try_grow());
        self.starved |= !grown;
        grown
    }

    #[inline(always)]
    fn granularity(&self) -> u64 {
        if self.careful { self.granularity } else { 1 }
    }

    fn fit(&self, index: u32, size: u64, request: &RegionRequest) -> Candidate {
        if !request.alignment.is_power_of_two() {
            return self.fit_multiple(index, size, request);
        }
        fit(self.regions.nodes(), index, size, request, self.granularity())
    }

    fn block(&self, block: BlockIndex) -> &Block {
        let block = &self.blocks[block.0 as usize];
        assert!(block.used, "the block was removed");
        block
    }
}

impl Suballocator for Tlsf {
    fn try_reserve_block(&mut self, size: u64) -> bool {
        let blocks = self.blocks.len();
        let next = self.vacant_blocks.last().copied().unwrap_or(blocks as u32);
        let reserved = self.blocks.try_reserve(1).is_ok()
            && self.live_counts.try_reserve(1).is_ok()
            && self.vacant_blocks.try_reserve(blocks + 1).is_ok()
            && self.free.try_reserve(class_of(size))
            && self.regions.try_expect_block(next, 2)
            && self.make_room();
        self.starved = false;
        reserved
    }

    fn take_starved(&mut self) -> bool {
        std::mem::take(&mut self.starved)
    }

    fn add_block(&mut self, size: u64) -> BlockIndex {
        assert!(size > 0 && size <= MAX_SIZE, "a block of {size} bytes");
        assert!(self.try_reserve_block(size), "host memory for a block");
        let block = self.vacant_blocks.pop().unwrap_or_else(|| {
            self.blocks.push(Block { size: 0, edge: NONE, used: false });
            self.live_counts.push(0);
            (self.blocks.len() - 1) as u32
        });
        self.start(block, size);
        BlockIndex(block)
    }

    fn remove_block(&mut self, block: BlockIndex) {
        self.settle_all();
        let edge = self.block(block).edge;
        assert!(self.is_block_empty(block), "a block with live regions cannot be removed");
        // One, unless some could not be merged for want of host memory.
        let mut index = target(self.regions.node(edge).next);
        while index != edge {
            let node = *self.regions.node(index);
            if node.is_free() {
                hot!(self, hot => hot.unlink(class_of(node.size()), node.position()));
            } else {
                self.deferred.forget_stuck();
            }
            self.regions.give_back(index);
            index = target(node.next);
        }
        self.regions.give_back(edge);
        self.blocks[block.0 as usize].used = false;
        self.vacant_blocks.push(block.0);
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        assert!(self.blocks[block.0 as usize].used, "the block was removed");
        self.live_counts[block.0 as usize] == 0
    }

    #[inline(always)]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        self.note_kind(request.kind);
        if !self.make_room() {
            return None;
        }
        let key = if request.strategy == Strategy::Balanced
            && let Some((_, rounded)) = self.sizes(request)
            && Entry::knows(rounded)
        {
            let (found, taken) = hot!(self, hot => {
                let found = hot.look_near(rounded);
                (found, if self.careful { None } else { hot.take_lower_end(found, rounded, request) })
            });
            if let Some(placement) = taken {
                self.count_in(placement.key, placement.block);
                return Some(placement);
            }
            self.allocate_near(found, rounded, &{ *request })
        } else {
            self.allocate_otherwise(&{ *request })
        };
        Some(self.regions.placement(key?))
    }

    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement> {
        let key = self.place_at_multiple(request)?;
        Some(self.regions.placement(key))
    }

    #[inline(always)]
    fn free(&mut self, key: SlotKey) -> Option<FreedRegion> {
        if !self.free.has_room_for(1) && !self.free.try_grow() {
            return self.free_unindexed(key);
        }
        if self.regions.has_generations_apart() {
            return self.free_at_once(key);
        }
        let deferred = self.deferred.in_table_of(self.regions.nodes().len());
        let (info, tag) = hot!(self, hot => hot.free(key, deferred, |node, hot| {
            (node.info(hot.block_of(key.index())), node.tag())
        }))?;
        let block_is_empty = self.count_out(info.block.0);
        Some(FreedRegion { info, tag, block_is_empty })
    }

    #[inline(always)]
    fn release(&mut self, key: SlotKey) -> Option<u64> {
        if !self.free.has_room_for(1) && !self.free.try_grow() {
            let bytes = self.free_unindexed(key)?.info.size;
            return Some(bytes + self.deferred.take_settled());
        }
        if self.regions.has_generations_apart() {
            return self.release_key(key);
        }
        let deferred = self.deferred.in_table_of(self.regions.nodes().len());
        let bytes = hot!(self, hot => hot.free(key, deferred, |node, _| node.size()))?;
        self.count_out(self.regions.block_of(key.index()));
        Some(bytes)
    }

    fn unreported(&self) -> u64 {
        self.unreported_bytes()
    }

    fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        placed: impl FnMut(&RegionRequest, Placement),
    ) -> usize {
        self.allocate_run(requests, placed)
    }

    fn clear(&mut self) {
        self.regions.clear();
        self.free.clear();
        self.deferred.clear();
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
        let Block { size: before, edge, .. } = *self.block(block);
        assert!(size >= before && size <= MAX_SIZE, "a block of {before} bytes grows to {size}");
        assert!(self.try_reserve_block(size), "host memory for a block");
        if size > before {
            let index = self.regions.take(block.0);
            self.put_in(edge, index, before, size - before);
            self.blocks[block.0 as usize].size = size;
        }
    }

    fn block_size(&self, block: BlockIndex) -> u64 {
        self.block(block).size
    }

    fn visit_live(
        &self,
        block: BlockIndex,
        visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind),
    ) {
        let edge = self.block(block).edge;
        self.regions.visit_live(target(self.regions.node(edge).next), edge, visit);
    }

    fn settle(&mut self) {
        self.settle_all();
    }

    fn count(&self, blocks: &mut dyn Iterator<Item = BlockIndex>, statistics: &mut Statistics) {
        if self.deferred.is_empty() {
            self.regions.count(MAX_ROUNDING.max(self.granule), statistics);
        } else {
            count_by_walk(self, blocks, statistics);
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.free.bytes()
            + self.blocks.capacity() * size_of::<Block>()
            + self.live_counts.capacity() * size_of::<u32>()
            + self.vacant_blocks.capacity() * size_of::<u32>()
    }

    fn validate(&self) -> Result<(), String> {
        self.check()
    }
}
