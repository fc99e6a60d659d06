//! The buddy system: regions of powers of two that split into halves and merge again.
//!
//! ```text
//!   order 4   [                free               ]
//!   order 3   [      live      ][      free       ]
//!   order 2                     [ live ][  free   ]     the buddy of a region: offset xor size
//! ```
//!
//! If the size of a block is not a power of two, the largest power of two below it is used and the rest
//! is one unused range. After Knowlton, "A fast storage allocator" (1965), with one free list per order
//! for all blocks.

mod evicting;
mod moving;

use super::bins::{Bins, class_of};
use super::granularity::conflict;
use super::interface::Suballocator;
use super::node::{MAX_SIZE, NONE};
use super::region::RegionTable;
use super::values::{BlockIndex, FreedRegion, Placement, RegionRequest, RegionView};
use crate::handle::SlotKey;
use crate::request::ResourceKind;

/// The number of free regions that are searched for one that contains a multiple of the alignment.
const MAX_CANDIDATES: usize = 512;

#[derive(Debug)]
struct Block {
    size: u64,
    /// The region at offset 0.
    first: u32,
    live: u32,
    used: bool,
}

/// Buddy suballocator.
///
/// # Time complexity
/// `allocate` and `free`: O(log(block size / `smallest`)), at most one split or merge per order.
/// `grow_block`: O(regions of the block).
#[derive(Debug)]
pub struct Buddy {
    regions: RegionTable,
    blocks: Vec<Block>,
    vacant_blocks: Vec<u32>,
    /// The free regions. Only powers of two occur, so only the first of the 16 classes of each power is
    /// used.
    free: Bins,
    /// Size of the smallest region in bytes.
    smallest: u64,
    granularity: u64,
    host_memory_failed: bool,
}

impl Buddy {
    /// Creates a suballocator without blocks. `smallest` is the size of the smallest region in bytes;
    /// `granularity` is `bufferImageGranularity` in bytes, 1 if it does not matter. Both are powers of
    /// two.
    pub fn new(smallest: u64, granularity: u64) -> Self {
        assert!(smallest.is_power_of_two() && granularity.is_power_of_two());
        Self {
            regions: RegionTable::default(),
            blocks: Vec::new(),
            vacant_blocks: Vec::new(),
            free: Bins::default(),
            smallest,
            granularity,
            host_memory_failed: false,
        }
    }

    /// Returns the size in bytes of the region for a request: a power of two that is at least the
    /// alignment, and at least a whole page if others must not share it.
    fn region_size(&self, request: &RegionRequest) -> Option<u64> {
        let shares = matches!(request.kind, ResourceKind::Buffer | ResourceKind::ImageLinear);
        let page = if shares { 1 } else { self.granularity };
        let size = request.size.max(request.alignment).max(self.smallest).max(page);
        size.checked_next_power_of_two().filter(|&size| size <= MAX_SIZE)
    }

    /// Reserves memory for everything one request may need; see [`make_room_for`](Self::make_room_for).
    fn make_room(&mut self) -> bool {
        self.make_room_for(1)
    }

    /// Reserves memory for everything some requests may need (a slot and an index entry per split) and for
    /// everything that can be free at once, so that `free` needs none.
    fn make_room_for(&mut self, requests: usize) -> bool {
        while !self.regions.has_room_for(requests * self.orders()) {
            if !self.regions.try_grow() {
                return false;
            }
        }
        let chunks = 2 + self.orders() + self.regions.nodes().len() / 7;
        while self.free.chunk_count() < chunks {
            if !self.free.try_grow() {
                return false;
            }
        }
        true
    }

    /// Returns an upper bound of the number of different region sizes in a block.
    fn orders(&self) -> usize {
        self.free.class_count() / 16 + 2
    }

    /// Makes room for a request; returns false and sets `host_memory_failed` if host memory is exhausted. The index
    /// grows with the slots, so only these are tested.
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.regions.has_room_for(self.orders()) {
            return true;
        }
        self.host_memory_failed = !self.make_room();
        !self.host_memory_failed
    }

    /// Turns a block into one free region.
    fn start(&mut self, block: u32, size: u64) {
        let first = self.regions.take(block);
        let node = self.regions.node_mut(first);
        node.set_free(0, 1 << size.ilog2());
        node.previous = NONE;
        node.next = NONE;
        // After `clear` the memory is still held.
        assert!(self.free.has_room_for(1) || self.free.try_grow(), "memory was reserved");
        self.link(first);
        self.blocks[block as usize] = Block { size, first, live: 0, used: true };
    }

    fn block(&self, block: BlockIndex) -> &Block {
        let block = &self.blocks[block.0 as usize];
        assert!(block.used, "the block was removed");
        block
    }

    fn link(&mut self, index: u32) {
        let size = self.regions.node(index).size();
        let position = self.free.far().insert(class_of(size), size, index);
        self.regions.node_mut(index).set_position(position);
    }

    fn unlink(&mut self, index: u32) {
        let node = self.regions.node(index);
        let position = node.position();
        let moved = self.free.far().remove(class_of(node.size()), position);
        self.regions.node_mut(moved).set_position(position);
    }

    /// Halves an unlinked free region and links the upper half.
    fn split(&mut self, index: u32) {
        let node = *self.regions.node(index);
        let half = node.size() / 2;
        let upper = self.regions.take(self.regions.block_of(index));
        let upper_node = self.regions.node_mut(upper);
        upper_node.set_free(node.offset + half, half);
        upper_node.previous = index;
        upper_node.next = node.next;
        if node.next != NONE {
            self.regions.node_mut(node.next).previous = upper;
        }
        let lower = self.regions.node_mut(index);
        lower.set_free(node.offset, half);
        lower.next = upper;
        self.link(upper);
    }

    /// Returns the other half of the region that this one was split from, if it is free and not split
    /// itself.
    fn free_buddy(&self, index: u32) -> Option<u32> {
        let node = self.regions.node(index);
        debug_assert!(node.is_free());
        let buddy = if node.offset & node.size() == 0 { node.next } else { node.previous };
        let whole = |it: &super::node::Node| it.is_free() && it.size() == node.size();
        (buddy != NONE && whole(self.regions.node(buddy))).then_some(buddy)
    }

    /// Merges two buddies; returns the slot of the result, which is that of the lower one.
    fn join(&mut self, a: u32, b: u32) -> u32 {
        let lower_first = self.regions.node(a).offset < self.regions.node(b).offset;
        let (lower, upper) = if lower_first { (a, b) } else { (b, a) };
        let gone = *self.regions.node(upper);
        let node = self.regions.node_mut(lower);
        let (offset, size) = (node.offset, node.size() * 2);
        node.set_free(offset, size);
        node.next = gone.next;
        if gone.next != NONE {
            self.regions.node_mut(gone.next).previous = lower;
        }
        self.regions.give_back(upper);
        lower
    }

    /// Merges a free, unlinked region with its buddy, the result with its own buddy and so on, and links
    /// the last result.
    fn join_and_link(&mut self, mut index: u32) -> u32 {
        while let Some(buddy) = self.free_buddy(index) {
            self.unlink(buddy);
            index = self.join(index, buddy);
        }
        self.link(index);
        index
    }

    #[inline(never)]
    fn place(&mut self, request: &RegionRequest) -> Option<SlotKey> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        let size = self.region_size(request)?;
        let found = self.free.far().first_from(class_of(size)).0;
        if !found.is_some() {
            return None;
        }
        let index = found.node();
        self.unlink(index);
        while self.regions.node(index).size() > size {
            self.split(index);
        }
        Some(self.begin(index, size, request))
    }

    /// See [`Suballocator::allocate_at_multiple`]: searches for a free region that contains, once it is
    /// split to the right size, a region that starts at a multiple of the alignment.
    #[inline(never)]
    fn place_at_multiple(&mut self, request: &RegionRequest) -> Option<SlotKey> {
        debug_assert!(self.granularity == 1 && request.size > 0 && request.alignment > 0);
        // The power of two in the alignment is kept by the size itself; the odd factor by one in so many
        // regions.
        let even = 1 << request.alignment.trailing_zeros();
        let size = self.region_size(&RegionRequest { alignment: even, ..*request })?;
        let step = u128::from(size) * u128::from(request.alignment / even);
        let start_in = |offset: u64, whole: u64| {
            let start = u128::from(offset).next_multiple_of(step);
            let end = u128::from(offset) + u128::from(whole);
            (start + u128::from(size) <= end).then_some(start as u64)
        };
        let mut class = class_of(size);
        let mut look = MAX_CANDIDATES;
        let (mut index, start) = loop {
            class = self.free.next_used(class)?;
            let found = self.free.of_class(class).take(look).find_map(|entry| {
                look -= 1;
                let node = self.regions.node(entry.node());
                Some((entry.node(), start_in(node.offset, node.size())?))
            });
            match found {
                Some(found) => break found,
                None if look == 0 => return None,
                None => class += 1,
            }
        };
        self.unlink(index);
        while self.regions.node(index).size() > size {
            self.split(index);
            let upper = self.regions.node(index).next;
            if self.regions.node(upper).offset <= start {
                // The lower half stays free; the upper one is split further.
                self.unlink(upper);
                self.link(index);
                index = upper;
            }
        }
        debug_assert!(self.regions.node(index).offset == start);
        Some(self.begin(index, size, request))
    }

    /// Turns an unlinked free region of the right size into a live one.
    fn begin(&mut self, index: u32, size: u64, request: &RegionRequest) -> SlotKey {
        let block = self.regions.block_of(index);
        let node = self.regions.node_mut(index);
        node.set_live_in_power(node.offset, request.size, request.kind, size.ilog2());
        node.set_alignment(request.alignment);
        self.blocks[block as usize].live += 1;
        self.regions.begin_life(index)
    }
}

impl Suballocator for Buddy {
    fn try_reserve_block(&mut self, size: u64) -> bool {
        let blocks = self.blocks.len();
        let next = self.vacant_blocks.last().copied().unwrap_or(blocks as u32);
        self.blocks.try_reserve(1).is_ok()
            && self.vacant_blocks.try_reserve(blocks + 1).is_ok()
            && self.free.try_reserve(class_of(1 << size.ilog2()))
            && self.regions.try_prepare_block(next, 1)
            && self.make_room()
    }

    fn take_host_memory_failure(&mut self) -> bool {
        std::mem::take(&mut self.host_memory_failed)
    }

    fn add_block(&mut self, size: u64) -> BlockIndex {
        assert!(size > 0 && size <= MAX_SIZE, "a block of {size} bytes");
        assert!(self.try_reserve_block(size), "host memory for a block");
        let block = self.vacant_blocks.pop().unwrap_or_else(|| {
            self.blocks.push(Block { size: 0, first: NONE, live: 0, used: false });
            (self.blocks.len() - 1) as u32
        });
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
        if !self.has_room() {
            return None;
        }
        let key = self.place(&{ *request })?;
        Some(self.regions.placement(key))
    }

    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement> {
        if !self.has_room() {
            return None;
        }
        if !self.regions.try_reserve_odd_alignment(request.alignment) {
            self.host_memory_failed = true;
            return None;
        }
        let key = self.place_at_multiple(request)?;
        self.regions.note_odd_alignment(key, request.alignment);
        Some(self.regions.placement(key))
    }

    fn free(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let node = self.regions.end_life(key)?;
        let index = self.regions.block_of(key.index());
        self.regions.node_mut(key.index()).set_free(node.offset, node.footprint());
        self.join_and_link(key.index());
        let block = &mut self.blocks[index as usize];
        block.live -= 1;
        let (info, tag) = (node.info(index), node.tag());
        Some(FreedRegion { info, tag, block_is_empty: block.live == 0 })
    }

    fn clear(&mut self) {
        self.regions.clear();
        self.free.clear();
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
        assert!(self.try_reserve_block(size), "host memory for a block");
        self.blocks[block.0 as usize].size = size;
        let mut last = self.regions.last_from(first);
        let mut used = 1u64 << before.ilog2();
        // What was all of it becomes the lower half, again and again.
        while used < 1 << size.ilog2() {
            last = self.regions.append_free(last, used, used);
            last = self.join_and_link(last);
            last = self.regions.last_from(last);
            used *= 2;
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
        self.regions.visit_live(self.block(block).first, NONE, visit);
    }

    /// Reports free neighbours that are not buddies as separate ranges, since no request can use both.
    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        let Block { size, first, .. } = *self.block(block);
        let unused = |offset, end: u64| RegionView { offset, size: end - offset, live: None };
        let (mut index, mut end) = (first, 0);
        while index != NONE {
            let node = self.regions.node(index);
            let (offset, used) = (node.offset, node.offset + node.size());
            end = node.end();
            if node.is_free() {
                visit(unused(offset, end));
            } else {
                let live = Some((self.regions.key_of(index), node.kind()));
                visit(RegionView { offset, size: node.size(), live });
                if used < end {
                    visit(unused(used, end));
                }
            }
            index = node.next;
        }
        if end < size {
            visit(unused(end, size));
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
        let (mut slots, mut free) = (0, 0);
        for (number, block) in (0u32..).zip(&self.blocks).filter(|(_, block)| block.used) {
            let at = |what: &str| Err(format!("block {number}: {what}"));
            let (mut index, mut previous, mut end, mut live) = (block.first, NONE, 0, 0);
            let mut last_live: Option<(u64, ResourceKind)> = None;
            while index != NONE {
                let node = self.regions.node(index);
                slots += 1;
                if node.previous != previous || node.offset != end {
                    return at("regions do not follow each other");
                }
                let size = node.footprint();
                if !size.is_power_of_two() || !node.offset.is_multiple_of(size) {
                    return at("a region is not a power of two at a multiple of itself");
                }
                if node.is_free() {
                    free += 1;
                    if self.free_buddy(index).is_some() {
                        return at("two free buddies are not joined");
                    }
                } else {
                    live += 1;
                    let page = |offset: u64| offset & !(self.granularity - 1);
                    if let Some((last_end, kind)) = last_live
                        && self.granularity > 1
                        && page(last_end - 1) == page(node.offset)
                        && conflict(kind, node.kind())
                    {
                        return at("conflicting kinds share a page");
                    }
                    last_live = Some((node.end(), node.kind()));
                }
                end = node.end();
                previous = index;
                index = node.next;
            }
            if end != 1 << block.size.ilog2() || live != block.live {
                return at("its regions do not add up to its size and count");
            }
        }
        if !self.free.is_right() {
            return Err("an order is marked wrongly".into());
        }
        for order in 0..=MAX_SIZE.ilog2() {
            for (position, entry) in self.free.positions_of_class(class_of(1 << order)) {
                let node = self.regions.node(entry.node());
                let right = node.is_free() && node.size() == 1 << order && free > 0;
                if !right || node.position() != position {
                    return Err(format!("the index of order {order} is broken"));
                }
                free -= 1;
            }
        }
        if free != 0 || slots != self.regions.used_slots() {
            return Err("regions are lost".into());
        }
        Ok(())
    }
}
