//! Release of the handle and memory of a resource whose Python side has ended.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, PoolKey, Release};
use vkmem_vulkan::ResourceHandle;

use super::ownership::{AllocatorState, Binding, PendingRelease, Resource, WeakResourceRef};
use crate::interpreter::detach;
use crate::observe::event::Observable;

impl PendingRelease {
    /// Returns the pool of its allocation.
    pub fn pool_key(&self) -> PoolKey {
        self.id.pool_key()
    }

    /// Returns whether it is an alias in the memory of `resource`.
    pub fn lies_in(&self, resource: &Resource) -> bool {
        self.alias_of.as_ref().is_some_and(|base| std::ptr::eq(base.as_ptr(), resource))
    }

    /// Returns the memory that is freed with it; none for an alias.
    #[inline]
    fn own_memory(&self) -> Option<AllocationId> {
        self.alias_of.is_none().then_some(self.id)
    }

    /// Counts an alias of its base as ended.
    #[inline]
    fn unbind_from_base(&self) {
        if let Some(base) = self.alias_of.as_ref().and_then(WeakResourceRef::upgrade) {
            base.bound_here.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Destroys the handle and frees the memory; the part that calls `vkFreeMemory` runs when the result is
    /// dropped.
    pub fn release(&self, state: &AllocatorState) -> Release {
        state.events.tell_freed(std::slice::from_ref(self));
        self.release_told(state)
    }

    /// Does that after the listeners were told.
    #[inline]
    pub(super) fn release_told(&self, state: &AllocatorState) -> Release {
        // Before the driver can reuse the handle.
        let binding = state.device.bindings.remove(self.handle);
        // SAFETY: the closed pins show that nothing uses it, and it is released once.
        let release = unsafe { state.device_allocator.destroy(self.handle, self.own_memory()) };
        self.unbind_from_base();
        unbind(binding);
        release
    }
}

impl Observable for PendingRelease {
    fn id(&self) -> AllocationId {
        self.id
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn handle(&self) -> ResourceHandle {
        self.handle
    }

    fn is_alias(&self) -> bool {
        self.alias_of.is_some()
    }
}

/// Counts a resource as no longer bound to the memory of another allocation.
#[inline]
fn unbind(binding: Option<Binding>) {
    if let Some(Binding::Foreign(memory)) = binding {
        memory.bound_here.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Destroys all handles, then frees all memory: a resource is destroyed before the memory it is bound to is
/// freed. Returns the names of allocations that had one, with their index in `pending`. Calls the driver.
pub fn release_many(state: &AllocatorState, pending: &[PendingRelease]) -> Vec<(usize, String)> {
    state.events.tell_freed(pending);
    // Before the driver can reuse the handles.
    let bound = state.device.bindings.remove_many(pending.iter().map(|it| it.handle));
    let own_memory = |(place, it): (usize, &PendingRelease)| it.own_memory().map(|id| (place, id));
    let (places, ids): (Vec<usize>, Vec<AllocationId>) =
        pending.iter().enumerate().filter_map(own_memory).unzip();
    // SAFETY: the closed pins show that nothing uses them, and each is released once.
    let freed = unsafe { state.device_allocator.destroy_many(pending, |it| it.handle, &ids) };
    pending.iter().for_each(PendingRelease::unbind_from_base);
    bound.into_iter().for_each(|binding| unbind(Some(binding)));
    drop(freed.releases);
    freed.names.into_iter().map(|(index, name)| (places[index], name)).collect()
}

/// Releases all as [`release_many`] does, with the GIL released, as the driver calls may take long.
pub fn release_all(py: Python<'_>, state: &AllocatorState, pending: &[PendingRelease]) {
    state.note_ends(py, pending);
    detach(py, || drop(release_many(state, pending)));
    state.tell_device_memory(py);
}
