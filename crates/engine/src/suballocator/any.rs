//! [`AnySuballocator`]: the suballocator of an algorithm that is chosen at run time.

use super::buddy::Buddy;
use super::evicting::Evicting;
use super::interface::Suballocator;
use super::linear::Linear;
use super::moving::Moving;
use super::region::RegionTable;
use super::tlsf::Tlsf;
use super::values::{BlockIndex, FreedRegion, Placement, RegionRequest, RegionView};
use crate::handle::SlotKey;
use crate::request::{Algorithm, ResourceKind};
use crate::statistics::Statistics;

/// One of the three suballocators. An enum instead of a trait object, because a call that the compiler
/// can inline takes a third of the instructions for a short operation. The discriminant is explicit
/// (`repr(u8)`): telling the variants apart by a niche in a field takes more instructions.
#[derive(Debug)]
#[repr(u8)]
pub enum AnySuballocator {
    /// Two-level segregated fit: any sizes, freed in any order.
    Tlsf(Tlsf),
    /// Stack, double stack or ring buffer: regions one behind the other.
    Linear(Linear),
    /// Buddy system: sizes are powers of two.
    Buddy(Buddy),
}

impl AnySuballocator {
    /// Creates a suballocator for one virtual block: no size granule and no `bufferImageGranularity`.
    pub fn of_one_block(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Tlsf => Self::Tlsf(Tlsf::new(1, 1).with_generations_apart()),
            Algorithm::Linear | Algorithm::Buddy => Self::new(algorithm, 1, 1),
        }
    }

    /// Returns the suballocator for moving its regions; `None` for linear, whose order is the caller's.
    pub(crate) fn moving(&mut self) -> Option<&mut dyn Moving> {
        match self {
            Self::Tlsf(it) => Some(it),
            Self::Buddy(it) => Some(it),
            Self::Linear(_) => None,
        }
    }

    /// Returns the suballocator for replacing neighbours; for linear, where only the oldest regions of a ring can
    /// be replaced, that itself.
    pub(crate) fn evicting(&mut self) -> Result<&mut dyn Evicting, &mut Linear> {
        match self {
            Self::Tlsf(it) => Ok(it),
            Self::Buddy(it) => Ok(it),
            Self::Linear(it) => Err(it),
        }
    }

    /// Creates a suballocator without blocks; see [`Tlsf::new`] for the parameters.
    pub fn new(algorithm: Algorithm, granule: u64, granularity: u64) -> Self {
        match algorithm {
            Algorithm::Tlsf => Self::Tlsf(Tlsf::new(granule, granularity)),
            Algorithm::Linear => Self::Linear(Linear::new(granule, granularity)),
            Algorithm::Buddy => Self::Buddy(Buddy::new(granule, granularity)),
        }
    }
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

    fn take_host_memory_failure(&mut self) -> bool {
        each!(self, it => it.take_host_memory_failure())
    }

    fn remove_block(&mut self, block: BlockIndex) {
        each!(self, it => it.remove_block(block));
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        each!(self, it => it.is_block_empty(block))
    }

    #[inline(always)]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        match self {
            Self::Tlsf(it) => it.allocate(request),
            // The request is copied, so that the original can stay in registers.
            Self::Linear(it) => it.allocate(&{ *request }),
            Self::Buddy(it) => it.allocate(&{ *request }),
        }
    }

    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement> {
        each!(self, it => it.allocate_at_multiple(request))
    }

    #[inline(always)]
    fn free(&mut self, key: SlotKey) -> Option<FreedRegion> {
        each!(self, it => it.free(key))
    }

    #[inline(always)]
    fn release(&mut self, key: SlotKey) -> Option<u64> {
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
        visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind),
    ) {
        each!(self, it => it.visit_live(block, visit));
    }

    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        each!(self, it => it.visit_block(block, visit));
    }

    fn settle(&mut self) {
        each!(self, it => it.settle());
    }

    fn has_unmerged(&self) -> bool {
        each!(self, it => it.has_unmerged())
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
