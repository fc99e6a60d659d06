//! The engine's only way out: the contract of a device that has memory.
//!
//! The engine decides *where* things go. Taking memory from a driver, mapping it and making host
//! writes visible is the work of an implementation of [`DeviceMemory`]: a Vulkan device, or the
//! [`SimulatedDevice`](crate::SimulatedDevice).

use std::fmt;
use std::num::NonZeroUsize;

use bitflags::bitflags;

bitflags! {
    /// What a memory type can do. Values of `VkMemoryPropertyFlagBits`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MemoryPropertyFlags: u32 {
        /// Fastest for the device.
        const DEVICE_LOCAL = 0x1;
        /// Can be mapped.
        const HOST_VISIBLE = 0x2;
        /// Needs no flush and no invalidate.
        const HOST_COHERENT = 0x4;
        /// Fast for the host to read.
        const HOST_CACHED = 0x8;
        /// Committed by the driver when first used; transient attachments only.
        const LAZILY_ALLOCATED = 0x10;
        /// Only for protected submissions.
        const PROTECTED = 0x20;
        /// `VK_AMD_device_coherent_memory`.
        const DEVICE_COHERENT_AMD = 0x40;
        /// `VK_AMD_device_coherent_memory`: slow, never cached.
        const DEVICE_UNCACHED_AMD = 0x80;
        /// `VK_NV_external_memory_rdma`.
        const RDMA_CAPABLE_NV = 0x100;
        /// Bits of extensions that are younger than this library pass through.
        const _ = !0;
    }
}

bitflags! {
    /// Values of `VkMemoryHeapFlagBits`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MemoryHeapFlags: u32 {
        /// The heap is the device's own memory.
        const DEVICE_LOCAL = 0x1;
        /// One instance of the heap per physical device of a group.
        const MULTI_INSTANCE = 0x2;
        /// Bits of extensions that are younger than this library pass through.
        const _ = !0;
    }
}

/// One `VkMemoryHeap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHeap {
    /// In bytes.
    pub size: u64,
    /// What the heap is.
    pub flags: MemoryHeapFlags,
}

/// One `VkMemoryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryType {
    /// Index into [`DeviceInfo::heaps`].
    pub heap_index: u32,
    /// What memory of this type can do.
    pub flags: MemoryPropertyFlags,
}

/// Values of `VkPhysicalDeviceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceType {
    /// None of the below.
    Other = 0,
    /// Shares memory with the host.
    IntegratedGpu = 1,
    /// Has memory of its own.
    DiscreteGpu = 2,
    /// A GPU of a virtualised host.
    VirtualGpu = 3,
    /// A driver that runs on the host's processor.
    Cpu = 4,
}

/// The parts of `VkPhysicalDeviceLimits` and its extensions that place memory. In bytes, unless
/// it is a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live `VkDeviceMemory` objects; a count. `u32::MAX` where the driver does not say.
    pub max_memory_allocation_count: u32,
    /// Of one `VkDeviceMemory`; `u64::MAX` where the driver does not say.
    pub max_memory_allocation_size: u64,
    /// A power of two.
    pub buffer_image_granularity: u64,
    /// A power of two.
    pub non_coherent_atom_size: u64,
    /// Of an address that `map` returns.
    pub min_memory_map_alignment: u64,
    /// Of offsets in descriptors of uniform buffers.
    pub min_uniform_buffer_offset_alignment: u64,
    /// Of offsets in descriptors of storage buffers.
    pub min_storage_buffer_offset_alignment: u64,
    /// Of offsets of texel buffer views.
    pub min_texel_buffer_offset_alignment: u64,
    /// Advice of the driver for copies between buffers and images.
    pub optimal_buffer_copy_offset_alignment: u64,
}

impl Limits {
    /// The same with a driver's zeros as what they mean: a limit that it does not know is none, as the
    /// mock drivers of test suites answer them.
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

/// Everything about a device that the engine needs to know. Does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// As the driver gives it.
    pub name: String,
    /// Name and version of the driver, for people.
    pub driver: String,
    /// PCI vendor, or a `VkVendorId`.
    pub vendor_id: u32,
    /// Of that vendor.
    pub device_id: u32,
    /// Discrete, integrated, a processor ...
    pub device_type: DeviceType,
    /// `VK_MAKE_API_VERSION`; the version that may be used, not the newest the driver has.
    pub api_version: u32,
    /// Alignment, granularity, counts.
    pub limits: Limits,
    /// 1 to 16. One of 0 bytes is never used.
    pub heaps: Vec<MemoryHeap>,
    /// 1 to 32.
    pub types: Vec<MemoryType>,
    /// Whether `DEVICE_COHERENT_AMD` memory types may be used
    /// (`VK_AMD_device_coherent_memory` is enabled).
    pub amd_device_coherent: bool,
}

impl DeviceInfo {
    /// The heap of a memory type.
    pub fn heap_of(&self, memory_type_index: u32) -> u32 {
        self.types[memory_type_index as usize].heap_index
    }

    /// Whether the heap of a memory type has no bytes, as some drivers list one that is switched off.
    pub fn has_no_memory(&self, memory_type_index: u32) -> bool {
        self.heaps[self.heap_of(memory_type_index) as usize].size == 0
    }

    /// What memory of a type can do.
    pub fn flags_of(&self, memory_type_index: u32) -> MemoryPropertyFlags {
        self.types[memory_type_index as usize].flags
    }

    /// Whether host writes to this type need a flush, and host reads an invalidate.
    pub fn is_non_coherent(&self, memory_type_index: u32) -> bool {
        let flags = self.flags_of(memory_type_index);
        flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
            && !flags.contains(MemoryPropertyFlags::HOST_COHERENT)
    }
}

/// A `VkDeviceMemory`, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryHandle(pub u64);

/// Where a memory object starts in the host's address space.
///
/// A number, not a pointer: the engine computes with it and never reads through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress(pub NonZeroUsize);

impl HostAddress {
    /// The address `offset` bytes further on.
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

/// Memory that somebody else made, to be taken in instead of new memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryImport {
    /// One `VkExternalMemoryHandleTypeFlagBits`; says what `handle` is.
    pub handle_type: u32,
    /// A file descriptor, a Win32 handle or an address of the host. It stays the caller's, whatever
    /// happens: the device keeps a reference of its own, except of an address.
    pub handle: u64,
}

/// One call of `vkAllocateMemory`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryAllocateInfo {
    /// Index into [`DeviceInfo::types`].
    pub memory_type_index: u32,
    /// In bytes, more than zero.
    pub size: u64,
    /// Set only where the resource exists already.
    pub dedicated: Option<DedicatedTarget>,
    /// From 0 to 1; for `VK_EXT_memory_priority`, without which it means nothing.
    pub priority: Option<f32>,
    /// Address of a `pNext` chain of the caller's to append, or 0.
    pub next: usize,
    /// `VkExternalMemoryHandleTypeFlags` that the memory can be exported as; 0 for none.
    pub export_handle_types: u32,
    /// What to take in.
    pub import: Option<MemoryImport>,
}

impl MemoryAllocateInfo {
    /// Plain memory.
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

/// A range of a memory object. The device rounds nothing: the engine already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The object.
    pub memory: MemoryHandle,
    /// From its start, in bytes; a multiple of `non_coherent_atom_size`.
    pub offset: u64,
    /// In bytes; a multiple of `non_coherent_atom_size`, or up to the end of the object.
    pub size: u64,
}

/// What a driver answers when it cannot. Each has its `VkResult`.
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
    /// The `VkResult`.
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

    /// The error of a negative `VkResult`.
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

/// Names of the results that memory, resources, copies and external handles can end with.
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

/// `VK_ERROR_UNKNOWN (-13)`, and `VkResult -1000999000` for what has no name here.
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

/// A call of the driver that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError {
    /// By its name in Vulkan.
    pub call: &'static str,
    /// What it answered.
    pub result: DeviceError,
}

impl DeviceError {
    /// With the call that it is the answer of.
    pub fn of(self, call: &'static str) -> CallError {
        CallError { call, result: self }
    }
}

/// `vkCreateBuffer answered VK_ERROR_UNKNOWN (-13)`
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.call, self.result)
    }
}

impl std::error::Error for CallError {}

/// What a driver knows of one heap (`VK_EXT_memory_budget`), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverBudget {
    /// Of this process, as the driver counts it.
    pub usage: u64,
    /// What this process may use before allocations fail or slow down.
    pub budget: u64,
}

/// A device that has memory.
///
/// # What the engine promises
/// * `memory_type_index` exists; `size` is more than zero, not above the heap's size and not above
///   `max_memory_allocation_size`.
/// * At most `max_memory_allocation_count` objects live at once.
/// * Each handle is freed once, and not used afterwards.
/// * `map` and `unmap` of one object alternate, from `map` on, and never run at the same time;
///   only `HOST_VISIBLE` memory is mapped, always the whole of it.
/// * `flush` and `invalidate` name mapped, non-coherent memory, rounded to
///   `non_coherent_atom_size`.
/// * No lock that an allocation in existing blocks needs is held during any call.
///
/// # What an implementation promises
/// * Calls come from any thread at any time and may take long.
/// * A call that fails changed nothing.
/// * `map` returns an address aligned to `min_memory_map_alignment`; it stays valid, and the same
///   memory, until `unmap` or `free`.
pub trait DeviceMemory: Send + Sync {
    /// Heaps, types and limits.
    fn info(&self) -> &DeviceInfo;

    /// Whether memory objects name the resource that they are for: Vulkan 1.1 or
    /// `VK_KHR_dedicated_allocation`. Where not, [`MemoryAllocateInfo::dedicated`] is passed over.
    fn names_resources(&self) -> bool {
        true
    }

    /// Takes a memory object (`vkAllocateMemory`).
    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError>;

    /// Gives one back, mapped or not (`vkFreeMemory`).
    fn free(&self, memory: MemoryHandle);

    /// Maps a whole memory object (`vkMapMemory`).
    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError>;

    /// Undoes [`map`](Self::map) (`vkUnmapMemory`).
    fn unmap(&self, memory: MemoryHandle);

    /// Makes host writes visible to the device (`vkFlushMappedMemoryRanges`).
    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError>;

    /// Makes device writes visible to the host (`vkInvalidateMappedMemoryRanges`).
    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError>;

    /// Usage and budget of every heap, where the driver knows them; `None` makes the engine count
    /// by itself.
    fn budget(&self) -> Option<Vec<DriverBudget>> {
        None
    }
}
