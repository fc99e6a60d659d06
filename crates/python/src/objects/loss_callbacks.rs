//! Telling the program which resources were lost.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::resource::ResourceObject;
use crate::arguments::callback::current;
use crate::lifetime::ownership::{AllocatorState, WeakResourceRef};
use crate::process::forks::in_one_process;

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
    let of_allocator = current(py, &state.on_lost);
    let mut all = Vec::new();
    // By the identity of the callback: one that many resources have is called once.
    let mut by_callback: Vec<(Bound<'_, PyAny>, Bound<'_, PyList>)> = Vec::new();
    let places = PyDict::new(py);
    for it in lost {
        // Without its object nobody can be interested.
        let Some(resource) = it.upgrade() else { continue };
        let Some(object) = ResourceObject::of_lost(py, &resource) else { continue };
        for callback in object.get().loss_callbacks(py).into_iter().flatten() {
            let key = callback.as_ptr() as usize;
            match places.get_item(key)? {
                Some(place) => by_callback[place.extract::<usize>()?].1.append(&object)?,
                None => {
                    places.set_item(key, by_callback.len())?;
                    by_callback.push((callback, PyList::new(py, [&object])?));
                }
            }
        }
        if of_allocator.is_some() {
            all.push(object);
        }
    }
    if let Some(callback) = of_allocator.filter(|_| !all.is_empty()) {
        by_callback.push((callback, PyList::new(py, all)?));
    }
    for (callback, resources) in by_callback {
        let called = in_one_process(py, || callback.call1((resources,)));
        if let Err(error) = called.and_then(|it| it) {
            error.write_unraisable(py, Some(&callback));
        }
    }
    Ok(())
}
