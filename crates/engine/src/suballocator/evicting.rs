//! [`Evicting`]: what eviction needs of a suballocator: the neighbours of a region, and a place for a request
//! where other regions are now.

use super::region::RegionTable;
use super::values::{BlockIndex, FreedRegion, Placement, RegionRequest, RegionTag};
use crate::handle::SlotKey;

/// A live region as eviction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRegion {
    /// Key of the region.
    pub key: SlotKey,
    /// The block that contains it.
    pub block: BlockIndex,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// End in the block with what rounding added, in bytes.
    pub end: u64,
    /// Requested size in bytes.
    pub size: u64,
    /// The bits that its owner stores with it.
    pub tag: RegionTag,
}

impl RegionTable {
    /// Returns a live region as eviction sees it.
    pub(super) fn live_region(&self, index: u32) -> LiveRegion {
        let node = self.node(index);
        LiveRegion {
            key: self.key_of(index),
            block: BlockIndex(self.block_of(index)),
            offset: node.offset,
            end: node.end(),
            size: node.size(),
            tag: node.tag(),
        }
    }
}

/// A range of a block between two live regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The block.
    pub block: BlockIndex,
    /// The live region below it; `None`: it begins with the block.
    pub below: Option<SlotKey>,
    /// The live region above it; `None`: it ends with the block.
    pub above: Option<SlotKey>,
}

/// A suballocator in which a run of neighbours can be replaced by other regions.
pub trait Evicting {
    /// Returns a live region; `None` if the key is stale. O(1).
    fn look(&self, key: SlotKey) -> Option<LiveRegion>;

    /// Returns the next live region above or below one; `None` at the border of the block. O(1), plus the number
    /// of free and unmerged regions in a row.
    fn neighbour(&self, key: SlotKey, upwards: bool) -> Option<LiveRegion>;

    /// Returns the lowest live region of a block. O(1), plus the number of free regions below it.
    fn lowest(&self, block: BlockIndex) -> Option<LiveRegion>;

    /// Returns how far the ends of a range that a request needs can be from any region in it, in bytes. O(1).
    fn reach(&self, request: &RegionRequest) -> u64;

    /// Returns the offset at which a request would fit into a range if everything in it were free. O(1).
    fn fit_between(&self, range: &Range, request: &RegionRequest) -> Option<u64>;

    /// Returns the offsets at which requests would fit into a range, each above the one before, if everything in it
    /// were free. O(requests).
    fn fit_all(&self, range: &Range, requests: &[RegionRequest]) -> Option<Vec<u64>>;

    /// Returns whether the live regions of a range are exactly these, by ascending offset. O(regions of the range).
    fn holds_exactly(&self, range: &Range, keys: &[SlotKey]) -> bool {
        let mut next = match range.below {
            None => self.lowest(range.block),
            Some(below) if self.look(below).is_some_and(|it| it.block == range.block) => {
                self.neighbour(below, true)
            }
            Some(_) => return false,
        };
        for key in keys {
            match next {
                Some(region) if region.key == *key => next = self.neighbour(*key, true),
                _ => return false,
            }
        }
        next.map(|it| it.key) == range.above
    }

    /// Merges freed regions and reserves host memory for refills that free so many victims in all and place these
    /// requests; returns false if there is none.
    fn reserve_for(&mut self, victims: usize, requests: &[RegionRequest]) -> bool;

    /// Frees all live regions of a range, which are `victims` by ascending offset, and places requests there, each
    /// above the one before. Returns `None` and changes nothing if the range contains other regions, if the requests
    /// do not fit or if there is no host memory.
    ///
    /// # Time complexity
    /// That of freeing each victim and of allocating for each request.
    fn refill(
        &mut self,
        range: &Range,
        victims: &[SlotKey],
        requests: &[RegionRequest],
        freed: &mut dyn FnMut(FreedRegion),
    ) -> Option<Vec<Placement>>;

    /// Does that with one request.
    fn replace(
        &mut self,
        range: &Range,
        victims: &[SlotKey],
        request: &RegionRequest,
        freed: &mut dyn FnMut(FreedRegion),
    ) -> Option<Placement> {
        self.refill(range, victims, std::slice::from_ref(request), freed)?.pop()
    }
}
