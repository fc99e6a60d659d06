//! The regions of all blocks of a suballocator: a slab of nodes linked in order of their offsets.
//!
//! ```text
//!   block 0   [ live ][ free      ][ live ][ live ][ free ]      neighbours by `previous`, `next`
//!   block 1   [ free                                      ]
//! ```
//!
//! A node is 32 bytes, half a line of the cache, and has its identity with it: of many regions, each
//! look at a node is a miss. Only suballocators of several blocks keep the block beside it. Slots are
//! recycled; each life has a generation of its own, which makes every old key stale.

use std::hint::select_unpredictable;

use super::bins::Position;
use super::slab::{Entries, Slab};
use super::{Placement, RegionInfo, RegionTag};
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
    /// Of no region.
    pub const NONE: Self = Self(0);

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

/// What `extra` says: of a free region, its position in the index below the highest bit ...
const FREE: u32 = 1 << 31;
/// ... and of a live one, from the lowest bit on: the owner's tag, its kind, and what it takes up. That
/// is so many bytes more than its size, or with `POWER` a power of two.
const TAG_MASK: u32 = (1 << KIND_SHIFT) - 1;
const KIND_SHIFT: u32 = 10;
const POWER: u32 = 1 << 13;
const PADDING_SHIFT: u32 = 14;
/// What a suballocator that does not use powers may add is less.
pub(super) const MAX_PADDING: u64 = 1 << 16;

/// The largest block: then sums of what the index reckons with are far from the end of numbers.
pub(super) const MAX_SIZE: u64 = (1 << 60) - 1;

/// One region, used or free.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    pub offset: u64,
    /// As requested, or of the unused range.
    size: u64,
    /// Links to the neighbours in the block.
    pub previous: u32,
    pub next: u32,
    /// Odd while the region lives, 0 else.
    generation: u32,
    /// See [`FREE`] and the constants behind it.
    extra: u32,
}

/// A vacant one.
impl Default for Node {
    fn default() -> Self {
        Self { offset: 0, size: 0, previous: NONE, next: NONE, generation: 0, extra: FREE }
    }
}

impl Node {
    /// As requested, or of the unused range.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it takes up.
    pub fn footprint(&self) -> u64 {
        if self.is_free() {
            self.size
        } else if self.extra & POWER == 0 {
            self.size + self.padding()
        } else {
            1 << (self.extra >> PADDING_SHIFT & 63)
        }
    }

    pub fn end(&self) -> u64 {
        self.offset + self.footprint()
    }

    /// What a region of [`set_live`](Self::set_live) takes up beyond its size.
    #[inline]
    pub fn padding(&self) -> u64 {
        debug_assert!(self.is_edge() || !self.is_free() && self.extra & POWER == 0);
        u64::from(self.extra >> PADDING_SHIFT) & (MAX_PADDING - 1)
    }

    /// Makes it the edge of a block, which lies before its first and behind its last region: so that
    /// no region is without neighbours. It is neither free nor live.
    pub fn set_edge(&mut self, index: u32) {
        *self = Self { previous: index, next: index, ..Self::default() };
    }

    /// Also of a vacant slot: no region is free and has no bytes.
    pub fn is_edge(&self) -> bool {
        self.is_free() && self.size == 0
    }

    pub fn is_free(&self) -> bool {
        self.extra & FREE != 0
    }

    pub fn kind(&self) -> ResourceKind {
        match (self.extra >> KIND_SHIFT) & 7 {
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
        self.set_free_at(offset, size, 0);
    }

    /// The same, at a position of the index.
    #[inline(always)]
    pub fn set_free_at(&mut self, offset: u64, size: u64, position: Position) {
        debug_assert!(size <= MAX_SIZE);
        self.offset = offset;
        self.size = size;
        self.set_position(position);
    }

    /// Live, taking up `padding` more than it has.
    #[inline(always)]
    pub fn set_live(&mut self, offset: u64, size: u64, kind: ResourceKind, padding: u64) {
        debug_assert!(size <= MAX_SIZE && padding < MAX_PADDING);
        self.offset = offset;
        self.size = size;
        self.extra = (padding as u32) << PADDING_SHIFT | u32::from(kind as u8) << KIND_SHIFT;
    }

    /// Live, taking up 2^`order` bytes.
    pub fn set_live_in_power(&mut self, offset: u64, size: u64, kind: ResourceKind, order: u32) {
        self.set_live(offset, size, kind, 0);
        self.extra |= POWER | order << PADDING_SHIFT;
    }

    /// The key of a region that lives.
    #[inline]
    pub fn is_of(&self, key: RegionKey) -> bool {
        self.generation == key.generation() && self.generation % 2 == 1
    }

    /// Free from now on, with nothing that could be taken for a key of it.
    #[inline(always)]
    pub fn end_life(&mut self, offset: u64, size: u64) {
        self.set_free(offset, size);
        self.generation = 0;
    }

    pub fn position(&self) -> Position {
        debug_assert!(self.is_free());
        self.extra & !FREE
    }

    #[inline(always)]
    pub fn set_position(&mut self, position: Position) {
        self.extra = FREE | position;
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

/// So many regions are in a row, and after that in pages of so many.
const FIRST: usize = 16384;
pub(super) const PAGE: usize = 512;
/// The regions of a table.
pub(super) type Nodes = Slab<Node, FIRST, PAGE>;
/// The blocks of them.
pub(super) type Blocks = Slab<u32, FIRST, PAGE>;
/// So many slots are made at once.
const AT_ONCE: usize = 16;
/// No more than so many are reserved: who asks for more may be wrong, and finds it all touched.
const MOST_AT_ONCE: usize = 1 << 20;

/// The slab. Opaque outside of the suballocators.
#[derive(Debug)]
pub struct RegionTable {
    nodes: Nodes,
    /// The block of each node; empty while all are of block 0.
    blocks: Blocks,
    slots: Slots,
}

/// Which slots of a table are vacant, and the generation of the next life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// The first one; they are linked through `next`.
    vacant: u32,
    vacant_count: usize,
    generation: u32,
}

impl Slots {
    /// Takes a vacant slot, of which there has to be one; its node still has to be filled.
    #[inline(always)]
    pub fn take(&mut self, nodes: &impl Entries<Node>) -> u32 {
        self.take_if(true, NONE, nodes)
    }

    /// The same, or nothing and `other`: without a branch, for what nobody can guess.
    #[inline(always)]
    pub fn take_if(&mut self, really: bool, other: u32, nodes: &impl Entries<Node>) -> u32 {
        let index = self.vacant;
        self.vacant = select_unpredictable(really, nodes[index].next, index);
        self.vacant_count = self.vacant_count.wrapping_sub(usize::from(really));
        select_unpredictable(really, index, other)
    }

    /// Gives a slot back.
    #[inline(always)]
    pub fn give_back(&mut self, index: u32, nodes: &mut impl Entries<Node>) {
        self.give_back_if(true, index, nodes);
    }

    /// Gives a slot back. If not `really`, its node is to be written again.
    #[inline(always)]
    pub fn give_back_if(&mut self, really: bool, index: u32, nodes: &mut impl Entries<Node>) {
        let node = &mut nodes[index];
        (node.size, node.extra) = (0, FREE);
        node.generation = 0;
        node.next = self.vacant;
        self.vacant = select_unpredictable(really, index, self.vacant);
        self.vacant_count = self.vacant_count.wrapping_add(usize::from(really));
    }

    /// A key for a region that lives from now on. Each life of a table has a generation of its own,
    /// until 2^31 of them are over.
    #[inline(always)]
    pub fn begin_life(&mut self, index: u32, node: &mut Node) -> RegionKey {
        node.generation = self.generation;
        self.generation = self.generation.wrapping_add(2);
        RegionKey::new(index, node.generation)
    }
}

impl Default for RegionTable {
    fn default() -> Self {
        let slots = Slots { vacant: NONE, vacant_count: 0, generation: 1 };
        Self { nodes: Slab::default(), blocks: Slab::default(), slots }
    }
}

impl RegionTable {
    pub(super) fn node(&self, index: u32) -> &Node {
        &self.nodes[index]
    }

    pub(super) fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index]
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    #[inline]
    pub(super) fn block_of(&self, index: u32) -> u32 {
        if self.blocks.is_empty() { 0 } else { self.blocks[index] }
    }

    /// The same of any number.
    #[inline(always)]
    pub(super) fn block_of_any(&self, index: u32) -> u32 {
        if self.blocks.is_empty() { 0 } else { self.blocks.get(index).copied().unwrap_or(0) }
    }

    /// The nodes, the blocks of all of them but where all are of block 0, and the slots.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&mut Nodes, &mut Blocks, &mut Slots) {
        (&mut self.nodes, &mut self.blocks, &mut self.slots)
    }

    /// Whether so many slots can be taken before [`grow`](Self::grow) has to be called.
    #[inline]
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.slots.vacant_count >= count
    }

    /// Makes a few more slots.
    ///
    /// # Panics
    /// At 2^31 - 1 regions.
    #[cold]
    #[inline(never)]
    pub(super) fn grow(&mut self) {
        let first = self.nodes.len();
        let end = first + AT_ONCE;
        assert!(end < NONE as usize, "fewer than 2^31 - 1 regions");
        for index in first..end {
            // Linked so that the first one is taken first.
            let next = if index + 1 < end { index as u32 + 1 } else { self.slots.vacant };
            self.nodes.push(Node { next, ..Node::default() });
            if !self.blocks.is_empty() {
                self.blocks.push(0);
            }
        }
        self.slots.vacant = first as u32;
        self.slots.vacant_count += AT_ONCE;
    }

    /// Takes memory for so many regions more, at once.
    pub(super) fn reserve(&mut self, regions: usize) {
        // What is vacant serves first.
        let more = regions.saturating_sub(self.slots.vacant_count).min(MOST_AT_ONCE);
        self.nodes.reserve(more);
    }

    /// Has a place for the block of each node from now on, if `block` is not the only one.
    #[inline]
    pub(super) fn expect(&mut self, block: u32) {
        if block != 0 && self.blocks.is_empty() {
            (0..self.nodes.len()).for_each(|_| self.blocks.push(0));
        }
    }

    /// A slot for a region of `block`; its node still has to be filled.
    #[inline]
    pub(super) fn take(&mut self, block: u32) -> u32 {
        self.expect(block);
        let index = self.slots.vacant;
        if index == NONE {
            return self.push(block);
        }
        self.slots.vacant = self.nodes[index].next;
        self.slots.vacant_count -= 1;
        if !self.blocks.is_empty() {
            self.blocks[index] = block;
        }
        index
    }

    /// A slot behind all others.
    #[inline]
    fn push(&mut self, block: u32) -> u32 {
        let index = self.nodes.len();
        assert!(index < NONE as usize, "fewer than 2^31 - 1 regions");
        self.nodes.push(Node::default());
        // The first region of all may be of another block.
        if block != 0 || !self.blocks.is_empty() {
            self.blocks.push(block);
        }
        index as u32
    }

    /// Gives a slot back.
    pub(super) fn give_back(&mut self, index: u32) {
        let node = &mut self.nodes[index];
        (node.size, node.extra) = (0, FREE);
        node.next = self.slots.vacant;
        self.slots.vacant = index;
        self.slots.vacant_count += 1;
    }

    /// Makes a key of the slot, whose node is live from now on.
    pub(super) fn begin_life(&mut self, index: u32) -> RegionKey {
        self.slots.begin_life(index, &mut self.nodes[index])
    }

    /// Makes a key stale and gives what its node was; `None` if it is stale already.
    #[inline]
    pub(super) fn end_life(&mut self, key: RegionKey) -> Option<Node> {
        let node = self.nodes.get_mut(key.index())?;
        if !node.is_of(key) {
            return None;
        }
        let was = *node;
        node.generation = 0;
        Some(was)
    }

    /// Makes every key stale, and has no slots. O(pages), as no generation comes twice.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.blocks.clear();
        (self.slots.vacant, self.slots.vacant_count) = (NONE, 0);
    }

    /// The node of a key, if its region lives.
    pub(super) fn live(&self, key: RegionKey) -> Option<&Node> {
        self.nodes.get(key.index()).filter(|node| node.is_of(key))
    }

    /// What a live region is; `None` if the key is stale.
    pub(super) fn info(&self, key: RegionKey) -> Option<RegionInfo> {
        self.live(key).map(|node| node.info(self.block_of(key.index())))
    }

    /// Where a live region is. For calls that are not inlined and give a key alone, as that fits into
    /// registers: what is left in memory in parts and loaded as a whole has to be waited for.
    #[inline(always)]
    pub(crate) fn placement(&self, key: RegionKey) -> Placement {
        let block = BlockIndex(self.block_of(key.index()));
        Placement { key, block, offset: self.nodes[key.index()].offset }
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
        while self.node(index).next != NONE {
            index = self.node(index).next;
        }
        index
    }

    /// Calls `visit` with offset, size, key and kind of the live regions from a slot on, up to `end`.
    pub(super) fn visit_live(
        &self,
        mut index: u32,
        end: u32,
        visit: &mut dyn FnMut(u64, u64, RegionKey, ResourceKind),
    ) {
        while index != end {
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
        // In registers while it counts.
        let mut counted = Statistics::default();
        for row in self.nodes.rows() {
            for node in row {
                self.count_node(node, &mut counted);
            }
        }
        statistics.add(&counted);
    }

    #[inline(always)]
    fn count_node(&self, node: &Node, counted: &mut Statistics) {
        if node.generation % 2 == 1 {
            counted.add_allocation(node.size());
            let padding = node.padding();
            if padding > 0 && !is_free_link(node.next) {
                counted.add_unused_range(padding);
            }
        } else if !node.is_edge() {
            let before = self.node(node.previous).padding();
            counted.add_unused_range(before + node.size());
        }
    }

    /// The key of a live slot.
    pub(super) fn key_of(&self, index: u32) -> RegionKey {
        RegionKey::new(index, self.nodes[index].generation)
    }

    pub(super) fn used_slots(&self) -> usize {
        self.nodes.len() - self.slots.vacant_count
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

    #[test]
    fn what_was_cleared_stays_stale_however_many_come_after_it() {
        let mut table = RegionTable::default();
        let live = |table: &mut RegionTable, count: u32| -> Vec<RegionKey> {
            let mut begin = |block| {
                let slot = table.take(block);
                table.begin_life(slot)
            };
            (0..count).map(|it| begin(it % 3)).collect()
        };
        let mut stale: Vec<RegionKey> = Vec::new();
        // In a row, in pages, and in pages of which not all are in use.
        for count in [100, 20_000, 10, 30_000] {
            let keys = live(&mut table, count);
            assert!(stale.iter().all(|&key| table.live(key).is_none()));
            assert!(keys.iter().all(|&key| table.live(key).is_some()));
            assert!(keys.iter().zip(0..).all(|(key, it)| table.block_of(key.index()) == it % 3));
            table.clear();
            assert!(keys.iter().all(|&key| table.live(key).is_none()));
            stale.extend(keys);
        }
    }
}
