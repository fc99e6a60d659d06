//! Statistics of the regions of an arena, and copies of them for dumps.

use super::Arena;
use crate::error::Error;
use crate::pools::memory_object::MemoryObject;
use crate::pools::snapshot::{BlockSnapshot, BlocksSnapshot, NO_ROOM, RegionSnapshot};
use crate::recording::{Told, is_active};
use crate::statistics::Statistics;
use crate::suballocator::Suballocator;

impl Arena {
    /// Counts blocks, allocations and unused ranges. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut state = self.state.lock();
        if is_active() && state.blocks.suballocator.has_unmerged() {
            // Where the next regions go depends on when others were merged.
            self.setup.ledger.recorder.tell_now(&Told::Merge(self.pool_key));
        }
        state.blocks.suballocator.settle();
        let mut statistics = Statistics::default();
        if state.blocks.guard.is_some() {
            state.blocks.count_guarded(&mut statistics);
            return statistics;
        }
        state.blocks.iter().for_each(|(_, memory)| statistics.add_block(memory.size));
        let mut blocks = state.blocks.iter().map(|(block, _)| block);
        state.blocks.suballocator.count(&mut blocks, &mut statistics);
        statistics
    }

    /// Calls `visit` with the memory object of each block, under the lock.
    pub(crate) fn each_memory(&self, visit: &mut dyn FnMut(&MemoryObject)) {
        self.state.lock().blocks.iter().for_each(|(_, memory)| visit(memory));
    }

    /// Copies all blocks and regions, under one lock. O(regions).
    pub(crate) fn copy_for_dump(&self) -> Result<BlocksSnapshot, Error> {
        let mut copied = BlocksSnapshot::default();
        // Reserves most of the memory before taking the lock.
        let most = self.state.lock().blocks.taken().0 as usize * 2;
        copied.regions.try_reserve(most).map_err(|_| NO_ROOM)?;
        let state = self.state.lock();
        copied.blocks.try_reserve(state.blocks.count() as usize).map_err(|_| NO_ROOM)?;
        for (block, memory) in state.blocks.iter() {
            let mut failed = false;
            state.blocks.visit_ranges(block, &mut |view| {
                failed = failed || copied.regions.try_reserve(1).is_err();
                if !failed {
                    let tag = view.key().and_then(|key| state.blocks.suballocator.tag(key));
                    let named = tag.is_some_and(|tag| tag.named);
                    copied.regions.push(RegionSnapshot { view, named });
                }
            });
            if failed {
                return Err(NO_ROOM);
            }
            let regions_end = copied.regions.len();
            copied.blocks.push(BlockSnapshot { id: block.0, memory: memory.clone(), regions_end });
        }
        Ok(copied)
    }
}
