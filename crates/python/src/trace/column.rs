//! [`TraceColumn`]: a column of a trace under the buffer protocol.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use vkmem_trace::{Columns, Trace};

/// Whatever has the numbers of a column.
pub trait Numbers: Send + Sync {
    /// Returns their first byte and how many bytes there are; both stay as they are.
    fn bytes(&self) -> (*const u8, usize);
}

impl<T: Send + Sync> Numbers for Vec<T> {
    fn bytes(&self) -> (*const u8, usize) {
        (self.as_ptr().cast(), size_of_val(self.as_slice()))
    }
}

/// A column of a trace that is shared.
pub struct OfTrace<T: 'static> {
    pub trace: Arc<Trace>,
    pub get: fn(&Columns) -> &[T],
}

impl<T: Send + Sync> Numbers for OfTrace<T> {
    fn bytes(&self) -> (*const u8, usize) {
        let slice = (self.get)(self.trace.columns());
        (slice.as_ptr().cast(), size_of_val(slice))
    }
}

/// Numbers that are only read, under the buffer protocol; their bytes, as `dtype` reads them.
#[pyclass(name = "_TraceColumn", module = "vk_mem", frozen)]
pub struct TraceColumn {
    dtype: &'static str,
    numbers: Box<dyn Numbers>,
}

impl TraceColumn {
    pub fn new(dtype: &'static str, numbers: impl Numbers + 'static) -> Self {
        Self { dtype, numbers: Box::new(numbers) }
    }
}

#[pymethods]
impl TraceColumn {
    /// The NumPy dtype of the numbers.
    #[getter]
    fn dtype(&self) -> &str {
        self.dtype
    }

    /// # Safety
    /// `view` is what CPython passes.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: the caller passes a valid view; a failure is to leave it without an object.
        unsafe { (*view).obj = std::ptr::null_mut() };
        let (first, length) = slf.get().numbers.bytes();
        let length = isize::try_from(length)
            .map_err(|_| PyBufferError::new_err("the column is larger than an array can be"))?;
        let first = first.cast_mut().cast::<c_void>();
        // SAFETY: a valid view; the bytes live and stay as long as the object, to which the view gets a reference.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), first, length, 1, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}
