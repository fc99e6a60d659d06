//! Export and import of memory of a real device.

use std::ffi::c_void;

use ash::vk;
use vk::ExternalMemoryHandleTypeFlags as Type;
use vkmem_engine::{DeviceError, MemoryHandle};

use crate::device::fd_kind;
use crate::device::logical::{check, memory};
use crate::device::vulkan_device::VulkanDevice;
use crate::driver::external::{ExternalMemory, ExternalSupport};

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
        // The structures for external memory need `VK_KHR_external_memory_capabilities`.
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
        // SAFETY: the caller guarantees a valid memory; the structures live for the call.
        check(unsafe { (functions.get_memory_fd)(self.logical.handle, &info, &mut fd) })?;
        Ok(fd)
    }

    unsafe fn types_of_fd(&self, fd: i32, handle_type: u32) -> Result<u32, DeviceError> {
        let functions = self.external.fd.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut properties = vk::MemoryFdPropertiesKHR::default();
        let (device, handle_type) = (self.logical.handle, Type::from_raw(handle_type));
        let get = functions.get_memory_fd_properties;
        // SAFETY: the caller guarantees a valid type; the structure lives for the call.
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
        // SAFETY: the caller guarantees a valid memory; the structures live for the call.
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
        // SAFETY: the caller guarantees a valid type; the structure lives for the call.
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
        // SAFETY: the caller guarantees a valid address; the structure lives for the call.
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
