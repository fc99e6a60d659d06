//! The front: choice of the type -> arena or dedicated -> placement.

use std::sync::Arc;

use crate::allocation::{Allocation, AllocationId, Home};
use crate::arena::{Arena, BlockSizes, Growth, Placed, take_memory};
use crate::budget::{HeapBudget, HeapLedger};
use crate::dedicated::Dedicated;
use crate::device::{
    DeviceInfo, DeviceMemory, HostAddress, MemoryAllocateInfo, MemoryPropertyFlags, MemoryRange,
};
use crate::error::{Error, FailureFigures};
use crate::memory_object::{MemoryObject, Release};
use crate::memory_type::Candidates;
use crate::names::Names;
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, MemoryUsage,
    ResourceUse,
};
use crate::statistics::Statistics;
use crate::suballocator::{RegionInfo, RegionRequest, RegionTag, Tlsf};

/// Offsets and sizes inside blocks are multiples of it: smaller remainders are of no use to any
/// resource, and would cost a region each.
const GRANULE: u64 = 16;

/// How an allocator is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorOptions {
    /// Bytes a block; `None`: an eighth of heaps up to 1 GiB, else 256 MiB.
    pub preferred_block_size: Option<u64>,
    /// `[i]`: bytes to hold of heap i at most; `u64::MAX` and missing ones do not limit.
    pub heap_size_limits: Vec<u64>,
}

/// Allocates the memory of one device. Usable from many threads at once.
pub struct Allocator {
    device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    /// By memory type.
    arenas: Vec<Arena>,
    /// By memory type.
    dedicated: Vec<Dedicated>,
    names: Names,
}

/// What stands behind a handle.
enum Found {
    Region(RegionInfo),
    Dedicated,
}

impl Allocator {
    /// Holds nothing yet.
    pub fn new(device: Arc<dyn DeviceMemory>, options: &AllocatorOptions) -> Result<Self, Error> {
        let info = device.info().clone();
        check_device(&info)?;
        if options.preferred_block_size == Some(0) {
            return Err(Error::InvalidArgument("preferred_block_size is 0".into()));
        }
        if options.heap_size_limits.len() > info.heaps.len() {
            return Err(Error::InvalidArgument(format!(
                "heap_size_limits has {} entries, the device {} heaps",
                options.heap_size_limits.len(),
                info.heaps.len()
            )));
        }
        let ledger = Arc::new(HeapLedger::new(device.clone(), &options.heap_size_limits));
        let arenas = (0u32..).zip(&info.types).map(|(index, memory_type)| {
            let heap_size = ledger.limit(memory_type.heap_index);
            let largest = heap_size.min(info.limits.max_memory_allocation_size);
            let mut sizes = BlockSizes::for_heap(heap_size, options.preferred_block_size);
            sizes.preferred = sizes.preferred.min(largest);
            let tlsf = Box::new(Tlsf::new(GRANULE, info.limits.buffer_image_granularity));
            Arena::new(device.clone(), ledger.clone(), index, sizes, tlsf)
        });
        let arenas = arenas.collect();
        let dedicated = info.types.iter().map(|_| Dedicated::default()).collect();
        Ok(Self { device, ledger, arenas, dedicated, names: Names::default() })
    }

    /// The device it serves.
    pub fn device(&self) -> &Arc<dyn DeviceMemory> {
        &self.device
    }

    /// Bytes of a block of a memory type, once the first few smaller ones exist.
    pub fn preferred_block_size(&self, memory_type_index: u32) -> u64 {
        self.arenas[memory_type_index as usize].sizes().preferred
    }

    /// The memory type that a request would get first.
    pub fn find_memory_type_index(
        &self,
        memory_type_bits: u32,
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
    ) -> Result<u32, Error> {
        check_create_info(create_info)?;
        let info = self.device.info();
        let candidates = Candidates::new(info, memory_type_bits, create_info, resource_use);
        let best = candidates.best(info);
        best.ok_or_else(|| candidates.none_found(info, memory_type_bits, create_info))
    }

    /// Allocates without any call of the driver, or answers `None`: then
    /// [`allocate`](Self::allocate) has to. O(1); never waits but for a short lock.
    pub fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        if check_request(request).is_err() {
            return None;
        }
        let info = self.device.info();
        let bits = request.requirements.memory_type_bits;
        let candidates = Candidates::new(info, bits, &request.create_info, request.resource_use);
        let memory_type = candidates.best(info)?;
        if self.wants_dedicated(memory_type, request) != Wish::No {
            return None;
        }
        let region = self.region_request(memory_type, request);
        let arena = &self.arenas[memory_type as usize];
        let home = Home::Arena(memory_type);
        if !self.is_to_be_mapped(memory_type, request) {
            let placed = arena.allocate_in_place(&region)?;
            return Some(self.finished(home, &placed, request, None));
        }
        let (placed, address) = arena.allocate_in_mapped_place(&region)?;
        self.mark_mapped(home, &placed);
        let mapped = Some(address.at(placed.offset));
        Some(self.finished(home, &placed, request, mapped))
    }

    /// Allocates: the cheapest memory type first, the next one if it fails. May call the driver.
    pub fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        check_request(request)?;
        let first = match self.allocate_in_any_type(request) {
            Err(error @ (Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. })) => error,
            other => return other,
        };
        // Empty blocks that are kept for comfort must not be what is missing now.
        if request.create_info.flags.contains(Create::NEVER_ALLOCATE) || !self.release_spares() {
            return Err(first);
        }
        self.allocate_in_any_type(request).map_err(|_| first)
    }

    fn allocate_in_any_type(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let info = self.device.info();
        let bits = request.requirements.memory_type_bits;
        let create_info = &request.create_info;
        let mut candidates = Candidates::new(info, bits, create_info, request.resource_use);
        let mut first_error = None;
        while let Some(memory_type) = candidates.best(info) {
            match self.allocate_in_type(memory_type, request) {
                Err(error @ (Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. })) => {
                    first_error.get_or_insert(error);
                    candidates.strike(memory_type);
                }
                other => return other,
            }
        }
        Err(first_error.unwrap_or_else(|| candidates.none_found(info, bits, create_info)))
    }

    fn allocate_in_type(
        &self,
        memory_type: u32,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let flags = request.create_info.flags;
        let never = flags.contains(Create::NEVER_ALLOCATE);
        let wish = self.wants_dedicated(memory_type, request);
        let mut refused = None;
        if wish != Wish::No && !never {
            match self.allocate_dedicated(memory_type, request) {
                Err(error @ (Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. }))
                    if wish == Wish::Should =>
                {
                    refused = Some(error);
                }
                made => return made,
            }
        } else if wish == Wish::Must {
            return Err(self.must_be_dedicated(memory_type, request));
        }
        let region = self.region_request(memory_type, request);
        let growth =
            Growth { allowed: !never, within_budget: flags.contains(Create::WITHIN_BUDGET) };
        let arena = &self.arenas[memory_type as usize];
        let error = match arena.allocate(&region, growth) {
            Ok(placed) => return self.map_if_asked(Home::Arena(memory_type), placed, request),
            Err(error) => error,
        };
        match error {
            // What stopped the better choice says more than that no block had room either.
            Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. } if refused.is_some() => {
                Err(refused.unwrap_or(error))
            }
            Error::OutOfDeviceMemory { .. } if !never => {
                // The last resort; the arena has tried smaller blocks before.
                match self.allocate_dedicated(memory_type, request) {
                    Err(Error::TooManyObjects { .. }) if region.size <= arena.sizes().preferred => {
                        Err(error)
                    }
                    other => other,
                }
            }
            error => Err(error),
        }
    }

    fn must_be_dedicated(&self, memory_type: u32, request: &AllocationRequest) -> Error {
        let figures = self.ledger.figures(memory_type, request.requirements.size);
        let reason = "it needs a memory object of its own, and NEVER_ALLOCATE forbids one".into();
        Error::OutOfDeviceMemory { reason, figures }
    }

    fn wants_dedicated(&self, memory_type: u32, request: &AllocationRequest) -> Wish {
        let needs = &request.requirements;
        let flags = self.device.info().flags_of(memory_type);
        if request.create_info.flags.contains(Create::DEDICATED_MEMORY)
            || needs.requires_dedicated
            || flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED)
        {
            return Wish::Must;
        }
        let sizes = self.arenas[memory_type as usize].sizes();
        let large = needs.size > sizes.preferred / 2;
        if (needs.prefers_dedicated || large) && !self.ledger.is_short_of_objects() {
            Wish::Should
        } else {
            Wish::No
        }
    }

    fn allocate_dedicated(
        &self,
        memory_type: u32,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let flags = request.create_info.flags;
        // Memory that names one resource may be bound to no other.
        let can_alias = flags.contains(Create::CAN_ALIAS);
        let dedicated =
            request.dedicated.filter(|_| !can_alias || request.requirements.requires_dedicated);
        let info = MemoryAllocateInfo {
            memory_type_index: memory_type,
            size: request.requirements.size,
            dedicated,
        };
        let within_budget = flags.contains(Create::WITHIN_BUDGET);
        let memory = take_memory(&self.device, &self.ledger, &info, within_budget, false)?;
        let memory = Arc::new(memory);
        let home = Home::Dedicated(memory_type);
        let key = self.dedicated[memory_type as usize].insert(memory.clone());
        let placed = Placed { key, memory, offset: 0 };
        self.map_if_asked(home, placed, request)
    }

    fn map_if_asked(
        &self,
        home: Home,
        placed: Placed,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let memory_type = placed.memory.memory_type_index;
        if !self.is_to_be_mapped(memory_type, request) {
            return Ok(self.finished(home, &placed, request, None));
        }
        match placed.memory.map() {
            Ok(address) => {
                self.mark_mapped(home, &placed);
                let mapped = Some(address.at(placed.offset));
                Ok(self.finished(home, &placed, request, mapped))
            }
            Err(error) => {
                let id = AllocationId { home, key: placed.key };
                drop(self.free(id));
                Err(error)
            }
        }
    }

    /// MAPPED asks for nothing where the memory cannot be mapped, as in VMA: with
    /// ALLOW_TRANSFER_INSTEAD the caller finds out by looking.
    fn is_to_be_mapped(&self, memory_type: u32, request: &AllocationRequest) -> bool {
        request.create_info.flags.contains(Create::MAPPED)
            && self.device.info().flags_of(memory_type).contains(MemoryPropertyFlags::HOST_VISIBLE)
    }

    fn mark_mapped(&self, home: Home, placed: &Placed) {
        let id = AllocationId { home, key: placed.key };
        let marked = self.update_tag(id, |tag| tag.persistently_mapped = true);
        debug_assert!(marked.is_ok());
    }

    fn finished(
        &self,
        home: Home,
        placed: &Placed,
        request: &AllocationRequest,
        mapped: Option<HostAddress>,
    ) -> Allocation {
        Allocation {
            id: AllocationId { home, key: placed.key },
            memory: placed.memory.handle,
            offset: placed.offset,
            size: request.requirements.size,
            memory_type_index: placed.memory.memory_type_index,
            mapped,
        }
    }

    fn region_request(&self, memory_type: u32, request: &AllocationRequest) -> RegionRequest {
        let info = self.device.info();
        let mut alignment =
            request.requirements.alignment.max(request.create_info.min_alignment).max(1);
        if info.is_non_coherent(memory_type) {
            // Two allocations in one atom would flush and invalidate each other.
            alignment = alignment.max(info.limits.non_coherent_atom_size);
        }
        RegionRequest {
            size: request.requirements.size,
            alignment,
            kind: request.kind,
            upper: false,
            strategy: request.create_info.strategy(),
        }
    }

    /// Frees an allocation: its place is free at once, the driver's part is in the [`Release`].
    pub fn free(&self, id: AllocationId) -> Result<Release, Error> {
        let freed = match id.home {
            Home::Arena(index) => self.arenas.get(index as usize).and_then(|it| it.free(id.key)),
            Home::Dedicated(index) => {
                self.dedicated.get(index as usize).and_then(|it| it.free(id.key))
            }
        };
        let (release, tag) = freed.ok_or(Error::UseAfterFree)?;
        if tag.named {
            self.names.remove(id);
        }
        Ok(release)
    }

    /// Gives empty blocks that are kept back to the driver; whether there were any.
    pub fn release_spares(&self) -> bool {
        let releases: Vec<Release> = self.arenas.iter().map(Arena::release_spare).collect();
        releases.iter().any(Release::frees_memory)
    }

    /// What an allocation is and where.
    pub fn info(&self, id: AllocationId) -> Result<Allocation, Error> {
        let (tag, memory, found) = self.update_tag(id, |tag| *tag)?;
        let (offset, size) = extent(&found, &memory);
        let mapped = if tag.persistently_mapped { memory.mapped_at() } else { None };
        Ok(Allocation {
            id,
            memory: memory.handle,
            offset,
            size,
            memory_type_index: memory.memory_type_index,
            mapped: mapped.map(|address| address.at(offset)),
        })
    }

    /// Looks an allocation up and changes its tag.
    fn update_tag<R>(
        &self,
        id: AllocationId,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Result<(R, Arc<MemoryObject>, Found), Error> {
        let found = match id.home {
            Home::Arena(index) => (self.arenas.get(index as usize))
                .and_then(|arena| arena.update_tag(id.key, update))
                .map(|(result, memory, info)| (result, memory, Found::Region(info))),
            Home::Dedicated(index) => (self.dedicated.get(index as usize))
                .and_then(|dedicated| dedicated.update_tag(id.key, update))
                .map(|(result, memory)| (result, memory, Found::Dedicated)),
        };
        found.ok_or(Error::UseAfterFree)
    }

    /// Maps an allocation; where it starts in the host's address space. Counts: each map has its
    /// [`unmap`](Self::unmap), 255 at most are open.
    pub fn map(&self, id: AllocationId) -> Result<HostAddress, Error> {
        let ((), memory, found) = self.update_tag(id, |_| ())?;
        let address = memory.map()?;
        // Counted after the driver has mapped it, so that a map that failed does not count, and so
        // that a free or an unmap of another thread never undoes one that has not happened yet.
        let counted = self.update_tag(id, |tag| {
            let more = tag.map_count.checked_add(1);
            tag.map_count = more.unwrap_or(u8::MAX);
            more.is_some()
        });
        match counted {
            Ok((true, ..)) => Ok(address.at(extent(&found, &memory).0)),
            Ok((false, ..)) => {
                memory.unmap(1);
                Err(Error::MemoryMap("mapped 255 times already".into()))
            }
            Err(error) => {
                memory.unmap(1);
                Err(error)
            }
        }
    }

    /// Undoes one [`map`](Self::map).
    pub fn unmap(&self, id: AllocationId) -> Result<(), Error> {
        let (counted, memory, _) = self.update_tag(id, |tag| {
            let fewer = tag.map_count.checked_sub(1);
            tag.map_count = fewer.unwrap_or(0);
            fewer.is_some()
        })?;
        if !counted {
            return Err(Error::InvalidArgument("not mapped".into()));
        }
        memory.unmap(1);
        Ok(())
    }

    /// Makes host writes to `size` bytes from `offset` of a mapped allocation visible to the
    /// device. Does nothing on coherent memory. `u64::MAX`: up to the end.
    pub fn flush(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        match self.host_range(id, offset, size)? {
            Some(range) => Ok(self.device.flush(&[range])?),
            None => Ok(()),
        }
    }

    /// Makes device writes visible to the host; see [`flush`](Self::flush).
    pub fn invalidate(&self, id: AllocationId, offset: u64, size: u64) -> Result<(), Error> {
        match self.host_range(id, offset, size)? {
            Some(range) => Ok(self.device.invalidate(&[range])?),
            None => Ok(()),
        }
    }

    fn host_range(
        &self,
        id: AllocationId,
        offset: u64,
        size: u64,
    ) -> Result<Option<MemoryRange>, Error> {
        let (tag, memory, found) = self.update_tag(id, |tag| *tag)?;
        let (start, length) = extent(&found, &memory);
        let size = if size == u64::MAX { length.saturating_sub(offset) } else { size };
        if offset > length || size > length - offset {
            return Err(Error::InvalidArgument(format!(
                "{size} bytes from offset {offset} are outside of the allocation's {length} bytes"
            )));
        }
        if size == 0 || !self.device.info().is_non_coherent(memory.memory_type_index) {
            return Ok(None);
        }
        if tag.map_count == 0 && !tag.persistently_mapped {
            return Err(Error::MemoryMap("only mapped memory is flushed or invalidated".into()));
        }
        // Rounded outward; the end of the object need not be a multiple.
        let atom = self.device.info().limits.non_coherent_atom_size;
        let from = (start + offset) / atom * atom;
        let to = (start + offset + size).next_multiple_of(atom).min(memory.size);
        let (memory, offset, size) = (memory.handle, from, to - from);
        Ok(Some(MemoryRange { memory, offset, size }))
    }

    /// Names an allocation, or takes its name away.
    pub fn set_name(&self, id: AllocationId, name: Option<&str>) -> Result<(), Error> {
        if name.is_some() {
            // Before the tag says so: a free in between then finds the name, or the tag is refused.
            self.names.set(id, name);
        }
        let named = self.update_tag(id, |tag| tag.named = name.is_some());
        if name.is_none() || named.is_err() {
            self.names.remove(id);
        }
        named.map(drop)
    }

    /// The name of an allocation.
    pub fn name(&self, id: AllocationId) -> Result<Option<String>, Error> {
        let (tag, ..) = self.update_tag(id, |tag| *tag)?;
        Ok(if tag.named { self.names.get(id) } else { None })
    }

    /// Counts a memory type. O(regions).
    pub fn statistics_of_type(&self, memory_type_index: u32) -> Statistics {
        let mut statistics = self.arenas[memory_type_index as usize].statistics();
        statistics.add(&self.dedicated[memory_type_index as usize].statistics());
        statistics
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for index in 0..self.arenas.len() {
            total.add(&self.statistics_of_type(index as u32));
        }
        total
    }

    /// Usage and budget of every heap. Quick enough for every frame.
    pub fn heap_budgets(&self) -> Vec<HeapBudget> {
        let info = self.device.info();
        let mut budgets: Vec<HeapBudget> = (0..info.heaps.len() as u32)
            .map(|heap| {
                let (block_count, block_bytes) = self.ledger.held(heap);
                let (usage, budget) = self.ledger.usage_and_budget(heap);
                HeapBudget { block_count, block_bytes, usage, budget, ..HeapBudget::default() }
            })
            .collect();
        for (index, memory_type) in info.types.iter().enumerate() {
            let heap = &mut budgets[memory_type.heap_index as usize];
            for (count, bytes) in [self.arenas[index].live(), self.dedicated[index].live()] {
                heap.allocation_count += count;
                heap.allocation_bytes += bytes;
            }
        }
        budgets
    }

    /// An error if no heap could ever hold `size` bytes. Lets callers refuse a resource before the
    /// driver has to.
    pub fn check_size(&self, size: u64) -> Result<(), Error> {
        let info = self.device.info();
        let largest = info.heaps.iter().map(|heap| heap.size).max().unwrap_or(0);
        if size <= largest {
            return Ok(());
        }
        let reason = format!("the largest heap has {largest} bytes");
        let figures = FailureFigures { size, ..FailureFigures::default() };
        Err(Error::OutOfDeviceMemory { reason, figures })
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        self.arenas.iter().map(Arena::metadata_bytes).sum()
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        for (index, arena) in self.arenas.iter().enumerate() {
            arena.validate().map_err(|broken| format!("memory type {index}: {broken}"))?;
        }
        Ok(())
    }
}

/// How much an allocation wants a memory object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    No,
    Should,
    Must,
}

fn extent(found: &Found, memory: &MemoryObject) -> (u64, u64) {
    match found {
        Found::Region(info) => (info.offset, info.size),
        Found::Dedicated => (0, memory.size),
    }
}

fn invalid(reason: impl Into<String>) -> Result<(), Error> {
    Err(Error::InvalidArgument(reason.into()))
}

fn check_device(info: &DeviceInfo) -> Result<(), Error> {
    let limits = &info.limits;
    if info.types.is_empty() || info.types.len() > 32 {
        return invalid(format!("a device with {} memory types", info.types.len()));
    }
    if info.heaps.iter().any(|heap| heap.size == 0) {
        return invalid("a heap of 0 bytes");
    }
    if info.types.iter().any(|it| it.heap_index as usize >= info.heaps.len()) {
        return invalid("a memory type of a heap that the device does not have");
    }
    for (name, value) in [
        ("bufferImageGranularity", limits.buffer_image_granularity),
        ("nonCoherentAtomSize", limits.non_coherent_atom_size),
    ] {
        if !value.is_power_of_two() {
            return invalid(format!("{name} is {value}, not a power of two"));
        }
    }
    Ok(())
}

fn check_request(request: &AllocationRequest) -> Result<(), Error> {
    let needs = &request.requirements;
    if needs.size == 0 {
        return invalid("size is 0");
    }
    if !needs.alignment.is_power_of_two() {
        return invalid(format!("alignment is {}, not a power of two", needs.alignment));
    }
    check_create_info(&request.create_info)
}

fn check_create_info(create_info: &AllocationCreateInfo) -> Result<(), Error> {
    let flags = create_info.flags;
    let unknown = flags - Create::all();
    if !unknown.is_empty() {
        return invalid(format!("AllocationCreateFlags has no bits {:#x}", unknown.bits()));
    }
    if create_info.min_alignment != 0 && !create_info.min_alignment.is_power_of_two() {
        let alignment = create_info.min_alignment;
        return invalid(format!("min_alignment is {alignment}, not a power of two"));
    }
    if flags.contains(Create::DEDICATED_MEMORY | Create::NEVER_ALLOCATE) {
        return invalid("DEDICATED_MEMORY and NEVER_ALLOCATE contradict each other");
    }
    if flags.contains(Create::HOST_ACCESS_MASK) {
        return invalid(
            "HOST_ACCESS_SEQUENTIAL_WRITE and HOST_ACCESS_RANDOM contradict each other: choose \
             RANDOM if the host reads",
        );
    }
    if (flags & Create::STRATEGY_MASK).bits().count_ones() > 1 {
        return invalid("more than one STRATEGY flag");
    }
    let host_access = flags.intersects(Create::HOST_ACCESS_MASK);
    if flags.contains(Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD) && !host_access {
        return invalid(
            "HOST_ACCESS_ALLOW_TRANSFER_INSTEAD needs HOST_ACCESS_SEQUENTIAL_WRITE or \
             HOST_ACCESS_RANDOM",
        );
    }
    let usage = create_info.usage;
    if usage.is_auto() && flags.contains(Create::MAPPED) && !host_access {
        return invalid(
            "MAPPED with MemoryUsage.AUTO needs HOST_ACCESS_SEQUENTIAL_WRITE or \
             HOST_ACCESS_RANDOM",
        );
    }
    if usage == MemoryUsage::GpuLazilyAllocated
        && (host_access || flags.intersects(Create::MAPPED | Create::NEVER_ALLOCATE))
    {
        return invalid(
            "GPU_LAZILY_ALLOCATED memory is dedicated and cannot be mapped: MAPPED, HOST_ACCESS \
             and NEVER_ALLOCATE contradict it",
        );
    }
    Ok(())
}
