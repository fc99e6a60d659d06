//! The regions of all blocks of a suballocator: a slab of nodes linked in order of their offsets.
//!
//! ```text
//!   block 0   [ live ][ free      ][ live ][ live ][ free ]      neighbours by `previous`, `next`
//!   block 1   [ free                                      ]
//! ```
//!
//! A node is 32 bytes, half a line of the cache, and has its identity with it: of many regions, each
//! look at a node is a miss. Only suballocators of several blocks keep the block beside it, and only large
//! tables of virtual blocks the generation once more. Slots are recycled; each life has a generation of
//! its own, which makes every old key stale.

use std::hint::select_unpredictable;

use super::node::{NONE, Node, target};
use super::slab::{Entries, Slab};
use super::values::{BlockIndex, Placement, RegionInfo, RegionTag};
use crate::handle::{CacheHint, SlotKey};
use crate::request::ResourceKind;

/// So many regions are in a row.
const ROW: usize = 16384;
/// The regions of a table.
pub(super) type Nodes = Slab<Node, ROW>;
/// The blocks of them.
pub(super) type Blocks = Slab<u32, ROW>;
/// Their generations.
pub(super) type Generations = Slab<u32, ROW>;
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
    /// The generation of each node once more, 0 from the moment on at which its region is freed. Close
    /// together, so that a look at one seldom is a miss. Empty in a small table.
    generations: Generations,
    /// They are kept from so many nodes on.
    apart_from: usize,
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

    /// The same for a region of a block, where the blocks of all are kept.
    #[inline(always)]
    pub fn take_for(&mut self, block: u32, nodes: &impl Entries<Node>, blocks: &mut Blocks) -> u32 {
        let index = self.take(nodes);
        if !blocks.is_empty() {
            blocks[index] = block;
        }
        index
    }

    /// Takes a slot as [`take`](Self::take) does, or nothing and `other`: without a branch, for what nobody can guess.
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
        let vacant = self.vacant;
        nodes[index].set_vacant(vacant);
        self.vacant = select_unpredictable(really, index, vacant);
        self.vacant_count = self.vacant_count.wrapping_add(usize::from(really));
    }

    /// A key for a region that lives from now on. Each life of a table has a generation of its own,
    /// until 2^31 of them are over.
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

    /// Keeps generations apart from so many nodes on. To be said before there are any.
    pub(super) fn keep_generations_apart(&mut self, from: usize) {
        assert!(self.nodes.is_empty(), "a table that is in use");
        self.apart_from = from;
    }

    /// Whether they will be kept apart, if there are enough.
    pub(super) fn will_have_generations_apart(&self) -> bool {
        self.apart_from != usize::MAX
    }

    /// Whether they are kept apart.
    #[inline(always)]
    pub(super) fn has_generations_apart(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Notes the generation of a life that began, where they are kept apart.
    #[inline(always)]
    pub(super) fn note_life(&mut self, key: SlotKey) {
        if !self.generations.is_empty() {
            self.generations[key.index()] = key.generation();
        }
    }

    /// Notes the end of a life and has its node fetched, without a look at it; false if the key is stale.
    #[inline(always)]
    pub(super) fn note_end(&mut self, key: SlotKey) -> bool {
        let generation = self.generations.get_mut(key.index());
        let Some(generation) = generation.filter(|it| **it == key.generation() && **it != 0) else {
            return false;
        };
        *generation = 0;
        self.nodes.expect(key.index());
        true
    }

    /// For checks: whether all that are kept apart are right, of regions that wait to be merged, too.
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

    /// Those of new nodes.
    #[inline]
    fn push_generations(&mut self) {
        if self.nodes.len() >= self.apart_from {
            for index in self.generations.len()..self.nodes.len() {
                self.generations.push(self.nodes[index as u32].generation());
            }
        }
    }

    /// Whether so many slots can be taken before [`try_grow`](Self::try_grow) has to be called.
    #[inline]
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.slots.vacant_count >= count
    }

    /// Makes a few more slots; false without memory for them.
    ///
    /// # Panics
    /// At 2^31 - 1 regions.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub(super) fn try_grow(&mut self) -> bool {
        if !self.try_reserve_slots(AT_ONCE) {
            return false;
        }
        let first = self.nodes.len();
        let end = first + AT_ONCE;
        assert!(end < NONE as usize, "fewer than 2^31 - 1 regions");
        for index in first..end {
            // Linked so that the first one is taken first.
            let next = if index + 1 < end { index as u32 + 1 } else { self.slots.vacant };
            let mut node = Node::default();
            node.set_vacant(next);
            self.nodes.push(node);
            if !self.blocks.is_empty() {
                self.blocks.push(0);
            }
        }
        self.slots.vacant = first as u32;
        self.slots.vacant_count += AT_ONCE;
        self.push_generations();
        true
    }

    /// Takes memory for so many slots more, and for what is kept beside them.
    fn try_reserve_slots(&mut self, more: usize) -> bool {
        let nodes = self.nodes.len() + more;
        self.nodes.try_reserve(more)
            && (self.blocks.is_empty() || self.blocks.try_reserve(more))
            && (nodes < self.apart_from
                || self.generations.try_reserve(nodes - self.generations.len()))
    }

    /// Takes memory for so many regions more, at once, if there is any: what lacks is taken later.
    pub(super) fn reserve(&mut self, regions: usize) {
        // What is vacant serves first.
        let more = regions.saturating_sub(self.slots.vacant_count).min(MOST_AT_ONCE);
        let _ = self.try_reserve_slots(more);
    }

    /// Takes memory for a block with so many regions; false if there is none.
    #[must_use]
    pub(super) fn try_expect_block(&mut self, block: u32, regions: usize) -> bool {
        if !self.try_reserve_slots(regions) {
            return false;
        }
        let is_first_of_many = block != 0 && self.blocks.is_empty();
        if is_first_of_many && !self.blocks.try_reserve(self.nodes.len() + regions) {
            return false;
        }
        self.expect(block);
        true
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
        self.push_generations();
        index as u32
    }

    /// Gives a slot back.
    pub(super) fn give_back(&mut self, index: u32) {
        self.nodes[index].set_vacant(self.slots.vacant);
        self.slots.vacant = index;
        self.slots.vacant_count += 1;
    }

    /// Makes a key of the slot, whose node is live from now on.
    pub(super) fn begin_life(&mut self, index: u32) -> SlotKey {
        self.slots.begin_life(index, &mut self.nodes[index])
    }

    /// Makes a key stale and gives what its node was; `None` if it is stale already.
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

    /// Makes every key stale, and has no slots. O(rows of the tables), as no generation comes twice.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.blocks.clear();
        self.generations.clear();
        (self.slots.vacant, self.slots.vacant_count) = (NONE, 0);
    }

    /// The node of a key, if its region lives.
    pub(super) fn live(&self, key: SlotKey) -> Option<&Node> {
        self.nodes.get(key.index()).filter(|node| node.is_of(key) && !self.is_ended(key.index()))
    }

    /// Whether there is a live region of a key, if possible without a look at its node.
    #[inline]
    pub(crate) fn contains(&self, key: SlotKey) -> bool {
        if !self.has_generations_apart() {
            return self.live(key).is_some();
        }
        key.generation() != 0 && self.generations.get(key.index()) == Some(&key.generation())
    }

    /// Whether a region was freed whose node still says that it lives.
    #[inline]
    fn is_ended(&self, index: u32) -> bool {
        self.generations.get(index) == Some(&0)
    }

    /// Whether a region lives that is not free.
    #[inline]
    fn lives(&self, index: u32) -> bool {
        self.nodes[index].is_live() && !self.is_ended(index)
    }

    /// What a live region is; `None` if the key is stale.
    pub(super) fn info(&self, key: SlotKey) -> Option<RegionInfo> {
        self.live(key).map(|node| node.info(self.block_of(key.index())))
    }

    /// Where a live region is. For calls that are not inlined and give a key alone, as that fits into
    /// registers: what is left in memory in parts and loaded as a whole has to be waited for.
    #[inline(always)]
    pub(crate) fn placement(&self, key: SlotKey) -> Placement {
        let block = BlockIndex(self.block_of(key.index()));
        Placement { key, block, offset: self.nodes[key.index()].offset }
    }

    /// Where the table keeps a live region, until it grows.
    #[inline(always)]
    pub(crate) fn hint(&self, key: SlotKey) -> CacheHint {
        CacheHint((&raw const self.nodes[key.index()]).addr() as u64)
    }

    /// The owner's bits; `None` if the key is stale.
    pub(super) fn tag(&self, key: SlotKey) -> Option<RegionTag> {
        self.live(key).map(Node::tag)
    }

    /// Changes the owner's bits; does nothing if the key is stale.
    pub(super) fn set_tag(&mut self, key: SlotKey, tag: RegionTag) {
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

    /// The key of a live slot.
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
        // In one row, in several, and in several of which not all are in use.
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
