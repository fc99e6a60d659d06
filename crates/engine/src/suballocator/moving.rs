//! [`Moving`]: what defragmentation needs of a suballocator: walks over the regions of one block, and places
//! for regions that are to move.

use super::values::{BlockIndex, Placement, RegionRequest, RegionTag};
use crate::handle::SlotKey;
use crate::request::ResourceKind;

/// A live region as defragmentation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovableRegion {
    /// Key of the region.
    pub key: SlotKey,
    /// The block that contains it.
    pub block: BlockIndex,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Requested size in bytes.
    pub size: u64,
    /// Bytes that it takes up in its block.
    pub footprint: u64,
    /// The alignment that it was asked for, in bytes.
    pub alignment: u64,
    /// The kind of resource in it.
    pub kind: ResourceKind,
    /// The bits that its owner stores with it.
    pub tag: RegionTag,
    /// Bytes of the free regions that would be merged with it if it were freed: before and after it.
    pub gaps: [u64; 2],
}

impl MovableRegion {
    /// Returns the request for another place of the region.
    pub(crate) fn request(&self) -> RegionRequest {
        RegionRequest::of_size(self.size, self.alignment, self.kind)
    }
}

/// A free region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreeRegion {
    /// Size in bytes.
    pub size: u64,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Its slot in the table of regions, to find it again while it stays as it is.
    pub slot: u32,
}

/// What a walk meets.
#[derive(Clone, Copy, Debug)]
pub enum Met {
    /// A live region.
    Live(MovableRegion),
    /// A free region.
    Free(FreeRegion),
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// At the end of the block.
    Done,
    /// Before this live region, from which it can be continued.
    At(SlotKey),
    /// At once: the region from which it was to be continued was freed.
    Stale,
}

/// A suballocator whose regions can be moved.
///
/// Below, *n* is the number of regions of a block. Freed regions whose merging was deferred are merged by
/// those functions that change something; a walk skips them.
pub trait Moving {
    /// Returns the number of live regions of a block. O(1).
    fn live_count(&self, block: BlockIndex) -> u32;

    /// Returns the description of a live region; `None` if the key is stale. O(1).
    fn movable(&self, key: SlotKey) -> Option<MovableRegion>;

    /// Calls `visit` with the regions of a block, from a live one (`None`: the first of the walk) on, until
    /// that returns false or about `limit` regions were met. TLSF walks from the upper end of the block
    /// down, buddy from the lower end up.
    ///
    /// # Time complexity
    /// O(`limit`), plus the number of free and unmerged regions in a row.
    fn walk(
        &self,
        block: BlockIndex,
        from: Option<SlotKey>,
        limit: usize,
        visit: &mut dyn FnMut(&Met) -> bool,
    ) -> Walk;

    /// Returns the free region directly behind a live one. O(1).
    fn free_behind(&self, key: SlotKey) -> Option<FreeRegion>;

    /// Places a request in a free region of a block, which a walk met; `None` if it is not as it was, or if
    /// the request does not fit.
    ///
    /// # Time complexity
    /// That of allocating.
    fn place_in(
        &mut self,
        block: BlockIndex,
        free: &FreeRegion,
        request: &RegionRequest,
    ) -> Option<Placement>;

    /// Returns the next live region above one (`None`: above the start of the block). O(1), plus the number
    /// of unmerged regions in a row.
    fn above(&self, block: BlockIndex, below: Option<SlotKey>) -> Option<MovableRegion>;

    /// Makes the gap directly before a live region a live region of its own, from the lowest offset at which
    /// the region could begin up to the region itself. Returns its placement; `None` if the region could not
    /// begin lower.
    ///
    /// # Time complexity
    /// O(1).
    fn hold_gap_before(&mut self, key: SlotKey) -> Option<Placement>;

    /// Moves a region down to the offset of the region directly before it, which was made by
    /// [`hold_gap_before`](Self::hold_gap_before) and ends with that. Both keys become stale; returns the new
    /// placement, `None` if nothing was changed.
    ///
    /// # Time complexity
    /// O(1).
    fn slide(&mut self, key: SlotKey, gap: SlotKey) -> Option<Placement>;

    /// Gives all live regions of a block new offsets, by ascending offset. Their keys stay. Returns false, and
    /// changes nothing, if there is no host memory.
    ///
    /// # Panics
    /// If a region is missing, is stale, overlaps the one before it or exceeds the block.
    ///
    /// # Time complexity
    /// O(*n*).
    fn rearrange(&mut self, block: BlockIndex, places: &[(SlotKey, u64)]) -> bool;
}
