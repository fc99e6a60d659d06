//! A run of defragmentation whose copies the caller makes: VMA's protocol of passes and moves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{
    AllocationId, Defragmentation, DefragmentationInfo, DefragmentationStatistics, Error, Move,
};
use vkmem_vulkan::{Relocation, ResourceHandle, kept_info::KeptInfo};

use super::callbacks;
use super::obstacle::Obstacle;
use super::step::Moved;
use crate::interpreter::detach;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::{AllocatorState, Background, Resource, ResourceRef};

/// What a run has of its allocator.
struct State {
    /// `None` after its end, and while a call uses it.
    plan: Option<Defragmentation>,
    has_ended: bool,
    /// What was done when the plan was taken out.
    done: DefragmentationStatistics,
    /// Handles that were bound to destinations of moves that have not ended.
    handles: Vec<(AllocationId, ResourceHandle)>,
}

/// A run that goes on until the caller ends it, or its allocator is closed.
pub struct ProtocolRun(Mutex<State, rank::Protocol>);

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The resource has its new place.
    Moved,
    /// It stays, for a reason if it should have moved.
    Stayed(Option<Obstacle>),
}

impl ProtocolRun {
    /// Begins a run.
    pub fn begin(
        allocator: &AllocatorState,
        info: &DefragmentationInfo,
    ) -> Result<Arc<Self>, Error> {
        let plan = Some(allocator.engine().begin_defragmentation(info)?);
        let (done, handles) = Default::default();
        let run = Arc::new(Self(Mutex::new(State { plan, has_ended: false, done, handles })));
        allocator.background.lock().push(run.clone());
        Ok(run)
    }

    /// Calls a function with the plan, outside of the lock, as that may call the driver; `None` after the end.
    /// One call does so at a time: `Defragmentation` sees to that.
    fn with_plan<T>(&self, call: impl FnOnce(&mut Defragmentation) -> T) -> Option<T> {
        let mut plan = {
            let mut state = self.0.lock();
            let plan = state.plan.take()?;
            state.done = plan.statistics();
            plan
        };
        let done = call(&mut plan);
        self.0.lock().plan = Some(plan);
        Some(done)
    }

    /// The moves of the next pass; none after the end.
    pub fn next_pass(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        may_move: impl Fn(AllocationId) -> bool + Send + Sync,
    ) -> Vec<Move> {
        let moves =
            detach(py, || self.with_plan(|plan| allocator.engine().next_pass(plan, &may_move)));
        moves.unwrap_or_default()
    }

    /// Creates the handle of a resource once more, and binds it to the destination of its move.
    pub fn create_handle(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        it: &Move,
        kept: &KeptInfo,
        source: ResourceHandle,
    ) -> Result<ResourceHandle, Error> {
        let layout = ash::vk::ImageLayout::UNDEFINED;
        let (destination, pool) = (it.destination, it.destination.id.pool_key());
        let relocation = Relocation { kept, source, destination, pool, layout };
        // SAFETY: the destination is reserved for this move, and nothing is bound to it.
        let made = detach(py, || unsafe { allocator.device_allocator.recreate(&[relocation]) })?;
        let handle = made[0];
        self.0.lock().handles.push((it.destination.id, handle));
        Ok(handle)
    }

    /// Destroys the handle that was bound to a destination, if any: its move ended while it was created.
    pub fn destroy_handle(&self, py: Python<'_>, allocator: &AllocatorState, it: &Move) {
        if let Some(handle) = self.take_handle(it.destination.id) {
            // SAFETY: created for this move, and nobody knows it.
            detach(py, || unsafe { allocator.device_allocator.destroy_handles(&[handle]) });
        }
    }

    /// The handle that was bound to a destination.
    pub fn handle_of(&self, destination: AllocationId) -> Option<ResourceHandle> {
        let state = self.0.lock();
        state.handles.iter().find(|(id, _)| *id == destination).map(|(_, handle)| *handle)
    }

    fn take_handle(&self, destination: AllocationId) -> Option<ResourceHandle> {
        let handles = &mut self.0.lock().handles;
        let at = handles.iter().position(|(id, _)| *id == destination)?;
        Some(handles.swap_remove(at).1)
    }

    /// Ends a move with the resource where it was.
    pub fn cancel(&self, py: Python<'_>, allocator: &AllocatorState, it: &Move) {
        let handle = self.take_handle(it.destination.id);
        detach(py, || {
            if let Some(handle) = handle {
                // SAFETY: created for this move, and the caller has no use for it any more.
                unsafe { allocator.device_allocator.destroy_handles(&[handle]) };
            }
            drop(self.with_plan(|plan| allocator.engine().cancel_move(plan, it)));
        });
        allocator.tell_device_memory(py);
    }

    /// Ends a move with the resource at its destination, to which the caller has copied it; its old handle and
    /// place are released. It stays if something uses it by now.
    pub fn commit(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        it: &Move,
        resource: &ResourceRef,
    ) -> PyResult<Outcome> {
        let turn = allocator.moving.enter(py)?;
        let in_the_way = Obstacle::of_use(resource)
            .or_else(|| (!resource.pins.begin_move(py)).then_some(Obstacle::InUse));
        if in_the_way.is_some() {
            drop(turn);
            self.cancel(py, allocator, it);
            return Ok(Outcome::Stayed(in_the_way));
        }
        let committed = self.with_plan(|plan| allocator.engine().commit_move(plan, it));
        let Some(Ok(place)) = committed else {
            resource.pins.end_move(py, false);
            drop(turn);
            self.cancel(py, allocator, it);
            return Ok(Outcome::Stayed(Some(Obstacle::InUse)));
        };
        let handle = self.take_handle(it.destination.id).unwrap_or(ResourceHandle::Memory);
        let after = Location { handle, allocation: place };
        let (before, is_complete) = {
            let mut live = allocator.live.lock();
            let before = resource.relocate(py, &mut live, after);
            (before, allocator.device.bindings.is_complete())
        };
        let entries = std::iter::once((handle, false));
        if allocator.device.bindings.enter(entries, is_complete).is_err() {
            allocator.device.bindings.set_incomplete();
        }
        if let Some(debugger) = allocator.debugger() {
            let moved = [(before.allocation.id, after)];
            detach(py, || debugger.moved(allocator, &moved));
        }
        resource.pins.end_move(py, false);
        drop(turn);
        resource.enter_after_move_from(before.allocation.id);
        detach(py, || allocator.device_allocator.driver().moved(&[(before.handle, handle)]));
        let moved = [Moved { resource: resource.clone(), before, after }];
        callbacks::tell(allocator, &moved);
        detach(py, || self.release(allocator, &before));
        allocator.tell_device_memory(py);
        Ok(Outcome::Moved)
    }

    /// Releases what was left where a resource was.
    fn release(&self, allocator: &AllocatorState, before: &Location) {
        if let Some(debugger) = allocator.debugger() {
            debugger.frees_left(allocator, &[before.allocation.id]);
        }
        // Before the driver can reuse the handle.
        drop(allocator.device.bindings.remove(before.handle));
        // SAFETY: the caller of the pass guarantees that the device does not use it any more.
        let release = unsafe {
            allocator.device_allocator.destroy(before.handle, Some(before.allocation.id))
        };
        self.with_plan(|plan| plan.count_release(&release));
        drop(release);
    }

    /// What was done so far.
    pub fn statistics(&self) -> DefragmentationStatistics {
        let state = self.0.lock();
        state.plan.as_ref().map_or(state.done, Defragmentation::statistics)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.lock().has_ended
    }

    /// Ends it: moves that have not ended are given up.
    pub fn end(self: &Arc<Self>, allocator: &AllocatorState) {
        let this: *const Self = &raw const **self;
        let is_other = |it: &Arc<dyn Background>| Arc::as_ptr(it).cast::<()>() != this.cast();
        allocator.background.lock().retain(is_other);
        self.give_back(allocator);
    }

    fn give_back(&self, allocator: &AllocatorState) {
        let (plan, handles) = {
            let mut state = self.0.lock();
            state.has_ended = true;
            (state.plan.take(), std::mem::take(&mut state.handles))
        };
        let handles: Vec<ResourceHandle> = handles.into_iter().map(|(_, handle)| handle).collect();
        // SAFETY: created for moves that do not take place.
        unsafe { allocator.device_allocator.destroy_handles(&handles) };
        if let Some(plan) = plan {
            let done = allocator.engine().end_defragmentation(plan);
            self.0.lock().done = done;
        }
    }
}

impl Background for ProtocolRun {
    fn retire(&self, _: Python<'_>, _: &AllocatorState) {}

    fn uses(&self, _: &Resource) -> bool {
        false
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn settle(&self, _: Python<'_>, _: &AllocatorState, _: Option<Instant>) -> PyResult<bool> {
        Ok(true)
    }

    fn end(&self, allocator: &AllocatorState) {
        self.give_back(allocator);
    }
}

/// Whether a resource of the caller's choice can move: nothing uses it, and its memory is its own.
pub fn can_move(resource: &Resource) -> bool {
    Obstacle::of_use(resource).is_none()
        && resource.alias().is_none()
        && !resource.dont_bind
        && !resource.holds_memory()
        && resource.bound_here.load(Ordering::Acquire) == 0
}
