//! [`Node`]: one region, as stored in the slab of [`RegionTable`](super::RegionTable).
//!
//! ```text
//!   Node        32 bytes, half a cache line; its slot (index in the slab) is the region's number
//!     offset       64 bits   start in the block, in bytes
//!     size         64 bits   requested size, or size of the free range, in bytes; 0: edge or vacant slot
//!     previous     32 bits   slot of the physical neighbour before; bit 31 FREE_LINK: that one is free
//!     next         32 bits   slot of the physical neighbour after; a vacant slot: the next vacant one
//!     generation   32 bits   odd while the region is live, else 0
//!     extra        32 bits   free  [ FREE: bit 31 ][ Position in the index: bits 0..31 ]
//!                            live  [ alignment: 25..31 ][ padding or exponent: 14..25 ][ POWER: 13 ]
//!                                  [ kind: 10..13 ][ tag: 0..10 ]
//!
//!   block       edge <-> region <-> region <-> region <-> edge     TLSF: a ring through one edge node
//!               NONE <-  region <-> region <-> region  -> NONE     buddy, and each run of linear
//! ```

use super::bins::Position;
use super::values::BlockIndex;
use super::values::{RegionInfo, RegionTag};
use crate::handle::SlotKey;
use crate::request::ResourceKind;

/// The link that leads to no node.
pub(super) const NONE: u32 = u32::MAX >> 1;

/// The flag of a link to a free region, in suballocators that maintain it: whether a neighbour is free is
/// then known without reading its node.
pub(super) const FREE_LINK: u32 = 1 << 31;

/// Returns whether a link says that the neighbour is free.
pub(super) fn is_free_link(link: u32) -> bool {
    link & FREE_LINK != 0
}

/// Returns the slot that a link leads to, or `NONE`.
pub(super) fn target(link: u32) -> u32 {
    link & !FREE_LINK
}

/// Flag in `extra` of a free region; the bits below it are its position in the index.
const FREE: u32 = 1 << 31;
/// Fields of `extra` of a live region, from the lowest bit on: the owner's tag, the kind, the footprint
/// and the exponent of the alignment. The footprint is a number of bytes beyond the size or, with
/// `POWER`, the exponent of a power of two.
const TAG_MASK: u32 = (1 << KIND_SHIFT) - 1;
const KIND_SHIFT: u32 = 10;
const POWER: u32 = 1 << 13;
const PADDING_SHIFT: u32 = 14;
/// Padding in bytes is less than this, in suballocators that do not use powers of two.
pub(super) const MAX_PADDING: u64 = 1 << (ALIGNMENT_SHIFT - PADDING_SHIFT);
const ALIGNMENT_SHIFT: u32 = 25;

/// The largest block in bytes: sums of sizes and alignments then stay far from overflow.
pub(super) const MAX_SIZE: u64 = (1 << 60) - 1;

/// One region, live or free; the module documentation shows its layout.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    pub offset: u64,
    /// Requested size in bytes; of a free region its whole size.
    size: u64,
    /// Links to the physical neighbours in the block.
    pub previous: u32,
    pub next: u32,
    /// Odd while the region is live, otherwise 0. Where generations are kept apart, also odd while a
    /// freed region waits to be merged.
    generation: u32,
    /// Bit fields: [`FREE`], or [`TAG_MASK`] and the constants behind it.
    extra: u32,
}

/// A vacant node.
impl Default for Node {
    fn default() -> Self {
        Self { offset: 0, size: 0, previous: NONE, next: NONE, generation: 0, extra: FREE }
    }
}

impl Node {
    /// Returns the requested size in bytes; of a free region its whole size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the bytes that the region takes up in its block.
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

    /// Returns the bytes that a region of [`set_live`](Self::set_live) takes up beyond its size.
    #[inline]
    pub fn padding(&self) -> u64 {
        debug_assert!(self.is_edge() || !self.is_free() && self.extra & POWER == 0);
        self.padding_if_live()
    }

    /// Like [`padding`](Self::padding), but may be called for any node: the value is meaningless if the
    /// region is not live.
    #[inline(always)]
    pub fn padding_if_live(&self) -> u64 {
        u64::from(self.extra >> PADDING_SHIFT) & (MAX_PADDING - 1)
    }

    /// Returns the end offset of a region of [`set_live`](Self::set_live).
    #[inline]
    pub fn padded_end(&self) -> u64 {
        // A region lies within its block.
        self.offset.wrapping_add(self.size).wrapping_add(self.padding())
    }

    /// Turns the node into the edge of a block, which is linked before the first and behind the last
    /// region, so that every region has two neighbours. It is neither free nor live.
    pub fn set_edge(&mut self, index: u32) {
        *self = Self { previous: index, next: index, ..Self::default() };
    }

    /// Returns whether the node is an edge; also true for a vacant slot, as no free region has 0 bytes.
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

    /// Returns the description of a live region of `block`.
    pub fn info(&self, block: u32) -> RegionInfo {
        let block = BlockIndex(block);
        RegionInfo { block, offset: self.offset, size: self.size(), kind: self.kind() }
    }

    pub fn set_free(&mut self, offset: u64, size: u64) {
        self.set_free_at(offset, size, 0);
    }

    /// Makes the region free, at `position` in the index.
    #[inline(always)]
    pub fn set_free_at(&mut self, offset: u64, size: u64, position: Position) {
        debug_assert!(size <= MAX_SIZE);
        self.offset = offset;
        self.size = size;
        self.set_position(position);
    }

    /// Makes the region live; it takes up `padding` bytes beyond its size.
    #[inline(always)]
    pub fn set_live(&mut self, offset: u64, size: u64, kind: ResourceKind, padding: u64) {
        debug_assert!(size <= MAX_SIZE && padding < MAX_PADDING);
        self.offset = offset;
        self.size = size;
        self.extra = (padding as u32) << PADDING_SHIFT | u32::from(kind as u8) << KIND_SHIFT;
    }

    /// Notes the power of two in the alignment that a live region was asked for, in bytes.
    #[inline(always)]
    pub fn set_alignment(&mut self, alignment: u64) {
        // The highest bit makes the count defined, and free of a branch, for any number.
        let exponent = (alignment | 1 << 63).trailing_zeros();
        self.extra |= exponent << ALIGNMENT_SHIFT;
    }

    /// Returns the power of two in the alignment that a live region was asked for, in bytes.
    pub fn alignment(&self) -> u64 {
        debug_assert!(!self.is_free());
        1 << (self.extra >> ALIGNMENT_SHIFT & 63)
    }

    /// Makes the region live; it takes up 2^`order` bytes.
    pub fn set_live_in_power(&mut self, offset: u64, size: u64, kind: ResourceKind, order: u32) {
        self.set_live(offset, size, kind, 0);
        self.extra |= POWER | order << PADDING_SHIFT;
    }

    /// Makes the slot vacant and links it to the next vacant one.
    #[inline(always)]
    pub fn set_vacant(&mut self, next: u32) {
        (self.size, self.extra, self.generation) = (0, FREE, 0);
        self.next = next;
    }

    /// Returns whether the region is neither live nor free: freed by
    /// [`end_life_later`](Self::end_life_later) and not merged yet.
    pub fn is_unmerged(&self) -> bool {
        !self.is_free() && self.generation == 0
    }

    /// Gives the region the generation of a new key.
    #[inline(always)]
    pub fn begin_life(&mut self, generation: u32) {
        debug_assert!(generation % 2 == 1);
        self.generation = generation;
    }

    /// Returns whether a key of the region is valid, as far as the node knows.
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        self.generation % 2 == 1
    }

    /// Returns the generation of the region's key, or 0.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns whether `key` is the valid key of this region.
    #[inline]
    pub fn is_of(&self, key: SlotKey) -> bool {
        self.generation == key.generation() && self.is_live()
    }

    /// Makes the key stale without making the region free: everything else stays until it is merged.
    #[inline(always)]
    pub fn end_life_later(&mut self) {
        self.generation = 0;
    }

    /// Makes the key stale and the region free.
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
