//! Placing many requests in a row, most of them cut from one free region.
//!
//! In a new block, or behind the last live region of one, each request is cut from what the previous one
//! left over. So that region stays out of the index from the first cut to the last, as long as no smaller
//! region fits.

use super::super::bins::{Entry, class_of};
use super::super::interface::{Suballocator, one_by_one};
use super::super::node::{is_free_link, target};
use super::super::values::{Placement, RegionRequest};
use super::Tlsf;
use super::hot::{Hot, ROOM};
use crate::request::Strategy;

/// A free region is held if it is at least this many times larger than the region cut from it.
const HOLD_RATIO: u64 = 8;

/// At most this many requests pass before a region to hold is looked for again: in a fragmented block few
/// regions have a large free one behind them.
const MAX_PAUSE: u32 = 64;

/// A free region that is taken out of the index.
struct Held {
    node: u32,
    /// Whether the index is empty; it stays so while requests are cut from this region.
    alone: bool,
}

/// Puts the held region back into the index when dropped, also if the caller panics.
struct Run<'a> {
    tlsf: &'a mut Tlsf,
    held: Option<Held>,
    /// Number of requests until a region to hold is looked for, and what `pause` was set to last.
    pause: u32,
    last_pause: u32,
}

impl Run<'_> {
    #[inline(always)]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        let cut = self.held.as_ref().and_then(|held| self.tlsf.cut(held, request));
        cut.or_else(|| {
            self.put_back();
            let placement = self.tlsf.allocate(request)?;
            if self.pause > 0 {
                self.pause -= 1;
            } else if self.tlsf.can_cut(request) {
                self.hold_behind(&placement);
            }
            Some(placement)
        })
    }

    fn hold_behind(&mut self, placement: &Placement) {
        self.held = self.tlsf.hold_behind(placement.key.index());
        self.last_pause = match self.held {
            Some(_) => 0,
            None => (self.last_pause * 2).clamp(1, MAX_PAUSE),
        };
        self.pause = self.last_pause;
    }

    fn put_back(&mut self) {
        if let Some(held) = self.held.take() {
            self.tlsf.put_back(held.node);
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

impl Tlsf {
    /// See [`Suballocator::allocate_many`].
    pub(super) fn allocate_run(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        placed: impl FnMut(&RegionRequest, Placement),
    ) -> usize {
        let mut run = Run { tlsf: self, held: None, pause: 0, last_pause: 0 };
        one_by_one(requests, placed, |request| run.allocate(request))
    }

    /// Returns whether a request may be cut from a held region: its strategy wants no search, and no
    /// neighbour can conflict.
    #[inline(always)]
    fn can_cut(&self, request: &RegionRequest) -> bool {
        !self.kinds_conflict_possible
            && matches!(request.strategy, Strategy::Balanced | Strategy::MinTime)
    }

    /// Places a request in the held region or in a better fit; `None` if that takes a longer search.
    #[inline(always)]
    fn cut(&mut self, held: &Held, request: &RegionRequest) -> Option<Placement> {
        self.note_kind(request.kind);
        if !self.can_cut(request) {
            return None;
        }
        let (_, rounded) = self.sizes(request)?;
        // One more, to put the held region back.
        if !self.make_room() || !self.has_index_room(ROOM as u32 + 1) {
            return None;
        }
        let placement = hot!(self, hot => {
            let better = match request.strategy {
                _ if held.alone => None,
                Strategy::MinTime => hot.below(held.node, hot.look_at_once(rounded)),
                _ if Entry::knows(rounded) => hot.below(held.node, hot.look_near(rounded)),
                _ => None,
            };
            match better {
                Some(found) => hot.take_found(found, rounded, request, 1),
                None => hot.cut(held.node, rounded, request),
            }
        })?;
        self.count_in(placement.key, placement.block);
        Some(placement)
    }

    /// Takes the region behind a live one out of the index, if it is free and large; returns it.
    fn hold_behind(&mut self, index: u32) -> Option<Held> {
        if !self.has_index_room(1) {
            return None;
        }
        let live = self.regions.node(index);
        let node = target(live.next);
        let free = self.regions.node(node);
        if !is_free_link(live.next) || free.size() / HOLD_RATIO < live.size() {
            return None;
        }
        let (class, position) = (class_of(free.size()), free.position());
        hot!(self, hot => hot.unlink(class, position));
        Some(Held { node, alone: self.free.next_used(0).is_none() })
    }

    /// Returns whether `regions` more regions can be put into the index.
    #[inline(always)]
    fn has_index_room(&mut self, regions: u32) -> bool {
        self.free.has_room_for(regions) || self.free.try_grow()
    }

    /// Puts a region back into the index, which has room for it.
    fn put_back(&mut self, node: u32) {
        let free = self.regions.node(node);
        let (offset, size) = (free.offset, free.size());
        hot!(self, hot => {
            hot.set_free(node, offset, size);
        });
    }
}
