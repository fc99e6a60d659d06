//! Arrays of unsigned 64-bit integers under Python's buffer protocol: NumPy's uint64 and its like.

use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView};

use crate::errors::invalid;

/// A contiguous array of another Python object, held while this lives.
pub struct Quads {
    view: ffi::Py_buffer,
}

// SAFETY: the memory is held by the buffer protocol, which is not tied to a thread; only the release
// needs the interpreter, and drops happen attached.
unsafe impl Send for Quads {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Quads {}

impl Quads {
    /// Of an object; refuses other formats rather than guess.
    pub fn read(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let py = object.py();
        let mut view = MaybeUninit::<ffi::Py_buffer>::zeroed();
        let flags = ffi::PyBUF_FORMAT | ffi::PyBUF_C_CONTIGUOUS;
        // SAFETY: a valid object and a place for the view.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) } != 0 {
            let why = PyErr::fetch(py);
            return Err(invalid(py, format!("{name} is no contiguous buffer: {}", why.value(py))));
        }
        // SAFETY: filled by CPython.
        let array = Self { view: unsafe { view.assume_init() } };
        let format = if array.view.format.is_null() {
            "B".into()
        } else {
            // SAFETY: not null, and a string of C while the buffer is held.
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.view.len.unsigned_abs() / 8
    }

    /// One of them. Another thread may be writing it: each read stands alone.
    pub fn get(&self, index: usize) -> u64 {
        assert!(index < self.len());
        // SAFETY: in range of a buffer that is held; it need not be aligned.
        unsafe { (self.view.buf as *const u64).add(index).read_unaligned() }
    }
}

impl Drop for Quads {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer, released once, attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut self.view) };
    }
}

/// The memory of a new array, to be filled.
#[derive(Clone, Copy)]
pub struct NewQuads {
    start: usize,
    length: usize,
}

impl NewQuads {
    /// Writes one.
    pub fn set(&self, index: usize, value: u64) {
        assert!(index < self.length);
        // SAFETY: in range of an array that `new_quads` made, which nobody else has seen yet.
        unsafe { (self.start as *mut u64).add(index).write_unaligned(value) };
    }

    /// Reads one back.
    pub fn get(&self, index: usize) -> u64 {
        assert!(index < self.length);
        // SAFETY: as above.
        unsafe { (self.start as *const u64).add(index).read_unaligned() }
    }
}

/// A new array of zeros, and the view of it that Python gets.
pub fn new_quads(py: Python<'_>, length: usize) -> PyResult<(NewQuads, Bound<'_, PyAny>)> {
    let bytes = PyByteArray::new_with(py, length * 8, |_| Ok(()))?;
    let start = bytes.data() as usize;
    let view = PyMemoryView::from(bytes.as_any())?.call_method1("cast", ("Q",))?;
    Ok((NewQuads { start, length }, view))
}
