//! Everything that is held, as a text or as Python objects.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, Describe, Description, Home, PoolId};

use super::Allocator;
use crate::resource::live_resources;
use crate::state::AllocatorState;

/// What one resource is for.
struct Entry {
    generation: u32,
    usage: u64,
    custom_data: Option<Arc<str>>,
}

/// By slot of the engine: a million of them are looked up one by one, so there is no hashing.
type Slots = Vec<Option<Entry>>;

/// What is known of all live resources and pools at one moment.
struct Labels {
    /// By home and whether dedicated.
    slots: HashMap<(Home, bool), Slots>,
    pools: HashMap<PoolId, Arc<str>>,
}

impl Labels {
    fn of(state: &AllocatorState) -> Self {
        // The lock is gone when the last reference of one of them is.
        let live = {
            let live = state.live.lock();
            live_resources(&live)
        };
        let mut slots = HashMap::<(Home, bool), Slots>::new();
        for resource in &live {
            let (usage, custom_data) = (resource.label.usage(), resource.label.custom_data());
            // An alias has the handle of what it lies in, which says what the memory is for.
            if resource.alias.is_some() || usage == 0 && custom_data.is_none() {
                continue;
            }
            let AllocationId { home, dedicated, key } = resource.allocation.id;
            let slots = slots.entry((home, dedicated)).or_default();
            let index = key.index() as usize;
            if index >= slots.len() {
                slots.resize_with(index + 1, || None);
            }
            slots[index] = Some(Entry { generation: key.generation(), usage, custom_data });
        }
        let pools = state.pool_names.lock().clone();
        Self { slots, pools }
    }
}

impl Describe for Labels {
    fn allocation(&self, id: AllocationId) -> Description<'_> {
        let slots = self.slots.get(&(id.home, id.dedicated));
        let entry = slots.and_then(|slots| slots.get(id.key.index() as usize)?.as_ref());
        match entry.filter(|entry| entry.generation == id.key.generation()) {
            None => Description::default(),
            Some(entry) => Description {
                usage: entry.usage,
                custom_data: entry.custom_data.as_deref().unwrap_or(""),
            },
        }
    }

    fn pool(&self, id: PoolId) -> Option<&str> {
        self.pools.get(&id).map(|name| &**name)
    }
}

#[pymethods]
impl Allocator {
    /// Everything that is held, as JSON in VMA's format (`vmaBuildStatsString`).
    ///
    /// Sizes and offsets are bytes. Without `detailed` the single blocks and allocations are left out.
    /// `Usage` is the number of `BufferUsage` or `ImageUsage`. `CustomData` is the user data: letters and
    /// digits of a text, a number, or else the type and the `id()` of the object. Each pool is shown as it
    /// was at one moment.
    ///
    /// `vk_mem.load_dump` reads it. Raises `UseAfterFreeError` (closed).
    #[pyo3(signature = (detailed = true))]
    fn build_stats_string(&self, py: Python<'_>, detailed: bool) -> PyResult<String> {
        let _inside = self.state.enter(py)?;
        // The last reference of a resource may be let go of here, and that warns: without any lock.
        let labels = Labels::of(&self.state);
        Ok(py.detach(|| self.state.engine().build_stats_string(detailed, &labels)))
    }

    /// Everything that is held, as a `Dump`: to look at, to keep, and to compare with another
    /// (`vk_mem.diff`).
    ///
    /// Raises `UseAfterFreeError` (closed).
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = self.build_stats_string(py, true)?;
        py.import("vk_mem.dump")?.call_method1("load_dump", (json,))
    }
}
