//! Create, allocate and bind in one call.

use ash::vk;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, AllocationRequest, Allocator, Error,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::kind::{Buffers, Images, Kind};
use crate::allocator::sharing::Direction;

/// How the engine is asked for memory: `Allocator::allocate`, or what lets a caller come between, to let
/// go of its own locks before the slow way.
pub trait Allocate: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error> {}

impl<F: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error>> Allocate for F {}

impl DeviceAllocator {
    /// Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`). A failure leaves
    /// nothing behind.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts.
    #[inline(always)]
    pub unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create::<Buffers>(info, create_info, allocate) }
    }

    /// Creates an image, allocates its memory and binds it (`vmaCreateImage`). A failure leaves
    /// nothing behind.
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts.
    pub unsafe fn create_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create::<Images>(info, create_info, allocate) }
    }

    /// Inlined, as are its parts: what each gives is stored in parts, and to copy it as a whole would wait
    /// for these stores.
    ///
    /// # Safety
    /// The info is what its creating command accepts.
    #[inline(always)]
    unsafe fn create<K: Kind>(
        &self,
        info: &K::Info<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        let mut request = unsafe { K::request(self, info, create_info)? };
        let (export, direction) = (self.export_types(create_info)?, Direction::Export);
        // SAFETY: as above.
        let handle = unsafe { self.create_handle::<K>(info, &mut request, export, direction)? };
        let allocated = allocate(&self.engine, &request);
        // SAFETY: made here.
        let (handle, allocation) = unsafe { self.or_destroy::<K>(handle, allocated)? };
        if request.create_info.flags.contains(AllocationCreateFlags::DONT_BIND) {
            return Ok((handle, allocation));
        }
        // SAFETY: resource and memory are live, the offset is aligned as the driver asked.
        unsafe { self.bind_or_undo::<K>(handle, allocation) }
    }

    /// The memory type that a buffer would get; makes no buffer where the device can tell without.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts.
    pub unsafe fn find_memory_type_for_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller vouches for the chain.
        let request = unsafe { self.buffer_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryBufferCreateInfo::default());
        // SAFETY: the caller vouches for the create info; the link lives as long as the info.
        let needs = unsafe {
            self.share_buffer(&mut info, &mut link, export, Direction::Export)?;
            self.driver.buffer_requirements_of_info(&info)
        };
        // Where a call is needed that can fail, it is that of a buffer for a moment.
        let needs = needs.map_err(|error| error.of(Buffers::CREATE))?;
        let bits = needs.memory_type_bits;
        self.engine.find_memory_type_index(bits, create_info, request.resource_use)
    }

    /// The memory type that an image would get.
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts.
    pub unsafe fn find_memory_type_for_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller vouches for the chain.
        let request = unsafe { self.image_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryImageCreateInfo::default());
        // SAFETY: the caller vouches for the create info; the link lives as long as the info.
        let needs = unsafe {
            self.share_image(&mut info, &mut link, export, Direction::Export)?;
            self.check_image_format(&info)?;
            self.driver.image_requirements_of_info(&info)
        };
        let needs = needs.map_err(|error| error.of(Images::CREATE))?;
        let bits = needs.memory_type_bits;
        self.engine.find_memory_type_index(bits, create_info, request.resource_use)
    }
}
