//! Which resource has some memory, for those that can move.

use std::collections::HashMap;

use vkmem_engine::AllocationId;
use vkmem_engine::lock::{Mutex, rank};

use super::counted::{Owned, StrongRef, WeakRef};

/// Entries below which none are looked for that have ended.
const FEW: usize = 1024;

struct Entries<T: Owned> {
    by_id: HashMap<AllocationId, WeakRef<T>>,
    /// With so many entries, those that have ended are removed. So an end has nothing to do here.
    purge_at: usize,
}

/// The movable resources of an allocator by the ids of their memory.
pub struct Table<T: Owned>(Mutex<Entries<T>, rank::MovableTable>);

impl<T: Owned> Default for Table<T> {
    fn default() -> Self {
        Self(Mutex::new(Entries { by_id: HashMap::new(), purge_at: FEW }))
    }
}

impl<T: Owned> Table<T> {
    /// The resource that was entered with some memory, unless nothing refers to it any more. Its memory may be
    /// another one by now.
    pub fn find(&self, id: AllocationId) -> Option<StrongRef<T>> {
        self.0.lock().by_id.get(&id)?.upgrade()
    }

    /// Enters a resource; `before` is the memory that it had until now. `has_ended` says of others that their
    /// entries are to go.
    pub fn enter(
        &self,
        id: AllocationId,
        resource: &StrongRef<T>,
        before: Option<AllocationId>,
        has_ended: impl Fn(&T) -> bool,
    ) {
        // Dropped without the lock: they may be the last references.
        let mut looked_at = Vec::new();
        let mut entries = self.0.lock();
        if let Some(before) = before {
            entries.by_id.remove(&before);
        }
        if entries.by_id.len() >= entries.purge_at {
            entries.by_id.retain(|_, it| {
                let resource = it.upgrade();
                let is_live = resource.as_ref().is_some_and(|it| !has_ended(it));
                looked_at.extend(resource);
                is_live
            });
            entries.purge_at = entries.by_id.len().saturating_mul(2).max(FEW);
        }
        // Without host memory it is not found, and stays where it is.
        if entries.by_id.try_reserve(1).is_ok() {
            entries.by_id.insert(id, resource.downgrade());
        }
        drop(entries);
    }
}
