//! The hot path of TLSF: the steps of every allocation and free, on tables that do not grow meanwhile.
//!
//! Compiled twice, for tables of one row and for tables of several. The callers grow the tables first;
//! everything that is rarely needed is in `mod.rs`.

use std::hint::select_unpredictable;
use std::ops::Index;

use super::super::bins::{Chunk, Entry, Position, View, class_at_least, class_of};
use super::super::granularity::{Gap, Neighbour, place_in_gap};
use super::super::node::{FREE_LINK, NONE, Node, is_free_link, target};
use super::super::region::{BlockOfNode, Slots};
use super::super::slab::Entries;
use super::super::values::{BlockIndex, Placement, RegionRequest};

/// The most slots that one call takes, and the most regions that it inserts into the index.
pub(super) const ROOM: usize = 2;

/// A place that a search found and that is not taken yet. An `Option` of this size would be returned
/// through memory, which costs more than the rest of a short search.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    /// Slot of the free region; `NONE` if nothing was found.
    pub node: u32,
    pub offset: u64,
}

impl Candidate {
    pub const NOTHING: Self = Self { node: NONE, offset: 0 };

    #[inline(always)]
    pub fn is_found(self) -> bool {
        self.node != NONE
    }
}

/// Returns the offset at which a request fits into a free region, if it does. `granularity` is 1 where no
/// neighbour can conflict.
#[inline(always)]
pub(super) fn fit(
    nodes: &impl Index<u32, Output = Node>,
    index: u32,
    size: u64,
    request: &RegionRequest,
    granularity: u64,
) -> Candidate {
    let node = &nodes[index];
    if granularity != 1 {
        let beside = [&nodes[node.previous], &nodes[node.next]];
        return fit_beside(node, beside, index, size, &{ *request }, granularity);
    }
    // Neither addition overflows: blocks and sizes are below 2^60, alignments are powers of two.
    let offset = node.offset.wrapping_add(request.alignment - 1) & !(request.alignment - 1);
    let fits = offset.wrapping_add(size) <= node.offset.wrapping_add(node.size());
    Candidate { node: if fits { index } else { NONE }, offset }
}

/// Returns the offset at which a request fits into a free region between neighbours that may conflict
/// with it. These are live (free neighbours are always merged), or wait to be merged and count as live.
#[inline(never)]
fn fit_beside(
    node: &Node,
    [before, after]: [&Node; 2],
    index: u32,
    size: u64,
    request: &RegionRequest,
    granularity: u64,
) -> Candidate {
    let neighbour =
        |node: &Node, edge| (!node.is_edge()).then(|| Neighbour { edge, kind: node.kind() });
    let gap = Gap {
        start: node.offset,
        end: node.offset + node.size(),
        // The padding of a region holds nothing that could conflict.
        before: neighbour(before, before.offset + before.size()),
        after: neighbour(after, after.offset),
    };
    place_in_gap(&gap, size, request.alignment, request.kind, granularity)
        .map_or(Candidate::NOTHING, |offset| Candidate { node: index, offset })
}

/// The tables of a [`Tlsf`](super::Tlsf) while they do not grow.
pub(super) struct Hot<'a, N, C> {
    pub nodes: N,
    pub free: View<'a, C>,
    pub slots: &'a mut Slots,
    /// The block of each slot; empty while all are of block 0.
    pub block_of: &'a mut BlockOfNode,
}

impl<N: Entries<Node>, C: Entries<Chunk>> Hot<'_, N, C> {
    /// Reborrows the tables; see [`Entries::Again`].
    #[inline(always)]
    fn again(&mut self) -> Hot<'_, N::Again<'_>, C::Again<'_>> {
        Hot {
            nodes: self.nodes.again(),
            free: self.free.again(),
            slots: self.slots,
            block_of: self.block_of,
        }
    }

    /// Returns the best fit among the newest regions of the request's own class, otherwise a region of
    /// the next non-empty class, and its class: two cache lines. The class is returned because reading it
    /// from the node would be a dependent load.
    #[inline(always)]
    pub fn look_near(&self, size: u64) -> (Entry, usize) {
        let own = class_of(size);
        // Both are read, as which one is needed cannot be predicted.
        let (best, (next, above)) =
            (self.free.best_of_newest(own, size), self.free.first_from(own + 1));
        let is_near = best.is_some();
        (select_unpredictable(is_near, best, next), select_unpredictable(is_near, own, above))
    }

    /// Returns `found` if it is not larger than `other`, a region outside the index.
    #[inline(always)]
    pub fn below(&self, other: u32, found: (Entry, usize)) -> Option<(Entry, usize)> {
        let largest = self.nodes[other].size();
        let is_smaller = found.0.size().is_some_and(|it| it <= largest);
        (found.0.is_some() && is_smaller).then_some(found)
    }

    /// Returns a region of the first class whose regions are all large enough.
    #[inline(always)]
    pub fn look_at_once(&self, size: u64) -> (Entry, usize) {
        self.free.first_from(class_at_least(size))
    }

    /// Returns where a request fits into a region, if it does.
    #[inline(always)]
    pub fn fit(
        &self,
        entry: Entry,
        size: u64,
        request: &RegionRequest,
        granularity: u64,
    ) -> Candidate {
        if !entry.is_some() {
            return Candidate::NOTHING;
        }
        fit(&self.nodes, entry.node(), size, request, granularity)
    }

    /// Takes a request's place in an indexed region of known class, if it fits there.
    #[inline(always)]
    pub fn take_found(
        &mut self,
        (entry, class): (Entry, usize),
        rounded: u64,
        request: &RegionRequest,
        granularity: u64,
    ) -> Option<Placement> {
        let at = self.fit(entry, rounded, request, granularity);
        at.is_found().then(|| self.take(at, (entry.size(), class), rounded, request))
    }

    /// Takes a request's place at the lower end of the region that a search just found; `None` if that end is
    /// not aligned or the region is too small. For requests that no neighbour can conflict with. Needs only
    /// the size, which the index stores, so the rest is inserted without waiting for the node.
    #[inline(always)]
    pub fn take_lower_end(
        &mut self,
        (entry, class): (Entry, usize),
        rounded: u64,
        request: &RegionRequest,
    ) -> Option<Placement> {
        // One of 4 GiB and more has none there, and where nothing was found it is 0.
        let (at, size) = (entry.node(), entry.size()?);
        if size < rounded {
            return None;
        }
        let node = &self.nodes[at];
        if node.offset & request.alignment.wrapping_sub(1) != 0 {
            return None;
        }
        debug_assert_eq!((size, class), (node.size(), class_of(size)));
        let position = node.position();
        let moved = self.free.remove_newest(class, position);
        self.nodes[moved].set_position(position);
        Some(self.split(at, size, rounded, request))
    }

    #[inline(always)]
    pub fn block_of(&self, index: u32) -> u32 {
        if self.block_of.is_empty() { 0 } else { self.block_of[index] }
    }

    #[inline(always)]
    fn take_slot(&mut self, block: u32) -> u32 {
        self.slots.take_for(block, &self.nodes, self.block_of)
    }

    #[inline(always)]
    pub fn unlink(&mut self, class: usize, position: Position) {
        let moved = self.free.remove(class, position);
        self.nodes[moved].set_position(position);
    }

    /// Inserts an unlinked region into the index as a free one.
    #[inline(always)]
    pub fn set_free(&mut self, index: u32, offset: u64, size: u64) -> &mut Node {
        let position = self.free.insert(class_of(size), size, index);
        let node = &mut self.nodes[index];
        node.set_free_at(offset, size, position);
        node
    }

    /// Changes offset and size of an indexed free region.
    #[inline(always)]
    fn resize(&mut self, index: u32, offset: u64, size: u64) -> &mut Node {
        let node = &self.nodes[index];
        self.unlink(class_of(node.size()), node.position());
        self.set_free(index, offset, size)
    }

    /// Takes a request's place in a free region: `rounded` bytes where there is room, the rest stays
    /// free. A caller that knows the region's size and class passes them, which avoids waiting for its
    /// node.
    #[inline(always)]
    pub fn take(
        &mut self,
        at: Candidate,
        (size, class): (Option<u64>, usize),
        rounded: u64,
        request: &RegionRequest,
    ) -> Placement {
        let node = &self.nodes[at.node];
        let (start, position) = (node.offset, node.position());
        let size = size.unwrap_or(node.size());
        // A region lies within its block, and the place within its region.
        let room = size.wrapping_sub(at.offset.wrapping_sub(start));
        let footprint = room.min(rounded);
        if at.offset != start {
            let (rest, block) = (room - footprint, self.block_of(at.node));
            let [index, before, after] = self.again().take_behind(at, footprint, rest, block);
            return self.begin(index, [before, after], at.offset, footprint, block, request);
        }
        debug_assert_eq!(class, class_of(size));
        self.unlink(class, position);
        self.split(at.node, size, footprint, request)
    }

    /// Takes a request's place at the lower end of a free region that was removed from the index, and adds
    /// the rest of it to the index.
    #[inline(always)]
    fn split(&mut self, at: u32, size: u64, footprint: u64, request: &RegionRequest) -> Placement {
        let rest = size - footprint;
        // Without a branch, because whether a rest remains cannot be predicted. If one does, the request
        // gets a new slot, usually one that was used recently, and the rest keeps the slot of the region.
        // If none does, what was written for the rest is overwritten.
        let splits = rest > 0;
        let position = self.free.insert_if(splits, class_of(rest.max(1)), rest, at);
        let index = self.slots.take_if(splits, at, &self.nodes);
        let mut block = 0;
        if !self.block_of.is_empty() {
            block = self.block_of[at];
            self.block_of[index] = block;
        }
        let node = &mut self.nodes[at];
        let Node { offset, previous, next, .. } = *node;
        node.set_free_at(offset.wrapping_add(footprint), rest, position);
        node.previous = index;
        self.nodes[select_unpredictable(splits, index, next)].previous = at;
        self.nodes[previous].next = index;
        let next = select_unpredictable(splits, at | FREE_LINK, next);
        self.begin(index, [previous, next], offset, footprint, block, request)
    }

    /// Takes a request's place at the lower end of a free region that is not in the index; `None` if that
    /// is not aligned, or if nothing would remain.
    #[inline(always)]
    pub fn cut(&mut self, at: u32, rounded: u64, request: &RegionRequest) -> Option<Placement> {
        let node = &self.nodes[at];
        let (offset, size, previous) = (node.offset, node.size(), node.previous);
        if offset & (request.alignment - 1) != 0 || size <= rounded {
            return None;
        }
        let block = self.block_of(at);
        let index = self.take_slot(block);
        let node = &mut self.nodes[at];
        node.set_free(offset.wrapping_add(rounded), size - rounded);
        node.previous = index;
        self.nodes[previous].next = index;
        Some(self.begin(index, [previous, at | FREE_LINK], offset, rounded, block, request))
    }

    /// Turns a linked slot into a live region and returns its placement.
    #[inline(always)]
    fn begin(
        &mut self,
        index: u32,
        [previous, next]: [u32; 2],
        offset: u64,
        footprint: u64,
        block: u32,
        request: &RegionRequest,
    ) -> Placement {
        let node = &mut self.nodes[index];
        node.previous = previous;
        node.next = next;
        node.set_live(offset, request.size, request.kind, footprint.wrapping_sub(request.size));
        node.set_alignment(request.alignment);
        Placement { key: self.slots.begin_life(index, node), block: BlockIndex(block), offset }
    }

    /// Takes a slot for a place in the middle of a free region, whose lower part the alignment leaves
    /// free; returns the slot and its two links.
    #[cold]
    #[inline(never)]
    fn take_behind(&mut self, at: Candidate, footprint: u64, rest: u64, block: u32) -> [u32; 3] {
        let Node { offset: start, next, .. } = self.nodes[at.node];
        let index = self.take_slot(block);
        self.resize(at.node, start, at.offset - start).next = index;
        let mut after = next;
        if rest > 0 {
            let behind = self.take_slot(block);
            let node = self.set_free(behind, at.offset + footprint, rest);
            node.previous = index;
            node.next = next;
            after = behind | FREE_LINK;
        }
        self.nodes[next].previous = if rest > 0 { after } else { index };
        [index, at.node | FREE_LINK, after]
    }

    /// Makes a region free, merged with its free neighbours. The result keeps the slot of a neighbour;
    /// the region's own slot, which is in the cache, becomes the next one to be taken.
    #[inline(always)]
    pub fn merge(&mut self, index: u32, offset: u64, end: u64, [previous, next]: [u32; 2]) {
        let (mut survivor, mut start, mut end) = (index, offset, end);
        let (mut before, mut behind) = (previous, next);
        if is_free_link(next) {
            survivor = target(next);
            let node = &self.nodes[survivor];
            end = node.offset.wrapping_add(node.size());
            behind = node.next;
            self.unlink(class_of(node.size()), node.position());
        }
        if is_free_link(previous) {
            if survivor != index {
                self.slots.give_back(survivor, &mut self.nodes);
            }
            survivor = target(previous);
            let node = &self.nodes[survivor];
            start = node.offset;
            before = node.previous;
            self.unlink(class_of(node.size()), node.position());
        } else {
            self.nodes[target(previous)].next = survivor | FREE_LINK;
        }
        self.nodes[target(behind)].previous = survivor | FREE_LINK;
        self.slots.give_back_if(survivor != index, index, &mut self.nodes);
        let node = self.set_free(survivor, start, end.wrapping_sub(start));
        node.previous = before;
        node.next = behind;
    }
}
