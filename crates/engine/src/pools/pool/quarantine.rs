//! The quarantine of a pool: freed allocations that are not given out again yet.

use std::sync::Arc;

use super::Pool;
use crate::debugging::guarded::GuardBands;
use crate::handle::{AllocationId, SlotKey};
use crate::pools::guarded_memory::MemoryAccess;
use crate::pools::leaving::Quarantined;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::pools::quarantine::Entry;

impl Pool {
    /// Gives out again what is overdue in the quarantine, or all of it; the owner looks at it first. Returns whether
    /// there was any. May call the driver.
    pub(crate) fn end_quarantine(&self, all: bool) -> bool {
        if !self.has_quarantine {
            return false;
        }
        let mut any = false;
        loop {
            let regions = self.arena.take_leaving(all);
            let objects = self.dedicated.take_leaving(all);
            if regions.is_empty() && objects.is_empty() {
                return any;
            }
            any = true;
            if let Some(owner) = self.setup.quarantines.owner() {
                let of_blocks = regions.iter().map(|it| {
                    let place = (it.offset, it.bands);
                    self.quarantined(false, it.entry.former, &it.entry, &it.memory, place)
                });
                let of_objects = objects.iter().map(|(key, entry)| {
                    let held = &entry.memory;
                    let place = (held.offset, held.bands());
                    self.quarantined(true, *key, entry, &held.memory, place)
                });
                let mut list = Vec::new();
                if list.try_reserve(regions.len() + objects.len()).is_ok() {
                    list.extend(of_blocks.chain(of_objects));
                    owner.leaving(&list);
                } else {
                    of_blocks.chain(of_objects).for_each(|it| owner.leaving(&[it]));
                }
            }
            let mut release = Release::default();
            self.arena.end_leaving(&regions, &mut release);
            self.dedicated.end_leaving(objects, &mut release);
            drop(release);
        }
    }

    fn quarantined<T>(
        &self,
        dedicated: bool,
        former: SlotKey,
        entry: &Entry<T>,
        memory: &Arc<MemoryObject>,
        (offset, bands): (u64, GuardBands),
    ) -> Quarantined {
        Quarantined {
            id: AllocationId::new(self.pool_key, dedicated, former),
            memory: MemoryAccess::new(memory.clone()),
            offset,
            size: entry.size,
            bands,
        }
    }
}
