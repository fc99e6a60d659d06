//! Texts of the caller. A Rust `String` is well-formed Unicode, a Python `str` need not be: a file name that
//! fits no encoding contains lone surrogates.

use pyo3::exceptions::PyUnicodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::numbers::of_type;
use crate::errors::out_of_host_memory;

/// A text in which each lone surrogate is replaced by U+FFFD: so no name is refused for it, and a lookup with
/// it finds nothing.
pub struct Text(pub String);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let text = value.cast::<PyString>()?;
        match text.to_cow() {
            Ok(whole) => owned(value.py(), &whole).map(Self),
            Err(error) if error.is_instance_of::<PyUnicodeError>(value.py()) => {
                replaced(&text).map(Self)
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies a text, which may be of any length.
fn owned(py: Python<'_>, text: &str) -> PyResult<String> {
    let mut owned = String::new();
    owned.try_reserve_exact(text.len()).map_err(|_| out_of_host_memory(py))?;
    owned.push_str(text);
    Ok(owned)
}

#[cold]
fn replaced(text: &Bound<'_, PyString>) -> PyResult<String> {
    let encoded = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?;
    let pairs = encoded.cast::<PyBytes>()?.as_bytes().chunks_exact(2);
    let units = pairs.map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let mut replaced = String::new();
    // A code unit takes at most three bytes.
    let room = replaced.try_reserve_exact(3 * units.len());
    room.map_err(|_| out_of_host_memory(text.py()))?;
    let whole = char::decode_utf16(units);
    replaced.extend(whole.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)));
    Ok(replaced)
}

impl Text {
    /// Reads a keyword argument.
    pub fn string(value: &Bound<'_, PyAny>, name: &str) -> PyResult<String> {
        Ok(of_type::<Self>(value, name, "a str")?.0)
    }

    /// Reads a keyword argument that may be None.
    pub fn optional(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<String>> {
        if value.is_none() { Ok(None) } else { Self::string(value, name).map(Some) }
    }
}
