//! [`AllocatorDebugger`]: what happens in the life of resources while their memory is watched.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use vkmem_engine::{AllocationId, PoolId, PoolKey};
use vkmem_vulkan::{FillTarget, ResourceHandle};

use super::listener::Watcher;
use super::moment::Moment;
use super::raising::{self, keeping_interrupts};
use super::records::Record;
use super::settings::DebugSettings;
use super::slices::Which;
use super::state::DebugState;
use crate::errors::feature_not_present;
use crate::interpreter::{detach, enter_thread};
use crate::lifetime::debugger::nothing_to_check;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::{AllocatorState, Created, Debugger, ResourceRef};

/// Looks for faults of the program in the memory of an allocator.
pub(super) struct AllocatorDebugger(Arc<DebugState>);

/// Returns what is filled of a resource.
fn target(made: &Created<'_>) -> FillTarget {
    let resource = &made.resource;
    let handle = if resource.dont_bind { ResourceHandle::Memory } else { resource.handle() };
    FillTarget {
        handle,
        usage: resource.usage,
        buffer_size: resource.host_size,
        image: made.image,
        id: resource.allocation().id,
    }
}

impl AllocatorDebugger {
    /// Returns that of an allocator, which is made with settings if there is none.
    pub fn of(allocator: &Arc<AllocatorState>, settings: DebugSettings) -> Arc<Self> {
        let mut is_new = false;
        let there = allocator.debugger.get_or_init(|| {
            is_new = true;
            Arc::new(Self(Arc::new(DebugState::new(allocator, settings))))
        });
        let any: Arc<dyn Any + Send + Sync> = there.clone();
        let made: Arc<Self> = any.downcast().expect("made here");
        if is_new {
            let (of, state) = (Arc::downgrade(allocator), made.0.clone());
            let watcher = Arc::new(Watcher { allocator: of, state });
            allocator.background.lock().push(made.0.running.clone());
            allocator.engine().set_quarantine_owner(Some(watcher.clone()));
            allocator.events.begin(watcher);
        }
        made
    }

    pub(super) fn state(&self) -> &DebugState {
        &self.0
    }

    /// Notes a pool with settings of its own.
    pub fn add_pool(&self, pool_key: PoolKey, settings: DebugSettings) {
        self.0.add_pool(pool_key, settings);
    }

    /// Writes the margins of resources that have moved: their contents are there, or on their way. In memory that the
    /// host flushes in atoms, which may hold contents as well, the device writes them.
    fn guard_moved(&self, allocator: &AllocatorState, targets: &[FillTarget]) {
        let state = &self.0;
        let engine = allocator.engine();
        let has_atoms = |it: &FillTarget| {
            engine
                .hold_memory_of(it.id)
                .is_ok_and(|it| engine.atom_size(it.memory.memory_type_index()).is_some())
        };
        let (by_device, rest): (Vec<_>, Vec<_>) = targets.iter().partition(|it| has_atoms(it));
        for (debugger, targets) in [(state.memory.by_device(), by_device), (state.memory, rest)] {
            if targets.is_empty() {
                continue;
            }
            // SAFETY: margins alone are written, which nobody uses; the resources are closed for the move.
            let done = unsafe { debugger.prepare(&allocator.device_allocator, &targets, None) };
            match done {
                Ok(left_out) => state.note_left_out(allocator, &targets, &left_out),
                Err(error) => state.note_failure("margins of what moved were not filled", &error),
            }
        }
    }

    /// Checks all, if no check of this thread is running, and keeps what is found.
    fn check_all(&self, py: Python<'_>, allocator: &AllocatorState) {
        if !allocator.is_abandoned() {
            detach(py, || self.0.check_all(allocator));
        }
    }

    /// Returns whether anything is watched in a pool, or in a pool of some memory types.
    fn watches(&self, allocator: &AllocatorState, bits: u32, pool: Option<PoolId>) -> bool {
        let (state, engine) = (&self.0, allocator.engine());
        let records = state.records.lock();
        let looks =
            |settings: &DebugSettings| settings.checks_margins() || settings.quarantine.is_some();
        if let Some(pool) = pool {
            return looks(&state.settings_of(&records, PoolKey::Custom(pool)));
        }
        let types = engine.device().info().types.len();
        let all = u32::try_from((1u64 << types) - 1).unwrap_or(u32::MAX);
        let own: Vec<PoolKey> =
            records.pools.iter().filter(|it| looks(it.1)).map(|it| *it.0).collect();
        drop(records);
        let is_there = |key: &PoolKey| match key {
            PoolKey::Custom(id) => {
                engine.pool_info(*id).is_ok_and(|it| bits >> it.memory_type_index & 1 == 1)
            }
            PoolKey::Default(_) => false,
        };
        looks(&state.settings) && bits & all != 0 || own.iter().any(is_there)
    }
}

impl Debugger for AllocatorDebugger {
    fn created(&self, py: Python<'_>, allocator: &AllocatorState, made: &[Created<'_>]) {
        let state = &self.0;
        let mut fills = Vec::with_capacity(made.len());
        let mut pinned: Vec<&ResourceRef> = Vec::with_capacity(made.len());
        let frame = allocator.current_frame();
        for it in made {
            // Without the lock, which is not held while Python allocates.
            let object = PyWeakrefReference::new(&it.object).ok();
            let object = object.map(|it| Arc::new(it.into_any().unbind()));
            let (target, made) = (target(it), Moment::of(it.resource.origin(), frame));
            let mut records = state.records.lock();
            let settings = state.settings_of(&records, target.id.pool_key());
            if it.resource.alias().is_some() || !settings.watches_memory() {
                continue;
            }
            let size = it.resource.allocation().size;
            let pool = it.resource.pool().map(Arc::downgrade);
            let record = Record { target, size, made, ended: None, object, pool, moved_to: None };
            records.live.insert(target.id, record);
            drop(records);
            if settings.fill.is_some() || settings.checks_margins() {
                fills.push((target, settings.fill));
                pinned.push(&it.resource);
            }
        }
        if state.checks_calls.load(Ordering::Relaxed) {
            allocator.pins.watch(py);
            made.iter().for_each(|it| it.resource.pins.watch(py));
        }
        pinned.retain(|it| it.pins.add(py));
        if !fills.is_empty() {
            detach(py, || self.0.prepare(allocator, fills));
        }
        pinned.into_iter().for_each(|it| it.pins.remove(py));
        if self.0.has_news() {
            keeping_interrupts(py, || self.report(py, allocator));
        }
    }

    fn ends(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        ids: &mut dyn Iterator<Item = AllocationId>,
    ) {
        let sites = &allocator.sites;
        let site = if sites.is_tracking() { sites.capture_tracked(py) } else { None };
        let ended = Moment { site, ..Moment::of(None, allocator.current_frame()) };
        let mut records = self.0.records.lock();
        for id in ids {
            if let Some(record) = records.live.get_mut(&id) {
                // The first one is that of the program; the memory may be freed later.
                record.ended.get_or_insert(ended);
            }
        }
    }

    fn leaves(&self, allocator: &AllocatorState, ids: &[AllocationId]) {
        self.0.check_margins(allocator, ids);
    }

    fn moved(&self, allocator: &AllocatorState, moved: &[(AllocationId, Location)]) {
        let state = &self.0;
        state.slices.lock().relocate(moved);
        let mut fills = Vec::new();
        let mut records = state.records.lock();
        let engine = allocator.engine();
        records.sweep(|id| engine.name(id).is_ok());
        for (before, after) in moved {
            let (handle, id) = (after.handle, after.allocation.id);
            let there = records.relocate(*before, |target| FillTarget { handle, id, ..target });
            if let Some(target) = there
                && state.settings_of(&records, id.pool_key()).checks_margins()
            {
                fills.push(target);
            }
        }
        drop(records);
        self.guard_moved(allocator, &fills);
    }

    fn frees_left(&self, allocator: &AllocatorState, ids: &[AllocationId]) {
        self.0.free(allocator, ids);
    }

    fn begin_frame(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        detach(py, || allocator.engine().end_overdue_quarantines());
        allocator.tell_device_memory(py);
        if self.0.checks_frames.load(Ordering::Relaxed) {
            self.check_all(py, allocator);
        }
        raising::raise_found(py, allocator, &self.0, None)
    }

    fn begin_change(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<bool> {
        let state = &self.0;
        if state.running.is_changing() {
            return Ok(false);
        }
        self.check_all(py, allocator);
        if let Some(raised) = state.running.take_interrupt() {
            return Err(raised);
        }
        state.records.lock().hold_back(thread::current().id());
        state.running.begin_change();
        Ok(true)
    }

    fn end_change(&self) {
        self.0.running.end_change();
        self.0.records.lock().let_out(thread::current().id());
    }

    fn enter(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        if self.0.running.is_changing() {
            return Ok(());
        }
        self.check_all(py, allocator);
        self.raise(py, allocator)
    }

    fn check(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        memory_type_bits: u32,
        pool: Option<PoolId>,
    ) -> PyResult<u64> {
        let state = &self.0;
        let which = pool.map_or(Which::All, Which::Pool);
        if !self.watches(allocator, memory_type_bits, pool) && !state.has_slices(which) {
            return Err(nothing_to_check(py));
        }
        let checked = detach(py, || {
            let checked = state.check(allocator, memory_type_bits, pool)?;
            let mut reports = state.reports(allocator, checked.findings);
            let slices = state.check_slices(allocator, memory_type_bits, which)?;
            reports.extend(state.slice_reports(allocator, slices.findings));
            let unchecked = [checked.unchecked, slices.unchecked].concat();
            Ok((reports, checked.ranges + slices.ranges, unchecked))
        });
        let (reports, ranges, unchecked) =
            checked.map_err(|stopped| raising::stopped(py, state, stopped))?;
        raising::raise_told(py, allocator, state, &reports)?;
        match unchecked.first() {
            Some(first) if ranges == 0 => {
                let why = format!("memory cannot be checked: {}", first.why);
                Err(feature_not_present(py, &why))
            }
            _ => Ok(ranges),
        }
    }

    fn raise(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        if !self.0.has_news() {
            return Ok(());
        }
        raising::raise_found(py, allocator, &self.0, Some(std::thread::current().id()))
    }

    fn report(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        if !self.0.has_news() {
            return Ok(());
        }
        // What other threads have found that make no call any more is told at the end.
        let me = (!allocator.pins.is_closed()).then(|| std::thread::current().id());
        raising::report_found(py, allocator, &self.0, me)
    }

    fn check_at_exit(
        &self,
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        at_most: Duration,
    ) -> bool {
        let (sender, receiver) = mpsc::channel();
        let (state, of) = (self.0.clone(), allocator.clone());
        // A thread of its own can be left alone where the device, or the owner's lock of its queue, does not answer.
        let begun = thread::Builder::new().spawn(move || {
            enter_thread();
            state.check_all(&of);
            // Before anybody hears of it: the last reference must not end here.
            drop(of);
            let _ = sender.send(());
        });
        let has_ended = begun.is_ok() && detach(py, move || receiver.recv_timeout(at_most).is_ok());
        self.0.running.stop();
        has_ended
    }
}
