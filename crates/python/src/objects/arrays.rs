//! Host-visible memory as arrays: NumPy, the buffer protocol and DLPack of buffers and allocations.

use std::ffi::c_int;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyClass, ffi};

use super::allocation::Allocation;
use super::buffer::Buffer;
use super::resource::ResourceObject;
use crate::memory::exports::{as_buffer_error, export};
use crate::package::{ARRAY_OF, DLPACK_OF, RANGE_OF, VIEW_ARRAY};

/// `kDLCPU`, and the first of its devices.
const HOST: (i32, i32) = (1, 0);

/// A NumPy array that is a view of the memory.
fn view<'py, T: PyClass<BaseType = ResourceObject>>(
    slf: &Bound<'py, T>,
    dtype: Option<&Bound<'py, PyAny>>,
    shape: Option<&Bound<'py, PyAny>>,
    offset: Option<&Bound<'py, PyAny>>,
    readonly: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, face) = (slf.py(), slf.as_super().get().face());
    drop(if readonly { face.enter_host_to_read(py)? } else { face.enter_host(py)? });
    VIEW_ARRAY.get(py)?.call1((slf, face.size(), dtype, shape, offset, readonly))
}

/// Where the memory is; an exception if the host does not see it.
pub fn host_device(object: &Bound<'_, ResourceObject>) -> PyResult<(i32, i32)> {
    let py = object.py();
    object.get().face().enter_host(py).map_err(|why| as_buffer_error(py, why))?;
    Ok(HOST)
}

#[pymethods]
impl Buffer {
    /// Bytes of it, as `size`.
    #[getter]
    fn nbytes(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        Ok(resource.host_size)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Ok(usize::try_from(Self::nbytes(slf)?).unwrap_or(usize::MAX))
    }

    /// True, as of any object: `if buffer:` asks whether there is one, also after its end.
    fn __bool__(&self) -> bool {
        true
    }

    /// A range of it, as `buffer[16:64]`: a `BufferRange`.
    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let size = Self::nbytes(slf)?;
        RANGE_OF.get(slf.py())?.call1((slf, size, index))
    }

    /// A NumPy array that is a view of the memory: `dtype` is `uint8` and `shape` all that is there from `offset`
    /// bytes on, unless told; one side of a shape may be -1.
    ///
    /// It is one of `map()`: until the array and all arrays made of it are gone, `destroy()` raises
    /// `BufferError`, and where memory is not coherent its end flushes its bytes. With `readonly` it cannot
    /// be written to, and flushes nothing.
    ///
    /// Raises `MemoryMapError` if the memory cannot be mapped, `InvalidArgumentError` if the array does not
    /// fit, `TypeError` for a dtype of objects, `ImportError` without NumPy.
    #[pyo3(signature = (dtype = None, shape = None, *, offset = None, readonly = false))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
        offset: Option<&Bound<'py, PyAny>>,
        readonly: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        view(slf, dtype, shape, offset, readonly)
    }

    /// # Safety
    /// `buffer` is what CPython passes.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        buffer: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: the caller passes a valid view.
        unsafe { export(slf.as_any(), buffer, flags) }
    }
}

#[pymethods]
impl Allocation {
    /// A NumPy array that is a view of the memory; see `Buffer.numpy`.
    #[pyo3(signature = (dtype = None, shape = None, *, offset = None, readonly = false))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
        offset: Option<&Bound<'py, PyAny>>,
        readonly: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        view(slf, dtype, shape, offset, readonly)
    }

    /// # Safety
    /// `buffer` is what CPython passes.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        buffer: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: the caller passes a valid view.
        unsafe { export(slf.as_any(), buffer, flags) }
    }
}

#[pymethods]
impl ResourceObject {
    /// What NumPy asks for: the array of `numpy()`, or a copy of it.
    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ARRAY_OF.get(slf.py())?.call1((slf, dtype, copy))
    }

    /// A capsule of DLPack, of memory that the host sees: bytes of a `Buffer` or an `Allocation`, and the array
    /// of `numpy()` of an `Image`. It keeps the memory as a view does.
    ///
    /// Raises `BufferError` where the memory cannot be mapped, or for another device.
    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = PyTuple::new(slf.py(), [slf])?;
        DLPACK_OF.get(slf.py())?.call(arguments, options)
    }

    /// `(1, 0)`: `kDLCPU`.
    ///
    /// Raises `BufferError` where the memory cannot be mapped.
    fn __dlpack_device__(slf: &Bound<'_, Self>) -> PyResult<(i32, i32)> {
        host_device(slf)
    }
}
