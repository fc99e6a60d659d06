//! Recording: `Allocator(record=...)` and `vk_mem.record`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::iterables;
use crate::objects::recording::{Recording, Ring};
use crate::recording::environment;
use crate::recording::session::{Place, Session};

/// The most allocators of one call.
const MOST_ALLOCATORS: usize = 1 << 16;

/// Returns the recording that a value of `record` means, and whether it ends with the allocator.
fn session_of(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<(Arc<Session>, bool)> {
    if let Ok(ring) = given.cast::<Ring>() {
        return Ok((ring.get().session(py)?, false));
    }
    if let Ok(recording) = given.cast::<Recording>() {
        return Ok((recording.get().session(py)?, false));
    }
    match given.extract::<PathBuf>() {
        Ok(path) => Ok((Session::begin(py, Place::File(path))?, true)),
        Err(_) => {
            let kind = given.get_type().name().map_or("?".into(), |name| name.to_string());
            Err(PyTypeError::new_err(format!(
                "record must be a path, a vk_mem.Ring or a vk_mem.Recording, not {kind}"
            )))
        }
    }
}

/// Reads `record` of an allocator: the recording, and whether it ends with the allocator.
pub(super) fn read(
    py: Python<'_>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<(Arc<Session>, bool)>> {
    match given {
        None => Ok(environment::session(py)?.map(|session| (session, false))),
        Some(off) if off.is(&**pyo3::types::PyBool::new(py, false)) => Ok(None),
        Some(given) => session_of(py, given).map(Some),
    }
}

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
