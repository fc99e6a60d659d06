//! `VmaVirtualBlock`.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use ash::vk;

#[repr(C)]
struct CreateInfo {
    size: u64,
    flags: u32,
    allocation_callbacks: *const vk::AllocationCallbacks<'static>,
}

#[repr(C)]
struct AllocationCreateInfo {
    size: u64,
    alignment: u64,
    flags: u32,
    user_data: *mut c_void,
}

#[repr(C)]
struct AllocationInfo {
    offset: u64,
    size: u64,
    user_data: *mut c_void,
}

/// `VmaDetailedStatistics`, flattened.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DetailedStatistics {
    pub block_count: u32,
    pub allocation_count: u32,
    pub block_bytes: u64,
    pub allocation_bytes: u64,
    pub unused_range_count: u32,
    pub allocation_size_min: u64,
    pub allocation_size_max: u64,
    pub unused_range_size_min: u64,
    pub unused_range_size_max: u64,
}

unsafe extern "C" {
    fn vmaCreateVirtualBlock(info: *const CreateInfo, block: *mut *mut c_void) -> vk::Result;
    fn vmaDestroyVirtualBlock(block: *mut c_void);
    fn vmaVirtualAllocate(
        block: *mut c_void,
        info: *const AllocationCreateInfo,
        allocation: *mut *mut c_void,
        offset: *mut u64,
    ) -> vk::Result;
    fn vmaVirtualFree(block: *mut c_void, allocation: *mut c_void);
    fn vmaClearVirtualBlock(block: *mut c_void);
    fn vmaGetVirtualAllocationInfo(
        block: *mut c_void,
        allocation: *mut c_void,
        info: *mut AllocationInfo,
    );
    fn vmaCalculateVirtualBlockStatistics(block: *mut c_void, stats: *mut DetailedStatistics);
}

/// The strategies of VMA, with its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum VirtualStrategy {
    Default = 0,
    MinMemory = 0x10000,
    MinTime = 0x20000,
    MinOffset = 0x40000,
}

impl VirtualStrategy {
    /// The strategies that are compared for speed.
    pub const TIMED: [Self; 3] = [Self::Default, Self::MinTime, Self::MinMemory];

    /// Returns the name for the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "vma default",
            Self::MinMemory => "vma min_memory",
            Self::MinTime => "vma min_time",
            Self::MinOffset => "vma min_offset",
        }
    }
}

/// A `VmaVirtualBlock`.
pub struct VirtualBlock {
    raw: *mut c_void,
}

impl VirtualBlock {
    /// Creates a block with TLSF or the linear algorithm.
    pub fn new(size: u64, linear: bool) -> Self {
        let info = CreateInfo { size, flags: u32::from(linear), allocation_callbacks: null() };
        let mut raw = null_mut();
        // SAFETY: the structure is that of the header.
        let result = unsafe { vmaCreateVirtualBlock(&info, &mut raw) };
        assert_eq!(result, vk::Result::SUCCESS);
        Self { raw }
    }

    /// Returns handle and offset; `None` if there is no room.
    #[inline]
    pub fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
        strategy: VirtualStrategy,
        upper: bool,
    ) -> Option<(u64, u64)> {
        let flags = strategy as u32 | if upper { 0x40 } else { 0 };
        let info = AllocationCreateInfo { size, alignment, flags, user_data: null_mut() };
        let (mut allocation, mut offset) = (null_mut(), 0);
        // SAFETY: the block lives, and the structures are those of the header.
        let result = unsafe { vmaVirtualAllocate(self.raw, &info, &mut allocation, &mut offset) };
        (result == vk::Result::SUCCESS).then_some((allocation as u64, offset))
    }

    /// Frees an allocation.
    ///
    /// # Safety
    /// The handle came from this block and was not freed yet.
    #[inline]
    pub unsafe fn free(&mut self, handle: u64) {
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { vmaVirtualFree(self.raw, handle as *mut c_void) }
    }

    /// Frees all allocations.
    pub fn clear(&mut self) {
        // SAFETY: the block lives.
        unsafe { vmaClearVirtualBlock(self.raw) }
    }

    /// Returns offset and size.
    ///
    /// # Safety
    /// The handle came from this block and was not freed yet.
    pub unsafe fn info(&self, handle: u64) -> (u64, u64) {
        let mut info = AllocationInfo { offset: 0, size: 0, user_data: null_mut() };
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { vmaGetVirtualAllocationInfo(self.raw, handle as *mut c_void, &mut info) };
        (info.offset, info.size)
    }

    /// `vmaCalculateVirtualBlockStatistics`.
    pub fn statistics(&self) -> DetailedStatistics {
        let mut statistics = DetailedStatistics::default();
        // SAFETY: the block lives, and the structure is that of the header.
        unsafe { vmaCalculateVirtualBlockStatistics(self.raw, &mut statistics) };
        statistics
    }
}

impl Drop for VirtualBlock {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: the handle is not used afterwards.
        unsafe { vmaDestroyVirtualBlock(self.raw) }
    }
}
