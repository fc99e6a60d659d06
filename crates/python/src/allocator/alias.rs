//! Aliasing: resources in the memory of another one.

use std::sync::Arc;

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{Allocator, python_object};
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::numbers::unsigned;
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::lifetime::create::CreatedResource;
use crate::lifetime::ownership::{Resource, ResourceRef};
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;
use crate::package::unexpected_keyword;
use crate::process::links::Link;

/// Keywords of an alias, which has none of an allocation.
#[derive(Default)]
struct AliasKeywords {
    local_offset: u64,
    name: Option<String>,
    user_data: Option<Link<PyAny>>,
}

impl AliasKeywords {
    fn read(
        function: &str,
        keywords: Option<&Bound<'_, PyDict>>,
        mut other: impl FnMut(&str, &Bound<'_, PyAny>) -> PyResult<bool>,
    ) -> PyResult<Self> {
        let mut read = Self::default();
        for (key, value) in keywords.into_iter().flat_map(|it| it.iter()) {
            let key = key.cast::<PyString>()?.to_string_lossy().into_owned();
            match key.as_str() {
                "local_offset" => read.local_offset = unsigned(&value, "local_offset")?,
                "name" => read.name = Text::optional(&value, "name")?,
                "user_data" => {
                    let data = (!value.is_none()).then(|| Link::new(value.clone().unbind()));
                    read.user_data = data;
                }
                _ if other(&key, &value)? => {}
                _ => {
                    return Err(unexpected_keyword(value.py(), function, &key));
                }
            }
        }
        Ok(read)
    }

    fn finish<T: PyClass<BaseType = ResourceObject>>(
        self,
        py: Python<'_>,
        base: &ResourceRef,
        made: CreatedResource,
        object: T,
    ) -> PyResult<Py<T>> {
        let resource = Resource::create_alias(py, base, made, self.name)?;
        resource.allocator.events.tell_created(py, std::slice::from_ref(&resource), |_| None);
        python_object(py, resource, self.user_data, object)
    }
}

impl Allocator {
    fn base<'a>(&self, base: &'a Bound<'_, PyAny>) -> PyResult<&'a ResourceRef> {
        let Ok(object) = base.cast::<ResourceObject>() else {
            let kind = base.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "base must be a Buffer, an Image or an Allocation, not {kind}"
            )));
        };
        let resource = &object.get().resource;
        if Arc::ptr_eq(&resource.allocator, &self.state) {
            return Ok(resource);
        }
        Err(invalid(base.py(), format!("{} is of another allocator", resource.describe())))
    }
}

#[pymethods]
impl Allocator {
    /// Creates a buffer in the memory of a `Buffer`, an `Image` or an `Allocation`, which it shares
    /// (`vmaCreateAliasingBuffer2`). Allocates no memory.
    ///
    /// After `base` it takes the arguments of `create_buffer` that describe a buffer. The other keywords are
    /// `local_offset` (bytes from the start of the base's memory), `name` and `user_data`. The base cannot be
    /// destroyed before its aliases; destroying an alias frees no memory. The caller issues the barriers
    /// between accesses through the two, which Vulkan requires (memory aliasing).
    ///
    /// Raises `InvalidArgumentError`, and creates nothing, if the alias does not fit in size, alignment or
    /// memory type; if the memory is dedicated to one resource (create that with `CAN_ALIAS`); and if another
    /// kind of resource would share a page of `buffer_image_granularity` bytes with a neighbour (memory of
    /// `allocate_memory` shares none). Raises `UseAfterFreeError` if `base` or the allocator has ended.
    #[pyo3(signature = (base, size = None, buffer_usage = None, **keywords))]
    fn create_aliasing_buffer(
        &self,
        py: Python<'_>,
        base: &Bound<'_, PyAny>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Buffer>> {
        let _inside = self.state.enter(py)?;
        let mut common = CommonKeywords::default();
        let keywords = AliasKeywords::read("create_aliasing_buffer", keywords, |key, value| {
            common.take(key, value)
        })?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        let base = self.base(base)?;
        let _pin = base.enter_memory(py)?;
        let allocator = &self.state.device_allocator;
        let offset = keywords.local_offset;
        let (buffer, allocation) = self.attempt(py, || {
            // SAFETY: created here, or a struct of the caller that interop has checked.
            unsafe { allocator.create_aliasing_buffer(&built.info, &base.allocation(), offset) }
        })?;
        keywords.finish(py, base, CreatedResource::buffer(buffer, allocation, &built.info), Buffer)
    }

    /// Creates an image in the memory of a `Buffer`, an `Image` or an `Allocation`, which it shares
    /// (`vmaCreateAliasingImage2`). Allocates no memory.
    ///
    /// After `base` it takes the arguments of `create_image` that describe an image. Other keywords and
    /// errors are those of `create_aliasing_buffer`.
    #[pyo3(signature = (base, format = None, extent = None, image_usage = None, **keywords))]
    fn create_aliasing_image(
        &self,
        py: Python<'_>,
        base: &Bound<'_, PyAny>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Image>> {
        let _inside = self.state.enter(py)?;
        let mut image = ImageKeywords::default();
        let keywords = AliasKeywords::read("create_aliasing_image", keywords, |key, value| {
            image.take(key, value)
        })?;
        let built = create_info::image(py, [format, extent, image_usage], image)?;
        let base = self.base(base)?;
        let _pin = base.enter_memory(py)?;
        let allocator = &self.state.device_allocator;
        let offset = keywords.local_offset;
        let (image, allocation) = self.attempt(py, || {
            // SAFETY: created here, or a struct of the caller that interop has checked.
            unsafe { allocator.create_aliasing_image(&built.info, &base.allocation(), offset) }
        })?;
        let made = CreatedResource::image(image, allocation, &built.info);
        keywords.finish(py, base, made, Image::of(&built.info))
    }
}
