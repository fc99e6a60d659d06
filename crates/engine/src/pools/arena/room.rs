//! Room in a block: regions are freed, others are to move to where they were, and what is then left of a window of
//! neighbours is for one request.

use std::collections::HashSet;

use super::{Arena, State};
use crate::handle::SlotKey;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::Release;
use crate::recording::order::mark;
use crate::suballocator::evicting::{Evicting, Range};
use crate::suballocator::{BlockIndex, FreedRegion, RegionRequest, RegionTag, Suballocator};

/// A range outside of the window, to which regions move.
#[derive(Debug)]
pub(crate) struct Refill {
    pub range: Range,
    /// The live regions of the range, which are freed.
    pub victims: Vec<SlotKey>,
    /// The regions that move there, and what each needs, by ascending offset of their places.
    pub sources: Vec<SlotKey>,
    pub requests: Vec<RegionRequest>,
}

/// Room that is to be made in a block.
#[derive(Debug)]
pub(crate) struct RoomPlan {
    pub block: BlockIndex,
    /// Where the request is to be, between two regions that stay.
    pub window: Range,
    /// The live regions of the window, by ascending offset.
    pub inside: Vec<SlotKey>,
    /// Those of them that are freed; the others move.
    pub lost_inside: Vec<SlotKey>,
    pub refills: Vec<Refill>,
}

/// Room that is being made: places that are reserved, and regions that keep others out of the window.
pub(crate) struct RoomInMaking {
    /// The place of each source without its margins, in the order of the refills.
    pub places: Vec<PlacedRegion>,
    /// Regions in the free parts of the window.
    pub holds: Vec<SlotKey>,
}

impl RoomPlan {
    fn requests(&self) -> impl Iterator<Item = &RegionRequest> {
        self.refills.iter().flat_map(|it| &it.requests)
    }

    /// Returns whether the block is as it was planned, and there is host memory for all changes.
    fn is_possible(&self, suballocator: &mut dyn Evicting, request: &RegionRequest) -> bool {
        let requests: Vec<RegionRequest> = self.requests().copied().collect();
        let victims = self.refills.iter().map(|it| it.victims.len()).sum();
        suballocator.reserve_for(victims, &requests)
            && suballocator.holds_exactly(&self.window, &self.inside)
            && suballocator.fit_between(&self.window, request).is_some()
            && self.refills.iter().all(|it| {
                suballocator.holds_exactly(&it.range, &it.victims)
                    && suballocator.fit_all(&it.range, &it.requests).is_some()
            })
    }
}

impl State {
    /// Notes that the regions of the window take part in moves; false, and nothing noted, without host memory.
    fn begin_moves(&mut self, inside: &[SlotKey]) -> bool {
        let count = inside.iter().take_while(|&&key| self.moving.add(key, true)).count();
        if count < inside.len() {
            inside[..count].iter().for_each(|&key| self.moving.remove(key));
        }
        count == inside.len()
    }

    /// Makes the free parts of a window live regions, as far as that is possible.
    fn hold_gaps(&mut self, plan: &RoomPlan, request: &RegionRequest) -> Vec<SlotKey> {
        let mut holds = Vec::new();
        for key in plan.window.below.iter().chain(&plan.inside) {
            let mut last = *key;
            while let Some(suballocator) = self.blocks.suballocator.moving()
                && let Some(free) = suballocator.free_behind(last)
                && holds.try_reserve(1).is_ok()
            {
                let hold = RegionRequest::of_size(free.size, 1, request.kind);
                let Some(placed) = suballocator.place_in(plan.block, &free, &hold) else { break };
                self.blocks.note_placed(plan.block, hold.size);
                holds.push(placed.key);
                last = placed.key;
            }
        }
        // Without host memory for that it is found by walks, but has no owner who lets it move.
        for &key in &holds {
            let _noted = self.moving.add(key, false);
        }
        holds
    }

    fn refill(
        &mut self,
        it: &Refill,
        places: &mut Vec<PlacedRegion>,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) {
        let margins = self.blocks.margins_of_all(&it.victims);
        let (mut keys, mut bytes) = (it.victims.iter(), 0);
        let mut note = |gone: FreedRegion| {
            bytes += gone.info.size;
            if let Some(&key) = keys.next() {
                freed(key, gone.tag);
            }
        };
        let made = self.blocks.suballocator.evicting().ok().and_then(|suballocator| {
            suballocator.refill(&it.range, &it.victims, &it.requests, &mut note)
        });
        let made = made.expect("it was possible just now");
        let placed: u64 = it.requests.iter().map(|it| it.size).sum();
        self.blocks.note_replaced((it.victims.len(), bytes), (made.len(), placed));
        let alignments = it.requests.iter().map(|it| it.alignment);
        let keys = made.iter().map(|it| it.key);
        self.blocks.note_replaced_margins(margins, keys.zip(alignments));
        for ((placement, request), source) in made.iter().zip(&it.requests).zip(&it.sources) {
            let tag = self.blocks.suballocator.tag(*source).expect("a source stays live");
            self.blocks.suballocator.set_tag(placement.key, tag);
            // As the gaps that are held: see there.
            let _noted = self.moving.add(placement.key, false);
            let memory = self.blocks.memory(placement.block).clone();
            let [front, _] = self.blocks.margins().around(request.alignment);
            let offset = placement.offset + front;
            places.push(PlacedRegion { key: placement.key, memory, offset });
        }
    }
}

/// Returns the live regions around one that are all in `set`, by ascending offset.
fn row_of(suballocator: &dyn Evicting, start: SlotKey, set: &HashSet<SlotKey>) -> Vec<SlotKey> {
    let next = |key, upwards| {
        suballocator.neighbour(key, upwards).map(|it| it.key).filter(|key| set.contains(key))
    };
    let mut first = start;
    while let Some(below) = next(first, false) {
        first = below;
    }
    std::iter::successors(Some(first), |&key| next(key, true)).collect()
}

impl Arena {
    /// Begins to make room: frees victims, reserves a place for each source, and keeps others out of the window, whose
    /// regions stay until [`fill_room`](Self::fill_room) or [`give_up_room`](Self::give_up_room). `freed` gets the
    /// key and the tag of each victim, also of those in the window. `None`, and nothing changed, if the block is not
    /// as it was planned.
    pub(crate) fn begin_room(
        &self,
        plan: &RoomPlan,
        request: &RegionRequest,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> Option<RoomInMaking> {
        let mut state = self.state.lock();
        let inside = &mut *state;
        if !inside.blocks.contains(plan.block) {
            return None;
        }
        inside.blocks.suballocator.settle();
        let are_loose = inside.are_loose(&plan.inside)
            && plan.refills.iter().all(|it| inside.are_loose(&it.victims));
        if !are_loose
            || !plan.is_possible(inside.blocks.suballocator.evicting().ok()?, request)
            || !inside.begin_moves(&plan.inside)
        {
            return None;
        }
        for &key in &plan.lost_inside {
            freed(key, inside.blocks.suballocator.tag(key).expect("it is loose"));
        }
        let mut places = Vec::new();
        plan.refills.iter().for_each(|it| inside.refill(it, &mut places, freed));
        let holds = inside.hold_gaps(plan, request);
        self.check(&state);
        Some(RoomInMaking { places, holds })
    }

    /// Replaces the regions of a window by the place of a request; `None`, and nothing changed, if there is something
    /// else among them.
    pub(crate) fn fill_room(
        &self,
        block: BlockIndex,
        regions: &HashSet<SlotKey>,
        request: &RegionRequest,
    ) -> Option<PlacedRegion> {
        let mut state = self.state.lock();
        let inside = &mut *state;
        inside.blocks.suballocator.settle();
        let margins = inside.blocks.margins_of_all(regions);
        let suballocator = inside.blocks.suballocator.evicting().ok()?;
        let start = *regions.iter().next()?;
        suballocator.look(start)?;
        let keys = row_of(suballocator, start, regions);
        if keys.len() != regions.len() {
            return None;
        }
        let beside = |key: Option<&SlotKey>, upwards| {
            key.and_then(|&key| suballocator.neighbour(key, upwards)).map(|it| it.key)
        };
        let (below, above) = (beside(keys.first(), false), beside(keys.last(), true));
        let (range, mut bytes) = (Range { block, below, above }, 0);
        let mut note = |it: FreedRegion| bytes += it.info.size;
        let placement = suballocator.replace(&range, &keys, request, &mut note)?;
        keys.iter().for_each(|&key| inside.moving.remove(key));
        inside.blocks.note_replaced((keys.len(), bytes), (1, request.size));
        mark();
        inside.blocks.note_replaced_margins(margins, [(placement.key, request.alignment)]);
        let memory = inside.blocks.memory(placement.block).clone();
        self.check(&state);
        Some(PlacedRegion { key: placement.key, memory, offset: placement.offset })
    }

    /// Frees regions that were held for room that is not to be, and forgets that others take part in moves.
    pub(crate) fn give_up_room(&self, held: &[SlotKey], stay: &[SlotKey], release: &mut Release) {
        let mut state = self.state.lock();
        for &key in stay.iter().chain(held) {
            state.moving.remove(key);
        }
        for &key in held {
            state.free(key, false, release, |_, _| {});
        }
        self.check(&state);
    }
}
