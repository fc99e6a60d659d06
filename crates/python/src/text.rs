//! Texts of the caller. Rust's are well-formed Unicode, Python's need not be: a file name that no
//! encoding fits has halves of surrogate pairs in it.

use pyo3::CastError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A text in which each half of a surrogate pair that stands alone became U+FFFD: no name is refused for
/// one, and one that is looked up is simply not found.
pub struct Text(pub String);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = CastError<'a, 'py>;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self(value.cast::<PyString>()?.to_string_lossy().into_owned()))
    }
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
