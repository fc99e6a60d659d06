//! Telling the program what was found: by the callback, by exceptions, by warnings.

use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::report::Report;
use super::state::DebugState;
use crate::arguments::callback::current;
use crate::errors::{is_corruption, raised};
use crate::interpreter::{detach, in_finaliser};
use crate::lifetime::ownership::AllocatorState;
use crate::package::ERRORS;
use crate::process::forks::in_one_process;

/// A call makes exceptions of so many faults at most: each has a text, and there may be a fault in each allocation.
const MOST_ERRORS: usize = 100;

/// Raises what was found; first the callback is called with each. Does nothing if there is nothing.
pub(super) fn raise(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    reports: &[Report],
) -> PyResult<()> {
    in_finaliser(py, || tell_left_out(py, state));
    if reports.is_empty() {
        return Ok(());
    }
    let errors = errors(py, allocator, reports)?;
    call_back(py, allocator, &errors);
    match errors.into_iter().next() {
        Some(first) => Err(raised(first)),
        None => Ok(()),
    }
}

/// Calls the callback with what was found, or issues warnings if there is none. An exception where warnings are
/// errors.
pub(super) fn report(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    reports: &[Report],
) -> PyResult<()> {
    let mut done = tell_left_out(py, state);
    if reports.is_empty() {
        return done;
    }
    let errors = errors(py, allocator, reports)?;
    if call_back(py, allocator, &errors) {
        return done;
    }
    for error in errors {
        done = done.and(warn(py, &error.str()?.to_string_lossy(), 1));
    }
    done
}

/// Returns the exceptions; the first one has the others.
fn errors<'py>(
    py: Python<'py>,
    allocator: &AllocatorState,
    reports: &[Report],
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Some(attached) = allocator.attached() {
        detach(py, || attached.session.note_corruption());
    }
    let mut made = Vec::new();
    for (index, report) in reports.iter().take(MOST_ERRORS).enumerate() {
        let more = if index == 0 { reports.len() - 1 } else { 0 };
        made.push(report.to_error(py, &allocator.sites, more)?);
    }
    if let Some((first, others)) = made.split_first() {
        first.setattr("others", PyTuple::new(py, others)?)?;
    }
    Ok(made)
}

/// Calls the callback of `Allocator.on_corruption` with each; false if there is none. Exceptions in it are printed.
fn call_back(py: Python<'_>, allocator: &AllocatorState, errors: &[Bound<'_, PyAny>]) -> bool {
    let Some(callback) = current(py, &allocator.on_corruption) else { return false };
    for error in errors {
        let called = in_one_process(py, || callback.call1((error,)));
        if let Err(error) = called.and_then(|it| it) {
            error.write_unraisable(py, Some(&callback));
        }
    }
    true
}

/// Issues a warning for each reason for which memory is not filled or not checked.
fn tell_left_out(py: Python<'_>, state: &DebugState) -> PyResult<()> {
    let untold = std::mem::take(&mut state.records.lock().untold);
    let mut done = Ok(());
    for what in untold {
        done = done.and(warn(py, &format!("debug: {what}"), 1));
    }
    done
}

/// Issues a `CorruptionWarning`, at the line of so many Python frames outwards, counted from 1.
pub fn warn(py: Python<'_>, message: &str, stacklevel: i32) -> PyResult<()> {
    let category = ERRORS.get(py, "CorruptionWarning")?.cast_into::<PyType>()?;
    PyErr::warn(py, &category, &CString::new(message.replace('\0', "?"))?, stacklevel)
}

/// Ends a `with` block by a call that does nothing the second time. While an exception leaves the block, that is the one
/// to raise: overwritten memory is reported by the callback or else by warnings, at the line of so many Python frames
/// outwards.
pub fn end_block(
    py: Python<'_>,
    allocator: &AllocatorState,
    is_failing: bool,
    stacklevel: i32,
    end: impl Fn() -> PyResult<()>,
) -> PyResult<()> {
    let error = match end() {
        Err(error) if is_corruption(py, &error) => error,
        ended => return ended,
    };
    // A check at the beginning of the call may have raised it, before anything was done. It tells each fault once.
    let done = end();
    if !is_failing {
        return Err(error);
    }
    if current(py, &allocator.on_corruption).is_some() {
        return done;
    }
    let first = error.value(py);
    let others: Vec<Bound<'_, PyAny>> = first.getattr("others")?.extract()?;
    let mut warned = Ok(());
    for it in std::iter::once(first.as_any()).chain(&others) {
        warned = warned.and(warn(py, &it.str()?.to_string_lossy(), stacklevel));
    }
    done.and(warned)
}

/// Returns whether the arguments of `__exit__` say that an exception leaves the block.
pub fn is_failing(exception: &Bound<'_, PyTuple>) -> bool {
    exception.iter().next().is_some_and(|kind| !kind.is_none())
}
