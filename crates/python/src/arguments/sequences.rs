//! Lists of what one call creates, and errors that say which item it was.

use ash::vk;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyList, PyString, PyTuple};
use vkmem_engine::{Error, FailedItem};

use crate::arguments::arrays::Quads;
use crate::arguments::create_info;
use crate::arguments::create_info::{Built, CommonKeywords, ImageKeywords};
use crate::arguments::iterables as sequences;
use crate::arguments::iterables::{MOST_ITEMS, gather};
use crate::arguments::numbers::quantity;
use crate::arguments::text::Text;
use crate::errors::{invalid, to_py, to_py_of_item};
use crate::objects::allocation_create_info::Keywords;
use vkmem_engine::words::counted;

/// The exception of one item of many.
pub fn failed(py: Python<'_>, failed: &FailedItem) -> PyErr {
    to_py_of_item(py, &failed.error, failed.index)
}

/// The same exception, with a word on which item it is about.
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
fn items<'py>(given: &Bound<'py, PyAny>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = given.cast_exact::<PyList>() {
        // Its items come without a call of Python for each.
        return gather(list.iter().map(Ok), given.py());
    }
    let is_text = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>();
    if is_text {
        return Err(sequences::no_sequence(given, name));
    }
    sequences::read(given, name, MOST_ITEMS, |item| Ok(item.clone()))
}

/// Integers of a caller: a contiguous array of unsigned 64-bit ones, which is read without an object
/// for each, or any sequence.
pub enum Integers {
    /// Held while it is read.
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

/// Names, one an item; not beside one for all.
pub fn names(
    given: Option<&Bound<'_, PyAny>>,
    keywords: &Keywords,
    count: usize,
) -> PyResult<Vec<Option<String>>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if keywords.name.is_some() {
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

/// The create infos of one call. Their pointers are good while this lives.
pub struct Infos<T> {
    /// For the driver.
    pub infos: Vec<T>,
    _sources: Vec<Built<T>>,
}

// SAFETY: the pointers inside lead to memory that this keeps, or that the caller vouches for until
// the call returns. The Python objects it keeps are dropped where it was made, attached.
unsafe impl<T> Sync for Infos<T> {}

/// `create_buffers(sizes, buffer_usage)` or `create_buffers(structs)`.
pub fn buffer_infos(
    py: Python<'_>,
    given: &Bound<'_, PyAny>,
    usage: Option<&Bound<'_, PyAny>>,
    common: CommonKeywords,
) -> PyResult<Infos<vk::BufferCreateInfo<'static>>> {
    let Some(usage) = usage else {
        common.refuse_beside_structs(py)?;
        let read = |(index, item): (usize, Bound<'_, PyAny>)| {
            create_info::buffer(py, Some(&item), None, CommonKeywords::default())
                .map_err(|error| about_item(py, index, error))
        };
        let built: Vec<_> =
            items(given, "infos")?.into_iter().enumerate().map(read).collect::<PyResult<_>>()?;
        let infos = built.iter().map(|it| it.info).collect();
        return Ok(Infos { infos, _sources: built });
    };
    let sizes = sizes(given)?;
    // One is built with everything that they share.
    let one = create_info::buffer(py, Some(PyInt::new(py, 1).as_any()), Some(usage), common)?;
    let mut infos = Vec::new();
    let room = infos.try_reserve_exact(sizes.len());
    room.map_err(|_| to_py(py, &Error::TooManyItems(sizes.len())))?;
    infos.extend(sizes.into_iter().map(|size| vk::BufferCreateInfo { size, ..one.info }));
    Ok(Infos { infos, _sources: vec![one] })
}

/// `create_images(items)`: tuples of format, extent and usage, or structs.
pub fn image_infos(
    py: Python<'_>,
    given: &Bound<'_, PyAny>,
    keywords: &ImageKeywords,
) -> PyResult<Infos<vk::ImageCreateInfo<'static>>> {
    let read = |(index, item): (usize, Bound<'_, PyAny>)| {
        let parts: Vec<Bound<'_, PyAny>> =
            item.cast::<PyTuple>().map_or_else(|_| vec![item.clone()], |it| it.iter().collect());
        let built = match &parts[..] {
            [format, extent, usage] => {
                let arguments = [Some(format), Some(extent), Some(usage)];
                create_info::image(py, arguments, keywords.for_another())
            }
            [info] if !item.is_instance_of::<PyTuple>() => {
                create_info::image(py, [Some(info), None, None], keywords.for_another())
            }
            _ => Err(PyTypeError::new_err(
                "an image of many is (format, extent, image_usage) or a VkImageCreateInfo",
            )),
        };
        built.map_err(|error| about_item(py, index, error))
    };
    let built: Vec<_> =
        items(given, "images")?.into_iter().enumerate().map(read).collect::<PyResult<_>>()?;
    Ok(Infos { infos: built.iter().map(|it| it.info).collect(), _sources: built })
}

/// The same of what is ended, where None stands for nothing, as null does in Vulkan and VMA.
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
