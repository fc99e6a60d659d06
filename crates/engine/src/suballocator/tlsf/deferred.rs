//! Deferred coalescing.
//!
//! To merge a freed region with its neighbours takes its own node and theirs. Of a large table these
//! have left the cache, and each is waited for in turn, as what is done next depends on what it says. So
//! there a freed region is merged two frees later:
//!
//! ```text
//!   free(c)    c is neither live nor free: its key is stale, and its neighbours see no free region
//!              the nodes beside b are fetched, which was freed before it
//!              a is merged, which was freed before that: all its lines have come meanwhile
//! ```
//!
//! Whether `c` lives at all is asked of its node. That is one more line to wait for, unless the caller does
//! without a word about what it [releases](super::super::Suballocator::release): then generations are kept
//! in a table of their own, an eighth as large, and the node of `c` is fetched for later, too. What does
//! not depend on the key comes first, as the key itself may be on its way to the processor.
//!
//! Nobody else has to know. What looks for room and finds none, or needs all ranges as they are, merges
//! the rest first: `settle.rs`.

use super::super::bins::Chunk;
use super::super::node::{NONE, Node, target};
use super::super::slab::Entries;
use super::hot::Hot;
use crate::handle::SlotKey;

/// From so many slots on, 128 KiB of nodes, the second level of the cache is not theirs alone. In a
/// smaller table all is merged at once: there it takes no longer, and a place that was freed is the next
/// one to be found.
const LARGE: usize = 4096;

/// Regions that were freed and are not merged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferred {
    /// The newest first; `NONE` where there is none.
    pub waiting: [u32; 2],
    /// What [`LARGE`] says.
    pub from: usize,
    /// Bytes of released regions that were merged without a word to the caller.
    pub settled: u64,
    /// Regions that were freed while there was no host memory for the index: they wait in their places,
    /// with no generation, until there is.
    pub stuck: usize,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { waiting: [NONE; 2], from: LARGE, settled: 0, stuck: 0 }
    }
}

impl Deferred {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.waiting == [NONE; 2] && self.stuck == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.waiting.iter().filter(|&&it| it != NONE).count() + self.stuck
    }

    /// One that was stuck is gone with its block.
    pub fn forget_stuck(&mut self) {
        self.stuck -= 1;
    }

    /// What is to be told to the caller.
    pub fn take_settled(&mut self) -> u64 {
        std::mem::take(&mut self.settled)
    }

    pub fn contains(&self, index: u32) -> bool {
        self.waiting.contains(&index)
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        (self.waiting, self.settled, self.stuck) = ([NONE; 2], 0, 0);
    }

    /// What to do in a table of so many slots: nothing to defer with, if it is a small one.
    #[inline(always)]
    pub fn in_table_of(&mut self, slots: usize) -> Option<&mut [u32; 2]> {
        (slots >= self.from).then_some(&mut self.waiting)
    }
}

impl<N: Entries<Node>, C: Entries<Chunk>> Hot<'_, N, C> {
    /// Frees a region; what `was` says of its node, or `None` if the key is stale. Makes at most
    /// one region of the index.
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

    /// Gives what was freed first, to be merged, or `NONE`, and makes room for another one.
    #[inline(always)]
    fn advance(&mut self, waiting: &mut [u32; 2]) -> u32 {
        let [newest, oldest] = std::mem::replace(waiting, [waiting[0], NONE]);
        if newest != NONE {
            let Node { previous, next, .. } = self.nodes[newest];
            self.nodes.expect(target(previous));
            self.nodes.expect(target(next));
        }
        oldest
    }

    /// Merges what was released first, and makes room for another one; how many bytes that had.
    #[inline(always)]
    pub fn advance_released(&mut self, waiting: &mut [u32; 2]) -> u64 {
        let oldest = self.advance(waiting);
        if oldest == NONE { 0 } else { self.coalesce_released(oldest) }
    }

    /// Merges a region whose node still says that it lives; what it had.
    #[inline(always)]
    pub fn coalesce_released(&mut self, index: u32) -> u64 {
        let node = &mut self.nodes[index];
        let size = node.size();
        node.end_life_later();
        self.coalesce(index);
        size
    }

    /// Makes a region that is no longer live a free one, merged with its free neighbours.
    #[inline(always)]
    pub fn coalesce(&mut self, index: u32) {
        let node = &self.nodes[index];
        self.merge(index, node.offset, node.padded_end(), [node.previous, node.next]);
    }
}
