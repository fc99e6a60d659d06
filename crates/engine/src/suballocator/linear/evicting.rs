//! Room for a request at the cost of the oldest regions of a ring.

use super::super::granularity::align_up;
use super::super::interface::Suballocator;
use super::super::node::{MAX_SIZE, NONE};
use super::super::values::{FreedRegion, Placement, RegionRequest};
use super::{Linear, RunKind};
use crate::handle::SlotKey;

impl Linear {
    /// Returns the slots of the live regions of the ring, the oldest one first.
    fn ring(&self, block: u32) -> impl Iterator<Item = u32> {
        let runs = [RunKind::Lower, RunKind::Wrapped];
        let of_run = move |which| {
            let first = self.blocks[block as usize].run(which).first;
            let next = |&index: &u32| Some(self.regions.node(index).next);
            std::iter::successors(Some(first), next).take_while(|&index| index != NONE)
        };
        runs.into_iter().flat_map(of_run).filter(|&index| !self.regions.node(index).is_free())
    }

    /// Returns how many of the oldest regions have to be freed until a request fits, if `may_go` allows all of
    /// them to be freed; `None` if that does not help, or while the blocks are a stack.
    ///
    /// # Time complexity
    /// O(regions of the ring up to the last one to be freed).
    pub(crate) fn oldest_in_the_way(
        &self,
        request: &RegionRequest,
        may_go: &mut dyn FnMut(SlotKey) -> bool,
    ) -> Option<Vec<SlotKey>> {
        let size = align_up(request.size, self.granule).filter(|&size| size <= MAX_SIZE)?;
        let block = self.blocks.get(self.top as usize)?;
        let [lower, upper, wrapped] = &block.runs;
        if self.stack_height != 1 || request.upper || !upper.is_empty() {
            return None;
        }
        let fits = |before, after| self.between(before, after, block.size, size, request).is_some();
        let mut oldest = Vec::new();
        let mut ring = self.ring(self.top).peekable();
        let is_wrapped = |index: u32| {
            !wrapped.is_empty() && {
                // The wrapped run lies below the lower one.
                self.regions.node(index).offset < self.regions.node(lower.first).offset
            }
        };
        while let Some(index) = ring.next() {
            let key = self.regions.key_of(index);
            if !may_go(key) || oldest.try_reserve(1).is_err() {
                return None;
            }
            oldest.push(key);
            let found = match ring.peek() {
                None => fits(NONE, NONE),
                // All of the lower run is gone: the wrapped one takes its place.
                Some(&next) if is_wrapped(next) => fits(wrapped.last, NONE) || fits(NONE, next),
                Some(&next) => fits(wrapped.last, next),
            };
            if found {
                return Some(oldest);
            }
        }
        None
    }

    /// Frees the oldest regions of the ring, which are `victims` in their order, and places a request. Returns
    /// `None` and changes nothing if they are others, if the request would not fit or if there is no host
    /// memory.
    pub(crate) fn replace_oldest(
        &mut self,
        victims: &[SlotKey],
        request: &RegionRequest,
        freed: &mut dyn FnMut(FreedRegion),
    ) -> Option<Placement> {
        if !self.regions.has_room_for(1) && !self.regions.try_grow() {
            return None;
        }
        let mut expected = victims.iter();
        let oldest = self.oldest_in_the_way(request, &mut |key| expected.next() == Some(&key))?;
        if oldest.len() != victims.len() {
            return None;
        }
        for &key in victims {
            freed(self.free(key).expect("it was live just now"));
        }
        let placed = self.allocate(request);
        assert!(placed.is_some(), "the request fits");
        placed
    }
}
