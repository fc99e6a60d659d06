//! Properties of the device.

use std::ffi::c_void;

use ash::vk::{self, Handle};
use vkmem_engine::DeviceInfo;

use super::state::behind;

fn device_type(info: &DeviceInfo) -> vk::PhysicalDeviceType {
    vk::PhysicalDeviceType::from_raw(info.device_type as i32)
}

/// Returns `VkPhysicalDeviceProperties` of a description.
pub fn properties_of(info: &DeviceInfo) -> vk::PhysicalDeviceProperties {
    let mut properties = vk::PhysicalDeviceProperties {
        api_version: info.api_version,
        vendor_id: info.vendor_id,
        device_id: info.device_id,
        device_type: device_type(info),
        ..Default::default()
    };
    let room = properties.device_name.len() - 1;
    for (to, from) in properties.device_name.iter_mut().zip(info.name.bytes().take(room)) {
        *to = from as std::ffi::c_char;
    }
    let limits = &mut properties.limits;
    limits.max_memory_allocation_count = info.limits.max_memory_allocation_count;
    limits.buffer_image_granularity = info.limits.buffer_image_granularity;
    limits.non_coherent_atom_size = info.limits.non_coherent_atom_size;
    limits.min_memory_map_alignment = info.limits.min_memory_map_alignment as usize;
    properties
}

/// Returns `VkPhysicalDeviceMemoryProperties` of a description.
pub fn memory_properties_of(info: &DeviceInfo) -> vk::PhysicalDeviceMemoryProperties {
    let mut properties = vk::PhysicalDeviceMemoryProperties {
        memory_type_count: info.types.len() as u32,
        memory_heap_count: info.heaps.len() as u32,
        ..Default::default()
    };
    for (to, from) in properties.memory_types.iter_mut().zip(&info.types) {
        to.heap_index = from.heap_index;
        to.property_flags = vk::MemoryPropertyFlags::from_raw(from.flags.bits());
    }
    for (to, from) in properties.memory_heaps.iter_mut().zip(&info.heaps) {
        to.size = from.size;
        to.flags = vk::MemoryHeapFlags::from_raw(from.flags.bits());
    }
    properties
}

pub(super) unsafe extern "system" fn properties(
    device: vk::PhysicalDevice,
    properties: *mut vk::PhysicalDeviceProperties,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *properties = properties_of(behind(device.as_raw()).memory().info()) }
}

pub(super) unsafe extern "system" fn memory_properties(
    device: vk::PhysicalDevice,
    properties: *mut vk::PhysicalDeviceMemoryProperties,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { *properties = memory_properties_of(behind(device.as_raw()).memory().info()) }
}

pub(super) unsafe extern "system" fn memory_properties2(
    device: vk::PhysicalDevice,
    properties: *mut vk::PhysicalDeviceMemoryProperties2<'_>,
) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe {
        let memory = behind(device.as_raw()).memory();
        (*properties).memory_properties = memory_properties_of(memory.info());
        let mut next: *mut c_void = (*properties).p_next;
        while !next.is_null() {
            let link = next.cast::<vk::BaseOutStructure<'_>>();
            if (*link).s_type == vk::StructureType::PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT {
                let budgets = next.cast::<vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>>();
                for (heap, known) in memory.budget().unwrap_or_default().iter().enumerate() {
                    (*budgets).heap_usage[heap] = known.usage;
                    (*budgets).heap_budget[heap] = known.budget;
                }
            }
            next = (*link).p_next.cast();
        }
    }
}
