//! Creates or destroys many resources in one call, all or none.

use std::sync::Arc;

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList};
use vkmem_engine::words::with_article;
use vkmem_engine::{AllocationCreateInfo, AllocationRequest, Error, FailedItem};
use vkmem_vulkan::kept_info::{BufferLinks, ImageLinks, KeptBuffer, KeptImage, KeptInfo};

use super::{Allocator, common_options, python_object};
use crate::arguments::create_info::{CommonKeywords, ImageKeywords};
use crate::arguments::create_infos::{buffer_infos, image_infos};
use crate::arguments::numbers::{is_handle, unsigned};
use crate::arguments::sequences::{self, about_item};
use crate::errors::{IntoPyResult, invalid, to_py};
use crate::interpreter::detach;
use crate::lifetime::close::TO_END_ONE;
use crate::lifetime::create::CreatedResource;
use crate::lifetime::destroy_many::destroy_many;
use crate::lifetime::enter::enter_pool;
use crate::lifetime::movable::Movable;
use crate::lifetime::ownership::Resource;
use crate::objects::allocation::Allocation;
use crate::objects::allocation_create_info::Keywords;
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;
use crate::process::host_memory::check_room;

/// Host memory that a resource of a batch takes until the call ends, with its Python object, in bytes.
const BATCH_ITEM_BYTES: usize = 768;

/// Reads `names=`, which replaces `name=`; returns false for any other keyword.
fn take_names(names: &mut Option<Py<PyAny>>, key: &str, value: &Bound<'_, PyAny>) -> bool {
    if key == "names" && !value.is_none() {
        *names = Some(value.clone().unbind());
    }
    key == "names"
}

/// The create infos of one call, for the thread that makes it while it has let the GIL go.
struct InfosOfCall<'a, T>(&'a [T]);

// SAFETY: the pointers inside lead to memory that the call keeps, or that the caller guarantees.
unsafe impl<T> Sync for InfosOfCall<'_, T> {}

impl<T> InfosOfCall<'_, T> {
    fn all(&self) -> &[T] {
        self.0
    }
}

/// Keeps how each of many is created; nothing if they stay where they are.
fn keep_all<T, K>(
    py: Python<'_>,
    keywords: &Keywords,
    infos: &[T],
    keep: impl Fn(&T) -> Result<K, &'static str>,
) -> PyResult<Vec<K>> {
    let mut kept = Vec::new();
    for (index, info) in infos.iter().enumerate() {
        match keywords.keep(py, || keep(info)) {
            Ok(None) => break,
            Ok(Some(one)) => kept.push(one),
            Err(why) => return Err(about_item(py, index, why)),
        }
    }
    Ok(kept)
}

/// Lets the resources of one call move.
fn make_movable(
    list: &Bound<'_, PyList>,
    keywords: &Keywords,
    kept: impl Iterator<Item = KeptInfo>,
) -> PyResult<()> {
    for (object, kept) in list.iter().zip(kept) {
        let movable = Movable::new(kept, keywords.movability());
        ResourceObject::set_movable(object.cast::<ResourceObject>()?, movable)?;
    }
    Ok(())
}

impl Allocator {
    /// Creates the Python objects of many resources; destroys all resources if one cannot be created.
    fn finish_many<'py, T: PyClass<BaseType = ResourceObject>>(
        &self,
        py: Python<'py>,
        keywords: &Keywords,
        names: &[Option<String>],
        made: impl Iterator<Item = CreatedResource>,
        object: impl Fn(usize) -> T,
    ) -> PyResult<Bound<'py, PyList>> {
        let resources = Resource::create_many(py, &self.state, made, &common_options(keywords))?;
        let name = |index: usize| {
            names.get(index).map_or(keywords.name.as_deref(), |name| name.as_deref())
        };
        let is_heard = self.state.events.tell_created(py, &resources, name);
        let list = PyList::empty(py);
        let finish = || {
            for (index, resource) in resources.iter().enumerate() {
                if let Some(name) = name(index) {
                    resource.set_name(Some(name)).or_raise(py)?;
                }
                let user_data = keywords.user_data(py);
                list.append(python_object(py, resource.clone(), user_data, object(index))?)?;
            }
            Ok(())
        };
        let finished: PyResult<()> = finish();
        if let Err(error) = finished {
            destroy_many(py, &self.state, &resources.iter().collect::<Vec<_>>())?;
            return Err(error);
        }
        if is_heard {
            self.debug_new(py, list.iter());
        }
        if keywords.may_be_lost() {
            for object in &list {
                let object = object.cast::<ResourceObject>()?;
                if let Err(why) = ResourceObject::set_losable(object, keywords.loss_priority()) {
                    destroy_many(py, &self.state, &resources.iter().collect::<Vec<_>>())?;
                    return Err(why);
                }
            }
        }
        self.handlers.call_pending(py, &self.state);
        Ok(list)
    }

    /// Runs an attempt for many resources with one create info, with the errors and the callback of one for a single resource.
    fn attempt_many<T>(
        &self,
        py: Python<'_>,
        create: &AllocationCreateInfo,
        mut attempt: impl FnMut(&AllocationCreateInfo) -> Result<T, FailedItem>,
    ) -> PyResult<T> {
        self.handlers.retrying(py, &self.state, || {
            self.or_make_room(py, create, &mut attempt).map_err(|FailedItem { index, error }| {
                FailedItem { index, error: self.add_pending_release(error) }
            })
        })
    }

    /// Ends resources that have been checked.
    fn end_all(&self, py: Python<'_>, objects: &[Bound<'_, PyAny>]) -> PyResult<()> {
        // Checked before anything has ended.
        check_room(py, objects.len(), TO_END_ONE)?;
        let mut resources = Vec::with_capacity(objects.len());
        for object in objects {
            let object = object.cast::<ResourceObject>()?.get();
            resources.push(&object.resource);
        }
        destroy_many(py, &self.state, &resources)
    }

    /// Returns the resource of an object; raises if it is of another allocator.
    pub(super) fn check_here<'a>(
        &self,
        object: &'a Bound<'_, PyAny>,
        classes: &str,
    ) -> PyResult<&'a ResourceObject> {
        let Ok(resource) = object.cast::<ResourceObject>() else {
            let kind = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!("{kind} is no {classes}")));
        };
        let resource = resource.get();
        if !Arc::ptr_eq(&resource.resource.allocator, &self.state) {
            let what = resource.face().describe();
            return Err(invalid(object.py(), format!("{what} is of another allocator")));
        }
        Ok(resource)
    }

    /// Raises unless an object is of this allocator and can be ended by itself.
    fn check_own(&self, object: &Bound<'_, PyAny>, classes: &str) -> PyResult<()> {
        let py = object.py();
        let resource = self.check_here(object, classes)?;
        if resource.has_owner() && !resource.resource.pins.is_closed() {
            let class = resource.resource.handle().class();
            return Err(invalid(
                py,
                format!("this memory belongs to {}: destroy that", with_article(class)),
            ));
        }
        Ok(())
    }
}

#[pymethods]
impl Allocator {
    /// Creates many buffers in one call, all or none (`vmaCreateBuffer` for each).
    ///
    /// Called as `create_buffers(sizes, buffer_usage)` with sizes in bytes, a sequence of integers or an
    /// array of uint64, or as `create_buffers(infos)`, by position or as `infos=`, with a
    /// `VkBufferCreateInfo` for each. The keywords are those of `create_buffer` and apply to all; `names` has
    /// a name or None for each, and replaces `name`. The GIL is released meanwhile.
    ///
    /// A failure leaves no buffer behind. Raises what `create_buffer` raises; `item` of the error is the
    /// index of the buffer, counted from 0.
    #[pyo3(signature = (sizes = None, buffer_usage = None, **keywords))]
    fn create_buffers<'py>(
        &self,
        py: Python<'py>,
        sizes: Option<&Bound<'py, PyAny>>,
        buffer_usage: Option<&Bound<'py, PyAny>>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let _inside = self.state.enter(py)?;
        let (mut common, mut names, mut infos) = (CommonKeywords::default(), None, None);
        let keywords = Keywords::read("create_buffers", keywords, |key, value| {
            if key == "infos" {
                infos = (!value.is_none()).then(|| value.clone().unbind());
                return Ok(true);
            }
            Ok(take_names(&mut names, key, value) || (key != "info" && common.take(key, value)?))
        })?;
        let infos = infos.as_ref().map(|it| it.bind(py));
        let sizes = match (sizes, infos, buffer_usage) {
            (Some(sizes), None, _) => sizes,
            (None, Some(infos), None) => infos,
            (None, None, _) => {
                let why = "many buffers need sizes and a buffer_usage, or infos";
                return Err(PyTypeError::new_err(why));
            }
            (_, Some(_), _) => {
                let why = "infos= stands instead of the positional arguments";
                return Err(invalid(py, why));
            }
        };
        let built = buffer_infos(py, sizes, buffer_usage, common)?;
        let names = sequences::names(
            names.as_ref().map(|it| it.bind(py)),
            keywords.name.is_some(),
            built.infos.len(),
        )?;
        keywords.check_losses(py)?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        check_room(py, built.infos.len(), BATCH_ITEM_BYTES)?;
        // SAFETY: created here, or structs of the caller that interop has checked.
        let kept = keep_all(py, &keywords, &built.infos, |info| unsafe { KeptBuffer::of(info) })?;
        let mut links = vec![BufferLinks::default(); kept.len()];
        let again: Vec<_> =
            kept.iter().zip(&mut links).map(|(kept, links)| kept.info(links)).collect();
        let infos = InfosOfCall(if again.is_empty() { &built.infos } else { &again });
        let allocator = &self.state.device_allocator;
        let made = self.attempt_many(py, &keywords.create, |create| {
            // SAFETY: created here, or structs of the caller that interop has checked.
            detach(py, || unsafe { allocator.create_buffers(infos.all(), create) })
        })?;
        let made = made
            .into_iter()
            .zip(infos.all())
            .map(|((buffer, allocation), info)| CreatedResource::buffer(buffer, allocation, info));
        let list = self.finish_many(py, &keywords, &names, made, |_| Buffer)?;
        drop(again);
        make_movable(&list, &keywords, kept.into_iter().map(KeptInfo::Buffer))?;
        Ok(list)
    }

    /// Creates many images in one call, all or none (`vmaCreateImage` for each).
    ///
    /// Each is a tuple of format, extent and `ImageUsage`, or a `VkImageCreateInfo`. The keywords are those
    /// of `create_image` and apply to all; `names` is as in `create_buffers`.
    ///
    /// Raises what `create_buffers` raises.
    #[pyo3(signature = (images, **keywords))]
    fn create_images<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let _inside = self.state.enter(py)?;
        let (mut common, mut names) = (ImageKeywords::default(), None);
        let keywords = Keywords::read("create_images", keywords, |key, value| {
            Ok(take_names(&mut names, key, value) || (key != "info" && common.take(key, value)?))
        })?;
        let built = image_infos(py, images, &common)?;
        let names = sequences::names(
            names.as_ref().map(|it| it.bind(py)),
            keywords.name.is_some(),
            built.infos.len(),
        )?;
        keywords.check_losses(py)?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        check_room(py, built.infos.len(), BATCH_ITEM_BYTES)?;
        // SAFETY: created here, or structs of the caller that interop has checked.
        let kept = keep_all(py, &keywords, &built.infos, |info| unsafe { KeptImage::of(info) })?;
        let mut links = vec![ImageLinks::default(); kept.len()];
        let again: Vec<_> =
            kept.iter().zip(&mut links).map(|(kept, links)| kept.info(links)).collect();
        let infos = InfosOfCall(if again.is_empty() { &built.infos } else { &again });
        let allocator = &self.state.device_allocator;
        let made = self.attempt_many(py, &keywords.create, |create| {
            // SAFETY: created here, or structs of the caller that interop has checked.
            detach(py, || unsafe { allocator.create_images(infos.all(), create) })
        })?;
        let made = made
            .into_iter()
            .zip(infos.all())
            .map(|((image, allocation), info)| CreatedResource::image(image, allocation, info));
        let object = |index: usize| Image::of(&infos.all()[index]);
        let list = self.finish_many(py, &keywords, &names, made, object)?;
        drop(again);
        make_movable(&list, &keywords, kept.into_iter().map(KeptInfo::Image))?;
        Ok(list)
    }

    /// Allocates memory many times in one call, all or none (`vmaAllocateMemoryPages`); for sparse binding,
    /// with size and alignment of a page.
    ///
    /// `size` is in bytes and `count` the number of allocations, or `size` is a sequence of sizes.
    /// `alignment` is a power of two, in bytes. `names` is as in `create_buffers`. As the kind of resource is
    /// unknown, no allocation shares a page of `buffer_image_granularity` bytes with any other.
    ///
    /// Raises what `create_buffers` raises.
    #[pyo3(signature = (size, alignment = None, count = None, **keywords))]
    fn allocate_memory_pages<'py>(
        &self,
        py: Python<'py>,
        size: &Bound<'py, PyAny>,
        alignment: Option<&Bound<'py, PyAny>>,
        count: Option<&Bound<'py, PyAny>>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let _inside = self.state.enter(py)?;
        let mut names = None;
        let keywords = Keywords::read("allocate_memory_pages", keywords, |key, value| {
            Ok(take_names(&mut names, key, value))
        })?;
        // One number of any kind; arrays of NumPy have `__index__`, too.
        let one = size.is_instance_of::<PyInt>()
            || is_handle(size)
            || size.hasattr("__index__")? && size.len().is_err();
        let too_many = |count| to_py(py, &Error::TooManyItems(count));
        let (one, sizes, count) = match (one, count) {
            (true, Some(count)) => {
                let (size, count) = (unsigned(size, "size")?, unsigned(count, "count")?);
                // Checked before anything is allocated for each of them.
                let total = size.saturating_mul(count);
                self.state.engine().check_total(total).or_raise(py)?;
                let count = usize::try_from(count).map_err(|_| too_many(usize::MAX))?;
                (Some(size), Vec::new(), count)
            }
            (true, None) => {
                return Err(PyTypeError::new_err("a size needs a count; or pass a list of sizes"));
            }
            (false, None) => {
                let sizes = sequences::sizes(size)?;
                let count = sizes.len();
                (None, sizes, count)
            }
            (false, Some(_)) => {
                return Err(PyTypeError::new_err("count stands beside one size, not a list"));
            }
        };
        keywords
            .refuse_movable(py, "memory without a buffer or an image is the caller's to copy")?;
        let names =
            sequences::names(names.as_ref().map(|it| it.bind(py)), keywords.name.is_some(), count)?;
        let alignment = alignment.map_or(Ok(1), |it| unsigned(it, "alignment"))?;
        keywords.check_losses(py)?;
        let from = keywords.pool.clone();
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        let request = |size| AllocationRequest::of_memory(size, alignment, &keywords.create);
        let mut requests: Vec<AllocationRequest> = Vec::new();
        requests.try_reserve_exact(count).map_err(|_| too_many(count))?;
        match one {
            Some(size) => requests.extend(std::iter::repeat_n(size, count).map(request)),
            None => requests.extend(sizes.into_iter().map(request)),
        }
        check_room(py, count, BATCH_ITEM_BYTES)?;
        let engine = self.state.engine();
        let made = self.attempt_many(py, &keywords.create, |create| {
            requests.iter_mut().for_each(|it| it.create_info = *create);
            detach(py, || engine.allocate_many(&requests))
        })?;
        let made = made.into_iter().map(CreatedResource::memory);
        self.finish_many(py, &keywords, &names, made, |_| Allocation)
    }

    /// Frees many allocations of `allocate_memory*` in one call, all or none (`vmaFreeMemoryPages`). Takes
    /// any iterable; skips None and allocations that were freed before.
    ///
    /// Raises `BufferError` while a view of one is open, `InvalidArgumentError` for the memory of a `Buffer`
    /// or an `Image` and for an allocation of another allocator.
    #[pyo3(signature = (allocations))]
    fn free_memory_pages(&self, py: Python<'_>, allocations: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let objects = sequences::objects_to_end(allocations, "allocations", |object| {
                if !object.is_instance_of::<Allocation>() {
                    let kind = object.get_type().name()?;
                    return Err(PyTypeError::new_err(format!("{kind} is no Allocation")));
                }
                self.check_own(object, "Allocation")
            })?;
            self.end_all(py, &objects)
        })
    }

    /// Destroys many buffers and images, and frees allocations, in one call: all or none (`vmaDestroyBuffer`
    /// for each). Takes any iterable, such as a set or a generator; skips None and resources that have ended
    /// before. Aliases and their bases may be in any order.
    ///
    /// Raises what `destroy` and `free_memory_pages` raise.
    #[pyo3(signature = (resources))]
    fn destroy_many(&self, py: Python<'_>, resources: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let classes = "Buffer, Image or Allocation";
            let objects = sequences::objects_to_end(resources, "resources", |object| {
                self.check_own(object, classes)
            })?;
            self.end_all(py, &objects)
        })
    }
}
