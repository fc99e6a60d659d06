//! Memory of a Python object that the device works on.

use std::ptr::NonNull;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::arguments::plain::PlainBuffer;
use crate::errors::invalid;
use crate::interpreter::try_attach;

/// The memory of a Python object, held through its buffer protocol: it neither moves nor ends.
pub struct HeldBuffer {
    /// On the heap, as it stays where it was filled.
    buffer: NonNull<PlainBuffer>,
    /// The part that is meant.
    address: usize,
    length: usize,
    /// Whether the cycle collector may see who keeps the memory.
    is_visible: bool,
}

// SAFETY: the memory is held by the buffer protocol, which is not tied to a thread; the release
// attaches to the interpreter.
unsafe impl Send for HeldBuffer {}
// SAFETY: as above; shared access only reads the address and the length.
unsafe impl Sync for HeldBuffer {}

impl HeldBuffer {
    /// Holds the buffer of an object whose memory is contiguous and may be written; errors name the
    /// argument. `safe` is a class whose objects keep their memory although they are cleared.
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
        // SAFETY: held, so it is an object or null.
        let is_visible = unsafe { clears_no_memory(safe, buffer.exporter()) };
        Ok(Self { buffer: NonNull::from(Box::leak(buffer)), address, length, is_visible })
    }

    /// Where it starts.
    pub fn address(&self) -> u64 {
        self.address as u64
    }

    /// In bytes.
    pub fn len(&self) -> u64 {
        self.length as u64
    }

    /// Shows the cycle collector who keeps the memory. This reference is one, so it is shown once.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: made by `Box::leak`, and shared access only reads.
        let exporter = unsafe { self.buffer.as_ref() }.exporter();
        if !self.is_visible || exporter.is_null() {
            return Ok(());
        }
        // SAFETY: `Py` is a pointer to an object, transparently; this one is alive while it is held.
        let exporter: &Py<PyAny> = unsafe { &*(&raw const exporter).cast() };
        visit.call(exporter)
    }
}

impl Drop for HeldBuffer {
    fn drop(&mut self) {
        // Without an interpreter there is nobody left to release it for.
        try_attach(|_| {
            // SAFETY: made by `Box::leak`, dropped once.
            drop(unsafe { Box::from_raw(self.buffer.as_ptr()) });
        });
    }
}

fn hold(object: &Bound<'_, PyAny>) -> PyResult<Box<PlainBuffer>> {
    let mut buffer = Box::new(PlainBuffer::none());
    buffer.hold(object, true)?;
    Ok(buffer)
}

/// The buffer of the object below a `memoryview`, if the memory that was seen lies in it: a view is
/// cleared with all that it holds when the cycle collector finds it.
fn below_view(view: &Bound<'_, PyAny>, seen: &PlainBuffer) -> Option<Box<PlainBuffer>> {
    let view = view.cast::<PyMemoryView>().ok()?;
    let below = hold(&view.getattr("obj").ok()?).ok()?;
    let start = seen.address().checked_sub(below.address())?;
    (start.checked_add(seen.len())? <= below.len()).then_some(below)
}

/// Whether an object keeps its memory when the cycle collector clears it, as it does with all objects
/// of a cycle that nobody can reach any more. The device may work on the memory for some frames after that.
/// Memory comes from the class that answers for the buffer: if that has nothing to clear, it is safe, and
/// classes that Python programs derive from it clear their attributes alone. Those of ctypes free it.
///
/// # Safety
/// It is an object or null.
unsafe fn clears_no_memory(safe: &Bound<'_, PyType>, exporter: *mut ffi::PyObject) -> bool {
    if exporter.is_null() {
        return false;
    }
    // SAFETY: a class, whose slots are there to be read.
    let slot = |class, slot| unsafe { ffi::PyType_GetSlot(class, slot) };
    // SAFETY: of the caller.
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
