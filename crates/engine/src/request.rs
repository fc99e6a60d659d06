//! Parameters of allocations, imports and pools: size, alignment, usage, flags, kind of resource.

use bitflags::bitflags;

use crate::debugging::options::DebugOptions;
use crate::device::{DedicatedTarget, MemoryImport, MemoryPropertyFlags};
use crate::handle::{AllocationId, PoolId};

/// The intended use: `VmaMemoryUsage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MemoryUsage {
    /// No preference: the flags alone decide.
    Unknown = 0,
    /// Deprecated in VMA: device-local, not mapped.
    GpuOnly = 1,
    /// Deprecated in VMA: host-visible and coherent, not device-local.
    CpuOnly = 2,
    /// Deprecated in VMA: written by the host, read by the device.
    CpuToGpu = 3,
    /// Deprecated in VMA: written by the device, read by the host.
    GpuToCpu = 4,
    /// Deprecated in VMA: not device-local.
    CpuCopy = 5,
    /// Lazily allocated memory for transient attachments of tiled GPUs.
    GpuLazilyAllocated = 6,
    /// Chosen from the resource's usage and the `HOST_ACCESS` flags.
    #[default]
    Auto = 7,
    /// Like `Auto`, with a preference for device-local memory.
    AutoPreferDevice = 8,
    /// Like `Auto`, with a preference for memory that is not device-local.
    AutoPreferHost = 9,
}

impl MemoryUsage {
    /// Returns the usage of a number, if there is one.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Unknown,
            1 => Self::GpuOnly,
            2 => Self::CpuOnly,
            3 => Self::CpuToGpu,
            4 => Self::GpuToCpu,
            5 => Self::CpuCopy,
            6 => Self::GpuLazilyAllocated,
            7 => Self::Auto,
            8 => Self::AutoPreferDevice,
            9 => Self::AutoPreferHost,
            _ => return None,
        })
    }

    /// Returns whether the resource's usage takes part in the choice of the memory type.
    pub fn is_auto(self) -> bool {
        matches!(self, Self::Auto | Self::AutoPreferDevice | Self::AutoPreferHost)
    }
}

bitflags! {
    /// Flags of an allocation: `VmaAllocationCreateFlagBits`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AllocationCreateFlags: u32 {
        /// Use a `VkDeviceMemory` of its own.
        const DEDICATED_MEMORY = 0x1;
        /// Use existing blocks only.
        const NEVER_ALLOCATE = 0x2;
        /// Keep it mapped for its whole life.
        const MAPPED = 0x4;
        /// It may be taken away when another request needs room: VMA 2.3's `CAN_BECOME_LOST`. It takes effect
        /// once its owner has called [`make_evictable`](crate::Allocator::make_evictable).
        const CAN_BECOME_LOST = 0x8;
        /// Take others away if there is no room, as far as [`Evict`] allows: VMA 2.3's `CAN_MAKE_OTHER_LOST`.
        const CAN_MAKE_OTHER_LOST = 0x10;
        /// Allocate from the upper end of a block; only in pools with the linear algorithm.
        const UPPER_ADDRESS = 0x40;
        /// Create the resource and allocate memory, but do not bind it.
        const DONT_BIND = 0x80;
        /// Fail rather than exceed the heap's budget.
        const WITHIN_BUDGET = 0x100;
        /// Other resources may be bound to the same memory.
        const CAN_ALIAS = 0x200;
        /// The host writes sequentially and does not read.
        const HOST_ACCESS_SEQUENTIAL_WRITE = 0x400;
        /// The host reads, or writes in any order.
        const HOST_ACCESS_RANDOM = 0x800;
        /// Accept memory that is not host-visible; the caller then transfers the data.
        const HOST_ACCESS_ALLOW_TRANSFER_INSTEAD = 0x1000;
        /// Best fit: the smallest region that is large enough.
        const STRATEGY_MIN_MEMORY = 0x1_0000;
        /// First fit: the fastest search.
        const STRATEGY_MIN_TIME = 0x2_0000;
        /// The lowest offset; the search takes time proportional to the number of regions.
        const STRATEGY_MIN_OFFSET = 0x4_0000;
    }
}

impl AllocationCreateFlags {
    /// All strategy bits.
    pub const STRATEGY_MASK: Self =
        Self::STRATEGY_MIN_MEMORY.union(Self::STRATEGY_MIN_TIME).union(Self::STRATEGY_MIN_OFFSET);
    /// Both kinds of host access.
    pub const HOST_ACCESS_MASK: Self =
        Self::HOST_ACCESS_SEQUENTIAL_WRITE.union(Self::HOST_ACCESS_RANDOM);
}

/// Which evictable allocations a request with
/// [`CAN_MAKE_OTHER_LOST`](AllocationCreateFlags::CAN_MAKE_OTHER_LOST) may take away. What was used in the current
/// frame or in the `frames_in_use` frames before is never taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evict {
    /// All that may be taken at all, those of the lowest priority first.
    #[default]
    Idle,
    /// None.
    Never,
    /// Those whose priority is below that of the request; a request without a priority has 0.5.
    LowerPriority,
    /// Those that were not used for at least this many frames.
    Frames(u32),
}

/// The search strategy for a free region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// A good fit in constant time.
    #[default]
    Balanced,
    /// The best fit among a bounded number of candidates.
    MinMemory,
    /// The first region that is sure to fit.
    MinTime,
    /// The lowest offset of the lowest block.
    MinOffset,
}

/// The kind of resource in a region: decides which regions may share a page of `bufferImageGranularity`
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResourceKind {
    /// Unknown; shares a page with nothing.
    #[default]
    Unknown = 0,
    /// A buffer.
    Buffer = 1,
    /// An image whose tiling is not known; shares a page with nothing.
    ImageUnknown = 2,
    /// An image of linear tiling.
    ImageLinear = 3,
    /// An image of optimal tiling.
    ImageOptimal = 4,
}

/// The known use of the resource, for the choice of the memory type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceUse {
    /// Memory without a resource yet. Counts as used by the device.
    #[default]
    Unknown,
    /// Read or written by the device in shaders or fixed functions.
    Device,
    /// Only the source or target of transfers.
    TransferOnly,
}

/// `VkMemoryRequirements` and `VkMemoryDedicatedRequirements`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRequirements {
    /// Size in bytes, more than zero.
    pub size: u64,
    /// Alignment in bytes, a power of two.
    pub alignment: u64,
    /// Bit i: memory type i is allowed.
    pub memory_type_bits: u32,
    /// The driver prefers a memory object of its own for the resource.
    pub prefers_dedicated: bool,
    /// The driver requires one.
    pub requires_dedicated: bool,
}

/// The caller's options: `VmaAllocationCreateInfo`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocationCreateInfo {
    /// The intended use.
    pub usage: MemoryUsage,
    /// Flags of the allocation.
    pub flags: AllocationCreateFlags,
    /// Properties that the memory type must have.
    pub required_flags: MemoryPropertyFlags,
    /// Properties that the memory type should have; each missing one adds 1 to its cost.
    pub preferred_flags: MemoryPropertyFlags,
    /// Properties that the memory type should not have; each present one adds 1 to its cost.
    pub not_preferred_flags: MemoryPropertyFlags,
    /// Bit i: memory type i may be used. 0 allows all, as in VMA.
    pub memory_type_bits: u32,
    /// Minimum alignment in bytes, a power of two; 0 and 1 have no effect.
    pub min_alignment: u64,
    /// The pool to allocate from, which fixes the memory type.
    pub pool: Option<PoolId>,
    /// Priority of dedicated memory from 0 to 1 (`VK_EXT_memory_priority`); blocks have that of their
    /// pool.
    pub priority: Option<f32>,
    /// `VkExternalMemoryHandleTypeFlags` that the memory can be exported as; 0 if none. If its pool does
    /// not export one of these, the allocation gets a memory object of its own.
    pub export_handle_types: u32,
    /// Address of a `pNext` chain for `vkAllocateMemory`, or 0: such an allocation has a memory object of
    /// its own. The caller guarantees that the chain is valid during the call.
    pub memory_allocate_next: usize,
    /// Whether a lack of memory in the first memory type, or in the pool, is an error at once, although another
    /// memory type might have room: for a caller who can make room there.
    pub first_choice_only: bool,
    /// What it may take away; only read with `CAN_MAKE_OTHER_LOST`.
    pub evict: Evict,
}

impl Default for AllocationCreateInfo {
    fn default() -> Self {
        Self {
            usage: MemoryUsage::Auto,
            flags: AllocationCreateFlags::empty(),
            required_flags: MemoryPropertyFlags::empty(),
            preferred_flags: MemoryPropertyFlags::empty(),
            not_preferred_flags: MemoryPropertyFlags::empty(),
            memory_type_bits: 0,
            min_alignment: 0,
            pool: None,
            priority: None,
            export_handle_types: 0,
            memory_allocate_next: 0,
            first_choice_only: false,
            evict: Evict::Idle,
        }
    }
}

impl PoolCreateInfo {
    /// Returns the `VkExternalMemoryHandleTypeFlags` of the pool's memory, from its own field and its
    /// `pNext` chain.
    pub fn all_export_handle_types(&self) -> u32 {
        self.export_handle_types | self.next_export_handle_types.unwrap_or(0)
    }
}

impl AllocationCreateInfo {
    /// Returns whether the request may take evictable allocations away.
    pub(crate) fn may_evict(&self) -> bool {
        self.flags.contains(AllocationCreateFlags::CAN_MAKE_OTHER_LOST)
            && self.evict != Evict::Never
    }

    /// Returns the strategy that the flags select; the lowest bit wins if several are set.
    pub fn strategy(&self) -> Strategy {
        if self.flags.contains(AllocationCreateFlags::STRATEGY_MIN_MEMORY) {
            Strategy::MinMemory
        } else if self.flags.contains(AllocationCreateFlags::STRATEGY_MIN_TIME) {
            Strategy::MinTime
        } else if self.flags.contains(AllocationCreateFlags::STRATEGY_MIN_OFFSET) {
            Strategy::MinOffset
        } else {
            Strategy::Balanced
        }
    }
}

/// A request to the engine: the requirements of the resource and the caller's options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocationRequest {
    /// The driver's requirements of the resource.
    pub requirements: MemoryRequirements,
    /// The caller's options.
    pub create_info: AllocationCreateInfo,
    /// Kind of resource, for `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// Use of the resource, for the `AUTO` usages.
    pub resource_use: ResourceUse,
    /// The resource, if it exists and a dedicated memory object can name it.
    pub dedicated: Option<DedicatedTarget>,
}

impl AllocationRequest {
    /// Returns a request for memory without a resource: any type is allowed, and it shares a page with
    /// nothing. Size and alignment are in bytes.
    pub fn of_memory(size: u64, alignment: u64, create_info: &AllocationCreateInfo) -> Self {
        Self {
            requirements: MemoryRequirements {
                size,
                alignment,
                memory_type_bits: u32::MAX,
                prefers_dedicated: false,
                requires_dedicated: false,
            },
            create_info: *create_info,
            kind: ResourceKind::Unknown,
            resource_use: ResourceUse::Unknown,
            dedicated: None,
        }
    }
}

/// Memory created elsewhere, and the resource that is to be placed in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportRequest {
    /// The whole memory object: its size, and as `memory_type_bits` the types that both the resource and
    /// the memory allow.
    pub whole: AllocationRequest,
    /// Offset of the resource in it, in bytes.
    pub offset: u64,
    /// Size of the resource in bytes.
    pub size: u64,
    /// The memory to import.
    pub import: MemoryImport,
    /// The memory type that it was allocated from, if known.
    pub memory_type_index: Option<u32>,
    /// The handle is opaque: its memory type cannot be queried, so the engine must not guess one.
    pub is_opaque: bool,
}

/// The algorithm that divides blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Any sizes in any order.
    #[default]
    Tlsf,
    /// Regions one behind the other: freed at once, as a stack, as two stacks, or as a ring buffer.
    Linear,
    /// Powers of two.
    Buddy,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 3] = [Self::Tlsf, Self::Linear, Self::Buddy];

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tlsf => "tlsf",
            Self::Linear => "linear",
            Self::Buddy => "buddy",
        }
    }

    /// Returns the algorithm with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// How far a defragmentation goes, in ascending order: `VmaDefragmentationFlagBits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefragmentationAlgorithm {
    /// Empties blocks into the free regions of fuller ones, and tidies a pool's only block.
    Fast,
    /// Also moves allocations down within their blocks where that joins much free memory for what is moved.
    #[default]
    Balanced,
    /// Moves whatever leaves fewer blocks or larger free regions.
    Full,
    /// Like `Full`, and also refills blocks in which kinds of resources that must not share a page of
    /// `bufferImageGranularity` lie mixed.
    Extensive,
}

impl DefragmentationAlgorithm {
    /// All algorithms, from the least to the most thorough.
    pub const ALL: [Self; 4] = [Self::Fast, Self::Balanced, Self::Full, Self::Extensive];

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Balanced => "balanced",
            Self::Full => "full",
            Self::Extensive => "extensive",
        }
    }

    /// Returns the algorithm with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A custom pool: `VmaPoolCreateInfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolCreateInfo {
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Size of each block in bytes. `None`: as in the default pools, and dedicated memory is allowed.
    pub block_size: Option<u64>,
    /// Number of blocks that are allocated with the pool and kept until it is destroyed.
    pub min_block_count: u32,
    /// Maximum number of blocks; 0 for no limit.
    pub max_block_count: u32,
    /// The algorithm that divides blocks.
    pub algorithm: Algorithm,
    /// Whether to ignore `bufferImageGranularity`, because all resources in the pool are of one kind.
    pub ignore_buffer_image_granularity: bool,
    /// Minimum alignment in bytes, a power of two; 0 and 1 have no effect.
    pub min_alignment: u64,
    /// Priority of its memory objects from 0 to 1 (`VK_EXT_memory_priority`).
    pub priority: Option<f32>,
    /// Address of a `pNext` chain for each `vkAllocateMemory`, or 0. The caller guarantees that it stays
    /// valid while the pool exists.
    pub memory_allocate_next: usize,
    /// The handle types of a `VkExportMemoryAllocateInfo` in that chain, if it has one: requests for
    /// others are refused, and no second structure is appended.
    pub next_export_handle_types: Option<u32>,
    /// Whether to allocate from the default pools when this pool is full.
    pub fallback: bool,
    /// `VkExternalMemoryHandleTypeFlags` that its memory objects can be exported as; 0 if none.
    pub export_handle_types: u32,
    /// Number of frames after its last use in which an allocation of this pool cannot be lost; `None`: that of
    /// the allocator.
    pub frames_in_use: Option<u64>,
    /// What helps to find faults; `None`: as in the allocator.
    pub debug: Option<DebugOptions>,
}

/// A range of an allocation, to be flushed or invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// The allocation.
    pub id: AllocationId,
    /// Offset in the allocation, in bytes.
    pub offset: u64,
    /// Size in bytes; `u64::MAX`: up to the end.
    pub size: u64,
}
