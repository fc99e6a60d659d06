//! [`Request`]: what an allocation was asked for; [`Placed`]: where it went.

use std::hash::{Hash, Hasher};

use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, AllocationRequest, DedicatedTarget, Evict,
    MemoryPropertyFlags, MemoryRequirements, MemoryUsage, PoolId, ResourceKind, ResourceUse,
    Strategy,
};

use super::resource::Resource;

/// A priority from 0 to 1, compared by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Priority(u32);

impl Priority {
    /// Returns the number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }
}

impl From<f32> for Priority {
    fn from(value: f32) -> Self {
        Self(value.to_bits())
    }
}

impl std::fmt::Debug for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// All that an allocation was asked for but its size. Traces have few different ones, so each is stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Alignment that the resource requires, in bytes.
    pub alignment: Option<u64>,
    /// Bit i: the resource allows memory type i.
    pub memory_type_bits: Option<u32>,
    /// The driver prefers a memory object of its own for the resource.
    pub prefers_dedicated: bool,
    /// The driver requires one.
    pub requires_dedicated: bool,
    /// The intended use.
    pub usage: MemoryUsage,
    /// Flags of the allocation. Bits that only VMA 2.3 knows are kept, but strategies are those of VMA 3.
    pub flags: AllocationCreateFlags,
    /// Properties that the memory type must have.
    pub required_flags: MemoryPropertyFlags,
    /// Properties that the memory type should have.
    pub preferred_flags: MemoryPropertyFlags,
    /// Properties that the memory type should not have.
    pub not_preferred_flags: MemoryPropertyFlags,
    /// Bit i: the caller allows memory type i; 0 allows all.
    pub allowed_types: u32,
    /// Minimum alignment that the caller asked for, in bytes.
    pub min_alignment: u64,
    /// Number of the pool.
    pub pool: Option<u32>,
    /// Priority of dedicated memory.
    pub priority: Option<Priority>,
    /// `VkExternalMemoryHandleTypeFlags` that the memory can be exported as.
    pub export_handle_types: u32,
    /// Whether there was a `pNext` chain for `vkAllocateMemory`, which traces do not contain.
    pub has_next: bool,
    /// Whether a lack of memory in the first memory type was an error at once.
    pub first_choice_only: bool,
    /// What it may take away.
    pub evict: Evict,
    /// Kind of resource, for `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// Use of the resource, for the `AUTO` usages.
    pub resource_use: ResourceUse,
    /// Whether a dedicated memory object names the resource (`VkMemoryDedicatedAllocateInfo`).
    pub names_resource: bool,
    /// The resource.
    pub resource: Resource,
}

impl Default for Request {
    /// A request of which nothing is known.
    fn default() -> Self {
        Self {
            alignment: None,
            memory_type_bits: None,
            prefers_dedicated: false,
            requires_dedicated: false,
            usage: MemoryUsage::Unknown,
            flags: AllocationCreateFlags::empty(),
            required_flags: MemoryPropertyFlags::empty(),
            preferred_flags: MemoryPropertyFlags::empty(),
            not_preferred_flags: MemoryPropertyFlags::empty(),
            allowed_types: 0,
            min_alignment: 0,
            pool: None,
            priority: None,
            export_handle_types: 0,
            has_next: false,
            first_choice_only: false,
            evict: Evict::Idle,
            kind: ResourceKind::Unknown,
            resource_use: ResourceUse::Unknown,
            names_resource: false,
            resource: Resource::Unknown,
        }
    }
}

impl Hash for Request {
    /// Hashes what differs between the requests of most programs.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let kind = (self.kind as u64) << 40 | u64::from(self.memory_type_bits.unwrap_or(0));
        (self.alignment, kind, self.flags.bits(), self.usage as u32).hash(state);
        (self.pool, self.priority, self.min_alignment, self.allowed_types).hash(state);
        (self.required_flags.bits(), self.preferred_flags.bits()).hash(state);
        self.resource.hash(state);
    }
}

impl Request {
    /// Describes a request to the engine. `pool` is the number of its pool.
    pub fn of_engine(request: &AllocationRequest, pool: Option<u32>, resource: Resource) -> Self {
        let AllocationRequest { requirements, create_info, kind, resource_use, dedicated } =
            request;
        Self {
            alignment: Some(requirements.alignment),
            memory_type_bits: Some(requirements.memory_type_bits),
            prefers_dedicated: requirements.prefers_dedicated,
            requires_dedicated: requirements.requires_dedicated,
            usage: create_info.usage,
            flags: create_info.flags,
            required_flags: create_info.required_flags,
            preferred_flags: create_info.preferred_flags,
            not_preferred_flags: create_info.not_preferred_flags,
            allowed_types: create_info.memory_type_bits,
            min_alignment: create_info.min_alignment,
            pool,
            priority: create_info.priority.map(Priority::from),
            export_handle_types: create_info.export_handle_types,
            has_next: create_info.memory_allocate_next != 0,
            first_choice_only: create_info.first_choice_only,
            evict: create_info.evict,
            kind: *kind,
            resource_use: *resource_use,
            names_resource: dedicated.is_some(),
            resource,
        }
    }

    /// Returns the strategy that the flags select.
    pub fn strategy(&self) -> Strategy {
        AllocationCreateInfo { flags: self.flags, ..AllocationCreateInfo::default() }.strategy()
    }

    /// Returns the request to the engine, for `size` bytes in `pool`; `None` if the trace does not say what the
    /// resource requires. `handle` stands for the resource where a dedicated memory object names it; a `pNext`
    /// chain is left out.
    pub fn to_engine(
        &self,
        size: u64,
        pool: Option<PoolId>,
        handle: u64,
    ) -> Option<AllocationRequest> {
        let target = match self.kind {
            ResourceKind::Buffer => DedicatedTarget::Buffer(handle),
            _ => DedicatedTarget::Image(handle),
        };
        Some(AllocationRequest {
            requirements: MemoryRequirements {
                size,
                alignment: self.alignment?,
                memory_type_bits: self.memory_type_bits?,
                prefers_dedicated: self.prefers_dedicated,
                requires_dedicated: self.requires_dedicated,
            },
            create_info: AllocationCreateInfo {
                usage: self.usage,
                flags: self.flags,
                required_flags: self.required_flags,
                preferred_flags: self.preferred_flags,
                not_preferred_flags: self.not_preferred_flags,
                memory_type_bits: self.allowed_types,
                min_alignment: self.min_alignment,
                pool,
                priority: self.priority.map(Priority::get),
                export_handle_types: self.export_handle_types,
                memory_allocate_next: 0,
                first_choice_only: self.first_choice_only,
                evict: self.evict,
            },
            kind: self.kind,
            resource_use: self.resource_use,
            dedicated: self.names_resource.then_some(target),
        })
    }
}

/// Where an allocation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Index into the device's memory types, at most 254.
    pub memory_type: Option<u32>,
    /// Number of the memory object.
    pub memory: Option<u32>,
    /// Offset in that object, in bytes; 0 if it is not known.
    pub offset: u64,
    /// Whether the memory object is its own.
    pub is_dedicated: bool,
}
