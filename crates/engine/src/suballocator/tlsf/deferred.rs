//! Deferred coalescing: a freed region of a large table is merged two frees later.
//!
//! Merging a freed region with its neighbours reads its node and theirs. In a large table these have left
//! the cache, and the misses follow each other, as each step depends on the node before. So the nodes are
//! prefetched first and merged later:
//!
//! ```text
//!   free(c)    c is neither live nor free: its key is stale, and its neighbours see no free region
//!              the neighbours' nodes of b, which was freed before c, are prefetched
//!              a, which was freed before b, is merged: all its cache lines have arrived
//! ```
//!
//! Whether the key of `c` is live is stored in its node, which would be one more miss. For callers that
//! do not need the region's description ([`release`](super::super::Suballocator::release)) the
//! generations are also kept in a table of their own, an eighth as large, and the node of `c` is only
//! prefetched. Work that does not depend on the key comes first, because the key itself may still be
//! loading.
//!
//! Callers do not notice: an operation that finds no room, or that needs all ranges as they are, merges
//! the rest first (`settle.rs`).

use super::super::bins::Chunk;
use super::super::node::{NONE, Node, target};
use super::super::slab::Entries;
use super::hot::Hot;
use crate::handle::SlotKey;

/// Tables with at least this many slots defer: 4096 slots are 128 KiB of nodes, more than a fair share of
/// the L2 cache. A smaller table merges at once: that takes no longer, and a freed place is the next one
/// to be found.
const DEFER_FROM_SLOTS: usize = 4096;

/// Regions that were freed and are not merged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferred {
    /// Slots of the freed regions, the newest first; `NONE` where there is none.
    pub waiting: [u32; 2],
    /// The number of slots from which on merging is deferred; [`DEFER_FROM_SLOTS`] by default.
    pub from: usize,
    /// Bytes of released regions that have been merged but not reported to the caller.
    pub settled: u64,
    /// Number of regions that were freed while there was no host memory for the index. They keep their
    /// places, with generation 0, until there is.
    pub unindexed: usize,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { waiting: [NONE; 2], from: DEFER_FROM_SLOTS, settled: 0, unindexed: 0 }
    }
}

impl Deferred {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.waiting == [NONE; 2] && self.unindexed == 0
    }

    /// Returns the number of unmerged regions.
    pub fn count(&self) -> usize {
        self.waiting.iter().filter(|&&it| it != NONE).count() + self.unindexed
    }

    /// Notes that an unmerged region disappeared with its block.
    pub fn forget_unindexed(&mut self) {
        self.unindexed -= 1;
    }

    /// Takes the bytes that have not been reported to the caller.
    pub fn take_settled(&mut self) -> u64 {
        std::mem::take(&mut self.settled)
    }

    pub fn contains(&self, index: u32) -> bool {
        self.waiting.contains(&index)
    }

    /// Forgets all unmerged regions.
    pub fn clear(&mut self) {
        (self.waiting, self.settled, self.unindexed) = ([NONE; 2], 0, 0);
    }

    /// Returns the queue of freed regions if a table of `slots` slots defers merging; `None` if it is too
    /// small.
    #[inline(always)]
    pub fn in_table_of(&mut self, slots: usize) -> Option<&mut [u32; 2]> {
        (slots >= self.from).then_some(&mut self.waiting)
    }
}

impl<N: Entries<Node>, C: Entries<Chunk>> Hot<'_, N, C> {
    /// Frees a region and returns what `was` reads from its node; `None` if the key is stale. Adds at most
    /// one region to the index.
    #[inline(always)]
    pub fn free<T>(
        &mut self,
        key: SlotKey,
        waiting: Option<&mut [u32; 2]>,
        was: impl FnOnce(&Node, &Self) -> T,
    ) -> Option<T> {
        let index = key.index();
        let node = self.nodes.get(index).filter(|node| node.is_of(key))?;
        let was = was(node, self);
        let Some(waiting) = waiting else {
            self.coalesce(index);
            return Some(was);
        };
        self.nodes[index].end_life_later();
        let oldest = self.advance(waiting);
        *waiting = [index, waiting[0]];
        if oldest != NONE {
            self.coalesce(oldest);
        }
        Some(was)
    }

    /// Removes the oldest freed region from the queue and returns its slot (`NONE` if there is none), and
    /// prefetches the neighbours of the next one.
    #[inline(always)]
    fn advance(&mut self, waiting: &mut [u32; 2]) -> u32 {
        let [newest, oldest] = std::mem::replace(waiting, [waiting[0], NONE]);
        if newest != NONE {
            let Node { previous, next, .. } = self.nodes[newest];
            self.nodes.prefetch(target(previous));
            self.nodes.prefetch(target(next));
        }
        oldest
    }

    /// Merges the oldest released region; returns its size in bytes, 0 if there is none.
    #[inline(always)]
    pub fn advance_released(&mut self, waiting: &mut [u32; 2]) -> u64 {
        let oldest = self.advance(waiting);
        if oldest == NONE { 0 } else { self.coalesce_released(oldest) }
    }

    /// Merges a region whose node still says that it is live; returns its size in bytes.
    #[inline(always)]
    pub fn coalesce_released(&mut self, index: u32) -> u64 {
        let node = &mut self.nodes[index];
        let size = node.size();
        node.end_life_later();
        self.coalesce(index);
        size
    }

    /// Turns a region that is no longer live into a free one, merged with its free neighbours.
    #[inline(always)]
    pub fn coalesce(&mut self, index: u32) {
        let node = &self.nodes[index];
        self.merge(index, node.offset, node.padded_end(), [node.previous, node.next]);
    }
}
