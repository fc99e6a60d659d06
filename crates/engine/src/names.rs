//! Names of allocations, beside the regions: most have none and pay nothing.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::allocation::AllocationId;

/// Names by handle.
#[derive(Debug, Default)]
pub struct Names {
    names: Mutex<HashMap<AllocationId, Box<str>>>,
}

impl Names {
    /// The name of one, if it has one.
    pub fn get(&self, id: AllocationId) -> Option<String> {
        self.names.lock().get(&id).map(|name| name.to_string())
    }

    /// Names one, or takes its name away.
    pub fn set(&self, id: AllocationId, name: Option<&str>) {
        let mut names = self.names.lock();
        match name {
            Some(name) => names.insert(id, name.into()),
            None => names.remove(&id),
        };
    }

    /// Forgets some that were freed; the names they had.
    pub fn take_many(&self, ids: impl Iterator<Item = AllocationId>) -> Vec<Option<String>> {
        let mut names = self.names.lock();
        ids.map(|id| names.remove(&id).map(String::from)).collect()
    }

    /// Forgets one that was freed.
    pub fn remove(&self, id: AllocationId) {
        self.names.lock().remove(&id);
    }
}
