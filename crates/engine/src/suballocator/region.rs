//! [`RegionTable`]: the regions of all blocks of a suballocator, a slab of nodes.
//!
//! ```text
//!   nodes         [ Node ][ Node ][ Node ][ Node ] ...      by slot; physical neighbours by `previous`, `next`
//!   blocks        [ u32  ][ u32  ][ u32  ][ u32  ] ...      the block of each slot; empty if all are of block 0
//!   generations   [ u32  ][ u32  ][ u32  ][ u32  ] ...      only in large tables of virtual blocks
//!
//!   slots.vacant  -> slot -> slot -> NONE                   vacant slots, linked by `Node::next`
//! ```
//!
//! A node is 32 bytes, half a cache line, and contains its generation: with many regions each access to
//! another table would be one more cache miss. Only suballocators with several blocks keep the block
//! beside it, and only large tables of virtual blocks keep the generation twice. Slots are reused; each
//! life has a new generation, so every earlier key of the slot is stale.

use std::collections::HashMap;
use std::hint::select_unpredictable;

use super::node::{NONE, Node, target};
use super::slab::{Entries, Slab};
use super::values::{BlockIndex, Placement, RegionInfo, RegionTag};
use crate::handle::{CacheHint, SlotKey};
use crate::request::ResourceKind;

/// Nodes per row of the slab.
const ROW: usize = 16384;
/// The nodes of a table.
pub(super) type Nodes = Slab<Node, ROW>;
/// The block of each node.
pub(super) type BlockOfNode = Slab<u32, ROW>;
/// The generation of each node.
pub(super) type Generations = Slab<u32, ROW>;
/// Number of slots that are created at a time.
const SLOTS_PER_GROWTH: usize = 16;
/// The most slots that one call reserves: a larger request may be a mistake, and the memory would be
/// touched.
const MAX_RESERVED_SLOTS: usize = 1 << 20;

/// The table of regions. Opaque outside of the suballocators.
#[derive(Debug)]
pub struct RegionTable {
    nodes: Nodes,
    /// The block of each node; empty while all nodes belong to block 0.
    blocks: BlockOfNode,
    /// A copy of the generation of each node, set to 0 as soon as its region is freed. Being dense, it is
    /// rarely a cache miss. Empty in a small table.
    generations: Generations,
    /// The number of nodes from which on `generations` is kept.
    apart_from: usize,
    slots: Slots,
    /// Generation and alignment of each slot whose region was asked for an alignment that is not a power
    /// of two. Rows of regions that were freed stay until their slot is used for another one.
    odd_alignments: HashMap<u32, (u32, u64)>,
}

/// The free list of vacant slots, and the generation of the next life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// The first vacant slot; they are linked through `next`.
    vacant: u32,
    vacant_count: usize,
    generation: u32,
}

impl Slots {
    /// Takes a vacant slot, which has to exist; the caller fills its node.
    #[inline(always)]
    pub fn take(&mut self, nodes: &impl Entries<Node>) -> u32 {
        self.take_if(true, NONE, nodes)
    }

    /// Takes a vacant slot for a region of `block` and notes that block, if the blocks are kept.
    #[inline(always)]
    pub fn take_for(
        &mut self,
        block: u32,
        nodes: &impl Entries<Node>,
        blocks: &mut BlockOfNode,
    ) -> u32 {
        let index = self.take(nodes);
        if !blocks.is_empty() {
            blocks[index] = block;
        }
        index
    }

    /// Takes a slot if `really` is true, otherwise returns `other`. Without a branch, because the
    /// condition cannot be predicted.
    #[inline(always)]
    pub fn take_if(&mut self, really: bool, other: u32, nodes: &impl Entries<Node>) -> u32 {
        let index = self.vacant;
        self.vacant = select_unpredictable(really, nodes[index].next, index);
        self.vacant_count = self.vacant_count.wrapping_sub(usize::from(really));
        select_unpredictable(really, index, other)
    }

    /// Returns a slot to the free list.
    #[inline(always)]
    pub fn give_back(&mut self, index: u32, nodes: &mut impl Entries<Node>) {
        self.give_back_if(true, index, nodes);
    }

    /// Returns a slot to the free list if `really` is true; otherwise the caller has to write its node
    /// again.
    #[inline(always)]
    pub fn give_back_if(&mut self, really: bool, index: u32, nodes: &mut impl Entries<Node>) {
        let vacant = self.vacant;
        nodes[index].set_vacant(vacant);
        self.vacant = select_unpredictable(really, index, vacant);
        self.vacant_count = self.vacant_count.wrapping_add(usize::from(really));
    }

    /// Starts the life of a region and returns its key. Generations do not repeat within a table before
    /// 2^31 lives.
    #[inline(always)]
    pub fn begin_life(&mut self, index: u32, node: &mut Node) -> SlotKey {
        let generation = self.generation;
        node.begin_life(generation);
        self.generation = generation.wrapping_add(2);
        SlotKey::new(index, generation)
    }
}

impl Default for RegionTable {
    fn default() -> Self {
        let slots = Slots { vacant: NONE, vacant_count: 0, generation: 1 };
        let generations = Slab::default();
        Self {
            nodes: Slab::default(),
            blocks: Slab::default(),
            generations,
            apart_from: usize::MAX,
            slots,
            odd_alignments: HashMap::new(),
        }
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

    /// Returns the block of a slot that may be past the end of the table.
    #[inline(always)]
    pub(super) fn block_of_any(&self, index: u32) -> u32 {
        if self.blocks.is_empty() { 0 } else { self.blocks.get(index).copied().unwrap_or(0) }
    }

    /// Returns the nodes, the blocks (empty if all nodes belong to block 0) and the free list.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&mut Nodes, &mut BlockOfNode, &mut Slots) {
        (&mut self.nodes, &mut self.blocks, &mut self.slots)
    }

    /// Keeps a copy of the generations once the table has `from` nodes. To be called before there are
    /// any.
    pub(super) fn keep_generations_apart(&mut self, from: usize) {
        assert!(self.nodes.is_empty(), "a table that is in use");
        self.apart_from = from;
    }

    /// Returns whether generations are to be kept apart once there are enough nodes.
    pub(super) fn will_have_generations_apart(&self) -> bool {
        self.apart_from != usize::MAX
    }

    /// Returns whether generations are kept apart now.
    #[inline(always)]
    pub(super) fn has_generations_apart(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Copies the generation of a new life, if they are kept apart.
    #[inline(always)]
    pub(super) fn note_life(&mut self, key: SlotKey) {
        if !self.generations.is_empty() {
            self.generations[key.index()] = key.generation();
        }
    }

    /// Marks a life as ended in `generations` and prefetches its node; returns false if the key is stale.
    #[inline(always)]
    pub(super) fn note_end(&mut self, key: SlotKey) -> bool {
        let generation = self.generations.get_mut(key.index());
        let Some(generation) = generation.filter(|it| **it == key.generation() && **it != 0) else {
            return false;
        };
        *generation = 0;
        self.nodes.prefetch(key.index());
        true
    }

    /// Returns whether all generations that are kept apart are right; `waits` says which slots wait to be
    /// merged. For consistency checks.
    pub(super) fn has_right_generations(&self, waits: impl Fn(u32) -> bool) -> bool {
        let is_right = |index: u32| {
            let apart = self.generations[index];
            apart == self.nodes[index].generation() || apart == 0 && waits(index)
        };
        let count = self.generations.len();
        let is_complete =
            count == if self.nodes.len() < self.apart_from { 0 } else { self.nodes.len() };
        is_complete && (0..count as u32).all(is_right)
    }

    /// Copies the generations of new nodes.
    #[inline]
    fn push_generations(&mut self) {
        if self.nodes.len() >= self.apart_from {
            for index in self.generations.len()..self.nodes.len() {
                self.generations.push(self.nodes[index as u32].generation());
            }
        }
    }

    /// Returns whether `count` slots can be taken without calling [`try_grow`](Self::try_grow).
    #[inline]
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.slots.vacant_count >= count
    }

    /// Creates a few vacant slots; returns false if host memory is exhausted.
    ///
    /// # Panics
    /// At 2^31 - 1 regions.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub(super) fn try_grow(&mut self) -> bool {
        if !self.try_reserve_slots(SLOTS_PER_GROWTH) {
            return false;
        }
        let first = self.nodes.len();
        let end = first + SLOTS_PER_GROWTH;
        assert!(end < NONE as usize, "fewer than 2^31 - 1 regions");
        for index in first..end {
            // Linked so that the lowest slot is taken first.
            let next = if index + 1 < end { index as u32 + 1 } else { self.slots.vacant };
            let mut node = Node::default();
            node.set_vacant(next);
            self.nodes.push(node);
            if !self.blocks.is_empty() {
                self.blocks.push(0);
            }
        }
        self.slots.vacant = first as u32;
        self.slots.vacant_count += SLOTS_PER_GROWTH;
        self.push_generations();
        true
    }

    /// Reserves memory for `more` slots and the columns beside them.
    fn try_reserve_slots(&mut self, more: usize) -> bool {
        let nodes = self.nodes.len() + more;
        self.nodes.try_reserve(more)
            && (self.blocks.is_empty() || self.blocks.try_reserve(more))
            && (nodes < self.apart_from
                || self.generations.try_reserve(nodes - self.generations.len()))
    }

    /// Reserves memory for `regions` more regions, if there is any; the rest is taken later.
    pub(super) fn reserve(&mut self, regions: usize) {
        // Vacant slots are used first.
        let more = regions.saturating_sub(self.slots.vacant_count).min(MAX_RESERVED_SLOTS);
        let _ = self.try_reserve_slots(more);
    }

    /// Reserves memory for a block with `regions` regions; returns false if host memory is exhausted.
    #[must_use]
    pub(super) fn try_prepare_block(&mut self, block: u32, regions: usize) -> bool {
        if !self.try_reserve_slots(regions) {
            return false;
        }
        let is_first_of_many = block != 0 && self.blocks.is_empty();
        if is_first_of_many && !self.blocks.try_reserve(self.nodes.len() + regions) {
            return false;
        }
        self.prepare_block(block);
        true
    }

    /// Creates the column of blocks if `block` is not 0 and the column does not exist yet.
    #[inline]
    pub(super) fn prepare_block(&mut self, block: u32) {
        if block != 0 && self.blocks.is_empty() {
            (0..self.nodes.len()).for_each(|_| self.blocks.push(0));
        }
    }

    /// Takes a slot for a region of `block`; the caller fills its node.
    #[inline]
    pub(super) fn take(&mut self, block: u32) -> u32 {
        self.prepare_block(block);
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

    /// Appends a slot.
    #[inline]
    fn push(&mut self, block: u32) -> u32 {
        let index = self.nodes.len();
        assert!(index < NONE as usize, "fewer than 2^31 - 1 regions");
        self.nodes.push(Node::default());
        // The first region of all may belong to another block.
        if block != 0 || !self.blocks.is_empty() {
            self.blocks.push(block);
        }
        self.push_generations();
        index as u32
    }

    /// Returns a slot to the free list.
    pub(super) fn give_back(&mut self, index: u32) {
        self.nodes[index].set_vacant(self.slots.vacant);
        self.slots.vacant = index;
        self.slots.vacant_count += 1;
    }

    /// Makes the region of a slot live and returns its key.
    pub(super) fn begin_life(&mut self, index: u32) -> SlotKey {
        self.slots.begin_life(index, &mut self.nodes[index])
    }

    /// Makes a key stale and returns what its node was; `None` if the key is stale already.
    #[inline]
    pub(super) fn end_life(&mut self, key: SlotKey) -> Option<Node> {
        let node = self.nodes.get_mut(key.index())?;
        if !node.is_of(key) {
            return None;
        }
        let was = *node;
        node.end_life(was.offset, was.footprint());
        Some(was)
    }

    /// Makes every key stale and removes all slots. O(rows of the tables), because generations do not
    /// repeat.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.blocks.clear();
        self.generations.clear();
        self.odd_alignments.clear();
        (self.slots.vacant, self.slots.vacant_count) = (NONE, 0);
    }

    /// Returns the node of a live region; `None` if the key is stale.
    pub(super) fn live(&self, key: SlotKey) -> Option<&Node> {
        self.nodes.get(key.index()).filter(|node| node.is_of(key) && !self.is_ended(key.index()))
    }

    /// Returns whether a key is valid, if possible without reading its node.
    #[inline]
    pub(crate) fn contains(&self, key: SlotKey) -> bool {
        if !self.has_generations_apart() {
            return self.live(key).is_some();
        }
        key.generation() != 0 && self.generations.get(key.index()) == Some(&key.generation())
    }

    /// Returns whether a region was freed although its node still says that it is live.
    #[inline]
    fn is_ended(&self, index: u32) -> bool {
        self.generations.get(index) == Some(&0)
    }

    /// Returns whether the region of a slot is live.
    #[inline]
    pub(super) fn lives(&self, index: u32) -> bool {
        self.nodes[index].is_live() && !self.is_ended(index)
    }

    /// Returns the description of a live region; `None` if the key is stale.
    pub(super) fn info(&self, key: SlotKey) -> Option<RegionInfo> {
        self.live(key).map(|node| node.info(self.block_of(key.index())))
    }

    /// Returns the placement of a live region. For callers of functions that are not inlined: these
    /// return only the key, which fits into a register; a placement stored in parts and loaded as a whole
    /// would stall.
    #[inline(always)]
    pub(crate) fn placement(&self, key: SlotKey) -> Placement {
        let block = BlockIndex(self.block_of(key.index()));
        Placement { key, block, offset: self.nodes[key.index()].offset }
    }

    /// Returns the address of a live region's node, for prefetching; valid until the table grows.
    #[inline(always)]
    pub(crate) fn hint(&self, key: SlotKey) -> CacheHint {
        CacheHint((&raw const self.nodes[key.index()]).addr() as u64)
    }

    /// Reserves host memory to note an alignment that is not a power of two; returns false if there is
    /// none.
    #[must_use]
    pub(super) fn try_reserve_odd_alignment(&mut self, alignment: u64) -> bool {
        alignment.is_power_of_two() || self.odd_alignments.try_reserve(1).is_ok()
    }

    /// Notes the alignment of a new region if it is not a power of two.
    pub(super) fn note_odd_alignment(&mut self, key: SlotKey, alignment: u64) {
        if !alignment.is_power_of_two() {
            self.odd_alignments.insert(key.index(), (key.generation(), alignment));
        }
    }

    /// Returns the alignment that a live region was asked for, in bytes; 1 if the key is stale.
    pub(crate) fn alignment(&self, key: SlotKey) -> u64 {
        self.live(key).map_or(1, |node| self.alignment_of(key.index(), node))
    }

    /// Returns the bytes that a live region takes up behind its size; 0 if the key is stale.
    pub(crate) fn padding(&self, key: SlotKey) -> u64 {
        self.live(key).map_or(0, |node| node.footprint() - node.size())
    }

    /// Gives a live region a new key and no tag; `None` if the key is stale.
    pub(crate) fn renew(&mut self, key: SlotKey) -> Option<SlotKey> {
        self.live(key)?;
        self.node_mut(key.index()).set_tag(RegionTag::default());
        let renewed = self.begin_life(key.index());
        self.note_life(renewed);
        Some(renewed)
    }

    /// Notes the alignment of a live region, a power of two, for suballocators that do not note it themselves.
    pub(crate) fn note_alignment(&mut self, key: SlotKey, alignment: u64) {
        if self.live(key).is_some() {
            self.node_mut(key.index()).set_alignment(alignment);
        }
    }

    /// Returns the alignment that the live region of a node was asked for, in bytes.
    #[inline]
    pub(super) fn alignment_of(&self, index: u32, node: &Node) -> u64 {
        if !self.odd_alignments.is_empty()
            && let Some(&(generation, alignment)) = self.odd_alignments.get(&index)
            && generation == node.generation()
        {
            return alignment;
        }
        node.alignment()
    }

    /// Returns the bits that the owner stored; `None` if the key is stale.
    pub(super) fn tag(&self, key: SlotKey) -> Option<RegionTag> {
        self.live(key).map(Node::tag)
    }

    /// Replaces the bits that the owner stores; does nothing if the key is stale.
    pub(super) fn set_tag(&mut self, key: SlotKey, tag: RegionTag) {
        if self.live(key).is_some() {
            self.node_mut(key.index()).set_tag(tag);
        }
    }

    /// Appends a free region behind `last`, the last region of a block; returns its slot.
    pub(super) fn append_free(&mut self, last: u32, offset: u64, size: u64) -> u32 {
        let index = self.take(self.block_of(last));
        let node = self.node_mut(index);
        node.set_free(offset, size);
        node.previous = last;
        node.next = NONE;
        self.node_mut(last).next = index;
        index
    }

    /// Returns the last region of a block, starting from any of its regions. O(regions).
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
        visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind),
    ) {
        while index != end {
            let node = self.node(index);
            if self.lives(index) {
                visit(node.offset, node.size(), self.key_of(index), node.kind());
            }
            index = target(node.next);
        }
    }

    /// Returns the key of a live slot.
    pub(super) fn key_of(&self, index: u32) -> SlotKey {
        SlotKey::new(index, self.nodes[index].generation())
    }

    pub(super) fn used_slots(&self) -> usize {
        self.nodes.len() - self.slots.vacant_count
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.blocks.bytes() + self.generations.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(table.live(SlotKey::new(9, 1)).is_none());
    }

    #[test]
    fn what_was_cleared_stays_stale_however_many_come_after_it() {
        let mut table = RegionTable::default();
        let live = |table: &mut RegionTable, count: u32| -> Vec<SlotKey> {
            let mut begin = |block| {
                let slot = table.take(block);
                table.begin_life(slot)
            };
            (0..count).map(|it| begin(it % 3)).collect()
        };
        let mut stale: Vec<SlotKey> = Vec::new();
        // Within one row; across several rows; in several rows of which some stay empty.
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
