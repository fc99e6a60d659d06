//! Copies of pools, each taken under its lock: the source of dumps.

use std::sync::Arc;

use crate::error::Error;
use crate::handle::{PoolId, PoolKey, SlotKey};
use crate::pools::memory_object::MemoryObject;
use crate::request::{Algorithm, ResourceKind};
use crate::statistics::Statistics;
use crate::suballocator::RegionView;

/// The error when there is no host memory for a copy.
pub(crate) const NO_ROOM: Error = Error::NoHostMemory("a copy of all allocations");

/// A copied region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionSnapshot {
    pub view: RegionView,
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
    pub size: u64,
    pub named: bool,
    pub kind: ResourceKind,
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
}

impl PoolSnapshot {
    /// Counts blocks, allocations and unused ranges.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for (block, regions) in self.blocks.each() {
            statistics.add_block(block.memory.size);
            regions.iter().for_each(|region| count(&mut statistics, &region.view));
        }
        for it in &self.dedicated {
            statistics.add_block(it.size);
            statistics.add_allocation(it.size);
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
