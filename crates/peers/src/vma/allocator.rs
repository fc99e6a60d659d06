//! `VmaAllocator`, over fake entry points or those of a driver.

use std::ffi::{CStr, CString, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use ash::vk;
use vkmem_engine as engine;

use super::DetailedStatistics;
use super::ffi;
use crate::fake::{self, FakeVulkan};

/// `VMA_ALLOCATOR_CREATE_AMD_DEVICE_COHERENT_MEMORY_BIT`
const AMD_DEVICE_COHERENT_MEMORY: u32 = 0x10;
/// `VMA_ALLOCATOR_CREATE_EXT_MEMORY_BUDGET_BIT`
const EXT_MEMORY_BUDGET: u32 = 0x8;

/// The handles that VMA is opened on.
#[derive(Clone, Copy, Debug)]
pub struct Handles {
    /// `VkInstance`
    pub instance: vk::Instance,
    /// `VkPhysicalDevice`
    pub physical_device: vk::PhysicalDevice,
    /// `VkDevice`
    pub device: vk::Device,
    /// `VK_MAKE_API_VERSION`
    pub api_version: u32,
}

/// Options of an allocator.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bytes per block; 0: chosen by the heap.
    pub preferred_block_size: u64,
    /// Limit of each heap in bytes.
    pub heap_size_limits: Option<Vec<u64>>,
    /// Whether `VK_EXT_memory_budget` is enabled.
    pub memory_budget: bool,
    /// Whether `VK_AMD_device_coherent_memory` is enabled.
    pub amd_device_coherent: bool,
}

/// A `VmaAllocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation(*mut c_void);

// SAFETY: VMA allows any thread to free what another one allocated.
unsafe impl Send for Allocation {}

/// A `VmaPool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool(*mut c_void);

// SAFETY: VMA is internally synchronised.
unsafe impl Send for Pool {}
// SAFETY: VMA is internally synchronised.
unsafe impl Sync for Pool {}

impl Pool {
    pub(super) fn raw(self) -> *mut c_void {
        self.0
    }
}

/// `VmaTotalStatistics`
pub struct TotalStatistics(Box<ffi::TotalStatistics>);

impl TotalStatistics {
    /// Returns the statistics of one memory type.
    pub fn memory_type(&self, index: usize) -> DetailedStatistics {
        self.0.memory_type[index]
    }

    /// Returns the statistics of all memory.
    pub fn total(&self) -> DetailedStatistics {
        self.0.total
    }
}

/// A `VmaAllocator`.
pub struct Allocator {
    raw: *mut c_void,
}

// SAFETY: VMA is internally synchronised unless a flag disables it.
unsafe impl Send for Allocator {}
// SAFETY: VMA is internally synchronised unless a flag disables it.
unsafe impl Sync for Allocator {}

/// Converts the engine's create info into VMA's.
fn create_info(info: &engine::AllocationCreateInfo) -> ffi::AllocationCreateInfo {
    ffi::AllocationCreateInfo {
        flags: info.flags.bits(),
        usage: info.usage as u32,
        required_flags: info.required_flags.bits(),
        preferred_flags: info.preferred_flags.bits(),
        memory_type_bits: info.memory_type_bits,
        pool: null_mut(),
        user_data: null_mut(),
        priority: info.priority.unwrap_or(0.5),
    }
}

fn found(result: vk::Result, index: u32) -> Option<u32> {
    (result == vk::Result::SUCCESS).then_some(index)
}

impl Allocator {
    /// Opens VMA.
    ///
    /// # Safety
    /// The handles belong together and outlive this; the functions are those of their names.
    pub unsafe fn open(
        get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
        handles: Handles,
        options: &Options,
    ) -> Result<Self, vk::Result> {
        let find = |name: &CStr| {
            // SAFETY: the instance lives, as the caller promises.
            let global = unsafe { get_instance_proc_addr(handles.instance, name.as_ptr()) };
            if name == c"vkGetInstanceProcAddr" {
                // SAFETY: both are pointers to functions; VMA casts it back.
                return Some(unsafe {
                    std::mem::transmute::<vk::PFN_vkGetInstanceProcAddr, unsafe extern "system" fn()>(
                        get_instance_proc_addr,
                    )
                });
            }
            global
        };
        let get_device_proc_addr = find(c"vkGetDeviceProcAddr").ok_or(vk::Result::ERROR_UNKNOWN)?;
        // SAFETY: the type is that of the name.
        let get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr =
            unsafe { std::mem::transmute(get_device_proc_addr) };
        // The device's own functions are faster than those of the instance, which dispatch.
        let functions = ffi::VULKAN_FUNCTIONS.map(|name| {
            // SAFETY: the device lives, as the caller promises.
            unsafe { get_device_proc_addr(handles.device, name.as_ptr()) }.or_else(|| find(name))
        });
        let mut flags = 0;
        if options.memory_budget {
            flags |= EXT_MEMORY_BUDGET;
        }
        if options.amd_device_coherent {
            flags |= AMD_DEVICE_COHERENT_MEMORY;
        }
        // VMA 3.3 knows versions up to 1.4; the patch does not matter.
        let (major, minor) = (
            vk::api_version_major(handles.api_version),
            vk::api_version_minor(handles.api_version).min(4),
        );
        let info = ffi::AllocatorCreateInfo {
            flags,
            physical_device: handles.physical_device,
            device: handles.device,
            preferred_large_heap_block_size: options.preferred_block_size,
            allocation_callbacks: null(),
            device_memory_callbacks: null(),
            heap_size_limit: options.heap_size_limits.as_ref().map_or(null(), |it| it.as_ptr()),
            vulkan_functions: functions.as_ptr(),
            instance: handles.instance,
            vulkan_api_version: vk::make_api_version(0, major, minor, 0),
            type_external_memory_handle_types: null(),
        };
        let mut raw = null_mut();
        // SAFETY: the structures are those of the header; VMA copies what it keeps.
        match unsafe { ffi::vmaCreateAllocator(&info, &mut raw) } {
            vk::Result::SUCCESS => Ok(Self { raw }),
            error => Err(error),
        }
    }

    /// Opens VMA on a device without a driver, which must outlive this.
    ///
    /// # Panics
    /// If VMA refuses.
    pub fn over(fake: &FakeVulkan, options: &Options) -> Self {
        let handles = Handles {
            instance: fake.instance(),
            physical_device: fake.physical_device(),
            device: fake.device(),
            api_version: fake.memory().info().api_version,
        };
        // SAFETY: all of them are the fake's own.
        unsafe { Self::open(fake::get_instance_proc_addr, handles, options) }
            .expect("VMA opens on the fake device")
    }

    pub(super) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// `vmaFindMemoryTypeIndex`
    pub fn find_memory_type_index(
        &self,
        memory_type_bits: u32,
        info: &engine::AllocationCreateInfo,
    ) -> Option<u32> {
        let (info, mut index) = (create_info(info), 0);
        // SAFETY: the allocator lives, and the structures are those of the header.
        let result =
            unsafe { ffi::vmaFindMemoryTypeIndex(self.raw, memory_type_bits, &info, &mut index) };
        found(result, index)
    }

    /// `vmaFindMemoryTypeIndexForBufferInfo`
    pub fn find_memory_type_index_for_buffer(
        &self,
        buffer: &vk::BufferCreateInfo<'_>,
        info: &engine::AllocationCreateInfo,
    ) -> Option<u32> {
        let (info, mut index) = (create_info(info), 0);
        // SAFETY: the allocator lives, and the structures are those of the header.
        let result = unsafe {
            ffi::vmaFindMemoryTypeIndexForBufferInfo(self.raw, buffer, &info, &mut index)
        };
        found(result, index)
    }

    /// `vmaFindMemoryTypeIndexForImageInfo`
    pub fn find_memory_type_index_for_image(
        &self,
        image: &vk::ImageCreateInfo<'_>,
        info: &engine::AllocationCreateInfo,
    ) -> Option<u32> {
        let (info, mut index) = (create_info(info), 0);
        // SAFETY: the allocator lives, and the structures are those of the header.
        let result =
            unsafe { ffi::vmaFindMemoryTypeIndexForImageInfo(self.raw, image, &info, &mut index) };
        found(result, index)
    }

    /// `vmaCreatePool` with blocks of one size; `blocks` is the minimum and maximum number of blocks, 0
    /// for no maximum.
    ///
    /// # Panics
    /// If VMA refuses.
    pub fn create_pool(
        &self,
        memory_type_index: u32,
        block_size: u64,
        (min_block_count, max_block_count): (usize, usize),
    ) -> Pool {
        let info = ffi::PoolCreateInfo {
            memory_type_index,
            flags: 0,
            block_size,
            min_block_count,
            max_block_count,
            priority: 0.5,
            min_allocation_alignment: 0,
            memory_allocate_next: null_mut(),
        };
        let mut pool = null_mut();
        // SAFETY: the allocator lives, and the structures are those of the header.
        let result = unsafe { ffi::vmaCreatePool(self.raw, &info, &mut pool) };
        assert_eq!(result, vk::Result::SUCCESS);
        Pool(pool)
    }

    /// `vmaDestroyPool`
    ///
    /// # Safety
    /// The pool is live, belongs to this allocator, and has no live allocations.
    pub unsafe fn destroy_pool(&self, pool: Pool) {
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { ffi::vmaDestroyPool(self.raw, pool.0) }
    }

    /// `vmaAllocateMemory`
    #[inline]
    pub fn allocate(
        &self,
        requirements: &vk::MemoryRequirements,
        info: &engine::AllocationCreateInfo,
    ) -> Result<Allocation, vk::Result> {
        self.allocate_from(requirements, info, None)
    }

    /// `vmaAllocateMemory` from a pool.
    #[inline]
    pub fn allocate_from(
        &self,
        requirements: &vk::MemoryRequirements,
        info: &engine::AllocationCreateInfo,
        pool: Option<Pool>,
    ) -> Result<Allocation, vk::Result> {
        let (mut info, mut allocation) = (create_info(info), null_mut());
        info.pool = pool.map_or(null_mut(), |it| it.0);
        // SAFETY: the allocator lives, and the structures are those of the header.
        let result = unsafe {
            ffi::vmaAllocateMemory(self.raw, requirements, &info, &mut allocation, null_mut())
        };
        if result == vk::Result::SUCCESS { Ok(Allocation(allocation)) } else { Err(result) }
    }

    /// `vmaFreeMemory`
    ///
    /// # Safety
    /// The allocation is live, and of this allocator.
    #[inline]
    pub unsafe fn free(&self, allocation: Allocation) {
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { ffi::vmaFreeMemory(self.raw, allocation.0) }
    }

    /// Returns memory, offset and size (`vmaGetAllocationInfo`).
    ///
    /// # Safety
    /// The allocation is live and belongs to this allocator.
    pub unsafe fn place(&self, allocation: Allocation) -> (vk::DeviceMemory, u64, u64) {
        let mut place = MaybeUninit::<ffi::AllocationInfo>::zeroed();
        // SAFETY: the caller guarantees the contract of this function; all bits zero are valid, and VMA fills it.
        let place = unsafe {
            ffi::vmaGetAllocationInfo(self.raw, allocation.0, place.as_mut_ptr());
            place.assume_init()
        };
        (place.device_memory, place.offset, place.size)
    }

    /// `vmaSetAllocationName`
    ///
    /// # Safety
    /// The allocation is live, and of this allocator.
    pub unsafe fn set_name(&self, allocation: Allocation, name: &str) {
        let name = CString::new(name).expect("no NUL in it");
        // SAFETY: the caller guarantees the contract of this function; VMA copies the name.
        unsafe { ffi::vmaSetAllocationName(self.raw, allocation.0, name.as_ptr()) }
    }

    /// `vmaCreateBuffer`
    ///
    /// # Safety
    /// The info is valid for `vkCreateBuffer`.
    #[inline]
    pub unsafe fn create_buffer(
        &self,
        buffer_info: &vk::BufferCreateInfo<'_>,
        info: &engine::AllocationCreateInfo,
    ) -> Result<(vk::Buffer, Allocation), vk::Result> {
        let (info, mut allocation, mut buffer) =
            (create_info(info), null_mut(), vk::Buffer::null());
        // SAFETY: the caller guarantees the contract of this function.
        let result = unsafe {
            let buffer = &mut buffer;
            let allocation = &mut allocation;
            ffi::vmaCreateBuffer(self.raw, buffer_info, &info, buffer, allocation, null_mut())
        };
        if result == vk::Result::SUCCESS {
            Ok((buffer, Allocation(allocation)))
        } else {
            Err(result)
        }
    }

    /// `vmaDestroyBuffer`
    ///
    /// # Safety
    /// Both are live, and came from one call of `create_buffer` of this allocator.
    #[inline]
    pub unsafe fn destroy_buffer(&self, buffer: vk::Buffer, allocation: Allocation) {
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { ffi::vmaDestroyBuffer(self.raw, buffer, allocation.0) }
    }

    /// `vmaCreateImage`
    ///
    /// # Safety
    /// The info is valid for `vkCreateImage`.
    pub unsafe fn create_image(
        &self,
        image_info: &vk::ImageCreateInfo<'_>,
        info: &engine::AllocationCreateInfo,
    ) -> Result<(vk::Image, Allocation), vk::Result> {
        let (info, mut allocation, mut image) = (create_info(info), null_mut(), vk::Image::null());
        // SAFETY: the caller guarantees the contract of this function.
        let result = unsafe {
            let image = &mut image;
            let allocation = &mut allocation;
            ffi::vmaCreateImage(self.raw, image_info, &info, image, allocation, null_mut())
        };
        if result == vk::Result::SUCCESS {
            Ok((image, Allocation(allocation)))
        } else {
            Err(result)
        }
    }

    /// `vmaDestroyImage`
    ///
    /// # Safety
    /// Both are live, and came from one call of `create_image` of this allocator.
    pub unsafe fn destroy_image(&self, image: vk::Image, allocation: Allocation) {
        // SAFETY: the caller guarantees the contract of this function.
        unsafe { ffi::vmaDestroyImage(self.raw, image, allocation.0) }
    }

    /// `vmaCalculateStatistics`
    pub fn statistics(&self) -> TotalStatistics {
        let mut statistics = Box::<ffi::TotalStatistics>::new_uninit();
        // SAFETY: the allocator lives, and VMA fills the whole structure.
        unsafe {
            ffi::vmaCalculateStatistics(self.raw, statistics.as_mut_ptr());
            TotalStatistics(statistics.assume_init())
        }
    }

    /// Returns the length of the text of `vmaBuildStatsString`.
    pub fn stats_string_length(&self, detailed: bool) -> usize {
        self.with_stats_string(detailed, |text| text.to_bytes().len())
    }

    /// `vmaBuildStatsString`
    pub fn stats_string(&self, detailed: bool) -> String {
        self.with_stats_string(detailed, |text| text.to_string_lossy().into_owned())
    }

    fn with_stats_string<R>(&self, detailed: bool, read: impl FnOnce(&CStr) -> R) -> R {
        let mut text = null_mut();
        // SAFETY: the allocator lives; the text is VMA's until it is given back.
        unsafe {
            ffi::vmaBuildStatsString(self.raw, &mut text, u32::from(detailed));
            let result = read(CStr::from_ptr(text));
            ffi::vmaFreeStatsString(self.raw, text);
            result
        }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        // SAFETY: the handle is not used afterwards.
        unsafe { ffi::vmaDestroyAllocator(self.raw) }
    }
}
