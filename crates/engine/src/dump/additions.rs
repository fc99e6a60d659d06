//! Additions to VMA's dump format: call sites, aliases and what may be lost, under top-level keys of their own.
//!
//! They mirror the layout of the pools. A key in `Blocks` is the offset of an allocation whose block the
//! dump lists under that id, a key in `DedicatedAllocations` its index in that list:
//!
//! ```json
//! "CallSites": {"Sites": ["load.py:3 in load\nmain.py:9 in main"],
//!               "DefaultPools": {"Type 0": {"Blocks": {"0": {"4096": 0}}}}},
//! "Aliases": {"CustomPools": {"Type 1": {"0": {"DedicatedAllocations": {"2": [{"Offset": 0, ...}]}}}}},
//! "Evictable": {"EvictableCount": 1, "EvictableBytes": 64, "LostCount": 0, "LostBytes": 0,
//!               "LossCount": 0, "LossBytes": 0,
//!               "DefaultPools": {"Type 0": {"Blocks": {"0": {"4096": 17}}}}}
//! ```
//!
//! The values of `Evictable` are the frames of the last uses.

use crate::dump::describe::{AliasDescription, Describe, Description, type_name};
use crate::dump::json::JsonWriter;
use crate::eviction::EvictionStatistics;
use crate::handle::{AllocationId, PoolKey, SlotKey};
use crate::pools::snapshot::{PoolSnapshot, custom_pools_of};

/// Writes the additions that have content.
pub(super) fn write(
    json: &mut JsonWriter,
    describe: &dyn Describe,
    pools: &[PoolSnapshot],
    types: u32,
    evictions: &EvictionStatistics,
) {
    if !describe.call_sites().is_empty() {
        let wanted = |it: &Description<'_>| it.call_site.is_some();
        let value = |json: &mut JsonWriter, it: &Description<'_>| {
            it.call_site.into_iter().for_each(|site| json.number(u64::from(site)));
        };
        let mirror = Mirror { describe, pools, types, wanted: &wanted, value: &value };
        json.key("CallSites").object(|json| {
            json.key("Sites").array(|json| {
                describe.call_sites().iter().for_each(|site| json.string(site));
            });
            mirror.write(json);
        });
    }
    if describe.has_aliases() {
        let wanted = |it: &Description<'_>| !it.aliases.is_empty();
        let value = |json: &mut JsonWriter, it: &Description<'_>| {
            json.array(|json| it.aliases.iter().for_each(|it| alias(json, it)));
        };
        let mirror = Mirror { describe, pools, types, wanted: &wanted, value: &value };
        json.key("Aliases").object(|json| mirror.write(json));
    }
    if *evictions != EvictionStatistics::default() {
        let wanted = |it: &Description<'_>| it.last_use.is_some();
        let value = |json: &mut JsonWriter, it: &Description<'_>| {
            it.last_use.into_iter().for_each(|frame| json.number(frame));
        };
        let mirror = Mirror { describe, pools, types, wanted: &wanted, value: &value };
        json.key("Evictable").object(|json| {
            json.field("EvictableCount", evictions.evictable_count);
            json.field("EvictableBytes", evictions.evictable_bytes);
            json.field("LostCount", evictions.lost_count);
            json.field("LostBytes", evictions.lost_bytes);
            json.field("LossCount", evictions.loss_count);
            json.field("LossBytes", evictions.loss_bytes);
            mirror.write(json);
        });
    }
}

fn alias(json: &mut JsonWriter, it: &AliasDescription) {
    json.object(|json| {
        json.field("Offset", it.offset);
        json.key("Type").string(type_name(it.kind));
        json.field("Size", it.size);
        json.field("Usage", it.usage);
        if let Some(data) = &it.custom_data {
            json.key("CustomData").string(data);
        }
        if let Some(name) = &it.name {
            json.key("Name").string(name);
        }
        if let Some(site) = it.call_site {
            json.field("CallSite", u64::from(site));
        }
    });
}

/// Allocations of a block by offset, or dedicated ones by index.
type Places<'a> = Vec<(u64, Description<'a>)>;

struct Mirror<'a> {
    describe: &'a dyn Describe,
    pools: &'a [PoolSnapshot],
    types: u32,
    wanted: &'a dyn Fn(&Description<'_>) -> bool,
    value: &'a dyn Fn(&mut JsonWriter, &Description<'_>),
}

impl Mirror<'_> {
    fn write(&self, json: &mut JsonWriter) {
        json.key("DefaultPools").object(|json| {
            for pool in self.pools {
                if let PoolKey::Default(index) = pool.pool_key {
                    self.pool(json, "Type ", index, pool);
                }
            }
        });
        json.key("CustomPools").object(|json| {
            for memory_type in 0..self.types {
                if custom_pools_of(self.pools, memory_type).next().is_none() {
                    continue;
                }
                json.numbered_key("Type ", u64::from(memory_type)).object(|json| {
                    let pools = custom_pools_of(self.pools, memory_type);
                    for (index, (_, pool)) in (0..).zip(pools) {
                        self.pool(json, "", index, pool);
                    }
                });
            }
        });
    }

    fn pool(&self, json: &mut JsonWriter, key: &str, number: u32, pool: &PoolSnapshot) {
        let blocks: Vec<(u32, Places<'_>)> = (pool.blocks.each())
            .map(|(block, regions)| {
                let live = regions.iter().filter_map(|it| Some((it.view.offset, it.view.key()?)));
                (block.id, self.places(pool.pool_key, false, live))
            })
            .filter(|(_, places)| !places.is_empty())
            .collect();
        let dedicated = (0..).zip(pool.dedicated.iter().map(|it| it.key));
        let dedicated = self.places(pool.pool_key, true, dedicated);
        if blocks.is_empty() && dedicated.is_empty() {
            return;
        }
        json.numbered_key(key, u64::from(number)).object(|json| {
            json.key("Blocks").object(|json| {
                for (id, places) in &blocks {
                    json.numbered_key("", u64::from(*id)).object(|json| self.entries(json, places));
                }
            });
            json.key("DedicatedAllocations").object(|json| self.entries(json, &dedicated));
        });
    }

    fn places(
        &self,
        pool_key: PoolKey,
        dedicated: bool,
        all: impl Iterator<Item = (u64, SlotKey)>,
    ) -> Places<'_> {
        all.map(|(place, key)| {
            (place, self.describe.allocation(AllocationId::new(pool_key, dedicated, key)))
        })
        .filter(|(_, description)| (self.wanted)(description))
        .collect()
    }

    fn entries(&self, json: &mut JsonWriter, places: &Places<'_>) {
        for (place, description) in places {
            (self.value)(json.numbered_key("", *place), description);
        }
    }
}
