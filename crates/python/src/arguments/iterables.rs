//! Sequences of the caller's, which may be longer than memory, or endless.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::Error;

use crate::errors::{invalid, to_py};
use crate::process::forks::in_one_process;

/// What an iterator without a length may give to one call that takes many items.
pub const MOST_ITEMS: usize = 1 << 20;

/// More queue families than any device has.
pub const MOST_FAMILIES: usize = 1024;

/// The exception for what cannot be iterated.
pub fn no_sequence(given: &Bound<'_, PyAny>, name: &str) -> PyErr {
    match given.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!("{name} must be an iterable, not {kind}")),
        Err(error) => error,
    }
}

/// Reads the items of anything that can be iterated: at most `most`, or as many as it says that it has,
/// if `most` is [`MOST_ITEMS`].
pub fn read<'py, T>(
    given: &Bound<'py, PyAny>,
    name: &str,
    most: usize,
    item: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let py = given.py();
    let items = in_one_process(py, || given.try_iter())?.map_err(|error| {
        if error.is_instance_of::<PyTypeError>(py) { no_sequence(given, name) } else { error }
    })?;
    let most = if most == MOST_ITEMS { most.max(length(given)?) } else { most };
    let (mut items, mut read) = (items, 0);
    let next = || {
        let found = match in_one_process(py, || items.next()) {
            Ok(found) => found?,
            Err(forked) => return Some(Err(forked)),
        };
        if read == most {
            return Some(Err(invalid(py, format!("{name} has more than {most} items"))));
        }
        read += 1;
        Some(found.and_then(|found| item(&found)))
    };
    gather(std::iter::from_fn(next), py)
}

/// How many items something says that it has; 0 if it does not say.
fn length(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    let py = given.py();
    in_one_process(py, || given.len())?
        .or_else(|error| if error.is_instance_of::<PyTypeError>(py) { Ok(0) } else { Err(error) })
}

/// Items as they come. Their number is the caller's, so it may be more than memory holds.
pub fn gather<T>(items: impl Iterator<Item = PyResult<T>>, py: Python<'_>) -> PyResult<Vec<T>> {
    let mut all = Vec::new();
    for item in items {
        if all.len() == all.capacity() && all.try_reserve(1).is_err() {
            return Err(to_py(py, &Error::TooManyItems(all.len() + 1)));
        }
        all.push(item?);
    }
    Ok(all)
}
