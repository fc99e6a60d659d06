//! The front: choice of the type -> pool -> placement.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::allocation::{Allocation, AllocationId, Home, PoolId, SlotMap};
use crate::budget::{HeapBudget, HeapLedger};
use crate::check::{check_create_info, check_device, check_request};
use crate::device::DeviceMemory;
use crate::error::{Error, FailureFigures};
use crate::memory_object::{MemoryObject, Release};
use crate::memory_type::Candidates;
use crate::names::Names;
use crate::pool::{Pool, check_pool};
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, PoolCreateInfo,
    ResourceUse,
};
use crate::statistics::Statistics;
use crate::suballocator::RegionTag;

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
    pub(crate) device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    preferred_block_size: Option<u64>,
    /// By memory type.
    defaults: Vec<Pool>,
    /// Empty while one is being made.
    custom: RwLock<SlotMap<Option<Arc<Pool>>>>,
    names: Names,
}

impl Allocator {
    /// Holds nothing yet.
    pub fn new(device: Arc<dyn DeviceMemory>, options: &AllocatorOptions) -> Result<Self, Error> {
        let info = device.info().clone();
        check_device(&info)?;
        let preferred_block_size = options.preferred_block_size;
        if preferred_block_size == Some(0) {
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
        let defaults = (0..info.types.len() as u32)
            .map(|index| Pool::of_type(&device, &ledger, index, preferred_block_size))
            .collect();
        let (custom, names) = (RwLock::default(), Names::default());
        Ok(Self { device, ledger, preferred_block_size, defaults, custom, names })
    }

    /// The device it serves.
    pub fn device(&self) -> &Arc<dyn DeviceMemory> {
        &self.device
    }

    /// Bytes of a block of a memory type, once the first few smaller ones exist.
    pub fn preferred_block_size(&self, memory_type_index: u32) -> u64 {
        self.defaults[memory_type_index as usize].sizes().preferred
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

    /// Makes a pool, and takes its first blocks from the driver.
    pub fn create_pool(&self, rules: &PoolCreateInfo) -> Result<PoolId, Error> {
        check_pool(&*self.device, &self.ledger, rules)?;
        // The key first: allocations of the pool carry it. Nobody knows it yet.
        let placeholder = self.custom.write().insert(None);
        let id = PoolId(placeholder);
        let made = Pool::custom(&self.device, &self.ledger, id, *rules, self.preferred_block_size);
        let mut custom = self.custom.write();
        match made {
            Ok(pool) => {
                if let Some(slot) = custom.get_mut(id.0) {
                    *slot = Some(Arc::new(pool));
                }
                Ok(id)
            }
            Err(error) => {
                custom.remove(id.0);
                Err(error)
            }
        }
    }

    /// Gives a pool's memory back. Refused while something lives in it.
    pub fn destroy_pool(&self, id: PoolId) -> Result<(), Error> {
        let mut custom = self.custom.write();
        let pool = custom.get(id.0).and_then(Option::as_ref).ok_or(Error::UseAfterFree)?;
        let (count, bytes) = pool.live();
        if count > 0 {
            return Err(Error::InvalidArgument(format!(
                "{count} allocations of {bytes} bytes live in the pool"
            )));
        }
        let pool = custom.remove(id.0);
        // The driver is called without the lock.
        drop(custom);
        drop(pool);
        Ok(())
    }

    fn pool(&self, id: PoolId) -> Result<Arc<Pool>, Error> {
        let custom = self.custom.read();
        custom.get(id.0).and_then(Option::as_ref).cloned().ok_or(Error::UseAfterFree)
    }

    /// What a pool was made of.
    pub fn pool_info(&self, id: PoolId) -> Result<PoolCreateInfo, Error> {
        Ok(*self.pool(id)?.rules())
    }

    /// Counts a pool. O(regions).
    pub fn statistics_of_pool(&self, id: PoolId) -> Result<Statistics, Error> {
        Ok(self.pool(id)?.statistics())
    }

    /// Allocates without any call of the driver, or answers `None`: then
    /// [`allocate`](Self::allocate) has to. O(1); never waits but for a short lock.
    pub fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        if check_request(request).is_err() {
            return None;
        }
        let bits = request.requirements.memory_type_bits;
        if let Some(id) = request.create_info.pool {
            let pool = self.pool(id).ok()?;
            let allowed = bits >> pool.rules().memory_type_index & 1 == 1;
            return if allowed { pool.try_allocate(request) } else { None };
        }
        let info = self.device.info();
        let candidates = Candidates::new(info, bits, &request.create_info, request.resource_use);
        let memory_type = candidates.best(info)?;
        self.defaults[memory_type as usize].try_allocate(request)
    }

    /// Allocates: from its pool, or the cheapest memory type first and the next one if it fails.
    /// May call the driver.
    pub fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        check_request(request)?;
        let first = match self.allocate_anywhere(request) {
            Err(error @ (Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. })) => error,
            other => return other,
        };
        // Empty blocks that are kept for comfort must not be what is missing now.
        if request.create_info.flags.contains(Create::NEVER_ALLOCATE) || !self.release_spares() {
            return Err(first);
        }
        self.allocate_anywhere(request).map_err(|_| first)
    }

    fn allocate_anywhere(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let Some(id) = request.create_info.pool else {
            return self.allocate_in_any_type(request);
        };
        let pool = self.pool(id)?;
        let memory_type = pool.rules().memory_type_index;
        if request.requirements.memory_type_bits >> memory_type & 1 == 0 {
            return Err(Error::FeatureNotPresent(format!(
                "the resource cannot live in memory type {memory_type}, which is the pool's \
                 (memoryTypeBits {:#x})",
                request.requirements.memory_type_bits
            )));
        }
        match pool.allocate(request) {
            Err(Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. })
                if pool.rules().fallback =>
            {
                let mut request = *request;
                request.create_info.pool = None;
                request.create_info.flags -= Create::UPPER_ADDRESS;
                self.allocate_in_any_type(&request)
            }
            made => made,
        }
    }

    fn allocate_in_any_type(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let info = self.device.info();
        let bits = request.requirements.memory_type_bits;
        let create_info = &request.create_info;
        let mut candidates = Candidates::new(info, bits, create_info, request.resource_use);
        let mut first_error = None;
        while let Some(memory_type) = candidates.best(info) {
            match self.defaults[memory_type as usize].allocate(request) {
                Err(error @ (Error::OutOfDeviceMemory { .. } | Error::TooManyObjects { .. })) => {
                    first_error.get_or_insert(error);
                    candidates.strike(memory_type);
                }
                other => return other,
            }
        }
        Err(first_error.unwrap_or_else(|| candidates.none_found(info, bits, create_info)))
    }

    /// Runs something on the pool of a home.
    fn in_home<R>(&self, home: Home, run: impl FnOnce(&Pool) -> Option<R>) -> Result<R, Error> {
        let result = match home {
            Home::Default(index) => self.defaults.get(index as usize).and_then(run),
            Home::Custom(id) => self.pool(id).ok().and_then(|pool| run(&pool)),
        };
        result.ok_or(Error::UseAfterFree)
    }

    /// Frees an allocation: its place is free at once, the driver's part is in the [`Release`].
    pub fn free(&self, id: AllocationId) -> Result<Release, Error> {
        let (release, tag) = self.in_home(id.home, |pool| pool.free(id))?;
        if tag.named {
            self.names.remove(id);
        }
        Ok(release)
    }

    /// Gives empty blocks that are kept back to the driver; whether there were any.
    pub fn release_spares(&self) -> bool {
        let mut releases: Vec<Release> = self.defaults.iter().map(Pool::release_spare).collect();
        let pools: Vec<Arc<Pool>> =
            self.custom.read().iter().filter_map(|(_, pool)| pool.clone()).collect();
        releases.extend(pools.iter().map(|pool| pool.release_spare()));
        releases.iter().any(Release::frees_memory)
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
        })
    }

    /// Looks an allocation up and changes its tag; gives its memory, its offset there and its size.
    pub(crate) fn update_tag<R>(
        &self,
        id: AllocationId,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Result<(R, Arc<MemoryObject>, u64, u64), Error> {
        self.in_home(id.home, |pool| pool.update_tag(id, update))
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

    /// Counts a memory type, custom pools included. O(regions).
    pub fn statistics_of_type(&self, memory_type_index: u32) -> Statistics {
        let mut statistics = self.defaults[memory_type_index as usize].statistics();
        self.each_custom(|pool| {
            if pool.rules().memory_type_index == memory_type_index {
                statistics.add(&pool.statistics());
            }
        });
        statistics
    }

    fn each_custom(&self, mut run: impl FnMut(&Pool)) {
        for (_, pool) in self.custom.read().iter() {
            if let Some(pool) = pool {
                run(pool);
            }
        }
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for index in 0..self.defaults.len() {
            total.add(&self.statistics_of_type(index as u32));
        }
        total
    }

    /// Asks the driver for usage and budget of all heaps, where it knows them. To be called once a
    /// frame; allocations in between count from there.
    pub fn refresh_budget(&self) {
        self.ledger.refresh();
    }

    /// Usage and budget of every heap. Quick enough for every frame.
    pub fn heap_budgets(&self) -> Vec<HeapBudget> {
        self.ledger.refresh_if_old();
        let info = self.device.info();
        let mut budgets: Vec<HeapBudget> = (0..info.heaps.len() as u32)
            .map(|heap| {
                let (block_count, block_bytes) = self.ledger.held(heap);
                let (usage, budget) = self.ledger.usage_and_budget(heap);
                HeapBudget { block_count, block_bytes, usage, budget, ..HeapBudget::default() }
            })
            .collect();
        let mut count = |pool: &Pool| {
            let heap = info.heap_of(pool.rules().memory_type_index) as usize;
            let (allocations, bytes) = pool.live();
            budgets[heap].allocation_count += allocations;
            budgets[heap].allocation_bytes += bytes;
        };
        self.defaults.iter().for_each(&mut count);
        self.each_custom(count);
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
        let mut bytes = self.defaults.iter().map(Pool::metadata_bytes).sum();
        self.each_custom(|pool| bytes += pool.metadata_bytes());
        bytes
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        let mut checked = Ok(());
        let mut check = |pool: &Pool| {
            if checked.is_ok() {
                let memory_type = pool.rules().memory_type_index;
                checked = pool
                    .validate()
                    .map_err(|broken| format!("memory type {memory_type}: {broken}"));
            }
        };
        self.defaults.iter().for_each(&mut check);
        self.each_custom(check);
        checked
    }
}
