//! When something was done to an allocation, and what tells one fault from others.

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

/// Tells one fault from others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault(AllocationId, u8, u64, u64, u64);

impl Fault {
    /// A difference in a range of an allocation.
    pub fn new(id: AllocationId, is: GuardedUse, found: &Difference) -> Self {
        Self(id, is as u8, found.offset, found.length, found.count)
    }

    /// Returns the allocation.
    pub fn id(&self) -> AllocationId {
        self.0
    }
}
