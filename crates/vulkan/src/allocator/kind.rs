//! What is the same for buffers and images, over what is not.

use ash::vk::{self, Handle};
use vkmem_engine::{
    Allocation, AllocationCreateInfo, AllocationId, AllocationRequest, DedicatedTarget,
    DeviceError, Error, MemoryHandle, MemoryRequirements,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::image_limits::check_image_size;
use crate::allocator::sharing::Direction;
use crate::device::memory_locks::waiting;
use crate::driver::contract::Driver;

/// What buffers and images do by different commands.
pub(crate) trait Kind {
    /// Its create info.
    type Info<'a>;
    /// Its handle.
    type Handle: Copy;
    /// Its commands, for errors.
    const CREATE: &'static str;
    const BIND: &'static str;

    /// # Safety
    /// The info is what its creating command accepts.
    unsafe fn request(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error>;
    /// Refuses what the device cannot have, before any of many is created.
    ///
    /// # Safety
    /// As above.
    unsafe fn check_before(allocator: &DeviceAllocator, info: &Self::Info<'_>)
    -> Result<(), Error>;
    /// Creates one whose memory is shared as handles of some types; whether it then needs memory of
    /// its own.
    ///
    /// # Safety
    /// As above.
    unsafe fn create(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<(Self::Handle, bool), Error>;
    /// # Safety
    /// The handle is live.
    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements;
    /// # Safety
    /// Handle and memory are live, and the resource may lie there.
    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError>;
    /// # Safety
    /// The handle is live and used by nobody.
    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle);
    /// For dedicated memory; `None` of what must not be named by it.
    fn target(info: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget>;
    /// Refuses what drivers answer nonsense for.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    unsafe fn check(info: &Self::Info<'_>, requirements: &MemoryRequirements) -> Result<(), Error>;
}

/// `VkBuffer`
pub(crate) struct Buffers;
/// `VkImage`
pub(crate) struct Images;

impl Kind for Buffers {
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
        // SAFETY: the caller vouches for the info.
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
        // SAFETY: the caller vouches for the info.
        let create = |info: &Self::Info<'_>| unsafe { allocator.driver().create_buffer(info) };
        let failed = |error| {
            Error::of_call(Self::CREATE, error, allocator.engine().figures(None, info.size))
        };
        // As a rule nothing is shared, and nothing to be chained to the info.
        if handle_types == 0 {
            return create(info).map(|handle| (handle, false)).map_err(failed);
        }
        let (mut chained, mut link) = (*info, vk::ExternalMemoryBufferCreateInfo::default());
        // SAFETY: the caller vouches for the chain; the link lives as long as the info.
        let dedicated =
            unsafe { allocator.share_buffer(&mut chained, &mut link, handle_types, direction)? };
        create(&chained).map(|handle| (handle, dedicated)).map_err(failed)
    }

    #[inline(always)]
    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements {
        // SAFETY: the caller vouches for the handle.
        unsafe { driver.buffer_requirements(handle) }
    }

    #[inline(always)]
    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for all of them.
        unsafe { driver.bind_buffer(handle, memory, offset) }
    }

    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle) {
        // SAFETY: the caller vouches for the handle.
        unsafe { driver.destroy_buffer(handle) }
    }

    fn target(_: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget> {
        Some(DedicatedTarget::Buffer(handle.as_raw()))
    }

    unsafe fn check(_: &Self::Info<'_>, _: &MemoryRequirements) -> Result<(), Error> {
        Ok(())
    }
}

impl Kind for Images {
    type Info<'a> = vk::ImageCreateInfo<'a>;
    type Handle = vk::Image;
    const CREATE: &'static str = "vkCreateImage";
    const BIND: &'static str = "vkBindImageMemory";

    unsafe fn request(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { allocator.image_request(info, create_info) }
    }

    unsafe fn check_before(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
    ) -> Result<(), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { allocator.check_image_format(info) }
    }

    unsafe fn create(
        allocator: &DeviceAllocator,
        info: &Self::Info<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<(Self::Handle, bool), Error> {
        let (mut info, mut link) = (*info, vk::ExternalMemoryImageCreateInfo::default());
        // SAFETY: the caller vouches for the chain; the link lives as long as the info.
        let dedicated =
            unsafe { allocator.share_image(&mut info, &mut link, handle_types, direction)? };
        // SAFETY: as above.
        let handle = unsafe {
            // With what was chained: what is shared has limits of its own.
            allocator.check_image_format(&info)?;
            allocator.driver().create_image(&info)
        };
        // What it needs is known once it exists.
        let figures = allocator.engine().figures(None, 0);
        let handle = handle.map_err(|error| Error::of_call(Self::CREATE, error, figures))?;
        Ok((handle, dedicated))
    }

    unsafe fn requirements(driver: &dyn Driver, handle: Self::Handle) -> MemoryRequirements {
        // SAFETY: the caller vouches for the handle.
        unsafe { driver.image_requirements(handle) }
    }

    unsafe fn bind(
        driver: &dyn Driver,
        handle: Self::Handle,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for all of them.
        unsafe { driver.bind_image(handle, memory, offset) }
    }

    unsafe fn destroy(driver: &dyn Driver, handle: Self::Handle) {
        // SAFETY: the caller vouches for the handle.
        unsafe { driver.destroy_image(handle) }
    }

    fn target(info: &Self::Info<'_>, handle: Self::Handle) -> Option<DedicatedTarget> {
        let is_disjoint = info.flags.contains(vk::ImageCreateFlags::DISJOINT);
        (!is_disjoint).then(|| DedicatedTarget::Image(handle.as_raw()))
    }

    unsafe fn check(info: &Self::Info<'_>, requirements: &MemoryRequirements) -> Result<(), Error> {
        // SAFETY: the caller vouches for the chain.
        unsafe { check_image_size(info, requirements) }
    }
}

impl DeviceAllocator {
    /// Creates a handle, and completes the request with what it needs.
    ///
    /// # Safety
    /// The info is what its creating command accepts.
    #[inline(always)]
    pub(crate) unsafe fn create_handle<K: Kind>(
        &self,
        info: &K::Info<'_>,
        request: &mut AllocationRequest,
        handle_types: u32,
        direction: Direction,
    ) -> Result<K::Handle, Error> {
        let driver = &**self.driver();
        // SAFETY: the caller vouches for the info.
        let (handle, dedicated) = unsafe { K::create(self, info, handle_types, direction)? };
        // SAFETY: it was just made.
        request.requirements = unsafe { K::requirements(driver, handle) };
        request.requirements.requires_dedicated |= dedicated;
        request.dedicated = K::target(info, handle);
        // SAFETY: the caller vouches for the info.
        let checked = unsafe { K::check(info, &request.requirements) };
        if checked.is_err() {
            // SAFETY: nobody else has seen it.
            unsafe { K::destroy(driver, handle) };
        }
        checked.map(|()| handle)
    }

    /// The error of binding to so many bytes of a memory type.
    #[cold]
    pub(crate) fn bind_error<K: Kind>(
        &self,
        error: DeviceError,
        memory_type_index: u32,
        size: u64,
    ) -> Error {
        let figures = self.engine().figures(Some(memory_type_index), size);
        Error::of_call(K::BIND, error, figures)
    }

    /// What a handle is given after it was created; it is destroyed if that fails.
    ///
    /// # Safety
    /// The handle is live, and nobody else has seen it.
    #[inline(always)]
    pub(crate) unsafe fn or_destroy<K: Kind>(
        &self,
        handle: K::Handle,
        made: Result<Allocation, Error>,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: of the caller.
        let made = made.map_err(|error| unsafe { self.destroy_after::<K>(handle, error) });
        Ok((handle, made?))
    }

    /// Binds a handle to its memory; if that fails, it is destroyed, and the memory is freed after that:
    /// some drivers look at the memory of what they destroy.
    ///
    /// # Safety
    /// As above, the memory is live, and the resource may lie there.
    #[inline(always)]
    pub(crate) unsafe fn bind_or_undo<K: Kind>(
        &self,
        handle: K::Handle,
        allocation: Allocation,
    ) -> Result<(K::Handle, Allocation), Error> {
        // Apart, as a reference would keep all of it in memory.
        let Allocation { id, memory, offset, memory_type_index, size, .. } = allocation;
        // SAFETY: of the caller.
        if let Err(error) = unsafe { K::bind(&**self.driver(), handle, memory, offset) } {
            let error = self.bind_error::<K>(error, memory_type_index, size);
            // SAFETY: of the caller.
            let error = unsafe { self.destroy_after::<K>(handle, error) };
            self.free_after(id);
            return Err(error);
        }
        Ok((handle, allocation))
    }

    /// Frees memory because of an error. Undoing its mapping waits for whoever maps the same block.
    #[cold]
    fn free_after(&self, id: AllocationId) {
        if let Ok(release) = self.engine().free(id) {
            waiting(|| drop(release));
        }
    }

    /// Destroys a handle because of an error, which it hands on.
    ///
    /// # Safety
    /// The handle is live, and nobody else has seen it.
    #[cold]
    unsafe fn destroy_after<K: Kind>(&self, handle: K::Handle, error: Error) -> Error {
        // SAFETY: the caller vouches for the handle.
        unsafe { K::destroy(&**self.driver(), handle) };
        error
    }
}
