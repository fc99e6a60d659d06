//! Many requests in a row, most of them cut from one region.
//!
//! In a new block, or behind the last live region of one, each request is cut from what the one before
//! it left over. So that region stays out of the index from the first cut to the last, and is as good
//! as any other while a smaller one would do.

use super::super::bins::class_of;
use super::super::node::{is_free_link, target};
use super::super::{Placement, RegionRequest, Suballocator};
use super::Tlsf;
use super::hot::Hot;
use crate::request::Strategy;

/// A region is held if it is so many times larger than what was cut from it.
const WORTH: u64 = 8;

/// A free region that is not in the index.
struct Held {
    node: u32,
    /// Nothing is in the index, and nothing comes into it while requests are cut from this one.
    alone: bool,
}

impl Tlsf {
    /// See [`Suballocator::allocate_many`].
    pub(super) fn allocate_run(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        mut placed: impl FnMut(&RegionRequest, Placement),
    ) -> usize {
        let mut held: Option<Held> = None;
        let mut count = 0;
        for request in requests {
            let cut = held.as_ref().and_then(|held| self.cut(held, &request));
            let found = cut.or_else(|| {
                self.put_back(held.take());
                let placement = self.allocate(&request)?;
                held = self.hold_behind(placement.key.index());
                Some(placement)
            });
            let Some(placement) = found else { break };
            placed(&request, placement);
            count += 1;
        }
        self.put_back(held);
        count
    }

    /// From the held region, or one that fits better; nothing if it takes a longer look.
    #[inline(always)]
    fn cut(&mut self, held: &Held, request: &RegionRequest) -> Option<Placement> {
        self.meet(request.kind);
        let sizes = self.sizes(request).filter(|_| request.strategy == Strategy::Balanced);
        let rounded = sizes.filter(|_| !self.careful)?.1;
        self.make_room();
        let placement = hot!(self, hot => {
            let better = if held.alone { None } else { hot.look_below(held.node, rounded) };
            match better {
                Some(entry) => {
                    let found = hot.fit(entry, rounded, request, 1);
                    found.is_found().then(|| hot.take(found, entry.size(), rounded, request))
                }
                None => hot.cut(held.node, rounded, request),
            }
        })?;
        self.count_in(placement.block);
        Some(placement)
    }

    /// Takes what lies behind a live region out of the index, if it is free and large.
    fn hold_behind(&mut self, index: u32) -> Option<Held> {
        let live = self.regions.node(index);
        let node = target(live.next);
        let free = self.regions.node(node);
        if !is_free_link(live.next) || free.size() / WORTH < live.size() {
            return None;
        }
        let (class, position) = (class_of(free.size()), free.position());
        hot!(self, hot => hot.unlink(class, position));
        Some(Held { node, alone: self.free.next_used(0).is_none() })
    }

    /// Puts it into the index again.
    fn put_back(&mut self, held: Option<Held>) {
        let Some(Held { node, .. }) = held else { return };
        self.make_room();
        let free = self.regions.node(node);
        let (offset, size) = (free.offset, free.size());
        hot!(self, hot => {
            hot.set_free(node, offset, size);
        });
    }
}
