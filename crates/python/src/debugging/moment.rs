//! When something was done to an allocation, and what tells slices and faults from others.

use std::time::Instant;

use vkmem_engine::{AllocationId, Difference, GuardedUse};

use crate::observe::call_site::Origin;

/// Where and when something was done.
#[derive(Clone, Copy)]
pub struct Moment {
    /// Number of the call site; `None` if these are not tracked.
    pub site: Option<u32>,
    /// The index of the frame.
    pub frame: u64,
    /// The time.
    pub at: Instant,
}

impl Moment {
    /// The creation of a resource with this origin.
    pub fn of(origin: Option<Origin>, frame: u64) -> Self {
        Self {
            site: origin.map(|it| it.site),
            frame,
            at: origin.map_or_else(Instant::now, |it| it.at),
        }
    }
}

/// Identifies a slice of a buffer heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SliceKey {
    /// Number of its buffer.
    pub buffer: u64,
    /// Where it begins in its buffer, in bytes.
    pub offset: u64,
    /// Its number among all slices of the allocator.
    pub number: u64,
}

/// What was found in one of the ranges of an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The allocation.
    pub id: AllocationId,
    /// The slice of a buffer heap whose memory it is, if it is that of one.
    pub slice: Option<SliceKey>,
    /// The range.
    pub is: GuardedUse,
    /// Which of its bytes are wrong.
    pub found: Difference,
}

/// The faults of an allocation that were told last, one for each kind of range.
pub type Told = [Option<Difference>; 4];

impl Fault {
    /// Returns the place of what was told of such a range.
    pub fn among(self, told: &mut Told) -> &mut Option<Difference> {
        &mut told[self.is as usize]
    }
}
