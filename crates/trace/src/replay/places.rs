//! [`Places`]: the live allocations of a replay, for figures without a look into its allocators.
//!
//! The statistics of an allocator merge free regions that it would merge later. That has no effect on a program, but on
//! where its next allocations go: a replay that is compared with a recording, or recorded, must not ask for them.

use std::collections::HashMap;

use vkmem_engine::Statistics;

use super::objects::LiveKind;
use super::world::World;

/// Numbers of live allocations, in any order.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<u32>);

impl Places {
    /// Adds an allocation; returns its place in the list.
    pub fn add(&mut self, number: u32) -> u32 {
        self.0.push(number);
        self.0.len() as u32 - 1
    }

    /// Removes what is at a place; returns the allocation that is there now, if any.
    pub fn remove(&mut self, place: u32) -> Option<u32> {
        let place = place as usize;
        if place < self.0.len() {
            self.0.swap_remove(place);
        }
        self.0.get(place).copied()
    }

    /// Counts memory objects, allocations and the ranges between them. O(n log n) for n live allocations.
    pub fn statistics(&self, world: &World) -> Statistics {
        let mut statistics = Statistics::default();
        let mut memories: HashMap<u64, u64> = HashMap::new();
        for (_, instance) in world.instances() {
            memories.extend(instance.driver.memories());
        }
        memories.values().for_each(|size| statistics.add_block(*size));
        let mut live = Vec::new();
        for number in &self.0 {
            let place = world.allocations.with(*number, |it| {
                let is_lost = matches!(&it.kind, LiveKind::Evictable(it) if it.is_lost());
                (!is_lost).then_some((
                    it.allocation.memory.0,
                    it.allocation.offset,
                    it.allocation.size,
                ))
            });
            live.extend(place.flatten());
        }
        live.sort_unstable();
        // What lies before the next allocation of a memory object, or before its end, is unused.
        let (mut current, mut end) = (None, 0);
        let mut close = |memory: Option<u64>, end: u64, statistics: &mut Statistics| {
            let size = memory.and_then(|it| memories.remove(&it)).unwrap_or(0);
            if size > end {
                statistics.add_unused_range(size - end);
            }
        };
        for (memory, offset, size) in live {
            if current != Some(memory) {
                close(current, end, &mut statistics);
                (current, end) = (Some(memory), 0);
            }
            if offset > end {
                statistics.add_unused_range(offset - end);
            }
            end = end.max(offset.saturating_add(size));
            statistics.add_allocation(size);
        }
        close(current, end, &mut statistics);
        // The others are empty.
        memories.values().for_each(|size| statistics.add_unused_range(*size));
        statistics
    }
}
