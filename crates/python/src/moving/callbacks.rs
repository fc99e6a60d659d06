//! Telling listeners and the program what has moved.

use pyo3::prelude::*;

use super::step::Moved;
use crate::arguments::callback::{Callback, current};
use crate::arguments::calls::Calls;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::resource::ResourceObject;
use crate::observe::event::{Event, EventKind, Relocated};
use crate::package::{LOCATION, MOVE};

/// A `Location` of Python.
pub fn location<'py>(py: Python<'py>, it: &Location) -> PyResult<Bound<'py, PyAny>> {
    let place = &it.allocation;
    LOCATION.get(py)?.call1((place.memory.0, place.offset, place.size, place.memory_type_index))
}

/// Tells listeners that resources have moved.
pub fn tell(allocator: &AllocatorState, moved: &[Moved]) {
    if moved.is_empty() || !allocator.events.is_heard(EventKind::Move) {
        return;
    }
    let relocated = |it: &Moved| Relocated {
        before: it.before.allocation.id,
        after: it.after.allocation.id,
        size: it.after.allocation.size,
        handle_before: it.before.handle,
        handle: it.after.handle,
        place: it.after.allocation,
    };
    let moved: Vec<Relocated> = moved.iter().map(relocated).collect();
    allocator.events.tell(EventKind::Move, || Event::Move(&moved));
}

/// Calls the callbacks of the resources that have moved, each once, and that of their allocator. Exceptions are
/// printed: the move has taken place.
pub fn call(py: Python<'_>, of_allocator: &Callback, moved: &[Moved]) {
    if let Err(error) = try_call(py, of_allocator, moved) {
        error.write_unraisable(py, None);
    }
}

fn try_call(py: Python<'_>, of_allocator: &Callback, moved: &[Moved]) -> PyResult<()> {
    let mut calls = Calls::new(py, current(py, of_allocator));
    for it in moved {
        // Without its object nobody can be interested.
        let Some(object) = ResourceObject::of_movable(py, &it.resource) else { continue };
        let callback = object.get().move_callback(py);
        if callback.is_none() && !calls.has_one_of_all() {
            continue;
        }
        let (before, after) = (location(py, &it.before)?, location(py, &it.after)?);
        let (old, new) = (it.before.handle.raw(), it.after.handle.raw());
        let told = MOVE.get(py)?.call1((object, old, new, before, after))?;
        calls.add(&told, callback)?;
    }
    calls.make();
    Ok(())
}
