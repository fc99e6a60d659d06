//! Counts of the resources that a stretch of code creates and releases: `vk_mem.statistics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use vkmem_engine::AllocationId;
use vkmem_engine::lock::{Mutex, rank};

use super::call_site::CallSites;
use super::event::{Event, EventKind, Relocated, Traced};
use super::events::Listener;
use crate::process::host_memory::check_room;

/// Host memory that a row takes until it is converted to Python objects, in bytes.
const ROW_BYTES: usize = 256;

/// What the rows of a watch are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    Name,
    CallSite,
}

/// A quantity over time. Negative if more was released than created since the watch began.
#[derive(Clone, Copy, Default)]
struct Level {
    current: i64,
    peak: i64,
    total: u64,
}

impl Level {
    fn rise(&mut self, by: u64) {
        self.current = self.current.saturating_add_unsigned(by);
        self.peak = self.peak.max(self.current);
        self.total = self.total.saturating_add(by);
    }

    fn fall(&mut self, by: u64) {
        self.current = self.current.saturating_sub_unsigned(by);
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    bytes: Level,
    count: Level,
}

/// Bytes, then counts: current, peak and total of each.
pub type Figures = (i64, i64, u64, i64, i64, u64);

impl Tally {
    fn add(&mut self, size: u64) {
        self.bytes.rise(size);
        self.count.rise(1);
    }

    fn remove(&mut self, size: u64) {
        self.bytes.fall(size);
        self.count.fall(1);
    }

    fn figures(&self) -> Figures {
        let (bytes, count) = (self.bytes, self.count);
        (bytes.current, bytes.peak, bytes.total, count.current, count.peak, count.total)
    }
}

#[derive(Default)]
struct Rows {
    all: Tally,
    rows: Vec<(Option<String>, Tally)>,
    by_label: HashMap<Option<String>, usize>,
    by_site: HashMap<u32, usize>,
    /// Resources created since the watch began that have not been released; the value is the row.
    live: HashMap<AllocationId, usize>,
}

impl Rows {
    fn add(&mut self, id: AllocationId, size: u64, row: Option<usize>) {
        self.all.add(size);
        // Without host memory the resource is counted in the sum only.
        if let Some(row) = row
            && self.live.try_reserve(1).is_ok()
        {
            self.rows[row].1.add(size);
            self.live.insert(id, row);
        }
    }

    fn remove(&mut self, id: AllocationId, size: u64) {
        self.all.remove(size);
        if let Some(row) = self.live.remove(&id) {
            self.rows[row].1.remove(size);
        }
    }

    /// Keeps the rows of what has other memory now.
    fn rename(&mut self, moved: &[Relocated]) {
        for it in moved {
            // There is room, as one was removed.
            if let Some(row) = self.live.remove(&it.before) {
                self.live.insert(it.after, row);
            }
        }
    }

    /// Returns the row of a label; `None` if there is no host memory for another.
    fn row(&mut self, label: Option<String>) -> Option<usize> {
        let reserved = self.by_label.try_reserve(1).and_then(|()| self.rows.try_reserve(1));
        reserved.ok()?;
        Some(*self.by_label.entry(label).or_insert_with_key(|label| {
            self.rows.push((label.clone(), Tally::default()));
            self.rows.len() - 1
        }))
    }

    fn row_of_name(&mut self, name: Option<&str>) -> Option<usize> {
        self.row(name.map(String::from))
    }
}

/// Listener that counts the events of an allocator until it is removed.
pub struct WatchState {
    by: By,
    /// The call sites of the allocator.
    sites: Arc<CallSites>,
    /// The only thread whose calls are counted; `None` counts all.
    thread: Option<ThreadId>,
    /// Never held while Python code runs.
    inner: Mutex<Rows, rank::WatchRows>,
}

impl WatchState {
    /// Creates empty counts: in sum only, by "name", or by call site; of all threads, or of this one.
    pub fn new(sites: &Arc<CallSites>, by: Option<&str>, this_thread: bool) -> Self {
        let by = match by {
            None => By::Nothing,
            Some("name") => By::Name,
            Some(_) => By::CallSite,
        };
        let thread = this_thread.then(|| thread::current().id());
        Self { by, sites: sites.clone(), thread, inner: Mutex::default() }
    }

    /// Returns the sums so far.
    pub fn figures(&self) -> Figures {
        self.inner.lock().all.figures()
    }

    /// Returns the counts by name or call site.
    pub fn rows(&self, py: Python<'_>) -> PyResult<Vec<(Option<String>, Figures)>> {
        check_room(py, self.inner.lock().rows.len(), ROW_BYTES)?;
        let inner = self.inner.lock();
        Ok(inner.rows.iter().map(|(label, tally)| (label.clone(), tally.figures())).collect())
    }

    fn is_here(&self) -> bool {
        self.thread.is_none_or(|it| it == thread::current().id())
    }

    /// Returns the row of a resource's call site, which is captured now if the resource stores none.
    fn row_of_site(&self, py: Python<'_>, resource: &dyn Traced) -> Option<usize> {
        let site = match resource.origin() {
            Some(origin) => self.sites.head(origin.site),
            None => self.sites.capture(py, 1),
        }?;
        if let Some(row) = self.inner.lock().by_site.get(&site) {
            return Some(*row);
        }
        // Two calls on one line share a row.
        let label = self.sites.lines(py, site).into_iter().next();
        let mut inner = self.inner.lock();
        let row = inner.row(label)?;
        if inner.by_site.try_reserve(1).is_ok() {
            inner.by_site.insert(site, row);
        }
        Some(row)
    }
}

impl Listener for WatchState {
    fn interest(&self) -> u32 {
        let ends = EventKind::Free.bit() | EventKind::Lose.bit();
        EventKind::Create.bit() | ends | EventKind::Move.bit()
    }

    fn receive(&self, event: &Event<'_>) {
        if let Event::Move(moved) = event {
            // Whoever moves it: its end is counted by the memory that it has then.
            return self.inner.lock().rename(moved);
        }
        if !self.is_here() {
            return;
        }
        match event {
            Event::Create { py, resources, name } => {
                // Aliases allocate nothing, and all resources of a call have one call site.
                let Some(first) = resources.iter().find(|it| !it.is_alias()) else { return };
                let by_site = self.by == By::CallSite;
                let row = if by_site { self.row_of_site(*py, first) } else { None };
                let mut inner = self.inner.lock();
                for (index, it) in resources.iter().enumerate() {
                    let by_name = self.by == By::Name;
                    let row = if by_name { inner.row_of_name(name(index)) } else { row };
                    inner.add(it.id(), it.size(), row);
                }
            }
            Event::Free(resources) | Event::Lose(resources) => {
                let mut inner = self.inner.lock();
                for it in resources.iter().filter(|it| !it.is_alias()) {
                    inner.remove(it.id(), it.size());
                }
            }
            _ => {}
        }
    }
}
