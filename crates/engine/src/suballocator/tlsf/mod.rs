//! Two-level segregated fit (TLSF) over all blocks of an arena.
//!
//! ```text
//!   free.bitmap   power of two:  |      2^k       |    2^(k+1)     |     first and second level in one
//!                 16 classes:    |..1.....1.......|.1..............|     bitmap: class c is bit c
//!                                   |     |         |
//!   free.tails    newest chunk     [c]   [c]       [c]                   `bins.rs`: sizes and slots of the free
//!                                   |                                    regions of a class, of *any* block
//!   regions       slot        0      1      2      3      4      5
//!                 nodes    [ edge ][live][ free ][live][ edge ][ free ]  `node.rs`, `region.rs`
//!                 blocks   [  0   ][ 0  ][  0   ][ 0  ][  1   ][  1   ]
//!
//!   blocks[0].edge = 0      0 <-> 1 <-> 2 <-> 3 <-> 0      physical neighbours by `previous` and `next`:
//!   blocks[1].edge = 4      4 <-> 5 <-> 4                  a ring through the edge node
//! ```
//!
//! After Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time systems"
//! (2004), with three changes: nodes are stored beside the memory instead of in it, one index covers all
//! blocks, and a bounded search in the request's own size class precedes the first class that is sure to
//! fit, which makes the fit much tighter at constant cost. The two levels of the bitmap are one array, so
//! that a class is a single number.

/// Evaluates an expression with a [`Hot`], the tables of a suballocator as one row or several.
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
mod evicting;
mod hot;
mod moving;
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

/// The number of candidates that `MIN_MEMORY` compares.
const BEST_FIT_CANDIDATES: u32 = 64;
/// The number of candidates that are tried before a request fails: far cheaper than a driver call.
const LAST_RESORT_CANDIDATES: u32 = 512;
/// The end of a region is rounded up to its alignment, but by an alignment of at most this many bytes: a
/// smaller gap between two regions of one alignment could not be used and would cost a node. The padding
/// is at most the size of the region, because small regions of a large alignment may be all that a block
/// holds.
const MAX_ROUNDING: u64 = 256;

#[derive(Debug)]
struct Block {
    size: u64,
    /// The node that is linked before the first and behind the last region.
    edge: u32,
    used: bool,
}

/// TLSF suballocator.
///
/// # Time complexity
/// `allocate`, `free` and `release`: O(1), with at most 512 candidates per allocation; O(regions) with
/// [`Strategy::MinOffset`]. Everything else as [`Suballocator`] says.
#[derive(Debug)]
pub struct Tlsf {
    regions: RegionTable,
    blocks: Vec<Block>,
    /// The number of live regions of each block. A dense array, because each call updates one: with ten
    /// thousand blocks an array of all their fields would not fit into the cache.
    live_counts: Vec<u32>,
    vacant_blocks: Vec<u32>,
    free: Bins,
    /// Sizes and offsets of regions are multiples of this many bytes, except at the end of a block.
    granule: u64,
    /// `bufferImageGranularity` in bytes.
    granularity: u64,
    /// The kinds of all regions since the suballocator was last empty, as bits of [`kind_bits`]; only if
    /// `granularity` is not 1.
    kinds: u8,
    /// Whether a neighbour may conflict with the request at hand: `kinds` has more than one bit.
    kinds_conflict_possible: bool,
    /// The number of blocks with live regions.
    busy_blocks: u32,
    deferred: Deferred,
    host_memory_failed: bool,
}

/// Returns the bits of a kind in [`Tlsf::kinds`]; kinds that may share a page with each other have one
/// common bit, and a kind that conflicts with all has two.
fn kind_bits(kind: ResourceKind) -> u8 {
    match kind {
        ResourceKind::Buffer | ResourceKind::ImageLinear => 0b001,
        ResourceKind::ImageOptimal => 0b010,
        ResourceKind::Unknown | ResourceKind::ImageUnknown => 0b101,
    }
}

impl Tlsf {
    /// Creates a suballocator without blocks. Sizes are rounded up to `granule` bytes; `granularity` is
    /// `bufferImageGranularity` in bytes, 1 if it does not matter. Both are powers of two.
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
            kinds_conflict_possible: false,
            busy_blocks: 0,
            deferred: Deferred::default(),
            host_memory_failed: false,
        }
    }

    /// Returns the first fit (or the smallest, if `best`) among the next `look` regions of a class.
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

    /// Searches the classes from `class` on, at most `look` regions in all.
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

    /// Returns a region that is large enough whatever alignment and page conflicts cost.
    fn look_sure(&self, size: u64, request: &RegionRequest) -> Candidate {
        let padding = (request.alignment - 1) & !(self.granule - 1);
        // A conflict costs at most one page at either end.
        let pages = if self.kinds_conflict_possible { 2 * self.granularity } else { 0 };
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

    /// Allocates with a strategy other than `Balanced`, or after the first search found nothing.
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

    /// Subtracts a region from the count of its block; returns whether that was the last one.
    #[inline(always)]
    fn count_out(&mut self, block: u32) -> bool {
        let live = &mut self.live_counts[block as usize];
        *live = live.wrapping_sub(1);
        let block_is_empty = *live == 0;
        if block_is_empty {
            self.busy_blocks -= 1;
            if self.busy_blocks == 0 {
                // Freed regions that wait to be merged have a kind, too.
                self.settle_all();
                if self.deferred.is_empty() {
                    self.kinds = 0;
                }
            }
        }
        block_is_empty
    }

    /// Returns the bytes that a request needs, and the bytes that it takes where there is room; `None` if
    /// the sums could overflow.
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
                self.look_upwards(class_of(size), size, request, BEST_FIT_CANDIDATES, true)
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
        self.look_upwards(class_of(size), size, request, LAST_RESORT_CANDIDATES, false)
    }

    /// Turns a block into one free region.
    fn start(&mut self, block: u32, size: u64) {
        let (edge, first) = (self.regions.take(block), self.regions.take(block));
        self.blocks[block as usize] = Block { size, edge, used: true };
        self.live_counts[block as usize] = 0;
        self.regions.node_mut(edge).set_edge(edge);
        // After `clear` the memory is still held.
        assert!(self.free.has_room_for(1) || self.free.try_grow(), "memory was reserved");
        self.put_in(edge, first, 0, size);
    }

    /// Appends a free region to a block, merged with the last one if that is free.
    fn put_in(&mut self, edge: u32, index: u32, offset: u64, size: u64) {
        let last = self.regions.node(edge).previous;
        let node = self.regions.node_mut(index);
        node.set_free(offset, size);
        node.previous = last;
        node.next = edge;
        hot!(self, hot => hot.merge(index, offset, offset + size, [last, edge]));
    }

    /// Notes the kind of a request, which decides whether neighbours may conflict from now on.
    #[inline(always)]
    fn note_kind(&mut self, kind: ResourceKind) {
        if self.granularity != 1 {
            self.kinds |= kind_bits(kind);
            self.kinds_conflict_possible = !self.kinds.is_power_of_two();
        }
    }

    /// Makes room for what one call may take; returns false and sets `host_memory_failed` if host memory is
    /// exhausted.
    #[inline(always)]
    fn make_room(&mut self) -> bool {
        (self.regions.has_room_for(ROOM) && self.free.has_room_for(ROOM as u32)) || self.grow()
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> bool {
        let grown = (self.regions.has_room_for(ROOM) || self.regions.try_grow())
            && (self.free.has_room_for(ROOM as u32) || self.free.try_grow());
        self.host_memory_failed |= !grown;
        grown
    }

    #[inline(always)]
    fn granularity(&self) -> u64 {
        if self.kinds_conflict_possible { self.granularity } else { 1 }
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
            && self.regions.try_prepare_block(next, 2)
            && self.make_room();
        self.host_memory_failed = false;
        reserved
    }

    fn take_host_memory_failure(&mut self) -> bool {
        std::mem::take(&mut self.host_memory_failed)
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
        // One region, unless some could not be merged when host memory was exhausted.
        let mut index = target(self.regions.node(edge).next);
        while index != edge {
            let node = *self.regions.node(index);
            if node.is_free() {
                hot!(self, hot => hot.unlink(class_of(node.size()), node.position()));
            } else {
                self.deferred.forget_unindexed();
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
                (found, if self.kinds_conflict_possible { None } else { hot.take_lower_end(found, rounded, request) })
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

    fn has_unmerged(&self) -> bool {
        !self.deferred.is_empty()
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
