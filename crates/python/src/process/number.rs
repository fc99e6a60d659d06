//! Integers for Python, where even those may find no host memory.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// An integer for Python that raises `MemoryError` without host memory for it, where PyO3's own conversion
/// of a `u64` panics. For what programs keep by the million.
pub struct Number(pub u64);

impl<'py> IntoPyObject<'py> for Number {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        // SAFETY: the thread holds the GIL; the result is a new reference, or null with an exception set.
        let made =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromUnsignedLongLong(self.0)) }?;
        Ok(made.cast_into::<PyInt>()?)
    }
}
