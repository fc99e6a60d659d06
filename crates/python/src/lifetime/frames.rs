//! Frames in flight, and resources that wait until no frame in flight can use them.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_vulkan::ResourceHandle;

use vkmem_engine::recording::Told;
use vkmem_engine::{AllocationId, PoolKey};

use super::close::in_use;
use super::ownership::{
    AllocatorState, Collected, PendingRelease, Resource, ResourceRef, Waiting, WeakResourceRef,
};
use crate::observe::call_site::Origin;

/// Returns the number of frames from one index to another; `None` if `after` is not later. VMA's index has 32
/// bits, so it wraps around from the upper half of those to the lower one.
fn frames_between(before: u64, after: u64) -> Option<u64> {
    const HALF: u64 = 1 << 31;
    let wraps = (HALF..2 * HALF).contains(&before) && after < HALF;
    if after >= before { Some(after - before) } else { wraps.then(|| 2 * HALF - before + after) }
}

impl AllocatorState {
    /// Queues the handle and memory of an ended resource until no frame in flight can use them. Returns the
    /// bytes that will be freed.
    pub fn collect(&self, resource: &Resource) -> u64 {
        self.put_aside(resource, None)
    }

    /// Queues what is left of a resource that was retired while a view was open: until no frame in flight can use
    /// it and the view has ended.
    pub fn collect_viewed(&self, resource: &ResourceRef) {
        self.put_aside(resource, Some(resource.downgrade()));
    }

    fn put_aside(&self, resource: &Resource, viewed: Option<WeakResourceRef>) -> u64 {
        let (pending, origin) = (resource.pending_release(), resource.origin());
        let (usage, size, is_bound) = (resource.usage, pending.size, !resource.dont_bind);
        self.engine().tell_recorder(|| Told::Retire(resource.as_told()));
        let mut waiting = self.waiting.lock();
        let (frame, is_viewed) = (waiting.frames, viewed.is_some());
        let collected = Collected { frame, pending, usage, is_bound, origin, viewed };
        if is_viewed {
            waiting.viewed.push(collected);
        } else {
            waiting.collected.push(collected);
        }
        size
    }

    /// An exception if something that was retired in one of some pools has an open view.
    pub fn check_retired_views(
        &self,
        wanted: impl Fn(PoolKey) -> bool,
        owner: &str,
    ) -> PyResult<()> {
        // Dropped without the lock: they may be the last references.
        let mut looked_at = Vec::new();
        let waiting = self.waiting.lock();
        for it in waiting.viewed.iter().filter(|it| wanted(it.pending.pool_key())) {
            looked_at.extend(it.viewed.as_ref().and_then(WeakResourceRef::upgrade));
        }
        drop(waiting);
        in_use(&looked_at, owner)
    }

    /// Returns the number of queued resources, and the bytes they will free.
    pub fn waiting(&self) -> (usize, u64) {
        let waiting = self.waiting.lock();
        let count = waiting.collected.len() + waiting.viewed.len();
        let bytes: u64 = waiting.all().map(|it| it.pending.size).sum();
        drop(waiting);
        let left = self.moves().map_or_else(Vec::new, |moves| moves.left());
        (count + left.len(), bytes + left.iter().map(|it| it.1).sum::<u64>())
    }

    /// Returns allocation, usage and call site of each queued resource that has memory of its own.
    pub fn waiting_allocations(&self) -> Vec<(AllocationId, u64, Option<Origin>)> {
        let waiting = self.waiting.lock();
        let owners = waiting.all().filter(|it| it.pending.alias_of.is_none());
        let mut all: Vec<_> = owners.map(|it| (it.pending.id, it.usage, it.origin)).collect();
        drop(waiting);
        if let Some(moves) = self.moves() {
            all.extend(moves.left().into_iter().map(|(id, _, usage, origin)| (id, usage, origin)));
        }
        all
    }

    /// Returns handle, allocation, usage, whether it was bound when it was created, and call site of each queued
    /// resource.
    pub fn waiting_places(&self) -> Vec<(ResourceHandle, AllocationId, u64, bool, Option<Origin>)> {
        let waiting = self.waiting.lock();
        let places = waiting
            .all()
            .map(|it| (it.pending.handle, it.pending.id, it.usage, it.is_bound, it.origin));
        places.collect()
    }

    /// Returns the handles of all queued buffers and images.
    pub fn waiting_handles(&self) -> Vec<ResourceHandle> {
        let waiting = self.waiting.lock();
        let handles = waiting.all().map(|it| it.pending.handle);
        handles.filter(|it| *it != ResourceHandle::Memory).collect()
    }

    /// Returns the number of queued aliases of a resource.
    pub fn waiting_in(&self, resource: &Resource) -> u32 {
        let waiting = self.waiting.lock();
        let aliases = waiting.all().filter(|it| it.pending.lies_in(resource));
        aliases.fold(0, |count, _| count + 1)
    }

    /// Returns the index of the frame that is being recorded.
    pub fn current_frame(&self) -> u64 {
        self.frame.load(Ordering::Relaxed)
    }

    /// Returns the number of frames that the device may still be working on.
    pub fn frames_in_flight(&self) -> u64 {
        self.frames_in_flight
    }

    /// Returns the number of frames after which what was not used may be lost.
    pub fn frames_in_use(&self) -> u64 {
        self.frames_in_use
    }

    /// Begins a frame. Returns the number of frames begun so far, for [`take_unused`](Self::take_unused).
    ///
    /// # Errors
    /// The current index, if `frame` is lower.
    pub fn begin_frame(&self, frame: u64) -> Result<u64, u64> {
        let mut waiting = self.waiting.lock();
        let current = self.frame.load(Ordering::Relaxed);
        let more = frames_between(current, frame).ok_or(current)?;
        self.frame.store(frame, Ordering::Relaxed);
        waiting.frames = waiting.frames.saturating_add(more);
        self.engine().set_frame(waiting.frames);
        Ok(waiting.frames)
    }

    /// Returns the number of frames that have begun so far.
    pub fn frames_begun(&self) -> u64 {
        self.waiting.lock().frames
    }

    /// Whether no frame in flight can use what ended when so many frames had begun. Where no frame is ever begun,
    /// there are none in flight.
    pub fn is_unused_since(&self, frame: u64) -> bool {
        let begun = self.frames_begun();
        begun == 0 || frame.saturating_add(self.frames_in_flight) < begun
    }

    /// Whether there are frames in flight that could use what something has now.
    pub fn has_frames_in_flight(&self) -> bool {
        self.frames_in_flight > 0 && self.frames_begun() > 0
    }

    /// Removes and returns some queued resources that no frame in flight can use; to be called until empty.
    pub fn take_unused(&self, frames: u64) -> Vec<PendingRelease> {
        let unused = |it: &Collected| it.frame.saturating_add(self.frames_in_flight) < frames;
        // Dropped without the lock: they may be the last references.
        let looked_at = RefCell::new(Vec::new());
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        if !waiting.viewed.is_empty() {
            let is_free = |it: &Collected| {
                let Some(resource) = it.viewed.as_ref().and_then(WeakResourceRef::upgrade) else {
                    return true;
                };
                let is_free = !resource.has_users();
                looked_at.borrow_mut().push(resource);
                is_free
            };
            taken = waiting.viewed.take_all(|it| unused(it) && is_free(it));
        }
        // First those with a view, as their aliases: a later one may be what they lie in.
        if taken.is_empty() {
            taken = waiting.collected.take_first(unused);
        }
        drop(waiting);
        taken.into_iter().map(|it| it.pending).collect()
    }

    /// Removes and returns the queued resources of the `wanted` pools.
    pub fn take_collected(&self, wanted: impl Fn(PoolKey) -> bool) -> Vec<PendingRelease> {
        let mut waiting = self.waiting.lock();
        let mut taken = waiting.viewed.take_all(|it| wanted(it.pending.pool_key()));
        taken.extend(waiting.collected.take_all(|it| wanted(it.pending.pool_key())));
        taken.into_iter().map(|it| it.pending).collect()
    }
}

impl Waiting {
    /// All that waits.
    fn all(&self) -> impl Iterator<Item = &Collected> {
        self.viewed.iter().chain(self.collected.iter())
    }
}
