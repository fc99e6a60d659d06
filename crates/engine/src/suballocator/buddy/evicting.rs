//! Neighbours and places for eviction.

use super::super::evicting::{Evicting, LiveRegion, Range};
use super::super::granularity::align_up;
use super::super::interface::Suballocator;
use super::super::node::NONE;
use super::super::values::{BlockIndex, FreedRegion, Placement, RegionRequest};
use super::Buddy;
use crate::handle::SlotKey;

impl Buddy {
    fn live_region(&self, index: u32) -> LiveRegion {
        let node = self.regions.node(index);
        LiveRegion {
            key: self.regions.key_of(index),
            block: BlockIndex(self.regions.block_of(index)),
            offset: node.offset,
            end: node.end(),
            size: node.size(),
            tag: node.tag(),
        }
    }

    fn live_from(&self, mut index: u32, upwards: bool) -> Option<LiveRegion> {
        while index != NONE && self.regions.node(index).is_free() {
            let node = self.regions.node(index);
            index = if upwards { node.next } else { node.previous };
        }
        (index != NONE).then(|| self.live_region(index))
    }

    /// Takes the region of `size` bytes that begins at an offset out of the free region that contains it.
    fn take_at(
        &mut self,
        block: BlockIndex,
        offset: u64,
        size: u64,
        below: Option<SlotKey>,
    ) -> u32 {
        let mut index = below.map_or(self.block(block).first, SlotKey::index);
        while self.regions.node(index).end() <= offset {
            index = self.regions.node(index).next;
        }
        assert!(self.regions.node(index).is_free(), "what was freed is merged");
        self.unlink(index);
        while self.regions.node(index).size() > size {
            self.split(index);
            let upper = self.regions.node(index).next;
            if self.regions.node(upper).offset <= offset {
                // The lower half stays free; the upper one is split further.
                self.unlink(upper);
                self.link(index);
                index = upper;
            }
        }
        index
    }
}

impl Evicting for Buddy {
    fn look(&self, key: SlotKey) -> Option<LiveRegion> {
        self.regions.live(key)?;
        Some(self.live_region(key.index()))
    }

    fn neighbour(&self, key: SlotKey, upwards: bool) -> Option<LiveRegion> {
        let node = self.regions.live(key)?;
        self.live_from(if upwards { node.next } else { node.previous }, upwards)
    }

    fn lowest(&self, block: BlockIndex) -> Option<LiveRegion> {
        self.live_from(self.block(block).first, true)
    }

    fn reach(&self, request: &RegionRequest) -> u64 {
        self.region_size(request).unwrap_or(u64::MAX)
    }

    fn fit_between(&self, range: &Range, request: &RegionRequest) -> Option<u64> {
        self.fit_all(range, std::slice::from_ref(request))?.pop()
    }

    fn fit_all(&self, range: &Range, requests: &[RegionRequest]) -> Option<Vec<u64>> {
        let node = |key: Option<SlotKey>| key.map(|key| self.regions.node(key.index()));
        let usable = 1 << self.block(range.block).size.ilog2();
        let mut start = node(range.below).map_or(0, |it| it.end());
        let end = node(range.above).map_or(usable, |it| it.offset);
        let mut offsets = Vec::new();
        offsets.try_reserve(requests.len()).ok()?;
        for request in requests {
            let size = self.region_size(request)?;
            let offset = align_up(start, size)?;
            start = offset.checked_add(size).filter(|&to| to <= end)?;
            offsets.push(offset);
        }
        Some(offsets)
    }

    fn holds_exactly(&self, range: &Range, keys: &[SlotKey]) -> bool {
        let is_here = |key: SlotKey| {
            self.regions.live(key).is_some() && self.regions.block_of(key.index()) == range.block.0
        };
        if !range.below.is_none_or(is_here) || !range.above.is_none_or(is_here) {
            return false;
        }
        let mut index = match range.below {
            Some(key) => self.regions.node(key.index()).next,
            None => self.block(range.block).first,
        };
        let mut expected = keys.iter();
        while index != range.above.map_or(NONE, SlotKey::index) {
            if index == NONE {
                return false;
            }
            let node = self.regions.node(index);
            if !node.is_free() && expected.next() != Some(&self.regions.key_of(index)) {
                return false;
            }
            index = node.next;
        }
        expected.next().is_none()
    }

    fn reserve_for(&mut self, _: usize, requests: &[RegionRequest]) -> bool {
        self.make_room_for(requests.len())
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
        for &key in victims {
            freed(self.free(key).expect("it was live just now"));
        }
        let mut below = range.below;
        for (request, offset) in requests.iter().zip(offsets) {
            let size = self.region_size(request)?;
            let index = self.take_at(range.block, offset, size, below);
            let key = self.begin(index, size, request);
            placements.push(self.regions.placement(key));
            below = Some(key);
        }
        Some(placements)
    }
}
