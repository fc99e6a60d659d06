//! [`Allocator`]: choice of the memory type, then the pool, then the place.

pub(crate) mod alias;
mod allocate;
mod evict;
mod figures;
pub(crate) mod host_access;
pub(crate) mod host_ranges;
pub(crate) mod import;
pub(crate) mod many;
pub(crate) mod memory_type;
mod more_maps;
pub(crate) mod names;
mod quarantine;
mod recorded;
mod release;

use std::sync::Arc;

use crate::check::check_device;
use crate::debugging::options::DebugOptions;
use crate::device::DeviceMemory;
use crate::error::Error;
use crate::eviction::Eviction;
use crate::handle::{Allocation, AllocationId, CacheHint, PoolId, PoolKey};
use crate::heap::ledger::HeapLedger;
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::memory_object::MemoryObject;
use crate::pools::prefetch::Prefetcher;
use crate::pools::registry::Pools;
use crate::pools::setup::Setup;
use crate::recording::{Told, ToldObject, is_active};
use crate::request::PoolCreateInfo;
use crate::suballocator::RegionTag;
use crate::words::counted;
use memory_type::MemoryTypes;
use more_maps::MoreMaps;
use names::Names;

/// Options of an allocator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllocatorOptions {
    /// Size of a block in heaps above 1 GiB, in bytes; `None`: 256 MiB.
    pub preferred_block_size: Option<u64>,
    /// Size of a block in heaps up to 1 GiB, in bytes; `None`: an eighth of the heap.
    pub preferred_small_heap_block_size: Option<u64>,
    /// `[i]` limits the bytes allocated from heap i; `u64::MAX` and missing entries mean no limit.
    pub heap_size_limits: Vec<u64>,
    /// Limits of the empty blocks that are retained.
    pub empty_block_retention: EmptyBlockRetention,
    /// Whether more than `maxMemoryAllocationCount` memory objects may be allocated, as long as the
    /// driver allows it: some drivers allow more than they report. [`Allocator::take_pressed`] reports
    /// the first excess.
    pub exceed_allocation_count: bool,
    /// Whether a thread allocates the next block before it is needed.
    pub prefetch: bool,
    /// Number of frames after its last use in which an evictable allocation cannot be lost: VMA 2.3's
    /// `frameInUseCount`.
    pub frames_in_use: u64,
    /// What helps to find faults of the program, in all pools that do not say otherwise.
    pub debug: DebugOptions,
}

/// Allocates the memory of one device. Usable from many threads at once.
pub struct Allocator {
    // The first field, so that the thread has ended before the pools are dropped.
    prefetcher: Option<Prefetcher>,
    setup: Setup,
    types: MemoryTypes,
    /// Size of the largest heap in bytes.
    largest_heap: u64,
    pub(crate) pools: Arc<Pools>,
    pub(crate) names: Names,
    more_maps: MoreMaps,
    eviction: Eviction,
}

impl Allocator {
    /// Creates an allocator without memory objects.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for invalid options or a device that violates Vulkan's limits.
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
        options.debug.check()?;
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
            ledger: ledger.clone(),
            preferred_block_size,
            preferred_small_heap_block_size,
            retention,
            prefetch,
            debug: options.debug,
            quarantines: Arc::default(),
        };
        let pools = Arc::new(Pools::new(&setup));
        let weak = Arc::downgrade(&pools);
        setup.quarantines.set_pools(weak);
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
            eviction: Eviction::new(options.frames_in_use, ledger.recorder.clone()),
        })
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<dyn DeviceMemory> {
        &self.setup.device
    }

    /// Returns the size in bytes of the blocks of a memory type, after the first few smaller ones.
    pub fn preferred_block_size(&self, memory_type_index: u32) -> u64 {
        self.pools.defaults[memory_type_index as usize].sizes().preferred
    }

    /// Creates a pool and allocates its first blocks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for invalid rules; those of the driver calls; [`Error::NoHostMemory`].
    pub fn create_pool(&self, rules: &PoolCreateInfo) -> Result<PoolId, Error> {
        let made = self.pools.create(&self.setup, rules);
        if is_active() {
            let made = made.as_ref().copied();
            self.recorder().tell_now(&Told::CreatePool(rules, made));
        }
        made
    }

    /// Destroys a pool and frees its memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it has live allocations; [`Error::UseAfterFree`] if the id is stale.
    pub fn destroy_pool(&self, id: PoolId) -> Result<(), Error> {
        self.end_quarantine_of(id);
        self.pools.destroy(id)?;
        self.eviction.forget_pool(PoolKey::Custom(id));
        if is_active() {
            self.recorder().tell_now(&Told::DestroyPool(id));
        }
        Ok(())
    }

    /// Returns the parameters that a pool was created with.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn pool_info(&self, id: PoolId) -> Result<PoolCreateInfo, Error> {
        Ok(*self.pools.get(id)?.rules())
    }

    /// Returns the description of an allocation.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
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

    /// Changes the tag of an allocation; returns the result, its memory object, its offset there and its
    /// size in bytes.
    pub(crate) fn update_tag<R>(
        &self,
        id: AllocationId,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Result<(R, Arc<MemoryObject>, u64, u64), Error> {
        let updated = self.pools.with_pool(id.pool_key(), |pool| pool.update_tag(id, update));
        updated.ok_or(Error::UseAfterFree)
    }

    /// Sets or removes the name of an allocation.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale; [`Error::NoHostMemory`].
    pub fn set_name(&self, id: AllocationId, name: Option<&str>) -> Result<(), Error> {
        if let Some(name) = name {
            // Before the tag is set: a concurrent free then either finds the name or makes `update_tag`
            // fail.
            self.names.set(id, name)?;
        }
        let named = self.update_tag(id, |tag| tag.named = name.is_some());
        if name.is_none() || named.is_err() {
            self.names.remove(id);
        }
        named?;
        if is_active() {
            self.recorder().tell_now(&Told::Name(ToldObject::Allocation(id), name));
        }
        Ok(())
    }

    /// Returns the name of an allocation, if it has one.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale; [`Error::NoHostMemory`].
    pub fn name(&self, id: AllocationId) -> Result<Option<String>, Error> {
        let (tag, ..) = self.update_tag(id, |tag| *tag)?;
        if tag.named { self.names.get(id) } else { Ok(None) }
    }
}
