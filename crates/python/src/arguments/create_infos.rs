//! The create infos of a call that creates many resources.

use ash::vk;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use vkmem_engine::Error;

use super::create_info::{self, Built, CommonKeywords, ImageKeywords};
use super::sequences::{about_item, items, sizes};
use crate::errors::to_py;

/// The create infos of one call. Their pointers are valid while `Infos` lives.
pub struct Infos<T> {
    /// The structs for the driver.
    pub infos: Vec<T>,
    _sources: Vec<Built<T>>,
}

// SAFETY: the pointers inside lead to memory that this keeps, or that the caller guarantees until the call
// returns. The Python objects it keeps are dropped by the thread that created it, attached.
unsafe impl<T> Sync for Infos<T> {}

/// Builds the create infos of `create_buffers(sizes, buffer_usage)` or `create_buffers(structs)`.
pub fn buffer_infos(
    py: Python<'_>,
    given: &Bound<'_, PyAny>,
    usage: Option<&Bound<'_, PyAny>>,
    common: CommonKeywords,
) -> PyResult<Infos<vk::BufferCreateInfo<'static>>> {
    let Some(usage) = usage else {
        common.refuse_repeated(py)?;
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
    // One info is built with everything that all of them share.
    let one = create_info::buffer(py, Some(PyInt::new(py, 1).as_any()), Some(usage), common)?;
    let mut infos = Vec::new();
    let room = infos.try_reserve_exact(sizes.len());
    room.map_err(|_| to_py(py, &Error::TooManyItems(sizes.len())))?;
    infos.extend(sizes.into_iter().map(|size| vk::BufferCreateInfo { size, ..one.info }));
    Ok(Infos { infos, _sources: vec![one] })
}

/// Builds the create infos of `create_images(items)`: tuples of format, extent and usage, or structs.
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
