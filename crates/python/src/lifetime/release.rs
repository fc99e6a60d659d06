//! What has to be given back of a resource once its Python side is gone.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, PoolKey, Release};

use super::ownership::{AllocatorState, Binding, PendingRelease, Resource, WeakResourceRef};
use crate::interpreter::detach;
use crate::observe::event::Observable;

impl PendingRelease {
    /// The pool it lies in.
    pub fn pool_key(&self) -> PoolKey {
        self.id.pool_key()
    }

    /// Whether it is an alias in the memory of a resource.
    pub fn lies_in(&self, resource: &Resource) -> bool {
        self.alias_of.as_ref().is_some_and(|base| std::ptr::eq(base.as_ptr(), resource))
    }

    /// Returns the memory that is freed with it; none for an alias.
    #[inline]
    fn own_memory(&self) -> Option<AllocationId> {
        self.alias_of.is_none().then_some(self.id)
    }

    /// Lets the memory of an alias go.
    #[inline]
    fn leave_base(&self) {
        if let Some(base) = self.alias_of.as_ref().and_then(WeakResourceRef::upgrade) {
            base.bound_here.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Destroys the handle and frees the memory; the slow part is in the [`Release`].
    #[inline]
    pub fn release(&self, state: &AllocatorState) -> Release {
        state.events.tell_freed(std::slice::from_ref(self));
        // Before the handle is free to be given out again.
        let binding = state.device.bindings.remove(self.handle);
        // SAFETY: the pins show that nothing uses it, and it is released once.
        let release = unsafe { state.device_allocator.destroy(self.handle, self.own_memory()) };
        self.leave_base();
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

    fn is_alias(&self) -> bool {
        self.alias_of.is_some()
    }
}

/// Lets go of the memory that a resource was bound to, if that is another's.
#[inline]
fn unbind(binding: Option<Binding>) {
    if let Some(Binding::Foreign(memory)) = binding {
        memory.bound_here.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Destroys all handles, then frees all memory: what is bound goes before what it is bound to. Gives
/// the names of the memory that had one, by their place in `remains`. Calls the driver.
pub fn release_many(state: &AllocatorState, remains: &[PendingRelease]) -> Vec<(usize, String)> {
    state.events.tell_freed(remains);
    // Before the handles are free to be given out again.
    let bound = state.device.bindings.remove_many(remains.iter().map(|it| it.handle));
    let own_memory = |(place, it): (usize, &PendingRelease)| it.own_memory().map(|id| (place, id));
    let (places, ids): (Vec<usize>, Vec<AllocationId>) =
        remains.iter().enumerate().filter_map(own_memory).unzip();
    // SAFETY: the pins show that nothing uses them, and each is released once.
    let freed = unsafe { state.device_allocator.destroy_many(remains, |it| it.handle, &ids) };
    remains.iter().for_each(PendingRelease::leave_base);
    bound.into_iter().for_each(|binding| unbind(Some(binding)));
    drop(freed.releases);
    freed.names.into_iter().map(|(index, name)| (places[index], name)).collect()
}

/// The same without the interpreter: the driver may take its time.
pub fn release_all(py: Python<'_>, state: &AllocatorState, remains: &[PendingRelease]) {
    detach(py, || drop(release_many(state, remains)));
    state.tell_device_memory(py);
}
