//! The declarations of VMA's header that are used here, with the same layout.

use std::ffi::{c_char, c_void};

use ash::vk;

/// `VmaVulkanFunctions` in the header's order, resolved by name.
pub const VULKAN_FUNCTIONS: [&std::ffi::CStr; 27] = [
    c"vkGetInstanceProcAddr",
    c"vkGetDeviceProcAddr",
    c"vkGetPhysicalDeviceProperties",
    c"vkGetPhysicalDeviceMemoryProperties",
    c"vkAllocateMemory",
    c"vkFreeMemory",
    c"vkMapMemory",
    c"vkUnmapMemory",
    c"vkFlushMappedMemoryRanges",
    c"vkInvalidateMappedMemoryRanges",
    c"vkBindBufferMemory",
    c"vkBindImageMemory",
    c"vkGetBufferMemoryRequirements",
    c"vkGetImageMemoryRequirements",
    c"vkCreateBuffer",
    c"vkDestroyBuffer",
    c"vkCreateImage",
    c"vkDestroyImage",
    c"vkCmdCopyBuffer",
    c"vkGetBufferMemoryRequirements2",
    c"vkGetImageMemoryRequirements2",
    c"vkBindBufferMemory2",
    c"vkBindImageMemory2",
    c"vkGetPhysicalDeviceMemoryProperties2",
    c"vkGetDeviceBufferMemoryRequirements",
    c"vkGetDeviceImageMemoryRequirements",
    c"vkGetMemoryWin32HandleKHR",
];

/// `VmaDefragmentationStats`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragmentationStatistics {
    /// Total size of the moved allocations.
    pub bytes_moved: u64,
    /// Size of the blocks that were freed.
    pub bytes_freed: u64,
    /// Number of moved allocations.
    pub allocations_moved: u32,
    /// Number of blocks that were freed.
    pub device_memory_blocks_freed: u32,
}

/// `VmaAllocatorCreateInfo`
#[repr(C)]
pub struct AllocatorCreateInfo {
    pub flags: u32,
    pub physical_device: vk::PhysicalDevice,
    pub device: vk::Device,
    pub preferred_large_heap_block_size: u64,
    pub allocation_callbacks: *const c_void,
    pub device_memory_callbacks: *const c_void,
    pub heap_size_limit: *const u64,
    pub vulkan_functions: *const vk::PFN_vkVoidFunction,
    pub instance: vk::Instance,
    pub vulkan_api_version: u32,
    pub type_external_memory_handle_types: *const u32,
}

/// `VmaAllocationCreateInfo`
#[repr(C)]
pub struct AllocationCreateInfo {
    pub flags: u32,
    pub usage: u32,
    pub required_flags: u32,
    pub preferred_flags: u32,
    pub memory_type_bits: u32,
    pub pool: *mut c_void,
    pub user_data: *mut c_void,
    pub priority: f32,
}

/// `VmaPoolCreateInfo`
#[repr(C)]
pub struct PoolCreateInfo {
    pub memory_type_index: u32,
    pub flags: u32,
    pub block_size: u64,
    pub min_block_count: usize,
    pub max_block_count: usize,
    pub priority: f32,
    pub min_allocation_alignment: u64,
    pub memory_allocate_next: *mut c_void,
}

/// `VmaAllocationInfo`
#[repr(C)]
pub struct AllocationInfo {
    pub memory_type: u32,
    pub device_memory: vk::DeviceMemory,
    pub offset: u64,
    pub size: u64,
    pub mapped_data: *mut c_void,
    pub user_data: *mut c_void,
    pub name: *const c_char,
}

/// `VmaDefragmentationInfo`
#[repr(C)]
pub struct DefragmentationInfo {
    pub flags: u32,
    pub pool: *mut c_void,
    pub max_bytes_per_pass: u64,
    pub max_allocations_per_pass: u32,
    pub break_callback: *const c_void,
    pub break_callback_user_data: *mut c_void,
}

/// `VmaDefragmentationMove`
#[repr(C)]
pub struct DefragmentationMove {
    pub operation: u32,
    pub source: *mut c_void,
    pub temporary_target: *mut c_void,
}

/// `VmaDefragmentationPassMoveInfo`
#[repr(C)]
pub struct DefragmentationPassMoveInfo {
    pub move_count: u32,
    pub moves: *mut DefragmentationMove,
}

/// `VmaTotalStatistics`
#[repr(C)]
pub struct TotalStatistics {
    pub memory_type: [super::DetailedStatistics; 32],
    pub memory_heap: [super::DetailedStatistics; 16],
    pub total: super::DetailedStatistics,
}

unsafe extern "C" {
    pub fn vmaCreateAllocator(
        info: *const AllocatorCreateInfo,
        allocator: *mut *mut c_void,
    ) -> vk::Result;
    pub fn vmaDestroyAllocator(allocator: *mut c_void);
    pub fn vmaCalculateStatistics(allocator: *mut c_void, statistics: *mut TotalStatistics);
    pub fn vmaFindMemoryTypeIndex(
        allocator: *mut c_void,
        memory_type_bits: u32,
        info: *const AllocationCreateInfo,
        index: *mut u32,
    ) -> vk::Result;
    pub fn vmaFindMemoryTypeIndexForBufferInfo(
        allocator: *mut c_void,
        buffer: *const vk::BufferCreateInfo<'_>,
        info: *const AllocationCreateInfo,
        index: *mut u32,
    ) -> vk::Result;
    pub fn vmaFindMemoryTypeIndexForImageInfo(
        allocator: *mut c_void,
        image: *const vk::ImageCreateInfo<'_>,
        info: *const AllocationCreateInfo,
        index: *mut u32,
    ) -> vk::Result;
    pub fn vmaCreatePool(
        allocator: *mut c_void,
        info: *const PoolCreateInfo,
        pool: *mut *mut c_void,
    ) -> vk::Result;
    pub fn vmaDestroyPool(allocator: *mut c_void, pool: *mut c_void);
    pub fn vmaAllocateMemory(
        allocator: *mut c_void,
        requirements: *const vk::MemoryRequirements,
        info: *const AllocationCreateInfo,
        allocation: *mut *mut c_void,
        place: *mut AllocationInfo,
    ) -> vk::Result;
    pub fn vmaFreeMemory(allocator: *mut c_void, allocation: *mut c_void);
    pub fn vmaGetAllocationInfo(
        allocator: *mut c_void,
        allocation: *mut c_void,
        place: *mut AllocationInfo,
    );
    pub fn vmaSetAllocationName(
        allocator: *mut c_void,
        allocation: *mut c_void,
        name: *const c_char,
    );
    pub fn vmaCreateBuffer(
        allocator: *mut c_void,
        buffer_info: *const vk::BufferCreateInfo<'_>,
        info: *const AllocationCreateInfo,
        buffer: *mut vk::Buffer,
        allocation: *mut *mut c_void,
        place: *mut AllocationInfo,
    ) -> vk::Result;
    pub fn vmaDestroyBuffer(allocator: *mut c_void, buffer: vk::Buffer, allocation: *mut c_void);
    pub fn vmaCreateImage(
        allocator: *mut c_void,
        image_info: *const vk::ImageCreateInfo<'_>,
        info: *const AllocationCreateInfo,
        image: *mut vk::Image,
        allocation: *mut *mut c_void,
        place: *mut AllocationInfo,
    ) -> vk::Result;
    pub fn vmaDestroyImage(allocator: *mut c_void, image: vk::Image, allocation: *mut c_void);
    pub fn vmaBeginDefragmentation(
        allocator: *mut c_void,
        info: *const DefragmentationInfo,
        context: *mut *mut c_void,
    ) -> vk::Result;
    pub fn vmaEndDefragmentation(
        allocator: *mut c_void,
        context: *mut c_void,
        statistics: *mut DefragmentationStatistics,
    );
    pub fn vmaBeginDefragmentationPass(
        allocator: *mut c_void,
        context: *mut c_void,
        pass: *mut DefragmentationPassMoveInfo,
    ) -> vk::Result;
    pub fn vmaEndDefragmentationPass(
        allocator: *mut c_void,
        context: *mut c_void,
        pass: *mut DefragmentationPassMoveInfo,
    ) -> vk::Result;
    pub fn vmaBuildStatsString(allocator: *mut c_void, text: *mut *mut c_char, detailed: u32);
    pub fn vmaFreeStatsString(allocator: *mut c_void, text: *mut c_char);
}
