//! Walks and places for defragmentation.

use super::super::moving::{FreeRegion, Met, MovableRegion, Moving, Walk};
use super::super::node::{NONE, Node};
use super::super::values::{BlockIndex, Placement, RegionRequest};
use super::{Block, Buddy};
use crate::handle::SlotKey;

impl Buddy {
    /// Returns a live region as defragmentation sees it. Its gaps are its buddy, if that is free.
    fn seen(&self, index: u32) -> MovableRegion {
        let node = self.regions.node(index);
        let whole = node.footprint();
        let is_lower = node.offset & whole == 0;
        let buddy = if is_lower { node.next } else { node.previous };
        let is_free = |it: &Node| it.is_free() && it.size() == whole;
        let gap = if buddy != NONE && is_free(self.regions.node(buddy)) { whole } else { 0 };
        let key = self.regions.key_of(index);
        MovableRegion {
            key,
            block: BlockIndex(self.regions.block_of(index)),
            offset: node.offset,
            size: node.size(),
            footprint: whole,
            alignment: self.regions.alignment(key),
            kind: node.kind(),
            tag: node.tag(),
            gaps: if is_lower { [0, gap] } else { [gap, 0] },
        }
    }

    /// Links a region behind the last one of a block that is being rearranged.
    fn append(&mut self, block: BlockIndex, last: u32, index: u32) {
        self.regions.node_mut(index).previous = last;
        match last {
            NONE => self.blocks[block.0 as usize].first = index,
            last => self.regions.node_mut(last).next = index,
        }
    }

    /// Appends free regions, each as large as its offset allows, and returns the last region.
    fn append_gaps(&mut self, block: BlockIndex, mut last: u32, mut start: u64, end: u64) -> u32 {
        while start < end {
            let fits = 1 << (end - start).ilog2();
            let size = if start == 0 { fits } else { fits.min(1 << start.trailing_zeros()) };
            let index = self.regions.take(block.0);
            self.regions.node_mut(index).set_free(start, size);
            self.append(block, last, index);
            self.link(index);
            (last, start) = (index, start + size);
        }
        last
    }

    /// Takes the lower end of a free region.
    fn take_lower_end(&mut self, index: u32, size: u64, request: &RegionRequest) -> Placement {
        self.unlink(index);
        while self.regions.node(index).size() > size {
            self.split(index);
        }
        let key = self.begin(index, size, request);
        self.regions.placement(key)
    }
}

impl Moving for Buddy {
    fn live_count(&self, block: BlockIndex) -> u32 {
        self.block(block).live
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
        let mut index = match from {
            None => self.block(block).first,
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
        while index != NONE {
            let node = self.regions.node(index);
            if !node.is_free() {
                if left == 0 || !goes_on {
                    return Walk::At(self.regions.key_of(index));
                }
                goes_on = visit(&Met::Live(self.seen(index)));
            } else if goes_on {
                let (size, offset) = (node.size(), node.offset);
                goes_on = visit(&Met::Free(FreeRegion { size, offset, slot: index }));
            }
            left = left.saturating_sub(1);
            index = node.next;
        }
        Walk::Done
    }

    fn free_behind(&self, key: SlotKey) -> Option<FreeRegion> {
        let slot = self.regions.live(key)?.next;
        if slot == NONE || !self.regions.node(slot).is_free() {
            return None;
        }
        let node = self.regions.node(slot);
        Some(FreeRegion { size: node.size(), offset: node.offset, slot })
    }

    fn place_in(
        &mut self,
        block: BlockIndex,
        free: &FreeRegion,
        request: &RegionRequest,
    ) -> Option<Placement> {
        let size = self.region_size(request)?;
        let node = self.regions.nodes().get(free.slot)?;
        let is_same = node.is_free()
            && (node.offset, node.size()) == (free.offset, free.size)
            && self.regions.block_of(free.slot) == block.0;
        if !is_same || size > free.size || !request.alignment.is_power_of_two() || !self.has_room()
        {
            return None;
        }
        Some(self.take_lower_end(free.slot, size, request))
    }

    fn above(&self, block: BlockIndex, below: Option<SlotKey>) -> Option<MovableRegion> {
        let mut index = match below {
            None => self.block(block).first,
            Some(key) => self.regions.live(key)?.next,
        };
        while index != NONE && self.regions.node(index).is_free() {
            index = self.regions.node(index).next;
        }
        (index != NONE).then(|| self.seen(index))
    }

    /// A region of a power of two never begins lower in a gap that is smaller than itself.
    fn hold_gap_before(&mut self, _: SlotKey) -> Option<Placement> {
        None
    }

    fn slide(&mut self, _: SlotKey, _: SlotKey) -> Option<Placement> {
        None
    }

    fn rearrange(&mut self, block: BlockIndex, places: &[(SlotKey, u64)]) -> bool {
        let Block { size, first, live, .. } = *self.block(block);
        assert_eq!(places.len(), live as usize, "all regions");
        // A range between two regions has at most two free ones of each order.
        let orders = size.ilog2() as usize + 1;
        let most = (places.len() + 1).saturating_mul(2 * orders);
        let whole = (1u64 << size.ilog2()) / self.smallest;
        let gaps = most.min(usize::try_from(whole).unwrap_or(usize::MAX));
        while !self.regions.has_room_for(gaps) {
            if !self.regions.try_grow() {
                return false;
            }
        }
        if !self.make_room() {
            return false;
        }
        let mut index = first;
        while index != NONE {
            let node = *self.regions.node(index);
            if node.is_free() {
                self.unlink(index);
                self.regions.give_back(index);
            }
            index = node.next;
        }
        let (mut last, mut end) = (NONE, 0);
        for &(key, offset) in places {
            assert!(offset >= end && self.regions.live(key).is_some(), "a place of a region");
            last = self.append_gaps(block, last, end, offset);
            let node = self.regions.node_mut(key.index());
            node.offset = offset;
            end = node.end();
            self.append(block, last, key.index());
            last = key.index();
        }
        let usable = 1 << size.ilog2();
        assert!(end <= usable, "the end of a block");
        last = self.append_gaps(block, last, end, usable);
        self.regions.node_mut(last).next = NONE;
        true
    }
}
