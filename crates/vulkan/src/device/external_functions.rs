//! Functions of the external memory extensions, and the `pNext` structures of an import.

use std::ffi::{CStr, c_void};

use ash::vk;
use vk::ExternalMemoryHandleTypeFlags as Type;
use vkmem_engine::{DeviceError, DeviceInfo, MemoryImport};

use crate::driver::external::{FD_TYPES, HOST_TYPES, HandleKind, WIN32_TYPES, types_of_extensions};
use crate::instance::functions::{
    ExternalFdFunctions, ExternalHostFunctions, ExternalWin32Functions, Provider,
};
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::Instance;

/// The functions of the extensions that are enabled.
pub(crate) struct ExternalFunctions {
    pub(super) handle_types: u32,
    pub(super) fd: Option<ExternalFdFunctions>,
    pub(super) win32: Option<ExternalWin32Functions>,
    pub(super) host: Option<ExternalHostFunctions>,
    pub(super) host_pointer_alignment: Option<u64>,
}

impl ExternalFunctions {
    /// Loads the functions.
    ///
    /// # Safety
    /// `find` returns the device's function of a name; the extensions are enabled on the device; the
    /// physical device belongs to the instance.
    pub(crate) unsafe fn load(
        instance: &Instance,
        physical_device: vk::PhysicalDevice,
        info: &DeviceInfo,
        extensions: &[String],
        find: &dyn Fn(&CStr) -> vk::PFN_vkVoidFunction,
    ) -> Result<Self, OpenError> {
        let handle_types = types_of_extensions(extensions);
        let mut functions =
            Self { handle_types, fd: None, win32: None, host: None, host_pointer_alignment: None };
        if handle_types & FD_TYPES != 0 {
            let provider = Provider::extension("VK_KHR_external_memory_fd");
            // SAFETY: the caller guarantees that `find` returns the function of the name.
            functions.fd = Some(unsafe { ExternalFdFunctions::load(provider, find) }?);
        }
        if handle_types & WIN32_TYPES != 0 {
            let provider = Provider::extension("VK_KHR_external_memory_win32");
            // SAFETY: the caller guarantees that `find` returns the function of the name.
            functions.win32 = Some(unsafe { ExternalWin32Functions::load(provider, find) }?);
        }
        if handle_types & HOST_TYPES != 0 {
            let provider = Provider::extension("VK_EXT_external_memory_host");
            // SAFETY: the caller guarantees that `find` returns the function of the name.
            functions.host = Some(unsafe { ExternalHostFunctions::load(provider, find) }?);
            functions.host_pointer_alignment = instance.properties2(info.api_version).map(|get| {
                let mut host = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
                let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut host);
                // SAFETY: the caller guarantees a valid device, which supports the structure.
                unsafe { (get.get_physical_device_properties2)(physical_device, &mut all) };
                host.min_imported_host_pointer_alignment.max(1)
            });
        }
        Ok(functions)
    }
}

/// The import structure in the chain of `vkAllocateMemory`, and the file descriptor that the driver takes
/// over.
pub(crate) enum ImportChain {
    None,
    Fd { info: vk::ImportMemoryFdInfoKHR<'static>, reference: fd::Reference },
    Win32(vk::ImportMemoryWin32HandleInfoKHR<'static>),
    Host(vk::ImportMemoryHostPointerInfoEXT<'static>),
}

impl ImportChain {
    pub(crate) fn new(import: Option<MemoryImport>) -> Result<Self, DeviceError> {
        let Some(MemoryImport { handle_type, handle }) = import else { return Ok(Self::None) };
        let types = Type::from_raw(handle_type);
        match HandleKind::of(handle_type) {
            None => Err(DeviceError::InvalidExternalHandle),
            Some(HandleKind::Fd) => {
                // A driver takes ownership of the descriptor that it imports. It gets a duplicate, so that
                // the caller keeps the original if anything fails later.
                let reference = fd::Reference::to(handle)?;
                let info = vk::ImportMemoryFdInfoKHR::default();
                let info = info.handle_type(types).fd(reference.number());
                Ok(Self::Fd { info, reference })
            }
            Some(HandleKind::Win32) => {
                let info = vk::ImportMemoryWin32HandleInfoKHR::default();
                Ok(Self::Win32(info.handle_type(types).handle(handle as vk::HANDLE)))
            }
            Some(HandleKind::HostPointer) => {
                let address = std::ptr::with_exposed_provenance_mut::<c_void>(handle as usize);
                let info = vk::ImportMemoryHostPointerInfoEXT::default();
                Ok(Self::Host(info.handle_type(types).host_pointer(address)))
            }
        }
    }

    pub(crate) fn link<'a>(
        &'a mut self,
        info: vk::MemoryAllocateInfo<'a>,
    ) -> vk::MemoryAllocateInfo<'a> {
        match self {
            Self::None => info,
            Self::Fd { info: import, .. } => info.push_next(import),
            Self::Win32(import) => info.push_next(import),
            Self::Host(import) => info.push_next(import),
        }
    }

    /// Notes that the driver has imported the memory and owns the descriptor.
    pub(crate) fn taken(self) {
        if let Self::Fd { reference, .. } = self {
            reference.give_away();
        }
    }
}

#[cfg(unix)]
mod fd {
    use std::fs::{File, Metadata};
    use std::mem::ManuallyDrop;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
    use std::os::unix::fs::MetadataExt;

    use vkmem_engine::DeviceError;

    /// A duplicate of a caller's file descriptor.
    pub(crate) struct Reference {
        number: RawFd,
        identity: (u64, u64),
        is_given_away: bool,
    }

    fn identity(metadata: &Metadata) -> (u64, u64) {
        (metadata.dev(), metadata.ino())
    }

    impl Reference {
        pub(crate) fn to(handle: u64) -> Result<Self, DeviceError> {
            let invalid = DeviceError::InvalidExternalHandle;
            let number = RawFd::try_from(handle).map_err(|_| invalid)?;
            // SAFETY: not -1, and the caller keeps it open during the call; a closed one only makes the
            // system call fail.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            let own = File::from(borrowed.try_clone_to_owned().map_err(|_| invalid)?);
            let identity = identity(&own.metadata().map_err(|_| invalid)?);
            Ok(Self { number: own.into_raw_fd(), identity, is_given_away: false })
        }

        pub(crate) fn number(&self) -> RawFd {
            self.number
        }

        pub(crate) fn give_away(mut self) {
            self.is_given_away = true;
        }
    }

    impl Drop for Reference {
        fn drop(&mut self) {
            if self.is_given_away {
                return;
            }
            // A driver that refuses an import leaves the descriptor to the caller, but Mesa's CPU driver
            // closes it. Its number may refer to another file then.
            // SAFETY: the file is only inspected, and not closed by this value.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(self.number) });
            if file.metadata().is_ok_and(|metadata| identity(&metadata) == self.identity) {
                // SAFETY: the descriptor is still ours, and closed once, here.
                drop(unsafe { File::from_raw_fd(file.as_raw_fd()) });
            }
        }
    }
}

#[cfg(not(unix))]
mod fd {
    use vkmem_engine::DeviceError;

    /// This system has no file descriptors.
    pub(crate) enum Reference {}

    impl Reference {
        pub(crate) fn to(_handle: u64) -> Result<Self, DeviceError> {
            Err(DeviceError::InvalidExternalHandle)
        }

        pub(crate) fn number(&self) -> i32 {
            match *self {}
        }

        pub(crate) fn give_away(self) {
            match self {}
        }
    }
}
