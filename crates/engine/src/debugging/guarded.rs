//! What a checker is told: memory that nobody may write.

use crate::handle::AllocationId;

/// Why nobody may write a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedUse {
    /// It is the margin before an allocation.
    FrontMargin,
    /// It is the margin behind an allocation.
    BackMargin,
    /// It was freed, and is not given out again yet.
    Quarantined,
    /// It belongs to no allocation.
    Unused,
}

/// A range of a memory object that nobody may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedRange {
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Why nobody may write it.
    pub is: GuardedUse,
    /// The allocation that it belongs to; in quarantine the one that it belonged to, whose id is stale. `None` if
    /// it is unused.
    pub id: Option<AllocationId>,
    /// The next allocations below and above that are live, in the same memory object.
    pub neighbours: [Option<AllocationId>; 2],
}

impl GuardedRange {
    /// Returns the margins, of `margin` bytes each, before and behind an allocation, without its neighbours.
    pub fn margins_of(
        id: AllocationId,
        (offset, size): (u64, u64),
        margin: u64,
    ) -> [GuardedRange; 2] {
        let range =
            |offset, is| Self { offset, size: margin, is, id: Some(id), neighbours: [None; 2] };
        [
            range(offset - margin, GuardedUse::FrontMargin),
            range(offset + size, GuardedUse::BackMargin),
        ]
    }
}
