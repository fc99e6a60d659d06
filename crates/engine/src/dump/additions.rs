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
//!
//! `Debug` tells the bytes that VMA's counts have among the unused ones, and where they are: each block lists its
//! margins and what is in quarantine as pairs of offset and size, dedicated memory the sizes of its two margins.
//! Dedicated memory in quarantine, which VMA's keys do not list, has its own size before these two.
//!
//! ```json
//! "Debug": {"MarginCount": 2, "MarginBytes": 32, "QuarantinedCount": 1, "QuarantinedBytes": 64,
//!           "DefaultPools": {"Type 0": {"Blocks": {"0": {"Margins": [[0, 16], [80, 16]], "Quarantined": []}},
//!                                       "DedicatedAllocations": {"3": [16, 16]},
//!                                       "QuarantinedDedicated": [[4096, 16, 16]]}}}
//! ```

use crate::dump::describe::{AliasDescription, Describe, Description, type_name};
use crate::dump::json::JsonWriter;
use crate::eviction::EvictionStatistics;
use crate::handle::{AllocationId, PoolKey, SlotKey};
use crate::pools::snapshot::{
    DedicatedSnapshot, PoolSnapshot, RangeUse, RegionSnapshot, custom_pools_of,
};
use crate::statistics::Statistics;

/// Writes the additions that have content.
pub(super) fn write(
    json: &mut JsonWriter,
    describe: &dyn Describe,
    pools: &[PoolSnapshot],
    types: u32,
    (evictions, statistics): (&EvictionStatistics, &Statistics),
) {
    if statistics.margin_count + statistics.quarantined_count > 0 {
        json.key("Debug").object(|json| {
            json.field("MarginCount", statistics.margin_count);
            json.field("MarginBytes", statistics.margin_bytes);
            json.field("QuarantinedCount", statistics.quarantined_count);
            json.field("QuarantinedBytes", statistics.quarantined_bytes);
            mirror_pools(json, pools, types, &debug_of_pool);
        });
    }
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

/// Writes where the margins of a pool and its freed memory in quarantine are; nothing if there are none.
fn debug_of_pool(json: &mut JsonWriter, key: &str, number: u32, pool: &PoolSnapshot) {
    let is_held =
        |it: &RegionSnapshot| matches!(it.view.is, RangeUse::Margin | RangeUse::Quarantined);
    let has_margins = |it: &DedicatedSnapshot| it.margins != [0, 0];
    let any = pool.blocks.regions.iter().any(is_held)
        || pool.dedicated.iter().any(has_margins)
        || !pool.quarantined.is_empty();
    if !any {
        return;
    }
    json.numbered_key(key, u64::from(number)).object(|json| {
        json.key("Blocks").object(|json| {
            for (block, regions) in pool.blocks.each().filter(|it| it.1.iter().any(is_held)) {
                let ranges = |json: &mut JsonWriter, is: RangeUse| {
                    for it in regions.iter().filter(|it| it.view.is == is) {
                        json.array(|json| {
                            json.number(it.view.offset);
                            json.number(it.view.size);
                        });
                    }
                };
                json.numbered_key("", u64::from(block.id)).object(|json| {
                    json.key("Margins").array(|json| ranges(json, RangeUse::Margin));
                    json.key("Quarantined").array(|json| ranges(json, RangeUse::Quarantined));
                });
            }
        });
        json.key("DedicatedAllocations").object(|json| {
            for (index, it) in (0..).zip(&pool.dedicated).filter(|it| has_margins(it.1)) {
                json.numbered_key("", index).array(|json| {
                    it.margins.iter().for_each(|&size| json.number(size));
                });
            }
        });
        if !pool.quarantined.is_empty() {
            json.key("QuarantinedDedicated").array(|json| {
                for it in &pool.quarantined {
                    json.array(|json| {
                        json.number(it.size);
                        it.margins.iter().for_each(|&size| json.number(size));
                    });
                }
            });
        }
    });
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

/// Writes something about one pool under a key and a number.
type OfPool<'a> = &'a dyn Fn(&mut JsonWriter, &str, u32, &PoolSnapshot);

/// Calls `write` for each pool, in the order and under the keys of the dump.
fn mirror_pools(json: &mut JsonWriter, pools: &[PoolSnapshot], types: u32, write: OfPool<'_>) {
    json.key("DefaultPools").object(|json| {
        for pool in pools {
            if let PoolKey::Default(index) = pool.pool_key {
                write(json, "Type ", index, pool);
            }
        }
    });
    json.key("CustomPools").object(|json| {
        for memory_type in 0..types {
            if custom_pools_of(pools, memory_type).next().is_none() {
                continue;
            }
            json.numbered_key("Type ", u64::from(memory_type)).object(|json| {
                for (index, (_, pool)) in (0..).zip(custom_pools_of(pools, memory_type)) {
                    write(json, "", index, pool);
                }
            });
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
        mirror_pools(json, self.pools, self.types, &|json, key, number, pool| {
            self.pool(json, key, number, pool);
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
