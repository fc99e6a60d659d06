//! What every suballocator can do.

use super::region::RegionTable;
use super::values::{
    BlockIndex, FreedRegion, Placement, RegionInfo, RegionRequest, RegionTag, RegionView,
};
use crate::handle::SlotKey;
use crate::request::ResourceKind;
use crate::statistics::Statistics;

/// Divides any number of blocks into regions.
pub trait Suballocator: Send {
    /// Takes memory for the bookkeeping of one block more, of `size` bytes, or of one that grows to that:
    /// then [`add_block`](Self::add_block) and [`grow_block`](Self::grow_block) need none. False without
    /// host memory. O(1).
    fn try_reserve_block(&mut self, size: u64) -> bool;

    /// Takes in a block of `size` bytes. O(1).
    ///
    /// # Panics
    /// Without host memory: see [`try_reserve_block`](Self::try_reserve_block).
    fn add_block(&mut self, size: u64) -> BlockIndex;

    /// Whether a request got no place for want of host memory since this was asked last.
    fn take_starved(&mut self) -> bool;

    /// Lets go of a block without live regions. O(1).
    ///
    /// # Panics
    /// If a region of the block is live.
    fn remove_block(&mut self, block: BlockIndex);

    /// Whether no region of the block is live. O(1).
    fn is_block_empty(&self, block: BlockIndex) -> bool;

    /// Takes memory for so many regions more at once. What is not reserved is taken bit by bit.
    fn reserve(&mut self, regions: usize) {
        self.regions_mut().reserve(regions);
    }

    /// Finds a place in any block, or `None`. O(1), except for [`MinOffset`](crate::Strategy::MinOffset).
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement>;

    /// The same for an alignment that is no power of two, as a stride of 12 bytes: a call of its own, as a
    /// division costs more than all else that [`allocate`](Self::allocate) does. Not where
    /// `bufferImageGranularity` matters.
    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement>;

    /// Finds places as [`allocate`](Self::allocate) does, one after the other, up to the first request
    /// that gets none; how many got one. `placed` hears of each.
    fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        placed: impl FnMut(&RegionRequest, Placement),
    ) -> usize
    where
        Self: Sized,
    {
        one_by_one(requests, placed, |request| self.allocate(request))
    }

    /// Frees a region; `None` if the key is stale. O(1).
    fn free(&mut self, key: SlotKey) -> Option<FreedRegion>;

    /// The same without a word about what it was, for which a large table would have to wait: how many
    /// bytes it and others before it had that were not told of yet. `None` if the key is stale; also then
    /// what was put off may be done.
    fn release(&mut self, key: SlotKey) -> Option<u64> {
        self.free(key).map(|freed| freed.info.size)
    }

    /// What regions had that were [released](Self::release) and not told of yet, in bytes. O(1).
    fn unreported(&self) -> u64 {
        0
    }

    /// Frees every region, however many there are; the blocks stay. O(blocks).
    ///
    /// No generation comes twice, so no slot has to be told.
    fn clear(&mut self);

    /// Where it keeps its regions.
    fn regions(&self) -> &RegionTable;

    /// The table of its regions, to be changed.
    fn regions_mut(&mut self) -> &mut RegionTable;

    /// What a region is; `None` if the key is stale. O(1).
    fn region(&self, key: SlotKey) -> Option<RegionInfo> {
        self.regions().info(key)
    }

    /// The owner's bits; `None` if the key is stale. O(1).
    fn tag(&self, key: SlotKey) -> Option<RegionTag> {
        self.regions().tag(key)
    }

    /// Changes the owner's bits; does nothing if the key is stale. O(1).
    fn set_tag(&mut self, key: SlotKey, tag: RegionTag) {
        self.regions_mut().set_tag(key, tag);
    }

    /// Makes a block larger; what lives in it stays. O(regions of the block).
    ///
    /// # Panics
    /// If the new size is smaller, or without host memory.
    fn grow_block(&mut self, block: BlockIndex, size: u64);

    /// Bytes of a block. O(1).
    fn block_size(&self, block: BlockIndex) -> u64;

    /// Calls `visit` with offset, size, key and kind of the live regions of a block, by ascending
    /// offset. O(regions of the block).
    fn visit_live(&self, block: BlockIndex, visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind));

    /// Calls `visit` with the live regions of a block and the unused ranges between them, by
    /// ascending offset: together they are the block. O(regions of the block).
    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        let mut end = 0;
        self.visit_live(block, &mut |offset, size, key, kind| {
            if offset > end {
                visit(RegionView { offset: end, size: offset - end, live: None });
            }
            visit(RegionView { offset, size, live: Some((key, kind)) });
            end = offset + size;
        });
        let size = self.block_size(block);
        if end < size {
            visit(RegionView { offset: end, size: size - end, live: None });
        }
    }

    /// Does what was put off, which changes nothing that can be seen but how fast the next
    /// [`count`](Self::count) is. O(1).
    fn settle(&mut self) {}

    /// Counts the live regions and unused ranges of some blocks, which have to be all there are.
    /// O(regions).
    fn count(&self, blocks: &mut dyn Iterator<Item = BlockIndex>, statistics: &mut Statistics) {
        count_by_walk(self, blocks, statistics);
    }

    /// Bytes of bookkeeping held. Of tables of many regions, what was never written is not counted.
    fn metadata_bytes(&self) -> usize;

    /// Walks everything and says what is broken. O(regions).
    fn validate(&self) -> Result<(), String>;
}

/// Places requests up to the first that gets nothing; how many were placed.
#[inline(always)]
pub(super) fn one_by_one(
    requests: impl Iterator<Item = RegionRequest>,
    mut placed: impl FnMut(&RegionRequest, Placement),
    mut allocate: impl FnMut(&RegionRequest) -> Option<Placement>,
) -> usize {
    let mut count = 0;
    for request in requests {
        let Some(placement) = allocate(&request) else { break };
        placed(&request, placement);
        count += 1;
    }
    count
}

/// See [`Suballocator::count`].
pub(super) fn count_by_walk(
    of: &(impl Suballocator + ?Sized),
    blocks: &mut dyn Iterator<Item = BlockIndex>,
    statistics: &mut Statistics,
) {
    for block in blocks {
        of.visit_block(block, &mut |view| match view.live {
            Some(_) => statistics.add_allocation(view.size),
            None => statistics.add_unused_range(view.size),
        });
    }
}
