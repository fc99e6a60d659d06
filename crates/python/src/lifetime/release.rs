//! What has to be given back of a resource once its Python side is gone.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, Home, Release};
use vkmem_vulkan::{ahead, expect_at};

use super::handles::Handles;
use super::ownership::{AllocatorState, Binding, PendingRelease, Resource, WeakResourceRef};
use crate::interpreter::detach;
use crate::observe::observed::Observable;

impl PendingRelease {
    /// The pool it lies in.
    pub fn home(&self) -> Home {
        self.id.home()
    }

    /// Whether it is an alias in the memory of a resource.
    pub fn lies_in(&self, resource: &Resource) -> bool {
        self.alias_of.as_ref().is_some_and(|base| std::ptr::eq(base.as_ptr(), resource))
    }

    #[inline]
    fn destroy_handle(&self, state: &AllocatorState) {
        let driver = state.device_allocator.driver();
        match self.handles {
            Handles::Memory => {}
            // SAFETY: the pins show that nobody uses it, and it is destroyed once.
            Handles::Buffer(buffer) => unsafe { driver.destroy_buffer(buffer) },
            // SAFETY: as above.
            Handles::Image(image) => unsafe { driver.destroy_image(image) },
        }
        if let Some(base) = self.alias_of.as_ref().and_then(WeakResourceRef::upgrade) {
            base.bound_here.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Destroys the handle and frees the memory; the slow part is in the [`Release`].
    #[inline]
    pub fn release(&self, state: &AllocatorState) -> Release {
        state.observed.released(std::slice::from_ref(self));
        // Before the handle is free to be given out again.
        let binding = state.device.bindings.remove(self.handles);
        let destroy = || self.destroy_handle(state);
        let release = match self.handles {
            _ if self.alias_of.is_some() => {
                destroy();
                Release::default()
            }
            Handles::Buffer(_) => state.engine().free_around(self.id, destroy).unwrap_or_default(),
            // An image before its place is free: some drivers keep what they know of the place, as how it
            // is compressed, until they destroy the image, and another one may come there meanwhile.
            Handles::Image(_) | Handles::Memory => {
                destroy();
                state.engine().free(self.id).unwrap_or_default()
            }
        };
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
    state.observed.released(remains);
    // Before the handles are free to be given out again.
    let bound = state.device.bindings.remove_many(remains.iter().map(|it| it.handles));
    ahead(remains, |it| expect_at(it.handles.raw())).for_each(|it| it.destroy_handle(state));
    bound.into_iter().for_each(|binding| unbind(Some(binding)));
    let owners = remains.iter().enumerate().filter(|(_, it)| it.alias_of.is_none());
    let (places, ids): (Vec<usize>, Vec<AllocationId>) =
        owners.map(|(place, it)| (place, it.id)).unzip();
    let freed = state.engine().free_many(&ids);
    drop(freed.releases);
    freed.names.into_iter().map(|(index, name)| (places[index], name)).collect()
}

/// The same without the interpreter: the driver may take its time.
pub fn release_all(py: Python<'_>, state: &AllocatorState, remains: &[PendingRelease]) {
    detach(py, || drop(release_many(state, remains)));
    state.tell_device_memory(py);
}
