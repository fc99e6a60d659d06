//! Callbacks: functions of the caller that are called later, until replaced.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

/// A callback that may be replaced at any time.
pub type Callback = Mutex<Option<Py<PyAny>>, rank::Callback>;

/// Reads a callable, or None.
pub fn callable(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if value.is_none() {
        return Ok(None);
    }
    if !value.is_callable() {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("the callback must be callable, not {kind}")));
    }
    Ok(Some(value.clone().unbind()))
}

/// Replaces a callback. The old one is dropped without the lock, as that may run Python code.
pub fn exchange(slot: &Callback, callback: Option<Py<PyAny>>) {
    let old = std::mem::replace(&mut *slot.lock(), callback);
    drop(old);
}

/// Returns the current callback.
pub fn current<'py>(py: Python<'py>, slot: &Callback) -> Option<Bound<'py, PyAny>> {
    slot.lock().as_ref().map(|callback| callback.bind(py).clone())
}
