//! Room that the program made for a request by losses and moves.
//!
//! What it said and did is told before the call that it was for: this waits there until the engine asks.

use super::losses::{RoomAnswer, RoomMove, RoomStep};
use super::worker::{NOT_POSSIBLE, Worker};
use super::world::Instance;
use crate::event::{Call, Event, MoveResult};
use crate::values::Numbers;

impl Worker<'_> {
    /// Notes what the recorded program said or did when the call that follows needed room.
    pub fn expect_room(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        if !self.world.is_exact {
            // Where places differ, other room would be needed.
            if matches!(event.call, Call::EndMove { .. }) {
                self.tally.skip(NOT_POSSIBLE);
            }
            return;
        }
        let step = match &event.call {
            Call::AnswerMoves { allocations } => RoomStep::Movable(allocations.iter().collect()),
            Call::MakeRoom { is_made, may_go_on, allocations } => {
                let (is_made, may_go_on) = (*is_made, *may_go_on);
                let in_the_way = allocations.iter().collect();
                RoomStep::Answered(RoomAnswer { is_made, may_go_on, in_the_way })
            }
            Call::EndMove { allocation, .. } => {
                let (number, kept, made) = (*allocation, None, None);
                RoomStep::Moved(RoomMove { event: index, number, kept, made })
            }
            _ => return,
        };
        instance.losses.expect(event.thread, step);
    }

    /// Compares the room that a call has made with the recorded one, and notes what has moved.
    pub fn end_room(&mut self, index: usize, event: &Event<'_>, instance: &Instance) {
        let (done, left, unexpected) = instance.losses.end_of_call();
        if left + unexpected > 0 {
            let recorded = format!("{left} more steps to make room");
            self.tally.placements.differ(index, recorded, format!("{unexpected} others"));
        }
        for step in done {
            match step {
                RoomStep::Movable(numbers) => {
                    let allocations = Numbers::new(&numbers);
                    self.record(event, Call::AnswerMoves { allocations });
                }
                RoomStep::Moved(it) => self.moved_for_room(event, &it),
                RoomStep::Answered(RoomAnswer { is_made, may_go_on, in_the_way }) => {
                    let allocations = Numbers::new(&in_the_way);
                    self.record(event, Call::MakeRoom { is_made, may_go_on, allocations });
                }
            }
        }
    }

    fn moved_for_room(&mut self, event: &Event<'_>, it: &RoomMove) {
        let &RoomMove { event: at, number, kept, made: Some((from, to)) } = it else { return };
        if let Some(numbers) = &self.world.numbers {
            let mut numbers = numbers.lock();
            numbers.remove(&(event.allocator, from.id));
            numbers.insert((event.allocator, to.id), number);
        }
        self.tally.moves.count += 1;
        self.tally.moves.bytes += to.size;
        if let Call::EndMove { placed, .. } = &self.world.trace.event(at).call {
            self.check(at, &to, placed.as_ref());
        }
        let (run, allocation, result) = (None, number, MoveResult::Moved);
        let placed = self.placed(&to);
        self.record(event, Call::EndMove { run, allocation, result, placed });
        if let Some(source) = kept {
            self.put_source(event, number, from, source);
            self.record(event, Call::KeepSource { allocation: source, of: number });
        }
    }
}
