//! The trait [`Suballocator`]: the operations that every algorithm implements.

use super::region::RegionTable;
use super::values::{
    BlockIndex, FreedRegion, Placement, RegionInfo, RegionRequest, RegionTag, RegionView,
};
use crate::handle::SlotKey;
use crate::request::ResourceKind;
use crate::statistics::Statistics;

/// Divides any number of blocks into regions.
///
/// Below, *n* is the number of regions in all blocks (live, free, and freed ones that are not merged yet)
/// and *b* the number of blocks. Bounds of operations that take host memory are amortised over the growth
/// of the tables.
pub trait Suballocator: Send {
    /// Reserves host memory for the bookkeeping of one more block of `size` bytes, or of one block that
    /// grows to `size`; after that [`add_block`](Self::add_block) and [`grow_block`](Self::grow_block)
    /// take none. Returns false if the system has no memory.
    ///
    /// # Time complexity
    /// O(1); O(*n*) once, for the second block, when the table that maps regions to blocks is created.
    fn try_reserve_block(&mut self, size: u64) -> bool;

    /// Adds a block of `size` bytes, which becomes one free region.
    ///
    /// # Panics
    /// If host memory is exhausted; call [`try_reserve_block`](Self::try_reserve_block) first.
    ///
    /// # Time complexity
    /// The bound of [`try_reserve_block`](Self::try_reserve_block).
    fn add_block(&mut self, size: u64) -> BlockIndex;

    /// Returns whether a request since the last call failed because host memory was exhausted, and clears
    /// that flag.
    ///
    /// # Time complexity
    /// O(1).
    fn take_host_memory_failure(&mut self) -> bool;

    /// Removes a block that has no live region.
    ///
    /// # Panics
    /// If a region of the block is live.
    ///
    /// # Time complexity
    /// O(1); O(*n*) if host memory ran out before and freed regions could not be merged.
    fn remove_block(&mut self, block: BlockIndex);

    /// Returns whether the block has no live region.
    ///
    /// # Time complexity
    /// O(1).
    fn is_block_empty(&self, block: BlockIndex) -> bool;

    /// Reserves host memory for `regions` more regions, as far as the system has it; memory that is not
    /// reserved is taken in small steps by later calls.
    ///
    /// # Time complexity
    /// O(`regions`) at most, and one request for host memory per 16,384 regions.
    fn reserve(&mut self, regions: usize) {
        self.regions_mut().reserve(regions);
    }

    /// Finds a place in any block and makes it a live region; returns `None` if no block has room.
    ///
    /// # Time complexity
    /// TLSF: O(1), which includes a search of at most 512 candidates; O(*n* + *b*) with
    /// [`MinOffset`](crate::Strategy::MinOffset). Buddy: O(log(block size / smallest region)). Linear:
    /// O(1) in the block on top; O(*b*) when that is full.
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement>;

    /// Like [`allocate`](Self::allocate), but the alignment need not be a power of two (a vertex stride
    /// of 12 bytes). A separate method because the integer division costs more than everything else that
    /// `allocate` does. Not for memory with a `bufferImageGranularity` above 1.
    ///
    /// # Time complexity
    /// The bound of [`allocate`](Self::allocate); buddy searches at most 512 candidates.
    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement>;

    /// Calls [`allocate`](Self::allocate) for each request up to the first that fails and `placed` for
    /// each that succeeds. Returns the number of requests that succeeded.
    ///
    /// # Time complexity
    /// The bound of [`allocate`](Self::allocate), for each request.
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

    /// Frees a region and returns its description; `None` if the key is stale.
    ///
    /// # Time complexity
    /// TLSF: O(1). Buddy: O(log(block size / smallest region)). Linear: O(1) amortised, O(live and freed
    /// regions of the run) in the worst case.
    fn free(&mut self, key: SlotKey) -> Option<FreedRegion>;

    /// Like [`free`](Self::free), but does not report the region, so its node need not be read, which in
    /// a large table is a cache miss. Returns the bytes of this and earlier releases that have not been
    /// reported yet, or `None` if the key is stale; deferred merges may be done in either case.
    ///
    /// # Time complexity
    /// The bound of [`free`](Self::free).
    fn release(&mut self, key: SlotKey) -> Option<u64> {
        self.free(key).map(|freed| freed.info.size)
    }

    /// Returns the bytes of [released](Self::release) regions that no call has reported yet.
    ///
    /// # Time complexity
    /// O(1).
    fn unreported(&self) -> u64 {
        0
    }

    /// Frees every region; the blocks stay. Every key becomes stale, because no generation is used twice.
    ///
    /// # Time complexity
    /// O(*b* + *n* / 16,384).
    fn clear(&mut self);

    /// Returns the table of regions.
    fn regions(&self) -> &RegionTable;

    /// Returns the table of regions for modification.
    fn regions_mut(&mut self) -> &mut RegionTable;

    /// Returns the description of a live region; `None` if the key is stale.
    ///
    /// # Time complexity
    /// O(1).
    fn region(&self, key: SlotKey) -> Option<RegionInfo> {
        self.regions().info(key)
    }

    /// Returns the bits that the owner stores with a live region; `None` if the key is stale.
    ///
    /// # Time complexity
    /// O(1).
    fn tag(&self, key: SlotKey) -> Option<RegionTag> {
        self.regions().tag(key)
    }

    /// Replaces the bits that the owner stores with a live region; does nothing if the key is stale.
    ///
    /// # Time complexity
    /// O(1).
    fn set_tag(&mut self, key: SlotKey, tag: RegionTag) {
        self.regions_mut().set_tag(key, tag);
    }

    /// Makes a block larger; its live regions keep their offsets.
    ///
    /// # Panics
    /// If the new size is smaller, or if host memory is exhausted.
    ///
    /// # Time complexity
    /// TLSF and linear: O(1). Buddy: O(regions of the block).
    fn grow_block(&mut self, block: BlockIndex, size: u64);

    /// Returns the size of a block in bytes.
    ///
    /// # Time complexity
    /// O(1).
    fn block_size(&self, block: BlockIndex) -> u64;

    /// Calls `visit` with offset, size, key and kind of each live region of a block, by ascending offset.
    ///
    /// # Time complexity
    /// O(regions of the block).
    fn visit_live(&self, block: BlockIndex, visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind));

    /// Calls `visit` with each live region of a block and each unused range between them, by ascending
    /// offset; together they cover the block.
    ///
    /// # Time complexity
    /// O(regions of the block).
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

    /// Merges freed regions whose merging was deferred. Nothing observable changes but the speed of the
    /// next [`count`](Self::count).
    ///
    /// # Time complexity
    /// O(1); O(*n*) if host memory ran out before.
    fn settle(&mut self) {}

    /// Returns whether [`settle`](Self::settle) would merge anything. O(1).
    fn has_unmerged(&self) -> bool {
        false
    }

    /// Adds the live regions and unused ranges of `blocks` to `statistics`. `blocks` has to yield every
    /// block of the suballocator.
    ///
    /// # Time complexity
    /// O(*n*).
    fn count(&self, blocks: &mut dyn Iterator<Item = BlockIndex>, statistics: &mut Statistics) {
        count_by_walk(self, blocks, statistics);
    }

    /// Returns the bytes of bookkeeping; pages of large tables that were never written do not count.
    ///
    /// # Time complexity
    /// O(1).
    fn metadata_bytes(&self) -> usize;

    /// Checks all invariants and returns the first one that is broken.
    ///
    /// # Errors
    /// A sentence that names the block and the invariant.
    ///
    /// # Time complexity
    /// O(*n* + *b*).
    fn validate(&self) -> Result<(), String>;
}

/// Places requests with `allocate` up to the first that fails; returns the number placed.
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

/// Counts regions by visiting each block: the generic implementation of [`Suballocator::count`].
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
