//! Buffers of Python objects whose bytes are plain data: numbers, characters, and structs of those.
//!
//! The bytes of an array of objects, pointers or functions are addresses of this process. Writing to such an
//! array would forge pointers, and copying from it would pass on addresses that are not kept valid.

use std::ffi::CStr;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

/// Format characters of numbers and characters, in the module `struct`, PEP 3118 and ctypes.
const NUMBERS: &[u8] = b"?bBcdDefFgGhHiIlLnNpqQstuwvx";

/// A contiguous buffer of another Python object. Must not be moved while it is held, as its shape may point
/// into itself.
pub struct PlainBuffer(ffi::Py_buffer);

impl PlainBuffer {
    /// Creates a buffer that is not held.
    pub const fn none() -> Self {
        Self(ffi::Py_buffer::new())
    }

    /// Holds the buffer of an object; to be called once. Raises the object's own exception if it has no
    /// contiguous buffer, and `TypeError` if its bytes are not plain data.
    pub fn hold(&mut self, object: &Bound<'_, PyAny>, writable: bool) -> PyResult<()> {
        let py = object.py();
        let writable = if writable { ffi::PyBUF_WRITABLE } else { 0 };
        let mut get = |flags| {
            // SAFETY: a valid object, and memory for a view that is not held yet.
            match unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut self.0, flags | writable) }
            {
                0 => Ok(()),
                _ => Err(PyErr::fetch(py)),
            }
        };
        match get(ffi::PyBUF_FORMAT | ffi::PyBUF_ND) {
            Ok(()) => self.check_format(object),
            Err(why)
                if why.is_instance_of::<PyValueError>(py)
                    || why.is_instance_of::<PyBufferError>(py) =>
            {
                // NumPy has types without a format: dates, and types of other packages.
                get(ffi::PyBUF_SIMPLE)?;
                check_array(object, &why)
            }
            Err(why) => Err(why),
        }
    }

    /// Takes that of an object whose elements may lie apart, as those of a slice or in Fortran's order do.
    pub fn hold_strided(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let flags = ffi::PyBUF_FORMAT | ffi::PyBUF_STRIDES;
        // SAFETY: a valid object and a place for the view, which has none yet.
        match unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut self.0, flags) } {
            0 => self.check_format(object),
            _ => Err(PyErr::fetch(object.py())),
        }
    }

    /// Elements and distances in bytes by dimension, of one that was held by `hold_strided`.
    pub fn layout(&self) -> (Vec<usize>, Vec<isize>) {
        let count = self.0.ndim.unsigned_abs() as usize;
        if self.0.shape.is_null() || self.0.strides.is_null() {
            return (vec![self.len() / self.item_size()], vec![self.item_size() as isize]);
        }
        // SAFETY: so many of each, while the buffer is held.
        let (shape, strides) = unsafe {
            (
                std::slice::from_raw_parts(self.0.shape, count),
                std::slice::from_raw_parts(self.0.strides, count),
            )
        };
        (shape.iter().map(|it| it.unsigned_abs()).collect(), strides.to_vec())
    }

    /// Bytes of an element.
    pub fn item_size(&self) -> usize {
        self.0.itemsize.unsigned_abs().max(1)
    }

    /// Returns the start address.
    pub fn address(&self) -> usize {
        self.0.buf as usize
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    /// Returns the object that exports the buffer; null if it is not held.
    pub fn exporter(&self) -> *mut ffi::PyObject {
        self.0.obj
    }

    fn check_format(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        // A null format means plain bytes.
        if self.0.format.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and a C string while the buffer is held.
        let format = unsafe { CStr::from_ptr(self.0.format) }.to_bytes();
        let plain = match format {
            // The format that ctypes gives for packed structs and unions, whatever they contain.
            b"B" if self.0.itemsize != 1 => is_plain_ctype(&object.get_type())?,
            _ => is_plain(format),
        };
        if plain {
            return Ok(());
        }
        let format = String::from_utf8_lossy(format);
        Err(not_plain(&format!("a buffer of format '{}'", format.escape_debug())))
    }
}

impl Drop for PlainBuffer {
    fn drop(&mut self) {
        // SAFETY: filled by `PyObject_GetBuffer`, or without an object, which makes this do nothing; a thread
        // that drops a held buffer is attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

fn not_plain(what: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{what} may hold references or pointers; bytes are copied from and to numbers, characters and \
         structs of those"
    ))
}

/// Returns whether a format has numbers and characters only.
fn is_plain(format: &[u8]) -> bool {
    if let [one] = format {
        return NUMBERS.contains(one);
    }
    let mut rest = format.iter().copied();
    while let Some(code) = rest.next() {
        let known = match code {
            // A field name, up to the next colon.
            b':' => rest.by_ref().any(|it| it == b':'),
            // A shape, up to the closing parenthesis.
            b'(' => rest.by_ref().any(|it| it == b')'),
            b'T' => rest.next() == Some(b'{'),
            // Complex if a number follows; a `Z` alone is a pointer to characters.
            b'Z' => matches!(rest.next(), Some(b'f' | b'd' | b'g')),
            b'}' | b'0'..=b'9' | b'@' | b'=' | b'<' | b'>' | b'!' | b'^' | b' ' => true,
            number => NUMBERS.contains(&number),
        };
        if !known {
            return false;
        }
    }
    true
}

/// Checks an array whose type has no format; `why` is the exception for asking for one.
fn check_array(object: &Bound<'_, PyAny>, why: &PyErr) -> PyResult<()> {
    let has_objects = |dtype: Bound<'_, PyAny>| dtype.getattr("hasobject")?.is_truthy();
    match object.getattr("dtype").and_then(has_objects) {
        Ok(false) => Ok(()),
        _ => Err(not_plain(&format!("a buffer without a format ({})", why.value(object.py())))),
    }
}

/// Returns whether a class of ctypes has numbers and characters only: arrays, structs and unions list their
/// parts.
fn is_plain_ctype(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let part = |it: &Bound<'_, PyAny>| match it.cast::<PyType>() {
        Ok(class) => is_plain_ctype(class),
        Err(_) => Ok(false),
    };
    if let Ok(one) = class.getattr("_type_") {
        return match one.cast::<PyString>() {
            Ok(code) => Ok(is_plain(code.to_cow()?.as_bytes())),
            // An array has a length, a pointer has none.
            Err(_) => Ok(class.hasattr("_length_")? && part(&one)?),
        };
    }
    let mut known = false;
    for ancestor in class.mro() {
        let Ok(fields) = ancestor.getattr("__dict__")?.get_item("_fields_") else { continue };
        known = true;
        for field in fields.try_iter()? {
            let field = field?;
            if !part(&field.cast::<PyTuple>()?.get_item(1)?)? {
                return Ok(false);
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn formats_of_numbers_and_characters_are_plain() {
        for plain in [
            "B",
            "c",
            "<f",
            "3s",
            "2w",
            "8x",
            "Zf",
            ">Zd",
            "",
            "T{i:a:(2)=d:b:}",
            "(2,3)f",
            "T{T{B:r:B:g:}:pixel:^d:weight:}",
            "T{i:P O &:}",
            "3x h",
        ] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        for other in [
            "O",
            "P",
            "<P",
            "z",
            "<Z",
            "Z",
            "&<i",
            "X{}",
            "T{i:a:O:b:}",
            "T{<i:a:<O:p:}",
            "2O",
            "T",
            "k",
        ] {
            assert!(!is_plain(other.as_bytes()), "{other}");
        }
    }
}
