//! The trait [`ResourceApi`]: what buffers and images have in common, so that one generic function serves both.

use ash::vk::{self, Handle};
use vkmem_engine::recording::Subject;
use vkmem_engine::{
    Allocation, AllocationCreateInfo, AllocationRequest, DedicatedTarget, DeviceError, Error,
    MemoryHandle, MemoryRequirements,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::image_limits::check_image_size;
use crate::allocator::sharing::Direction;
use crate::driver::contract::Driver;

/// Buffers or images: the Vulkan functions and structures of one kind of resource.
pub(crate) trait ResourceApi {
    /// The create info.
    type Info<'a>;
    /// The handle.
    type Handle: Copy;
    /// Names of the Vulkan functions, for errors.
    const CREATE: &'static str;
    const BIND: &'static str;

    /// Returns the request to the engine, without the driver's requirements.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    unsafe fn request(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error>;
    /// Rejects what the device cannot have, before the first of many is created.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    unsafe fn check_before(allocator: &DeviceAllocator, info: &Self::Info<'_>)
    -> Result<(), Error>;
    /// Creates a resource whose memory is shared as handles of some types; returns the handle and whether
    /// it then needs dedicated memory.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    unsafe fn create(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<(Self::Handle, bool), Error>;
    /// Returns the driver's memory requirements.
    ///
    /// # Safety
    /// The handle is live.
    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements;
    /// Binds the resource to memory.
    ///
    /// # Safety
    /// Handle and memory are live, and the resource may be placed there.
    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError>;
    /// Destroys the resource.
    ///
    /// # Safety
    /// The handle is live and not in use.
    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle);
    /// Describes the resource to those who record.
    fn subject(info: &Self::Info<'_>) -> Subject;
    /// Returns the handle as a number, and whether it is that of an image.
    fn raw(handle: Self::Handle) -> (u64, bool);
    /// Returns the target of dedicated memory; `None` if memory must not be dedicated to this resource.
    fn target(info: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget>;
    /// Rejects resources for which drivers report wrong requirements.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    unsafe fn check(info: &Self::Info<'_>, requirements: &MemoryRequirements) -> Result<(), Error>;
}

/// `VkBuffer`
pub(crate) struct Buffers;
/// `VkImage`
pub(crate) struct Images;

impl ResourceApi for Buffers {
    type Info<'a> = vk::BufferCreateInfo<'a>;
    type Handle = vk::Buffer;
    const CREATE: &'static str = "vkCreateBuffer";
    const BIND: &'static str = "vkBindBufferMemory";

    #[inline(always)]
    unsafe fn request(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { allocator.buffer_request(info, create_info) }
    }

    unsafe fn check_before(_: &DeviceAllocator, _: &Self::Info<'_>) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    unsafe fn create(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<(Self::Handle, bool), Error> {
        // SAFETY: the caller guarantees a valid create info.
        let create = |info: &Self::Info<'_>| unsafe { allocator.driver().create_buffer(info) };
        let failed = |error| {
            Error::of_call(Self::CREATE, error, allocator.engine().figures(None, info.size))
        };
        // Usually the memory is not shared and nothing is chained to the info.
        if handle_types == 0 {
            return create(info).map(|handle| (handle, false)).map_err(failed);
        }
        let (mut chained, mut link) = (*info, vk::ExternalMemoryBufferCreateInfo::default());
        // SAFETY: the caller guarantees a valid chain; the link lives as long as the info.
        let dedicated =
            unsafe { allocator.share_buffer(&mut chained, &mut link, handle_types, direction)? };
        create(&chained).map(|handle| (handle, dedicated)).map_err(failed)
    }

    #[inline(always)]
    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements {
        // SAFETY: the caller guarantees a valid handle.
        unsafe { driver.buffer_requirements(handle) }
    }

    #[inline(always)]
    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller guarantees that all of them are valid.
        unsafe { driver.bind_buffer(handle, memory, offset) }
    }

    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle) {
        // SAFETY: the caller guarantees a valid handle.
        unsafe { driver.destroy_buffer(handle) }
    }

    #[inline]
    fn subject(info: &Self::Info<'_>) -> Subject {
        Subject::Buffer {
            size: info.size,
            flags: info.flags.as_raw(),
            usage: u64::from(info.usage.as_raw()),
            sharing_mode: info.sharing_mode.as_raw().cast_unsigned(),
        }
    }

    fn raw(handle: Self::Handle) -> (u64, bool) {
        (handle.as_raw(), false)
    }

    fn target(_: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget> {
        Some(DedicatedTarget::Buffer(handle.as_raw()))
    }

    unsafe fn check(_: &Self::Info<'_>, _: &MemoryRequirements) -> Result<(), Error> {
        Ok(())
    }
}

impl ResourceApi for Images {
    type Info<'a> = vk::ImageCreateInfo<'a>;
    type Handle = vk::Image;
    const CREATE: &'static str = "vkCreateImage";
    const BIND: &'static str = "vkBindImageMemory";

    unsafe fn request(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { allocator.image_request(info, create_info) }
    }

    unsafe fn check_before(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
    ) -> Result<(), Error> {
        // SAFETY: the caller guarantees a valid create info.
        unsafe { allocator.check_image_format(info) }
    }

    unsafe fn create(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<(Self::Handle, bool), Error> {
        let (mut info, mut link) = (*info, vk::ExternalMemoryImageCreateInfo::default());
        // SAFETY: the caller guarantees a valid chain; the link lives as long as the info.
        let dedicated =
            unsafe { allocator.share_image(&mut info, &mut link, handle_types, direction)? };
        // SAFETY: the caller guarantees a valid chain; the link lives as long as the info.
        let handle = unsafe {
            // With the chained structure: shared images have limits of their own.
            allocator.check_image_format(&info)?;
            allocator.driver().create_image(&info)
        };
        // The size of an image is known only after its creation.
        let figures = allocator.engine().figures(None, 0);
        let handle = handle.map_err(|error| Error::of_call(Self::CREATE, error, figures))?;
        Ok((handle, dedicated))
    }

    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements {
        // SAFETY: the caller guarantees a valid handle.
        unsafe { driver.image_requirements(handle) }
    }

    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller guarantees that all of them are valid.
        unsafe { driver.bind_image(handle, memory, offset) }
    }

    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle) {
        // SAFETY: the caller guarantees a valid handle.
        unsafe { driver.destroy_image(handle) }
    }

    fn subject(info: &Self::Info<'_>) -> Subject {
        let vk::Extent3D { width, height, depth } = info.extent;
        Subject::Image {
            flags: info.flags.as_raw(),
            image_type: info.image_type.as_raw().cast_unsigned(),
            format: info.format.as_raw().cast_unsigned(),
            extent: [width, height, depth],
            mip_levels: info.mip_levels,
            array_layers: info.array_layers,
            samples: info.samples.as_raw(),
            tiling: info.tiling.as_raw().cast_unsigned(),
            usage: u64::from(info.usage.as_raw()),
            sharing_mode: info.sharing_mode.as_raw().cast_unsigned(),
            initial_layout: info.initial_layout.as_raw().cast_unsigned(),
        }
    }

    fn raw(handle: Self::Handle) -> (u64, bool) {
        (handle.as_raw(), true)
    }

    fn target(info: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget> {
        let is_disjoint = info.flags.contains(vk::ImageCreateFlags::DISJOINT);
        (!is_disjoint).then(|| DedicatedTarget::Image(handle.as_raw()))
    }

    unsafe fn check(info: &Self::Info<'_>, requirements: &MemoryRequirements) -> Result<(), Error> {
        // SAFETY: the caller guarantees a valid chain.
        unsafe { check_image_size(info, requirements) }
    }
}

impl DeviceAllocator {
    /// Returns the request of a resource that is to be created; those who record the allocator are told why there can be
    /// none.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    #[inline(always)]
    pub(crate) unsafe fn request_of<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        // SAFETY: the caller guarantees a valid create info.
        let request = unsafe { K::request(self, info, create_info) };
        request.inspect_err(|error| self.engine().tell_failed(K::CREATE, None, error))
    }

    /// Creates a handle, and completes the request with its requirements.
    ///
    /// # Safety
    /// The info is valid for the Vulkan function that creates the resource.
    #[inline(always)]
    pub(crate) unsafe fn create_handle<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        request: &mut AllocationRequest,
        handle_types: u32,
        direction: Direction,
    ) -> Result<K::Handle, Error> {
        let driver = &**self.driver();
        // SAFETY: the caller guarantees a valid create info.
        let created = unsafe { K::create(self, info, handle_types, direction) };
        let (handle, dedicated) =
            created.inspect_err(|error| self.engine().tell_failed(K::CREATE, None, error))?;
        // SAFETY: the handle was just created.
        request.requirements = unsafe { K::requirements(driver, handle) };
        request.requirements.requires_dedicated |= dedicated;
        request.dedicated = K::target(info, handle);
        // SAFETY: the caller guarantees a valid create info.
        let checked = unsafe { K::check(info, &request.requirements) };
        if checked.is_err() {
            // SAFETY: the handle was created here and is not used elsewhere.
            unsafe { K::destroy(driver, handle) };
        }
        checked.map(|()| handle)
    }

    /// Returns a handle with its allocation, or destroys the handle if the allocation failed.
    ///
    /// # Safety
    /// The handle is live and not used elsewhere.
    #[inline(always)]
    pub(crate) unsafe fn or_destroy<K: ResourceApi>(
        &self,
        handle: K::Handle,
        made: Result<Allocation, Error>,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller guarantees that the handle is live and not used elsewhere.
        let made = made.map_err(|error| unsafe { self.destroy_after::<K>(handle, error) });
        Ok((handle, made?))
    }

    /// Destroys a handle after an error and returns that error.
    ///
    /// # Safety
    /// The handle is live and not used elsewhere.
    #[cold]
    pub(crate) unsafe fn destroy_after<K: ResourceApi>(
        &self,
        handle: K::Handle,
        error: Error,
    ) -> Error {
        // SAFETY: the caller guarantees a valid handle.
        unsafe { K::destroy(&**self.driver(), handle) };
        error
    }
}
