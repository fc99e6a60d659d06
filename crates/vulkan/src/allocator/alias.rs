//! Aliasing buffers and images: resources bound to the memory of another one's allocation.

use ash::vk;
use vkmem_engine::recording::set_subject;
use vkmem_engine::{AliasRequest, Allocation, AllocationCreateInfo, Error};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::allocator::sharing::Direction;

impl DeviceAllocator {
    /// Creates a buffer and binds it `local_offset` bytes into an allocation
    /// (`vmaCreateAliasingBuffer2`). Allocates nothing: the result has the id of the allocation; the
    /// caller destroys the buffer, and the memory is freed with the allocation.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the buffer cannot alias this memory; [`Error::UseAfterFree`] if the
    /// id is stale; those of the driver calls.
    ///
    /// # Safety
    /// `info` is valid for `vkCreateBuffer`.
    pub unsafe fn create_aliasing_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { self.create_alias::<Buffers>(info, base, local_offset) }
    }

    /// Creates an image and binds it `local_offset` bytes into an allocation (`vmaCreateAliasingImage2`);
    /// see [`create_aliasing_buffer`](Self::create_aliasing_buffer).
    ///
    /// # Errors
    /// The errors of [`create_aliasing_buffer`](Self::create_aliasing_buffer).
    ///
    /// # Safety
    /// `info` is valid for `vkCreateImage`.
    pub unsafe fn create_aliasing_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { self.create_alias::<Images>(info, base, local_offset) }
    }

    unsafe fn create_alias<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        let mut request = unsafe { K::request(self, info, &AllocationCreateInfo::default())? };
        let memory = self.engine().memory_of(base.id)?;
        if memory.is_imported {
            return Err(Error::InvalidArgument(
                "imported memory is used by what it was imported for: import it again for another \
                 resource"
                    .into(),
            ));
        }
        let (export, direction) = (memory.export_handle_types, Direction::Export);
        // SAFETY: the caller guarantees a valid create info.
        let handle = unsafe { self.create_handle::<K>(info, &mut request, export, direction)? };
        let (requirements, kind) = (request.requirements, request.kind);
        let asked = AliasRequest { requirements, kind, local_offset };
        let place = self.engine().alias(base, &asked);
        let place = place.and_then(|place| {
            // SAFETY: resource and memory are live, and the engine has checked the place.
            unsafe { self.bind_fitting::<K>(handle, &place) }.map(|()| place)
        });
        // SAFETY: the handle was created here.
        let made = unsafe { self.or_destroy::<K>(handle, place) }?;
        set_subject(|| K::subject(info));
        self.engine().tell_alias(base, &asked, &made.1, K::raw(handle));
        Ok(made)
    }
}
