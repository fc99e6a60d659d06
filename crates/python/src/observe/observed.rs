//! What an allocator notes of its creating and releasing calls: where each came from, and counts in a
//! stretch of code. As long as nobody asked for either, one load of an integer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use pyo3::prelude::*;
use vkmem_engine::AllocationId;
use vkmem_engine::lock::{Mutex, rank};

use super::call_site::{CallSites, Origin};
use crate::process::host_memory::check_room;

/// Set while any watch is there; the bits below are the depth of stacks to keep.
const WATCHED: u32 = 1 << 16;

/// What a row takes before it is Python's, in bytes.
const OF_ROW: usize = 256;

/// What comes and goes: memory, or an alias in the memory of another.
pub trait Observable {
    /// Id of its memory.
    fn id(&self) -> AllocationId;

    /// Bytes of its memory.
    fn size(&self) -> u64;

    /// Whether it allocated none.
    fn is_alias(&self) -> bool;
}

/// What keeps where it was created.
pub trait Traced: Observable {
    /// Set once.
    fn set_origin(&self, origin: Origin);
}

/// See the module.
#[derive(Default)]
pub struct Observed {
    flags: AtomicU32,
    /// Resources so far; changed under the lock of the list of live ones.
    created: AtomicU64,
    /// By number.
    pub sites: CallSites,
    watches: Mutex<Vec<Arc<WatchState>>, rank::Watches>,
}

impl Observed {
    /// Keeps the stack of everything from now on, that many frames deep.
    pub fn track(&self, depth: u32) {
        self.flags.fetch_or(depth, Ordering::Relaxed);
    }

    /// Whether stacks are kept.
    pub fn is_tracking(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & (WATCHED - 1) != 0
    }

    /// The numbers of some new resources; only under the lock of the list of live ones.
    pub fn next_serials(&self, count: usize) -> u64 {
        let first = self.created.load(Ordering::Relaxed);
        self.created.store(first + count as u64, Ordering::Relaxed);
        first
    }

    /// How many resources there have been.
    pub fn created_count(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// Notes new resources; `name` gives the name of each. To be called without locks.
    #[inline]
    pub fn created<'a, T: Traced>(
        &self,
        py: Python<'_>,
        resources: &[T],
        name: impl Fn(usize) -> Option<&'a str>,
    ) {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags != 0 && !resources.is_empty() {
            self.note_created(py, flags, resources, &name);
        }
    }

    #[cold]
    fn note_created<'a, T: Traced>(
        &self,
        py: Python<'_>,
        flags: u32,
        resources: &[T],
        name: &dyn Fn(usize) -> Option<&'a str>,
    ) {
        let depth = flags & (WATCHED - 1);
        let site = if depth > 0 { self.sites.capture(py, depth as usize) } else { None };
        if let Some(site) = site {
            let origin = Origin { site, at: Instant::now() };
            resources.iter().for_each(|it| it.set_origin(origin));
        }
        if flags & WATCHED == 0 {
            return;
        }
        let watches = self.watches.lock().clone();
        if resources.iter().all(T::is_alias) {
            // Aliases allocate nothing.
            return;
        }
        for watch in watches.iter().filter(|it| it.is_here()) {
            let row = || {
                let site = match site {
                    Some(site) => self.sites.head(site),
                    None => self.sites.capture(py, 1),
                };
                watch.row_of_site(py, &self.sites, site?)
            };
            let row = if watch.by == By::CallSite { row() } else { None };
            let mut inner = watch.inner.lock();
            for (index, it) in resources.iter().enumerate() {
                let row = if watch.by == By::Name { inner.row_of_name(name(index)) } else { row };
                inner.add(it.id(), it.size(), row);
            }
        }
    }

    /// Notes memory that is about to be freed.
    #[inline]
    pub fn released(&self, remains: &[impl Observable]) {
        if self.flags.load(Ordering::Relaxed) & WATCHED != 0 {
            self.note_released(remains);
        }
    }

    #[cold]
    fn note_released(&self, remains: &[impl Observable]) {
        let watches = self.watches.lock().clone();
        for watch in watches.iter().filter(|it| it.is_here()) {
            let mut inner = watch.inner.lock();
            for it in remains.iter().filter(|it| !it.is_alias()) {
                inner.remove(it.id(), it.size());
            }
        }
    }

    /// From now on a watch counts.
    pub fn begin(&self, watch: Arc<WatchState>) {
        let mut watches = self.watches.lock();
        watches.push(watch);
        self.flags.fetch_or(WATCHED, Ordering::Relaxed);
    }

    /// It counts no more.
    pub fn end(&self, watch: &Arc<WatchState>) {
        let mut watches = self.watches.lock();
        watches.retain(|it| !Arc::ptr_eq(it, watch));
        if watches.is_empty() {
            self.flags.fetch_and(!WATCHED, Ordering::Relaxed);
        }
    }
}

/// What a watch tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    Name,
    CallSite,
}

/// A quantity over time. Below zero where more was released than created since it began.
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
    /// What was created meanwhile and lives.
    live: HashMap<AllocationId, usize>,
}

impl Rows {
    fn add(&mut self, id: AllocationId, size: u64, row: Option<usize>) {
        self.all.add(size);
        // Without host memory it counts in the sum alone.
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

    /// The row of a label; none without host memory for another.
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

/// One who counts.
pub struct WatchState {
    by: By,
    /// The only one whose calls count, if not all do.
    thread: Option<ThreadId>,
    /// Never held while Python runs.
    inner: Mutex<Rows, rank::WatchRows>,
}

impl WatchState {
    /// With nothing counted: in sum alone, by "name", or by call site; of all threads, or of this one.
    pub fn new(by: Option<&str>, this_thread: bool) -> Self {
        let by = match by {
            None => By::Nothing,
            Some("name") => By::Name,
            Some(_) => By::CallSite,
        };
        let thread = this_thread.then(|| thread::current().id());
        Self { by, thread, inner: Mutex::default() }
    }

    /// What came and went so far.
    pub fn figures(&self) -> Figures {
        self.inner.lock().all.figures()
    }

    /// The same by name or call site.
    pub fn rows(&self, py: Python<'_>) -> PyResult<Vec<(Option<String>, Figures)>> {
        check_room(py, self.inner.lock().rows.len(), OF_ROW)?;
        let inner = self.inner.lock();
        Ok(inner.rows.iter().map(|(label, tally)| (label.clone(), tally.figures())).collect())
    }

    fn is_here(&self) -> bool {
        self.thread.is_none_or(|it| it == thread::current().id())
    }

    fn row_of_site(&self, py: Python<'_>, sites: &CallSites, site: u32) -> Option<usize> {
        if let Some(row) = self.inner.lock().by_site.get(&site) {
            return Some(*row);
        }
        // Two calls on one line are one row.
        let label = sites.lines(py, site).into_iter().next();
        let mut inner = self.inner.lock();
        let row = inner.row(label)?;
        if inner.by_site.try_reserve(1).is_ok() {
            inner.by_site.insert(site, row);
        }
        Some(row)
    }
}
