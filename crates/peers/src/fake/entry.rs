//! The function tables.

use std::ffi::{CStr, c_char};

use ash::vk;

use super::state::FakeVulkan;
use super::{description, memory, resources};

impl FakeVulkan {
    /// Returns the tables for users of `ash`; valid while this lives.
    pub fn ash(&self) -> (ash::Instance, ash::Device) {
        let static_fn = ash::StaticFn { get_instance_proc_addr };
        // SAFETY: the handles are ours, and the functions are of the types of their names.
        unsafe {
            let instance = ash::Instance::load(&static_fn, self.instance());
            let device = ash::Device::load(instance.fp_v1_0(), self.device());
            (instance, device)
        }
    }
}

unsafe extern "system" fn get_device_proc_addr(
    _: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: a name that ends with NUL.
    unsafe { find(CStr::from_ptr(name)) }
}

/// `vkGetInstanceProcAddr`: null for functions that no peer calls.
///
/// # Safety
/// The name ends with NUL.
pub unsafe extern "system" fn get_instance_proc_addr(
    _: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller guarantees the contract of this function.
    unsafe { find(CStr::from_ptr(name)) }
}

/// Erases the type of a function after checking that it is the one of its name.
macro_rules! function {
    ($type:ty, $function:expr) => {{
        let typed: $type = $function;
        // SAFETY: both are pointers to functions; the caller casts it back.
        Some(unsafe { std::mem::transmute::<$type, unsafe extern "system" fn()>(typed) })
    }};
}

fn find(name: &CStr) -> vk::PFN_vkVoidFunction {
    let name = name.to_str().ok()?;
    // Promoted functions have both names.
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
        "vkAllocateMemory" => function!(vk::PFN_vkAllocateMemory, memory::allocate_memory),
        "vkFreeMemory" => function!(vk::PFN_vkFreeMemory, memory::free_memory),
        "vkMapMemory" => function!(vk::PFN_vkMapMemory, memory::map_memory),
        "vkUnmapMemory" => function!(vk::PFN_vkUnmapMemory, memory::unmap_memory),
        "vkFlushMappedMemoryRanges" => {
            function!(vk::PFN_vkFlushMappedMemoryRanges, memory::flush_ranges)
        }
        "vkInvalidateMappedMemoryRanges" => {
            function!(vk::PFN_vkInvalidateMappedMemoryRanges, memory::invalidate_ranges)
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
        "vkCmdCopyBuffer" => function!(vk::PFN_vkCmdCopyBuffer, resources::copy_buffer),
        _ => None,
    }
}
