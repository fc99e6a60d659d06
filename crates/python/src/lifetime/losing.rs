//! The loss of resources: the engine takes the memory of what was not used for a while, and what lay in it ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, EvictionOwner, PoolId, Room};
use vkmem_vulkan::ResourceHandle;

use super::losable::Losing;
use super::ownership::{AllocatorState, Resource, ResourceRef, WeakResourceRef};
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::{detach, try_attach};

/// Raises for a number of frames after which what was not used may be lost, if the device may still use it then.
pub fn check_frames_in_use(py: Python<'_>, frames: u64, in_flight: u64) -> PyResult<()> {
    if frames >= in_flight {
        return Ok(());
    }
    let why = format!(
        "frames_in_use is {frames}, below frames_in_flight ({in_flight}): what the device may still use would \
         be lost"
    );
    Err(invalid(py, why))
}

/// Answers the engine for an allocator.
struct Owner(Weak<AllocatorState>);

impl EvictionOwner for Owner {
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        let all = || Err(victims.to_vec());
        let Some(allocator) = self.0.upgrade() else { return all() };
        // At the exit of the interpreter nothing is lost any more.
        try_attach(|py| allocator.lose(py, victims, commit)).unwrap_or_else(all)
    }

    fn may_move(&self) -> bool {
        self.0.upgrade().is_some_and(|it| it.room_maker.get().is_some())
    }

    fn movable(&self, allocations: &[(AllocationId, bool)]) -> Vec<bool> {
        let ask = |py: Python<'_>| {
            let allocator = self.0.upgrade().filter(|it| !it.is_abandoned())?;
            Some(allocator.room_maker.get()?.movable(py, &allocator, allocations))
        };
        try_attach(ask).flatten().unwrap_or_else(|| vec![false; allocations.len()])
    }

    fn make_room(&self, room: &mut dyn Room) -> bool {
        let make = |py: Python<'_>| {
            let allocator = self.0.upgrade().filter(|it| !it.is_abandoned())?;
            Some(allocator.room_maker.get()?.make_room(py, &allocator, room))
        };
        try_attach(make).flatten() == Some(true)
    }
}

impl Resource {
    /// Whether a view, a transfer, a call, or what is bound to its memory keeps it from being lost.
    fn is_held(&self) -> bool {
        self.pins.is_closed() || self.has_users() || self.allocation().mapped.is_some()
    }
}

impl ResourceRef {
    /// Notes which memory it has; `before` is what it had until now. The caller has the GIL.
    pub(super) fn enter_as_losable(&self, before: Option<AllocationId>) {
        let id = self.allocation().id;
        self.allocator.losing().table.enter(id, self, before, |it| it.pins.is_closed());
    }
}

impl AllocatorState {
    /// What it has for losses, from the first resource on that may be lost.
    fn losing(self: &Arc<Self>) -> &Losing<Resource> {
        self.losing.get_or_init(|| {
            self.engine().set_eviction_owner(Some(Arc::new(Owner(Arc::downgrade(self)))));
            Box::default()
        })
    }

    /// Takes the memory of all resources that may be lost now, of one pool or of all; returns their number.
    pub fn make_allocations_lost(&self, py: Python<'_>, pool: Option<PoolId>) -> PyResult<usize> {
        let count = detach(py, || self.engine().make_allocations_lost(pool)).or_raise(py)?;
        self.tell_device_memory(py);
        self.raise_found(py)?;
        Ok(count)
    }

    /// Takes what was lost since the last call.
    pub fn take_lost(&self) -> Vec<WeakResourceRef> {
        self.losing.get().map_or_else(Vec::new, |it| std::mem::take(&mut *it.lost.lock()))
    }

    /// Ends resources whose memory the engine wants, unless something uses one of them: those are returned.
    /// `commit` takes the memory away, or does nothing and returns false.
    pub fn lose(
        &self,
        py: Python<'_>,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        let Some(losing) = self.losing.get().filter(|_| !self.is_abandoned()) else {
            return Err(victims.to_vec());
        };
        // What the device is done with does not hold anything.
        self.retire_background(py);
        if let Some(debugger) = self.debugger() {
            detach(py, || debugger.leaves(self, victims));
        }
        let (mut found, mut held) = (Vec::with_capacity(victims.len()), Vec::new());
        for id in victims {
            match losing.table.find(*id).filter(|it| it.allocation().id == *id) {
                Some(it) if !it.is_held() => found.push(it),
                other => {
                    // It is in use, which is a use in this frame.
                    if let Some(it) = other {
                        it.touch(py);
                    }
                    held.push(*id);
                }
            }
        }
        if !held.is_empty() {
            return Err(held);
        }
        // The engine forgets the names with the memory.
        let name = |it: &ResourceRef| {
            it.was_named.load(Ordering::Relaxed).then(|| it.name().ok().flatten()).flatten()
        };
        let names: Vec<Option<String>> = found.iter().map(name).collect();
        // From the look at the pins to here the GIL was held, and it is until they are closed.
        if !commit() {
            return Ok(false);
        }
        for (it, name) in found.iter().zip(names) {
            let closed = it.pins.close(py);
            debug_assert!(closed.is_ok(), "nothing uses what is lost");
            if let Some(losable) = it.losable() {
                losable.set_lost(py);
            }
            if let Some(name) = name {
                it.remember_name(name);
            }
        }
        {
            let mut live = self.live.lock();
            found.iter().for_each(|it| it.unlist_from(&mut live));
        }
        self.destroy_lost(py, &found);
        losing.lost.lock().extend(found.iter().map(ResourceRef::downgrade));
        self.engine().note_losses();
        Ok(true)
    }

    /// Destroys the buffers and images whose memory is gone: no frame in flight can use them, as none of them
    /// was used for as many frames.
    fn destroy_lost(&self, py: Python<'_>, lost: &[ResourceRef]) {
        let handles: Vec<ResourceHandle> = lost.iter().map(|it| it.handle()).collect();
        detach(py, || {
            self.events.tell_lost(lost);
            // Before the driver can reuse the handles.
            drop(self.device.bindings.remove_many(handles.iter().copied()));
            // SAFETY: the closed pins show that nothing uses them, and each is destroyed once.
            unsafe { self.device_allocator.destroy_handles(&handles) };
        });
    }
}
