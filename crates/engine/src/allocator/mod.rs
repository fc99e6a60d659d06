//! The front: choice of the type -> pool -> placement.

mod alias;
pub(crate) mod host_access;
pub(crate) mod host_ranges;
pub(crate) mod import;
mod many;
pub(crate) mod memory_type;
pub(crate) mod more_maps;
pub(crate) mod names;

use std::collections::LinkedList;
use std::sync::Arc;

use crate::check::{check_create_info, check_device, check_pool_allows, check_request};
use crate::device::{DeviceMemory, MemoryPropertyFlags as Property};
use crate::error::{Error, FailureFigures};
use crate::handle::{Allocation, AllocationId, CacheHint, PoolId};
use crate::heap::ledger::{HeapBudget, HeapLedger};
use crate::heap::memory_events::{MemoryEvent, WakeUp};
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::pools::pool::{Pool, Setup};
use crate::pools::prefetch::Prefetcher;
use crate::pools::registry::Pools;
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, PoolCreateInfo,
    ResourceUse,
};
use crate::statistics::{PoolStatistics, Statistics};
use crate::suballocator::RegionTag;
use crate::words::{bytes, counted};
use memory_type::{Candidates, MemoryTypes};
use more_maps::MoreMaps;
use names::Names;

pub use alias::AliasRequest;
pub use many::{FailedItem, Freed};

/// How an allocator is set up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllocatorOptions {
    /// Bytes a block in heaps above 1 GiB; `None`: 256 MiB.
    pub preferred_block_size: Option<u64>,
    /// Bytes a block in heaps up to 1 GiB; `None`: an eighth of the heap.
    pub preferred_small_heap_block_size: Option<u64>,
    /// `[i]`: bytes to hold of heap i at most; `u64::MAX` and missing ones do not limit.
    pub heap_size_limits: Vec<u64>,
    /// Which empty blocks are kept.
    pub empty_block_retention: EmptyBlockRetention,
    /// Whether more than `maxMemoryAllocationCount` memory objects may live, as long as the driver gives
    /// them: some allow more than they say. [`Allocator::take_pressed`] tells of the first time.
    pub exceed_allocation_count: bool,
    /// Whether a thread takes the next block before it is needed.
    pub prefetch: bool,
}

/// Allocates the memory of one device. Usable from many threads at once.
pub struct Allocator {
    // First, so that it has ended before the pools go.
    prefetcher: Option<Prefetcher>,
    setup: Setup,
    pub(crate) types: MemoryTypes,
    /// In bytes.
    largest_heap: u64,
    pub(crate) pools: Arc<Pools>,
    pub(crate) names: Names,
    pub(crate) more_maps: MoreMaps,
}

impl Allocator {
    /// Holds nothing yet.
    pub fn new(device: Arc<dyn DeviceMemory>, options: &AllocatorOptions) -> Result<Self, Error> {
        let info = device.info().clone();
        check_device(&info)?;
        let preferred_block_size = options.preferred_block_size;
        let preferred_small_heap_block_size = options.preferred_small_heap_block_size;
        for (name, size) in [
            ("preferred_block_size", preferred_block_size),
            ("preferred_small_heap_block_size", preferred_small_heap_block_size),
        ] {
            if size == Some(0) {
                return Err(Error::InvalidArgument(format!("{name} is 0")));
            }
        }
        if options.heap_size_limits.len() > info.heaps.len() {
            return Err(Error::InvalidArgument(format!(
                "heap_size_limits has {} entries, the device {}",
                options.heap_size_limits.len(),
                counted(info.heaps.len(), "heap")
            )));
        }
        let retention = options.empty_block_retention;
        if retention.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(Error::InvalidArgument(
                "the share of empty_block_retention is not from 0 to 1".into(),
            ));
        }
        let ledger = Arc::new(HeapLedger::new(
            device.clone(),
            &options.heap_size_limits,
            options.exceed_allocation_count,
        ));
        let prefetch = options.prefetch.then(Arc::default);
        let setup = Setup {
            device,
            ledger,
            preferred_block_size,
            preferred_small_heap_block_size,
            retention,
            prefetch,
        };
        let pools = Arc::new(Pools::new(&setup));
        let queue = setup.prefetch.clone();
        let prefetcher = queue.map(|queue| Prefetcher::start(queue, &pools)).transpose()?;
        let types = MemoryTypes::new(&info);
        let largest_heap = info.heaps.iter().map(|heap| heap.size).max().unwrap_or(0);
        Ok(Self {
            prefetcher,
            setup,
            types,
            largest_heap,
            pools,
            names: Names::default(),
            more_maps: MoreMaps::default(),
        })
    }

    /// The device it serves.
    pub fn device(&self) -> &Arc<dyn DeviceMemory> {
        &self.setup.device
    }

    /// Bytes of a block of a memory type, once the first few smaller ones exist.
    pub fn preferred_block_size(&self, memory_type_index: u32) -> u64 {
        self.pools.defaults[memory_type_index as usize].sizes().preferred
    }

    /// The memory type that a request would get first.
    pub fn find_memory_type_index(
        &self,
        memory_type_bits: u32,
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
    ) -> Result<u32, Error> {
        check_create_info(create_info)?;
        let candidates = Candidates::new(&self.types, memory_type_bits, create_info, resource_use);
        let none = || candidates.none_found(self.device().info(), memory_type_bits, create_info);
        candidates.best(&self.types).ok_or_else(none)
    }

    /// Makes a pool, and takes its first blocks from the driver.
    pub fn create_pool(&self, rules: &PoolCreateInfo) -> Result<PoolId, Error> {
        self.pools.create(&self.setup, rules)
    }

    /// Gives a pool's memory back. Refused while something lives in it.
    pub fn destroy_pool(&self, id: PoolId) -> Result<(), Error> {
        self.pools.destroy(id)
    }

    /// What a pool was made of.
    pub fn pool_info(&self, id: PoolId) -> Result<PoolCreateInfo, Error> {
        Ok(*self.pools.get(id)?.rules())
    }

    /// Counts a pool. O(regions).
    pub fn statistics_of_pool(&self, id: PoolId) -> Result<Statistics, Error> {
        Ok(self.pools.get(id)?.statistics())
    }

    /// Allocates without any call of the driver, or answers `None`: then
    /// [`allocate`](Self::allocate) has to. O(1); never waits but for a short lock.
    ///
    /// Inlined, as what it gives was stored in parts: to copy it as a whole at each return would wait for
    /// all stores before it.
    #[inline(always)]
    pub fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        if check_request(request).is_err() {
            return None;
        }
        self.first_pool(request, &mut None)?.try_allocate(request)
    }

    /// The pool that a request goes to first, if its resource may live there; kept in `custom` if it is one
    /// that the caller made.
    #[inline(always)]
    fn first_pool<'a>(
        &'a self,
        request: &AllocationRequest,
        custom: &'a mut Option<Arc<Pool>>,
    ) -> Option<&'a Pool> {
        let Some(id) = request.create_info.pool else {
            return Some(&self.pools.defaults[self.best_memory_type(request)? as usize]);
        };
        let pool = custom.insert(self.pools.get(id).ok()?);
        let bits = request.requirements.memory_type_bits;
        let serves = bits >> pool.rules().memory_type_index & 1 == 1
            && check_pool_allows(pool.rules(), &request.create_info).is_ok();
        serves.then_some(&**pool)
    }

    /// The cheapest memory type that a request may go to.
    fn best_memory_type(&self, request: &AllocationRequest) -> Option<u32> {
        self.candidates(request).best(&self.types)
    }

    /// The memory types that a request may go to.
    #[inline(always)]
    pub(crate) fn candidates(&self, request: &AllocationRequest) -> Candidates {
        let bits = request.requirements.memory_type_bits;
        Candidates::new(&self.types, bits, &request.create_info, request.resource_use)
    }

    /// Whether a pool that a request may go to could serve it if it were empty.
    fn could_serve(&self, request: &AllocationRequest) -> bool {
        if let Some(id) = request.create_info.pool {
            let pool = self.pools.get(id);
            return pool.is_ok_and(|pool| pool.rules().fallback || pool.could_serve(request));
        }
        let mut candidates = self.candidates(request);
        while let Some(memory_type) = candidates.best(&self.types) {
            if self.pools.defaults[memory_type as usize].could_serve(request) {
                return true;
            }
            candidates.strike(memory_type);
        }
        false
    }

    /// Allocates: from its pool, or the cheapest memory type first and the next one if it fails.
    /// May call the driver, but first does as [`try_allocate`](Self::try_allocate).
    #[inline(always)]
    pub fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        self.try_allocate(request).map_or_else(|| self.allocate_anyhow(request), Ok)
    }

    /// The same for who has just tried.
    #[inline(never)]
    pub fn allocate_anyhow(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        check_request(request)?;
        let first = match self.allocate_anywhere(request) {
            Err(error) if error.is_shortage() => error,
            Err(hopeless @ Error::OutOfDeviceMemory { .. }) => return Err(hopeless),
            other => {
                // A new block may have taken what empty ones of the same heap are kept in.
                self.trim_over_budget();
                return other;
            }
        };
        // Empty blocks that are kept for comfort must not be what is missing now.
        if request.create_info.flags.contains(Create::NEVER_ALLOCATE) || !self.release_spares() {
            return Err(first);
        }
        self.allocate_anywhere(request).map_err(|_| first)
    }

    fn allocate_anywhere(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let Some(id) = request.create_info.pool else {
            return self.allocate_in_types(request, None);
        };
        let pool = self.pools.get(id)?;
        let memory_type = pool.rules().memory_type_index;
        check_pool_allows(pool.rules(), &request.create_info)?;
        if request.requirements.memory_type_bits >> memory_type & 1 == 0 {
            return Err(Error::FeatureNotPresent(format!(
                "the resource cannot live in memory type {memory_type}, which is the pool's \
                 (memoryTypeBits {:#x})",
                request.requirements.memory_type_bits
            )));
        }
        match pool.allocate(request) {
            // Also what this pool has not: memory objects of one allocation.
            Err(error)
                if pool.rules().fallback
                    && (error.leads_on() || matches!(error, Error::FeatureNotPresent(_))) =>
            {
                let made = self.fall_back(pool.rules(), request);
                made.map_err(|last| last.unless_hopeful(&error))
            }
            made => made,
        }
    }

    /// Allocates from the default pools what a custom one has no room for: from that of its own memory
    /// type first, whatever the request says, as the pool would have. Another type has to be of the
    /// kind that the caller sees of the pool's: host-visible and coherent where that is.
    fn fall_back(
        &self,
        rules: &PoolCreateInfo,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let own = rules.memory_type_index;
        let visible = Property::HOST_VISIBLE | Property::HOST_COHERENT | Property::PROTECTED;
        let mut request = *request;
        let create_info = &mut request.create_info;
        create_info.pool = None;
        create_info.export_handle_types |= rules.export_handle_types;
        create_info.flags -= Create::UPPER_ADDRESS;
        create_info.required_flags |= self.device().info().flags_of(own) & visible;
        match self.pools.defaults[own as usize].allocate(&request) {
            Err(error) if error.leads_on() => self.allocate_in_types(&request, Some((own, error))),
            made => made,
        }
    }

    /// From the cheapest memory type first; not from one that has `failed` before.
    fn allocate_in_types(
        &self,
        request: &AllocationRequest,
        failed: Option<(u32, Error)>,
    ) -> Result<Allocation, Error> {
        let mut candidates = self.candidates(request);
        let mut first_error = failed.map(|(memory_type, error)| {
            candidates.strike(memory_type);
            error
        });
        while let Some(memory_type) = candidates.best(&self.types) {
            match self.pools.defaults[memory_type as usize].allocate(request) {
                Err(error) if error.leads_on() => {
                    first_error = Some(match first_error {
                        None => error,
                        Some(first) => first.unless_hopeful(&error),
                    });
                    candidates.strike(memory_type);
                }
                other => return other,
            }
        }
        let bits = request.requirements.memory_type_bits;
        let none = || candidates.none_found(self.device().info(), bits, &request.create_info);
        Err(first_error.unwrap_or_else(none))
    }

    /// Frees an allocation: its place is free at once, the driver's part is in the [`Release`].
    pub fn free(&self, id: AllocationId) -> Result<Release, Error> {
        let mut release = Release::default();
        let freed = self.pools.in_home(id.home(), |pool| pool.free(id, &mut release));
        self.forget(id, freed.ok_or(Error::UseAfterFree)?, &mut release);
        Ok(release)
    }

    /// After its end, by the tag it had: what is kept beside the region of few.
    #[inline]
    fn forget(&self, id: AllocationId, tag: RegionTag, release: &mut Release) {
        if tag.named {
            self.names.remove(id);
        }
        self.forget_maps(id, tag, release);
    }

    #[inline]
    pub(crate) fn forget_maps(&self, id: AllocationId, tag: RegionTag, release: &mut Release) {
        if tag.map_count == u8::MAX {
            release.unmap_more(self.more_maps.take(id));
        }
    }

    /// Frees an allocation in which a buffer lies. Its place is free at once; `destroy`, which ends the
    /// buffer and runs in any case, comes before the driver can get the memory back, whoever frees the
    /// rest of the block meanwhile: Vulkan allows the memory to go first, some drivers crash. In this
    /// order the free is done while the processor waits for what the driver keeps of the buffer. Not for
    /// images: drivers may keep something about the place of one until they destroy it.
    #[inline]
    pub fn free_around(&self, id: AllocationId, destroy: impl FnOnce()) -> Result<Release, Error> {
        let (mut release, mut lease) = (Release::default(), None);
        let free = |pool: &Pool| pool.free_leased(id, &mut release, &mut lease);
        let freed = self.pools.in_home(id.home(), free);
        if let Some(tag) = freed {
            self.forget(id, tag, &mut release);
        }
        destroy();
        freed.ok_or(Error::UseAfterFree)?;
        if let Some(last) = lease.and_then(Arc::into_inner) {
            release.free(Arc::new(last));
        }
        Ok(release)
    }

    /// Gives empty blocks that are kept back to the driver, but for those of `min_block_count`;
    /// how many bytes. One in which a buffer is being destroyed by another thread goes right after that.
    pub fn trim(&self) -> u64 {
        self.pools.release_empties(|_| true, false).bytes()
    }

    /// The same; whether there were any.
    pub fn release_spares(&self) -> bool {
        self.trim() > 0
    }

    /// Ends the work in the background, and waits for the call of the driver that it may be in.
    pub fn stop_prefetch(&self) {
        if let Some(prefetcher) = &self.prefetcher {
            prefetcher.stop();
        }
    }

    /// The same, and gives every empty block back: the device may go.
    pub fn close(&self) {
        self.stop_prefetch();
        drop(self.pools.release_empties(|_| true, true));
    }

    /// Gives empty blocks of heaps that are over their budget back.
    fn trim_over_budget(&self) {
        let ledger = &self.setup.ledger;
        let over = |pool: &Pool| ledger.is_over_budget(pool.rules().memory_type_index);
        let heaps = 0..self.device().info().heaps.len() as u32;
        if heaps.into_iter().any(|heap| ledger.kept(heap) > 0 && ledger.is_heap_over_budget(heap)) {
            drop(self.pools.release_empties(over, false));
        }
    }

    /// What an allocation is and where.
    pub fn info(&self, id: AllocationId) -> Result<Allocation, Error> {
        let (tag, memory, offset, size) = self.update_tag(id, |tag| *tag)?;
        let mapped = if tag.persistently_mapped { memory.mapped_at() } else { None };
        Ok(Allocation {
            id,
            memory: memory.handle,
            offset,
            size,
            memory_type_index: memory.memory_type_index,
            mapped: mapped.map(|address| address.at(offset)),
            hint: CacheHint::default(),
        })
    }

    /// Looks an allocation up and changes its tag; gives its memory, its offset there and its size.
    pub(crate) fn update_tag<R>(
        &self,
        id: AllocationId,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Result<(R, Arc<MemoryObject>, u64, u64), Error> {
        let updated = self.pools.in_home(id.home(), |pool| pool.update_tag(id, update));
        updated.ok_or(Error::UseAfterFree)
    }

    /// Names an allocation, or takes its name away.
    pub fn set_name(&self, id: AllocationId, name: Option<&str>) -> Result<(), Error> {
        if let Some(name) = name {
            // Before the tag says so: a free in between then finds the name, or the tag is refused.
            self.names.set(id, name)?;
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
        if tag.named { self.names.get(id) } else { Ok(None) }
    }

    /// Counts a memory type, custom pools included. O(regions).
    pub fn statistics_of_type(&self, memory_type_index: u32) -> Statistics {
        let mut statistics = self.pools.defaults[memory_type_index as usize].statistics();
        self.pools.each_custom(|pool| {
            if pool.rules().memory_type_index == memory_type_index {
                statistics.add(&pool.statistics());
            }
        });
        statistics
    }

    /// Counts every pool once, the default ones first: sums over these agree with each other, though
    /// others allocate meanwhile. O(regions).
    pub fn statistics_of_pools(&self) -> Result<Vec<PoolStatistics>, Error> {
        let (mut all, mut failed) = (Vec::new(), false);
        self.pools.each(|pool| {
            failed = failed || all.try_reserve(1).is_err();
            if failed {
                return;
            }
            all.push(PoolStatistics {
                home: pool.home(),
                memory_type_index: pool.rules().memory_type_index,
                statistics: pool.statistics(),
            });
        });
        if failed {
            return Err(Error::NoHostMemory("the statistics of all pools"));
        }
        Ok(all)
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for index in 0..self.pools.defaults.len() {
            total.add(&self.statistics_of_type(index as u32));
        }
        total
    }

    /// Asks the driver for usage and budget of all heaps, where it knows them. To be called once a
    /// frame; allocations in between count from there.
    pub fn refresh_budget(&self) {
        self.setup.ledger.refresh();
        self.trim_over_budget();
        if self.prefetcher.is_some() {
            self.pools.each(Pool::retry_prefetch);
        }
    }

    /// From which share of its budget on a heap counts as pressed; `None`: none does.
    pub fn set_pressure_threshold(&self, share: Option<f64>) {
        self.setup.ledger.set_pressure_threshold(share);
    }

    /// Bit i: the usage of heap i has come to the threshold since this was asked last.
    /// [`PAST_ALLOCATION_COUNT`](crate::PAST_ALLOCATION_COUNT), once: more memory objects live than the
    /// device says it allows. [`MEMORY_EVENTS`](crate::MEMORY_EVENTS): there are some to take.
    pub fn take_pressed(&self) -> u32 {
        self.setup.ledger.take_pressed()
    }

    /// Keeps an event for each memory object that the driver gives or takes back from now on, whatever
    /// thread it happens on, and calls `wake_up` when there is a first one; with `None` no longer.
    pub fn watch_memory(&self, wake_up: Option<WakeUp>) {
        self.setup.ledger.watch_memory(wake_up);
    }

    /// The events since this was called last, in the order in which they happened.
    pub fn take_memory_events(&self) -> LinkedList<MemoryEvent> {
        self.setup.ledger.take_memory_events()
    }

    /// Usage and budget of every heap. Quick enough for every frame.
    pub fn heap_budgets(&self) -> Vec<HeapBudget> {
        self.setup.ledger.refresh_if_old();
        let info = self.device().info();
        let mut budgets: Vec<HeapBudget> = (0..info.heaps.len() as u32)
            .map(|heap| {
                let (block_count, block_bytes) = self.setup.ledger.held(heap);
                let (usage, budget) = self.setup.ledger.usage_and_budget(heap);
                HeapBudget { block_count, block_bytes, usage, budget, ..HeapBudget::default() }
            })
            .collect();
        let mut count = |pool: &Pool| {
            let heap = info.heap_of(pool.rules().memory_type_index) as usize;
            let (allocations, bytes) = pool.live();
            budgets[heap].allocation_count += allocations;
            budgets[heap].allocation_bytes += bytes;
        };
        self.pools.each(&mut count);
        budgets
    }

    /// An error if no heap could ever hold `size` bytes. Lets callers refuse a resource before the
    /// driver has to.
    #[inline]
    pub fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.largest_heap { Ok(()) } else { Err(self.larger_than_any_heap(size)) }
    }

    #[cold]
    fn larger_than_any_heap(&self, size: u64) -> Error {
        let reason = format!("the largest heap has {}", bytes(self.largest_heap));
        let figures = FailureFigures { size, is_hopeless: true, ..FailureFigures::default() };
        Error::OutOfDeviceMemory { reason, figures }
    }

    /// The same for many, of `size` bytes in all: an error if all heaps together could not hold them.
    pub fn check_total(&self, size: u64) -> Result<(), Error> {
        let heaps = &self.device().info().heaps;
        let total = heaps.iter().fold(0u64, |total, heap| total.saturating_add(heap.size));
        if size <= total {
            return Ok(());
        }
        let reason = format!("all heaps together have {}", bytes(total));
        let figures = FailureFigures { size, is_hopeless: true, ..FailureFigures::default() };
        Err(Error::OutOfDeviceMemory { reason, figures })
    }

    /// Figures for an error about `size` bytes: of a memory type and its heap where it is known.
    pub fn figures(&self, memory_type_index: Option<u32>, size: u64) -> FailureFigures {
        match memory_type_index {
            Some(index) => self.setup.ledger.figures(index, size),
            None => FailureFigures { size, ..FailureFigures::default() },
        }
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        let mut bytes = 0;
        self.pools.each(|pool| bytes += pool.metadata_bytes());
        bytes
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        let mut checked = Ok(());
        self.pools.each(|pool| {
            if checked.is_ok() {
                let memory_type = pool.rules().memory_type_index;
                checked = pool
                    .validate()
                    .map_err(|broken| format!("memory type {memory_type}: {broken}"));
            }
        });
        checked
    }
}
