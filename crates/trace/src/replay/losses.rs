//! [`LossWatcher`]: which allocations a replay loses, and which it moves to make room for others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{Allocation, AllocationId, EvictionOwner, Room};

use super::objects::{Live, Table};

/// What the program said or did when it was asked to make room.
pub(super) enum RoomStep {
    /// Which allocations of a block may move.
    Movable(Vec<u32>),
    /// An allocation moved.
    Moved(RoomMove),
    /// It answered.
    Answered(RoomAnswer),
}

/// What the program answered when it was asked to make room.
#[derive(Default)]
pub(super) struct RoomAnswer {
    pub is_made: bool,
    /// Whether another plan may be better.
    pub may_go_on: bool,
    pub in_the_way: Vec<u32>,
}

/// An allocation that moves to make room.
pub(super) struct RoomMove {
    /// The event of the move.
    pub event: usize,
    /// Its number.
    pub number: u32,
    /// The number of its old place, if that stays.
    pub kept: Option<u32>,
    /// Where it was and where it is, once the replay has moved it.
    pub made: Option<(Allocation, Allocation)>,
}

/// Room as it was made in the recording, and is made now.
#[derive(Default)]
struct Rooms {
    /// The thread whose call is played.
    thread: u32,
    /// What the next call of each thread finds.
    steps: HashMap<u32, VecDeque<RoomStep>>,
    /// What came of them in the call that is played.
    done: Vec<RoomStep>,
    /// Number of questions that the recorded call did not ask, and of moves that it did not make.
    unexpected: u64,
}

/// Notes allocations that are taken away, until they are asked for, and makes room as it was made in the recording.
pub(super) struct LossWatcher {
    allocations: Arc<Table<Live>>,
    lost: Mutex<Vec<AllocationId>, rank::ReplayObject>,
    /// What the program refused to lose, question by question.
    refused: Mutex<VecDeque<Vec<AllocationId>>, rank::ReplayObject>,
    rooms: Mutex<Rooms, rank::ReplayObject>,
}

impl LossWatcher {
    pub fn new(allocations: Arc<Table<Live>>) -> Self {
        let (lost, refused, rooms) = Default::default();
        Self { allocations, lost, refused, rooms }
    }

    /// Returns and removes the allocations that were lost since the last call.
    pub fn take(&self) -> Vec<AllocationId> {
        std::mem::take(&mut self.lost.lock())
    }

    /// Refuses to lose allocations when it is asked next.
    pub fn refuse(&self, allocations: Vec<AllocationId>) {
        self.refused.lock().push_back(allocations);
    }

    /// Notes whose call is played next.
    pub fn begin_call(&self, thread: u32) {
        self.rooms.lock().thread = thread;
    }

    /// Notes a step of the room that the next call of a thread finds.
    pub fn expect(&self, thread: u32, step: RoomStep) {
        self.rooms.lock().steps.entry(thread).or_default().push_back(step);
    }

    /// Notes that an allocation that moves for the next call of a thread leaves its old place allocated; false if it does
    /// not move for that.
    pub fn keep_source(&self, thread: u32, of: u32, source: u32) -> bool {
        let mut rooms = self.rooms.lock();
        let steps = rooms.steps.get_mut(&thread).into_iter().flatten();
        let found = steps.rev().find_map(|step| match step {
            RoomStep::Moved(it) if it.number == of => Some(it),
            _ => None,
        });
        found.map(|it| it.kept = Some(source)).is_some()
    }

    /// Ends a call: returns the steps that it took, the number of recorded steps that it did not take, and of those that
    /// the recorded call did not.
    pub fn end_of_call(&self) -> (Vec<RoomStep>, u64, u64) {
        let mut rooms = self.rooms.lock();
        let thread = rooms.thread;
        let left = rooms.steps.remove(&thread).map_or(0, |it| it.len() as u64);
        (std::mem::take(&mut rooms.done), left, std::mem::take(&mut rooms.unexpected))
    }

    /// Returns the moves up to the answer of the recorded program, and that; `None` if it was not asked.
    fn take_answer(&self) -> Option<(Vec<RoomMove>, RoomAnswer)> {
        let mut rooms = self.rooms.lock();
        let thread = rooms.thread;
        let steps = rooms.steps.get_mut(&thread)?;
        let mut moves = Vec::new();
        loop {
            match steps.pop_front()? {
                RoomStep::Moved(it) => moves.push(it),
                RoomStep::Answered(answer) => return Some((moves, answer)),
                RoomStep::Movable(_) => return None,
            }
        }
    }

    fn id(&self, number: u32) -> Option<AllocationId> {
        self.allocations.with(number, |it| it.allocation.id)
    }

    fn note_unexpected(&self) {
        self.rooms.lock().unexpected += 1;
    }

    fn answer(&self, answer: RoomAnswer) -> bool {
        let may_go_on = answer.may_go_on;
        self.rooms.lock().done.push(RoomStep::Answered(answer));
        may_go_on
    }
}

impl EvictionOwner for LossWatcher {
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        let mut all = self.refused.lock();
        let is_this = |refused: &Vec<AllocationId>| refused.iter().all(|it| victims.contains(it));
        if all.front().is_some_and(is_this)
            && let Some(refused) = all.pop_front()
        {
            return Err(refused);
        }
        drop(all);
        let done = commit();
        if done {
            self.lost.lock().extend_from_slice(victims);
        }
        Ok(done)
    }

    /// As long as the recorded call was asked something more.
    fn may_move(&self) -> bool {
        let rooms = self.rooms.lock();
        rooms.steps.get(&rooms.thread).is_some_and(|it| !it.is_empty())
    }

    fn movable(&self, allocations: &[(AllocationId, bool)]) -> Vec<bool> {
        let mut rooms = self.rooms.lock();
        let thread = rooms.thread;
        let step = rooms.steps.get_mut(&thread).and_then(VecDeque::pop_front);
        drop(rooms);
        let numbers = match step {
            Some(RoomStep::Movable(numbers)) => numbers,
            _ => {
                self.note_unexpected();
                Vec::new()
            }
        };
        let ids: HashSet<AllocationId> = numbers.iter().filter_map(|it| self.id(*it)).collect();
        self.rooms.lock().done.push(RoomStep::Movable(numbers));
        allocations.iter().map(|(id, _)| ids.contains(id)).collect()
    }

    fn make_room(&self, room: &mut dyn Room) -> bool {
        let Some((recorded, answer)) = self.take_answer() else {
            self.note_unexpected();
            return self.answer(RoomAnswer::default());
        };
        if !answer.is_made {
            let ids: Vec<AllocationId> =
                answer.in_the_way.iter().filter_map(|it| self.id(*it)).collect();
            room.refuse(&ids);
            return self.answer(answer);
        }
        if !room.commit() {
            self.note_unexpected();
            return self.answer(RoomAnswer::default());
        }
        self.lost.lock().extend_from_slice(room.victims());
        let by_id: HashMap<AllocationId, usize> =
            room.moves().iter().enumerate().map(|(index, it)| (it.source.id, index)).collect();
        for it in recorded {
            let index = self.id(it.number).and_then(|id| by_id.get(&id)).copied();
            let moved = index.and_then(|index| {
                Some((index, room.moves().get(index)?.source, room.settle(index)?))
            });
            let Some((index, from, to)) = moved else {
                self.note_unexpected();
                continue;
            };
            self.allocations.relocate(it.number, to);
            if it.kept.is_some() {
                room.keep_source(index);
            }
            let made = Some((from, to));
            self.rooms.lock().done.push(RoomStep::Moved(RoomMove { made, ..it }));
        }
        self.answer(answer)
    }
}
