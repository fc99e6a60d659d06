//! [`EvictionOwner`]: who is asked before allocations are taken away, and [`Room`], which it makes.

use crate::handle::{Allocation, AllocationId};
use crate::pools::moves::Move;

/// The owner of evictable allocations, who destroys the resources in them.
pub trait EvictionOwner: Send + Sync {
    /// Called, without any lock of the engine's, before `victims` are taken away.
    ///
    /// If none of them is in use, the owner makes sure that this stays so, calls `commit`, and returns its result.
    /// `commit` takes short locks only and makes no driver call. After it has returned true, the ids are stale,
    /// each [`Evictable`](crate::Evictable) is lost, and the owner destroys the resources; memory objects are freed
    /// after this has returned. If it returns false, nothing has changed.
    ///
    /// # Errors
    /// The victims that are in use; others are chosen then.
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>>;

    /// Returns whether it moves allocations to make room for a request. Then a request whose cheapest hole costs
    /// others than the oldest ones asks for that first.
    fn may_move(&self) -> bool {
        false
    }

    /// Returns which of some allocations could move now. Each has with it whether it is known that no frame in flight
    /// uses it, by its last use; of any other one the owner has to know that.
    fn movable(&self, allocations: &[(AllocationId, bool)]) -> Vec<bool> {
        vec![false; allocations.len()]
    }

    /// Makes room, called without any lock of the engine's: sees to it that nothing uses what moves, prepares the
    /// moves, calls [`Room::commit`], copies what moves, and calls [`Room::settle`] for each move whose old place
    /// nothing uses any more, neither the host nor the device.
    ///
    /// Returns whether another plan may be better, after it has called [`Room::refuse`] with what was in the way, or
    /// after a commit that returned false. Whatever it returns, what was committed is done.
    fn make_room(&self, room: &mut dyn Room) -> bool {
        let _ = room;
        false
    }
}

/// Room for a request in one block, where the oldest allocations are taken away and others move together.
///
/// Until [`commit`](Self::commit) nothing has changed. From then on the victims are lost, and the destinations of the
/// moves are reserved; what does not move after that stays where it is.
pub trait Room {
    /// Returns who is to be taken away.
    fn victims(&self) -> &[AllocationId];

    /// Returns what is to move, each to a place apart from its own. The id of a destination is known after the
    /// commit; until then it is that of the source. Until the victims are lost, some of them lie at the destinations.
    fn moves(&self) -> &[Move];

    /// Takes the victims away and reserves the destinations; to be called once. Returns false, and nothing has
    /// changed, if something is not as it was planned. Takes short locks only, and makes no driver call.
    fn commit(&mut self) -> bool;

    /// Ends a move after the commit: the allocation is at its destination, and nothing uses its old place any more.
    /// Returns it as it is from now on; `None` if it was freed or mapped meanwhile, and stays.
    fn settle(&mut self, index: usize) -> Option<Allocation>;

    /// Keeps the old place of a move that was settled, as something uses it after all: the owner frees it later. Then
    /// the request is not placed.
    fn keep_source(&mut self, index: usize);

    /// Notes that allocations are in use: before the commit, so that another plan leaves them where they are.
    fn refuse(&mut self, in_use: &[AllocationId]);
}
