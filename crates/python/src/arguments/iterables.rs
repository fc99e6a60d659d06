//! Iterables of the caller, which may have more items than fit in memory, or never end.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::Error;

use super::numbers::is_handle;
use crate::errors::{invalid, to_py};
use crate::process::forks::in_one_process;

/// Maximum number of items of an iterator without a length, for one call that takes many items.
pub const MOST_ITEMS: usize = 1 << 20;

/// Maximum number of queue families: more than any device has.
pub const MOST_FAMILIES: usize = 1024;

/// Returns the exception for an object that is not iterable.
pub fn not_iterable(given: &Bound<'_, PyAny>, name: &str) -> PyErr {
    match given.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!("{name} must be an iterable, not {kind}")),
        Err(error) => error,
    }
}

/// Reads the items of an iterable: at most `most`; if `most` is [`MOST_ITEMS`], as many as its length.
pub fn read<'py, T>(
    given: &Bound<'py, PyAny>,
    name: &str,
    most: usize,
    item: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    // A buffer has items, but they are its bytes.
    if is_handle(given) {
        return Err(not_iterable(given, name));
    }
    let py = given.py();
    let items = in_one_process(py, || given.try_iter())?.map_err(|error| {
        if error.is_instance_of::<PyTypeError>(py) { not_iterable(given, name) } else { error }
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

/// Returns the length of an object; 0 if it has none.
fn length(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    let py = given.py();
    in_one_process(py, || given.len())?
        .or_else(|error| if error.is_instance_of::<PyTypeError>(py) { Ok(0) } else { Err(error) })
}

/// Collects items. The caller determines their number, so there may be more than fit in memory.
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
