//! [`DebugState`]: what an allocator with debugging has, and the checks that it makes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::bytes;
use vkmem_engine::{AllocationId, Error, GuardedUse, PoolKey, Quarantined};
use vkmem_vulkan::{FillTarget, Finding, LeftOut, LeftOutPart, MemoryDebugger, ResourceHandle};

use super::moment::{Fault, Moment};
use super::records::{FreedRecord, Record, Records};
use super::report::{Party, Report};
use super::settings::{CheckMode, DebugSettings};
use crate::lifetime::describe::quoted;
use crate::lifetime::ownership::AllocatorState;

/// What an allocator has that looks for faults of the program.
pub struct DebugState {
    /// The settings of what is in no pool with settings of its own.
    pub(super) settings: DebugSettings,
    pub(super) memory: MemoryDebugger,
    /// Whether calls and frames check all, for the allocator or for one of its pools.
    pub(super) checks_calls: AtomicBool,
    pub(super) checks_frames: AtomicBool,
    pub(super) records: Mutex<Records, rank::DebugRecords>,
    /// Threads that check all at the moment: what they call meanwhile does not.
    pub(super) checking: Mutex<Vec<ThreadId>, rank::DebugChecks>,
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
            checking: Mutex::default(),
        };
        made.note_mode(&settings);
        made
    }

    /// Notes when settings have all checked.
    fn note_mode(&self, settings: &DebugSettings) {
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
        let ids: Vec<AllocationId> = {
            let records = self.records.lock();
            let is_checked = |id: &&AllocationId| {
                self.settings_of(&records, id.pool_key()).checks_margins()
                    && records.get(**id).is_some()
            };
            ids.iter().filter(is_checked).copied().collect()
        };
        if ids.is_empty() {
            return;
        }
        match self.memory.check_some(&allocator.device_allocator, &ids) {
            Ok(checked) => self.keep(allocator, checked.findings),
            Err(error) => self.note_failure("margins of what was freed were not checked", &error),
        }
    }

    /// Keeps what was found for the call of this thread, but for what was told before.
    pub(super) fn keep(&self, allocator: &AllocatorState, findings: Vec<Finding>) {
        let me = thread::current().id();
        let mut findings = findings;
        findings.iter_mut().for_each(|it| add_neighbours(allocator, it));
        let reports = self.reports(allocator, findings);
        let mut records = self.records.lock();
        for report in reports {
            if report.fault().is_none_or(|it| records.told.insert(it)) {
                records.found.push((me, report));
            }
        }
    }

    /// Notes what a check on demand tells: nothing else tells that again.
    pub(super) fn note_told(&self, reports: &[Report]) {
        let faults: HashSet<Fault> = reports.iter().filter_map(Report::fault).collect();
        let mut records = self.records.lock();
        let is_told = |it: &(ThreadId, Report)| it.1.fault().is_some_and(|it| faults.contains(&it));
        let (told, others) = std::mem::take(&mut records.found).into_iter().partition(is_told);
        records.found = others;
        // What has ended meanwhile would never be forgotten.
        let is_there = |it: &Fault| records.knows(it.id());
        let those: Vec<Fault> = faults.iter().filter(|it| is_there(it)).copied().collect();
        records.told.extend(those);
        drop(records);
        // Without the lock: they refer to Python objects.
        drop::<Vec<(ThreadId, Report)>>(told);
    }

    /// Checks and fills what is about to be freed; what goes into quarantine has a record from then on.
    pub(super) fn free(&self, allocator: &AllocatorState, ids: &[AllocationId]) {
        if self.checks_calls.load(Ordering::Relaxed) && self.begin_check() {
            if let Ok(findings) = self.check_all(allocator) {
                self.keep(allocator, findings);
            }
            self.end_check();
        } else {
            self.check_margins(allocator, ids);
        }
        let (mut fills, mut kept): (Vec<(u8, FillTarget)>, Vec<AllocationId>) = Default::default();
        {
            let mut records = self.records.lock();
            for id in ids {
                let settings = self.settings_of(&records, id.pool_key());
                let target = records.get(*id).map(|it| it.target);
                if let (Some(target), Some(with)) = (target, settings.contents_of_freed()) {
                    fills.push((with.of_freed(), target));
                }
                if settings.quarantine.is_some() {
                    kept.push(*id);
                } else {
                    records.forget(*id);
                }
            }
        }
        let filled = self.fill_freed(allocator, &fills);
        if kept.is_empty() {
            return;
        }
        let engine = allocator.engine();
        let now = Moment::of(None, allocator.current_frame());
        for id in kept {
            let is_filled = filled.iter().find(|it| it.0 == id).map(|it| it.1);
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
        fills: &[(u8, FillTarget)],
    ) -> Vec<(AllocationId, u8)> {
        let mut filled = Vec::new();
        let mut bytes: Vec<u8> = fills.iter().map(|it| it.0).collect();
        bytes.sort_unstable();
        bytes.dedup();
        for byte in bytes {
            let its = fills.iter().filter(|it| it.0 == byte);
            let targets: Vec<FillTarget> = its.map(|it| it.1).collect();
            // SAFETY: the program has ended these resources, and their handles are destroyed afterwards.
            let done =
                unsafe { self.memory.fill_freed(&allocator.device_allocator, &targets, byte) };
            match done {
                Ok(left_out) => {
                    self.note_left_out(allocator, &targets, &left_out);
                    let is_filled = |it: &&FillTarget| left_out.iter().all(|left| left.id != it.id);
                    filled.extend(targets.iter().filter(is_filled).map(|it| (it.id, byte)));
                }
                Err(error) => self.note_failure("freed memory was not filled", &error),
            }
        }
        filled
    }

    /// Begins a check of all; false on a thread that is inside of one.
    pub(super) fn begin_check(&self) -> bool {
        let me = thread::current().id();
        let mut checking = self.checking.lock();
        let is_first = !checking.contains(&me);
        if is_first {
            checking.push(me);
        }
        is_first
    }

    /// Ends a check of all.
    pub(super) fn end_check(&self) {
        let me = thread::current().id();
        self.checking.lock().retain(|it| *it != me);
    }

    /// Checks all pools.
    pub(super) fn check_all(&self, allocator: &AllocatorState) -> Result<Vec<Finding>, Error> {
        let contents = |id| self.contents(id);
        let checked = self.memory.check(&allocator.device_allocator, u32::MAX, None, &contents)?;
        Ok(checked.findings)
    }

    /// Looks at allocations whose quarantine is over.
    pub(super) fn look_at_leaving(&self, allocator: &AllocatorState, items: &[Quarantined]) {
        let contents = |id| self.contents(id);
        match self.memory.check_leaving(&allocator.device_allocator, items, &contents) {
            Ok(checked) => self.keep(allocator, checked.findings),
            Err(error) => {
                self.note_failure("memory that left the quarantine was not checked", &error)
            }
        }
        let mut records = self.records.lock();
        let gone: Vec<FreedRecord> =
            items.iter().filter_map(|it| records.freed.remove(&it.id)).collect();
        if !records.told.is_empty() {
            records.told.retain(|fault| items.iter().all(|it| it.id != fault.id()));
        }
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
        let report = |finding: Finding| {
            let subject = finding.range.id.map(|id| self.subject(allocator, id, &finding));
            let subject = subject.unwrap_or_else(|| unknown(&finding));
            let neighbours =
                finding.range.neighbours.map(|id| id.map(|id| self.neighbour(allocator, id)));
            Report { subject, neighbours, finding, at }
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
        drop(records);
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
        let mut party = party(id, self.records.lock().get(id));
        party.name = engine.name(party.id).ok().flatten();
        if let Ok(there) = engine.hold_memory_of(id) {
            party.offset = Some(there.offset);
            party.size = Some(there.size);
        }
        party
    }
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
        let (made, freed, object, class) = (None, None, None, "Memory");
        return Party { id, class, name, size, buffer_size, offset, made, freed, object };
    };
    let is_buffer = matches!(record.target.handle, ResourceHandle::Buffer(_));
    Party {
        id: record.moved_to.unwrap_or(id),
        class: record.target.handle.class(),
        name: None,
        size: Some(record.size),
        buffer_size: is_buffer.then_some(record.target.buffer_size),
        offset: None,
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

/// Looks up the neighbours of what was found, unless they are known.
fn add_neighbours(allocator: &AllocatorState, finding: &mut Finding) {
    let Some(id) = finding.range.id else { return };
    if finding.range.neighbours != [None; 2] {
        return;
    }
    let engine = allocator.engine();
    let of_live = engine.guarded_ranges_of(id, true).map(|it| vec![it]);
    // What is in quarantine is found by a walk only.
    let all = of_live.or_else(|_| {
        let pool = match id.pool_key() {
            PoolKey::Custom(pool) => Some(pool),
            PoolKey::Default(_) => None,
        };
        engine.guarded_ranges(1 << finding.memory_type_index, pool, false)
    });
    let all = all.unwrap_or_default();
    let mut ranges = all.iter().flat_map(|it| &it.ranges);
    if let Some(it) = ranges.find(|it| it.id == Some(id) && it.is == finding.range.is) {
        finding.range.neighbours = it.neighbours;
    }
}
