//! Dumps of all pools and allocations, as JSON text or as Python objects.

use std::collections::{HashMap, TryReserveError};
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::{
    AliasDescription, AllocationId, Describe, Description, PoolId, PoolKey, sort_call_sites,
};

use super::Allocator;
use super::leaks::SiteTexts;
use crate::errors::{IntoPyResult, out_of_host_memory};
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Resource};
use crate::package::LOAD_DUMP;
use crate::process::host_memory::check_room;

/// What a dump says about one allocation.
#[derive(Default)]
struct Entry {
    generation: u32,
    usage: u64,
    custom_data: Option<Arc<str>>,
    call_site: Option<u32>,
    last_use: Option<u64>,
    aliases: Vec<AliasDescription>,
}

/// Host memory that a label takes while a dump is written, in bytes.
const LABEL_BYTES: usize = 128;

fn alias(resource: &Resource, call_site: Option<u32>) -> AliasDescription {
    AliasDescription {
        offset: resource.allocation().offset,
        size: resource.allocation().size,
        kind: resource.kind,
        usage: resource.usage,
        name: resource.name().ok().flatten(),
        custom_data: resource.custom_data(),
        call_site,
    }
}

/// Entries by slot of the engine: a million of them are looked up one by one, so not in a hash map.
type Slots = Vec<Option<Entry>>;

/// Entries by pool and whether the allocations are dedicated.
type SlotsByPool = HashMap<(PoolKey, bool), Slots>;

fn entry_of(slots: &mut SlotsByPool, id: AllocationId) -> Result<&mut Entry, TryReserveError> {
    slots.try_reserve(1)?;
    let slots = slots.entry((id.pool_key(), id.is_dedicated())).or_default();
    let index = id.key.index() as usize;
    if index >= slots.len() {
        slots.try_reserve(index + 1 - slots.len())?;
        slots.resize_with(index + 1, || None);
    }
    let entry = slots[index].get_or_insert_default();
    if entry.generation != id.key.generation() {
        // The entry is of an allocation that has ended meanwhile.
        *entry = Entry { generation: id.key.generation(), ..Entry::default() };
    }
    Ok(entry)
}

/// What a dump says about all live resources and pools, taken at one moment.
struct Labels {
    slots: SlotsByPool,
    pools: HashMap<PoolId, Arc<str>>,
    call_sites: Vec<String>,
    has_aliases: bool,
}

impl Labels {
    fn of(py: Python<'_>, state: &AllocatorState) -> Result<Self, TryReserveError> {
        // Unlocked before `live` is dropped: a last reference among them locks the list.
        let live = state.live.lock().all();
        let mut slots = SlotsByPool::new();
        let mut sites = SiteTexts::new(&state.sites);
        let mut has_aliases = false;
        for resource in &live {
            let (usage, custom_data) = (resource.usage, resource.custom_data());
            let call_site = sites.of(py, resource.origin());
            let is_alias = resource.alias().is_some();
            let last_use = resource.losable().and_then(|it| it.last_use(py));
            let is_bare = usage == 0 && custom_data.is_none() && call_site.is_none();
            if !is_alias && is_bare && last_use.is_none() {
                continue;
            }
            // An alias has the id of its base's allocation, and may come before it.
            let entry = entry_of(&mut slots, resource.allocation().id)?;
            if is_alias {
                has_aliases = true;
                entry.aliases.push(alias(resource, call_site));
            } else {
                (entry.usage, entry.custom_data) = (usage, custom_data);
                (entry.call_site, entry.last_use) = (call_site, last_use);
            }
        }
        for (id, usage, origin) in state.waiting_allocations() {
            let call_site = sites.of(py, origin);
            let entry = entry_of(&mut slots, id)?;
            (entry.usage, entry.call_site) = (usage, call_site);
        }
        for (id, usage) in state.device_allocator.own_buffers() {
            entry_of(&mut slots, id)?.usage = usage.as_raw().into();
        }
        let pools = state.pool_names.lock().clone();
        let (call_sites, numbers) = sort_call_sites(&sites.texts);
        let renumber = |site: &mut u32| *site = numbers[*site as usize];
        for entry in slots.values_mut().flatten().flatten() {
            entry.call_site.iter_mut().for_each(renumber);
            entry.aliases.iter_mut().flat_map(|it| &mut it.call_site).for_each(renumber);
        }
        Ok(Self { slots, pools, call_sites, has_aliases })
    }
}

impl Describe for Labels {
    fn allocation(&self, id: AllocationId) -> Description<'_> {
        let slots = self.slots.get(&(id.pool_key(), id.is_dedicated()));
        let entry = slots.and_then(|slots| slots.get(id.key.index() as usize)?.as_ref());
        match entry.filter(|entry| entry.generation == id.key.generation()) {
            None => Description::default(),
            Some(entry) => Description {
                usage: entry.usage,
                custom_data: entry.custom_data.as_deref().unwrap_or(""),
                call_site: entry.call_site,
                aliases: &entry.aliases,
                last_use: entry.last_use,
            },
        }
    }

    fn pool(&self, id: PoolId) -> Option<&str> {
        self.pools.get(&id).map(|name| &**name)
    }

    fn call_sites(&self) -> &[String] {
        &self.call_sites
    }

    fn has_aliases(&self) -> bool {
        self.has_aliases
    }
}

#[pymethods]
impl Allocator {
    /// Returns a dump of all pools and allocations, as JSON in VMA's format (`vmaBuildStatsString`).
    ///
    /// Sizes and offsets are in bytes. Without `detailed`, single blocks and allocations are left out.
    /// `Usage` is the number of `BufferUsage` or `ImageUsage`. `CustomData` is the user data: the letters and
    /// digits of a text, a number, or else the type and the `id()` of the object. Each pool is shown as it
    /// was at one moment.
    ///
    /// VMA's keys are unchanged. In addition there are `Aliases`, with `track_call_sites` `CallSites`, and where
    /// something may be lost `Evictable`: objects laid out like the pools, with an offset, or the index of a
    /// dedicated allocation, for each entry. Tools for VMA ignore them.
    ///
    /// `vk_mem.load_dump` reads it. Raises `UseAfterFreeError` (closed).
    #[pyo3(signature = (detailed = true))]
    fn build_stats_string(&self, py: Python<'_>, detailed: bool) -> PyResult<String> {
        let _inside = self.state.enter(py)?;
        // Without locks: `Labels::of` may drop the last reference to a resource, which issues a warning.
        check_room(py, self.state.live.lock().len(), LABEL_BYTES)?;
        let labels = Labels::of(py, &self.state).map_err(|_| out_of_host_memory(py))?;
        detach(py, || self.state.engine().build_stats_string(detailed, &labels)).or_raise(py)
    }

    /// Returns a dump of all pools and allocations as a `Dump`: to print, to keep, and to compare with
    /// another (`vk_mem.diff`).
    ///
    /// Raises `UseAfterFreeError` (closed).
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = self.build_stats_string(py, true)?;
        LOAD_DUMP.get(py)?.call1((json,))
    }
}
