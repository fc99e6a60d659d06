//! Freed allocations whose quarantine is over, and who looks at them once more.

use crate::debugging::guarded::GuardBands;
use crate::handle::AllocationId;
use crate::pools::guarded_memory::MemoryAccess;

/// A freed allocation in quarantine.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// The id that it had, which is stale.
    pub id: AllocationId,
    /// Its memory object.
    pub memory: MemoryAccess,
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Its margins, if they hold the pattern; else none.
    pub bands: GuardBands,
}

/// The owner of the allocations in quarantine, who looks at them once more before their memory is given out again.
pub trait QuarantineOwner: Send + Sync {
    /// Called, without any lock of the engine's, with allocations whose quarantine is over. Until this has returned
    /// their memory is not given out again and not freed. May read it; must not allocate or free.
    fn leaving(&self, allocations: &[Quarantined]);
}
