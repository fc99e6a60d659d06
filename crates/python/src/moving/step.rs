//! One step: resources get new handles at their destinations, and the device copies what is in them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ash::vk::ImageLayout;
use pyo3::prelude::*;
use vkmem_engine::{Allocation, Error};
use vkmem_vulkan::{Relocation, ResourceHandle, Submission, layout_after};

use super::mover::{Left, Mover};
use super::obstacle::Obstacle;
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::{AllocatorState, Resource, ResourceRef};

const UNDEFINED: ImageLayout = ImageLayout::UNDEFINED;

/// A resource, and the memory that was allocated for it elsewhere.
pub struct Planned {
    /// What is to move.
    pub resource: ResourceRef,
    /// Where to; freed if it does not move.
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

/// What a step did.
#[derive(Default)]
pub struct Step {
    /// What has moved.
    pub moved: Vec<Moved>,
    /// Why the others have not.
    pub obstacles: Vec<Obstacle>,
}

/// Resources that nothing else can use until this is dropped.
struct Frozen<'a, 'py> {
    py: Python<'py>,
    planned: &'a [Planned],
    /// Pins of each when it is opened again.
    pinned: bool,
}

impl Drop for Frozen<'_, '_> {
    fn drop(&mut self) {
        for it in self.planned {
            it.resource.pins.end_move(self.py, self.pinned);
        }
    }
}

/// Frees destinations that nothing has moved to.
pub fn cancel(py: Python<'_>, allocator: &AllocatorState, planned: &[Planned]) {
    if planned.is_empty() {
        return;
    }
    let ids: Vec<_> = planned.iter().map(|it| it.destination.id).collect();
    detach(py, || drop(allocator.engine().free_many(&ids)));
    allocator.tell_device_memory(py);
}

/// Closes a resource to all others for a move; says what is in the way.
fn freeze(py: Python<'_>, resource: &Resource) -> Result<(), Obstacle> {
    match Obstacle::of(resource) {
        Some(why) => Err(why),
        None if resource.pins.begin_move(py) => Ok(()),
        None => Err(Obstacle::InUse),
    }
}

/// Moves resources to their destinations; those that something uses at the moment stay, and their destinations
/// are freed. After an error all of them are where they were, and every destination is free.
///
/// The device may still be copying when this returns: what it left behind is with the [`Mover`].
pub fn run(
    py: Python<'_>,
    allocator: &Arc<AllocatorState>,
    planned: Vec<Planned>,
) -> PyResult<Step> {
    let turn = match allocator.moving.enter(py) {
        Ok(turn) => turn,
        Err(why) => {
            cancel(py, allocator, &planned);
            return Err(why);
        }
    };
    let (mut step, mut ready, mut stay) = (Step::default(), Vec::new(), Vec::new());
    for it in planned {
        match freeze(py, &it.resource) {
            Ok(()) => ready.push(it),
            Err(why) => {
                step.obstacles.push(why);
                stay.push(it);
            }
        }
    }
    let mut frozen = Frozen { py, planned: &ready, pinned: false };
    cancel(py, allocator, &stay);
    drop(stay);
    if ready.is_empty() {
        return Ok(step);
    }
    let submitted = detach(py, || create_and_copy(allocator, &ready));
    let (handles, submission) = match submitted {
        Ok(submitted) => submitted,
        Err(error) => {
            drop(frozen);
            drop(turn);
            cancel(py, allocator, &ready);
            return Err(to_py(py, &error));
        }
    };
    swap(py, allocator, &ready, &handles, &mut step);
    // The device writes to them from now on.
    frozen.pinned = true;
    drop(frozen);
    let left = step.moved.iter().map(|it| Left {
        handle: it.before.handle,
        id: it.before.allocation.id,
        size: it.before.allocation.size,
        usage: it.resource.usage,
        origin: it.resource.origin(),
    });
    let resources = step.moved.iter().map(|it| it.resource.clone()).collect();
    Mover::of(allocator).add(allocator, submission, resources, left.collect());
    drop(turn);
    Ok(step)
}

/// Creates the new handles, and submits the copies to them.
fn create_and_copy(
    allocator: &AllocatorState,
    ready: &[Planned],
) -> Result<(Vec<ResourceHandle>, Submission), Error> {
    let relocations: Vec<Relocation<'_>> = ready
        .iter()
        .filter_map(|it| {
            Some(Relocation {
                kept: &it.resource.movable()?.kept,
                source: it.resource.handle(),
                destination: it.destination,
                layout: it.resource.movable_layout().map_or(UNDEFINED, |layout| layout.get()),
            })
        })
        .collect();
    let device_allocator = &allocator.device_allocator;
    // SAFETY: the destinations were allocated for this, and nothing else knows them.
    let handles = unsafe { device_allocator.recreate(&relocations)? };
    let mut commands = Vec::new();
    for (relocation, handle) in relocations.iter().zip(&handles) {
        relocation.add_copies(*handle, &mut commands);
    }
    if commands.is_empty() {
        return Ok((handles, Submission::NONE));
    }
    // SAFETY: nothing uses the resources, as they are closed, and both places stay until the submission has
    // ended.
    match unsafe { device_allocator.driver().submit(&commands) } {
        Ok(submission) => Ok((handles, submission)),
        Err(error) => {
            // SAFETY: nothing was submitted, or has ended.
            unsafe { device_allocator.destroy_handles(&handles) };
            Err(error.into())
        }
    }
}

/// Puts the new handles and places where the old ones were.
fn swap(
    py: Python<'_>,
    allocator: &AllocatorState,
    ready: &[Planned],
    handles: &[ResourceHandle],
    step: &mut Step,
) {
    let mut live = allocator.live.lock();
    for (it, handle) in ready.iter().zip(handles) {
        let after = Location { handle: *handle, allocation: it.destination };
        let before = it.resource.relocate(py, &mut live, after);
        step.moved.push(Moved { resource: it.resource.clone(), before, after });
    }
    let is_complete = allocator.device.bindings.is_complete();
    drop(live);
    for it in &step.moved {
        // Memory that nothing has moved from has no name to take along.
        if it.resource.was_named.load(Ordering::Relaxed)
            && let Ok(name) = allocator.engine().name(it.before.allocation.id)
        {
            let _ = allocator.engine().set_name(it.after.allocation.id, name.as_deref());
        }
    }
    for layout in ready.iter().filter_map(|it| it.resource.movable_layout()) {
        layout.set(layout_after(layout.get()));
    }
    let entries = handles.iter().map(|handle| (*handle, false));
    if allocator.device.bindings.enter(entries, is_complete).is_err() {
        // The next bind of an unknown handle looks at all live resources once more.
        allocator.device.bindings.set_incomplete();
    }
}
