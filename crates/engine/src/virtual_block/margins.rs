//! [`VirtualMargins`]: the units before and behind each allocation of a virtual block that nobody may write.

use std::collections::HashMap;

use crate::handle::SlotKey;

/// The margins of one virtual block. The units before an allocation are the margin rounded up to its alignment, which
/// the suballocators do not store for all alignments; so they are kept here.
#[derive(Debug)]
pub(super) struct VirtualMargins {
    pub margin: u64,
    fronts: HashMap<SlotKey, u64>,
    /// Units of all margins.
    pub units: u64,
}

impl VirtualMargins {
    pub fn new(margin: u64) -> Self {
        Self { margin, fronts: HashMap::new(), units: 0 }
    }

    /// Reserves host memory for one more allocation; returns false if there is none.
    #[must_use]
    pub fn try_reserve(&mut self) -> bool {
        self.fronts.try_reserve(1).is_ok()
    }

    /// Returns the units before an allocation of an alignment; `None` if that overflows.
    pub fn front(&self, alignment: u64) -> Option<u64> {
        self.margin.checked_next_multiple_of(alignment)
    }

    /// Notes a new allocation, for which there is room.
    pub fn insert(&mut self, key: SlotKey, front: u64) {
        self.fronts.insert(key, front);
        self.units += front + self.margin;
    }

    /// Forgets an allocation that was freed.
    pub fn remove(&mut self, key: SlotKey) {
        if let Some(front) = self.fronts.remove(&key) {
            self.units -= front + self.margin;
        }
    }

    pub fn clear(&mut self) {
        self.fronts.clear();
        self.units = 0;
    }

    /// Returns offset and size of the allocation in a live range.
    pub fn payload(&self, key: SlotKey, offset: u64, size: u64) -> (u64, u64) {
        let front = self.fronts.get(&key).copied().unwrap_or(0);
        (offset + front, size - front - self.margin)
    }
}
