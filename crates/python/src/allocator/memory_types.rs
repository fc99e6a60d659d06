//! Choice of memory types; creation of pools.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vkmem_engine::ResourceUse;

use super::{Allocator, no_more};
use crate::arguments::create_info::{self, CommonKeywords, ImageKeywords};
use crate::arguments::numbers::unsigned_32;
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::detach;
use crate::lifetime::losing::check_frames_in_use;
use crate::objects::allocation_create_info::{AllocationCreateInfo, Keywords};
use crate::objects::pool::{Pool, PoolKeywords};
use crate::objects::resource::ResourceObject;

impl Allocator {
    /// Returns the memory type of an example.
    fn memory_type_like(&self, like: &Bound<'_, PyAny>, export: u32) -> PyResult<u32> {
        let py = like.py();
        if let Ok(resource) = like.cast::<ResourceObject>() {
            let resource = &resource.get().resource;
            resource.check_live(py)?;
            return Ok(resource.allocation().memory_type_index);
        }
        let (what, wishes) = match like.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
            Ok((what, wishes)) if wishes.is_instance_of::<AllocationCreateInfo>() => {
                (what, Some(wishes))
            }
            Ok((what, wishes)) if what.is_instance_of::<PyTuple>() => {
                let kind = wishes.get_type().name()?;
                return Err(PyTypeError::new_err(format!(
                    "beside what is created like= has a vk_mem.AllocationCreateInfo, not {kind}"
                )));
            }
            _ => (like.clone(), None),
        };
        let mut create = match &wishes {
            Some(wishes) => wishes.cast::<AllocationCreateInfo>()?.get().create(),
            None => Default::default(),
        };
        create.export_handle_types |= export;
        let allocator = &self.state.device_allocator;
        let arguments: Vec<Bound<'_, PyAny>> =
            what.cast::<PyTuple>().map_or(vec![what.clone()], |it| it.iter().collect());
        let argument = |index: usize| arguments.get(index);
        if arguments.len() == 3 {
            let image = [argument(0), argument(1), argument(2)];
            let built = create_info::image(py, image, ImageKeywords::default())?;
            // SAFETY: created here from numbers.
            return unsafe { allocator.find_memory_type_for_image(&built.info, &create) }
                .or_raise(py);
        }
        let common = CommonKeywords::default();
        match create_info::buffer(py, argument(0), argument(1), common) {
            Ok(built) => {
                // SAFETY: created here, or a struct of the caller that interop has checked.
                unsafe { allocator.find_memory_type_for_buffer(&built.info, &create) }.or_raise(py)
            }
            Err(no_buffer) if arguments.len() == 1 => {
                let image = [argument(0), None, None];
                let Ok(built) = create_info::image(py, image, ImageKeywords::default()) else {
                    return Err(no_buffer);
                };
                // SAFETY: a struct of the caller that interop has checked.
                unsafe { allocator.find_memory_type_for_image(&built.info, &create) }.or_raise(py)
            }
            Err(error) => Err(error),
        }
    }
}

#[pymethods]
impl Allocator {
    /// Returns the memory type that an allocation would get first (`vmaFindMemoryTypeIndex`), among those
    /// that a resource allows (`VkMemoryRequirements::memoryTypeBits`), by default all.
    ///
    /// Raises `FeatureNotPresentError` if no type is suitable.
    #[pyo3(signature = (allowed_type_bits = None, **keywords))]
    fn find_memory_type_index(
        &self,
        py: Python<'_>,
        allowed_type_bits: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let create = Keywords::read("find_memory_type_index", keywords, no_more)?.create;
        let bits =
            allowed_type_bits.map_or(Ok(u32::MAX), |it| unsigned_32(it, "allowed_type_bits"))?;
        self.state.engine().find_memory_type_index(bits, &create, ResourceUse::Unknown).or_raise(py)
    }

    /// Returns the memory type that such a buffer would get first (`vmaFindMemoryTypeIndexForBufferInfo`).
    ///
    /// Takes the arguments of `create_buffer`. Raises `FeatureNotPresentError` if no type is suitable.
    #[pyo3(signature = (size = None, buffer_usage = None, **keywords))]
    fn find_memory_type_index_for_buffer_info(
        &self,
        py: Python<'_>,
        size: Option<&Bound<'_, PyAny>>,
        buffer_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let mut common = CommonKeywords::default();
        let name = "find_memory_type_index_for_buffer_info";
        let keywords = Keywords::read(name, keywords, |key, value| common.take(key, value))?;
        let built = create_info::buffer(py, size, buffer_usage, common)?;
        let allocator = &self.state.device_allocator;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        unsafe { allocator.find_memory_type_for_buffer(&built.info, &keywords.create) }.or_raise(py)
    }

    /// Returns the memory type that such an image would get first (`vmaFindMemoryTypeIndexForImageInfo`).
    ///
    /// Takes the arguments of `create_image`. Raises `FeatureNotPresentError` if no type is suitable.
    #[pyo3(signature = (format = None, extent = None, image_usage = None, **keywords))]
    fn find_memory_type_index_for_image_info(
        &self,
        py: Python<'_>,
        format: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        image_usage: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u32> {
        let _inside = self.state.enter(py)?;
        let mut image = ImageKeywords::default();
        let name = "find_memory_type_index_for_image_info";
        let keywords = Keywords::read(name, keywords, |key, value| image.take(key, value))?;
        let built = create_info::image(py, [format, extent, image_usage], image)?;
        let allocator = &self.state.device_allocator;
        // SAFETY: created here, or a struct of the caller that interop has checked.
        unsafe { allocator.find_memory_type_for_image(&built.info, &keywords.create) }.or_raise(py)
    }

    /// Creates a pool: memory of one type with options of its own (`vmaCreatePool`).
    ///
    /// The memory type is `memory_type_index`, or that of an example, `like`: a `Buffer`, an `Image` or an
    /// `Allocation`, or a pair of what `create_buffer` or `create_image` takes, such as `((65536,
    /// BufferUsage.STORAGE_BUFFER), AllocationCreateInfo(...))`, or of a create-info struct and an
    /// `AllocationCreateInfo`.
    ///
    /// `block_size` is the size of each block in bytes; without it blocks are as in the default pools, and
    /// large resources get dedicated memory. `min_block_count` blocks are allocated at once and kept,
    /// `max_block_count` is the maximum (0: no limit). `algorithm` is "tlsf", "linear" or "buddy". A linear
    /// pool is a ring buffer or a double stack only while it has one block (`max_block_count=1`), so without
    /// a `block_size` it is a stack at most, and large resources get dedicated memory. A buddy pool halves
    /// powers of two: of a `block_size` that is not one, it uses the largest power of two below, and the rest
    /// stays unused. Without a `block_size` that is the case on heaps up to 1 GiB, whose blocks are an eighth
    /// of the heap.
    ///
    /// `frames_in_use` is the number of frames for which what was created in the pool with `CAN_BECOME_LOST` is not
    /// lost after its last use, by default that of the allocator; not less than `frames_in_flight`.
    ///
    /// `debug` is a `Debug` for what is created in the pool, instead of that of the allocator.
    ///
    /// `ignore_buffer_image_granularity` is for pools of one kind of resource. `priority` is from 0 to 1
    /// (`VK_EXT_memory_priority`), and ignored if that extension is not enabled. `min_alignment` is in bytes.
    /// `memory_allocate_next` is the address or struct of a `pNext` chain for each `vkAllocateMemory`, kept
    /// valid by the caller. With `export_handle_types` (`ExternalMemoryHandleType`) its blocks can be
    /// exported as they are. A `VkExportMemoryAllocateInfo` in `memory_allocate_next` has the same effect;
    /// then `export_handle_types`, of the pool or of an allocation, names no other types. `name` is for
    /// messages and dumps.
    ///
    /// With `fallback=True`, a request that a full pool has no room for is served by the default pools: first
    /// by that of the pool's own memory type, then by other types that suit the request's own usage and flags
    /// and are `HOST_VISIBLE`, `HOST_COHERENT` and `PROTECTED` if the pool's type is, so that what could be
    /// mapped can be. It may be slower memory: `DEVICE_LOCAL` and `HOST_CACHED` are not required (use
    /// `required_flags`).
    ///
    /// Raises `OutOfDeviceMemoryError`, `InvalidArgumentError`.
    #[pyo3(signature = (**keywords))]
    fn create_pool(&self, py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Pool> {
        let _inside = self.state.enter(py)?;
        let mut keywords = PoolKeywords::read(keywords)?;
        let allocator = &self.state.device_allocator;
        allocator.check_export(keywords.rules.export_handle_types).or_raise(py)?;
        // SAFETY: the caller guarantees the chain, which `keywords` holds.
        unsafe { allocator.read_export_chain(&mut keywords.rules) }.or_raise(py)?;
        match (&keywords.like, keywords.has_memory_type) {
            (Some(like), false) => {
                keywords.rules.memory_type_index = {
                    let export = keywords.rules.all_export_handle_types();
                    self.memory_type_like(like.bind(py), export)?
                };
            }
            (None, true) => {}
            (Some(_), true) => {
                let why = "like= and memory_type_index= both name a memory type: give one of them";
                return Err(invalid(py, why));
            }
            (None, false) => {
                return Err(invalid(py, "a pool needs either memory_type_index= or like="));
            }
        }
        if let Some(frames) = keywords.rules.frames_in_use {
            check_frames_in_use(py, frames, self.state.frames_in_flight())?;
        }
        let rules = keywords.rules;
        let id = self.attempt(py, || detach(py, || self.state.engine().create_pool(&rules)))?;
        let pool = keywords.create(id, &self.state);
        self.handlers.call_pending(py, &self.state);
        Ok(pool)
    }
}
