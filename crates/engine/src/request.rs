//! What is asked for: size, alignment, usage, flags, kind of resource.

use bitflags::bitflags;

use crate::device::{DedicatedTarget, MemoryImport, MemoryPropertyFlags};
use crate::handle::PoolId;

/// The intended use. Values of `VmaMemoryUsage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MemoryUsage {
    /// Only the flags decide.
    Unknown = 0,
    /// Older name: memory of the device, not mapped.
    GpuOnly = 1,
    /// Older name: host-visible, coherent memory of the host.
    CpuOnly = 2,
    /// Older name: written by the host, read by the device.
    CpuToGpu = 3,
    /// Older name: written by the device, read by the host.
    GpuToCpu = 4,
    /// Older name: memory of the host, not of the device.
    CpuCopy = 5,
    /// Lazily allocated; transient attachments of tiled GPUs.
    GpuLazilyAllocated = 6,
    /// Chosen from the resource's usage and the `HOST_ACCESS` flags.
    #[default]
    Auto = 7,
    /// The same, leaning to the device.
    AutoPreferDevice = 8,
    /// The same, leaning to the host.
    AutoPreferHost = 9,
}

impl MemoryUsage {
    /// The usage of a number, if it is one.
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

    /// Whether the resource's usage takes part in the choice.
    pub fn is_auto(self) -> bool {
        matches!(self, Self::Auto | Self::AutoPreferDevice | Self::AutoPreferHost)
    }
}

bitflags! {
    /// How to allocate. Values of `VmaAllocationCreateFlagBits`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AllocationCreateFlags: u32 {
        /// A `VkDeviceMemory` of its own.
        const DEDICATED_MEMORY = 0x1;
        /// Only in blocks that exist already.
        const NEVER_ALLOCATE = 0x2;
        /// Mapped for as long as it lives.
        const MAPPED = 0x4;
        /// From the upper end of a block; for pools with the linear algorithm.
        const UPPER_ADDRESS = 0x40;
        /// Create the resource, allocate, do not bind.
        const DONT_BIND = 0x80;
        /// Fail instead of going over the heap's budget.
        const WITHIN_BUDGET = 0x100;
        /// Other resources may be bound to the same memory.
        const CAN_ALIAS = 0x200;
        /// The host writes from front to back and does not read.
        const HOST_ACCESS_SEQUENTIAL_WRITE = 0x400;
        /// The host reads, or writes in any order.
        const HOST_ACCESS_RANDOM = 0x800;
        /// Memory that is not host-visible will do: the caller then makes a transfer.
        const HOST_ACCESS_ALLOW_TRANSFER_INSTEAD = 0x1000;
        /// Best fit: the smallest region that serves.
        const STRATEGY_MIN_MEMORY = 0x1_0000;
        /// First fit: the quickest choice.
        const STRATEGY_MIN_TIME = 0x2_0000;
        /// The lowest offset; time grows with the number of regions.
        const STRATEGY_MIN_OFFSET = 0x4_0000;
    }
}

impl AllocationCreateFlags {
    /// All bits of the strategy.
    pub const STRATEGY_MASK: Self =
        Self::STRATEGY_MIN_MEMORY.union(Self::STRATEGY_MIN_TIME).union(Self::STRATEGY_MIN_OFFSET);
    /// Either kind of host access.
    pub const HOST_ACCESS_MASK: Self =
        Self::HOST_ACCESS_SEQUENTIAL_WRITE.union(Self::HOST_ACCESS_RANDOM);
}

/// How a place is searched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// A good fit in constant time.
    #[default]
    Balanced,
    /// The best fit among a bounded number of candidates.
    MinMemory,
    /// The first that is sure to fit.
    MinTime,
    /// The lowest offset of the lowest block.
    MinOffset,
}

/// What will live in a region: decides who may share a page of `bufferImageGranularity` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResourceKind {
    /// Anything; shares a page with nothing.
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

/// What is known of the resource's use when the memory type is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceUse {
    /// Memory without a resource yet. Counts as used by the device.
    #[default]
    Unknown,
    /// The device reads or writes it in shaders or fixed functions.
    Device,
    /// Only copied from or to.
    TransferOnly,
}

/// `VkMemoryRequirements` and what `VkMemoryDedicatedRequirements` adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRequirements {
    /// In bytes, more than zero.
    pub size: u64,
    /// A power of two.
    pub alignment: u64,
    /// Bit i: memory type i will do.
    pub memory_type_bits: u32,
    /// The driver wants a memory object of its own for the resource.
    pub prefers_dedicated: bool,
    /// The driver insists.
    pub requires_dedicated: bool,
}

/// The caller's wishes: what a `VmaAllocationCreateInfo` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocationCreateInfo {
    /// The intended use.
    pub usage: MemoryUsage,
    /// How to allocate.
    pub flags: AllocationCreateFlags,
    /// A type must have all of these.
    pub required_flags: MemoryPropertyFlags,
    /// A type should have these: each that is missing costs one.
    pub preferred_flags: MemoryPropertyFlags,
    /// A type should not have these: each that is present costs one.
    pub not_preferred_flags: MemoryPropertyFlags,
    /// Bit i: memory type i may be used. 0 allows all, as in VMA.
    pub memory_type_bits: u32,
    /// In bytes, a power of two; raises the alignment that the resource needs. 0 and 1 do nothing.
    pub min_alignment: u64,
    /// The pool to allocate from; its memory type is the one.
    pub pool: Option<PoolId>,
    /// From 0 to 1 (`VK_EXT_memory_priority`); of dedicated memory, blocks have that of their pool.
    pub priority: Option<f32>,
    /// `VkExternalMemoryHandleTypeFlags` that the memory can be exported as; 0 for none. What its
    /// pool does not export gets a memory object of its own.
    pub export_handle_types: u32,
    /// Address of a `pNext` chain for its `vkAllocateMemory`, or 0: such an allocation has a memory object
    /// of its own. Stays valid for the call; the caller vouches for it.
    pub memory_allocate_next: usize,
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
        }
    }
}

impl PoolCreateInfo {
    /// `VkExternalMemoryHandleTypeFlags` of all its memory, whoever says so.
    pub(crate) fn all_export_handle_types(&self) -> u32 {
        self.export_handle_types | self.next_export_handle_types.unwrap_or(0)
    }
}

impl AllocationCreateInfo {
    /// The search that the flags ask for; the lowest bit wins where several are set.
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

/// One request to the engine: what the resource needs and what the caller wishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocationRequest {
    /// What the driver said about the resource.
    pub requirements: MemoryRequirements,
    /// What the caller said.
    pub create_info: AllocationCreateInfo,
    /// For `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// For the AUTO usages.
    pub resource_use: ResourceUse,
    /// The resource, where one exists that a dedicated memory object can name.
    pub dedicated: Option<DedicatedTarget>,
}

impl AllocationRequest {
    /// Memory for whatever is bound to it later: any type will do, and it shares a page with
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

/// Memory that somebody else made, and what is to live in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportRequest {
    /// The whole memory object: its size is that of the memory, its `memory_type_bits` are the types
    /// that serve both the resource and the memory.
    pub whole: AllocationRequest,
    /// Where the resource starts in it, in bytes.
    pub offset: u64,
    /// Size of the resource, in bytes.
    pub size: u64,
    /// Which memory.
    pub import: MemoryImport,
    /// The type that it was made of, where that is known.
    pub memory_type_index: Option<u32>,
    /// The memory is of one type only and cannot be asked for it, so none may be guessed.
    pub is_opaque: bool,
}

/// How blocks are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Any sizes in any order.
    #[default]
    Tlsf,
    /// One behind the other: freed at once, as a stack, as two stacks, or as a ring.
    Linear,
    /// Powers of two.
    Buddy,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Tlsf, Self::Linear, Self::Buddy];

    /// In lower case, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tlsf => "tlsf",
            Self::Linear => "linear",
            Self::Buddy => "buddy",
        }
    }

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A custom pool (`VmaPoolCreateInfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolCreateInfo {
    /// Index into the device's types.
    pub memory_type_index: u32,
    /// Bytes of each block; `None`: as in the default pools, and dedicated memory is allowed.
    pub block_size: Option<u64>,
    /// Taken at once and never given back.
    pub min_block_count: u32,
    /// 0: no limit.
    pub max_block_count: u32,
    /// How blocks are divided.
    pub algorithm: Algorithm,
    /// All resources are of one kind, so nothing can share a page with another kind.
    pub ignore_buffer_image_granularity: bool,
    /// In bytes, a power of two; 0 and 1 do nothing.
    pub min_alignment: u64,
    /// From 0 to 1 (`VK_EXT_memory_priority`).
    pub priority: Option<f32>,
    /// Address of a `pNext` chain for each `vkAllocateMemory`, or 0. Stays valid while the pool
    /// lives; the caller vouches for it.
    pub memory_allocate_next: usize,
    /// What that chain says by itself that the memory can be exported as, if it has a
    /// `VkExportMemoryAllocateInfo`: then nothing else can be asked for, and a device adds no other.
    pub next_export_handle_types: Option<u32>,
    /// When the pool is full, allocate from the default pools.
    pub fallback: bool,
    /// `VkExternalMemoryHandleTypeFlags` that its memory objects can be exported as; 0 for none.
    pub export_handle_types: u32,
}
