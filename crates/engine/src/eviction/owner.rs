//! [`EvictionOwner`]: who is asked before allocations are taken away.

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
}
