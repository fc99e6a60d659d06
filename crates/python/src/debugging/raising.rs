//! Telling the program what was found: by the callback, by exceptions, by warnings.

use std::ffi::CString;
use std::thread::ThreadId;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use vkmem_vulkan::Stopped;

use super::report::Report;
use super::state::DebugState;
use crate::arguments::callback::current;
use crate::errors::{is_corruption, raised, to_py};
use crate::interpreter::{detach, in_finaliser};
use crate::lifetime::ownership::AllocatorState;
use crate::package::ERRORS;
use crate::process::forks::in_one_process;

/// A call makes exceptions of so many faults at most: each has a text, and there may be a fault in each allocation.
const MOST_ERRORS: usize = 100;

/// Raises what calls of a thread have found, or those of all; first the callback is called with each. Before that it
/// raises what a handler of a signal has raised meanwhile: what was found is told by the next call then.
pub(super) fn raise_found(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    thread: Option<ThreadId>,
) -> PyResult<()> {
    keeping_interrupts(py, || tell_left_out(py, state));
    if let Some(raised) = state.running.take_interrupt() {
        return Err(raised);
    }
    let reports = state.records.lock().take_found(thread);
    if reports.is_empty() {
        return Ok(());
    }
    match errors(py, allocator, &reports) {
        Ok(errors) => raise_errors(py, allocator, state, errors),
        Err(error) => {
            state.keep_reports(reports);
            Err(error)
        }
    }
}

/// Raises all that a check on demand has found, and nothing else tells that again.
pub(super) fn raise_told(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    reports: &[Report],
) -> PyResult<()> {
    keeping_interrupts(py, || tell_left_out(py, state));
    if reports.is_empty() {
        return Ok(());
    }
    let errors = errors(py, allocator, reports)?;
    state.note_told(reports);
    raise_errors(py, allocator, state, errors)
}

fn raise_errors(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    errors: Vec<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (_, interrupt) = call_back(py, allocator, state, &errors);
    let found = errors.into_iter().next().map(raised);
    match (interrupt, found) {
        (Some(interrupt), found) => {
            interrupt.set_context(py, found);
            Err(interrupt)
        }
        (None, Some(found)) => Err(found),
        (None, None) => Ok(()),
    }
}

/// Calls the callback with what calls of a thread have found, or those of all; or issues warnings if there is none. An
/// exception where warnings are errors, and where a handler of a signal has raised one.
pub(super) fn report_found(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    thread: Option<ThreadId>,
) -> PyResult<()> {
    let mut done = tell_left_out(py, state);
    if let Some(raised) = state.running.take_interrupt() {
        done = done.and(Err(raised));
    }
    let reports = state.records.lock().take_found(thread);
    if reports.is_empty() {
        return done;
    }
    let errors = match errors(py, allocator, &reports) {
        Ok(errors) => errors,
        Err(error) => {
            state.keep_reports(reports);
            return done.and(Err(error));
        }
    };
    let (is_told, interrupt) = call_back(py, allocator, state, &errors);
    if is_told {
        return interrupt.map_or(done, Err);
    }
    for error in errors {
        done = done.and(warn(py, &error.str()?.to_string_lossy(), 1));
    }
    done
}

/// Returns the exception of a check on demand that did not come to its end.
pub(super) fn stopped(py: Python<'_>, state: &DebugState, why: Stopped) -> PyErr {
    match why {
        Stopped::Failed(error) => to_py(py, &error),
        Stopped::Interrupted => {
            let raised = state.running.take_interrupt();
            raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err("the check was interrupted"))
        }
    }
}

/// Runs a function that may raise in a place where nothing may be raised: prints its exception and keeps the current
/// one. A `KeyboardInterrupt` is raised once the call has ended, as if the signal came then.
pub(super) fn keeping_interrupts(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    in_finaliser(py, || match run() {
        Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
            // SAFETY: attached; it sets a flag.
            unsafe { ffi::PyErr_SetInterrupt() };
            Ok(())
        }
        done => done,
    });
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
        let more = match index {
            0 => (reports.len() - 1, reports.len().min(MOST_ERRORS) - 1),
            _ => (0, 0),
        };
        made.push(report.to_error(py, &allocator.sites, more)?);
    }
    if let Some((first, others)) = made.split_first() {
        first.setattr("others", PyTuple::new(py, others)?)?;
    }
    Ok(made)
}

/// Calls the callback of `Allocator.on_corruption` with each, unless this thread is inside of it; returns whether it was
/// called. Exceptions in it are printed, but for those that are no errors: the first of them is returned.
fn call_back(
    py: Python<'_>,
    allocator: &AllocatorState,
    state: &DebugState,
    errors: &[Bound<'_, PyAny>],
) -> (bool, Option<PyErr>) {
    let Some(callback) = current(py, &allocator.on_corruption) else { return (false, None) };
    let mut interrupt = None;
    let told = state.running.tell(|| {
        for error in errors {
            let called = in_one_process(py, || callback.call1((error,)));
            match called.and_then(|it| it) {
                Ok(_) => {}
                Err(raised) if raised.is_instance_of::<PyException>(py) || interrupt.is_some() => {
                    raised.write_unraisable(py, Some(&callback));
                }
                Err(raised) => interrupt = Some(raised),
            }
        }
    });
    (told.is_some(), interrupt)
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
