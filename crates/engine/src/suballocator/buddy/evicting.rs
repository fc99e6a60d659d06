//! Neighbours and places for eviction.

use super::super::evicting::{Evicting, LiveRegion, Range};
use super::super::granularity::align_up;
use super::super::interface::Suballocator;
use super::super::node::NONE;
use super::super::values::{BlockIndex, FreedRegion, Placement, RegionRequest};
use super::Buddy;
use crate::handle::SlotKey;

impl Buddy {
    fn live_from(&self, mut index: u32, upwards: bool) -> Option<LiveRegion> {
        while index != NONE && self.regions.node(index).is_free() {
            let node = self.regions.node(index);
            index = if upwards { node.next } else { node.previous };
        }
        (index != NONE).then(|| self.regions.live_region(index))
    }

    /// Returns the bytes of a range, as far as regions can lie there.
    fn ends_of(&self, range: &Range) -> (u64, u64) {
        let node = |key: Option<SlotKey>| key.map(|key| self.regions.node(key.index()));
        let usable = 1 << self.block(range.block).size.ilog2();
        let start = node(range.below).map_or(0, |it| it.end());
        (start, node(range.above).map_or(usable, |it| it.offset))
    }

    /// Returns the place of a request between two offsets: its own offset and its end.
    fn fit(&self, start: u64, end: u64, request: &RegionRequest) -> Option<(u64, u64)> {
        let size = self.region_size(request)?;
        let offset = align_up(start, size)?;
        let to = offset.checked_add(size).filter(|&to| to <= end)?;
        Some((offset, to))
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
        Some(self.regions.live_region(key.index()))
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
        let (start, end) = self.ends_of(range);
        self.fit(start, end, request).map(|(offset, _)| offset)
    }

    fn fit_all(&self, range: &Range, requests: &[RegionRequest]) -> Option<Vec<u64>> {
        let (mut start, end) = self.ends_of(range);
        let mut offsets = Vec::new();
        offsets.try_reserve(requests.len()).ok()?;
        for request in requests {
            let (offset, to) = self.fit(start, end, request)?;
            offsets.push(offset);
            start = to;
        }
        Some(offsets)
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
