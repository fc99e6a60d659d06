//! One step: resources get new handles at their destinations, and the device copies what is in them.

use std::sync::Arc;

use ash::vk::ImageLayout;
use pyo3::prelude::*;
use vkmem_engine::{Allocation, Error};
use vkmem_vulkan::{Relocation, ResourceHandle, Submission, has_run, layout_after};

use super::by_host::{copies_of_others, copy_by_host};
use super::mover::{FreedCounts, Left, Mover, wait};
use super::obstacle::Obstacle;
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::location::Location;
use crate::lifetime::movable::MoveTurn;
use crate::lifetime::ownership::{AllocatorState, Resource, ResourceRef};

const UNDEFINED: ImageLayout = ImageLayout::UNDEFINED;

/// Copies of so many resources are submitted together, so that the device need not wait for the handles of all of a
/// step: a submission takes as long as creating some handles.
const SUBMITTED_TOGETHER: usize = 32;

/// A resource, and the memory that was allocated for it elsewhere.
pub struct Planned {
    /// What is to move.
    pub resource: ResourceRef,
    /// Where to.
    pub destination: Allocation,
}

/// A resource that has moved.
pub struct Moved {
    /// What has moved.
    pub resource: ResourceRef,
    /// Where it was.
    pub before: Location,
    /// Where it is.
    pub after: Location,
}

impl Moved {
    /// What is left at the old place: the handle, and the memory unless the new place has taken it over.
    pub(super) fn left(&self, has_memory: bool) -> Left {
        Left {
            handle: self.before.handle,
            id: self.before.allocation.id,
            has_memory,
            size: self.before.allocation.size,
            usage: self.resource.usage,
            origin: self.resource.origin(),
        }
    }
}

/// What a step did.
#[derive(Default)]
pub struct Step {
    /// What has moved.
    pub moved: Vec<Moved>,
    /// What has not, and why.
    pub stayed: Vec<(Planned, Obstacle)>,
    /// An error after the contents were copied, such as that of a queue lock that could not be unlocked: what has
    /// moved has moved.
    pub failure: Option<PyErr>,
}

impl Step {
    /// Adds what another step did.
    pub fn add(&mut self, other: Self) {
        self.moved.extend(other.moved);
        self.stayed.extend(other.stayed);
        self.failure = self.failure.take().or(other.failure);
    }
}

/// Resources that nothing else can use until this is dropped.
pub(super) struct Frozen<'a, 'py> {
    pub py: Python<'py>,
    pub planned: &'a [Planned],
    /// Whether each has moved: those have a pin when they are opened again.
    pub moved: Vec<bool>,
}

impl Drop for Frozen<'_, '_> {
    fn drop(&mut self) {
        for (index, it) in self.planned.iter().enumerate() {
            let has_moved = self.moved.get(index).is_some_and(|it| *it);
            it.resource.pins.end_move(self.py, has_moved);
        }
    }
}

/// Closes a resource to all others for a move; says what is in the way.
pub(super) fn freeze(py: Python<'_>, resource: &Resource) -> Result<(), Obstacle> {
    match Obstacle::of(resource) {
        Some(why) => Err(why),
        None if resource.pins.begin_move(py) => Ok(()),
        None => Err(Obstacle::InUse),
    }
}

/// What the plan says of a destination when the copy to it was submitted: the memory as it is from then on, with
/// the name of the old one. An error where the resource has to stay.
pub type Commit<'a> = &'a mut dyn FnMut(&Planned) -> Result<Allocation, Error>;

/// Moves resources to their destinations. Those that something uses at the moment stay, and are returned with the
/// reason. After an error all of them are where they were. The caller frees the destinations of what stays.
///
/// The device may still be copying when this returns: what is left at the old places is with the [`Mover`], and
/// released for the counts of a run.
pub fn run(
    py: Python<'_>,
    allocator: &Arc<AllocatorState>,
    _turn: &MoveTurn<'_>,
    planned: Vec<Planned>,
    counts: &Arc<FreedCounts>,
    commit: Commit<'_>,
) -> PyResult<Step> {
    let (mut step, mut ready) = (Step::default(), Vec::new());
    for it in planned {
        match freeze(py, &it.resource) {
            Ok(()) => ready.push(it),
            Err(why) => step.stayed.push((it, why)),
        }
    }
    let mut frozen = Frozen { py, planned: &ready, moved: Vec::new() };
    if ready.is_empty() {
        return Ok(step);
    }
    let submitted = detach(py, || create_and_copy(allocator, &ready));
    let Copied { handles, submission, failure } = submitted.map_err(|error| to_py(py, &error))?;
    step.failure = failure.map(|error| to_py(py, &error));
    let places: Vec<Option<Allocation>> = ready.iter().map(|it| commit(it).ok()).collect();
    swap(py, allocator, &ready, &handles, &places, &mut step);
    let told: Vec<_> = step.moved.iter().map(|it| (it.before.handle, it.after.handle)).collect();
    let all = handles.iter().zip(&places);
    let unwanted: Vec<ResourceHandle> =
        all.filter(|(_, place)| place.is_none()).map(|(handle, _)| *handle).collect();
    // Other threads run meanwhile, and wait for what is frozen: also for what stays, as copies read it.
    detach(py, || {
        allocator.device_allocator.driver().moved(&told);
        if !unwanted.is_empty() {
            undo(allocator, submission, &unwanted);
        }
    });
    // The device writes to what has moved from now on.
    frozen.moved = places.iter().map(Option::is_some).collect();
    drop(frozen);
    for it in &step.moved {
        it.resource.enter_after_move_from(it.before.allocation.id);
    }
    // Before other threads run: what they find in use is either frozen or in flight.
    let left = step.moved.iter().map(|it| it.left(true));
    let resources = step.moved.iter().map(|it| it.resource.clone()).collect();
    Mover::of(allocator).add(allocator, submission, resources, left.collect(), counts);
    let stayed = ready.into_iter().zip(&places).filter(|(_, place)| place.is_none());
    step.stayed.extend(stayed.map(|(it, _)| (it, Obstacle::InUse)));
    Ok(step)
}

/// Waits for copies that are not wanted any more, and destroys the handles that they write to.
fn undo(allocator: &AllocatorState, submission: Submission, handles: &[ResourceHandle]) {
    let allocator = &allocator.device_allocator;
    wait(&**allocator.driver(), submission);
    // SAFETY: created for this step, and the copies have ended.
    unsafe { allocator.destroy_handles(handles) };
}

/// What moves where, and how it was created.
pub(super) fn relocation(it: &Planned) -> Option<Relocation<'_>> {
    Some(Relocation {
        kept: &it.resource.movable()?.kept,
        source: it.resource.handle(),
        destination: it.destination,
        pool: it.destination.id.pool_key(),
        layout: it.resource.movable_layout().map_or(UNDEFINED, |layout| layout.get()),
    })
}

/// New handles, and what copies to them.
pub(super) struct Copied {
    pub handles: Vec<ResourceHandle>,
    pub submission: Submission,
    /// An error after the copies: they have been made.
    pub failure: Option<Error>,
}

/// Creates the new handles, and submits the copies to them: the device copies the first while the handles of the
/// others are created. After an error nothing is left of it.
fn create_and_copy(allocator: &AllocatorState, ready: &[Planned]) -> Result<Copied, Error> {
    let handles = Vec::with_capacity(ready.len());
    let mut all = Copied { handles, submission: Submission::NONE, failure: None };
    for together in ready.chunks(SUBMITTED_TOGETHER) {
        match create_and_submit(allocator, together) {
            Ok(made) => {
                all.handles.extend(made.handles);
                all.submission = all.submission.max(made.submission);
                all.failure = all.failure.or(made.failure);
            }
            Err(error) => {
                undo(allocator, all.submission, &all.handles);
                return Err(error);
            }
        }
    }
    Ok(all)
}

fn create_and_submit(allocator: &AllocatorState, ready: &[Planned]) -> Result<Copied, Error> {
    let relocations: Vec<Relocation<'_>> = ready.iter().filter_map(relocation).collect();
    let device_allocator = &allocator.device_allocator;
    let moves = ready.iter().map(|it| (&*it.resource, &it.destination));
    let by_host = copy_by_host(allocator, moves)?;
    // SAFETY: the destinations were allocated for this, and nothing else knows them.
    let handles = unsafe { device_allocator.recreate(&relocations)? };
    let commands = copies_of_others(&relocations, &handles, &by_host);
    if commands.is_empty() {
        return Ok(Copied { handles, submission: Submission::NONE, failure: None });
    }
    // SAFETY: nothing uses the resources, as they are closed, and both places stay until the submission has
    // ended.
    let submitted = unsafe { device_allocator.driver().submit(&commands) };
    match has_run(submitted) {
        Ok((submission, failure)) => {
            Ok(Copied { handles, submission, failure: failure.map(Error::from) })
        }
        Err(error) => {
            // SAFETY: nothing was submitted, or has ended.
            unsafe { device_allocator.destroy_handles(&handles) };
            Err(error.into())
        }
    }
}

/// Puts the new handles and places where the old ones were.
pub(super) fn swap(
    py: Python<'_>,
    allocator: &AllocatorState,
    ready: &[Planned],
    handles: &[ResourceHandle],
    places: &[Option<Allocation>],
    step: &mut Step,
) {
    let mut live = allocator.live.lock();
    for ((it, handle), place) in ready.iter().zip(handles).zip(places) {
        let Some(place) = place else { continue };
        let after = Location { handle: *handle, allocation: *place };
        let before = it.resource.relocate(py, &mut live, after);
        step.moved.push(Moved { resource: it.resource.clone(), before, after });
    }
    let is_complete = allocator.device.bindings.is_complete();
    drop(live);
    for layout in step.moved.iter().filter_map(|it| it.resource.movable_layout()) {
        layout.set(layout_after(layout.get()));
    }
    let entries = step.moved.iter().map(|it| (it.after.handle, false));
    if allocator.device.bindings.enter(entries, is_complete).is_err() {
        // The next bind of an unknown handle looks at all live resources once more.
        allocator.device.bindings.set_incomplete();
    }
    if let Some(debugger) = allocator.debugger() {
        let moved: Vec<_> =
            step.moved.iter().map(|it| (it.before.allocation.id, it.after)).collect();
        detach(py, || debugger.moved(allocator, &moved));
    }
}

/// Checks the margins of what is about to overwrite them, or to be freed with them. The GIL is not held.
pub(super) fn check_margins(allocator: &AllocatorState, ready: &[Planned]) {
    if let Some(debugger) = allocator.debugger() {
        let ids: Vec<_> = ready.iter().map(|it| it.resource.allocation().id).collect();
        debugger.leaves(allocator, &ids);
    }
}
