//! A place for a request at the cost of others: a hole in the blocks of its pool, or memory of its heap.

use std::sync::Arc;

use super::attempt::{Attempt, Taken, commit_in_group, ids};
use super::group::{Group, GroupKey, Mark};
use super::hole::Search;
use super::registry::Eviction;
use super::rule::Reach;
use super::window::Window;
use crate::handle::{Allocation, AllocationId};
use crate::pools::arena::evicting::Hole;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::MemoryObject;
use crate::pools::pool::Pool;
use crate::pools::pool::evicting::NewMemory;
use crate::pools::registry::Pools;
use crate::request::AllocationRequest;
use crate::suballocator::{BlockIndex, RegionRequest};

/// A map of a block that is counted while a request that is to be mapped takes its place there.
pub(super) struct Hold(Option<Arc<MemoryObject>>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(memory) = &self.0 {
            memory.unmap(1);
        }
    }
}

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
        if let Some((group, region)) = &hole
            && let Some(made) = attempt.in_hole(pool, group, (request, region), false, taken)
        {
            return Some(made);
        }
        let may_grow = pool.new_memory(request) == NewMemory::Possible;
        if may_grow && let Some(made) = attempt.in_exchange(pool, request, taken) {
            return Some(made);
        }
        // From here on, either there can be no new memory object, or the driver refuses one.
        if let Some((group, region)) = &hole {
            let in_block = attempt.in_block(pool, group, (request, region), taken);
            let made =
                in_block.or_else(|| attempt.in_hole(pool, group, (request, region), true, taken));
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
    /// Places a request in a hole, among the oldest allocations or, if `anywhere`, among all of the pool.
    fn in_hole(
        &mut self,
        pool: &Pool,
        group: &Group,
        (request, region): (&AllocationRequest, &RegionRequest),
        anywhere: bool,
        taken: &mut Taken,
    ) -> Option<Allocation> {
        while self.again() {
            let (hole, marks) = self.find_hole(pool, group, region, anywhere)?;
            // Mapped before anybody is taken away: that may fail.
            let hold = self.hold(pool, request, marks[0].id)?;
            let placed = self.take_hole(pool, group, (&hole, &marks), region, taken);
            if let Some(placed) = placed {
                let made = pool.placed(placed, request).ok();
                drop(hold);
                return made;
            }
        }
        None
    }

    /// Maps the memory object of an allocation for a request that is to take its place, if it is to be mapped;
    /// `None` and the end of all attempts if the driver refuses: no other place could be mapped for sure.
    pub(super) fn hold(
        &mut self,
        pool: &Pool,
        request: &AllocationRequest,
        victim: AllocationId,
    ) -> Option<Hold> {
        match pool.maps(request).then(|| pool.memory_of(victim)).flatten() {
            Some((memory, _)) if memory.map().is_ok() => Some(Hold(Some(memory))),
            Some(_) => {
                self.give_up();
                None
            }
            None => Some(Hold(None)),
        }
    }

    fn find_hole(
        &mut self,
        pool: &Pool,
        group: &Group,
        region: &RegionRequest,
        anywhere: bool,
    ) -> Option<(Hole, Vec<Mark>)> {
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
        cheapest.map(|window| (Hole::Between(window.range), window.victims))
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
