//! [`Pool`]: memory of one type with its rules: the default pool of each memory type, and custom pools.

pub(crate) mod evicting;
pub(crate) mod exchange;
mod guarding;
mod many;
mod moving;
pub(crate) mod place;
mod quarantine;

use std::sync::Arc;

use crate::device::{HostAddress, MemoryAllocateInfo, MemoryPropertyFlags};
use crate::error::{Error, FailureFigures};
use crate::handle::{Allocation, AllocationId, PoolId, PoolKey};
use crate::heap::ledger::HeapUsage;
use crate::pools::arena::{Arena, Growth};
use crate::pools::block_sizes::BlockSizes;
use crate::pools::blocks::{PlacedHandle, PlacedRegion};
use crate::pools::dedicated::Dedicated;
use crate::pools::margin::{LEAST_ALIGNMENT, Margins};
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::setup::{Setup, take_memory};
use crate::pools::snapshot::PoolSnapshot;
use crate::request::{
    Algorithm, AllocationCreateFlags as Create, AllocationRequest, ImportRequest, PoolCreateInfo,
};
use crate::statistics::Statistics;
use crate::suballocator::{AnySuballocator, RegionRequest, RegionTag};

/// Offsets and sizes of regions in blocks are multiples of this many bytes: a smaller remainder fits no
/// resource and would cost a node.
const GRANULE: u64 = 16;
/// The smallest region of a block with the buddy algorithm, in bytes.
const SMALLEST_BUDDY: u64 = 32;

/// The memory of one type that shares one set of rules: an arena and dedicated allocations.
pub(crate) struct Pool {
    setup: Setup,
    pool_key: PoolKey,
    rules: PoolCreateInfo,
    /// Properties of its memory type.
    flags: MemoryPropertyFlags,
    /// Minimum alignment of its allocations in bytes.
    min_alignment: u64,
    /// `bufferImageGranularity` in bytes; 1 if the pool ignores it.
    granularity: u64,
    /// The margins of its allocations.
    margins: Margins,
    /// Whether allocations have memory of their own if they can.
    dedicates: bool,
    has_quarantine: bool,
    /// Whether something else than its resource may have to be bound to memory of its own.
    reaches_contents: bool,
    arena: Arena,
    dedicated: Dedicated,
}

/// Whether an allocation should have a memory object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DedicatedNeed {
    No,
    Preferred,
    Required,
}

impl Pool {
    /// Creates the default pool of a memory type.
    pub(crate) fn of_type(setup: &Setup, memory_type_index: u32) -> Self {
        let rules = PoolCreateInfo { memory_type_index, ..PoolCreateInfo::default() };
        let pool_key = PoolKey::Default(memory_type_index);
        Self::new(setup, pool_key, rules, setup.preferred_block_size(memory_type_index))
    }

    /// Creates a custom pool with its first blocks.
    ///
    /// # Errors
    /// The errors of allocating these blocks.
    pub(crate) fn custom(setup: &Setup, id: PoolId, rules: PoolCreateInfo) -> Result<Self, Error> {
        let preferred = setup.preferred_block_size(rules.memory_type_index);
        let block_size = rules.block_size.or(preferred);
        let pool = Self::new(setup, PoolKey::Custom(id), rules, block_size);
        pool.arena.take_first_blocks()?;
        Ok(pool)
    }

    fn new(
        setup: &Setup,
        pool_key: PoolKey,
        rules: PoolCreateInfo,
        block_size: Option<u64>,
    ) -> Self {
        let info = setup.device.info();
        let debug = rules.debug.unwrap_or(setup.debug);
        let margins = Margins::new(debug.margin);
        let memory_type = rules.memory_type_index;
        let heap_size = setup.ledger.limit(info.heap_of(memory_type));
        let largest = heap_size.min(info.limits.max_memory_allocation_size);
        let mut sizes = BlockSizes::for_heap(heap_size, block_size);
        sizes.preferred = sizes.preferred.min(largest);
        let granularity = if rules.ignore_buffer_image_granularity {
            1
        } else {
            info.limits.buffer_image_granularity.max(debug.min_granularity.unwrap_or(1))
        };
        let granule = match rules.algorithm {
            Algorithm::Tlsf | Algorithm::Linear => GRANULE,
            Algorithm::Buddy => SMALLEST_BUDDY,
        };
        let mut min_alignment = rules.min_alignment.max(1);
        if info.is_non_coherent(memory_type) {
            // Two allocations in one atom would flush and invalidate each other's bytes.
            min_alignment = min_alignment.max(info.limits.non_coherent_atom_size);
        }
        if margins.are_on() || debug.quarantine.is_some() {
            min_alignment = min_alignment.max(LEAST_ALIGNMENT);
        }
        let flags = info.flags_of(memory_type);
        let dedicates = flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED)
            || (debug.always_dedicated && rules.block_size.is_none() && rules.max_block_count == 0);
        let suballocator = AnySuballocator::new(rules.algorithm, granule, granularity);
        let arena = Arena::new(setup, pool_key, sizes, &rules, suballocator, &debug);
        let dedicated = Dedicated::new(&debug, &setup.quarantines, pool_key);
        let setup = setup.clone();
        Self {
            setup,
            pool_key,
            rules,
            flags,
            min_alignment,
            granularity,
            margins,
            dedicates,
            has_quarantine: debug.quarantine.is_some(),
            reaches_contents: debug.quarantine.is_some() || debug.reaches_contents,
            arena,
            dedicated,
        }
    }

    /// Returns the pool's key.
    pub(crate) fn pool_key(&self) -> PoolKey {
        self.pool_key
    }

    /// Returns the parameters that it was created with.
    pub(crate) fn rules(&self) -> &PoolCreateInfo {
        &self.rules
    }

    /// Returns the block sizes.
    pub(crate) fn sizes(&self) -> BlockSizes {
        self.arena.sizes()
    }

    /// Allocates without driver calls; `None` if that is not possible.
    #[inline(always)]
    pub(crate) fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        if self.dedicated_need(request) != DedicatedNeed::No {
            return None;
        }
        let region = self.region_request(request);
        if !self.is_to_be_mapped(request) {
            let handle = match self.margins.are_on() {
                false => self.arena.allocate_in_place(&region)?,
                // A copy, so that the original can stay in registers otherwise.
                true => self.place_guarded(&{ region })?,
            };
            return Some(self.allocation(false, &handle, request, None));
        }
        let (placed, address) = match self.margins.are_on() {
            false => self.arena.allocate_in_mapped_place(&region)?,
            true => self.place_guarded_and_mapped(&{ region })?,
        };
        self.mark_mapped(false, &placed);
        let mapped = Some(address.at(placed.offset));
        Some(self.finished(false, &placed, request, mapped))
    }

    /// Allocates and may call the driver.
    ///
    /// # Errors
    /// The errors of the driver calls, of limits and budgets, or of the pool's rules.
    pub(crate) fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let flags = request.create_info.flags;
        let never = flags.contains(Create::NEVER_ALLOCATE);
        let wish = self.dedicated_need(request);
        let mut refused = None;
        if wish == DedicatedNeed::Required && (never || !self.allows_dedicated()) {
            return Err(self.must_be_dedicated(request, never));
        }
        if wish != DedicatedNeed::No && !never {
            match self.allocate_dedicated(request, None) {
                Err(error) if wish == DedicatedNeed::Preferred && error.allows_fallback() => {
                    refused = Some(error)
                }
                made => return made,
            }
        }
        let region = self.margins.widen(self.region_request(request));
        let growth =
            Growth { allowed: !never, within_budget: flags.contains(Create::WITHIN_BUDGET) };
        let error = match self.arena.allocate(&region, growth) {
            Ok(placed) => return self.placed(placed, request),
            // The arena knows the region only, with its margins.
            Err(error) => error.about(request.requirements.size),
        };
        match error {
            // The refusal of the preferred dedicated memory explains more than a lack of room in the
            // blocks.
            error if refused.is_some() && error.allows_fallback() => {
                Err(refused.map_or(error.clone(), |refused| refused.combined_with(&error)))
            }
            Error::OutOfDeviceMemory { .. } | Error::Refused { .. }
                if !never && self.allows_dedicated() =>
            {
                // The last resort, after the arena has tried smaller blocks.
                match self.allocate_dedicated(request, None) {
                    Err(Error::TooManyObjects { .. }) if region.size <= self.sizes().preferred => {
                        Err(error)
                    }
                    other => other.map_err(|last| last.combined_with(&error)),
                }
            }
            error => Err(error),
        }
    }

    /// Returns whether dedicated memory is allowed: not in a pool with a block size or a maximum number
    /// of blocks, which limit its size.
    fn allows_dedicated(&self) -> bool {
        self.rules.block_size.is_none() && self.rules.max_block_count == 0
    }

    /// Returns whether the pool could serve a request if it were empty, by its rules and the limits of
    /// the device.
    pub(crate) fn could_serve(&self, request: &AllocationRequest) -> bool {
        let (ledger, info) = (&self.setup.ledger, self.setup.device.info());
        let size = request.requirements.size;
        if self.allows_dedicated() {
            // Nothing but the size counts where the margins are left out.
            let around = self.dedicated_margins(request, false).iter().sum();
            let size = size.saturating_add(around);
            let never = request.create_info.flags.contains(Create::NEVER_ALLOCATE);
            let limit = ledger.limit(info.heap_of(self.rules.memory_type_index));
            let most = if never { self.sizes().preferred } else { limit };
            size <= most.min(info.limits.max_memory_allocation_size)
                && (!never || self.dedicated_need(request) != DedicatedNeed::Required)
        } else {
            self.margins.widen(self.region_request(request)).size <= self.sizes().preferred
                && self.dedicated_need(request) != DedicatedNeed::Required
        }
    }

    fn must_be_dedicated(&self, request: &AllocationRequest, never: bool) -> Error {
        const NEEDS: &str = "it needs a memory object of its own, which";
        if !self.allows_dedicated() {
            return Error::FeatureNotPresent(format!(
                "{NEEDS} this pool does not allow: it has a block_size or a max_block_count"
            ));
        }
        debug_assert!(never);
        let figures =
            self.setup.ledger.figures(self.rules.memory_type_index, request.requirements.size);
        let reason = format!("{NEEDS} NEVER_ALLOCATE forbids");
        let figures = FailureFigures { can_never_succeed: true, ..figures };
        Error::OutOfDeviceMemory { reason, figures }
    }

    #[inline]
    fn dedicated_need(&self, request: &AllocationRequest) -> DedicatedNeed {
        let needs = &request.requirements;
        if request.create_info.flags.contains(Create::DEDICATED_MEMORY)
            || needs.requires_dedicated
            || request.create_info.memory_allocate_next != 0
            || request.create_info.export_handle_types & !self.rules.all_export_handle_types() != 0
            || (self.dedicates && self.must_dedicate(request))
        {
            return DedicatedNeed::Required;
        }
        let large = needs.size > self.sizes().preferred / 2;
        if (needs.prefers_dedicated || large)
            && self.allows_dedicated()
            && !self.setup.ledger.is_short_of_objects()
        {
            DedicatedNeed::Preferred
        } else {
            DedicatedNeed::No
        }
    }

    /// Imports memory as a dedicated allocation.
    pub(crate) fn import(&self, request: &ImportRequest) -> Result<Allocation, Error> {
        self.allocate_dedicated(&request.whole, Some(request))
    }

    /// Returns the parameters of the `vkAllocateMemory` call for dedicated memory.
    fn dedicated_info(
        &self,
        request: &AllocationRequest,
        import: Option<&ImportRequest>,
    ) -> MemoryAllocateInfo {
        let flags = request.create_info.flags;
        let needs = &request.requirements;
        let export_handle_types =
            request.create_info.export_handle_types | self.rules.all_export_handle_types();
        // Memory that is dedicated to one resource may be bound to no other.
        let can_alias = flags.contains(Create::CAN_ALIAS);
        // Exporter and importer must both dedicate the memory to the resource or both not. Neither knows
        // the other's parameters, so the choice depends on the resource alone.
        let is_external = export_handle_types != 0 || import.is_some();
        let may_name =
            !is_external || needs.prefers_dedicated || flags.contains(Create::DEDICATED_MEMORY);
        let dedicated =
            request.dedicated.filter(|_| needs.requires_dedicated || (may_name && !can_alias));
        let [front, back] = self.dedicated_margins(request, import.is_some());
        // A resource to which memory is dedicated has all of it (VkMemoryDedicatedAllocateInfo).
        let dedicated = dedicated.filter(|_| [front, back] == [0, 0]);
        // The device writes and reads contents through another buffer.
        let must_name = is_external || needs.requires_dedicated || !self.reaches_contents;
        let dedicated = dedicated.filter(|_| must_name);
        // At most one of the two is not 0, as was checked.
        let next = self.rules.memory_allocate_next | request.create_info.memory_allocate_next;
        MemoryAllocateInfo {
            memory_type_index: self.rules.memory_type_index,
            size: request.requirements.size.saturating_add(front + back),
            dedicated,
            priority: request.create_info.priority.or(self.rules.priority),
            next,
            export_handle_types,
            import: import.map(|import| import.import),
        }
    }

    fn allocate_dedicated(
        &self,
        request: &AllocationRequest,
        import: Option<&ImportRequest>,
    ) -> Result<Allocation, Error> {
        let info = self.dedicated_info(request, import);
        let flags = request.create_info.flags;
        let within_budget = flags.contains(Create::WITHIN_BUDGET);
        self.dedicated.try_reserve()?;
        let memory = take_memory(&self.setup, &info, within_budget, false)
            .map_err(|error| error.about(request.requirements.size))?;
        let memory = Arc::new(memory);
        let margins @ [front, back] = self.dedicated_margins(request, import.is_some());
        let whole = (front, memory.size - front - back);
        let (offset, size) = import.map_or(whole, |it| (it.offset, it.size));
        let inside = &self.dedicated;
        let key =
            inside.insert(memory.clone(), request.kind, info.dedicated, offset, size, margins);
        let made = self.map_if_asked(true, PlacedRegion { key, memory, offset }, request)?;
        Ok(Allocation { size, ..made })
    }

    fn map_if_asked(
        &self,
        dedicated: bool,
        placed: PlacedRegion,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        if !self.is_to_be_mapped(request) {
            return Ok(self.finished(dedicated, &placed, request, None));
        }
        match placed.memory.map() {
            Ok(address) => {
                self.mark_mapped(dedicated, &placed);
                let mapped = Some(address.at(placed.offset));
                Ok(self.finished(dedicated, &placed, request, mapped))
            }
            Err(error) => {
                self.free(self.id(dedicated, &placed), &mut Release::default());
                Err(error)
            }
        }
    }

    /// Returns whether `MAPPED` applies; it is ignored if memory cannot be mapped, as in VMA: with `ALLOW_TRANSFER_INSTEAD` the
    /// caller checks for a mapping.
    fn is_to_be_mapped(&self, request: &AllocationRequest) -> bool {
        request.create_info.flags.contains(Create::MAPPED)
            && self.flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
    }

    fn id(&self, dedicated: bool, placed: &PlacedRegion) -> AllocationId {
        AllocationId::new(self.pool_key, dedicated, placed.key)
    }

    fn mark_mapped(&self, dedicated: bool, placed: &PlacedRegion) {
        let id = self.id(dedicated, placed);
        let marked = self.update_tag(id, |tag| tag.persistently_mapped = true);
        debug_assert!(marked.is_some());
    }

    fn finished(
        &self,
        dedicated: bool,
        placed: &PlacedRegion,
        request: &AllocationRequest,
        mapped: Option<HostAddress>,
    ) -> Allocation {
        self.allocation(dedicated, &placed.handle(), request, mapped)
    }

    #[inline(always)]
    fn allocation(
        &self,
        dedicated: bool,
        handle: &PlacedHandle,
        request: &AllocationRequest,
        mapped: Option<HostAddress>,
    ) -> Allocation {
        Allocation {
            id: AllocationId::new(self.pool_key, dedicated, handle.key),
            memory: handle.memory,
            offset: handle.offset,
            size: request.requirements.size,
            memory_type_index: self.rules.memory_type_index,
            mapped,
            hint: handle.hint,
        }
    }

    #[inline(always)]
    fn region_request(&self, request: &AllocationRequest) -> RegionRequest {
        let create_info = &request.create_info;
        let alignment = request.requirements.alignment.max(create_info.min_alignment);
        RegionRequest {
            size: request.requirements.size,
            alignment: alignment.max(self.min_alignment),
            kind: request.kind,
            upper: create_info.flags.contains(Create::UPPER_ADDRESS),
            strategy: create_info.strategy(),
        }
    }

    /// Frees an allocation and returns its tag; `None` if the id is stale. Its region is free at once;
    /// driver calls are added to `release`.
    #[inline]
    pub(crate) fn free(&self, id: AllocationId, release: &mut Release) -> Option<RegionTag> {
        match id.is_dedicated() {
            true => self.dedicated.free(id.key, release),
            false => self.arena.free(id.key, release),
        }
    }

    /// Frees like [`free`](Self::free), and stores a lease that keeps the block's memory from being
    /// freed. Dedicated memory has no lease: it is freed by `release`.
    #[inline]
    pub(crate) fn free_leased(
        &self,
        id: AllocationId,
        release: &mut Release,
        lease: &mut Option<Arc<Lease>>,
    ) -> Option<RegionTag> {
        match id.is_dedicated() {
            true => self.dedicated.free(id.key, release),
            false => self.arena.free_leased(id.key, release, lease),
        }
    }

    /// Changes the tag of an allocation; returns the result, its memory object, its offset there and its
    /// size in bytes.
    pub(crate) fn update_tag<R>(
        &self,
        id: AllocationId,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>, u64, u64)> {
        if id.is_dedicated() {
            return self.dedicated.update_tag(id.key, update);
        }
        let (result, memory, info) = self.arena.update_tag(id.key, update)?;
        Some((result, memory, info.offset, info.size))
    }

    /// Removes retained empty blocks; those of `min_block_count` only if `all`.
    pub(crate) fn release_empties(&self, all: bool, release: &mut Release) {
        self.arena.release_empties(all, release);
    }

    /// Allocates the next block if the pool still runs low.
    pub(crate) fn prefetch(&self) {
        self.arena.prefetch();
    }

    /// Allows prefetching again after the driver refused a block.
    pub(crate) fn retry_prefetch(&self) {
        self.arena.retry_prefetch();
    }

    /// Calls `visit` with each memory object, under a lock.
    pub(crate) fn each_memory(&self, visit: &mut dyn FnMut(&MemoryObject)) {
        self.arena.each_memory(visit);
        self.dedicated.each_memory(visit);
    }

    /// Returns the number of live allocations and their bytes. O(1).
    pub(crate) fn live(&self) -> (u64, u64) {
        let usage = self.usage();
        (usage.allocation_count, usage.allocation_bytes)
    }

    /// Returns how much the pool holds and what is in use of it. O(1).
    pub(crate) fn usage(&self) -> HeapUsage {
        let mut usage = self.arena.usage();
        let (count, bytes) = self.dedicated.live();
        usage.add(&HeapUsage {
            block_count: count,
            block_bytes: bytes,
            allocation_count: count,
            allocation_bytes: bytes,
        });
        usage
    }

    /// Counts blocks, allocations and unused ranges. O(regions).
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = self.arena.statistics();
        statistics.add(&self.dedicated.statistics());
        statistics
    }

    /// Copies everything in it; the arena and the dedicated allocations each under one lock. O(regions).
    pub(crate) fn copy_for_dump(&self) -> Result<PoolSnapshot, Error> {
        let (dedicated, quarantined) = self.dedicated.copy_for_dump()?;
        Ok(PoolSnapshot {
            pool_key: self.pool_key,
            memory_type_index: self.rules.memory_type_index,
            preferred_block_size: self.sizes().preferred,
            algorithm: self.rules.algorithm,
            ignores_granularity: self.rules.ignore_buffer_image_granularity,
            blocks: self.arena.copy_for_dump()?,
            dedicated,
            quarantined,
        })
    }

    /// Returns the bytes of bookkeeping. O(1).
    pub(crate) fn metadata_bytes(&self) -> usize {
        self.arena.metadata_bytes()
    }

    /// Checks all invariants and returns the first one that is broken. O(regions).
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.arena.validate()
    }
}
