//! [`AllocatorDebugger`]: what happens in the life of resources while their memory is watched.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use vkmem_engine::{AllocationId, Error, PoolId, PoolKey};
use vkmem_vulkan::{FillTarget, ResourceHandle};

use super::listener::Watcher;
use super::moment::Moment;
use super::raising;
use super::records::Record;
use super::settings::{Contents, DebugSettings};
use super::state::DebugState;
use crate::errors::{feature_not_present, to_py};
use crate::interpreter::{detach, in_finaliser};
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
            allocator.engine().set_quarantine_owner(Some(watcher.clone()));
            allocator.events.begin(watcher);
        }
        made
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

    /// Fills new resources, those with the same settings together.
    fn prepare(&self, allocator: &AllocatorState, made: &[(FillTarget, Option<Contents>)]) {
        let state = &self.0;
        let mut rest: Vec<_> = made.to_vec();
        while let Some((_, contents)) = rest.first().copied() {
            let (those, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|it| it.1 == contents);
            rest = others;
            let targets: Vec<FillTarget> = those.into_iter().map(|it| it.0).collect();
            let fill = contents.map(Contents::of_new);
            // SAFETY: the resources are new, and pinned, so that nothing uses, moves or ends them.
            let done = unsafe { state.memory.prepare(&allocator.device_allocator, &targets, fill) };
            match done {
                Ok(left_out) => state.note_left_out(allocator, &targets, &left_out),
                Err(error) => state.note_failure("new memory was not filled", &error),
            }
        }
    }

    /// Checks all, if no check of this thread is running, and keeps what is found.
    fn check_all(&self, py: Python<'_>, allocator: &AllocatorState) {
        let state = &self.0;
        if allocator.is_abandoned() || !state.begin_check() {
            return;
        }
        detach(py, || match state.check_all(allocator) {
            Ok(findings) => state.keep(allocator, findings),
            Err(error) => state.note_failure("memory was not checked", &error),
        });
        state.end_check();
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
        let (mut fills, mut pinned) = (Vec::new(), Vec::new());
        {
            let frame = allocator.current_frame();
            // Without the lock, which is not held while Python allocates.
            let objects: Vec<_> =
                made.iter().map(|it| PyWeakrefReference::new(&it.object).ok()).collect();
            let mut records = state.records.lock();
            for (it, object) in made.iter().zip(objects) {
                let id = it.resource.allocation().id;
                let settings = state.settings_of(&records, id.pool_key());
                if it.resource.alias().is_some() || !settings.watches_memory() {
                    continue;
                }
                let target = target(it);
                let record = Record {
                    target,
                    size: it.resource.allocation().size,
                    made: Moment::of(it.resource.origin(), frame),
                    ended: None,
                    object: object.map(|it| Arc::new(it.into_any().unbind())),
                    moved_to: None,
                };
                records.live.insert(id, record);
                if settings.fill.is_some() || settings.checks_margins() {
                    fills.push((target, settings.fill));
                    pinned.push(&it.resource);
                }
            }
        }
        if state.checks_calls.load(Ordering::Relaxed) {
            allocator.pins.watch(py);
            made.iter().for_each(|it| it.resource.pins.watch(py));
        }
        let pins: Vec<&ResourceRef> = pinned.into_iter().filter(|it| it.pins.add(py)).collect();
        if !fills.is_empty() {
            detach(py, || self.prepare(allocator, &fills));
        }
        pins.into_iter().for_each(|it| it.pins.remove(py));
        in_finaliser(py, || self.report(py, allocator));
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
        let reports = self.0.records.lock().take_found(None);
        raising::raise(py, allocator, &self.0, &reports)
    }

    fn enter(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
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
        if !self.watches(allocator, memory_type_bits, pool) {
            return Err(nothing_to_check(py));
        }
        let contents = |id| state.contents(id);
        let checked = detach(py, || {
            let memory = &state.memory;
            let checked =
                memory.check(&allocator.device_allocator, memory_type_bits, pool, &contents)?;
            let reports = state.reports(allocator, checked.findings);
            Ok::<_, Error>((reports, checked.ranges, checked.unchecked))
        });
        let (reports, ranges, unchecked) = checked.map_err(|error| to_py(py, &error))?;
        state.note_told(&reports);
        raising::raise(py, allocator, state, &reports)?;
        match unchecked.first() {
            Some(first) if ranges == 0 => {
                let why = format!("memory cannot be checked: {}", first.why);
                Err(feature_not_present(py, &why))
            }
            _ => Ok(ranges),
        }
    }

    fn raise(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        let reports = self.0.records.lock().take_found(Some(std::thread::current().id()));
        raising::raise(py, allocator, &self.0, &reports)
    }

    fn report(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        // What other threads have found that make no call any more is told at the end.
        let me = (!allocator.pins.is_closed()).then(|| std::thread::current().id());
        let reports = self.0.records.lock().take_found(me);
        raising::report(py, allocator, &self.0, &reports)
    }
}
