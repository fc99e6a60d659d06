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
//! Nobody else has to know. What looks for room and finds none, or needs all ranges as they are, merges
//! the rest first ([`Tlsf::settle`]).

use super::super::RegionInfo;
use super::super::bins::Chunk;
use super::super::node::{NONE, Node, target};
use super::super::region::RegionKey;
use super::super::slab::Entries;
use super::Tlsf;
use super::hot::Hot;

/// From so many slots on, 128 KiB of nodes, the second level of the cache is not theirs alone. In a
/// smaller table all is merged at once: there it takes no longer, and a place that was freed is the next
/// one to be found.
const LARGE: usize = 4096;

/// Regions that were freed and are not merged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferred {
    /// The newest first; `NONE` where there is none.
    waiting: [u32; 2],
    /// What [`LARGE`] says.
    from: usize,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { waiting: [NONE; 2], from: LARGE }
    }
}

impl Deferred {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.waiting == [NONE; 2]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.waiting.iter().filter(|&&it| it != NONE).count()
    }

    pub fn contains(&self, index: u32) -> bool {
        self.waiting.contains(&index)
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.waiting = [NONE; 2];
    }

    /// What to do in a table of so many slots: nothing to defer with, if it is a small one.
    #[inline(always)]
    pub fn in_table_of(&mut self, slots: usize) -> Option<&mut [u32; 2]> {
        (slots >= self.from).then_some(&mut self.waiting)
    }
}

impl<N: Entries<Node>, C: Entries<Chunk>> Hot<'_, N, C> {
    /// Frees a region; what it was, or `None` if the key is stale. Makes at most one region of the index.
    #[inline(always)]
    pub fn free(&mut self, key: RegionKey, waiting: Option<&mut [u32; 2]>) -> Option<RegionInfo> {
        let index = key.index();
        let node = self.nodes.get(index).filter(|node| node.is_of(key))?;
        let info = node.info(self.block_of(index));
        let Some(waiting) = waiting else {
            self.coalesce(index);
            return Some(info);
        };
        self.nodes[index].end_life_later();
        let [newest, oldest] = std::mem::replace(waiting, [index, waiting[0]]);
        if newest != NONE {
            let Node { previous, next, .. } = self.nodes[newest];
            self.nodes.expect(target(previous));
            self.nodes.expect(target(next));
        }
        if oldest != NONE {
            self.coalesce(oldest);
        }
        Some(info)
    }

    /// Makes a region that is no longer live a free one, merged with its free neighbours.
    #[inline(always)]
    pub fn coalesce(&mut self, index: u32) {
        let node = &self.nodes[index];
        self.merge(index, node.offset, node.padded_end(), [node.previous, node.next]);
    }
}

impl Tlsf {
    /// The same, but freed regions are merged later from so many slots on, not from 4096 on.
    #[must_use]
    pub fn deferring_from(mut self, slots: usize) -> Self {
        self.deferred.from = slots;
        self
    }

    /// Merges all that was freed.
    #[inline(always)]
    pub(super) fn settle_all(&mut self) {
        if !self.deferred.is_empty() {
            self.coalesce_deferred();
        }
    }

    #[cold]
    #[inline(never)]
    fn coalesce_deferred(&mut self) {
        // In the order in which they were freed.
        for at in [1, 0] {
            if !self.free.has_room_for(1) {
                self.free.grow();
            }
            let index = std::mem::replace(&mut self.deferred.waiting[at], NONE);
            if index != NONE {
                hot!(self, hot => hot.coalesce(index));
            }
        }
    }
}
