//! The trait [`DeviceMemory`]: the engine's only access to a device.
//!
//! The engine decides *where* allocations go. An implementation of the trait, a Vulkan device or the
//! [`SimulatedDevice`](crate::SimulatedDevice), allocates memory objects, maps them, and flushes and
//! invalidates mapped ranges.

use std::fmt;
use std::num::NonZeroUsize;

use bitflags::bitflags;

bitflags! {
    /// Properties of a memory type: `VkMemoryPropertyFlagBits`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MemoryPropertyFlags: u32 {
        /// Fastest for access by the device.
        const DEVICE_LOCAL = 0x1;
        /// Can be mapped.
        const HOST_VISIBLE = 0x2;
        /// Host and device see each other's writes without flush and invalidate.
        const HOST_COHERENT = 0x4;
        /// Cached by the host: fast for it to read.
        const HOST_CACHED = 0x8;
        /// Committed by the driver when first used; transient attachments only.
        const LAZILY_ALLOCATED = 0x10;
        /// Only for submissions to protected queues.
        const PROTECTED = 0x20;
        /// Coherent with the device's caches (`VK_AMD_device_coherent_memory`).
        const DEVICE_COHERENT_AMD = 0x40;
        /// Not cached by the device, which makes it slow (`VK_AMD_device_coherent_memory`).
        const DEVICE_UNCACHED_AMD = 0x80;
        /// Accessible by remote DMA (`VK_NV_external_memory_rdma`).
        const RDMA_CAPABLE_NV = 0x100;
        /// Unknown bits, from newer extensions, are kept.
        const _ = !0;
    }
}

bitflags! {
    /// Properties of a heap: `VkMemoryHeapFlagBits`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MemoryHeapFlags: u32 {
        /// The heap is the device's own memory.
        const DEVICE_LOCAL = 0x1;
        /// One instance of the heap per physical device of a group.
        const MULTI_INSTANCE = 0x2;
        /// Unknown bits, from newer extensions, are kept.
        const _ = !0;
    }
}

/// One `VkMemoryHeap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHeap {
    /// Size in bytes.
    pub size: u64,
    /// Properties of the heap.
    pub flags: MemoryHeapFlags,
}

/// One `VkMemoryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryType {
    /// Index into [`DeviceInfo::heaps`].
    pub heap_index: u32,
    /// Properties of memory of this type.
    pub flags: MemoryPropertyFlags,
}

/// Kind of physical device: `VkPhysicalDeviceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceType {
    /// None of the kinds below.
    Other = 0,
    /// Shares memory with the host.
    IntegratedGpu = 1,
    /// Has memory of its own.
    DiscreteGpu = 2,
    /// A GPU of a virtualised host.
    VirtualGpu = 3,
    /// A driver that runs on the host's CPU.
    Cpu = 4,
}

/// The limits of `VkPhysicalDeviceLimits` and its extensions that matter for memory, in bytes unless they
/// are counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of live `VkDeviceMemory` objects; `u32::MAX` if the driver does not report it.
    pub max_memory_allocation_count: u32,
    /// Maximum size of one `VkDeviceMemory`; `u64::MAX` if the driver does not report it.
    pub max_memory_allocation_size: u64,
    /// Page size that linear and optimal resources may not share; a power of two.
    pub buffer_image_granularity: u64,
    /// Granularity of flush and invalidate ranges; a power of two.
    pub non_coherent_atom_size: u64,
    /// Minimum alignment of the address that `vkMapMemory` returns.
    pub min_memory_map_alignment: u64,
    /// Alignment of offsets in uniform buffer descriptors.
    pub min_uniform_buffer_offset_alignment: u64,
    /// Alignment of offsets in storage buffer descriptors.
    pub min_storage_buffer_offset_alignment: u64,
    /// Alignment of offsets of texel buffer views.
    pub min_texel_buffer_offset_alignment: u64,
    /// Recommended alignment of buffer offsets in copies between buffers and images.
    pub optimal_buffer_copy_offset_alignment: u64,
}

impl Limits {
    /// Replaces zeros, which drivers (such as mock drivers of test suites) report for unknown limits, by
    /// "no limit".
    #[must_use]
    pub fn without_zeros(self) -> Self {
        let count = self.max_memory_allocation_count;
        let size = self.max_memory_allocation_size;
        Self {
            max_memory_allocation_count: if count == 0 { u32::MAX } else { count },
            max_memory_allocation_size: if size == 0 { u64::MAX } else { size },
            buffer_image_granularity: self.buffer_image_granularity.max(1),
            non_coherent_atom_size: self.non_coherent_atom_size.max(1),
            min_memory_map_alignment: self.min_memory_map_alignment.max(1),
            min_uniform_buffer_offset_alignment: self.min_uniform_buffer_offset_alignment.max(1),
            min_storage_buffer_offset_alignment: self.min_storage_buffer_offset_alignment.max(1),
            min_texel_buffer_offset_alignment: self.min_texel_buffer_offset_alignment.max(1),
            optimal_buffer_copy_offset_alignment: self.optimal_buffer_copy_offset_alignment.max(1),
        }
    }
}

/// The properties of a device that the engine uses. They do not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Device name, as the driver reports it.
    pub name: String,
    /// Name and version of the driver, for display.
    pub driver: String,
    /// PCI vendor id, or a `VkVendorId`.
    pub vendor_id: u32,
    /// Device id of that vendor.
    pub device_id: u32,
    /// Discrete, integrated, virtual, CPU or other.
    pub device_type: DeviceType,
    /// The version that may be used, from `VK_MAKE_API_VERSION`; the driver may support a newer one.
    pub api_version: u32,
    /// Alignments, granularities and maximum sizes and counts.
    pub limits: Limits,
    /// 1 to 16 heaps. A heap of 0 bytes is never used.
    pub heaps: Vec<MemoryHeap>,
    /// 1 to 32 memory types.
    pub types: Vec<MemoryType>,
    /// Whether `DEVICE_COHERENT_AMD` memory types may be used
    /// (`VK_AMD_device_coherent_memory` is enabled).
    pub amd_device_coherent: bool,
}

impl DeviceInfo {
    /// Returns the heap index of a memory type.
    pub fn heap_of(&self, memory_type_index: u32) -> u32 {
        self.types[memory_type_index as usize].heap_index
    }

    /// Returns whether the heap of a memory type has 0 bytes; some drivers list such a heap when it is
    /// switched off.
    pub fn has_no_memory(&self, memory_type_index: u32) -> bool {
        self.heaps[self.heap_of(memory_type_index) as usize].size == 0
    }

    /// Returns the property flags of a memory type.
    pub fn flags_of(&self, memory_type_index: u32) -> MemoryPropertyFlags {
        self.types[memory_type_index as usize].flags
    }

    /// Returns whether host writes to memory of this type need a flush, and host reads an invalidate.
    pub fn is_non_coherent(&self, memory_type_index: u32) -> bool {
        let flags = self.flags_of(memory_type_index);
        flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
            && !flags.contains(MemoryPropertyFlags::HOST_COHERENT)
    }
}

/// A `VkDeviceMemory`, or the handle of a simulated memory object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryHandle(pub u64);

/// The address in the host's address space where a memory object is mapped.
///
/// A number, not a pointer: the engine computes with it and never reads through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress(pub NonZeroUsize);

impl HostAddress {
    /// Returns the address `offset` bytes further on.
    pub fn at(self, offset: u64) -> Self {
        let offset = usize::try_from(offset).expect("an offset inside mapped memory fits a usize");
        Self(self.0.checked_add(offset).expect("mapped memory does not wrap around"))
    }
}

/// The resource that a `VkDeviceMemory` is dedicated to (`VkMemoryDedicatedAllocateInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedicatedTarget {
    /// A `VkBuffer`.
    Buffer(u64),
    /// A `VkImage`.
    Image(u64),
}

/// Memory created elsewhere, to be imported instead of allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryImport {
    /// One `VkExternalMemoryHandleTypeFlagBits`: the type of `handle`.
    pub handle_type: u32,
    /// A file descriptor, a Win32 handle or a host address. It stays the caller's in any case: the device
    /// keeps a reference of its own, except to a host address.
    pub handle: u64,
}

/// The parameters of one `vkAllocateMemory` call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryAllocateInfo {
    /// Index into [`DeviceInfo::types`].
    pub memory_type_index: u32,
    /// Size in bytes, more than zero.
    pub size: u64,
    /// The resource that the memory is dedicated to; only if it exists already.
    pub dedicated: Option<DedicatedTarget>,
    /// Priority from 0 to 1 (`VK_EXT_memory_priority`); ignored without the extension.
    pub priority: Option<f32>,
    /// Address of a `pNext` chain of the caller to append, or 0.
    pub next: usize,
    /// `VkExternalMemoryHandleTypeFlags` that the memory can be exported as; 0 if none.
    pub export_handle_types: u32,
    /// The memory to import; `None` to allocate new memory.
    pub import: Option<MemoryImport>,
}

impl MemoryAllocateInfo {
    /// Returns the parameters for plain memory: `size` bytes of one type.
    pub fn of_type(memory_type_index: u32, size: u64) -> Self {
        Self {
            memory_type_index,
            size,
            dedicated: None,
            priority: None,
            next: 0,
            export_handle_types: 0,
            import: None,
        }
    }
}

/// A range of a memory object, already rounded: the device rounds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The memory object.
    pub memory: MemoryHandle,
    /// Offset in the object, in bytes; a multiple of `non_coherent_atom_size`.
    pub offset: u64,
    /// Size in bytes; a multiple of `non_coherent_atom_size`, or up to the end of the object.
    pub size: u64,
}

/// A failure that a driver call returned; each variant has its `VkResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// `VK_ERROR_OUT_OF_HOST_MEMORY`
    OutOfHostMemory,
    /// `VK_ERROR_OUT_OF_DEVICE_MEMORY`
    OutOfDeviceMemory,
    /// `VK_ERROR_DEVICE_LOST`
    DeviceLost,
    /// `VK_ERROR_MEMORY_MAP_FAILED`
    MemoryMapFailed,
    /// `VK_ERROR_FEATURE_NOT_PRESENT`
    FeatureNotPresent,
    /// `VK_ERROR_TOO_MANY_OBJECTS`
    TooManyObjects,
    /// `VK_ERROR_INVALID_EXTERNAL_HANDLE`
    InvalidExternalHandle,
    /// Any other negative `VkResult`.
    Other(i32),
}

impl DeviceError {
    /// Returns the `VkResult`.
    pub fn vk_result(self) -> i32 {
        match self {
            Self::OutOfHostMemory => -1,
            Self::OutOfDeviceMemory => -2,
            Self::DeviceLost => -4,
            Self::MemoryMapFailed => -5,
            Self::FeatureNotPresent => -8,
            Self::TooManyObjects => -10,
            Self::InvalidExternalHandle => -1_000_072_003,
            Self::Other(result) => result,
        }
    }

    /// Returns the error of a negative `VkResult`.
    pub fn from_vk_result(result: i32) -> Self {
        match result {
            -1 => Self::OutOfHostMemory,
            -2 => Self::OutOfDeviceMemory,
            -4 => Self::DeviceLost,
            -5 => Self::MemoryMapFailed,
            -8 => Self::FeatureNotPresent,
            -10 => Self::TooManyObjects,
            -1_000_072_003 => Self::InvalidExternalHandle,
            other => Self::Other(other),
        }
    }
}

/// Names of the results of functions for memory, resources, copies and external handles.
const RESULT_NAMES: [(i32, &str); 20] = [
    (-1, "VK_ERROR_OUT_OF_HOST_MEMORY"),
    (-2, "VK_ERROR_OUT_OF_DEVICE_MEMORY"),
    (-3, "VK_ERROR_INITIALIZATION_FAILED"),
    (-4, "VK_ERROR_DEVICE_LOST"),
    (-5, "VK_ERROR_MEMORY_MAP_FAILED"),
    (-6, "VK_ERROR_LAYER_NOT_PRESENT"),
    (-7, "VK_ERROR_EXTENSION_NOT_PRESENT"),
    (-8, "VK_ERROR_FEATURE_NOT_PRESENT"),
    (-9, "VK_ERROR_INCOMPATIBLE_DRIVER"),
    (-10, "VK_ERROR_TOO_MANY_OBJECTS"),
    (-11, "VK_ERROR_FORMAT_NOT_SUPPORTED"),
    (-12, "VK_ERROR_FRAGMENTED_POOL"),
    (-13, "VK_ERROR_UNKNOWN"),
    (-1_000_011_001, "VK_ERROR_VALIDATION_FAILED"),
    (-1_000_069_000, "VK_ERROR_OUT_OF_POOL_MEMORY"),
    (-1_000_072_003, "VK_ERROR_INVALID_EXTERNAL_HANDLE"),
    (-1_000_158_000, "VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT"),
    (-1_000_161_000, "VK_ERROR_FRAGMENTATION"),
    (-1_000_174_001, "VK_ERROR_NOT_PERMITTED"),
    (-1_000_257_000, "VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS"),
];

/// Formats as `VK_ERROR_UNKNOWN (-13)`, or `VkResult -1000999000` if the name is not known.
impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = self.vk_result();
        match RESULT_NAMES.iter().find(|(known, _)| *known == result) {
            Some((_, name)) => write!(f, "{name} ({result})"),
            None => write!(f, "VkResult {result}"),
        }
    }
}

impl std::error::Error for DeviceError {}

/// A failed driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The name of the Vulkan function.
    pub call: &'static str,
    /// The result that it returned.
    pub result: DeviceError,
}

impl DeviceError {
    /// Combines the result with the name of the function that returned it.
    pub fn of(self, call: &'static str) -> CallError {
        CallError { call, result: self }
    }
}

/// Formats as `vkCreateBuffer answered VK_ERROR_UNKNOWN (-13)`.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.call, self.result)
    }
}

impl std::error::Error for CallError {}

/// The driver's figures for one heap (`VK_EXT_memory_budget`), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverBudget {
    /// Bytes that this process uses, as the driver counts them.
    pub usage: u64,
    /// Bytes that this process may use before allocations fail or slow down.
    pub budget: u64,
}

/// A device that has memory.
///
/// # What the engine guarantees
/// * `memory_type_index` exists; `size` is more than zero, not above the heap's size and not above
///   `max_memory_allocation_size`.
/// * At most `max_memory_allocation_count` objects are live at once.
/// * Each handle is freed once, and not used afterwards.
/// * `map` and `unmap` of one object alternate, starting with `map`, and never run at the same time; only
///   `HOST_VISIBLE` memory is mapped, always the whole object.
/// * `flush` and `invalidate` get mapped, non-coherent memory, in ranges rounded to
///   `non_coherent_atom_size`.
/// * During a call the engine holds no lock that an allocation in existing blocks needs.
///
/// # What an implementation guarantees
/// * Every method may be called from any thread at any time; a call may take long.
/// * A call that fails has changed nothing.
/// * `map` returns an address aligned to `min_memory_map_alignment`; it stays valid, and refers to the
///   same memory, until `unmap` or `free`.
pub trait DeviceMemory: Send + Sync {
    /// Returns heaps, memory types and limits.
    fn info(&self) -> &DeviceInfo;

    /// Returns whether memory objects can be dedicated to a resource: Vulkan 1.1 or
    /// `VK_KHR_dedicated_allocation`. If not, [`MemoryAllocateInfo::dedicated`] is ignored.
    fn names_resources(&self) -> bool {
        true
    }

    /// Allocates a memory object (`vkAllocateMemory`).
    ///
    /// # Errors
    /// The result that the driver returned; nothing is allocated.
    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError>;

    /// Frees a memory object, mapped or not (`vkFreeMemory`).
    fn free(&self, memory: MemoryHandle);

    /// Maps a whole memory object (`vkMapMemory`).
    ///
    /// # Errors
    /// The result that the driver returned; the object is not mapped.
    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError>;

    /// Unmaps a memory object (`vkUnmapMemory`).
    fn unmap(&self, memory: MemoryHandle);

    /// Returns whether memory that nobody uses through its mapping may stay mapped, to spare later maps. Not where
    /// uses after an unmap are to be found.
    fn may_stay_mapped(&self) -> bool {
        true
    }

    /// Makes host writes available to the device (`vkFlushMappedMemoryRanges`).
    ///
    /// # Errors
    /// The result that the driver returned.
    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError>;

    /// Makes device writes visible to the host (`vkInvalidateMappedMemoryRanges`).
    ///
    /// # Errors
    /// The result that the driver returned.
    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError>;

    /// Returns the driver's usage and budget of every heap; `None` if the driver does not know them, and
    /// the engine counts itself.
    fn budget(&self) -> Option<Vec<DriverBudget>> {
        None
    }
}
