//! Host memory of a Python object that the device accesses.

use std::ptr::NonNull;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::arguments::plain::PlainBuffer;
use crate::errors::invalid;
use crate::interpreter::try_attach;

/// Memory of a Python object, held through the buffer protocol: it is neither moved nor freed.
pub struct HeldBuffer {
    /// Boxed, as a `Py_buffer` must not move while it is held.
    buffer: NonNull<PlainBuffer>,
    /// The part of the memory that is used.
    address: usize,
    length: usize,
    /// Whether the exporting object is shown to the cycle collector.
    is_visible: bool,
}

// SAFETY: the buffer protocol is not tied to a thread, and the release acquires the GIL.
unsafe impl Send for HeldBuffer {}
// SAFETY: shared access only reads address and length.
unsafe impl Sync for HeldBuffer {}

impl HeldBuffer {
    /// Holds the buffer of an object, which must be contiguous and writable. Errors name the argument. `safe`
    /// is a class whose objects keep their memory when the cycle collector clears them.
    pub fn of(object: &Bound<'_, PyAny>, name: &str, safe: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = object.py();
        let buffer = hold(object).map_err(|why| {
            let expected =
                why.is_instance_of::<PyBufferError>(py) || why.is_instance_of::<PyValueError>(py);
            let text = why.value(py);
            if expected {
                let rule = "the device needs memory that is contiguous and may be written";
                invalid(py, format!("{name}: {rule}: {text}"))
            } else if why.is_instance_of::<PyTypeError>(py) {
                PyTypeError::new_err(format!("{name}: {text}"))
            } else {
                why
            }
        })?;
        let (address, length) = (buffer.address(), buffer.len());
        let buffer = below_view(object, &buffer).unwrap_or(buffer);
        // SAFETY: the exporter is an object that the buffer keeps alive, or null.
        let is_visible = unsafe { clears_no_memory(safe, buffer.exporter()) };
        Ok(Self { buffer: NonNull::from(Box::leak(buffer)), address, length, is_visible })
    }

    /// Returns the start address.
    pub fn address(&self) -> u64 {
        self.address as u64
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> u64 {
        self.length as u64
    }

    /// Traverses the exporting object for the cycle collector. There is one reference, so this is called
    /// once.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: allocated with `Box::leak`, and shared access only reads.
        let exporter = unsafe { self.buffer.as_ref() }.exporter();
        if !self.is_visible || exporter.is_null() {
            return Ok(());
        }
        // SAFETY: `Py` is a transparent pointer to an object, which the buffer keeps alive.
        let exporter: &Py<PyAny> = unsafe { &*(&raw const exporter).cast() };
        visit.call(exporter)
    }
}

impl Drop for HeldBuffer {
    fn drop(&mut self) {
        // Without an interpreter the exporting object is gone, too.
        try_attach(|_| {
            // SAFETY: allocated with `Box::leak`, and dropped once.
            drop(unsafe { Box::from_raw(self.buffer.as_ptr()) });
        });
    }
}

fn hold(object: &Bound<'_, PyAny>) -> PyResult<Box<PlainBuffer>> {
    let mut buffer = Box::new(PlainBuffer::none());
    buffer.hold(object, true)?;
    Ok(buffer)
}

/// Returns the buffer of the object below a `memoryview` if it contains the memory of the view: the cycle
/// collector releases a view's buffer when it clears the view.
fn below_view(view: &Bound<'_, PyAny>, seen: &PlainBuffer) -> Option<Box<PlainBuffer>> {
    let view = view.cast::<PyMemoryView>().ok()?;
    let below = hold(&view.getattr("obj").ok()?).ok()?;
    let start = seen.address().checked_sub(below.address())?;
    (start.checked_add(seen.len())? <= below.len()).then_some(below)
}

/// Returns whether an object keeps its memory when the cycle collector clears it, together with all other
/// objects of an unreachable cycle: the device may access the memory for some frames after that. The class
/// that implements the buffer protocol decides: if it has no `tp_clear`, the memory is safe, as Python
/// classes derived from it clear only their attributes. Objects of ctypes free their memory.
///
/// # Safety
/// `exporter` is an object or null.
unsafe fn clears_no_memory(safe: &Bound<'_, PyType>, exporter: *mut ffi::PyObject) -> bool {
    if exporter.is_null() {
        return false;
    }
    // SAFETY: `class` is a type object, whose slots may be read.
    let slot = |class, slot| unsafe { ffi::PyType_GetSlot(class, slot) };
    // SAFETY: the caller guarantees an object, which has a type.
    let mut class = unsafe { ffi::Py_TYPE(exporter) };
    let gives = slot(class, ffi::Py_bf_getbuffer);
    if gives.is_null() {
        return false;
    }
    loop {
        let base: *mut ffi::PyTypeObject = slot(class, ffi::Py_tp_base).cast();
        if base.is_null() || slot(base, ffi::Py_bf_getbuffer) != gives {
            break;
        }
        class = base;
    }
    slot(class, ffi::Py_tp_clear).is_null() || class == safe.as_type_ptr()
}
