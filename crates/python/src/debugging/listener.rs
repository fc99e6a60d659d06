//! The debugger of an allocator as a listener of its events, and as the owner of what is in quarantine.

use std::sync::{Arc, Weak};

use vkmem_engine::{AllocationId, PoolKey, QuarantineOwner, Quarantined};

use super::state::DebugState;
use crate::lifetime::ownership::AllocatorState;
use crate::observe::event::{Batch, Event, EventKind, Observable};
use crate::observe::events::Listener;

/// Passes on what happens in an allocator, which it does not keep alive.
pub(super) struct Watcher {
    pub allocator: Weak<AllocatorState>,
    pub state: Arc<DebugState>,
}

impl Watcher {
    /// Returns the allocator, if its memory may still be looked at.
    fn allocator(&self) -> Option<Arc<AllocatorState>> {
        self.allocator.upgrade().filter(|it| !it.is_abandoned())
    }
}

/// Returns the memory of resources, without aliases, which have none of their own.
fn own_memory(resources: &Batch<'_, dyn Observable + '_>) -> Vec<AllocationId> {
    resources.iter().filter(|it| !it.is_alias()).map(Observable::id).collect()
}

impl Listener for Watcher {
    fn interest(&self) -> u32 {
        // Create: so that the calls that create go on to `Debugger::created`, which needs the Python objects.
        let ends = EventKind::Free.bit() | EventKind::Lose.bit() | EventKind::DestroyPool.bit();
        EventKind::Create.bit() | ends
    }

    fn receive(&self, event: &Event<'_>) {
        match event {
            Event::Free(resources) => {
                let Some(allocator) = self.allocator() else { return };
                match resources.only() {
                    // Without a list, as most calls free one resource.
                    Some(it) if it.is_alias() => {}
                    Some(it) => self.state.free(&allocator, &[it.id()]),
                    None => self.state.free(&allocator, &own_memory(resources)),
                }
            }
            Event::Lose(resources) => {
                let mut records = self.state.records.lock();
                own_memory(resources).into_iter().for_each(|id| records.forget(id));
            }
            Event::DestroyPool(id) => {
                self.state.records.lock().forget_pool(PoolKey::Custom(*id));
            }
            _ => {}
        }
    }
}

impl QuarantineOwner for Watcher {
    fn leaving(&self, allocations: &[Quarantined]) {
        if let Some(allocator) = self.allocator() {
            self.state.look_at_leaving(&allocator, allocations);
        }
    }
}
