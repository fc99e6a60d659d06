//! The properties of a physical device.

use std::ptr;

use ash::vk;
use vkmem_engine::{
    DeviceInfo, DeviceType, Limits, MemoryHeap, MemoryHeapFlags, MemoryPropertyFlags, MemoryType,
};

use crate::instance::open_error::{OpenError, version_text};
use crate::instance::vulkan_instance::Instance;

/// A physical device, before it is opened.
#[derive(Clone, Debug)]
pub struct PhysicalDeviceSummary {
    /// Its description for the engine. `api_version` is the newest that can be used.
    pub info: DeviceInfo,
    /// `llvmpipe`, `NVIDIA` and the like; empty if the driver does not report it.
    pub driver_name: String,
    /// Version of the driver in the vendor's notation.
    pub driver_version: String,
    /// The extensions that the device supports.
    pub extensions: Vec<String>,
}

/// Reads the properties of a device.
///
/// # Safety
/// The device belongs to this instance.
pub(crate) unsafe fn summarise(
    instance: &Instance,
    device: vk::PhysicalDevice,
) -> Result<PhysicalDeviceSummary, OpenError> {
    // SAFETY: the caller guarantees a valid device.
    let extensions = unsafe { instance.device_extensions(device) }?;
    let mut properties = vk::PhysicalDeviceProperties::default();
    // SAFETY: the caller guarantees a valid device; the pointer is valid for the call.
    unsafe {
        (instance.functions.get_physical_device_properties)(device, &mut properties);
    }
    // SAFETY: the caller guarantees a valid device.
    let more = unsafe { read_more(instance, device, properties.api_version, &extensions) };
    let mut memory = vk::PhysicalDeviceMemoryProperties::default();
    // SAFETY: the caller guarantees a valid device; the pointer is valid for the call.
    unsafe {
        (instance.functions.get_physical_device_memory_properties)(device, &mut memory);
    }

    let driver_version = driver_version_text(&properties);
    let driver = if more.driver_name.is_empty() {
        format!("driver version {driver_version}")
    } else {
        format!("{} {}", more.driver_name, more.driver_info).trim_end().to_owned()
    };
    let name = properties.device_name_as_c_str().unwrap_or_default();
    let info = DeviceInfo {
        name: name.to_string_lossy().into_owned(),
        driver,
        vendor_id: properties.vendor_id,
        device_id: properties.device_id,
        device_type: device_type(properties.device_type),
        api_version: properties.api_version.min(instance.api_version),
        limits: limits(&properties.limits, more.max_memory_allocation_size).without_zeros(),
        heaps: memory
            .memory_heaps_as_slice()
            .iter()
            .map(|heap| MemoryHeap {
                size: heap.size,
                flags: MemoryHeapFlags::from_bits_retain(heap.flags.as_raw()),
            })
            .collect(),
        types: memory
            .memory_types_as_slice()
            .iter()
            .map(|memory_type| MemoryType {
                heap_index: memory_type.heap_index,
                flags: MemoryPropertyFlags::from_bits_retain(memory_type.property_flags.as_raw()),
            })
            .collect(),
        amd_device_coherent: false,
    };
    Ok(PhysicalDeviceSummary { info, driver_name: more.driver_name, driver_version, extensions })
}

/// Properties that only `vkGetPhysicalDeviceProperties2` returns.
struct MoreProperties {
    max_memory_allocation_size: u64,
    driver_name: String,
    driver_info: String,
}

/// Reads the properties that only `vkGetPhysicalDeviceProperties2` returns.
///
/// # Safety
/// The device belongs to this instance.
unsafe fn read_more(
    instance: &Instance,
    device: vk::PhysicalDevice,
    device_version: u32,
    extensions: &[String],
) -> MoreProperties {
    let mut more = MoreProperties {
        max_memory_allocation_size: u64::MAX,
        driver_name: String::new(),
        driver_info: String::new(),
    };
    let Some(functions) = instance.properties2(device_version) else { return more };
    let version = device_version.min(instance.api_version);
    // Properties of an extension may be read if the device supports it, enabled or not.
    let knows = |core: u32, extension: &str| {
        version >= core || extensions.iter().any(|present| present == extension)
    };
    let mut maintenance3 = vk::PhysicalDeviceMaintenance3Properties::default();
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default();
    let knows_maintenance3 = knows(vk::API_VERSION_1_1, "VK_KHR_maintenance3");
    if knows_maintenance3 {
        properties = properties.push_next(&mut maintenance3);
    }
    let knows_driver = knows(vk::API_VERSION_1_2, "VK_KHR_driver_properties");
    if knows_driver {
        properties = properties.push_next(&mut driver);
    }
    // SAFETY: the caller guarantees a valid device, which supports all structures of the chain.
    unsafe { (functions.get_physical_device_properties2)(device, &mut properties) };
    if knows_maintenance3 {
        more.max_memory_allocation_size = maintenance3.max_memory_allocation_size;
    }
    if knows_driver {
        let text = |name: Result<&std::ffi::CStr, _>| {
            name.unwrap_or_default().to_string_lossy().into_owned()
        };
        more.driver_name = text(driver.driver_name_as_c_str());
        more.driver_info = text(driver.driver_info_as_c_str());
    }
    more
}

/// Returns the queue family for transfers. Without flags: one with graphics and compute, or else the
/// first that can copy; with flags: the one that has them and the fewest others. `Err` has the flags of
/// all families.
///
/// # Safety
/// The device belongs to this instance.
pub(crate) unsafe fn transfer_queue_family(
    instance: &Instance,
    device: vk::PhysicalDevice,
    flags: vk::QueueFlags,
) -> Result<u32, Vec<vk::QueueFlags>> {
    // SAFETY: the caller guarantees a valid device.
    let families = unsafe { queue_families(instance, device) };
    choose_queue_family(&families, flags)
        .ok_or_else(|| families.iter().map(|family| family.queue_flags).collect())
}

/// Returns the queue families of a device.
///
/// # Safety
/// The device belongs to this instance.
unsafe fn queue_families(
    instance: &Instance,
    device: vk::PhysicalDevice,
) -> Vec<vk::QueueFamilyProperties> {
    let function = instance.functions.get_physical_device_queue_family_properties;
    let mut count = 0;
    // SAFETY: the caller guarantees a valid device; a null list asks for the count.
    unsafe { function(device, &mut count, ptr::null_mut()) };
    let mut families = vec![vk::QueueFamilyProperties::default(); count as usize];
    // SAFETY: the list has as many items as `count` says.
    unsafe { function(device, &mut count, families.as_mut_ptr()) };
    families.truncate(count as usize);
    families
}

/// Returns what a queue family can do, with `TRANSFER` if it can copy, and the granularity of its copies of images;
/// nothing if there is no such family.
///
/// # Safety
/// The device belongs to this instance.
pub(crate) unsafe fn queue_abilities(
    instance: &Instance,
    device: vk::PhysicalDevice,
    family_index: u32,
) -> (vk::QueueFlags, vk::Extent3D) {
    // SAFETY: the caller guarantees a valid device.
    let families = unsafe { queue_families(instance, device) };
    let family = families.get(family_index as usize).copied().unwrap_or_default();
    (all_flags(&family), family.min_image_transfer_granularity)
}

/// Graphics and compute queues can copy, whether or not they report `TRANSFER`.
fn all_flags(family: &vk::QueueFamilyProperties) -> vk::QueueFlags {
    use vk::QueueFlags as Q;
    let flags = family.queue_flags;
    if flags.intersects(Q::GRAPHICS | Q::COMPUTE) { flags | Q::TRANSFER } else { flags }
}

fn choose_queue_family(
    families: &[vk::QueueFamilyProperties],
    flags: vk::QueueFlags,
) -> Option<u32> {
    use vk::QueueFlags as Q;
    if !flags.is_empty() {
        let can_copy = |flags: Q| flags.intersects(Q::GRAPHICS | Q::COMPUTE | Q::TRANSFER);
        let fits = |family: &vk::QueueFamilyProperties| {
            let all = all_flags(family);
            family.queue_count > 0 && can_copy(all) && all.contains(flags)
        };
        let fitting = families.iter().enumerate().filter(|(_, family)| fits(family));
        let found = fitting.min_by_key(|(_, family)| family.queue_flags.as_raw().count_ones());
        return found.and_then(|(index, _)| u32::try_from(index).ok());
    }
    // Graphics and compute queues can copy, whether or not they report `TRANSFER`.
    [Q::GRAPHICS | Q::COMPUTE, Q::GRAPHICS, Q::COMPUTE, Q::TRANSFER].iter().find_map(|wanted| {
        let index = families
            .iter()
            .position(|family| family.queue_count > 0 && family.queue_flags.contains(*wanted));
        index.and_then(|index| u32::try_from(index).ok())
    })
}

fn device_type(device_type: vk::PhysicalDeviceType) -> DeviceType {
    match device_type {
        vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceType::IntegratedGpu,
        vk::PhysicalDeviceType::DISCRETE_GPU => DeviceType::DiscreteGpu,
        vk::PhysicalDeviceType::VIRTUAL_GPU => DeviceType::VirtualGpu,
        vk::PhysicalDeviceType::CPU => DeviceType::Cpu,
        _ => DeviceType::Other,
    }
}

fn limits(limits: &vk::PhysicalDeviceLimits, max_memory_allocation_size: u64) -> Limits {
    Limits {
        max_memory_allocation_count: limits.max_memory_allocation_count,
        max_memory_allocation_size,
        buffer_image_granularity: limits.buffer_image_granularity,
        non_coherent_atom_size: limits.non_coherent_atom_size,
        min_memory_map_alignment: limits.min_memory_map_alignment as u64,
        min_uniform_buffer_offset_alignment: limits.min_uniform_buffer_offset_alignment,
        min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
        min_texel_buffer_offset_alignment: limits.min_texel_buffer_offset_alignment,
        optimal_buffer_copy_offset_alignment: limits.optimal_buffer_copy_offset_alignment,
    }
}

/// Formats the driver's version in its vendor's encoding.
fn driver_version_text(properties: &vk::PhysicalDeviceProperties) -> String {
    const NVIDIA: u32 = 0x10de;
    const INTEL: u32 = 0x8086;
    let version = properties.driver_version;
    match properties.vendor_id {
        NVIDIA => format!(
            "{}.{}.{}.{}",
            version >> 22,
            (version >> 14) & 0xff,
            (version >> 6) & 0xff,
            version & 0x3f
        ),
        INTEL if cfg!(windows) => format!("{}.{}", version >> 14, version & 0x3fff),
        _ => version_text(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_family_that_can_do_most_is_taken() {
        let family = |flags| vk::QueueFamilyProperties {
            queue_flags: flags,
            queue_count: 1,
            ..Default::default()
        };
        let transfer = family(vk::QueueFlags::TRANSFER);
        let compute = family(vk::QueueFlags::COMPUTE);
        let all = family(vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE);
        let video = family(vk::QueueFlags::from_raw(0x20));
        let choose = |families: &[_]| choose_queue_family(families, vk::QueueFlags::empty());
        assert_eq!(choose(&[transfer, compute, all]), Some(2));
        assert_eq!(choose(&[transfer, compute]), Some(1));
        assert_eq!(choose(&[video, transfer]), Some(1));
        assert_eq!(choose(&[video]), None);
        let with = |flags| choose_queue_family(&[video, all, compute, transfer], flags);
        assert_eq!(with(vk::QueueFlags::GRAPHICS), Some(1));
        assert_eq!(with(vk::QueueFlags::COMPUTE), Some(2));
        assert_eq!(with(vk::QueueFlags::GRAPHICS | vk::QueueFlags::TRANSFER), Some(1));
        assert_eq!(with(vk::QueueFlags::TRANSFER), Some(2));
        // This family cannot copy.
        assert_eq!(with(vk::QueueFlags::from_raw(0x20)), None);
        assert_eq!(with(vk::QueueFlags::SPARSE_BINDING), None);
    }

    #[test]
    fn nvidia_packs_its_driver_version_in_four_parts() {
        let properties = vk::PhysicalDeviceProperties {
            vendor_id: 0x10de,
            driver_version: (535 << 22) | (129 << 14) | (3 << 6),
            ..Default::default()
        };
        assert_eq!(driver_version_text(&properties), "535.129.3.0");
    }
}
