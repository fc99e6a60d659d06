//! Requests to a suballocator and the values that it returns.

use crate::handle::SlotKey;
use crate::request::{ResourceKind, Strategy};

/// The index of a block in a suballocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockIndex(pub u32);

/// The requirements of a region that is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionRequest {
    /// Size in bytes, more than zero.
    pub size: u64,
    /// The offset in the block is a multiple of this many bytes: a power of two, except for
    /// [`allocate_at_multiple`](super::Suballocator::allocate_at_multiple).
    pub alignment: u64,
    /// The kind of resource, which decides with which neighbours the region may share a page of
    /// `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// Place it at the upper end of the block; only [`Linear`](super::Linear) does so, other
    /// suballocators ignore it.
    pub upper: bool,
    /// The search strategy.
    pub strategy: Strategy,
}

impl RegionRequest {
    /// Returns the request for a place that somebody else looks for: anywhere, with any strategy.
    pub(crate) fn of_size(size: u64, alignment: u64, kind: ResourceKind) -> Self {
        Self { size, alignment, kind, upper: false, strategy: Strategy::Balanced }
    }
}

/// The result of a successful request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Key of the new region; stale once the region is freed.
    pub key: SlotKey,
    /// The block that contains the region.
    pub block: BlockIndex,
    /// Offset in the block, in bytes.
    pub offset: u64,
}

/// The description of a live region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The block that contains the region.
    pub block: BlockIndex,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Requested size in bytes.
    pub size: u64,
    /// Requested kind.
    pub kind: ResourceKind,
}

/// One live region or unused range, as [`visit_block`](super::Suballocator::visit_block) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Requested size in bytes; the bytes that rounding added are reported as an unused range.
    pub size: u64,
    /// Key and kind of a live region; `None` for an unused range.
    pub live: Option<(SlotKey, ResourceKind)>,
}

/// The result of freeing a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreedRegion {
    /// The region as it was.
    pub info: RegionInfo,
    /// The bits that the owner stored with it.
    pub tag: RegionTag,
    /// Whether its block has no live region any more.
    pub block_is_empty: bool,
}

/// Bits that the owner of a live region stores with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionTag {
    /// Number of mappings, apart from the persistent one.
    pub map_count: u8,
    /// Whether the region is mapped for its whole life.
    pub persistently_mapped: bool,
    /// Whether the region has a name.
    pub named: bool,
}

impl RegionTag {
    /// Returns whether the region is mapped.
    pub(crate) fn is_mapped(self) -> bool {
        self.maps() > 0
    }

    /// Returns the number of maps of its memory object that it counts for.
    pub(crate) fn maps(self) -> u64 {
        u64::from(self.map_count) + u64::from(self.persistently_mapped)
    }
}
