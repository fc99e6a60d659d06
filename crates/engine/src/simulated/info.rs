//! Descriptions of simulated devices: construction from heaps and types, and validation.

use crate::device::{
    DeviceInfo, DeviceType, Limits, MemoryHeap, MemoryHeapFlags, MemoryPropertyFlags, MemoryType,
};
use crate::error::Error;

/// `VK_MAX_MEMORY_HEAPS`
const MAX_HEAPS: usize = 16;
/// `VK_MAX_MEMORY_TYPES`
const MAX_TYPES: usize = 32;

/// Encodes a version like `VK_MAKE_API_VERSION`, with variant 0.
pub(super) const fn api_version(major: u32, minor: u32, patch: u32) -> u32 {
    (major << 22) | (minor << 12) | patch
}

/// Limits that restrict little: no granularity, small alignments, 4096 memory objects.
pub(super) const PLAIN_LIMITS: Limits = Limits {
    max_memory_allocation_count: 4096,
    max_memory_allocation_size: u64::MAX,
    buffer_image_granularity: 1,
    non_coherent_atom_size: 64,
    min_memory_map_alignment: 64,
    min_uniform_buffer_offset_alignment: 64,
    min_storage_buffer_offset_alignment: 16,
    min_texel_buffer_offset_alignment: 16,
    optimal_buffer_copy_offset_alignment: 1,
};

/// Creates a description from heaps (size in bytes, flags) and types (heap index, flags), with plain
/// limits and Vulkan 1.3; a discrete GPU if a heap is not device-local. Tests change what they need.
pub fn simulated_info(
    heaps: &[(u64, MemoryHeapFlags)],
    types: &[(u32, MemoryPropertyFlags)],
) -> DeviceInfo {
    let unified = heaps.iter().all(|(_, flags)| flags.contains(MemoryHeapFlags::DEVICE_LOCAL));
    DeviceInfo {
        name: "Simulated device".into(),
        driver: "simulated".into(),
        vendor_id: 0,
        device_id: 0,
        device_type: if unified { DeviceType::IntegratedGpu } else { DeviceType::DiscreteGpu },
        api_version: api_version(1, 3, 0),
        limits: PLAIN_LIMITS,
        heaps: heaps.iter().map(|&(size, flags)| MemoryHeap { size, flags }).collect(),
        types: types.iter().map(|&(heap_index, flags)| MemoryType { heap_index, flags }).collect(),
        amd_device_coherent: false,
    }
}

/// Rejects a description that no device can have: no heaps or types, or more than Vulkan allows; a type
/// of a heap that does not exist; only heaps of 0 bytes; an alignment that is not a power of two.
///
/// # Errors
/// [`Error::InvalidArgument`]
pub fn check_info(info: &DeviceInfo) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::InvalidArgument(format!("a device {what}")));
    if info.heaps.is_empty() || info.heaps.len() > MAX_HEAPS {
        return wrong(format!("has 1 to {MAX_HEAPS} heaps, not {}", info.heaps.len()));
    }
    if info.types.is_empty() || info.types.len() > MAX_TYPES {
        return wrong(format!("has 1 to {MAX_TYPES} memory types, not {}", info.types.len()));
    }
    if info.heaps.iter().all(|heap| heap.size == 0) {
        return wrong("has a heap of more than 0 bytes".into());
    }
    for (index, memory_type) in info.types.iter().enumerate() {
        if memory_type.heap_index as usize >= info.heaps.len() {
            return wrong(format!(
                "has no memory type of a heap that is missing, as type {index} of heap {}",
                memory_type.heap_index
            ));
        }
    }
    let limits = &info.limits;
    for (name, value) in [
        ("bufferImageGranularity", limits.buffer_image_granularity),
        ("nonCoherentAtomSize", limits.non_coherent_atom_size),
        ("minMemoryMapAlignment", limits.min_memory_map_alignment),
        ("minUniformBufferOffsetAlignment", limits.min_uniform_buffer_offset_alignment),
        ("minStorageBufferOffsetAlignment", limits.min_storage_buffer_offset_alignment),
        ("minTexelBufferOffsetAlignment", limits.min_texel_buffer_offset_alignment),
        ("optimalBufferCopyOffsetAlignment", limits.optimal_buffer_copy_offset_alignment),
    ] {
        if !value.is_power_of_two() {
            return wrong(format!("has a power of two as {name}, not {value}"));
        }
    }
    Ok(())
}
