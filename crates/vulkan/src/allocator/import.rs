//! Buffers, images and bare memory on memory that somebody else made.

use ash::vk;
use vkmem_engine::{
    Allocation, AllocationCreateInfo, AllocationRequest, Allocator, DeviceError, Error,
    ImportRequest, MemoryImport,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::kind::{Buffers, Images, Kind};
use crate::allocator::sharing::Direction;
use crate::driver::external::{FD_TYPES, HOST_TYPES, OPAQUE_TYPES, WIN32_TYPES};
use vkmem_engine::words::bytes;

/// Memory that somebody else made, and the place of a resource in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// Which memory.
    pub memory: MemoryImport,
    /// Of the whole memory object, in bytes; `None`: what the resource needs, which is rounded up to
    /// whole pages of the host's memory.
    pub size: Option<u64>,
    /// Where the resource starts in it, in bytes.
    pub offset: u64,
    /// The type that it was made of. Opaque handles do not tell.
    pub memory_type_index: Option<u32>,
}

/// How the engine is asked to take memory in; lets a caller let go of its own locks meanwhile.
pub type ImportFn<'a> = &'a mut dyn FnMut(&Allocator, &ImportRequest) -> Result<Allocation, Error>;

impl DeviceAllocator {
    /// Takes memory in, for whatever is bound to it later.
    ///
    /// # Safety
    /// The handle is what its type says; an address is that of memory that stays until the
    /// allocation is freed.
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
        // SAFETY: the caller vouches for the handle.
        let request = unsafe { self.import_request(request, &import) }?;
        ask(self.engine(), &request)
    }

    /// Creates a buffer on memory that somebody else made. The allocation is the part of the
    /// memory object that the buffer takes. A failure leaves nothing behind.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts; as of [`import_memory`](Self::import_memory).
    pub unsafe fn import_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller vouches for the info and the handle.
        unsafe { self.import::<Buffers>(info, import, create_info, ask) }
    }

    /// The same for an image.
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts; as of [`import_memory`](Self::import_memory).
    pub unsafe fn import_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller vouches for the info and the handle.
        unsafe { self.import::<Images>(info, import, create_info, ask) }
    }

    /// # Safety
    /// As of the two that call it.
    unsafe fn import<K: Kind>(
        &self,
        info: &K::Info<'_>,
        import: &Import,
        create_info: &AllocationCreateInfo,
        ask: ImportFn<'_>,
    ) -> Result<(K::Handle, Allocation), Error> {
        let handle_type = import.memory.handle_type;
        self.check_import(import.memory)?;
        // SAFETY: the caller vouches for the info.
        let mut request = unsafe { K::request(self, info, create_info)? };
        let direction = Direction::Import;
        // SAFETY: as above.
        let handle =
            unsafe { self.create_handle::<K>(info, &mut request, handle_type, direction)? };
        // SAFETY: the caller vouches for the handle of the memory; that of the resource was made here.
        unsafe {
            let imported = self.import_for(request, import, ask);
            let (handle, place) = self.or_destroy::<K>(handle, imported)?;
            self.bind_or_undo::<K>(handle, place)
        }
    }

    /// The memory for a resource that needs what `request` says.
    ///
    /// # Safety
    /// The handle is what its type says.
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
        // SAFETY: the caller vouches for the handle.
        let request = unsafe { self.import_request(request, import) }?;
        ask(self.engine(), &request)
    }

    /// Bytes of the memory object of a resource of so many bytes, where the caller does not say.
    fn size_for(&self, needs: u64, import: &Import) -> u64 {
        if import.memory.handle_type & HOST_TYPES == 0 {
            return needs;
        }
        // Nobody else has given this memory a size. Its address starts a page, so what is rounded up is
        // there as well.
        let alignment = self.driver().external().host_pointer_alignment().unwrap_or(1);
        let end = import.offset.saturating_add(needs);
        end.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
    }

    /// What the engine is asked: the whole memory object, and the types that serve.
    ///
    /// # Safety
    /// The handle is what its type says.
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
        // A memory object that names one resource is as large as that.
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
        // SAFETY: the caller vouches for the handle.
        let types = unsafe {
            if is_opaque {
                Ok(u32::MAX)
            } else if handle_type & FD_TYPES != 0 {
                let fd = i32::try_from(handle).map_err(|_| DeviceError::InvalidExternalHandle);
                fd.and_then(|fd| external.types_of_fd(fd, handle_type))
                    .map_err(|error| error.of("vkGetMemoryFdPropertiesKHR"))
            } else if handle_type & WIN32_TYPES != 0 {
                external
                    .types_of_win32_handle(handle, handle_type)
                    .map_err(|error| error.of("vkGetMemoryWin32HandlePropertiesKHR"))
            } else {
                external
                    .types_of_host_pointer(handle, handle_type)
                    .map_err(|error| error.of("vkGetMemoryHostPointerPropertiesEXT"))
            }
        };
        needs.memory_type_bits &= types?;
        let memory_type_index = import.memory_type_index;
        let (offset, size, import) = (import.offset, resource_size, import.memory);
        Ok(ImportRequest { whole, offset, size, import, memory_type_index, is_opaque })
    }
}
