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
    fn live_region(&self, index: u32) -> LiveRegion {
        let node = self.regions.node(index);
        LiveRegion {
            key: self.regions.key_of(index),
            block: BlockIndex(self.regions.block_of(index)),
            offset: node.offset,
            end: node.padded_end(),
            size: node.size(),
            tag: node.tag(),
        }
    }

    /// Returns the first live region from a node on, in one direction, before the edge of its block.
    fn live_from(&self, block: BlockIndex, mut index: u32, upwards: bool) -> Option<LiveRegion> {
        let edge = self.block(block).edge;
        while index != edge && !self.regions.lives(index) {
            let node = self.regions.node(index);
            index = target(if upwards { node.next } else { node.previous });
        }
        (index != edge).then(|| self.live_region(index))
    }

    /// Returns the node below a range, which is the edge of the block if there is no region; `None` if that is
    /// stale or in another block.
    fn node_below(&self, range: &Range) -> Option<u32> {
        let Some(key) = range.below else { return Some(self.block(range.block).edge) };
        self.regions.live(key)?;
        (self.regions.block_of(key.index()) == range.block.0).then_some(key.index())
    }

    /// Returns whether the live regions of a range are exactly these.
    fn holds_exactly(&self, range: &Range, victims: &[SlotKey]) -> bool {
        let Some(below) = self.node_below(range) else { return false };
        let edge = self.block(range.block).edge;
        let end = match range.above {
            None => edge,
            Some(key) if self.regions.live(key).is_some() => key.index(),
            Some(_) => return false,
        };
        let mut expected = victims.iter();
        let mut index = target(self.regions.node(below).next);
        while index != end {
            if index == edge {
                return false;
            }
            if self.regions.lives(index) && expected.next() != Some(&self.regions.key_of(index)) {
                return false;
            }
            index = target(self.regions.node(index).next);
        }
        expected.next().is_none()
    }
}

impl Evicting for Tlsf {
    fn look(&self, key: SlotKey) -> Option<LiveRegion> {
        self.regions.live(key)?;
        Some(self.live_region(key.index()))
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

    fn fit_between(&self, range: &Range, request: &RegionRequest) -> Option<u64> {
        let size = request.size.checked_next_multiple_of(self.granule)?;
        let node = |key: Option<SlotKey>| key.map(|key| self.regions.node(key.index()));
        let (below, above) = (node(range.below), node(range.above));
        let gap = Gap {
            start: below.map_or(0, |it| it.padded_end()),
            end: above.map_or(self.block(range.block).size, |it| it.offset),
            // The padding of a region holds nothing that could conflict.
            before: below.map(|it| Neighbour { edge: it.offset + it.size(), kind: it.kind() }),
            after: above.map(|it| Neighbour { edge: it.offset, kind: it.kind() }),
        };
        let alignment = request.alignment.max(self.granule);
        place_in_gap(&gap, size, alignment, request.kind, self.granularity)
    }

    fn replace(
        &mut self,
        range: &Range,
        victims: &[SlotKey],
        request: &RegionRequest,
        freed: &mut dyn FnMut(FreedRegion),
    ) -> Option<Placement> {
        let (_, rounded) = self.prepare_move(request)?;
        // Each free adds at most one region to the index before it is merged with the last one.
        while !self.free.has_room_for(2 * ROOM as u32) {
            if !self.free.try_grow() {
                return None;
            }
        }
        if !self.deferred.is_empty() || !self.holds_exactly(range, victims) {
            return None;
        }
        let offset = self.fit_between(range, request)?;
        let below = self.node_below(range)?;
        for &key in victims {
            freed(self.free(key).expect("it was live just now"));
            // At once: otherwise the place would not be free yet.
            self.settle_all();
        }
        self.note_kind(request.kind);
        let node = target(self.regions.node(below).next);
        assert!(self.regions.node(node).is_free(), "what was freed is merged");
        Some(self.take_for_move(Candidate { node, offset }, rounded, request))
    }
}
