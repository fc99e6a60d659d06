//! Binding of buffers and images, of this package or of the caller, to an `Allocation`.

use ash::vk::{self, Handle};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use vkmem_vulkan::{BindPlace, ResourceHandle};

use super::allocation::{Allocation, resource};
use super::buffer::Buffer;
use super::image::Image;
use super::resource::ResourceObject;
use crate::arguments::numbers::live_handle;
use crate::errors::pinned;
use crate::lifetime::bind::read_place;
use crate::package::BUFFER_RANGE;

/// Returns the `Buffer` that the caller passes instead of a `VkBuffer`, or that of a `BufferSlice`; `None`
/// for a handle of the caller.
pub fn named_buffer<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Buffer>>> {
    if value.is_exact_instance_of::<PyInt>() {
        return Ok(None);
    }
    if value.get_type().is_subclass(BUFFER_RANGE.get(value.py())?)? {
        return Ok(value.getattr(intern!(value.py(), "buffer"))?.cast_into().ok());
    }
    Ok(value.cast().ok().cloned())
}

/// Binds a buffer or an image of this package, which is pinned meanwhile.
pub fn bind_ours(
    slf: &Bound<'_, Allocation>,
    object: &Bound<'_, ResourceObject>,
    place: BindPlace,
) -> PyResult<()> {
    let (py, ours) = (slf.py(), &object.get().resource);
    ours.allocator.change(py, || {
        let _pin = ours.enter(py)?;
        let memory = resource(slf)?;
        ours.check_device(py, &memory.allocator.device)?;
        if memory.ptr_eq(ours) {
            return memory.bind(py, ours.handle(), place);
        }
        // A view of the resource would from now on show other memory than the resource has; if the view's own
        // memory is bound, each would keep the other alive for ever.
        if !ours.is_bound() && ours.has_open_mapping() {
            let (ours, memory) = (ours.describe(), slf.as_super().get().face().describe());
            let why = "a view of its own memory is open";
            return Err(pinned(format!("cannot bind {ours} to {memory}: {why}")));
        }
        memory.bind(py, ours.handle(), place)?;
        ResourceObject::lies_in(object, slf.as_super());
        Ok(())
    })
}

#[pymethods]
impl Allocation {
    /// Binds a buffer at `offset` bytes in this memory (`vmaBindBufferMemory2`): a `VkBuffer` of the caller,
    /// or a `Buffer` that was created with `DONT_BIND`. The memory of such a `Buffer` is then this one: its
    /// own stays unused, and reading, writing or mapping the `Buffer` raises.
    ///
    /// `bind_next` is the address or the first struct of a `pNext` chain of `VkBindBufferMemoryInfo`. With a
    /// chain, raises `FeatureNotPresentError` without Vulkan 1.1 or `VK_KHR_bind_memory2`.
    #[pyo3(signature = (buffer, offset = None, *, bind_next = None))]
    fn bind_buffer(
        slf: &Bound<'_, Self>,
        buffer: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        bind_next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let place = read_place(offset, bind_next)?;
        if let Some(ours) = named_buffer(buffer)? {
            return bind_ours(slf, ours.as_super(), place);
        }
        let buffer = vk::Buffer::from_raw(live_handle(buffer, "VkBuffer", "buffer")?);
        resource(slf)?.bind(slf.py(), ResourceHandle::Buffer(buffer), place)
    }

    /// Binds an image at `offset` bytes in this memory (`vmaBindImageMemory2`): a `VkImage` of the caller, or
    /// an `Image` that was created with `DONT_BIND`, as in `bind_buffer`. `bind_next` is a chain of
    /// `VkBindImageMemoryInfo`.
    #[pyo3(signature = (image, offset = None, *, bind_next = None))]
    fn bind_image(
        slf: &Bound<'_, Self>,
        image: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        bind_next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let place = read_place(offset, bind_next)?;
        if let Ok(ours) = image.cast::<Image>() {
            return bind_ours(slf, ours.as_super(), place);
        }
        let image = vk::Image::from_raw(live_handle(image, "VkImage", "image")?);
        resource(slf)?.bind(slf.py(), ResourceHandle::Image(image), place)
    }
}
