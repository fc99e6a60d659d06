//! Resources in the memory of an allocation that has one already.

use ash::vk;
use vkmem_engine::{AliasRequest, Allocation, AllocationCreateInfo, Error};

use crate::allocator::DeviceAllocator;
use crate::allocator::kind::{Buffers, Images, Kind};
use crate::allocator::sharing::Direction;

impl DeviceAllocator {
    /// Creates a buffer and binds it `local_offset` bytes into an allocation
    /// (`vmaCreateAliasingBuffer2`). Allocates nothing: the buffer is destroyed, the memory freed with
    /// its allocation, whose handle the result has.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts.
    pub unsafe fn create_aliasing_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create_alias::<Buffers>(info, base, local_offset) }
    }

    /// The same of an image (`vmaCreateAliasingImage2`).
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts.
    pub unsafe fn create_aliasing_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create_alias::<Images>(info, base, local_offset) }
    }

    unsafe fn create_alias<K: Kind>(
        &self,
        info: &K::Info<'_>,
        base: &Allocation,
        local_offset: u64,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
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
        // SAFETY: as above.
        let handle = unsafe { self.create_handle::<K>(info, &mut request, export, direction)? };
        let (requirements, kind) = (request.requirements, request.kind);
        let place = self.engine().alias(base, &AliasRequest { requirements, kind, local_offset });
        let place = place.and_then(|place| {
            // SAFETY: both are live, and the engine has checked that it may lie there.
            unsafe { self.bind_fitting::<K>(handle, &place) }.map(|()| place)
        });
        // SAFETY: made here.
        unsafe { self.or_destroy::<K>(handle, place) }
    }
}
