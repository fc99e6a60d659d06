//! Memory functions: allocate, map, flush.

use std::ffi::c_void;

use ash::vk::{self, Handle};
use vkmem_engine::{DedicatedTarget, DeviceError, MemoryAllocateInfo, MemoryHandle, MemoryRange};

use super::state::behind;

fn code(result: Result<(), DeviceError>) -> vk::Result {
    match result {
        Ok(()) => vk::Result::SUCCESS,
        Err(error) => vk::Result::from_raw(error.vk_result()),
    }
}

pub(super) unsafe extern "system" fn allocate_memory(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
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

pub(super) unsafe extern "system" fn free_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    _: *const vk::AllocationCallbacks<'_>,
) {
    if !memory.is_null() {
        // SAFETY: the caller follows the rules of Vulkan.
        unsafe { behind(device.as_raw()) }.memory().free(MemoryHandle(memory.as_raw()));
    }
}

pub(super) unsafe extern "system" fn map_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    offset: vk::DeviceSize,
    _: vk::DeviceSize,
    _: vk::MemoryMapFlags,
    address: *mut *mut c_void,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe {
        let mapped = behind(device.as_raw()).memory().map(MemoryHandle(memory.as_raw()));
        code(mapped.map(|start| {
            *address = std::ptr::with_exposed_provenance_mut(start.at(offset).0.get());
        }))
    }
}

pub(super) unsafe extern "system" fn unmap_memory(device: vk::Device, memory: vk::DeviceMemory) {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { behind(device.as_raw()) }.memory().unmap(MemoryHandle(memory.as_raw()));
}

/// Converts mapped ranges.
///
/// # Safety
/// `ranges` points to `count` ranges.
unsafe fn ranges(count: u32, ranges: *const vk::MappedMemoryRange<'_>) -> Vec<MemoryRange> {
    // SAFETY: the caller guarantees the contract of this function.
    let ranges = unsafe { std::slice::from_raw_parts(ranges, count as usize) };
    let range = |it: &vk::MappedMemoryRange<'_>| MemoryRange {
        memory: MemoryHandle(it.memory.as_raw()),
        offset: it.offset,
        size: it.size,
    };
    ranges.iter().map(range).collect()
}

pub(super) unsafe extern "system" fn flush_ranges(
    device: vk::Device,
    count: u32,
    first: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { code(behind(device.as_raw()).memory().flush(&ranges(count, first))) }
}

pub(super) unsafe extern "system" fn invalidate_ranges(
    device: vk::Device,
    count: u32,
    first: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: the caller follows the rules of Vulkan.
    unsafe { code(behind(device.as_raw()).memory().invalidate(&ranges(count, first))) }
}
