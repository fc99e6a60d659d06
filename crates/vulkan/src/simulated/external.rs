//! Memory shared by simulated devices of one process.

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    Call, DeviceError, HostAddress, HostBytes, MemoryAllocateInfo, MemoryHandle,
    MemoryPropertyFlags, SimulatedPayload,
};

use crate::driver::external::{
    ExternalMemory, ExternalSupport, FD_TYPES, HOST_TYPES, WIN32_TYPES, types_of_extensions,
};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::registry::{self, Exported};

/// Alignment of imported host memory in bytes: a page, as on most hosts.
const HOST_POINTER_ALIGNMENT: u64 = 4096;
const DMA_BUF: u32 = vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT.as_raw();

/// Memory of this process, identified by its address.
#[derive(Debug)]
struct HostRange {
    address: HostAddress,
}

impl HostBytes for HostRange {
    fn address(&self) -> HostAddress {
        self.address
    }

    fn read(&self, offset: u64, target: &mut [u8]) {
        let from = std::ptr::with_exposed_provenance::<u8>(self.address.at(offset).0.get());
        // SAFETY: the importer guarantees that the range stays valid; the store checks offset and length.
        // Other threads may write to it at the same time, as on a device.
        unsafe { std::ptr::copy(from, target.as_mut_ptr(), target.len()) };
    }

    fn write(&self, offset: u64, source: &[u8]) {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(self.address.at(offset).0.get());
        // SAFETY: the importer guarantees that the range stays valid; the store checks offset and length.
        unsafe { std::ptr::copy(source.as_ptr(), to, source.len()) };
    }
}

impl SimulatedDriver {
    /// Returns the payload of an allocation that imports.
    pub(super) fn imported(
        &self,
        info: &MemoryAllocateInfo,
    ) -> Result<Option<SimulatedPayload>, DeviceError> {
        let Some(import) = info.import else { return Ok(None) };
        let invalid = Err(DeviceError::InvalidExternalHandle);
        if import.handle_type & self.handle_types() == 0 {
            self.device.report_violation(Call::Allocate, "an import of a type that is not enabled");
            return invalid;
        }
        if import.handle_type & HOST_TYPES != 0 {
            let aligned = |value: u64| value.is_multiple_of(HOST_POINTER_ALIGNMENT);
            let address = std::num::NonZeroUsize::new(import.handle as usize);
            let Some(address) = address.filter(|_| aligned(import.handle) && aligned(info.size))
            else {
                let what = "a host pointer or a size that is not aligned";
                self.device.report_violation(Call::Allocate, what);
                return invalid;
            };
            let bytes = Arc::new(HostRange { address: HostAddress(address) });
            return Ok(Some(SimulatedPayload::of_host(bytes, info.size)));
        }
        let exported = registry::find(import.handle)?;
        // Like a driver that checks Vulkan's requirements for an opaque handle.
        let fits = exported.handle_type == import.handle_type
            && exported.device_name == self.device_name()
            && exported.memory_type_index == info.memory_type_index
            && exported.size == info.size
            && exported.dedicated == info.dedicated.is_some();
        if fits { Ok(Some(exported.payload)) } else { invalid }
    }

    fn device_name(&self) -> &str {
        &vkmem_engine::DeviceMemory::info(self).name
    }

    /// Returns whether the memory of an image can only be shared if it is dedicated to it: on discrete
    /// GPUs, whose drivers store layout metadata with the memory.
    pub(super) fn shares_images_alone(&self, info: &vk::ImageCreateInfo<'_>, types: u32) -> bool {
        let device = vkmem_engine::DeviceMemory::info(self).device_type;
        types & FD_TYPES != 0
            && info.tiling == vk::ImageTiling::OPTIMAL
            && device == vkmem_engine::DeviceType::DiscreteGpu
    }

    fn support(&self, handle_type: u32, dedicated_only: bool) -> ExternalSupport {
        use vk::ExternalMemoryFeatureFlags as Feature;
        let enabled = handle_type & self.handle_types();
        let mut features = Feature::empty();
        if enabled & FD_TYPES != 0 {
            features = Feature::EXPORTABLE | Feature::IMPORTABLE;
        } else if enabled & HOST_TYPES != 0 {
            features = Feature::IMPORTABLE;
        }
        if dedicated_only && !features.is_empty() {
            features |= Feature::DEDICATED_ONLY;
        }
        let compatible_types = if enabled & FD_TYPES != 0 { FD_TYPES } else { enabled };
        ExternalSupport { features: features.as_raw(), compatible_types }
    }
}

impl ExternalMemory for SimulatedDriver {
    fn handle_types(&self) -> u32 {
        types_of_extensions(&self.extensions) & !WIN32_TYPES
    }

    fn buffer_support(
        &self,
        flags: vk::BufferCreateFlags,
        _usage: u64,
        handle_type: u32,
    ) -> Option<ExternalSupport> {
        if flags.contains(vk::BufferCreateFlags::PROTECTED) {
            return Some(ExternalSupport::default());
        }
        Some(self.support(handle_type, false))
    }

    fn image_support(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        handle_type: u32,
    ) -> Option<ExternalSupport> {
        // The importer has to know the layout of a dma-buf.
        let unknown = handle_type == DMA_BUF && info.tiling == vk::ImageTiling::OPTIMAL;
        if unknown || info.flags.contains(vk::ImageCreateFlags::PROTECTED) {
            return Some(ExternalSupport::default());
        }
        Some(self.support(handle_type, self.shares_images_alone(info, handle_type)))
    }

    unsafe fn export_fd(&self, memory: MemoryHandle, handle_type: u32) -> Result<i32, DeviceError> {
        self.device.enter(Call::ExportFd)?;
        let found = self.device.memory(memory).zip(self.device.payload(memory));
        let Some((object, payload)) = found else {
            self.device.report_violation(Call::ExportFd, "memory that is not allocated");
            return Err(DeviceError::OutOfHostMemory);
        };
        if object.export_handle_types & handle_type == 0 {
            let types = object.export_handle_types;
            let what = format!("type {handle_type:#x} of memory that was allocated for {types:#x}");
            self.device.report_violation(Call::ExportFd, what);
            return Err(DeviceError::OutOfHostMemory);
        }
        registry::export(Exported {
            payload,
            device_name: self.device_name().to_owned(),
            handle_type,
            memory_type_index: object.memory_type_index,
            size: object.size,
            dedicated: object.dedicated.is_some(),
        })
    }

    unsafe fn types_of_fd(&self, fd: i32, handle_type: u32) -> Result<u32, DeviceError> {
        self.device.enter(Call::FdProperties)?;
        let fd = u64::try_from(fd).map_err(|_| DeviceError::InvalidExternalHandle)?;
        let exported = registry::find(fd)?;
        let known = exported.handle_type == handle_type;
        known.then_some(1 << exported.memory_type_index).ok_or(DeviceError::InvalidExternalHandle)
    }

    unsafe fn types_of_host_pointer(
        &self,
        _address: u64,
        _handle_type: u32,
    ) -> Result<u32, DeviceError> {
        self.device.enter(Call::HostPointerProperties)?;
        let wanted = MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::HOST_COHERENT;
        let info = vkmem_engine::DeviceMemory::info(self);
        let types = (0..info.types.len()).filter(|index| {
            let flags = info.types[*index].flags;
            flags.contains(wanted) && !flags.contains(MemoryPropertyFlags::DEVICE_COHERENT_AMD)
        });
        Ok(types.fold(0, |bits, index| bits | 1 << index))
    }

    fn host_pointer_alignment(&self) -> Option<u64> {
        (self.handle_types() & HOST_TYPES != 0).then_some(HOST_POINTER_ALIGNMENT)
    }
}
