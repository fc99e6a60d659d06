//! Moves that make room for a request, at the cost of resources that may be lost.
//!
//! Only what no frame in flight uses moves: so nothing needs its old place once it is copied, and the request gets it
//! in the same call. All that can fail without harm is done before anything is lost: the plan, and the new handles,
//! which lie where the victims are until then. After the loss there are only the copies.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{Allocation, AllocationId, Error, Room};
use vkmem_vulkan::{Relocation, ResourceHandle, Submission, has_run};

use super::by_host::{copies_of_others, copy_by_host};
use super::callbacks;
use super::mover::{Mover, wait};
use super::obstacle::Obstacle;
use super::step::{Frozen, Moved, Planned, Step, check_margins, freeze, relocation, swap};
use crate::arguments::callback::Callback;
use crate::errors::{is_ours, to_py};
use crate::interpreter::detach;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::{
    AllocatorState, Resource, ResourceRef, RoomMaker, WeakResourceRef,
};

/// A move whose callbacks have not been called: the resource, where it was and where it is.
type Untold = (WeakResourceRef, Location, Location);

/// Moves resources to make room.
#[derive(Default)]
pub struct RoomMover(Mutex<Vec<Untold>, rank::Lost>);

impl RoomMover {
    /// Calls the callbacks of what has moved since the last call.
    pub fn call_back(&self, py: Python<'_>, of_allocator: &Callback) {
        let untold = std::mem::take(&mut *self.0.lock());
        let moved: Vec<Moved> = untold
            .into_iter()
            .filter_map(|(it, before, after)| {
                Some(Moved { resource: it.upgrade()?, before, after })
            })
            .collect();
        if !moved.is_empty() {
            callbacks::call(py, of_allocator, &moved);
        }
    }
}

/// Whether no frame in flight uses a resource.
fn is_idle(py: Python<'_>, resource: &Resource) -> bool {
    let allocator = &resource.allocator;
    match resource.losable().and_then(|it| it.last_use(py)) {
        Some(frame) => allocator.is_unused_since(frame),
        None => !allocator.has_frames_in_flight(),
    }
}

impl RoomMaker for RoomMover {
    fn movable(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        allocations: &[(AllocationId, bool)],
    ) -> Vec<bool> {
        if allocator.moving.is_mine() {
            return vec![false; allocations.len()];
        }
        // What the device is done with does not hold anything.
        allocator.retire_background(py);
        let all = !allocator.has_frames_in_flight();
        let can_move = |id: AllocationId| {
            allocator.movable_at(id).is_some_and(|it| Obstacle::of(&it).is_none())
        };
        allocations.iter().map(|&(id, is_idle)| (is_idle || all) && can_move(id)).collect()
    }

    fn make_room(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        room: &mut dyn Room,
    ) -> bool {
        let Ok(turn) = allocator.moving.enter(py) else { return false };
        let planned = match close(py, allocator, room) {
            Ok(planned) => planned,
            Err(in_the_way) => {
                room.refuse(&in_the_way);
                return true;
            }
        };
        let frozen = Frozen { py, planned: &planned, moved: Vec::new() };
        let relocations: Vec<Relocation<'_>> = planned.iter().filter_map(relocation).collect();
        let made = detach(py, || {
            check_margins(allocator, &planned);
            // SAFETY: the destinations lie in a live block. Until the victims there have ended, the handles are not
            // used.
            unsafe { allocator.device_allocator.recreate(&relocations) }
        });
        let Ok(handles) = made else { return false };
        let victims = room.victims().to_vec();
        let lost = allocator.lose(py, &victims, &mut || room.commit());
        if lost != Ok(true) {
            destroy(py, allocator, &handles);
            room.refuse(&lost.err().unwrap_or_default());
            return true;
        }
        let failure = match copy(py, allocator, room, &planned, &relocations, &handles) {
            Ok(failure) => failure,
            Err(error) => {
                destroy(py, allocator, &handles);
                print(py, &error);
                return true;
            }
        };
        let places: Vec<Option<Allocation>> =
            (0..planned.len()).map(|index| room.settle(index)).collect();
        let mut step = Step::default();
        swap(py, allocator, &planned, &handles, &places, &mut step);
        drop(frozen);
        drop(turn);
        for it in &step.moved {
            it.resource.enter_after_move_from(it.before.allocation.id);
        }
        let all = handles.iter().zip(&places);
        let unwanted: Vec<ResourceHandle> =
            all.filter(|(_, place)| place.is_none()).map(|(handle, _)| *handle).collect();
        destroy(py, allocator, &unwanted);
        leave(py, allocator, room, &step.moved);
        callbacks::tell(allocator, &step.moved);
        let untold = step.moved.iter().map(|it| (it.resource.downgrade(), it.before, it.after));
        self.0.lock().extend(untold);
        allocator.engine().note_losses();
        if let Some(failure) = failure {
            print(py, &failure);
        }
        true
    }
}

/// Closes to others what is to move; or returns what is in use.
fn close(
    py: Python<'_>,
    allocator: &AllocatorState,
    room: &dyn Room,
) -> Result<Vec<Planned>, Vec<AllocationId>> {
    let (mut planned, mut in_the_way) = (Vec::new(), Vec::new());
    for it in room.moves() {
        let found = allocator.movable_at(it.source.id);
        match found.filter(|resource| is_idle(py, resource) && freeze(py, resource).is_ok()) {
            Some(resource) => planned.push(Planned { resource, destination: it.destination }),
            None => in_the_way.push(it.source.id),
        }
    }
    if in_the_way.is_empty() {
        return Ok(planned);
    }
    // Opens those that were closed.
    drop(Frozen { py, planned: &planned, moved: Vec::new() });
    Err(in_the_way)
}

/// Copies what moves, and waits for the copies. Returns an error after them; an error before leaves everything where it
/// was.
fn copy(
    py: Python<'_>,
    allocator: &AllocatorState,
    room: &dyn Room,
    planned: &[Planned],
    relocations: &[Relocation<'_>],
    handles: &[ResourceHandle],
) -> Result<Option<Error>, Error> {
    // With the ids of the destinations, which are known since the commit.
    let destinations: Vec<Allocation> = room.moves().iter().map(|it| it.destination).collect();
    detach(py, || {
        let moves = planned.iter().map(|it| &*it.resource).zip(&destinations);
        let by_host = copy_by_host(allocator, moves)?;
        let commands = copies_of_others(relocations, handles, &by_host);
        if commands.is_empty() {
            return Ok(None);
        }
        let driver = allocator.device_allocator.driver();
        // SAFETY: nothing uses the resources, as they are closed, and both places stay until the submission has ended.
        let (submission, failure) = has_run(unsafe { driver.submit(&commands) })?;
        wait(&**driver, submission);
        Ok(failure.map(Error::from))
    })
}

/// Destroys the old handles. What was touched while it moved may be used by the current frame at its old place: there
/// that stays until no frame in flight can use it.
fn leave(py: Python<'_>, allocator: &AllocatorState, room: &mut dyn Room, moved: &[Moved]) {
    let index_of: std::collections::HashMap<AllocationId, usize> =
        room.moves().iter().enumerate().map(|(index, it)| (it.source.id, index)).collect();
    let (mut unused, mut left) = (Vec::new(), Vec::new());
    for it in moved {
        if is_idle(py, &it.resource) {
            unused.push(it.before.handle);
        } else if let Some(&index) = index_of.get(&it.before.allocation.id) {
            room.keep_source(index);
            left.push(it.left(true));
        }
    }
    let told: Vec<_> = moved.iter().map(|it| (it.before.handle, it.after.handle)).collect();
    detach(py, || allocator.device_allocator.driver().moved(&told));
    if !left.is_empty() {
        let none: Vec<ResourceRef> = Vec::new();
        Mover::of(allocator).add(allocator, Submission::NONE, none, left, &Arc::default());
    }
    // Before the driver can reuse the handles.
    drop(allocator.device.bindings.remove_many(unused.iter().copied()));
    destroy(py, allocator, &unused);
}

fn destroy(py: Python<'_>, allocator: &AllocatorState, handles: &[ResourceHandle]) {
    if !handles.is_empty() {
        // SAFETY: nothing uses them: no copy that has not ended, and no frame in flight.
        detach(py, || unsafe { allocator.device_allocator.destroy_handles(handles) });
    }
}

/// Prints an exception of the program, such as that of a queue lock: errors of the moves are of no interest beside
/// that of the request.
fn print(py: Python<'_>, error: &Error) {
    let error = to_py(py, error);
    if !is_ours(py, &error) {
        error.write_unraisable(py, None);
    }
}
