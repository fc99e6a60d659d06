//! Python's buffer protocol for what has memory, through a mapping for each view.

use std::ffi::c_int;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::mapping::Mapping;
use crate::errors::is_map_error;

/// A base for classes of Python that have a method `map`: before 3.12 only native classes can have the buffer
/// protocol.
#[pyclass(name = "_HostBytes", module = "vk_mem", subclass, frozen)]
pub struct HostBytes;

#[pymethods]
impl HostBytes {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    /// # Safety
    /// `view` is what CPython passes.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: the caller passes a valid view.
        unsafe { export(slf.as_any(), view, flags) }
    }
}

/// Whether a view may be written to. A `memoryview` cannot say: it asks for the whole layout, and takes what
/// it gets. Who asks for less without saying so, as a hash or a file does, reads.
fn is_writable(flags: c_int) -> bool {
    flags & ffi::PyBUF_WRITABLE != 0 || flags & ffi::PyBUF_INDIRECT == ffi::PyBUF_INDIRECT
}

/// Fills a view with the bytes of an object that has a method `map`. The view holds the mapping, which ends with
/// it.
///
/// # Safety
/// `view` is what CPython passes to the buffer protocol.
pub unsafe fn export(
    object: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let py = object.py();
    // SAFETY: the caller passes a valid view; a failure is to leave it without an object.
    unsafe { (*view).obj = std::ptr::null_mut() };
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "readonly"), !is_writable(flags))?;
    let mapping = object.call_method(intern!(py, "map"), (), Some(&keywords));
    let mapping = mapping.map_err(|why| as_buffer_error(py, why))?.cast_into::<Mapping>()?;
    // SAFETY: an object with the protocol, and a valid view, which gets a reference to it.
    match unsafe { ffi::PyObject_GetBuffer(mapping.as_ptr(), view, flags) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

/// What protocols of memory want to be told where there is none for the host.
pub fn as_buffer_error(py: Python<'_>, why: PyErr) -> PyErr {
    if !is_map_error(py, &why) {
        return why;
    }
    let error = PyBufferError::new_err(why.value(py).to_string());
    error.set_cause(py, Some(why));
    error
}
