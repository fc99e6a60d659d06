//! Walks and places for defragmentation.

use super::super::bins::class_of;
use super::super::granularity::{Gap, Neighbour, place_in_gap};
use super::super::interface::Suballocator;
use super::super::moving::{FreeRegion, Met, MovableRegion, Moving, Walk};
use super::super::node::{FREE_LINK, NONE, Node, is_free_link, target};
use super::super::values::{BlockIndex, Placement, RegionRequest};
use super::hot::{Candidate, Hot};
use super::{Block, Tlsf};
use crate::handle::SlotKey;

impl Tlsf {
    /// Returns a live region as defragmentation sees it.
    fn seen(&self, index: u32) -> MovableRegion {
        self.seen_in(index, BlockIndex(self.regions.block_of(index)))
    }

    /// Likewise, where the block is known.
    #[inline]
    fn seen_in(&self, index: u32, block: BlockIndex) -> MovableRegion {
        let node = self.regions.node(index);
        // A neighbour that is not free is not read: it may be in no cache.
        let gap = |link: u32| match is_free_link(link) {
            true => self.regions.node(target(link)).size(),
            false => 0,
        };
        MovableRegion {
            key: SlotKey::new(index, node.generation()),
            block,
            offset: node.offset,
            size: node.size(),
            footprint: node.footprint(),
            alignment: self.regions.alignment_of(index, node),
            kind: node.kind(),
            tag: node.tag(),
            gaps: [gap(node.previous), gap(node.next)],
        }
    }

    /// Takes a place that was found and returns its placement.
    pub(super) fn take_for_move(
        &mut self,
        found: Candidate,
        rounded: u64,
        request: &RegionRequest,
    ) -> Placement {
        // Once more for a place that was searched for: where nothing is left, no kind is known.
        self.note_kind(request.kind);
        let size = self.regions.node(found.node).size();
        let known = (Some(size), class_of(size));
        let placement = hot!(self, hot => hot.take(found, known, rounded, request));
        self.count_in(placement.key, placement.block);
        self.regions.note_odd_alignment(placement.key, request.alignment);
        placement
    }

    /// Appends a free region, if it has a size, to the regions of a block that is being rearranged; returns the
    /// link to the last one.
    fn append_gap(&mut self, block: u32, last: u32, start: u64, end: u64) -> u32 {
        if start == end {
            return last;
        }
        let index = self.regions.take(block);
        hot!(self, hot => hot.set_free(index, start, end - start).previous = last);
        self.regions.node_mut(target(last)).next = index | FREE_LINK;
        index | FREE_LINK
    }

    /// Prepares for placing a region that moves; returns the bytes it needs and those it takes where there
    /// is room, `None` if there is no host memory.
    pub(super) fn prepare_move(&mut self, request: &RegionRequest) -> Option<(u64, u64)> {
        self.note_kind(request.kind);
        self.settle_all();
        if !self.make_room() || !self.regions.try_reserve_odd_alignment(request.alignment) {
            return None;
        }
        match request.alignment.is_power_of_two() {
            true => self.sizes(request),
            false => {
                let size = request.size.checked_next_multiple_of(self.granule)?;
                Some((size, size))
            }
        }
    }
}

impl Moving for Tlsf {
    fn live_count(&self, block: BlockIndex) -> u32 {
        self.live_counts[block.0 as usize]
    }

    fn movable(&self, key: SlotKey) -> Option<MovableRegion> {
        self.regions.live(key)?;
        Some(self.seen(key.index()))
    }

    fn walk(
        &self,
        block: BlockIndex,
        from: Option<SlotKey>,
        limit: usize,
        visit: &mut dyn FnMut(&Met) -> bool,
    ) -> Walk {
        let edge = self.block(block).edge;
        let mut index = match from {
            None => target(self.regions.node(edge).previous),
            Some(key) => {
                let is_here = self.regions.live(key).is_some()
                    && self.regions.block_of(key.index()) == block.0;
                if !is_here {
                    return Walk::Stale;
                }
                key.index()
            }
        };
        let (mut left, mut goes_on) = (limit, true);
        while index != edge {
            let node = self.regions.node(index);
            if self.regions.lives(index) {
                if left == 0 || !goes_on {
                    return Walk::At(self.regions.key_of(index));
                }
                goes_on = visit(&Met::Live(self.seen_in(index, block)));
            } else if node.is_free() && goes_on {
                let (size, offset) = (node.size(), node.offset);
                goes_on = visit(&Met::Free(FreeRegion { size, offset, slot: index }));
            }
            left = left.saturating_sub(1);
            index = target(node.previous);
        }
        Walk::Done
    }

    fn free_behind(&self, key: SlotKey) -> Option<FreeRegion> {
        let slot = target(self.regions.live(key)?.next);
        let node = self.regions.node(slot);
        let (size, offset) = (node.size(), node.offset);
        (node.is_free() && !node.is_edge()).then_some(FreeRegion { size, offset, slot })
    }

    fn place_in(
        &mut self,
        block: BlockIndex,
        free: &FreeRegion,
        request: &RegionRequest,
    ) -> Option<Placement> {
        let (size, rounded) = self.prepare_move(request)?;
        let node = self.regions.nodes().get(free.slot)?;
        let is_same = |node: &Node| {
            node.is_free()
                && !node.is_edge()
                && (node.offset, node.size()) == (free.offset, free.size)
                && self.regions.block_of(free.slot) == block.0
        };
        let found =
            if is_same(node) { self.fit(free.slot, size, request) } else { Candidate::NOTHING };
        found.is_found().then(|| self.take_for_move(found, rounded, request))
    }

    fn above(&self, block: BlockIndex, below: Option<SlotKey>) -> Option<MovableRegion> {
        let edge = self.block(block).edge;
        let mut index = target(match below {
            None => self.regions.node(edge).next,
            Some(key) => self.regions.live(key)?.next,
        });
        while index != edge && !self.regions.lives(index) {
            index = target(self.regions.node(index).next);
        }
        (index != edge).then(|| self.seen(index))
    }

    fn hold_gap_before(&mut self, key: SlotKey) -> Option<Placement> {
        self.settle_all();
        self.regions.live(key)?;
        let region = self.seen(key.index());
        let node = *self.regions.node(key.index());
        let before = target(node.previous);
        let gap = *self.regions.node(before);
        if region.gaps[0] == 0 || gap.is_edge() {
            return None;
        }
        let beside = |link: u32, edge: fn(&Node) -> u64| {
            let node = self.regions.node(target(link));
            (!node.is_free()).then(|| Neighbour { edge: edge(node), kind: node.kind() })
        };
        let whole = Gap {
            start: gap.offset,
            end: node.padded_end(),
            before: beside(gap.previous, |it| it.offset + it.size()),
            after: beside(node.next, |it| it.offset),
        };
        let lowest = match region.alignment.is_power_of_two() {
            true => {
                let granularity = self.granularity();
                let alignment = region.alignment.max(self.granule);
                place_in_gap(&whole, region.size, alignment, region.kind, granularity)?
            }
            false => gap.offset.checked_next_multiple_of(region.alignment)?,
        };
        if lowest >= region.offset || !self.make_room() {
            return None;
        }
        let size = region.offset - lowest;
        let request = RegionRequest::of_size(size, 1, region.kind);
        let found = Candidate { node: before, offset: lowest };
        Some(self.take_for_move(found, size, &request))
    }

    fn slide(&mut self, key: SlotKey, gap: SlotKey) -> Option<Placement> {
        self.settle_all();
        let (region, held) = (self.movable(key)?, self.movable(gap)?);
        let is_directly_before = held.block == region.block
            && held.offset + held.size == region.offset
            && target(self.regions.node(key.index()).previous) == gap.index();
        let request = region.request();
        if !is_directly_before || !self.deferred.is_empty() {
            return None;
        }
        let (_, rounded) = self.prepare_move(&request)?;
        // The last region before both that stays as it is.
        let mut below = target(self.regions.node(gap.index()).previous);
        let node = self.regions.node(below);
        if node.is_free() && !node.is_edge() {
            below = target(node.previous);
        }
        // Merged at once: otherwise the place would not be free yet.
        for key in [gap, key] {
            self.free(key)?;
            self.settle_all();
        }
        let index = target(self.regions.node(below).next);
        debug_assert!(index != NONE && self.regions.node(index).is_free());
        let found = Candidate { node: index, offset: held.offset };
        let placement = self.take_for_move(found, rounded, &request);
        self.regions.set_tag(placement.key, region.tag);
        Some(placement)
    }

    fn rearrange(&mut self, block: BlockIndex, places: &[(SlotKey, u64)]) -> bool {
        self.settle_all();
        let Block { size, edge, .. } = *self.block(block);
        assert_eq!(places.len(), self.live_counts[block.0 as usize] as usize, "all regions");
        // The free regions of now give back their slots, but in the worst case each place has one before it.
        let gaps = places.len() + 1;
        while !self.regions.has_room_for(gaps) {
            if !self.regions.try_grow() {
                return false;
            }
        }
        while !self.free.has_room_for(gaps as u32) {
            if !self.free.try_grow() {
                return false;
            }
        }
        if !self.deferred.is_empty() {
            return false;
        }
        let mut index = target(self.regions.node(edge).next);
        while index != edge {
            let node = *self.regions.node(index);
            if node.is_free() {
                hot!(self, hot => hot.unlink(class_of(node.size()), node.position()));
                self.regions.give_back(index);
            }
            index = target(node.next);
        }
        let (mut last, mut end) = (edge, 0);
        for &(key, offset) in places {
            assert!(offset >= end && self.regions.live(key).is_some(), "a place of a region");
            last = self.append_gap(block.0, last, end, offset);
            let node = self.regions.node_mut(key.index());
            (node.offset, node.previous) = (offset, last);
            end = node.padded_end();
            self.regions.node_mut(target(last)).next = key.index();
            last = key.index();
        }
        assert!(end <= size, "the end of a block");
        last = self.append_gap(block.0, last, end, size);
        self.regions.node_mut(target(last)).next = edge;
        self.regions.node_mut(edge).previous = last;
        true
    }
}
