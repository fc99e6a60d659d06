//! One region as the table of them keeps it.

use super::bins::Position;
use super::values::BlockIndex;
use super::values::{RegionInfo, RegionTag};
use crate::handle::SlotKey;
use crate::request::ResourceKind;

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
    /// Odd while the region lives, 0 else. Where generations are kept apart, also odd while a region that
    /// was freed waits to be merged.
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
        self.padding_if_live()
    }

    /// The same, and anything of what does not live.
    #[inline(always)]
    pub fn padding_if_live(&self) -> u64 {
        u64::from(self.extra >> PADDING_SHIFT) & (MAX_PADDING - 1)
    }

    /// The end of such a region.
    #[inline]
    pub fn padded_end(&self) -> u64 {
        // A region lies within its block.
        self.offset.wrapping_add(self.size).wrapping_add(self.padding())
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

    /// Of no region any more, and linked to the next vacant slot.
    #[inline(always)]
    pub fn set_vacant(&mut self, next: u32) {
        (self.size, self.extra, self.generation) = (0, FREE, 0);
        self.next = next;
    }

    /// Whether it is neither live nor free: after [`end_life_later`](Self::end_life_later).
    pub fn is_unmerged(&self) -> bool {
        !self.is_free() && self.generation == 0
    }

    /// Live from now on.
    #[inline(always)]
    pub fn begin_life(&mut self, generation: u32) {
        debug_assert!(generation % 2 == 1);
        self.generation = generation;
    }

    /// Whether there is a key of it, as far as the node knows.
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        self.generation % 2 == 1
    }

    /// See the field.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a key is that of this region, which lives.
    #[inline]
    pub fn is_of(&self, key: SlotKey) -> bool {
        self.generation == key.generation() && self.is_live()
    }

    /// Not live any more, and not free before it was merged: everything else is as it was.
    #[inline(always)]
    pub fn end_life_later(&mut self) {
        self.generation = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_half_a_line_of_the_cache() {
        assert_eq!(size_of::<Node>(), 32);
    }
}
