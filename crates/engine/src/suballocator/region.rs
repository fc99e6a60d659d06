//! The regions of all blocks of a suballocator: a slab of nodes linked in order of their offsets.
//!
//! ```text
//!   block 0   [ live ][ free      ][ live ][ live ][ free ]      neighbours by `previous`, `next`
//!   block 1   [ free                                      ]
//! ```
//!
//! A node is 32 bytes, its identity 8 more in an array beside it, because a search reads many nodes
//! and no identities. Slots are recycled; a generation in the identity makes every old key stale.

use super::{RegionInfo, RegionTag};
use crate::request::ResourceKind;

/// A block of a suballocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockIndex(pub u32);

/// A slot and the generation in which it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionKey {
    /// The slot.
    pub index: u32,
    /// Odd while the region lives.
    pub generation: u32,
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

const KIND_SHIFT: u32 = 60;
const FREE: u64 = 1 << 63;
const SIZE_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// A live region keeps its padding in the low word of its links and above the tag in the high one.
const TAG_BITS: u32 = 10;
const TAG_MASK: u32 = (1 << TAG_BITS) - 1;
const PADDING_BITS: u32 = 32 - TAG_BITS;
/// What rounding may add, at most.
pub(super) const MAX_PADDING: u64 = 1 << (32 + PADDING_BITS);

/// The largest block: sizes share a word with kind and state.
pub(super) const MAX_SIZE: u64 = SIZE_MASK;

/// One region, used or free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub offset: u64,
    /// Size in the low 60 bits, kind above, the top bit set when free.
    word: u64,
    /// Neighbours in the block.
    pub previous: u32,
    pub next: u32,
    /// Free: the list of its size class. Live: padding and the owner's tag.
    links: [u32; 2],
}

impl Node {
    pub fn size(&self) -> u64 {
        self.word & SIZE_MASK
    }

    pub fn end(&self) -> u64 {
        self.offset + self.size()
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

    pub fn set_free(&mut self, offset: u64, size: u64) {
        debug_assert!(size <= SIZE_MASK);
        self.offset = offset;
        self.word = size | FREE;
    }

    pub fn set_live(&mut self, offset: u64, size: u64, kind: ResourceKind, padding: u64) {
        debug_assert!(size <= SIZE_MASK && padding < size && padding < 1 << (32 + PADDING_BITS));
        self.offset = offset;
        self.word = size | (u64::from(kind as u8) << KIND_SHIFT);
        self.links = [padding as u32, ((padding >> 32) as u32) << TAG_BITS];
    }

    pub fn previous_free(&self) -> u32 {
        debug_assert!(self.is_free());
        self.links[0]
    }

    pub fn next_free(&self) -> u32 {
        debug_assert!(self.is_free());
        self.links[1]
    }

    pub fn set_previous_free(&mut self, index: u32) {
        self.links[0] = index;
    }

    pub fn set_next_free(&mut self, index: u32) {
        self.links[1] = index;
    }

    /// What rounding added to the requested size.
    pub fn padding(&self) -> u64 {
        debug_assert!(!self.is_free());
        u64::from(self.links[0]) | u64::from(self.links[1] >> TAG_BITS) << 32
    }

    pub fn tag(&self) -> RegionTag {
        debug_assert!(!self.is_free());
        let bits = self.links[1];
        RegionTag {
            map_count: (bits & 0xff) as u8,
            persistently_mapped: bits & 0x100 != 0,
            named: bits & 0x200 != 0,
        }
    }

    pub fn set_tag(&mut self, tag: RegionTag) {
        debug_assert!(!self.is_free());
        self.links[1] = (self.links[1] & !TAG_MASK)
            | u32::from(tag.map_count)
            | (u32::from(tag.persistently_mapped) << 8)
            | (u32::from(tag.named) << 9);
    }
}

#[derive(Clone, Copy, Debug)]
struct Identity {
    generation: u32,
    block: u32,
}

/// The slab. Opaque outside of the suballocators.
#[derive(Debug, Default)]
pub struct RegionTable {
    nodes: Vec<Node>,
    identities: Vec<Identity>,
    /// First unused slot; they are linked through `next`.
    vacant: Option<u32>,
    vacant_count: usize,
}

impl RegionTable {
    pub(super) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    pub(super) fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    pub(super) fn block_of(&self, index: u32) -> u32 {
        self.identities[index as usize].block
    }

    /// A slot for a region of `block`; its node still has to be filled.
    ///
    /// # Panics
    /// At 2^32 - 1 regions.
    pub(super) fn take(&mut self, block: u32) -> u32 {
        if let Some(index) = self.vacant {
            let next = self.nodes[index as usize].next;
            self.vacant = (next != NONE).then_some(next);
            self.vacant_count -= 1;
            self.identities[index as usize].block = block;
            return index;
        }
        let index = u32::try_from(self.nodes.len()).ok().filter(|&index| index != NONE);
        let index = index.expect("fewer than 2^32 - 1 regions");
        self.nodes.push(Node {
            offset: 0,
            word: FREE,
            previous: NONE,
            next: NONE,
            links: [NONE; 2],
        });
        self.identities.push(Identity { generation: 0, block });
        index
    }

    /// Gives a slot back.
    pub(super) fn give_back(&mut self, index: u32) {
        debug_assert!(self.node(index).is_free());
        self.nodes[index as usize].next = self.vacant.unwrap_or(NONE);
        self.vacant = Some(index);
        self.vacant_count += 1;
    }

    /// Makes the slot's generation odd: a key exists from now on.
    pub(super) fn begin_life(&mut self, index: u32) -> RegionKey {
        let identity = &mut self.identities[index as usize];
        debug_assert!(identity.generation.is_multiple_of(2));
        identity.generation = identity.generation.wrapping_add(1);
        RegionKey { index, generation: identity.generation }
    }

    /// Makes every key of the slot stale.
    pub(super) fn end_life(&mut self, index: u32) {
        let identity = &mut self.identities[index as usize];
        debug_assert!(identity.generation % 2 == 1);
        identity.generation = identity.generation.wrapping_add(1);
    }

    /// Whether the key's region lives.
    pub(super) fn is_live(&self, key: RegionKey) -> bool {
        self.identities
            .get(key.index as usize)
            .is_some_and(|it| it.generation == key.generation && key.generation % 2 == 1)
    }

    /// What a live region is; `None` if the key is stale.
    pub(super) fn info(&self, key: RegionKey) -> Option<RegionInfo> {
        self.is_live(key).then(|| {
            let node = self.node(key.index);
            RegionInfo {
                block: BlockIndex(self.block_of(key.index)),
                offset: node.offset,
                size: node.size() - node.padding(),
                kind: node.kind(),
            }
        })
    }

    /// The owner's bits; `None` if the key is stale.
    pub(super) fn tag(&self, key: RegionKey) -> Option<RegionTag> {
        self.is_live(key).then(|| self.node(key.index).tag())
    }

    /// Changes the owner's bits; does nothing if the key is stale.
    pub(super) fn set_tag(&mut self, key: RegionKey, tag: RegionTag) {
        if self.is_live(key) {
            self.node_mut(key.index).set_tag(tag);
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

    /// The key of a live slot.
    pub(super) fn key_of(&self, index: u32) -> RegionKey {
        RegionKey { index, generation: self.identities[index as usize].generation }
    }

    pub(super) fn used_slots(&self) -> usize {
        self.nodes.len() - self.vacant_count
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.identities.capacity() * size_of::<Identity>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_identity_take_40_bytes() {
        assert_eq!(size_of::<Node>() + size_of::<Identity>(), 40);
    }

    #[test]
    fn recycled_slots_make_old_keys_stale() {
        let mut table = RegionTable::default();
        let first = table.take(0);
        let key = table.begin_life(first);
        assert!(table.is_live(key));
        table.end_life(first);
        assert!(!table.is_live(key));
        table.give_back(first);
        let again = table.take(1);
        assert_eq!(again, first);
        let second = table.begin_life(again);
        assert!(table.is_live(second) && !table.is_live(key));
        assert!(!table.is_live(RegionKey { index: 9, generation: 1 }));
    }
}
