//! Telling the program which resources were lost.

use pyo3::prelude::*;

use super::resource::ResourceObject;
use crate::arguments::callback::current;
use crate::arguments::calls::Calls;
use crate::lifetime::ownership::{AllocatorState, WeakResourceRef};

/// Calls the callbacks of the resources that were lost since the last call, each once, and that of their allocator.
/// Exceptions are printed: the memory is gone.
#[cold]
pub fn call(py: Python<'_>, state: &AllocatorState) {
    let lost = state.take_lost();
    if lost.is_empty() {
        return;
    }
    if let Err(error) = try_call(py, state, &lost) {
        error.write_unraisable(py, None);
    }
}

fn try_call(py: Python<'_>, state: &AllocatorState, lost: &[WeakResourceRef]) -> PyResult<()> {
    let mut calls = Calls::new(py, current(py, &state.on_lost));
    for it in lost {
        // Without its object nobody can be interested.
        let Some(resource) = it.upgrade() else { continue };
        let Some(object) = ResourceObject::of_lost(py, &resource) else { continue };
        let callbacks = object.get().loss_callbacks(py);
        calls.add(&object, callbacks.into_iter().flatten())?;
    }
    calls.make();
    Ok(())
}
