//! Sequences of the caller, and errors with the index of the item.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString, PyTuple};
use vkmem_engine::Error;
use vkmem_engine::words::counted;

use super::arrays::U64Array;
use super::iterables::{self, MOST_ITEMS, gather};
use super::numbers::{is_handle, quantity};
use super::text::Text;
use crate::errors::{invalid, raised, to_py};

/// Returns an exception with the index of the item it is about.
pub fn about_item(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    let class = error.get_type(py);
    let ours = class.is(py.get_type::<PyTypeError>())
        || class.module().is_ok_and(|module| module.to_string().starts_with("vk_mem"));
    if !ours {
        // An exception of the item's own code stays as it is.
        return error;
    }
    match class.call1((format!("item {index}: {}", error.value(py)),)) {
        Ok(instance) => {
            // Only errors of this package have the attribute; a `TypeError` may accept it as well.
            let _ = instance.setattr("item", index);
            raised(instance)
        }
        Err(error) => error,
    }
}

/// Returns the items of a sequence; raises for text, bytes and objects of this package.
pub fn items<'py>(given: &Bound<'py, PyAny>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = given.cast_exact::<PyList>() {
        // A list is read without a Python call for each item.
        return gather(list.iter().map(Ok), given.py());
    }
    let is_text = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>();
    if is_text {
        return Err(iterables::not_iterable(given, name));
    }
    iterables::read(given, name, MOST_ITEMS, |item| Ok(item.clone()))
}

/// Integers of the caller: a contiguous array of unsigned 64-bit integers, which is read without an object
/// for each, or any sequence.
pub enum Integers {
    /// A buffer that is held while it is read.
    Array(U64Array),
    /// A copy.
    List(Vec<u64>),
}

impl Integers {
    /// Reads the integers; errors name the list `name` and an item `one`.
    pub fn read(given: &Bound<'_, PyAny>, name: &str, one: &str) -> PyResult<Self> {
        let py = given.py();
        let is_list =
            given.is_exact_instance_of::<PyList>() || given.is_exact_instance_of::<PyTuple>();
        if !is_list
            && !is_handle(given)
            && let Ok(array) = U64Array::read(given, name)
        {
            return Ok(Self::Array(array));
        }
        let read = |(index, item): (usize, Bound<'_, PyAny>)| {
            quantity(&item, one).map_err(|error| about_item(py, index, error))
        };
        gather(items(given, name)?.into_iter().enumerate().map(read), py).map(Self::List)
    }

    /// Returns the number of integers.
    pub fn len(&self) -> usize {
        match self {
            Self::Array(array) => array.len(),
            Self::List(list) => list.len(),
        }
    }

    /// Returns an integer.
    pub fn get(&self, index: usize) -> u64 {
        match self {
            Self::Array(array) => array.get(index),
            Self::List(list) => list[index],
        }
    }
}

/// Reads the integers into a list; see [`Integers::read`].
pub fn integers(given: &Bound<'_, PyAny>, name: &str, one: &str) -> PyResult<Vec<u64>> {
    match Integers::read(given, name, one)? {
        Integers::List(list) => Ok(list),
        array => {
            let (mut all, count) = (Vec::new(), array.len());
            let room = all.try_reserve_exact(count);
            room.map_err(|_| to_py(given.py(), &Error::TooManyItems(count)))?;
            all.extend((0..count).map(|index| array.get(index)));
            Ok(all)
        }
    }
}

/// Reads sizes in bytes.
pub fn sizes(given: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    integers(given, "sizes", "size")
}

/// Reads names, one for each item; raises if `has_name` says that `name=` is given, too.
pub fn names(
    given: Option<&Bound<'_, PyAny>>,
    has_name: bool,
    count: usize,
) -> PyResult<Vec<Option<String>>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if has_name {
        return Err(invalid(given.py(), "names= stands instead of name=, not beside it"));
    }
    let read = |(index, item): (usize, Bound<'_, PyAny>)| {
        let wrong =
            || about_item(given.py(), index, PyTypeError::new_err("a name is a str or None"));
        Text::optional(&item, "names").map_err(|_| wrong())
    };
    let names: Vec<_> =
        items(given, "names")?.into_iter().enumerate().map(read).collect::<PyResult<_>>()?;
    if names.len() == count {
        return Ok(names);
    }
    Err(invalid(
        given.py(),
        format!("{} for {}", counted(names.len(), "name"), counted(count, "item")),
    ))
}

/// Reads objects that are to be ended; None is skipped, like null in Vulkan and VMA.
pub fn objects_to_end<'py>(
    given: &Bound<'py, PyAny>,
    name: &str,
    accept: impl Fn(&Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut all = objects(given, name, |item| if item.is_none() { Ok(()) } else { accept(item) })?;
    all.retain(|item| !item.is_none());
    Ok(all)
}

/// Reads objects of a class one by one; `what` names the class in errors.
pub fn objects<'py>(
    given: &Bound<'py, PyAny>,
    name: &str,
    accept: impl Fn(&Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let all = items(given, name)?;
    for (index, item) in all.iter().enumerate() {
        accept(item).map_err(|error| about_item(given.py(), index, error))?;
    }
    Ok(all)
}
