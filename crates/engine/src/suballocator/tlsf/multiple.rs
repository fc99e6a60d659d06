//! Alignments that are not powers of two.

use super::super::bins::class_of;
use super::super::node::MAX_SIZE;
use super::super::values::RegionRequest;
use super::hot::{Candidate, Hot};
use super::{MAX_ROUNDING, Tlsf};
use crate::handle::SlotKey;

impl Tlsf {
    /// See [`Suballocator::allocate_at_multiple`](super::super::Suballocator::allocate_at_multiple).
    #[inline(never)]
    pub(super) fn place_at_multiple(&mut self, request: &RegionRequest) -> Option<SlotKey> {
        debug_assert!(self.granularity == 1 && request.size > 0 && request.alignment > 0);
        let size = request.size.checked_next_multiple_of(self.granule)?;
        if size > MAX_SIZE {
            return None;
        }
        self.note_kind(request.kind);
        self.settle_all();
        if !self.make_room() {
            return None;
        }
        if !self.regions.try_reserve_odd_alignment(request.alignment) {
            self.host_memory_failed = true;
            return None;
        }
        let found = self.search(size, request);
        if !found.is_found() {
            return None;
        }
        // A rest that ends at the next multiple would be too small for any region of this alignment.
        let rounded = request.size.checked_next_multiple_of(request.alignment);
        let rounds = |&it: &u64| {
            let added = it.saturating_sub(size);
            request.alignment <= MAX_ROUNDING && it.is_multiple_of(self.granule) && added <= size
        };
        let rounded = rounded.filter(rounds).unwrap_or(size).max(size);
        let whole = self.regions.node(found.node).size();
        let known = (Some(whole), class_of(whole));
        let placement = hot!(self, hot => hot.take(found, known, rounded, request));
        self.count_in(placement.key, placement.block);
        self.regions.note_odd_alignment(placement.key, request.alignment);
        Some(placement.key)
    }

    /// Returns where a request fits into a free region, if it does.
    pub(super) fn fit_multiple(&self, index: u32, size: u64, request: &RegionRequest) -> Candidate {
        let node = self.regions.node(index);
        let offset = node.offset.checked_next_multiple_of(request.alignment);
        let fits = |offset: &u64| {
            let end = offset.checked_add(size);
            end.is_some_and(|end| end <= node.offset + node.size())
        };
        match offset.filter(fits) {
            Some(offset) => Candidate { node: index, offset },
            None => Candidate::NOTHING,
        }
    }
}
