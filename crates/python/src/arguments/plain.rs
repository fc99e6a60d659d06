//! Buffers of other Python objects whose bytes are plain: numbers and characters, and structs of those.
//!
//! An array of objects, of pointers or of functions has addresses of this process for its bytes. To write
//! to one is to forge a pointer, and to copy from one gives an address away that nobody keeps valid.

use std::ffi::CStr;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

/// Numbers and characters of the module struct, of PEP 3118 and of ctypes.
const NUMBERS: &[u8] = b"?bBcdDefFgGhHiIlLnNpqQstuwvx";

/// A contiguous buffer of another Python object, held for a while. It stays where it is filled: its shape
/// may point into itself.
pub struct PlainBuffer(ffi::Py_buffer);

impl PlainBuffer {
    /// None yet.
    pub const fn none() -> Self {
        Self(ffi::Py_buffer::new())
    }

    /// Takes that of an object, once. What Python raises where there is none, or none that is
    /// contiguous; `TypeError` where its bytes are not plain.
    pub fn hold(&mut self, object: &Bound<'_, PyAny>, writable: bool) -> PyResult<()> {
        let py = object.py();
        let writable = if writable { ffi::PyBUF_WRITABLE } else { 0 };
        let mut get = |flags| {
            // SAFETY: a valid object and a place for the view, which has none yet.
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
                // NumPy has types that it has no format for: dates, and those of other packages.
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

    /// Where it starts.
    pub fn address(&self) -> usize {
        self.0.buf as usize
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    /// Who keeps the memory, if it is held.
    pub fn exporter(&self) -> *mut ffi::PyObject {
        self.0.obj
    }

    fn check_format(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        // None stands for plain bytes.
        if self.0.format.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and a string of C while the buffer is held.
        let format = unsafe { CStr::from_ptr(self.0.format) }.to_bytes();
        let plain = match format {
            // So ctypes says of packed structs and of unions, whatever they hold.
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
        // SAFETY: filled by PyObject_GetBuffer or without an object, which is then nothing to release;
        // who holds one is attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

fn not_plain(what: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{what} may hold references or pointers; bytes are copied from and to numbers, characters and \
         structs of those"
    ))
}

/// Whether a format names numbers and characters only.
fn is_plain(format: &[u8]) -> bool {
    if let [one] = format {
        return NUMBERS.contains(one);
    }
    let mut rest = format.iter().copied();
    while let Some(code) = rest.next() {
        let known = match code {
            // A name, up to the next colon.
            b':' => rest.by_ref().any(|it| it == b':'),
            // A shape.
            b'(' => rest.by_ref().any(|it| it == b')'),
            b'T' => rest.next() == Some(b'{'),
            // Complex; alone it is a pointer to characters.
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

/// Of an array whose type has no format; `why` is what it said to that.
fn check_array(object: &Bound<'_, PyAny>, why: &PyErr) -> PyResult<()> {
    let has_objects = |dtype: Bound<'_, PyAny>| dtype.getattr("hasobject")?.is_truthy();
    match object.getattr("dtype").and_then(has_objects) {
        Ok(false) => Ok(()),
        _ => Err(not_plain(&format!("a buffer without a format ({})", why.value(object.py())))),
    }
}

/// Whether a class of ctypes has numbers and characters only: its arrays, structs and unions name their
/// parts.
fn is_plain_ctype(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let part = |it: &Bound<'_, PyAny>| match it.cast::<PyType>() {
        Ok(class) => is_plain_ctype(class),
        Err(_) => Ok(false),
    };
    if let Ok(one) = class.getattr("_type_") {
        return match one.cast::<PyString>() {
            Ok(code) => Ok(is_plain(code.to_cow()?.as_bytes())),
            // Of an array, which has a length, or of a pointer.
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
