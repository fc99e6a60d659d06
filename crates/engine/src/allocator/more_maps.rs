//! [`MoreMaps`]: map counts above 255, which is the most that a region stores. Few allocations have so
//! many; the others pay nothing.

use std::collections::hash_map::Entry;

use crate::handle::AllocationId;
use crate::key_map::KeyMap;
use crate::lock::{Mutex, rank};

/// The maps beyond 255 of each allocation that has more; each count is at least 1.
#[derive(Debug, Default)]
pub(crate) struct MoreMaps {
    counts: Mutex<KeyMap<AllocationId, u64>, rank::MoreMaps>,
}

impl MoreMaps {
    /// Adds one map; returns false if host memory is exhausted.
    pub fn add(&self, id: AllocationId) -> bool {
        let mut counts = self.counts.lock();
        if counts.try_reserve(1).is_err() {
            return false;
        }
        *counts.entry(id).or_insert(0) += 1;
        true
    }

    /// Removes one map; returns false if there is none.
    pub fn remove(&self, id: AllocationId) -> bool {
        let mut counts = self.counts.lock();
        let Entry::Occupied(mut count) = counts.entry(id) else { return false };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
        true
    }

    /// Removes an allocation that was freed and returns its count.
    pub fn take(&self, id: AllocationId) -> u64 {
        self.counts.lock().remove(&id).unwrap_or(0)
    }
}
