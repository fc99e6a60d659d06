//! Live resources with their call sites, watches, samples.

use std::collections::{HashMap, TryReserveError};
use std::time::Instant;

use pyo3::prelude::*;

use super::Allocator;
use crate::errors::{out_of_host_memory, use_after_free};
use crate::interpreter::detach;
use crate::lifetime::ownership::ResourceRef;
use crate::objects::watch::{EventCounter, Watch};
use crate::observe::call_site::{CallSites, Origin};
use crate::package::{ALLOCATOR_HTML, LEAKS};
use crate::process::host_memory::check_room;

/// Host memory that a row of `leaks()` takes until it is converted to Python objects, in bytes, without its
/// name.
const ROW_BYTES: usize = 256;

/// Number of resources that are read before the list of live ones is unlocked in between.
const CHUNK: usize = 1024;

/// The texts of call sites, each built once: one line of `file:line in function` for each frame.
pub(super) struct SiteTexts<'a> {
    sites: &'a CallSites,
    known: HashMap<u32, u32>,
    pub texts: Vec<String>,
}

impl<'a> SiteTexts<'a> {
    pub fn new(sites: &'a CallSites) -> Self {
        Self { sites, known: HashMap::new(), texts: Vec::new() }
    }

    /// Returns the index in `texts` of a call site.
    pub fn of(&mut self, py: Python<'_>, origin: Option<Origin>) -> Option<u32> {
        let site = origin?.site;
        Some(*self.known.entry(site).or_insert_with(|| {
            self.texts.push(self.sites.lines(py, site).join("\n"));
            self.texts.len() as u32 - 1
        }))
    }
}

/// Serial number, class, name, bytes, memory type, whether it is an alias, index in the list of call sites,
/// and seconds since its creation.
type Row = (u64, &'static str, Option<String>, u64, u32, bool, Option<u32>, Option<f64>);

/// Number of resources ever created, and of live ones; the names that hold most memory, with counts and
/// bytes; of each heap usage, budget, blocks, their bytes, allocations and their bytes; of what may be lost,
/// and of what was, number and bytes.
type Sample = (u64, u64, Vec<NameRow>, Vec<(u64, u64, u64, u64, u64, u64)>, (u64, u64, u64, u64));

/// A name, the number of those that have it, and their bytes.
type NameRow = (Option<String>, u64, u64);

#[pymethods]
impl Allocator {
    /// Returns all live resources in the order of their creation, as `Leaks`: a list of `Leak` with name,
    /// size in bytes, memory type, and with `track_call_sites` the call site and the age. Prints as a table
    /// by call site, or by name.
    ///
    /// Resources that were retired, or collected without `destroy()`, and wait for their frame are not in the
    /// list; `waiting_count` and `waiting_size` are their number and bytes.
    ///
    /// Raises `UseAfterFreeError` (closed).
    fn leaks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(py)?;
        // Without locks: this may drop the last reference to a resource, which issues a warning.
        check_room(py, self.state.live.lock().len(), ROW_BYTES)?;
        let mut live = self.state.live.lock().all();
        live.sort_unstable_by_key(|it| it.serial());
        let mut sites = SiteTexts::new(&self.state.sites);
        let now = Instant::now();
        let row = |it: &ResourceRef| -> Row {
            (
                it.serial(),
                it.handle().class(),
                it.name().ok().flatten(),
                it.allocation().size,
                it.allocation().memory_type_index,
                it.alias().is_some(),
                sites.of(py, it.origin()),
                (it.origin()).map(|origin| now.saturating_duration_since(origin.at).as_secs_f64()),
            )
        };
        let rows: Vec<Row> = live.iter().map(row).collect();
        let tracked = self.state.sites.is_tracking();
        let waiting = self.state.waiting();
        LEAKS.get(py)?.call1((rows, sites.texts, tracked, waiting))
    }

    /// Starts a watch; see `vk_mem.statistics`.
    fn _watch(&self, py: Python<'_>, by: Option<&str>, this_thread: bool) -> PyResult<Watch> {
        let _inside = self.state.enter(py)?;
        Ok(Watch::begin(&self.state, by, this_thread))
    }

    /// Starts counting events by kind; for `serve_stats`.
    fn _count_events(&self, py: Python<'_>) -> PyResult<EventCounter> {
        let _inside = self.state.enter(py)?;
        Ok(EventCounter::begin(&self.state))
    }

    /// Returns a sample for `serve_stats`, which does not disturb others: the list of live resources is
    /// unlocked in between, and `close` waits for the sample.
    fn _sample(&self, py: Python<'_>, names: usize) -> PyResult<Sample> {
        let Some(_sampling) = self.state.begin_sample() else {
            return Err(use_after_free(py, "the allocator is closed"));
        };
        let _inside = self.state.enter(py)?;
        let state = &self.state;
        let count = names;
        let sample = || -> Result<Sample, TryReserveError> {
            let mut names = HashMap::<Option<String>, (u64, u64)>::new();
            let (mut alive, mut from) = (0, Some(0));
            while let Some(start) = from {
                // They may move as soon as the list is unlocked. The references are dropped after that.
                let (places, chunk, next) = {
                    let live = state.live.lock();
                    let (chunk, next) = live.chunk(start, CHUNK);
                    let own = chunk.iter().filter(|it| it.alias().is_none());
                    (own.map(|it| it.allocation()).collect::<Vec<_>>(), chunk, next)
                };
                alive += chunk.len() as u64;
                for it in places {
                    names.try_reserve(1)?;
                    let name = state.engine().name(it.id).ok().flatten();
                    let sum = names.entry(name).or_default();
                    sum.0 += 1;
                    sum.1 += it.size;
                }
                from = next;
            }
            let mut sorted = Vec::new();
            sorted.try_reserve_exact(names.len())?;
            sorted.extend(names.into_iter().map(|(name, (count, bytes))| (name, count, bytes)));
            let mut names = sorted;
            names.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
            names.truncate(count);
            let budgets = state.engine().heap_budgets().into_iter().map(|it| {
                let (blocks, allocations) = (u64::from(it.block_count), it.allocation_count);
                (it.usage, it.budget, blocks, it.block_bytes, allocations, it.allocation_bytes)
            });
            let lost = state.engine().total_eviction_statistics();
            let lost =
                (lost.evictable_count, lost.evictable_bytes, lost.lost_count, lost.lost_bytes);
            Ok((state.created_count(), alive, names, budgets.collect(), lost))
        };
        detach(py, sample).map_err(|_| out_of_host_memory(py))
    }

    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        ALLOCATOR_HTML.get(slf.py())?.call1((slf,))?.extract()
    }
}
