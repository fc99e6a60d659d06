//! A function of the caller's that is called later, until another takes its place.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

/// A callback that may be exchanged at any time.
pub type Callback = Mutex<Option<Py<PyAny>>, rank::Callback>;

/// None, or something that can be called.
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

/// Exchanges a callback. The old one ends outside of the lock: that may run Python code.
pub fn exchange(slot: &Callback, callback: Option<Py<PyAny>>) {
    let old = std::mem::replace(&mut *slot.lock(), callback);
    drop(old);
}

/// The callback as it is now.
pub fn current<'py>(py: Python<'py>, slot: &Callback) -> Option<Bound<'py, PyAny>> {
    slot.lock().as_ref().map(|callback| callback.bind(py).clone())
}
