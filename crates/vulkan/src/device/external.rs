//! Export and import of a real device's memory.

use std::ffi::{CStr, c_void};

use ash::vk;
use vkmem_engine::{DeviceError, DeviceInfo, MemoryHandle, MemoryImport};

use crate::device::fd_kind;
use crate::device::vulkan_device::{VulkanDevice, check, memory};
use crate::driver::external::{
    ExternalMemory, ExternalSupport, FD_TYPES, HOST_TYPES, WIN32_TYPES, types_of_extensions,
};
use crate::instance::functions::{
    ExternalFdFunctions, ExternalHostFunctions, ExternalWin32Functions, Provider,
};
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::Instance;

use vk::ExternalMemoryHandleTypeFlags as Type;

/// The functions of the extensions that are enabled.
pub(crate) struct ExternalFunctions {
    handle_types: u32,
    fd: Option<ExternalFdFunctions>,
    win32: Option<ExternalWin32Functions>,
    host: Option<ExternalHostFunctions>,
    host_pointer_alignment: Option<u64>,
}

impl ExternalFunctions {
    /// # Safety
    /// `find` returns the device's function of a name; the extensions are enabled on it; the
    /// physical device is of the instance.
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
            // SAFETY: the caller vouches for `find`; so it does below.
            functions.fd = Some(unsafe { ExternalFdFunctions::load(provider, find) }?);
        }
        if handle_types & WIN32_TYPES != 0 {
            let provider = Provider::extension("VK_KHR_external_memory_win32");
            // SAFETY: as above.
            functions.win32 = Some(unsafe { ExternalWin32Functions::load(provider, find) }?);
        }
        if handle_types & HOST_TYPES != 0 {
            let provider = Provider::extension("VK_EXT_external_memory_host");
            // SAFETY: as above.
            functions.host = Some(unsafe { ExternalHostFunctions::load(provider, find) }?);
            functions.host_pointer_alignment = instance.properties2(info.api_version).map(|get| {
                let mut host = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
                let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut host);
                // SAFETY: the caller vouches for the device, which knows the structure.
                unsafe { (get.get_physical_device_properties2)(physical_device, &mut all) };
                host.min_imported_host_pointer_alignment.max(1)
            });
        }
        Ok(functions)
    }
}

/// The structure of an import in the chain of `vkAllocateMemory`, and the reference that it gives
/// away.
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
        if handle_type & FD_TYPES != 0 {
            // A driver takes what it imports. It gets a reference of its own, so that whatever fails
            // later, the caller still has his.
            let reference = fd::Reference::to(handle)?;
            let info = vk::ImportMemoryFdInfoKHR::default();
            let info = info.handle_type(types).fd(reference.number());
            return Ok(Self::Fd { info, reference });
        }
        if handle_type & WIN32_TYPES != 0 {
            let info = vk::ImportMemoryWin32HandleInfoKHR::default();
            return Ok(Self::Win32(info.handle_type(types).handle(handle as vk::HANDLE)));
        }
        let address = std::ptr::with_exposed_provenance_mut::<c_void>(handle as usize);
        let info = vk::ImportMemoryHostPointerInfoEXT::default();
        Ok(Self::Host(info.handle_type(types).host_pointer(address)))
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

    /// The driver has accepted it.
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

    /// A second descriptor of what a caller's descriptor refers to.
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
            // SAFETY: not -1, and the caller keeps it open for the call; one that is closed all the
            // same is an error of the system.
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
            // A driver that refuses leaves it to the caller, but Mesa's CPU driver has closed it
            // then. Its number may already mean something else.
            // SAFETY: only looked at, and not closed by this value.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(self.number) });
            if file.metadata().is_ok_and(|metadata| identity(&metadata) == self.identity) {
                // SAFETY: still ours, and closed once, here.
                drop(unsafe { File::from_raw_fd(file.as_raw_fd()) });
            }
        }
    }
}

#[cfg(not(unix))]
mod fd {
    use vkmem_engine::DeviceError;

    /// There are no file descriptors here.
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

impl ExternalMemory for VulkanDevice {
    fn handle_types(&self) -> u32 {
        self.external.handle_types
    }

    fn buffer_support(
        &self,
        flags: vk::BufferCreateFlags,
        usage: u64,
        handle_type: u32,
    ) -> Option<ExternalSupport> {
        let functions = self.instance.external_capabilities(self.info.api_version)?;
        let handle_type = Type::from_raw(handle_type);
        let mut info = vk::PhysicalDeviceExternalBufferInfo::default()
            .flags(flags)
            .usage(vk::BufferUsageFlags::from_raw(usage as u32))
            .handle_type(handle_type);
        let mut wide = vk::BufferUsageFlags2CreateInfoKHR::default()
            .usage(vk::BufferUsageFlags2KHR::from_raw(usage));
        if usage >> u32::BITS != 0 {
            wide.p_next = info.p_next;
            info.p_next = (&raw mut wide).cast();
        }
        let mut properties = vk::ExternalBufferProperties::default();
        let get = functions.get_physical_device_external_buffer_properties;
        // SAFETY: the physical device is live; the structures live for the call.
        unsafe { get(self.physical_device, &info, &mut properties) };
        Some(support(&properties.external_memory_properties))
    }

    fn image_support(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        handle_type: u32,
    ) -> Option<ExternalSupport> {
        if info.tiling == vk::ImageTiling::DRM_FORMAT_MODIFIER_EXT {
            // Depends on the modifier, which only the driver chooses.
            return None;
        }
        // The structures for external memory are those of the capabilities.
        self.instance.external_capabilities(self.info.api_version)?;
        let functions = self.instance.properties2(self.info.api_version)?;
        let mut external_info = vk::PhysicalDeviceExternalImageFormatInfo::default()
            .handle_type(Type::from_raw(handle_type));
        let info = vk::PhysicalDeviceImageFormatInfo2::default()
            .format(info.format)
            .ty(info.image_type)
            .tiling(info.tiling)
            .usage(info.usage)
            .flags(info.flags)
            .push_next(&mut external_info);
        let mut external = vk::ExternalImageFormatProperties::default();
        let mut properties = vk::ImageFormatProperties2::default().push_next(&mut external);
        let get = functions.get_physical_device_image_format_properties2;
        // SAFETY: the physical device is live; the structures live for the call.
        let found = unsafe { get(self.physical_device, &info, &mut properties) };
        match found {
            vk::Result::SUCCESS => Some(support(&external.external_memory_properties)),
            vk::Result::ERROR_FORMAT_NOT_SUPPORTED => Some(ExternalSupport::default()),
            _ => None,
        }
    }

    fn why_not_memory(&self, fd: i32) -> Option<&'static str> {
        fd_kind::why_not_memory(fd)
    }

    unsafe fn export_fd(&self, handle: MemoryHandle, handle_type: u32) -> Result<i32, DeviceError> {
        let functions = self.external.fd.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let info = vk::MemoryGetFdInfoKHR::default()
            .memory(memory(handle))
            .handle_type(Type::from_raw(handle_type));
        let mut fd = -1;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller vouches for the memory; the structures live for the call.
        check(unsafe { (functions.get_memory_fd)(self.logical.handle, &info, &mut fd) })?;
        Ok(fd)
    }

    unsafe fn types_of_fd(&self, fd: i32, handle_type: u32) -> Result<u32, DeviceError> {
        let functions = self.external.fd.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut properties = vk::MemoryFdPropertiesKHR::default();
        let (device, handle_type) = (self.logical.handle, Type::from_raw(handle_type));
        let get = functions.get_memory_fd_properties;
        // SAFETY: the caller vouches for the type; the structure lives for the call.
        check(unsafe { get(device, handle_type, fd, &mut properties) })?;
        Ok(properties.memory_type_bits)
    }

    unsafe fn export_win32_handle(
        &self,
        handle: MemoryHandle,
        handle_type: u32,
    ) -> Result<u64, DeviceError> {
        let functions = self.external.win32.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let info = vk::MemoryGetWin32HandleInfoKHR::default()
            .memory(memory(handle))
            .handle_type(Type::from_raw(handle_type));
        let mut found: vk::HANDLE = 0;
        let get = functions.get_memory_win32_handle;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller vouches for the memory; the structures live for the call.
        check(unsafe { get(self.logical.handle, &info, &mut found) })?;
        Ok(found as usize as u64)
    }

    unsafe fn types_of_win32_handle(
        &self,
        handle: u64,
        handle_type: u32,
    ) -> Result<u32, DeviceError> {
        let functions = self.external.win32.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut properties = vk::MemoryWin32HandlePropertiesKHR::default();
        let (device, handle_type) = (self.logical.handle, Type::from_raw(handle_type));
        let get = functions.get_memory_win32_handle_properties;
        // SAFETY: the caller vouches for the type; the structure lives for the call.
        check(unsafe { get(device, handle_type, handle as vk::HANDLE, &mut properties) })?;
        Ok(properties.memory_type_bits)
    }

    unsafe fn types_of_host_pointer(
        &self,
        address: u64,
        handle_type: u32,
    ) -> Result<u32, DeviceError> {
        let functions = self.external.host.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
        let (device, handle_type) = (self.logical.handle, Type::from_raw(handle_type));
        let address = std::ptr::with_exposed_provenance::<c_void>(address as usize);
        let get = functions.get_memory_host_pointer_properties;
        // SAFETY: the caller vouches for the address; the structure lives for the call.
        check(unsafe { get(device, handle_type, address, &mut properties) })?;
        Ok(properties.memory_type_bits)
    }

    fn host_pointer_alignment(&self) -> Option<u64> {
        self.external.host_pointer_alignment
    }
}

fn support(properties: &vk::ExternalMemoryProperties) -> ExternalSupport {
    ExternalSupport {
        features: properties.external_memory_features.as_raw(),
        compatible_types: properties.compatible_handle_types.as_raw(),
    }
}
