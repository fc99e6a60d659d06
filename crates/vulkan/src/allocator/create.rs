//! Creation of a buffer or an image with its memory: create, allocate and bind in one call.

use ash::vk;
use vkmem_engine::recording::set_subject;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, AllocationRequest, Allocator, Error,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::allocator::sharing::Direction;

/// The function that allocates from the engine: `Allocator::allocate`, or one that releases locks of the
/// caller before the slow path.
pub trait Allocate: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error> {}

impl<F: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error>> Allocate for F {}

impl DeviceAllocator {
    /// Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`). A failure undoes
    /// everything.
    ///
    /// # Errors
    /// The errors of the driver calls and of [`Allocator::allocate`]; [`Error::InvalidArgument`].
    ///
    /// # Safety
    /// `info` is valid for `vkCreateBuffer`.
    #[inline(always)]
    pub unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { self.create::<Buffers>(info, create_info, allocate) }
    }

    /// Creates an image, allocates its memory and binds it (`vmaCreateImage`). A failure undoes
    /// everything.
    ///
    /// # Errors
    /// The errors of the driver calls and of [`Allocator::allocate`]; [`Error::InvalidArgument`].
    ///
    /// # Safety
    /// `info` is valid for `vkCreateImage`.
    pub unsafe fn create_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { self.create::<Images>(info, create_info, allocate) }
    }

    /// Creates a resource, allocates its memory and binds it. Inlined like its parts: their results are
    /// stored in parts, and copying them as a whole would stall on store forwarding.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    #[inline(always)]
    unsafe fn create<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info.
        let mut request = unsafe { self.request_of::<K>(info, create_info)? };
        let (export, direction) = (self.export_types(create_info)?, Direction::Export);
        // SAFETY: the caller guarantees a valid create info.
        let handle = unsafe { self.create_handle::<K>(info, &mut request, export, direction)? };
        set_subject(|| K::subject(info));
        let allocated = allocate(&self.engine, &request);
        // SAFETY: the handle was created here.
        let (handle, allocation) = unsafe { self.or_destroy::<K>(handle, allocated)? };
        if request.create_info.flags.contains(AllocationCreateFlags::DONT_BIND) {
            return Ok((handle, allocation));
        }
        // SAFETY: resource and memory are live, and the offset has the alignment that the driver
        // requires.
        unsafe { self.bind_or_undo::<K>(handle, allocation) }
    }

    /// Returns the memory type that a buffer would get; creates no buffer if the device supports
    /// `vkGetDeviceBufferMemoryRequirements`.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] if no memory type is possible; [`Error::InvalidArgument`]; those of
    /// the driver calls.
    ///
    /// # Safety
    /// `info` is valid for `vkCreateBuffer`.
    pub unsafe fn find_memory_type_for_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller guarantees a valid chain.
        let request = unsafe { self.buffer_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryBufferCreateInfo::default());
        // SAFETY: the caller guarantees a valid create info; the link lives as long as the info.
        let needs = unsafe {
            self.share_buffer(&mut info, &mut link, export, Direction::Export)?;
            self.driver.buffer_requirements_of_info(&info)
        };
        // The only driver call that can fail here is the creation of a temporary buffer.
        let needs = needs.map_err(|error| error.of(Buffers::CREATE))?;
        let bits = needs.memory_type_bits;
        self.engine.find_memory_type_index(bits, create_info, request.resource_use)
    }

    /// Returns the memory type that an image would get.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] if no memory type is possible; [`Error::InvalidArgument`]; those of
    /// the driver calls.
    ///
    /// # Safety
    /// `info` is valid for `vkCreateImage`.
    pub unsafe fn find_memory_type_for_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller guarantees a valid chain.
        let request = unsafe { self.image_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryImageCreateInfo::default());
        // SAFETY: the caller guarantees a valid create info; the link lives as long as the info.
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
