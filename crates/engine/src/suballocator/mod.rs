//! Dividing blocks into regions.
//!
//! A [`Suballocator`] holds *all* blocks of an arena under one index, so that finding a place costs
//! the same with one block and with ten thousand. It knows sizes and offsets only: which memory
//! stands behind a block is the arena's business.

mod bins;
mod buddy;
mod count;
pub mod granularity;
mod linear;
mod node;
mod region;
mod slab;
mod tlsf;

use crate::request::{ResourceKind, Strategy};
use crate::statistics::Statistics;

pub use buddy::Buddy;
pub use linear::Linear;
pub use region::{BlockIndex, RegionKey, RegionTable};
pub use tlsf::Tlsf;

/// What a region must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionRequest {
    /// In bytes, more than zero.
    pub size: u64,
    /// Of the offset in its block; a power of two, but for
    /// [`allocate_at_multiple`](Suballocator::allocate_at_multiple).
    pub alignment: u64,
    /// Decides which neighbours it may share a page with.
    pub kind: ResourceKind,
    /// From the upper end of the block; only [`Linear`] does so, for others it means nothing.
    pub upper: bool,
    /// How to search.
    pub strategy: Strategy,
}

/// Where a request was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The new region; stale after it is freed.
    pub key: RegionKey,
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
    pub live: Option<(RegionKey, ResourceKind)>,
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

/// How blocks are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Any sizes in any order.
    #[default]
    Tlsf,
    /// One behind the other: freed at once, as a stack, as two stacks, or as a ring.
    Linear,
    /// Powers of two.
    Buddy,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Tlsf, Self::Linear, Self::Buddy];

    /// In lower case, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tlsf => "tlsf",
            Self::Linear => "linear",
            Self::Buddy => "buddy",
        }
    }

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// One for a single block of numbers, without granules and pages.
    pub fn of_one_block(self) -> AnySuballocator {
        match self {
            Self::Tlsf => AnySuballocator::Tlsf(Tlsf::new(1, 1).with_generations_apart()),
            Self::Linear | Self::Buddy => self.suballocator(1, 1),
        }
    }

    /// A suballocator without blocks; see [`Tlsf::new`] for the numbers.
    pub fn suballocator(self, granule: u64, granularity: u64) -> AnySuballocator {
        match self {
            Self::Tlsf => AnySuballocator::Tlsf(Tlsf::new(granule, granularity)),
            Self::Linear => AnySuballocator::Linear(Linear::new(granule, granularity)),
            Self::Buddy => AnySuballocator::Buddy(Buddy::new(granule, granularity)),
        }
    }
}

/// One of them. An enum and no trait object: a call that the compiler sees through is a third of the
/// instructions of a short one. With a tag of its own: to tell them apart by a field of theirs takes
/// more instructions.
#[derive(Debug)]
#[repr(u8)]
pub enum AnySuballocator {
    /// Any sizes in any order.
    Tlsf(Tlsf),
    /// One behind the other.
    Linear(Linear),
    /// Powers of two.
    Buddy(Buddy),
}

macro_rules! each {
    ($any:expr, $it:ident => $call:expr) => {
        match $any {
            AnySuballocator::Tlsf($it) => $call,
            AnySuballocator::Linear($it) => $call,
            AnySuballocator::Buddy($it) => $call,
        }
    };
}

impl Suballocator for AnySuballocator {
    fn try_reserve_block(&mut self, size: u64) -> bool {
        each!(self, it => it.try_reserve_block(size))
    }

    fn add_block(&mut self, size: u64) -> BlockIndex {
        each!(self, it => it.add_block(size))
    }

    fn take_starved(&mut self) -> bool {
        each!(self, it => it.take_starved())
    }

    fn remove_block(&mut self, block: BlockIndex) {
        each!(self, it => it.remove_block(block));
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        each!(self, it => it.is_block_empty(block))
    }

    #[inline(always)]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        each!(self, it => it.allocate(request))
    }

    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement> {
        each!(self, it => it.allocate_at_multiple(request))
    }

    #[inline(always)]
    fn free(&mut self, key: RegionKey) -> Option<FreedRegion> {
        each!(self, it => it.free(key))
    }

    #[inline(always)]
    fn release(&mut self, key: RegionKey) -> Option<u64> {
        each!(self, it => it.release(key))
    }

    fn unreported(&self) -> u64 {
        each!(self, it => it.unreported())
    }

    fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        placed: impl FnMut(&RegionRequest, Placement),
    ) -> usize {
        each!(self, it => it.allocate_many(requests, placed))
    }

    fn clear(&mut self) {
        each!(self, it => it.clear());
    }

    #[inline]
    fn regions(&self) -> &RegionTable {
        each!(self, it => it.regions())
    }

    #[inline]
    fn regions_mut(&mut self) -> &mut RegionTable {
        each!(self, it => it.regions_mut())
    }

    fn grow_block(&mut self, block: BlockIndex, size: u64) {
        each!(self, it => it.grow_block(block, size));
    }

    fn block_size(&self, block: BlockIndex) -> u64 {
        each!(self, it => it.block_size(block))
    }

    fn visit_live(
        &self,
        block: BlockIndex,
        visit: &mut dyn FnMut(u64, u64, RegionKey, ResourceKind),
    ) {
        each!(self, it => it.visit_live(block, visit));
    }

    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        each!(self, it => it.visit_block(block, visit));
    }

    fn settle(&mut self) {
        each!(self, it => it.settle());
    }

    fn count(&self, blocks: &mut dyn Iterator<Item = BlockIndex>, statistics: &mut Statistics) {
        each!(self, it => it.count(blocks, statistics));
    }

    fn metadata_bytes(&self) -> usize {
        each!(self, it => it.metadata_bytes())
    }

    fn validate(&self) -> Result<(), String> {
        each!(self, it => it.validate())
    }
}

/// Places requests up to the first that gets nothing; how many were placed.
#[inline(always)]
fn one_by_one(
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
fn count_by_walk(
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

    /// Finds a place in any block, or `None`. O(1), except for [`Strategy::MinOffset`].
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
    fn free(&mut self, key: RegionKey) -> Option<FreedRegion>;

    /// The same without a word about what it was, for which a large table would have to wait: how many
    /// bytes it and others before it had that were not told of yet. `None` if the key is stale; also then
    /// what was put off may be done.
    fn release(&mut self, key: RegionKey) -> Option<u64> {
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

    /// The same, to be changed.
    fn regions_mut(&mut self) -> &mut RegionTable;

    /// What a region is; `None` if the key is stale. O(1).
    fn region(&self, key: RegionKey) -> Option<RegionInfo> {
        self.regions().info(key)
    }

    /// The owner's bits; `None` if the key is stale. O(1).
    fn tag(&self, key: RegionKey) -> Option<RegionTag> {
        self.regions().tag(key)
    }

    /// Changes the owner's bits; does nothing if the key is stale. O(1).
    fn set_tag(&mut self, key: RegionKey, tag: RegionTag) {
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
    fn visit_live(
        &self,
        block: BlockIndex,
        visit: &mut dyn FnMut(u64, u64, RegionKey, ResourceKind),
    );

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
