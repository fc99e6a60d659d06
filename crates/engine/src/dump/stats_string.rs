//! Dumps of all allocations in VMA's JSON format (`vmaBuildStatsString`), for tools that read it.
//!
//! Each pool is copied under its lock and written after the lock is released: other threads wait for a
//! copy of 32 bytes per region, not for the text.
//!
//! Data that VMA does not have is written under further top-level keys (`additions.rs`), which tools for
//! VMA ignore.

use crate::allocator::Allocator;
use crate::allocator::names::Names;
use crate::device::{DeviceInfo, MemoryHeapFlags, MemoryPropertyFlags};
use crate::dump::describe::{Describe, type_name};
use crate::dump::json::JsonWriter;
use crate::error::Error;
use crate::handle::{AllocationId, PoolId, PoolKey, SlotKey};
use crate::heap::ledger::HeapBudget;
use crate::pools::snapshot::{NO_ROOM, PoolSnapshot, RegionSnapshot, count, custom_pools_of};
use crate::request::{Algorithm, ResourceKind};
use crate::statistics::Statistics;
use crate::suballocator::RegionView;
use crate::virtual_block::block::VirtualBlock;

impl Allocator {
    /// Returns a JSON dump (`vmaBuildStatsString`); blocks and allocations only if `detailed`.
    /// O(regions). May query the driver for the budget.
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn build_stats_string(
        &self,
        detailed: bool,
        describe: &dyn Describe,
    ) -> Result<String, Error> {
        let info = self.device().info().clone();
        let budgets = self.heap_budgets();
        let mut pools = Vec::new();
        let mut by_type = vec![Statistics::default(); info.types.len()];
        if detailed {
            let mut copied: Result<(), Error> = Ok(());
            self.pools.each(|pool| {
                let mut copy = || {
                    let room = pools.try_reserve(1);
                    room.map_err(|_| NO_ROOM)?;
                    pools.push(pool.copy_for_dump()?);
                    Ok(())
                };
                if copied.is_ok() {
                    copied = copy();
                }
            });
            copied?;
            for pool in &pools {
                by_type[pool.memory_type_index as usize].add(&pool.statistics());
            }
        } else {
            for (index, statistics) in by_type.iter_mut().enumerate() {
                *statistics = self.statistics_of_type(index as u32);
            }
        }
        let regions: usize =
            pools.iter().map(|pool| pool.blocks.regions.len() + pool.dedicated.len()).sum();
        let mut json = JsonWriter::with_capacity(8192 + regions * 96);
        json.object(|json| {
            json.key("General").object(|json| general(json, &info));
            json.key("Total").object(|json| stats(json, &sum(&by_type)));
            json.key("MemoryInfo").object(|json| memory_info(json, &info, &budgets, &by_type));
            if detailed {
                let writer = PoolWriter { describe, names: &self.names };
                json.key("DefaultPools").object(|json| writer.default_pools(json, &pools));
                json.key("CustomPools").object(|json| {
                    writer.custom_pools(json, &pools, info.types.len() as u32);
                });
                let evictions = self.total_eviction_statistics();
                let types = info.types.len() as u32;
                let counted = (&evictions, &sum(&by_type));
                crate::dump::additions::write(json, describe, &pools, types, counted);
            }
        });
        json.finish()
    }
}

fn sum<'a>(all: impl IntoIterator<Item = &'a Statistics>) -> Statistics {
    let mut total = Statistics::default();
    all.into_iter().for_each(|it| total.add(it));
    total
}

fn general(json: &mut JsonWriter, info: &DeviceInfo) {
    json.key("API").string("Vulkan");
    // The fields of `VK_MAKE_API_VERSION`.
    let version = info.api_version;
    let (major, minor, patch) = (version >> 22 & 0x7f, version >> 12 & 0x3ff, version & 0xfff);
    json.key("apiVersion").string(&format!("{major}.{minor}.{patch}"));
    json.key("GPU").string(&info.name);
    json.field("deviceType", info.device_type as u64);
    json.field("maxMemoryAllocationCount", u64::from(info.limits.max_memory_allocation_count));
    json.field("bufferImageGranularity", info.limits.buffer_image_granularity);
    json.field("nonCoherentAtomSize", info.limits.non_coherent_atom_size);
    json.field("memoryHeapCount", info.heaps.len() as u64);
    json.field("memoryTypeCount", info.types.len() as u64);
}

/// Writes the counts of VMA, for which margins and what is in quarantine are unused ranges.
fn stats(json: &mut JsonWriter, it: &Statistics) {
    let it = it.with_held_unused();
    json.field("BlockCount", it.block_count);
    json.field("BlockBytes", it.block_bytes);
    json.field("AllocationCount", it.allocation_count);
    json.field("AllocationBytes", it.allocation_bytes);
    json.field("UnusedRangeCount", it.unused_range_count);
    if it.allocation_count > 0 {
        json.field("AllocationSizeMin", it.allocation_size_min);
        json.field("AllocationSizeMax", it.allocation_size_max);
    }
    if it.unused_range_count > 0 {
        json.field("UnusedRangeSizeMin", it.unused_range_size_min);
        json.field("UnusedRangeSizeMax", it.unused_range_size_max);
    }
}

fn memory_info(
    json: &mut JsonWriter,
    info: &DeviceInfo,
    budgets: &[HeapBudget],
    by_type: &[Statistics],
) {
    let types = || info.types.iter().zip(by_type).enumerate();
    for (index, (heap, budget)) in info.heaps.iter().zip(budgets).enumerate() {
        let of_heap = |it: u32| it as usize == index;
        json.numbered_key("Heap ", index as u64).object(|json| {
            json.key("Flags").array(|json| {
                let known = MemoryHeapFlags::DEVICE_LOCAL | MemoryHeapFlags::MULTI_INSTANCE;
                names_of(json, heap.flags.iter_names().map(|(name, _)| name));
                rest(json, (heap.flags - known).bits());
            });
            json.field("Size", heap.size);
            json.key("Budget").object(|json| {
                json.field("BudgetBytes", budget.budget);
                json.field("UsageBytes", budget.usage);
            });
            let here = types().filter(|(_, (it, _))| of_heap(it.heap_index)).map(|(_, it)| it.1);
            json.key("Stats").object(|json| stats(json, &sum(here)));
            json.key("MemoryPools").object(|json| {
                for (number, (memory_type, statistics)) in types() {
                    if !of_heap(memory_type.heap_index) {
                        continue;
                    }
                    json.numbered_key("Type ", number as u64).object(|json| {
                        json.key("Flags").array(|json| property_names(json, memory_type.flags));
                        json.key("Stats").object(|json| stats(json, statistics));
                    });
                }
            });
        });
    }
}

fn property_names(json: &mut JsonWriter, flags: MemoryPropertyFlags) {
    let mut known = MemoryPropertyFlags::empty();
    for (name, flag) in flags.iter_names() {
        known |= flag;
        json.string(name);
    }
    rest(json, (flags - known).bits());
}

fn names_of<'a>(json: &mut JsonWriter, names: impl Iterator<Item = &'a str>) {
    names.for_each(|name| json.string(name));
}

/// Writes bits without a name like VMA: one number after the names.
fn rest(json: &mut JsonWriter, bits: u32) {
    if bits != 0 {
        json.number(u64::from(bits));
    }
}

struct PoolWriter<'a> {
    describe: &'a dyn Describe,
    names: &'a Names,
}

impl PoolWriter<'_> {
    fn default_pools(&self, json: &mut JsonWriter, pools: &[PoolSnapshot]) {
        for pool in pools {
            if let PoolKey::Default(index) = pool.pool_key {
                json.numbered_key("Type ", u64::from(index)).object(|json| self.pool(json, pool));
            }
        }
    }

    fn custom_pools(&self, json: &mut JsonWriter, pools: &[PoolSnapshot], types: u32) {
        for memory_type in 0..types {
            let mut of_type = custom_pools_of(pools, memory_type).peekable();
            if of_type.peek().is_none() {
                continue;
            }
            json.numbered_key("Type ", u64::from(memory_type)).array(|json| {
                for (id, pool) in of_type {
                    json.object(|json| self.custom_pool(json, id, pool));
                }
            });
        }
    }

    fn custom_pool(&self, json: &mut JsonWriter, id: PoolId, pool: &PoolSnapshot) {
        // The slot, not an index in a list: it does not change while the pool exists, so that two dumps
        // can be compared.
        let number = id.0.index();
        let name = self.describe.pool(id);
        let name = name.map_or(number.to_string(), |name| format!("{number} - {name}"));
        json.key("Name").string(&name);
        json.key("Flags").array(|json| {
            if pool.ignores_granularity {
                json.string("IGNORE_BUFFER_IMAGE_GRANULARITY");
            }
            match pool.algorithm {
                Algorithm::Tlsf => {}
                Algorithm::Linear => json.string("LINEAR_ALGORITHM"),
                Algorithm::Buddy => json.string("BUDDY_ALGORITHM"),
            }
        });
        self.pool(json, pool);
    }

    fn pool(&self, json: &mut JsonWriter, pool: &PoolSnapshot) {
        json.field("PreferredBlockSize", pool.preferred_block_size);
        json.key("Blocks").object(|json| {
            for (block, regions) in pool.blocks.each() {
                json.numbered_key("", u64::from(block.id)).object(|json| {
                    json.field("MapRefCount", block.memory.map_count());
                    block_counts(
                        json,
                        block.memory.size,
                        regions.iter().map(|it| it.view.region()),
                    );
                    json.key("Suballocations").array(|json| {
                        regions.iter().for_each(|region| self.region(json, pool.pool_key, region));
                    });
                });
            }
        });
        json.key("DedicatedAllocations").array(|json| {
            for it in &pool.dedicated {
                let id = AllocationId::new(pool.pool_key, true, it.key);
                json.element("{");
                self.parameters(json, id, it.kind, it.size(), it.named);
            }
        });
    }

    fn region(&self, json: &mut JsonWriter, pool_key: PoolKey, region: &RegionSnapshot) {
        let RegionView { offset, size, live } = region.view.region();
        json.element("{\"Offset\":");
        json.raw_number(offset);
        match live {
            None => free(json, size),
            Some((key, kind)) => {
                let id = AllocationId::new(pool_key, false, key);
                json.raw(",");
                self.parameters(json, id, kind, size, region.named);
            }
        }
    }

    fn parameters(
        &self,
        json: &mut JsonWriter,
        id: AllocationId,
        kind: ResourceKind,
        size: u64,
        named: bool,
    ) {
        json.raw("\"Type\":\"");
        json.raw(type_name(kind));
        json.raw("\",\"Size\":");
        json.raw_number(size);
        let description = self.describe.allocation(id);
        json.raw(",\"Usage\":");
        json.raw_number(description.usage);
        if !description.custom_data.is_empty() {
            json.raw_text(",\"CustomData\":", description.custom_data);
        }
        match if named { self.names.get(id) } else { Ok(None) } {
            Ok(Some(name)) => json.raw_text(",\"Name\":", &name),
            Ok(None) => {}
            Err(_) => json.fail(),
        }
        json.raw("}");
    }
}

fn free(json: &mut JsonWriter, size: u64) {
    json.raw(",\"Type\":\"FREE\",\"Size\":");
    json.raw_number(size);
    json.raw("}");
}

fn block_counts(json: &mut JsonWriter, size: u64, regions: impl Iterator<Item = RegionView>) {
    let mut counts = Statistics::default();
    regions.for_each(|region| count(&mut counts, &region));
    json.field("TotalBytes", size);
    json.field("UnusedBytes", size - counts.allocation_bytes);
    json.field("Allocations", counts.allocation_count);
    json.field("UnusedRanges", counts.unused_range_count);
}

impl VirtualBlock {
    /// Returns the block's regions as JSON (`vmaBuildVirtualBlockStatsString`); the single regions only
    /// if `detailed`, with the text of `custom_data` as VMA's `CustomData`. O(regions).
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn build_stats_string<'a>(
        &self,
        detailed: bool,
        custom_data: &dyn Fn(SlotKey) -> Option<&'a str>,
    ) -> Result<String, Error> {
        let mut regions = Vec::new();
        // Unused ranges lie between live ones and at both ends; only buddy has more.
        let most = self.live().0 as usize * 2 + 1;
        let mut failed = regions.try_reserve(most).is_err();
        self.visit(&mut |region| {
            failed = failed || regions.try_reserve(1).is_err();
            if !failed {
                regions.push(region);
            }
        });
        if failed {
            return Err(NO_ROOM);
        }
        let mut json = JsonWriter::with_capacity(128 + regions.len() * 64);
        json.object(|json| {
            block_counts(json, self.size(), regions.iter().copied());
            if detailed {
                json.key("Suballocations").array(|json| {
                    for region in &regions {
                        json.element("{\"Offset\":");
                        json.raw_number(region.offset);
                        let Some((key, _)) = region.live else {
                            free(json, region.size);
                            continue;
                        };
                        json.raw(",\"Type\":\"UNKNOWN\",\"Size\":");
                        json.raw_number(region.size);
                        if let Some(text) = custom_data(key) {
                            json.raw_text(",\"CustomData\":", text);
                        }
                        json.raw("}");
                    }
                });
            }
        });
        json.finish()
    }
}
