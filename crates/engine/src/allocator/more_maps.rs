//! Maps of an allocation beyond the 255 that its region can count: few have so many, and others pay
//! nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::handle::AllocationId;
use crate::lock::{Mutex, rank};

/// Counts by handle, of those with more than 255; each is one or more.
#[derive(Debug, Default)]
pub(crate) struct MoreMaps {
    counts: Mutex<HashMap<AllocationId, u64>, rank::MoreMaps>,
}

impl MoreMaps {
    /// Counts one more; false without host memory for it.
    pub fn add(&self, id: AllocationId) -> bool {
        let mut counts = self.counts.lock();
        if counts.try_reserve(1).is_err() {
            return false;
        }
        *counts.entry(id).or_insert(0) += 1;
        true
    }

    /// Counts one less, if there is one.
    pub fn remove(&self, id: AllocationId) -> bool {
        let mut counts = self.counts.lock();
        let Entry::Occupied(mut count) = counts.entry(id) else { return false };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
        true
    }

    /// Forgets an allocation that was freed; how many there were.
    pub fn take(&self, id: AllocationId) -> u64 {
        self.counts.lock().remove(&id).unwrap_or(0)
    }
}
