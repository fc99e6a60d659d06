//! Texts of the caller. Rust's are well-formed Unicode, Python's need not be: a file name that no
//! encoding fits has halves of surrogate pairs in it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// A text in which each half of a surrogate pair that stands alone became U+FFFD: no name is refused for
/// one, and one that is looked up is simply not found.
pub struct Text(pub String);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let text = value.cast::<PyString>()?;
        match text.to_cow() {
            Ok(whole) => Ok(Self(whole.into_owned())),
            Err(_) => replaced(&text).map(Self),
        }
    }
}

#[cold]
fn replaced(text: &Bound<'_, PyString>) -> PyResult<String> {
    let encoded = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?;
    let pairs = encoded.cast::<PyBytes>()?.as_bytes().chunks_exact(2);
    let units: Vec<u16> = pairs.map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Ok(String::from_utf16_lossy(&units))
}

impl Text {
    /// Of a keyword.
    pub fn string(value: &Bound<'_, PyAny>) -> PyResult<String> {
        Ok(value.extract::<Self>()?.0)
    }

    /// Of a keyword that may be None.
    pub fn optional(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        Ok(value.extract::<Option<Self>>()?.map(|text| text.0))
    }
}
