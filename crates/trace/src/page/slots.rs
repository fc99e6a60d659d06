//! Lines for memory objects: each has one of its own while it lives, and another may have it afterwards.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::tables::MemoryRow;

/// The lines of a pool.
#[derive(Debug, Default)]
struct Lines {
    /// Those in use, with the event at which they become free.
    used: BinaryHeap<Reverse<(u32, u32)>>,
    free: BinaryHeap<Reverse<u32>>,
    made: u32,
}

/// Returns the line of each memory object in its pool, from 1 on; 0 for those of dedicated allocations. `pools` are
/// those of the memory objects. O(objects * log(lines)).
pub(super) fn slots(memories: &[MemoryRow], pools: &[u32]) -> Vec<u32> {
    let mut lines: HashMap<u32, Lines> = HashMap::new();
    let slot = |(memory, pool): (&MemoryRow, &u32)| {
        if memory.is_dedicated {
            return 0;
        }
        let lines = lines.entry(*pool).or_default();
        while let Some(&Reverse((end, line))) = lines.used.peek()
            && end <= memory.begin
        {
            lines.used.pop();
            lines.free.push(Reverse(line));
        }
        let line = lines.free.pop().map(|it| it.0).unwrap_or_else(|| {
            lines.made += 1;
            lines.made
        });
        lines.used.push(Reverse((memory.end, line)));
        line
    };
    memories.iter().zip(pools).map(slot).collect()
}
