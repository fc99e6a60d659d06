//! [`RoomInBlock`]: room for a request in one block, while its [owner](super::EvictionOwner) makes it.

use std::collections::HashSet;

use super::attempt::{Attempt, Taken, commit_in_group, ids};
use super::group::{Group, Mark, Spared};
use super::hold::Hold;
use super::hole::Found;
use super::owner::Room;
use super::room_plan::PlannedRoom;
use super::rule::Priority;
use crate::handle::{Allocation, AllocationId, SlotKey};
use crate::pools::arena::room::{RoomInMaking, RoomPlan};
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::Release;
use crate::pools::moves::Move;
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};
use crate::request::AllocationRequest;
use crate::suballocator::RegionRequest;

/// Plans of one request: others may use what is to move.
const PLANS: u32 = 8;

/// What came of room for a request.
pub(super) enum Outcome {
    /// It is placed.
    Made(Allocation),
    /// Nothing: nobody was taken away.
    Impossible,
    /// The oldest were taken away, but the request is not placed.
    InVain,
}

/// What a hole costs.
pub(super) struct HoleCost {
    bytes: u64,
    rank: Option<(Priority, u64)>,
    are_oldest: bool,
}

impl HoleCost {
    pub fn of(group: &Group, found: &Found) -> Self {
        let rank = found.victims.iter().map(Mark::rank).max();
        Self { bytes: group.lock().bytes(&found.victims), rank, are_oldest: found.are_oldest }
    }

    fn is_large(&self, region: &RegionRequest) -> bool {
        self.bytes > region.size.saturating_add(region.size / 10)
    }

    /// Returns whether others than the oldest would go, or many more bytes than are needed.
    pub fn is_high(&self, region: &RegionRequest) -> bool {
        !self.are_oldest || self.is_large(region)
    }

    fn is_above(&self, planned: &PlannedRoom, region: &RegionRequest) -> bool {
        planned.rank() < self.rank || (self.is_large(region) && planned.bytes < self.bytes)
    }
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Planned,
    Settled,
    /// It has moved, but its old place is still used.
    Kept,
}

/// Room for a request in one block.
pub(super) struct RoomInBlock<'a> {
    pool: &'a Pool,
    group: &'a Group,
    request: RegionRequest,
    plan: RoomPlan,
    marks: Vec<Mark>,
    victims: Vec<AllocationId>,
    moves: Vec<Move>,
    stages: Vec<Stage>,
    in_the_way: Vec<AllocationId>,
    made: Option<RoomInMaking>,
    is_committed: bool,
    taken: Taken,
}

impl<'a> RoomInBlock<'a> {
    fn new(
        pool: &'a Pool,
        group: &'a Group,
        request: &RegionRequest,
        planned: PlannedRoom,
    ) -> Option<Self> {
        let PlannedRoom { packed, marks, .. } = planned;
        let memory = pool.arena().block(packed.plan.block)?;
        let it = |(source, offset): &_| pool.planned_move(source, &memory, *offset);
        let moves: Vec<Move> = packed.moves.iter().map(it).collect();
        let stages = vec![Stage::Planned; moves.len()];
        let (victims, request, plan) = (ids(&marks)?, *request, packed.plan);
        let (in_the_way, made, is_committed, taken) = Default::default();
        Some(Self {
            pool,
            group,
            request,
            plan,
            marks,
            victims,
            moves,
            stages,
            in_the_way,
            made,
            is_committed,
            taken,
        })
    }

    /// Places the request where the window is free now.
    fn place(&mut self) -> Option<PlacedRegion> {
        let made = self.made.as_ref()?;
        if self.stages.iter().any(|stage| *stage != Stage::Settled) {
            return None;
        }
        let regions: HashSet<SlotKey> =
            self.plan.inside.iter().chain(&made.holds).copied().collect();
        let placed = self.pool.arena().fill_room(self.plan.block, &regions, &self.request)?;
        self.made = None;
        Some(placed)
    }
}

impl Room for RoomInBlock<'_> {
    fn victims(&self) -> &[AllocationId] {
        &self.victims
    }

    fn moves(&self) -> &[Move] {
        &self.moves
    }

    fn commit(&mut self) -> bool {
        let Self { pool, group, request, plan, taken, victims, .. } = self;
        if taken.reserve(victims.len(), 0).is_none() {
            return false;
        }
        let mut made = None;
        commit_in_group(group, &self.marks, |_| {
            made = pool.arena().begin_room(plan, request, &mut |key, tag| {
                taken.note(AllocationId::new(pool.pool_key(), false, key), tag);
            });
            made.is_some()
        });
        if let Some(made) = &made {
            for (it, place) in self.moves.iter_mut().zip(&made.places) {
                debug_assert_eq!(it.destination.offset, place.offset);
                it.destination.id = pool.id_of(place.key);
            }
        }
        self.is_committed = made.is_some();
        self.made = made;
        self.is_committed
    }

    fn settle(&mut self, index: usize) -> Option<Allocation> {
        let it = *self.moves.get(index)?;
        let (source, destination) = (it.source.id.key, it.destination.id.key);
        if self.stages[index] != Stage::Planned
            || self.made.is_none()
            || !self.pool.arena().settle_move(source, destination, false)
        {
            return None;
        }
        self.stages[index] = Stage::Settled;
        if is_active() {
            self.group.tell_move(it.source.id, &it.destination);
        }
        if self.pool.memory_of(it.destination.id).is_some_and(|(_, tag)| tag.named) {
            self.taken.renamed.push((it.source.id, it.destination.id));
        }
        Some(it.destination)
    }

    fn keep_source(&mut self, index: usize) {
        let Some(stage) = self.stages.get_mut(index) else { return };
        let before = std::mem::replace(stage, Stage::Kept);
        if is_active() && before == Stage::Settled {
            let it = &self.moves[index];
            self.group.tell_room(&Told::KeepForRoom(it.source.id, &it.destination));
        }
    }

    fn refuse(&mut self, in_use: &[AllocationId]) {
        self.in_the_way.extend(in_use);
    }
}

impl Drop for RoomInBlock<'_> {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        let mut held = made.holds;
        held.extend(&self.plan.lost_inside);
        let mut stay = Vec::new();
        for (it, stage) in self.moves.iter().zip(&self.stages) {
            match stage {
                Stage::Planned => {
                    held.push(it.destination.id.key);
                    stay.push(it.source.id.key);
                }
                Stage::Settled => held.push(it.source.id.key),
                Stage::Kept => {}
            }
        }
        let mut release = Release::default();
        self.pool.arena().give_up_room(&held, &stay, &mut release);
        drop(release);
    }
}

impl Attempt<'_> {
    /// Makes room among the oldest allocations of one block by moves, if that costs less than a hole.
    pub fn in_room(
        &mut self,
        pool: &Pool,
        group: &Group,
        (request, region): (&AllocationRequest, &RegionRequest),
        hole: Option<&HoleCost>,
        taken: &mut Taken,
    ) -> Outcome {
        let Some(owner) = self.eviction.owner().filter(|it| it.may_move()) else {
            return Outcome::Impossible;
        };
        let mut stay = Spared::new();
        for _ in 0..PLANS {
            let planned = self.plan_room(pool, group, region, &*owner, &stay);
            let planned = planned.filter(|it| hole.is_none_or(|hole| hole.is_above(it, region)));
            let Some(planned) = planned else { break };
            // Mapped before anybody is taken away: that may fail.
            let block = planned.packed.plan.block;
            let memory = pool.maps(request).then(|| pool.arena().block(block)).flatten();
            let Ok(hold) = Hold::map(memory) else { break };
            let Some(mut room) = RoomInBlock::new(pool, group, region, planned) else { break };
            let may_go_on = owner.make_room(&mut room);
            if is_active() {
                let (is_made, in_the_way) = (room.is_committed, &room.in_the_way);
                group.tell_room(&Told::MakeRoom { is_made, may_go_on, in_the_way });
            }
            if !room.is_committed {
                if !may_go_on {
                    break;
                }
                self.spared.extend(room.in_the_way.iter().copied());
                stay.extend(room.in_the_way.iter().copied());
                continue;
            }
            let placed = room.place();
            taken.add(std::mem::take(&mut room.taken));
            drop(room);
            let made = placed.and_then(|placed| pool.placed(placed, request).ok());
            drop(hold);
            return made.map_or(Outcome::InVain, Outcome::Made);
        }
        Outcome::Impossible
    }
}
