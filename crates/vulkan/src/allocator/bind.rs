//! The one place where resources are bound to memory.

use ash::vk;
use vkmem_engine::words::bytes;
use vkmem_engine::{Allocation, AllocationId, DeviceError, Error, MemoryRequirements};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::ResourceApi;
use crate::device::memory_locks::waiting;
use crate::driver::resource_handle::ResourceHandle;

/// Where in an allocation a resource is bound, and with which extensions.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindPlace {
    /// In bytes, from the start of the allocation.
    pub offset: u64,
    /// Address of a `pNext` chain for `vkBindBufferMemory2` or `vkBindImageMemory2`; 0 for none.
    pub next: usize,
}

impl DeviceAllocator {
    /// Binds a resource to an allocation (`vmaBindBufferMemory2`, `vmaBindImageMemory2`), after it checked
    /// size, alignment and memory type, which Vulkan does not check and drivers rely on. Does nothing for
    /// bare memory. `describe` names the allocation in errors.
    ///
    /// # Safety
    /// The resource is live, this device's and not bound yet; the allocation is live; the chain is valid.
    pub unsafe fn bind(
        &self,
        handle: ResourceHandle,
        allocation: &Allocation,
        place: BindPlace,
        describe: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let driver = &**self.driver();
        let needs = match handle {
            ResourceHandle::Memory => return Ok(()),
            // SAFETY: the caller guarantees a valid buffer.
            ResourceHandle::Buffer(buffer) => unsafe { driver.buffer_requirements(buffer) },
            // SAFETY: the caller guarantees a valid image.
            ResourceHandle::Image(image) => unsafe { driver.image_requirements(image) },
        };
        if let Some(why) = misfit(allocation, &needs, place.offset) {
            let what = describe();
            return Err(Error::InvalidArgument(format!("it does not fit {what}: it {why}")));
        }
        // SAFETY: it fits; the caller guarantees valid resource, memory and chain.
        let bound = unsafe { self.call_bind(handle, allocation, place) };
        bound.map_err(|(call, error)| match error {
            DeviceError::FeatureNotPresent if place.next != 0 => Error::FeatureNotPresent(format!(
                "bind_next needs {call}: Vulkan 1.1 or VK_KHR_bind_memory2, which is not enabled on this \
                 device"
            )),
            error => {
                let Allocation { id, memory_type_index, size, .. } = *allocation;
                self.bind_error(call, error, id, memory_type_index, size)
            }
        })
    }

    /// Binds planes of a disjoint image, each `(plane, offset)` in bytes from the start of the allocation.
    ///
    /// # Safety
    /// The image is live, this device's, disjoint and not bound yet; the allocation is live, and each plane
    /// fits where it is to lie.
    pub unsafe fn bind_planes(
        &self,
        image: vk::Image,
        allocation: &Allocation,
        planes: impl Iterator<Item = (u32, u64)>,
    ) -> Result<(), Error> {
        let Allocation { id, memory, offset, memory_type_index, size, .. } = *allocation;
        let places: Vec<_> = planes.map(|(plane, at)| (plane, offset + at)).collect();
        // SAFETY: the caller guarantees valid image, memory and places.
        let bound = unsafe { self.driver().bind_planes(image, memory, &places) };
        let call = "vkBindImageMemory2";
        bound.map_err(|error| self.bind_error(call, error, id, memory_type_index, size))
    }

    /// Calls the driver; the error has the name of the call.
    ///
    /// # Safety
    /// As for [`bind`](Self::bind), and the resource fits there.
    unsafe fn call_bind(
        &self,
        handle: ResourceHandle,
        allocation: &Allocation,
        BindPlace { offset, next }: BindPlace,
    ) -> Result<(), (&'static str, DeviceError)> {
        let driver = &**self.driver();
        let (memory, offset) = (allocation.memory, allocation.offset + offset);
        let (call, bound) = match (handle, next) {
            (ResourceHandle::Memory, _) => return Ok(()),
            (ResourceHandle::Buffer(buffer), 0) => {
                // SAFETY: the caller guarantees valid buffer and memory.
                ("vkBindBufferMemory", unsafe { driver.bind_buffer(buffer, memory, offset) })
            }
            (ResourceHandle::Buffer(buffer), next) => {
                // SAFETY: the caller guarantees valid buffer, memory and chain.
                let bound = unsafe { driver.bind_buffer_with(buffer, memory, offset, next) };
                ("vkBindBufferMemory2", bound)
            }
            (ResourceHandle::Image(image), 0) => {
                // SAFETY: the caller guarantees valid image and memory.
                ("vkBindImageMemory", unsafe { driver.bind_image(image, memory, offset) })
            }
            (ResourceHandle::Image(image), next) => {
                // SAFETY: the caller guarantees valid image, memory and chain.
                let bound = unsafe { driver.bind_image_with(image, memory, offset, next) };
                ("vkBindImageMemory2", bound)
            }
        };
        bound.map_err(|error| (call, error))
    }

    /// Binds a resource to the memory that was allocated for it, so without checks.
    ///
    /// # Safety
    /// Both are live, the resource is not bound yet, and it may lie there.
    pub(crate) unsafe fn bind_fitting<K: ResourceApi>(
        &self,
        handle: K::Handle,
        to: &Allocation,
    ) -> Result<(), Error> {
        // SAFETY: the caller guarantees valid both.
        let bound = unsafe { K::bind(&**self.driver(), handle, to.memory, to.offset) };
        bound.map_err(|error| self.bind_error(K::BIND, error, to.id, to.memory_type_index, to.size))
    }

    /// Binds a handle to its memory; if that fails, it is destroyed, and the memory is freed after that:
    /// some drivers read the memory of what they destroy.
    ///
    /// # Safety
    /// As for [`bind_fitting`](Self::bind_fitting), and nothing else has seen the handle.
    #[inline(always)]
    pub(crate) unsafe fn bind_or_undo<K: ResourceApi>(
        &self,
        handle: K::Handle,
        allocation: Allocation,
    ) -> Result<(K::Handle, Allocation), Error> {
        // Apart, as a reference would keep all of it in memory.
        let Allocation { id, memory, offset, memory_type_index, size, .. } = allocation;
        // SAFETY: the caller guarantees valid both.
        if let Err(error) = unsafe { K::bind(&**self.driver(), handle, memory, offset) } {
            let error = self.bind_error(K::BIND, error, id, memory_type_index, size);
            // SAFETY: the caller guarantees a valid handle.
            let error = unsafe { self.destroy_after::<K>(handle, error) };
            self.free_after(id);
            return Err(error);
        }
        Ok((handle, allocation))
    }

    /// Frees memory after an error. Undoing its mapping waits for another thread that maps the same block.
    #[cold]
    fn free_after(&self, id: AllocationId) {
        if let Ok(release) = self.engine().free(id) {
            waiting(|| drop(release));
        }
    }

    /// The error of binding to an allocation of `size` bytes, of which those who record the allocator are told.
    #[cold]
    fn bind_error(
        &self,
        call: &'static str,
        error: DeviceError,
        id: AllocationId,
        memory_type_index: u32,
        size: u64,
    ) -> Error {
        let figures = self.engine().figures(Some(memory_type_index), size);
        let error = Error::of_call(call, error, figures);
        self.engine().tell_failed(call, Some(id), &error);
        error
    }
}

/// Says why a resource may not lie `offset` bytes into an allocation.
fn misfit(have: &Allocation, needs: &MemoryRequirements, offset: u64) -> Option<String> {
    let end = offset.checked_add(needs.size);
    if end.is_none_or(|end| end > have.size) {
        Some(format!("needs {} from offset {offset} on", bytes(needs.size)))
    } else if !(have.offset + offset).is_multiple_of(needs.alignment) {
        Some(format!("needs an alignment of {}, which offset {offset} has not", needs.alignment))
    } else if needs.memory_type_bits >> have.memory_type_index & 1 == 0 {
        Some(format!("cannot live in it (memoryTypeBits {:#x})", needs.memory_type_bits))
    } else {
        None
    }
}
