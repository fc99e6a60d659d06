//! `vk_mem.record`

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::iterables;
use crate::objects::recording::{Recording, session_of};

/// The most allocators of one call.
const MOST_ALLOCATORS: usize = 1 << 16;

/// Records an allocator, or several, from now on: `with vk_mem.record(allocator, "trace.vkmem"):`.
///
/// `to` is the path of a file, a `Ring`, or a `Recording` that goes on. What exists is told first, so a recording may
/// begin at any time; one that begins with the allocator, `Allocator(record=...)`, can be replayed exactly. Whoever
/// recorded the allocator until now does not any more.
///
/// Raises `OSError` if the file cannot be written.
#[pyfunction]
#[pyo3(signature = (allocator, to))]
pub fn record(
    py: Python<'_>,
    allocator: &Bound<'_, PyAny>,
    to: &Bound<'_, PyAny>,
) -> PyResult<Recording> {
    let one = |it: &Bound<'_, PyAny>| -> PyResult<Py<Allocator>> {
        match it.cast::<Allocator>() {
            Ok(allocator) => Ok(allocator.clone().unbind()),
            Err(_) => {
                let kind = it.get_type().name().map_or("?".into(), |name| name.to_string());
                Err(PyTypeError::new_err(format!(
                    "allocator must be a vk_mem.Allocator, or several, not {kind}"
                )))
            }
        }
    };
    let allocators = match allocator.cast::<Allocator>() {
        Ok(allocator) => vec![allocator.clone().unbind()],
        Err(_) if allocator.hasattr("__iter__")? => {
            iterables::read(allocator, "allocator", MOST_ALLOCATORS, one)?
        }
        Err(_) => vec![one(allocator)?],
    };
    let mut pinned = Vec::new();
    for allocator in &allocators {
        pinned.push(allocator.get().state.enter(py)?);
    }
    let (session, _) = session_of(py, to)?;
    let recording = Recording::new(session);
    for allocator in &allocators {
        recording.add(py, &allocator.get().state)?;
    }
    drop(pinned);
    Ok(recording)
}
