//! Arrays of unsigned 64-bit integers under the buffer protocol, such as NumPy's uint64.

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView};

use crate::errors::invalid;

/// A contiguous array of another Python object, whose buffer is held until dropped.
pub struct U64Array {
    /// Boxed: its shape may point into itself.
    view: Box<ffi::Py_buffer>,
}

// SAFETY: the buffer protocol is not tied to a thread; only the release needs the GIL, and drops happen
// attached.
unsafe impl Send for U64Array {}
// SAFETY: shared access only reads.
unsafe impl Sync for U64Array {}

impl U64Array {
    /// Holds the buffer of an object; raises `TypeError` for other formats.
    pub fn read(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let py = object.py();
        let mut view = Box::new(ffi::Py_buffer::new());
        let flags = ffi::PyBUF_FORMAT | ffi::PyBUF_C_CONTIGUOUS;
        // SAFETY: a valid object, and memory for the view.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, flags) } != 0 {
            let why = PyErr::fetch(py);
            // NumPy raises ValueError where the buffer protocol requires BufferError.
            let expected = why.is_instance_of::<PyTypeError>(py)
                || why.is_instance_of::<PyBufferError>(py)
                || why.is_instance_of::<PyValueError>(py);
            if !expected {
                return Err(why);
            }
            return Err(invalid(py, format!("{name} is no contiguous buffer: {}", why.value(py))));
        }
        let array = Self { view };
        let format = if array.view.format.is_null() {
            "B".into()
        } else {
            // SAFETY: not null, and a C string while the buffer is held.
            unsafe { std::ffi::CStr::from_ptr(array.view.format) }.to_string_lossy()
        };
        let wide = array.view.itemsize == 8;
        if !wide || !matches!(format.trim_start_matches(['@', '=', '<']), "Q" | "L") {
            let format = format.escape_debug().to_string();
            return Err(invalid(
                py,
                format!("{name} has format '{format}', not unsigned 64-bit integers (uint64)"),
            ));
        }
        Ok(array)
    }

    /// Returns the number of integers.
    pub fn len(&self) -> usize {
        self.view.len.unsigned_abs() / 8
    }

    /// Returns an integer. Another thread may write it: two reads may differ.
    pub fn get(&self, index: usize) -> u64 {
        assert!(index < self.len());
        // SAFETY: in bounds of a held buffer; the read is unaligned.
        unsafe { (self.view.buf as *const u64).add(index).read_unaligned() }
    }
}

impl Drop for U64Array {
    fn drop(&mut self) {
        // SAFETY: filled by `PyObject_GetBuffer`, and released once, attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut *self.view) };
    }
}

/// Two new arrays of one length, which no other code refers to yet.
pub struct Pair<'py>(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>);

/// Creates both; `fill` writes every number, in native byte order, into their memory.
pub fn pair<'py>(
    py: Python<'py>,
    count: usize,
    fill: impl FnOnce(&mut [[u8; 8]], &mut [[u8; 8]]) -> PyResult<()>,
) -> PyResult<Pair<'py>> {
    let bytes = count.saturating_mul(8);
    let mut second = None;
    let first = PyByteArray::new_with(py, bytes, |first| {
        second = Some(PyByteArray::new_with(py, bytes, |second| {
            fill(first.as_chunks_mut().0, second.as_chunks_mut().0)
        })?);
        Ok(())
    })?;
    Ok(Pair(first, second.expect("made inside")))
}

impl<'py> Pair<'py> {
    /// Returns the arrays as memoryviews of unsigned 64-bit integers.
    pub fn views(&self) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let view = |bytes: &Bound<'py, PyByteArray>| {
            PyMemoryView::from(bytes.as_any())?.call_method1("cast", ("Q",))
        };
        Ok((view(&self.0)?, view(&self.1)?))
    }

    /// Returns a copy of the first array.
    pub fn first(&self) -> Vec<[u8; 8]> {
        self.0.to_vec().as_chunks().0.to_vec()
    }
}
