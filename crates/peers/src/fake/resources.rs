//! Buffers and images: a size without contents.

use std::ffi::c_void;
use std::sync::atomic::Ordering::Relaxed;

use ash::vk::{self, Handle};

use super::state::{FakeVulkan, behind};

/// Bytes per texel of every format; sizes need not be realistic, only the same for all contestants.
const TEXEL: u64 = 4;

fn image_size(info: &vk::ImageCreateInfo<'_>) -> u64 {
    let vk::Extent3D { width, height, depth } = info.extent;
    TEXEL * u64::from(width) * u64::from(height) * u64::from(depth) * u64::from(info.array_layers)
}

impl FakeVulkan {
    fn requirements(&self, size: u64) -> vk::MemoryRequirements {
        let alignment = self.alignment.load(Relaxed);
        let types = self.memory().info().types.len() as u32;
        let all = u32::MAX.checked_shr(32 - types).unwrap_or(0);
        vk::MemoryRequirements {
            size: size.next_multiple_of(alignment),
            alignment,
            memory_type_bits: self.memory_type_bits.load(Relaxed) & all,
        }
    }

    /// Creates a resource, whose handle is the address of its requirements.
    fn resource(&self, size: u64) -> u64 {
        self.live_resources.fetch_add(1, Relaxed);
        Box::into_raw(Box::new(self.requirements(size))).expose_provenance() as u64
    }

    /// Destroys a resource.
    ///
    /// # Safety
    /// The handle is null, or came from `resource` and is not used afterwards.
    unsafe fn drop_resource(&self, handle: u64) {
        if handle != 0 {
            self.live_resources.fetch_sub(1, Relaxed);
            let requirements =
                std::ptr::with_exposed_provenance_mut::<vk::MemoryRequirements>(handle as usize);
            // SAFETY: it was boxed in `resource`.
            drop(unsafe { Box::from_raw(requirements) });
        }
    }
}

/// Returns the requirements of a resource.
///
/// # Safety
/// The handle is that of a live resource.
unsafe fn requirements_of(handle: u64) -> vk::MemoryRequirements {
    // SAFETY: the caller guarantees the contract of this function.
    unsafe { *std::ptr::with_exposed_provenance::<vk::MemoryRequirements>(handle as usize) }
}

pub(super) unsafe extern "system" fn create_buffer(
    device: vk::Device,
    info: *const vk::BufferCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    buffer: *mut vk::Buffer,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *buffer = vk::Buffer::from_raw(behind(device.as_raw()).resource((*info).size)) };
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn destroy_buffer(
    device: vk::Device,
    buffer: vk::Buffer,
    _: *const vk::AllocationCallbacks<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { behind(device.as_raw()).drop_resource(buffer.as_raw()) }
}

pub(super) unsafe extern "system" fn create_image(
    device: vk::Device,
    info: *const vk::ImageCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    image: *mut vk::Image,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *image = vk::Image::from_raw(behind(device.as_raw()).resource(image_size(&*info))) };
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn destroy_image(
    device: vk::Device,
    image: vk::Image,
    _: *const vk::AllocationCallbacks<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { behind(device.as_raw()).drop_resource(image.as_raw()) }
}

pub(super) unsafe extern "system" fn buffer_requirements(
    _: vk::Device,
    buffer: vk::Buffer,
    requirements: *mut vk::MemoryRequirements,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *requirements = requirements_of(buffer.as_raw()) }
}

pub(super) unsafe extern "system" fn image_requirements(
    _: vk::Device,
    image: vk::Image,
    requirements: *mut vk::MemoryRequirements,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *requirements = requirements_of(image.as_raw()) }
}

/// Fills the requirements; no resource needs dedicated memory, so the chain keeps the caller's zeros.
unsafe fn answer(requirements: *mut vk::MemoryRequirements2<'_>, found: vk::MemoryRequirements) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe {
        (*requirements).memory_requirements = found;
        let mut next: *mut c_void = (*requirements).p_next;
        while !next.is_null() {
            let link = next.cast::<vk::BaseOutStructure<'_>>();
            if (*link).s_type == vk::StructureType::MEMORY_DEDICATED_REQUIREMENTS {
                let dedicated = next.cast::<vk::MemoryDedicatedRequirements<'_>>();
                (*dedicated).prefers_dedicated_allocation = vk::FALSE;
                (*dedicated).requires_dedicated_allocation = vk::FALSE;
            }
            next = (*link).p_next.cast();
        }
    }
}

pub(super) unsafe extern "system" fn buffer_requirements2(
    _: vk::Device,
    info: *const vk::BufferMemoryRequirementsInfo2<'_>,
    requirements: *mut vk::MemoryRequirements2<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { answer(requirements, requirements_of((*info).buffer.as_raw())) }
}

pub(super) unsafe extern "system" fn image_requirements2(
    _: vk::Device,
    info: *const vk::ImageMemoryRequirementsInfo2<'_>,
    requirements: *mut vk::MemoryRequirements2<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { answer(requirements, requirements_of((*info).image.as_raw())) }
}

pub(super) unsafe extern "system" fn device_buffer_requirements(
    device: vk::Device,
    info: *const vk::DeviceBufferMemoryRequirements<'_>,
    requirements: *mut vk::MemoryRequirements2<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe {
        let size = (*(*info).p_create_info).size;
        answer(requirements, behind(device.as_raw()).requirements(size));
    }
}

pub(super) unsafe extern "system" fn device_image_requirements(
    device: vk::Device,
    info: *const vk::DeviceImageMemoryRequirements<'_>,
    requirements: *mut vk::MemoryRequirements2<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe {
        let size = image_size(&*(*info).p_create_info);
        answer(requirements, behind(device.as_raw()).requirements(size));
    }
}

pub(super) unsafe extern "system" fn bind_buffer(
    _: vk::Device,
    _: vk::Buffer,
    _: vk::DeviceMemory,
    _: vk::DeviceSize,
) -> vk::Result {
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn bind_image(
    _: vk::Device,
    _: vk::Image,
    _: vk::DeviceMemory,
    _: vk::DeviceSize,
) -> vk::Result {
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn bind_buffers2(
    _: vk::Device,
    _: u32,
    _: *const vk::BindBufferMemoryInfo<'_>,
) -> vk::Result {
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn bind_images2(
    _: vk::Device,
    _: u32,
    _: *const vk::BindImageMemoryInfo<'_>,
) -> vk::Result {
    vk::Result::SUCCESS
}

pub(super) unsafe extern "system" fn copy_buffer(
    _: vk::CommandBuffer,
    _: vk::Buffer,
    _: vk::Buffer,
    _: u32,
    _: *const vk::BufferCopy,
) {
}
