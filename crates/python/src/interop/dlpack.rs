//! Mapped memory as a tensor of DLPack: bytes of the host (`kDLCPU`), in one dimension.
//!
//! A capsule holds a use of its mapping, as a view does. Who takes the tensor out of it renames it, and calls
//! the deleter when done, on any thread, with or without the interpreter; a capsule that nobody took calls it
//! by itself.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyByteArrayMethods, PyMemoryView};

use crate::interpreter::try_attach;
use crate::memory::mapping::{Mapping, closed, report_unraised};

/// `kDLCPU`
const CPU: i32 = 1;
/// `kDLUInt`
const UNSIGNED: u8 = 1;
/// `DLPACK_FLAG_BITMASK_READ_ONLY`
const READ_ONLY: u64 = 1;
/// `DLPACK_FLAG_BITMASK_IS_COPIED`
const IS_COPIED: u64 = 2;

const LEGACY: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    dimensions: i32,
    type_code: u8,
    type_bits: u8,
    type_lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`
#[repr(C)]
struct LegacyTensor {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut LegacyTensor)>,
}

/// `DLManagedTensorVersioned`
#[repr(C)]
struct VersionedTensor {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut VersionedTensor)>,
    flags: u64,
    tensor: Tensor,
}

/// What a consumer points to, and behind it what keeps the memory.
#[repr(C)]
struct Held<T> {
    /// First: a pointer to it is one to the whole.
    managed: T,
    shape: [i64; 1],
    strides: [i64; 1],
    owner: Owner,
}

/// What keeps the memory.
enum Owner {
    /// A use of a mapping, which is counted there.
    View(Py<Mapping>),
    /// A copy.
    Copy(Py<PyByteArray>),
}

/// Ends what a tensor holds.
///
/// # Safety
/// Made by [`capsule`], and ended once.
unsafe fn delete<T>(managed: *mut T) {
    // At the end of the interpreter it stays: there is nobody left who could let go of it.
    try_attach(|py| {
        // SAFETY: of the caller; `managed` stands first in what was leaked.
        let held = unsafe { Box::from_raw(managed.cast::<Held<T>>()) };
        match held.owner {
            Owner::View(mapping) => report_unraised(py, || mapping.get().end_use(py)),
            Owner::Copy(bytes) => drop(bytes),
        }
    });
}

unsafe extern "C" fn delete_legacy(managed: *mut LegacyTensor) {
    // SAFETY: who has the tensor calls its deleter once.
    unsafe { delete(managed) };
}

unsafe extern "C" fn delete_versioned(managed: *mut VersionedTensor) {
    // SAFETY: as above.
    unsafe { delete(managed) };
}

/// Ends a tensor that nobody took: its capsule has the name that it was made with.
///
/// # Safety
/// The destructor of a capsule of such tensors.
unsafe fn drop_capsule<T>(capsule: *mut ffi::PyObject, name: &CStr) {
    // SAFETY: a capsule, and a string of C that lives for ever.
    let managed = unsafe {
        if ffi::PyCapsule_IsValid(capsule, name.as_ptr()) == 0 {
            return;
        }
        ffi::PyCapsule_GetPointer(capsule, name.as_ptr())
    };
    // SAFETY: under this name it holds a tensor that nobody took.
    unsafe { delete(managed.cast::<T>()) };
}

unsafe extern "C" fn drop_legacy(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython passes the capsule that it was made for.
    unsafe { drop_capsule::<LegacyTensor>(capsule, LEGACY) };
}

unsafe extern "C" fn drop_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: as above.
    unsafe { drop_capsule::<VersionedTensor>(capsule, VERSIONED) };
}

/// A capsule of a tensor of `size` bytes from `address` on, which `owner` keeps.
fn capsule<T>(
    py: Python<'_>,
    (address, size): (usize, i64),
    owner: Owner,
    managed: impl FnOnce(Tensor) -> T,
    tensor: impl FnOnce(&mut T) -> &mut Tensor,
    name: &'static CStr,
    destructor: ffi::PyCapsule_Destructor,
) -> PyResult<Py<PyAny>> {
    // An empty tensor has no data.
    let data = if size == 0 { std::ptr::null_mut() } else { address as *mut c_void };
    let mut held = Box::new(Held {
        managed: managed(Tensor {
            data,
            device_type: CPU,
            device_id: 0,
            dimensions: 1,
            type_code: UNSIGNED,
            type_bits: 8,
            type_lanes: 1,
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            byte_offset: 0,
        }),
        shape: [size],
        strides: [1],
        owner,
    });
    let (shape, strides) = (held.shape.as_mut_ptr(), held.strides.as_mut_ptr());
    let inner = tensor(&mut held.managed);
    (inner.shape, inner.strides) = (shape, strides);
    let held = Box::into_raw(held);
    // SAFETY: what it points to lives until the deleter, the name for ever.
    let made = unsafe { ffi::PyCapsule_New(held.cast(), name.as_ptr(), Some(destructor)) };
    // SAFETY: a new reference, or null with an exception.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) };
    if made.is_err() {
        // SAFETY: nobody else has it.
        unsafe { delete(held.cast::<T>()) };
    }
    made.map(Bound::unbind)
}

/// The capsule that a consumer asked for.
fn tensor_of(
    py: Python<'_>,
    place: (usize, i64),
    owner: Owner,
    versioned: bool,
    flags: u64,
) -> PyResult<Py<PyAny>> {
    if versioned {
        let managed = |tensor| VersionedTensor {
            major: 1,
            minor: 0,
            context: std::ptr::null_mut(),
            deleter: Some(delete_versioned),
            flags,
            tensor,
        };
        return capsule(py, place, owner, managed, |it| &mut it.tensor, VERSIONED, drop_versioned);
    }
    let managed = |tensor| LegacyTensor {
        tensor,
        context: std::ptr::null_mut(),
        deleter: Some(delete_legacy),
    };
    capsule(py, place, owner, managed, |it| &mut it.tensor, LEGACY, drop_legacy)
}

#[pymethods]
impl Mapping {
    /// Its bytes as a capsule of DLPack: unsigned integers of 8 bits in one dimension, of the host.
    ///
    /// With `max_version` of 1 or above a versioned one, which says where it is read-only; `copy=True` gives
    /// memory of its own. While the tensor lives, the mapping stays open.
    ///
    /// Raises `BufferError` for another device or a stream, and for a read-only mapping where the consumer
    /// does not know versions; `UseAfterFreeError` after `close`.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__(
        slf: &Bound<'_, Self>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.check_process(py)?;
        if stream.is_some() {
            return Err(PyBufferError::new_err("stream must be None: this is memory of the host"));
        }
        if let Some(device) = dl_device.filter(|device| *device != (CPU, 0)) {
            let why = format!("dl_device is {device:?}: memory of the host is ({CPU}, 0)");
            return Err(PyBufferError::new_err(why));
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        let (address, size, writable) = this.bytes();
        let size = i64::try_from(size)
            .map_err(|_| PyBufferError::new_err("too large for a tensor of DLPack"))?;
        let is_copied = copy == Some(true);
        if !writable && !versioned && !is_copied {
            let why = "the mapping is read-only, which only a versioned tensor can say: max_version=(1, 0)";
            return Err(PyBufferError::new_err(why));
        }
        if !this.begin_use(false) {
            return Err(closed(py));
        }
        if is_copied {
            let copied =
                PyMemoryView::from(slf.as_any()).and_then(|view| PyByteArray::from(view.as_any()));
            this.end_use(py)?;
            let copied = copied?;
            let place = (copied.data() as usize, size);
            return tensor_of(py, place, Owner::Copy(copied.unbind()), versioned, IS_COPIED);
        }
        let owner = Owner::View(slf.clone().unbind());
        let flags = if writable { 0 } else { READ_ONLY };
        tensor_of(py, (address, size), owner, versioned, flags)
    }

    /// `(1, 0)`: `kDLCPU`.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }
}
