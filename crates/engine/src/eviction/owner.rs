//! [`EvictionOwner`]: who is asked before allocations are taken away.

use super::room::Room;
use crate::handle::AllocationId;

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
    fn make_room(&self, room: &mut Room<'_>) -> bool {
        let _ = room;
        false
    }
}
