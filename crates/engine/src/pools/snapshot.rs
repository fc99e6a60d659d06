//! Copies of pools, each taken under its lock: the source of dumps.

use std::sync::Arc;

use crate::error::Error;
use crate::handle::{PoolId, PoolKey, SlotKey};
use crate::pools::margin::Extent;
use crate::pools::memory_object::MemoryObject;
use crate::request::{Algorithm, ResourceKind};
use crate::statistics::Statistics;
use crate::suballocator::RegionView;

/// The error when there is no host memory for a copy.
pub(crate) const NO_ROOM: Error = Error::NoHostMemory("a copy of all allocations");

/// What a range of a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeUse {
    Live(SlotKey, ResourceKind),
    Margin,
    Quarantined,
    Unused,
}

/// One range of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeView {
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    pub is: RangeUse,
}

impl RangeView {
    pub fn new(extent: Extent, is: RangeUse) -> Self {
        Self { offset: extent.offset, size: extent.size, is }
    }

    /// Returns the key of an allocation, `None` for other ranges.
    pub fn key(&self) -> Option<SlotKey> {
        match self.is {
            RangeUse::Live(key, _) => Some(key),
            _ => None,
        }
    }

    /// Adds the range to `statistics`.
    pub fn add_to(&self, statistics: &mut Statistics) {
        match self.is {
            RangeUse::Live(..) => statistics.add_allocation(self.size),
            RangeUse::Margin => statistics.add_margin(self.size),
            RangeUse::Quarantined => statistics.add_quarantined(self.size),
            RangeUse::Unused => statistics.add_unused_range(self.size),
        }
    }

    /// Returns the range as VMA sees it: a margin is an unused one.
    pub fn region(&self) -> RegionView {
        let live = match self.is {
            RangeUse::Live(key, kind) => Some((key, kind)),
            _ => None,
        };
        RegionView { offset: self.offset, size: self.size, live }
    }
}

/// A copied range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionSnapshot {
    pub view: RangeView,
    pub named: bool,
}

/// A copied block, and the end of its regions in [`BlocksSnapshot::regions`].
pub(crate) struct BlockSnapshot {
    pub id: u32,
    pub memory: Arc<MemoryObject>,
    pub regions_end: usize,
}

/// The copied blocks of an arena.
#[derive(Default)]
pub(crate) struct BlocksSnapshot {
    pub blocks: Vec<BlockSnapshot>,
    pub regions: Vec<RegionSnapshot>,
}

impl BlocksSnapshot {
    /// Iterates over the blocks with the regions of each.
    pub fn each(&self) -> impl Iterator<Item = (&BlockSnapshot, &[RegionSnapshot])> {
        let mut start = 0;
        self.blocks.iter().map(move |block| {
            let regions = &self.regions[start..block.regions_end];
            start = block.regions_end;
            (block, regions)
        })
    }
}

/// A copied dedicated allocation.
pub(crate) struct DedicatedSnapshot {
    pub key: SlotKey,
    /// Size of the memory object in bytes.
    pub memory_size: u64,
    /// Bytes of the margins before and behind the allocation.
    pub margins: [u64; 2],
    pub named: bool,
    pub kind: ResourceKind,
}

/// Copied dedicated memory in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QuarantinedSnapshot {
    /// Size of the allocation that it was, in bytes.
    pub size: u64,
    /// Bytes of the margins before and behind that.
    pub margins: [u64; 2],
    /// Size of the memory object in bytes.
    pub memory_size: u64,
}

/// A copied pool.
pub(crate) struct PoolSnapshot {
    pub pool_key: PoolKey,
    pub memory_type_index: u32,
    pub preferred_block_size: u64,
    pub algorithm: Algorithm,
    pub ignores_granularity: bool,
    pub blocks: BlocksSnapshot,
    pub dedicated: Vec<DedicatedSnapshot>,
    /// Dedicated memory in quarantine, by size.
    pub quarantined: Vec<QuarantinedSnapshot>,
}

impl DedicatedSnapshot {
    /// Returns the size of the allocation in bytes.
    pub fn size(&self) -> u64 {
        self.memory_size - self.margins[0] - self.margins[1]
    }
}

impl PoolSnapshot {
    /// Counts blocks, allocations and unused ranges.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        let add_margins = |statistics: &mut Statistics, margins: [u64; 2]| {
            let margins = margins.into_iter().filter(|&size| size != 0);
            margins.for_each(|size| statistics.add_margin(size));
        };
        for (block, regions) in self.blocks.each() {
            statistics.add_block(block.memory.size);
            regions.iter().for_each(|region| region.view.add_to(&mut statistics));
        }
        for it in &self.dedicated {
            statistics.add_block(it.memory_size);
            statistics.add_allocation(it.size());
            add_margins(&mut statistics, it.margins);
        }
        for it in &self.quarantined {
            statistics.add_block(it.memory_size);
            statistics.add_quarantined(it.size);
            add_margins(&mut statistics, it.margins);
        }
        statistics
    }
}

/// Adds one region to `statistics`.
pub(crate) fn count(statistics: &mut Statistics, region: &RegionView) {
    match region.live {
        Some(_) => statistics.add_allocation(region.size),
        None => statistics.add_unused_range(region.size),
    }
}

/// Returns the custom pools of a memory type, in the order of the dump.
pub(crate) fn custom_pools_of(
    pools: &[PoolSnapshot],
    memory_type: u32,
) -> impl Iterator<Item = (PoolId, &PoolSnapshot)> {
    pools.iter().filter(move |pool| pool.memory_type_index == memory_type).filter_map(|pool| {
        match pool.pool_key {
            PoolKey::Custom(id) => Some((id, pool)),
            PoolKey::Default(_) => None,
        }
    })
}
