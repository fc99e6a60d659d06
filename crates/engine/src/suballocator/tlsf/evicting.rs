//! Neighbours and places for eviction.

use super::super::evicting::{Evicting, LiveRegion, Range};
use super::super::granularity::{Gap, Neighbour, place_in_gap};
use super::super::interface::Suballocator;
use super::super::node::target;
use super::super::values::{BlockIndex, FreedRegion, Placement, RegionRequest};
use super::Tlsf;
use super::hot::{Candidate, ROOM};
use crate::handle::SlotKey;

impl Tlsf {
    /// Returns the first live region from a node on, in one direction, before the edge of its block.
    fn live_from(&self, block: BlockIndex, mut index: u32, upwards: bool) -> Option<LiveRegion> {
        let edge = self.block(block).edge;
        while index != edge && !self.regions.lives(index) {
            let node = self.regions.node(index);
            index = target(if upwards { node.next } else { node.previous });
        }
        (index != edge).then(|| self.regions.live_region(index))
    }

    /// Returns the node below a range, which is the edge of the block if there is no region; `None` if that is
    /// stale or in another block.
    fn node_below(&self, range: &Range) -> Option<u32> {
        let Some(key) = range.below else { return Some(self.block(range.block).edge) };
        self.regions.live(key)?;
        (self.regions.block_of(key.index()) == range.block.0).then_some(key.index())
    }

    /// Returns the range as a gap, as it would be if everything in it were free.
    fn gap_of(&self, range: &Range) -> Gap {
        let node = |key: Option<SlotKey>| key.map(|key| self.regions.node(key.index()));
        let (below, above) = (node(range.below), node(range.above));
        Gap {
            start: below.map_or(0, |it| it.padded_end()),
            end: above.map_or(self.block(range.block).size, |it| it.offset),
            // The padding of a region holds nothing that could conflict.
            before: below.map(|it| Neighbour { edge: it.offset + it.size(), kind: it.kind() }),
            after: above.map(|it| Neighbour { edge: it.offset, kind: it.kind() }),
        }
    }

    /// Returns the offset of a request in a gap, and the bytes that it takes up where there is room.
    fn fit_in_gap(&self, gap: &Gap, request: &RegionRequest) -> Option<(u64, u64)> {
        let (size, rounded) = self.sizes(request)?;
        let alignment = request.alignment.max(self.granule);
        let offset = place_in_gap(gap, size, alignment, request.kind, self.granularity)?;
        Some((offset, rounded))
    }
}

impl Evicting for Tlsf {
    fn look(&self, key: SlotKey) -> Option<LiveRegion> {
        self.regions.live(key)?;
        Some(self.regions.live_region(key.index()))
    }

    fn neighbour(&self, key: SlotKey, upwards: bool) -> Option<LiveRegion> {
        let node = self.regions.live(key)?;
        let next = target(if upwards { node.next } else { node.previous });
        self.live_from(BlockIndex(self.regions.block_of(key.index())), next, upwards)
    }

    fn lowest(&self, block: BlockIndex) -> Option<LiveRegion> {
        let first = target(self.regions.node(self.block(block).edge).next);
        self.live_from(block, first, true)
    }

    fn reach(&self, request: &RegionRequest) -> u64 {
        let pages = if self.granularity == 1 { 0 } else { 2 * self.granularity };
        request.size.saturating_add(request.alignment).saturating_add(pages)
    }

    fn fit_between(&self, range: &Range, request: &RegionRequest) -> Option<u64> {
        self.fit_in_gap(&self.gap_of(range), request).map(|(offset, _)| offset)
    }

    fn fit_all(&self, range: &Range, requests: &[RegionRequest]) -> Option<Vec<u64>> {
        let mut gap = self.gap_of(range);
        let mut offsets = Vec::new();
        offsets.try_reserve(requests.len()).ok()?;
        for request in requests {
            let (offset, rounded) = self.fit_in_gap(&gap, request)?;
            offsets.push(offset);
            gap.start = gap.end.min(offset + rounded);
            gap.before = Some(Neighbour { edge: offset + request.size, kind: request.kind });
        }
        Some(offsets)
    }

    fn reserve_for(&mut self, victims: usize, requests: &[RegionRequest]) -> bool {
        self.settle_all();
        // Each free may leave the merged region in another class, and a class keeps its last chunk.
        let Ok(room) = u32::try_from(victims + (requests.len() + 1) * ROOM) else { return false };
        while !self.free.has_room_for(room) {
            if !self.free.try_grow() {
                return false;
            }
        }
        while !self.regions.has_room_for((requests.len() + 1) * ROOM) {
            if !self.regions.try_grow() {
                return false;
            }
        }
        let mut odd = |it: &RegionRequest| self.regions.try_reserve_odd_alignment(it.alignment);
        requests.iter().all(&mut odd) && self.deferred.is_empty()
    }

    fn refill(
        &mut self,
        range: &Range,
        victims: &[SlotKey],
        requests: &[RegionRequest],
        freed: &mut dyn FnMut(FreedRegion),
    ) -> Option<Vec<Placement>> {
        let mut placements = Vec::new();
        placements.try_reserve(requests.len()).ok()?;
        if !self.reserve_for(victims.len(), requests) || !self.holds_exactly(range, victims) {
            return None;
        }
        let offsets = self.fit_all(range, requests)?;
        let mut below = self.node_below(range)?;
        for &key in victims {
            freed(self.free(key).expect("it was live just now"));
            // At once: otherwise the place would not be free yet.
            self.settle_all();
        }
        for (request, offset) in requests.iter().zip(offsets) {
            let (_, rounded) = self.sizes(request)?;
            let node = target(self.regions.node(below).next);
            assert!(self.regions.node(node).is_free(), "what was freed is merged");
            let placement = self.take_for_move(Candidate { node, offset }, rounded, request);
            below = placement.key.index();
            placements.push(placement);
        }
        Some(placements)
    }
}
