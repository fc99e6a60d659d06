//! A place for a request at the cost of others: a hole in the blocks of its pool, or memory of its heap.

use super::attempt::{Attempt, Taken, commit_in_group, ids};
use super::group::{Group, GroupKey, Mark};
use super::hold::Hold;
use super::hole::{Found, Search};
use super::registry::Eviction;
use super::room::{HoleCost, Outcome};
use super::rule::Reach;
use super::window::Window;
use crate::handle::{Allocation, AllocationId};
use crate::pools::arena::evicting::Hole;
use crate::pools::blocks::PlacedRegion;
use crate::pools::pool::Pool;
use crate::pools::registry::Pools;
use crate::request::AllocationRequest;
use crate::suballocator::{BlockIndex, RegionRequest};

impl Eviction {
    /// Allocates from a pool that has no room, at the cost of evictable allocations; `None` if that is not possible:
    /// then nobody was taken away. May call the driver. `taken` gets what is left to do; its memory objects are
    /// freed by this function where the request needs that.
    pub(crate) fn allocate(
        &self,
        pools: &Pools,
        pool: &Pool,
        request: &AllocationRequest,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        let reach = Reach::of(&request.create_info)?;
        let mut attempt = Attempt::new(self, pools, reach);
        let region = pool.region_in_blocks(request);
        let group = self.group(GroupKey { pool: pool.pool_key(), dedicated: false });
        let hole = group.zip(region);
        if let Some((group, region)) = &hole {
            match attempt.among_the_oldest(pool, group, (request, region), taken) {
                Outcome::Made(made) => return Some(made),
                // It has cost others, and is not to cost more.
                Outcome::InVain => return pool.allocate(request).ok(),
                Outcome::Impossible => {}
            }
        }
        let may_grow = pool.may_allocate_memory(request);
        if may_grow && let Some(made) = attempt.in_exchange(pool, request, taken) {
            return Some(made);
        }
        // From here on, there can be no new memory object, or not by the limits, or the driver refuses it.
        if let Some((group, region)) = &hole {
            let mut made = attempt.in_block(pool, group, (request, region), taken);
            while made.is_none() && attempt.again() {
                let Some(found) = attempt.find_hole(pool, group, region, true) else { break };
                made = attempt.in_hole(pool, group, (request, region), &found, taken);
            }
            if made.is_some() {
                return made;
            }
        }
        if !may_grow {
            return None;
        }
        let made = attempt.in_dedicated(pool, request, taken);
        made.or_else(|| attempt.in_freed(pool, request, taken))
    }
}

impl Attempt<'_> {
    /// Places a request in a hole among the oldest allocations, in room that moves make at their cost, or in a hole
    /// around one of them, whatever of these is cheaper.
    fn among_the_oldest(
        &mut self,
        pool: &Pool,
        group: &Group,
        (request, region): (&AllocationRequest, &RegionRequest),
        taken: &mut Taken,
    ) -> Outcome {
        let mut may_move = true;
        while self.again() {
            let found = self.find_hole(pool, group, region, false);
            let cost = found.as_ref().map(|it| HoleCost::of(group, it));
            if std::mem::take(&mut may_move) && cost.as_ref().is_none_or(|it| it.is_high(region)) {
                let made = self.in_room(pool, group, (request, region), cost.as_ref(), taken);
                if !matches!(made, Outcome::Impossible) {
                    return made;
                }
            }
            let Some(found) = found else { break };
            if let Some(made) = self.in_hole(pool, group, (request, region), &found, taken) {
                return Outcome::Made(made);
            }
        }
        Outcome::Impossible
    }

    /// Places a request in a hole; `None` if it is not as it was found.
    fn in_hole(
        &mut self,
        pool: &Pool,
        group: &Group,
        (request, region): (&AllocationRequest, &RegionRequest),
        found: &Found,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        // Mapped before anybody is taken away: that may fail.
        let hold = self.hold(pool, request, found.victims[0].id)?;
        let placed = self.take_hole(pool, group, (&found.hole, &found.victims), region, taken)?;
        let made = pool.placed(placed, request).ok();
        drop(hold);
        made
    }

    /// Maps the memory object of an allocation for a request that is to take its place, if it is to be mapped;
    /// `None` and the end of all attempts if the driver refuses: no other place could be mapped for sure.
    pub(super) fn hold(
        &mut self,
        pool: &Pool,
        request: &AllocationRequest,
        victim: AllocationId,
    ) -> Option<Hold> {
        let memory = pool.maps(request).then(|| pool.memory_of(victim)).flatten();
        let hold = Hold::map(memory.map(|(memory, _)| memory));
        if hold.is_err() {
            self.give_up();
        }
        hold.ok()
    }

    fn find_hole(
        &mut self,
        pool: &Pool,
        group: &Group,
        region: &RegionRequest,
        anywhere: bool,
    ) -> Option<Found> {
        let rule = self.eviction.rule(group, &self.reach)?;
        let mut records = group.lock();
        let mut search =
            Search { records: &mut records, rule: &rule, spared: &self.spared, request: region };
        if !anywhere {
            return pool.arena().search(|regions| search.find(regions));
        }
        let mut cheapest: Option<Window> = None;
        for block in (0..pool.arena().block_places()).map(BlockIndex) {
            let window =
                pool.arena().search_block(block, |regions| search.find_in_block(regions, block));
            cheapest = Window::cheaper(cheapest, window.flatten());
        }
        cheapest.map(|window| Found::of(window, false))
    }

    pub(super) fn take_hole(
        &mut self,
        pool: &Pool,
        group: &Group,
        (hole, marks): (&Hole, &[Mark]),
        region: &RegionRequest,
        taken: &mut Taken,
    ) -> Option<PlacedRegion> {
        let mut placed = None;
        let victims = ids(marks)?;
        taken.reserve(victims.len(), 0)?;
        self.ask(&victims, &mut || {
            commit_in_group(group, marks, |keys| {
                placed = pool.replace(hole, keys, region, &mut |key, tag| {
                    taken.note(AllocationId::new(pool.pool_key(), false, key), tag);
                });
                placed.is_some()
            })
        });
        placed
    }
}
