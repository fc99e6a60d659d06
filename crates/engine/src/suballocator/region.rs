//! The regions of all blocks of a suballocator: a slab of nodes linked in order of their offsets.
//!
//! ```text
//!   block 0   [ live ][ free      ][ live ][ live ][ free ]      neighbours by `previous`, `next`
//!   block 1   [ free                                      ]
//! ```
//!
//! A node is 32 bytes, half a line of the cache, and has its identity with it: of many regions, each
//! look at a node is a miss. Only suballocators of several blocks keep the block beside it. Slots are
//! recycled; a generation in the node makes every old key stale.

use super::bins::Position;
use super::slab::Slab;
use super::{RegionInfo, RegionTag};
use crate::request::ResourceKind;
use crate::statistics::Statistics;

/// A block of a suballocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockIndex(pub u32);

/// A slot and the generation in which it was taken, in one number: a key that was stored in halves
/// and is loaded as a whole waits for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionKey(u64);

impl RegionKey {
    /// Of a slot and a generation.
    #[inline]
    pub fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot.
    #[inline]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// Odd while the region lives.
    #[inline]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The generation above, the slot below.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`to_bits`](Self::to_bits) gave.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// No node.
pub(super) const NONE: u32 = u32::MAX >> 1;

/// A link to a region that is free, in suballocators that say so: then the neighbours of a region
/// need not be looked at to find out.
pub(super) const FREE_LINK: u32 = 1 << 31;

/// Whether a link says that the neighbour is free.
pub(super) fn is_free_link(link: u32) -> bool {
    link & FREE_LINK != 0
}

/// The neighbour that a link leads to, or `NONE`.
pub(super) fn target(link: u32) -> u32 {
    link & !FREE_LINK
}

const KIND_SHIFT: u32 = 60;
const FREE: u64 = 1 << 63;
const SIZE_MASK: u64 = (1 << KIND_SHIFT) - 1;
/// No region is free and has no bytes.
const VACANT: u64 = FREE;

/// A live region keeps the owner's tag in the low bits of `extra`, and above it what it takes up: so
/// many bytes more than its size, or, with the highest bit set, a power of two.
const TAG_BITS: u32 = 10;
const TAG_MASK: u32 = (1 << TAG_BITS) - 1;
const POWER: u32 = 1 << 31;
/// What a suballocator that does not use powers may add, at most.
pub(super) const MAX_PADDING: u64 = 1 << 16;

/// The largest block: sizes share a word with kind and state.
pub(super) const MAX_SIZE: u64 = SIZE_MASK;

/// One region, used or free.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    pub offset: u64,
    /// Size in the low 60 bits, as requested when live; kind above, the top bit set when free.
    word: u64,
    /// Links to the neighbours in the block.
    pub previous: u32,
    pub next: u32,
    /// Odd while the region lives.
    generation: u32,
    /// Free: the position in the index. Live: the tag and what it takes up.
    extra: u32,
}

impl Node {
    /// As requested, or of the unused range.
    pub fn size(&self) -> u64 {
        self.word & SIZE_MASK
    }

    /// What it takes up.
    pub fn footprint(&self) -> u64 {
        if self.is_free() {
            self.size()
        } else if self.extra & POWER == 0 {
            self.size() + u64::from(self.extra >> TAG_BITS)
        } else {
            1 << (self.extra >> TAG_BITS & 63)
        }
    }

    pub fn end(&self) -> u64 {
        self.offset + self.footprint()
    }

    pub fn is_free(&self) -> bool {
        self.word & FREE != 0
    }

    pub fn kind(&self) -> ResourceKind {
        match (self.word >> KIND_SHIFT) & 7 {
            1 => ResourceKind::Buffer,
            2 => ResourceKind::ImageUnknown,
            3 => ResourceKind::ImageLinear,
            4 => ResourceKind::ImageOptimal,
            _ => ResourceKind::Unknown,
        }
    }

    /// What a live region of a block is.
    pub fn info(&self, block: u32) -> RegionInfo {
        let block = BlockIndex(block);
        RegionInfo { block, offset: self.offset, size: self.size(), kind: self.kind() }
    }

    pub fn set_free(&mut self, offset: u64, size: u64) {
        debug_assert!(size <= SIZE_MASK);
        self.offset = offset;
        self.word = size | FREE;
    }

    /// The same, at a position of the index.
    pub fn set_free_at(&mut self, offset: u64, size: u64, position: Position) {
        self.set_free(offset, size);
        self.extra = position;
    }

    /// Live, taking up `padding` more than it has.
    pub fn set_live(&mut self, offset: u64, size: u64, kind: ResourceKind, padding: u64) {
        debug_assert!(size <= SIZE_MASK && padding < MAX_PADDING);
        self.offset = offset;
        self.word = size | (u64::from(kind as u8) << KIND_SHIFT);
        self.extra = (padding as u32) << TAG_BITS;
    }

    /// Live, taking up 2^`order` bytes.
    pub fn set_live_in_power(&mut self, offset: u64, size: u64, kind: ResourceKind, order: u32) {
        self.set_live(offset, size, kind, 0);
        self.extra = POWER | order << TAG_BITS;
    }

    /// Makes the generation odd: a key exists from now on.
    pub fn begin_life(&mut self) -> u32 {
        debug_assert!(self.generation.is_multiple_of(2));
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    pub fn position(&self) -> Position {
        debug_assert!(self.is_free());
        self.extra
    }

    pub fn set_position(&mut self, position: Position) {
        self.extra = position;
    }

    pub fn tag(&self) -> RegionTag {
        debug_assert!(!self.is_free());
        RegionTag {
            map_count: (self.extra & 0xff) as u8,
            persistently_mapped: self.extra & 0x100 != 0,
            named: self.extra & 0x200 != 0,
        }
    }

    pub fn set_tag(&mut self, tag: RegionTag) {
        debug_assert!(!self.is_free());
        self.extra = (self.extra & !TAG_MASK)
            | u32::from(tag.map_count)
            | (u32::from(tag.persistently_mapped) << 8)
            | (u32::from(tag.named) << 9);
    }
}

/// The slab. Opaque outside of the suballocators.
#[derive(Debug)]
pub struct RegionTable {
    nodes: Slab<Node, 16384, 256>,
    /// The block of each node; empty while all are of block 0.
    blocks: Slab<u32, 16384, 1024>,
    /// First unused slot; they are linked through `next`.
    vacant: u32,
    vacant_count: usize,
}

impl Default for RegionTable {
    fn default() -> Self {
        Self { nodes: Slab::default(), blocks: Slab::default(), vacant: NONE, vacant_count: 0 }
    }
}

impl RegionTable {
    pub(super) fn node(&self, index: u32) -> &Node {
        &self.nodes[index]
    }

    pub(super) fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index]
    }

    pub(super) fn block_of(&self, index: u32) -> u32 {
        if self.blocks.is_empty() { 0 } else { self.blocks[index] }
    }

    /// A slot for a region of `block`; its node still has to be filled.
    ///
    /// # Panics
    /// At 2^31 - 1 regions.
    pub(super) fn take(&mut self, block: u32) -> u32 {
        if block != 0 && self.blocks.is_empty() {
            (0..self.nodes.len()).for_each(|_| self.blocks.push(0));
        }
        let index = self.vacant;
        if index != NONE {
            self.vacant = self.nodes[index].next;
            self.vacant_count -= 1;
            if !self.blocks.is_empty() {
                self.blocks[index] = block;
            }
            return index;
        }
        self.push(block)
    }

    #[cold]
    fn push(&mut self, block: u32) -> u32 {
        let index = u32::try_from(self.nodes.len()).ok().filter(|&index| index < NONE);
        let index = index.expect("fewer than 2^31 - 1 regions");
        self.nodes.push(Node {
            offset: 0,
            word: FREE,
            previous: NONE,
            next: NONE,
            generation: 0,
            extra: 0,
        });
        // Block 0 may come first and last, and others in between.
        if block != 0 || !self.blocks.is_empty() {
            self.blocks.push(block);
        }
        index
    }

    /// Gives a slot back.
    pub(super) fn give_back(&mut self, index: u32) {
        let vacant = self.vacant;
        let node = self.node_mut(index);
        node.word = VACANT;
        node.next = vacant;
        self.vacant = index;
        self.vacant_count += 1;
    }

    /// Makes a key of the slot, whose node is live from now on.
    pub(super) fn begin_life(&mut self, index: u32) -> RegionKey {
        RegionKey::new(index, self.node_mut(index).begin_life())
    }

    /// Makes a key stale and gives what its node was; `None` if it is stale already.
    #[inline]
    pub(super) fn end_life(&mut self, key: RegionKey) -> Option<Node> {
        let node = self.nodes.get_mut(key.index())?;
        if node.generation != key.generation() || key.generation().is_multiple_of(2) {
            return None;
        }
        node.generation = node.generation.wrapping_add(1);
        Some(*node)
    }

    /// Makes every key stale and every slot vacant.
    pub(super) fn clear(&mut self) {
        let count = self.nodes.len() as u32;
        for (next, node) in (1..).zip(self.nodes.iter_mut()) {
            node.generation = node.generation.wrapping_add(node.generation & 1);
            node.word = VACANT;
            node.next = if next < count { next } else { NONE };
        }
        self.vacant = if count > 0 { 0 } else { NONE };
        self.vacant_count = self.nodes.len();
    }

    /// The node of a key, if its region lives.
    pub(super) fn live(&self, key: RegionKey) -> Option<&Node> {
        let node = self.nodes.get(key.index())?;
        (node.generation == key.generation() && key.generation() % 2 == 1).then_some(node)
    }

    /// What a live region is; `None` if the key is stale.
    pub(super) fn info(&self, key: RegionKey) -> Option<RegionInfo> {
        self.live(key).map(|node| node.info(self.block_of(key.index())))
    }

    /// The owner's bits; `None` if the key is stale.
    pub(super) fn tag(&self, key: RegionKey) -> Option<RegionTag> {
        self.live(key).map(Node::tag)
    }

    /// Changes the owner's bits; does nothing if the key is stale.
    pub(super) fn set_tag(&mut self, key: RegionKey, tag: RegionTag) {
        if self.live(key).is_some() {
            self.node_mut(key.index()).set_tag(tag);
        }
    }

    /// Appends a free region to the neighbours of a block, whose last one is `last`.
    pub(super) fn append_free(&mut self, last: u32, offset: u64, size: u64) -> u32 {
        let index = self.take(self.block_of(last));
        let node = self.node_mut(index);
        node.set_free(offset, size);
        node.previous = last;
        node.next = NONE;
        self.node_mut(last).next = index;
        index
    }

    /// The last region of a block, from any of its regions on. O(regions).
    pub(super) fn last_from(&self, mut index: u32) -> u32 {
        while target(self.node(index).next) != NONE {
            index = target(self.node(index).next);
        }
        index
    }

    /// Calls `visit` with offset, size, key and kind of the live regions from a slot on.
    pub(super) fn visit_live_from(
        &self,
        mut index: u32,
        visit: &mut dyn FnMut(u64, u64, RegionKey, ResourceKind),
    ) {
        while index != NONE {
            let node = self.node(index);
            if !node.is_free() {
                visit(node.offset, node.size(), self.key_of(index), node.kind());
            }
            index = target(node.next);
        }
    }

    /// Counts the regions of all blocks, where free neighbours are merged and links say which are
    /// free. In the order of the slots: no look waits for the one before it.
    pub(super) fn count(&self, statistics: &mut Statistics) {
        for node in self.nodes.iter() {
            if !node.is_free() {
                statistics.add_allocation(node.size());
                let padding = node.footprint() - node.size();
                if padding > 0 && !is_free_link(node.next) {
                    statistics.add_unused_range(padding);
                }
            } else if node.word != VACANT {
                let before = if node.previous == NONE {
                    0
                } else {
                    let before = self.node(node.previous);
                    before.footprint() - before.size()
                };
                statistics.add_unused_range(before + node.size());
            }
        }
    }

    /// The key of a live slot.
    pub(super) fn key_of(&self, index: u32) -> RegionKey {
        RegionKey::new(index, self.nodes[index].generation)
    }

    pub(super) fn used_slots(&self) -> usize {
        self.nodes.len() - self.vacant_count
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.blocks.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_half_a_line_of_the_cache() {
        assert_eq!(size_of::<Node>(), 32);
    }

    #[test]
    fn recycled_slots_make_old_keys_stale() {
        let mut table = RegionTable::default();
        let first = table.take(0);
        let key = table.begin_life(first);
        assert!(table.live(key).is_some());
        assert!(table.end_life(key).is_some());
        assert!(table.live(key).is_none() && table.end_life(key).is_none());
        table.give_back(first);
        let again = table.take(1);
        assert_eq!(again, first);
        let second = table.begin_life(again);
        assert!(table.live(second).is_some() && table.live(key).is_none());
        assert!(table.live(RegionKey::new(9, 1)).is_none());
    }
}
