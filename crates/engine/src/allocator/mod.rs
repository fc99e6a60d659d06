//! The front: choice of the type -> pool -> placement.

pub(crate) mod alias;
mod allocate;
mod figures;
pub(crate) mod host_access;
pub(crate) mod host_ranges;
pub(crate) mod import;
pub(crate) mod many;
pub(crate) mod memory_type;
mod more_maps;
pub(crate) mod names;
mod release;

use std::sync::Arc;

use crate::check::check_device;
use crate::device::DeviceMemory;
use crate::error::Error;
use crate::handle::{Allocation, AllocationId, CacheHint, PoolId};
use crate::heap::ledger::HeapLedger;
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::memory_object::MemoryObject;
use crate::pools::prefetch::Prefetcher;
use crate::pools::registry::Pools;
use crate::pools::setup::Setup;
use crate::request::PoolCreateInfo;
use crate::suballocator::RegionTag;
use crate::words::counted;
use memory_type::MemoryTypes;
use more_maps::MoreMaps;
use names::Names;

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
    types: MemoryTypes,
    /// In bytes.
    largest_heap: u64,
    pub(crate) pools: Arc<Pools>,
    pub(crate) names: Names,
    more_maps: MoreMaps,
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
}
