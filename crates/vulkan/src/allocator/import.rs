//! Buffers, images and plain memory backed by imported memory.

use ash::vk;
use vkmem_engine::recording::set_subject;
use vkmem_engine::{
    Allocation, AllocationCreateInfo, AllocationRequest, Allocator, DeviceError, Error,
    ImportRequest, MemoryImport,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::allocator::sharing::Direction;
use crate::driver::external::{HOST_TYPES, HandleKind, OPAQUE_TYPES};
use vkmem_engine::words::bytes;

/// External memory and the place of a resource in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// The memory to import.
    pub memory: MemoryImport,
    /// Size of the whole memory object in bytes; `None`: the size that the resource needs, rounded up to
    /// whole pages for host memory.
    pub size: Option<u64>,
    /// Offset of the resource in it, in bytes.
    pub offset: u64,
    /// The memory type that it was allocated from; needed for opaque handles, which cannot be queried for
    /// it.
    pub memory_type_index: Option<u32>,
}

/// The function that imports into the engine; a caller may release its own locks meanwhile.
pub type ImportFn<'a> = &'a mut dyn FnMut(&Allocator, &ImportRequest) -> Result<Allocation, Error>;

impl DeviceAllocator {
    /// Imports memory for resources that are bound to it later.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a handle, size or memory type that cannot be imported; those of the
    /// driver calls.
    ///
    /// # Safety
    /// The handle is of the given type; a host address stays valid until the allocation is freed.
    pub unsafe fn import_memory(
        &self,
        size: u64,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<Allocation, Error> {
        self.check_import(import.memory)?;
        let request = AllocationRequest::of_memory(size, 1, create_info);
        let import = Import { size: Some(size), ..*import };
        // SAFETY: the caller guarantees a valid handle.
        let request = unsafe { self.import_request(request, &import) }?;
        ask(self.engine(), &request)
    }

    /// Creates a buffer bound to imported memory. The allocation is the part of the memory object that
    /// the buffer takes. A failure undoes everything.
    ///
    /// # Errors
    /// The errors of [`import_memory`](Self::import_memory) and of creating and binding the buffer.
    ///
    /// # Safety
    /// `info` is valid for `vkCreateBuffer`; the handle as for [`import_memory`](Self::import_memory).
    pub unsafe fn import_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info and the handle.
        unsafe { self.import::<Buffers>(info, import, create_info, ask) }
    }

    /// Creates an image bound to imported memory; see [`import_buffer`](Self::import_buffer).
    ///
    /// # Errors
    /// The errors of [`import_memory`](Self::import_memory) and of creating and binding the image.
    ///
    /// # Safety
    /// `info` is valid for `vkCreateImage`; the handle as for [`import_memory`](Self::import_memory).
    pub unsafe fn import_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller guarantees a valid create info and the handle.
        unsafe { self.import::<Images>(info, import, create_info, ask) }
    }

    /// Creates a resource bound to imported memory.
    ///
    /// # Safety
    /// `info` is valid for the Vulkan function that creates the resource; the handle as for
    /// [`import_memory`](Self::import_memory).
    unsafe fn import<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(K::Handle, Allocation), Error> {
        let handle_type = import.memory.handle_type;
        self.check_import(import.memory)?;
        // SAFETY: the caller guarantees a valid create info.
        let mut request = unsafe { K::request(self, info, create_info)? };
        let direction = Direction::Import;
        // SAFETY: the caller guarantees a valid create info.
        let handle =
            unsafe { self.create_handle::<K>(info, &mut request, handle_type, direction)? };
        // SAFETY: the caller guarantees a valid memory handle; the resource was created here.
        unsafe {
            set_subject(|| K::subject(info));
            let imported = self.import_for(request, import, ask);
            let (handle, place) = self.or_destroy::<K>(handle, imported)?;
            self.bind_or_undo::<K>(handle, place)
        }
    }

    /// Imports memory for a resource with the requirements in `request`.
    ///
    /// # Safety
    /// The handle is of the given type.
    unsafe fn import_for(
        &self,
        request: AllocationRequest,
        import: &Import,
        ask: ImportFn<'_>,
    ) -> Result<Allocation, Error> {
        let needs = request.requirements;
        let size = import.size.unwrap_or_else(|| self.size_for(needs.size, import));
        let import = &Import { size: Some(size), ..*import };
        let end = import.offset.checked_add(needs.size);
        if end.is_none_or(|end| end > size) {
            return Err(Error::InvalidArgument(format!(
                "the resource needs {} from offset {} on, the imported memory has {size}",
                bytes(needs.size),
                import.offset
            )));
        }
        if !import.offset.is_multiple_of(needs.alignment) {
            return Err(Error::InvalidArgument(format!(
                "the resource needs an alignment of {}, which offset {} has not",
                needs.alignment, import.offset
            )));
        }
        // SAFETY: the caller guarantees a valid handle.
        let request = unsafe { self.import_request(request, import) }?;
        ask(self.engine(), &request)
    }

    /// Returns the size in bytes of the memory object for a resource of `needs` bytes, if the caller gave
    /// none.
    fn size_for(&self, needs: u64, import: &Import) -> u64 {
        if import.memory.handle_type & HOST_TYPES == 0 {
            return needs;
        }
        // Host memory has no size of its own. Its address starts a page, so the rest of the last page is
        // there as well.
        let alignment = self.driver().external().host_pointer_alignment().unwrap_or(1);
        let end = import.offset.saturating_add(needs);
        end.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
    }

    /// Returns the engine's request: the whole memory object, and the possible memory types.
    ///
    /// # Safety
    /// The handle is of the given type.
    unsafe fn import_request(
        &self,
        mut whole: AllocationRequest,
        import: &Import,
    ) -> Result<ImportRequest, Error> {
        let MemoryImport { handle_type, handle } = import.memory;
        let external = self.driver().external();
        let is_opaque = handle_type & OPAQUE_TYPES != 0;
        let needs = &mut whole.requirements;
        let resource_size = needs.size;
        let size = import.size.unwrap_or(needs.size);
        if handle_type & HOST_TYPES != 0 {
            if handle.checked_add(size).is_none() {
                return Err(Error::InvalidArgument(format!(
                    "host memory of {} at address {handle:#x} would wrap around",
                    bytes(size)
                )));
            }
            let alignment = external.host_pointer_alignment().unwrap_or(1);
            for (what, value) in [("the address", handle), ("the size", size)] {
                if !value.is_multiple_of(alignment) {
                    return Err(Error::InvalidArgument(format!(
                        "{what} of imported host memory is {value:#x}, not a multiple of {alignment} \
                         (minImportedHostPointerAlignment); that of an mmap.mmap is"
                    )));
                }
            }
        }
        // A memory object that is dedicated to a resource has exactly its size.
        if import.offset != 0 || size != needs.size || handle_type & HOST_TYPES != 0 {
            if needs.requires_dedicated && handle_type & HOST_TYPES == 0 {
                return Err(Error::InvalidArgument(format!(
                    "the resource needs a memory object of its own, of exactly {}",
                    bytes(needs.size)
                )));
            }
            whole.dedicated = None;
        }
        needs.size = size;
        // SAFETY: the caller guarantees a valid handle.
        let types = unsafe {
            match HandleKind::of(handle_type) {
                _ if is_opaque => Ok(u32::MAX),
                Some(HandleKind::Fd) => {
                    let fd = i32::try_from(handle).map_err(|_| DeviceError::InvalidExternalHandle);
                    fd.and_then(|fd| external.types_of_fd(fd, handle_type))
                        .map_err(|error| error.of("vkGetMemoryFdPropertiesKHR"))
                }
                Some(HandleKind::Win32) => external
                    .types_of_win32_handle(handle, handle_type)
                    .map_err(|error| error.of("vkGetMemoryWin32HandlePropertiesKHR")),
                Some(HandleKind::HostPointer) => external
                    .types_of_host_pointer(handle, handle_type)
                    .map_err(|error| error.of("vkGetMemoryHostPointerPropertiesEXT")),
                None => Err(DeviceError::InvalidExternalHandle.of("vkAllocateMemory")),
            }
        };
        needs.memory_type_bits &= types?;
        let memory_type_index = import.memory_type_index;
        let (offset, size, import) = (import.offset, resource_size, import.memory);
        Ok(ImportRequest { whole, offset, size, import, memory_type_index, is_opaque })
    }
}
