//! Lists of a caller, and errors that say which item it was.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString, PyTuple};
use vkmem_engine::Error;
use vkmem_engine::words::counted;

use super::arrays::Quads;
use super::iterables::{self, MOST_ITEMS, gather};
use super::numbers::quantity;
use super::text::Text;
use crate::errors::{invalid, to_py};

/// An exception with a word on which item it is about.
pub fn about_item(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    let class = error.get_type(py);
    let ours = class.is(py.get_type::<PyTypeError>())
        || class.module().is_ok_and(|module| module.to_string().starts_with("vk_mem"));
    if !ours {
        // Whatever the item's own code raised.
        return error;
    }
    match class.call1((format!("item {index}: {}", error.value(py)),)) {
        Ok(instance) => {
            // Only errors of this package have the attribute; a TypeError may take it as well.
            let _ = instance.setattr("item", index);
            PyErr::from_value(instance)
        }
        Err(error) => error,
    }
}

/// The items of a sequence; text and bytes are none.
pub fn items<'py>(given: &Bound<'py, PyAny>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = given.cast_exact::<PyList>() {
        // Its items come without a call of Python for each.
        return gather(list.iter().map(Ok), given.py());
    }
    let is_text = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>();
    if is_text {
        return Err(iterables::no_sequence(given, name));
    }
    iterables::read(given, name, MOST_ITEMS, |item| Ok(item.clone()))
}

/// Integers of a caller: a contiguous array of unsigned 64-bit ones, which is read without an object
/// for each, or any sequence.
pub enum Integers {
    /// ResourceRef while it is read.
    Array(Quads),
    /// Copied.
    List(Vec<u64>),
}

impl Integers {
    /// `name` is what all of them are called, `one` what one is.
    pub fn read(given: &Bound<'_, PyAny>, name: &str, one: &str) -> PyResult<Self> {
        let py = given.py();
        let is_list =
            given.is_exact_instance_of::<PyList>() || given.is_exact_instance_of::<PyTuple>();
        if !is_list && let Ok(array) = Quads::read(given, name) {
            return Ok(Self::Array(array));
        }
        let read = |(index, item): (usize, Bound<'_, PyAny>)| {
            quantity(&item, one).map_err(|error| about_item(py, index, error))
        };
        gather(items(given, name)?.into_iter().enumerate().map(read), py).map(Self::List)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Array(array) => array.len(),
            Self::List(list) => list.len(),
        }
    }

    /// One of them.
    pub fn get(&self, index: usize) -> u64 {
        match self {
            Self::Array(array) => array.get(index),
            Self::List(list) => list[index],
        }
    }
}

/// The same, read once.
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

/// Sizes in bytes.
pub fn sizes(given: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    integers(given, "sizes", "size")
}

/// Names, one an item; not beside one for all, which `has_name` says is there.
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

/// Objects of a class that are ended, where None stands for nothing, as null does in Vulkan and VMA.
pub fn objects_to_end<'py>(
    given: &Bound<'py, PyAny>,
    name: &str,
    accept: impl Fn(&Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut all = objects(given, name, |item| if item.is_none() { Ok(()) } else { accept(item) })?;
    all.retain(|item| !item.is_none());
    Ok(all)
}

/// Objects of a class, one after the other; `what` names the class for errors.
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
