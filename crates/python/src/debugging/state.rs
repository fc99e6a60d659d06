//! [`DebugState`]: what an allocator with debugging has, and the checks that it makes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyException;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::bytes;
use vkmem_engine::{AllocationId, Error, GuardedUse, KeyMap, PoolId, PoolKey, Quarantined};
use vkmem_vulkan::{
    CheckStopped, Checked, FillTarget, Finding, LeftOut, LeftOutPart, MemoryDebugger,
    ResourceHandle, Stopped,
};

use super::moment::{Fault, Moment};
use super::records::{FreedRecord, Record, Records};
use super::report::{Party, Report};
use super::running::Running;
use super::settings::{CheckMode, Contents, DebugSettings};
use super::slices::{Slices, Which};
use crate::errors::take_raised;
use crate::interpreter::try_attach;
use crate::lifetime::describe::quoted;
use crate::lifetime::ownership::{AllocatorState, PoolState};

const NOT_CHECKED: &str = "margins of what was freed were not checked";

/// How a check of all came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// It has ended, or failed.
    Ended,
    /// A handler of a signal has raised something.
    Interrupted,
}

/// What an allocator has that looks for faults of the program.
pub struct DebugState {
    /// The settings of what is in no pool with settings of its own.
    pub(super) settings: DebugSettings,
    pub(super) memory: MemoryDebugger,
    /// Whether calls and frames check all, for the allocator or for one of its pools.
    pub(super) checks_calls: AtomicBool,
    pub(super) checks_frames: AtomicBool,
    pub(super) records: Mutex<Records, rank::DebugRecords>,
    /// The slices of buffer heaps that are watched.
    pub(super) slices: Mutex<Slices, rank::DebugSlices>,
    /// The checks that are made at the moment.
    pub(super) running: Arc<Running>,
}

/// Returns a key for the patterns of an allocator: no two of a process have the same, nor those of another process
/// that the same memory is shared with.
fn new_key(place: *const AllocatorState) -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos() as u64);
    time ^ (place as u64).rotate_left(32) ^ u64::from(std::process::id()).rotate_left(17)
}

impl DebugState {
    pub(super) fn new(allocator: &AllocatorState, settings: DebugSettings) -> Self {
        let made = Self {
            settings,
            memory: MemoryDebugger::new(new_key(allocator)),
            checks_calls: AtomicBool::new(false),
            checks_frames: AtomicBool::new(false),
            records: Mutex::default(),
            slices: Mutex::default(),
            running: Arc::default(),
        };
        made.note_mode(&settings);
        made
    }

    /// Notes when settings have all checked.
    pub(super) fn note_mode(&self, settings: &DebugSettings) {
        if settings.watches_memory() {
            self.checks_calls.fetch_or(settings.check == CheckMode::Call, Ordering::Relaxed);
            self.checks_frames.fetch_or(settings.check == CheckMode::Frame, Ordering::Relaxed);
        }
    }

    /// Notes a pool with settings of its own.
    pub(super) fn add_pool(&self, pool_key: PoolKey, settings: DebugSettings) {
        self.note_mode(&settings);
        self.records.lock().pools.insert(pool_key, settings);
    }

    /// Returns the settings of a pool.
    pub(super) fn settings_of(&self, records: &Records, pool_key: PoolKey) -> DebugSettings {
        // Default pools have the allocator's.
        match pool_key {
            PoolKey::Default(_) => self.settings,
            PoolKey::Custom(_) => records.pools.get(&pool_key).copied().unwrap_or(self.settings),
        }
    }

    /// Returns what freed memory in quarantine was filled with.
    pub(super) fn contents(&self, id: AllocationId) -> Option<u8> {
        self.records.lock().freed.get(&id)?.contents
    }

    /// Notes what could not be done, unless the device is lost: then nothing can be, and each call says so.
    pub(super) fn note_failure(&self, what: &str, error: &Error) {
        if let Error::Device(failed) = error
            && let Some(raised) = take_raised(failed)
            && try_attach(|py| raised.is_instance_of::<PyException>(py)) == Some(false)
        {
            // An interrupt while the owner's lock was entered: it goes on from the call that this is part of.
            self.running.interrupt(raised);
        }
        if error.vk_result() != Some(-4) && !matches!(error, Error::UseAfterFree) {
            let what = format!("{what}: {error}");
            self.records.lock().leave_out(what.clone(), || what);
        }
    }

    /// Notes which of some targets were not filled.
    pub(super) fn note_left_out(
        &self,
        allocator: &AllocatorState,
        targets: &[FillTarget],
        left_out: &[LeftOut],
    ) {
        for it in left_out {
            let name = allocator.engine().name(it.id).ok().flatten();
            let first = targets.iter().find(|target| target.id == it.id);
            let mut records = self.records.lock();
            let settings = self.settings_of(&records, it.id.pool_key());
            let what = match it.part {
                LeftOutPart::Margins if settings.checks_margins() => {
                    "margins are not filled and not checked"
                }
                // A margin that nobody checks is room only.
                LeftOutPart::Margins => continue,
                LeftOutPart::Contents => "contents are not filled",
            };
            records.leave_out(format!("{what}: {}", it.why), || {
                let first = first.map_or_else(String::new, |it| describe(it, name.as_deref()));
                format!("there is memory whose {what}, first that of {first}: {}", it.why)
            });
        }
    }

    /// Checks the margins of some allocations, and keeps what is found for the call of this thread.
    pub(super) fn check_margins(&self, allocator: &AllocatorState, ids: &[AllocationId]) {
        let ids: Cow<'_, [AllocationId]> = {
            let records = self.records.lock();
            let is_checked = |id: &&AllocationId| {
                self.settings_of(&records, id.pool_key()).checks_margins()
                    && records.get(**id).is_some()
            };
            match ids.iter().all(|id| is_checked(&id)) {
                true => ids.into(),
                false => ids.iter().filter(is_checked).copied().collect(),
            }
        };
        if ids.is_empty() {
            return;
        }
        let pause = || self.running.pause();
        let done = self.memory.check_some(&allocator.device_allocator, &ids, &pause);
        match self.outcome(done) {
            Ok(checked) => self.keep(allocator, checked.findings),
            Err(Stopped::Failed(error)) => self.note_failure(NOT_CHECKED, &error),
            Err(Stopped::Interrupted) => self.note_interrupt(),
        }
    }

    /// Notes that the check of what is freed was interrupted, which cannot be made up for.
    pub(super) fn note_interrupt(&self) {
        let what = format!("{NOT_CHECKED}: a signal has interrupted that");
        self.records.lock().leave_out(what.clone(), || what);
    }

    /// Returns the outcome of a check; of one that was interrupted it keeps what the device still uses.
    pub(super) fn outcome<T>(&self, done: Result<T, CheckStopped>) -> Result<T, Stopped> {
        done.map_err(|stopped| match stopped {
            CheckStopped::Failed(error) => Stopped::Failed(error),
            CheckStopped::Interrupted(unfinished) => {
                unfinished.into_iter().for_each(|it| self.running.leave(*it));
                Stopped::Interrupted
            }
        })
    }

    /// Keeps what was found for the call of this thread, but for what was told before.
    pub(super) fn keep(&self, allocator: &AllocatorState, findings: Vec<Finding>) {
        if findings.is_empty() {
            return;
        }
        let me = thread::current().id();
        let mut findings = findings;
        add_neighbours(allocator, &mut findings);
        let reports = self.reports(allocator, findings);
        let mut records = self.records.lock();
        for report in reports {
            if report.fault().is_none_or(|it| records.tell(it)) {
                records.find(me, report);
            }
        }
    }

    /// Returns whether there is anything to tell. With the GIL, under which references to Python objects end.
    pub(super) fn has_news(&self) -> bool {
        loop {
            let mut records = self.records.lock();
            let Some(object) = records.take_ended_object() else {
                return records.has_news() || self.running.has_interrupts();
            };
            drop(records);
            drop(object);
        }
    }

    /// Keeps reports that could not be told yet, for the next call of this thread.
    pub(super) fn keep_reports(&self, reports: Vec<Report>) {
        let me = thread::current().id();
        let mut records = self.records.lock();
        reports.into_iter().for_each(|report| records.find(me, report));
    }

    /// Notes what a check on demand tells: nothing else tells that again.
    pub(super) fn note_told(&self, reports: &[Report]) {
        let faults: Vec<Fault> = reports.iter().filter_map(Report::fault).collect();
        let mut records = self.records.lock();
        let told = records.take_told(&faults);
        for fault in faults.into_iter().filter(|it| it.slice.is_none()) {
            records.tell(fault);
        }
        drop(records);
        // Without the lock: they refer to Python objects.
        drop(told);
        self.note_slices(reports);
    }

    /// Checks and fills what is about to be freed; what goes into quarantine has a record from then on.
    pub(super) fn free(&self, allocator: &AllocatorState, ids: &[AllocationId]) {
        let is_over = self.running.is_over();
        let checks_all = self.checks_calls.load(Ordering::Relaxed);
        if !is_over {
            match checks_all.then(|| self.check_all(allocator)).flatten() {
                Some(Checks::Ended) => {}
                Some(Checks::Interrupted) => self.note_interrupt(),
                None => self.check_margins(allocator, ids),
            }
        }
        let (mut fills, mut kept): (Vec<(FillTarget, u8)>, Vec<AllocationId>) = Default::default();
        {
            let mut records = self.records.lock();
            for id in ids {
                let settings = self.settings_of(&records, id.pool_key());
                if !is_over
                    && let Some(with) = settings.contents_of_freed()
                    && let Some(record) = records.get(*id)
                {
                    fills.push((record.target, with.of_freed()));
                }
                if settings.quarantine.is_some() {
                    kept.push(*id);
                } else {
                    records.forget(*id);
                }
            }
        }
        let filled = self.fill_freed(allocator, fills);
        if kept.is_empty() {
            return;
        }
        let engine = allocator.engine();
        let now = Moment::of(None, allocator.current_frame());
        for id in kept {
            let is_filled = filled.get(&id).copied();
            let mut records = self.records.lock();
            let Some(record) = records.take(id) else { continue };
            let named = record.moved_to.unwrap_or(id);
            let freed = record.ended.unwrap_or(now);
            drop(records);
            let name = engine.name(named).ok().flatten();
            let record = FreedRecord { record, name, freed, contents: is_filled };
            self.records.lock().freed.insert(id, record);
        }
    }

    /// Fills freed memory; returns what was filled, and with what.
    fn fill_freed(
        &self,
        allocator: &AllocatorState,
        fills: Vec<(FillTarget, u8)>,
    ) -> KeyMap<AllocationId, u8> {
        let mut filled = KeyMap::default();
        self.fill(allocator, fills, "freed memory was not filled", |targets, byte| {
            // SAFETY: the program has ended these resources, and their handles are destroyed afterwards.
            let done =
                unsafe { self.memory.fill_freed(&allocator.device_allocator, targets, byte) };
            if let Ok(left_out) = &done {
                filled.extend(targets.iter().map(|it| (it.id, byte)));
                for it in left_out {
                    filled.remove(&it.id);
                }
            }
            done
        });
        filled
    }

    /// Fills new resources, and writes their margins.
    pub(super) fn prepare(
        &self,
        allocator: &AllocatorState,
        fills: Vec<(FillTarget, Option<Contents>)>,
    ) {
        self.fill(allocator, fills, "new memory was not filled", |targets, contents| {
            let fill = contents.map(Contents::of_new);
            // SAFETY: the resources are new, and pinned, so that nothing uses, moves or ends them.
            unsafe { self.memory.prepare(&allocator.device_allocator, targets, fill) }
        });
    }

    /// Fills resources, those with the same contents together; notes what was left out, and why.
    fn fill<C: Copy + Eq>(
        &self,
        allocator: &AllocatorState,
        fills: Vec<(FillTarget, C)>,
        failure: &str,
        mut fill: impl FnMut(&[FillTarget], C) -> Result<Vec<LeftOut>, Error>,
    ) {
        let mut rest = fills;
        while let Some((_, contents)) = rest.first().copied() {
            let its = rest.extract_if(.., |it| it.1 == contents);
            let targets: Vec<FillTarget> = its.map(|it| it.0).collect();
            match fill(&targets, contents) {
                Ok(left_out) => self.note_left_out(allocator, &targets, &left_out),
                Err(error) => self.note_failure(failure, &error),
            }
        }
    }

    /// Checks all pools and keeps what is found; `None` on a thread that is inside of a check or of the callback.
    pub(super) fn check_all(&self, allocator: &AllocatorState) -> Option<Checks> {
        let check = || {
            let checked = self.check(allocator, u32::MAX, None).and_then(|checked| {
                self.keep(allocator, checked.findings);
                self.check_slices(allocator, u32::MAX, Which::All)
            });
            match checked {
                Ok(slices) => self.keep_slices(allocator, slices.findings),
                Err(Stopped::Failed(error)) => self.note_failure("memory was not checked", &error),
                // Nothing was told yet: the next check finds all of it.
                Err(Stopped::Interrupted) => return Checks::Interrupted,
            }
            Checks::Ended
        };
        self.running.check_all(check)
    }

    /// Checks memory types or a pool, until a handler of a signal has raised something.
    pub(super) fn check(
        &self,
        allocator: &AllocatorState,
        memory_type_bits: u32,
        pool: Option<PoolId>,
    ) -> Result<Checked, Stopped> {
        // What was interrupted before may be done by now.
        self.running.finish(Duration::ZERO);
        let (contents, pause) = (|id| self.contents(id), || self.running.pause());
        let which = (memory_type_bits, pool);
        self.outcome(self.memory.check(&allocator.device_allocator, which, &contents, &pause))
    }

    /// Looks at allocations whose quarantine is over.
    pub(super) fn look_at_leaving(&self, allocator: &AllocatorState, items: &[Quarantined]) {
        let contents = |id| self.contents(id);
        let what = "memory that left the quarantine was not checked";
        let check = || self.memory.check_leaving(&allocator.device_allocator, items, &contents);
        match (!self.running.is_over()).then(check) {
            Some(Ok(checked)) => self.keep(allocator, checked.findings),
            Some(Err(error)) => self.note_failure(what, &error),
            None => {}
        }
        let mut records = self.records.lock();
        let gone: Vec<FreedRecord> =
            items.iter().filter_map(|it| records.leave_quarantine(it.id)).collect();
        drop(records);
        // Without the lock: they refer to Python objects.
        drop(gone);
    }

    /// Adds what is known of the allocations to what was found.
    pub(super) fn reports(
        &self,
        allocator: &AllocatorState,
        findings: Vec<Finding>,
    ) -> Vec<Report> {
        let at = Instant::now();
        let mut facing = self.facing(allocator, &findings).into_iter();
        let report = |finding: Finding| {
            let subject = finding.range.id.map(|id| self.subject(allocator, id, &finding));
            let subject = subject.unwrap_or_else(|| unknown(&finding));
            let neighbours =
                finding.range.neighbours.map(|id| id.map(|id| self.neighbour(allocator, id)));
            let is_facing_intact = facing.next().flatten();
            Report { subject, neighbours, finding, at, slice: None, is_facing_intact }
        };
        findings.into_iter().map(report).collect()
    }

    fn subject(&self, allocator: &AllocatorState, id: AllocationId, finding: &Finding) -> Party {
        let range = &finding.range;
        let records = self.records.lock();
        let (record, freed) = match records.freed.get(&id) {
            Some(freed) => (Some(&freed.record), Some(freed)),
            None => (records.get(id), None),
        };
        let mut party = party(id, record);
        party.freed = freed.map(|it| it.freed).or(party.freed);
        party.name = freed.and_then(|it| it.name.clone());
        let is_freed = freed.is_some();
        let pool = record.and_then(|it| it.pool.clone());
        drop(records);
        party.within = place(pool);
        if range.is == GuardedUse::Quarantined {
            party.size.get_or_insert(range.size);
        }
        party.offset = range.offset.checked_add_signed(-range.from_start);
        if !is_freed {
            party.name = allocator.engine().name(party.id).ok().flatten();
        }
        party
    }

    fn neighbour(&self, allocator: &AllocatorState, id: AllocationId) -> Party {
        let engine = allocator.engine();
        let records = self.records.lock();
        let mut party = party(id, records.get(id));
        let pool = records.get(id).and_then(|it| it.pool.clone());
        drop(records);
        party.within = place(pool);
        party.name = engine.name(party.id).ok().flatten();
        if let Ok(there) = engine.hold_memory_of(id) {
            party.offset = Some(there.offset);
            party.size = Some(there.size);
        }
        party
    }
}

/// Returns in which pool it is; the lock of the records is not held.
fn place(pool: Option<Weak<PoolState>>) -> Option<String> {
    pool?.upgrade()?.place()
}

/// Returns class, name and, of a buffer, size of a resource: `Buffer 'a' (256 bytes)`.
fn describe(target: &FillTarget, name: Option<&str>) -> String {
    let name = name.map_or(String::new(), quoted);
    let size = match target.handle {
        ResourceHandle::Buffer(_) => format!(" ({})", bytes(target.buffer_size)),
        _ => String::new(),
    };
    format!("{}{name}{size}", target.handle.class())
}

/// Returns what a record says of an allocation.
fn party(id: AllocationId, record: Option<&Record>) -> Party {
    let Some(record) = record else {
        let (name, size, buffer_size, offset) = (None, None, None, None);
        let (made, freed, object, within, class) = (None, None, None, None, "Memory");
        return Party { id, class, name, size, buffer_size, offset, within, made, freed, object };
    };
    let is_buffer = matches!(record.target.handle, ResourceHandle::Buffer(_));
    Party {
        id: record.moved_to.unwrap_or(id),
        class: record.target.handle.class(),
        name: None,
        size: Some(record.size),
        buffer_size: is_buffer.then_some(record.target.buffer_size),
        offset: None,
        within: None,
        made: Some(record.made),
        freed: record.ended,
        object: record.object.clone(),
    }
}

/// Returns what is known of memory that belongs to nothing.
fn unknown(finding: &Finding) -> Party {
    let id = AllocationId::new(
        PoolKey::Default(finding.memory_type_index),
        true,
        vkmem_engine::SlotKey::NONE,
    );
    Party { offset: Some(finding.range.offset), ..party(id, None) }
}

/// Looks up the neighbours of what was found, unless they are known: of many in one walk over their pool.
fn add_neighbours(allocator: &AllocatorState, findings: &mut [Finding]) {
    let engine = allocator.engine();
    let is_unknown = |it: &Finding| it.range.id.is_some() && it.range.neighbours == [None; 2];
    let mut places: KeyMap<(u32, Option<PoolId>), Vec<&mut Finding>> = KeyMap::default();
    for it in findings.iter_mut().filter(|it| is_unknown(it)) {
        let pool = match it.range.id.map(AllocationId::pool_key) {
            Some(PoolKey::Custom(pool)) => Some(pool),
            _ => None,
        };
        places.entry((it.memory_type_index, pool)).or_default().push(it);
    }
    for ((memory_type_index, pool), those) in places {
        let first = those.first().and_then(|it| it.range.id);
        // What is in quarantine is found by a walk over all only.
        let alone = first.filter(|_| those.len() == 1);
        let of_alone = alone.and_then(|id| engine.guarded_ranges_of(id, true).ok());
        let all = match of_alone {
            Some(it) => vec![it],
            None => engine.guarded_ranges(1 << memory_type_index, pool, false).unwrap_or_default(),
        };
        let wanted: HashSet<AllocationId> = those.iter().filter_map(|it| it.range.id).collect();
        let mut neighbours: KeyMap<(AllocationId, u8), [Option<AllocationId>; 2]> =
            KeyMap::default();
        for it in all.iter().flat_map(|it| &it.ranges) {
            if let Some(id) = it.id.filter(|id| wanted.contains(id)) {
                neighbours.insert((id, it.is as u8), it.neighbours);
            }
        }
        for it in those {
            let key = it.range.id.map(|id| (id, it.range.is as u8));
            if let Some(found) = key.and_then(|key| neighbours.get(&key)) {
                it.range.neighbours = *found;
            }
        }
    }
}
