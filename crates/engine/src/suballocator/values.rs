//! What is asked of a suballocator and what it answers.

use crate::handle::SlotKey;
use crate::request::{ResourceKind, Strategy};

/// A block of a suballocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockIndex(pub u32);

/// What a region must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionRequest {
    /// In bytes, more than zero.
    pub size: u64,
    /// What its offset in the block is a multiple of; a power of two, but for
    /// [`allocate_at_multiple`](super::Suballocator::allocate_at_multiple).
    pub alignment: u64,
    /// Decides which neighbours it may share a page with.
    pub kind: ResourceKind,
    /// From the upper end of the block; only [`Linear`](super::Linear) does so, for others it means nothing.
    pub upper: bool,
    /// How to search.
    pub strategy: Strategy,
}

/// Where a request was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The new region; stale after it is freed.
    pub key: SlotKey,
    /// The block it lies in.
    pub block: BlockIndex,
    /// In that block, in bytes.
    pub offset: u64,
}

/// What a live region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The block it lies in.
    pub block: BlockIndex,
    /// In that block, in bytes.
    pub offset: u64,
    /// As requested, in bytes.
    pub size: u64,
    /// As requested.
    pub kind: ResourceKind,
}

/// A range as a walk over a block meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// In the block, in bytes.
    pub offset: u64,
    /// As requested, in bytes; what rounding added is unused.
    pub size: u64,
    /// `None` for an unused range.
    pub live: Option<(SlotKey, ResourceKind)>,
}

/// What freeing a region did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreedRegion {
    /// What it was.
    pub info: RegionInfo,
    /// The owner's bits.
    pub tag: RegionTag,
    /// No live region is left in its block.
    pub block_is_empty: bool,
}

/// A few bits that the owner of a live region keeps with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionTag {
    /// How often it is mapped, persistent mapping aside.
    pub map_count: u8,
    /// Mapped for as long as it lives.
    pub persistently_mapped: bool,
    /// It has a name.
    pub named: bool,
}
