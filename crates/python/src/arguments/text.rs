//! Texts of the caller. Rust's are well-formed Unicode, Python's need not be: a file name that no
//! encoding fits has halves of surrogate pairs in it.

use pyo3::exceptions::PyUnicodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::numbers::of_type;
use crate::errors::out_of_host_memory;

/// A text in which each half of a surrogate pair that stands alone became U+FFFD: no name is refused for
/// one, and one that is looked up is simply not found.
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

/// A copy; a text is as long as the caller likes.
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
    // A unit makes three bytes at most.
    let room = replaced.try_reserve_exact(3 * units.len());
    room.map_err(|_| out_of_host_memory(text.py()))?;
    let whole = char::decode_utf16(units);
    replaced.extend(whole.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)));
    Ok(replaced)
}

impl Text {
    /// Of a keyword.
    pub fn string(value: &Bound<'_, PyAny>, name: &str) -> PyResult<String> {
        Ok(of_type::<Self>(value, name, "a str")?.0)
    }

    /// Of a keyword that may be None.
    pub fn optional(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<String>> {
        if value.is_none() { Ok(None) } else { Self::string(value, name).map(Some) }
    }
}
