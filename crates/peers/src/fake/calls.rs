//! Memory, and the tables of functions.

use std::ffi::{CStr, c_char, c_void};

use ash::vk::{self, Handle};
use vkmem_engine::{DedicatedTarget, DeviceError, MemoryAllocateInfo, MemoryHandle, MemoryRange};

use super::{behind, description, resources};

fn code(result: Result<(), DeviceError>) -> vk::Result {
    match result {
        Ok(()) => vk::Result::SUCCESS,
        Err(error) => vk::Result::from_raw(error.vk_result()),
    }
}

unsafe extern "system" fn allocate_memory(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    // SAFETY: the caller keeps to the rules of Vulkan.
    unsafe {
        let info = &*info;
        let mut ask = MemoryAllocateInfo::of_type(info.memory_type_index, info.allocation_size);
        let mut next: *const c_void = info.p_next;
        while !next.is_null() {
            let link = next.cast::<vk::BaseInStructure<'_>>();
            if (*link).s_type == vk::StructureType::MEMORY_DEDICATED_ALLOCATE_INFO {
                let target = &*next.cast::<vk::MemoryDedicatedAllocateInfo<'_>>();
                ask.dedicated = Some(if target.image.is_null() {
                    DedicatedTarget::Buffer(target.buffer.as_raw())
                } else {
                    DedicatedTarget::Image(target.image.as_raw())
                });
            }
            next = (*link).p_next.cast();
        }
        let made = behind(device.as_raw()).memory().allocate(&ask);
        code(made.map(|handle| *memory = vk::DeviceMemory::from_raw(handle.0)))
    }
}

unsafe extern "system" fn free_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    _: *const vk::AllocationCallbacks<'_>,
) {
    if !memory.is_null() {
        // SAFETY: the caller keeps to the rules of Vulkan.
        unsafe { behind(device.as_raw()) }.memory().free(MemoryHandle(memory.as_raw()));
    }
}

unsafe extern "system" fn map_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    offset: vk::DeviceSize,
    _: vk::DeviceSize,
    _: vk::MemoryMapFlags,
    address: *mut *mut c_void,
) -> vk::Result {
    // SAFETY: the caller keeps to the rules of Vulkan.
    unsafe {
        let mapped = behind(device.as_raw()).memory().map(MemoryHandle(memory.as_raw()));
        code(mapped.map(|start| {
            *address = std::ptr::with_exposed_provenance_mut(start.at(offset).0.get());
        }))
    }
}

unsafe extern "system" fn unmap_memory(device: vk::Device, memory: vk::DeviceMemory) {
    // SAFETY: the caller keeps to the rules of Vulkan.
    unsafe { behind(device.as_raw()) }.memory().unmap(MemoryHandle(memory.as_raw()));
}

/// # Safety
/// As many ranges as the count says.
unsafe fn ranges(count: u32, ranges: *const vk::MappedMemoryRange<'_>) -> Vec<MemoryRange> {
    // SAFETY: as the caller promises.
    let ranges = unsafe { std::slice::from_raw_parts(ranges, count as usize) };
    let range = |it: &vk::MappedMemoryRange<'_>| MemoryRange {
        memory: MemoryHandle(it.memory.as_raw()),
        offset: it.offset,
        size: it.size,
    };
    ranges.iter().map(range).collect()
}

unsafe extern "system" fn flush_ranges(
    device: vk::Device,
    count: u32,
    first: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: the caller keeps to the rules of Vulkan.
    unsafe { code(behind(device.as_raw()).memory().flush(&ranges(count, first))) }
}

unsafe extern "system" fn invalidate_ranges(
    device: vk::Device,
    count: u32,
    first: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: the caller keeps to the rules of Vulkan.
    unsafe { code(behind(device.as_raw()).memory().invalidate(&ranges(count, first))) }
}

unsafe extern "system" fn copy_buffer(
    _: vk::CommandBuffer,
    _: vk::Buffer,
    _: vk::Buffer,
    _: u32,
    _: *const vk::BufferCopy,
) {
}

unsafe extern "system" fn get_device_proc_addr(
    _: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: a name that ends with NUL.
    unsafe { find(CStr::from_ptr(name)) }
}

/// `vkGetInstanceProcAddr`: null for what no peer calls.
///
/// # Safety
/// The name ends with NUL.
pub unsafe extern "system" fn get_instance_proc_addr(
    _: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: as the caller promises.
    unsafe { find(CStr::from_ptr(name)) }
}

/// Erases the type of a function, having checked that it is that of its name.
macro_rules! function {
    ($type:ty, $function:expr) => {{
        let typed: $type = $function;
        // SAFETY: both are pointers to functions; the caller casts it back.
        Some(unsafe { std::mem::transmute::<$type, unsafe extern "system" fn()>(typed) })
    }};
}

fn find(name: &CStr) -> vk::PFN_vkVoidFunction {
    let name = name.to_str().ok()?;
    // Promoted functions answer to either name.
    match name.strip_suffix("KHR").unwrap_or(name) {
        "vkGetInstanceProcAddr" => {
            function!(vk::PFN_vkGetInstanceProcAddr, get_instance_proc_addr)
        }
        "vkGetDeviceProcAddr" => function!(vk::PFN_vkGetDeviceProcAddr, get_device_proc_addr),
        "vkGetPhysicalDeviceProperties" => {
            function!(vk::PFN_vkGetPhysicalDeviceProperties, description::properties)
        }
        "vkGetPhysicalDeviceMemoryProperties" => {
            function!(vk::PFN_vkGetPhysicalDeviceMemoryProperties, description::memory_properties)
        }
        "vkGetPhysicalDeviceMemoryProperties2" => {
            function!(vk::PFN_vkGetPhysicalDeviceMemoryProperties2, description::memory_properties2)
        }
        "vkAllocateMemory" => function!(vk::PFN_vkAllocateMemory, allocate_memory),
        "vkFreeMemory" => function!(vk::PFN_vkFreeMemory, free_memory),
        "vkMapMemory" => function!(vk::PFN_vkMapMemory, map_memory),
        "vkUnmapMemory" => function!(vk::PFN_vkUnmapMemory, unmap_memory),
        "vkFlushMappedMemoryRanges" => {
            function!(vk::PFN_vkFlushMappedMemoryRanges, flush_ranges)
        }
        "vkInvalidateMappedMemoryRanges" => {
            function!(vk::PFN_vkInvalidateMappedMemoryRanges, invalidate_ranges)
        }
        "vkCreateBuffer" => function!(vk::PFN_vkCreateBuffer, resources::create_buffer),
        "vkDestroyBuffer" => function!(vk::PFN_vkDestroyBuffer, resources::destroy_buffer),
        "vkCreateImage" => function!(vk::PFN_vkCreateImage, resources::create_image),
        "vkDestroyImage" => function!(vk::PFN_vkDestroyImage, resources::destroy_image),
        "vkBindBufferMemory" => function!(vk::PFN_vkBindBufferMemory, resources::bind_buffer),
        "vkBindImageMemory" => function!(vk::PFN_vkBindImageMemory, resources::bind_image),
        "vkBindBufferMemory2" => function!(vk::PFN_vkBindBufferMemory2, resources::bind_buffers2),
        "vkBindImageMemory2" => function!(vk::PFN_vkBindImageMemory2, resources::bind_images2),
        "vkGetBufferMemoryRequirements" => {
            function!(vk::PFN_vkGetBufferMemoryRequirements, resources::buffer_requirements)
        }
        "vkGetImageMemoryRequirements" => {
            function!(vk::PFN_vkGetImageMemoryRequirements, resources::image_requirements)
        }
        "vkGetBufferMemoryRequirements2" => {
            function!(vk::PFN_vkGetBufferMemoryRequirements2, resources::buffer_requirements2)
        }
        "vkGetImageMemoryRequirements2" => {
            function!(vk::PFN_vkGetImageMemoryRequirements2, resources::image_requirements2)
        }
        "vkGetDeviceBufferMemoryRequirements" => function!(
            vk::PFN_vkGetDeviceBufferMemoryRequirements,
            resources::device_buffer_requirements
        ),
        "vkGetDeviceImageMemoryRequirements" => function!(
            vk::PFN_vkGetDeviceImageMemoryRequirements,
            resources::device_image_requirements
        ),
        "vkCmdCopyBuffer" => function!(vk::PFN_vkCmdCopyBuffer, copy_buffer),
        _ => None,
    }
}
