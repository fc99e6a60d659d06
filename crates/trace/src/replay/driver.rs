//! [`Driver`]: the device of a replay, which answers as the recorded one did where the trace says so, and counts.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{
    DeviceError, DeviceInfo, DeviceMemory, DriverBudget, HostAddress, MemoryAllocateInfo,
    MemoryHandle, MemoryRange,
};

use super::gauges::Gauges;

/// The functions of the driver that are counted, in the order of [`DriverCalls::counts`].
pub(super) const FUNCTIONS: [&str; 7] = [
    "vkAllocateMemory",
    "vkFreeMemory",
    "vkMapMemory",
    "vkUnmapMemory",
    "vkFlushMappedMemoryRanges",
    "vkInvalidateMappedMemoryRanges",
    "vkGetPhysicalDeviceMemoryProperties2",
];

/// Where memory is mapped that has no bytes.
const ANYWHERE: HostAddress = HostAddress(NonZeroUsize::new(1 << 16).expect("it is not 0"));

/// An answer of the recorded driver to `vkAllocateMemory`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub memory_type: Option<u32>,
    pub size: u64,
    pub result: i32,
}

/// What the driver was asked for, for a recording of the replay.
#[derive(Clone, Copy, Debug)]
pub(super) enum DriverEvent {
    Allocated { info: MemoryAllocateInfo, result: Result<MemoryHandle, DeviceError> },
    Freed(MemoryHandle),
}

/// What a driver was asked for and holds.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverCalls {
    /// Calls by function.
    pub counts: [u64; FUNCTIONS.len()],
    /// Calls that failed, by function.
    pub failed: [u64; FUNCTIONS.len()],
    /// Memory objects that were allocated, and their bytes, by memory type.
    pub by_type: Vec<(u64, u64)>,
    /// Bytes held and the most that ever were, by heap.
    pub by_heap: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
struct State {
    calls: DriverCalls,
    live: HashMap<u64, (u32, u64)>,
    /// Recorded answers, by the thread whose next call asks for them.
    answers: HashMap<u32, VecDeque<Answer>>,
    /// The thread whose call is played.
    thread: u32,
    /// Calls to which the recorded driver had no answer: the program was not the recorded one.
    unexpected: u64,
    /// Usage of others and budget of each heap, as reported.
    reports: Vec<Option<(u64, u64)>>,
    events: Vec<DriverEvent>,
}

/// Where the driver's budgets come from.
#[derive(Clone, Debug)]
pub(super) enum Budgets {
    /// The driver behind.
    Device,
    /// The budget of each heap; usage is counted.
    Fixed(Vec<u64>),
    /// The recording.
    Recorded,
    /// None: the recorded driver reported none.
    None,
}

/// The device behind a driver.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    /// One that all drivers of the replay share, and whose memory has bytes.
    Real,
    /// One of its own for each allocator, which has this number. Addresses are numbers that nobody reads through, and
    /// memory takes no memory.
    Simulated(u16),
}

/// A device in front of another one.
pub(super) struct Driver {
    info: DeviceInfo,
    behind: Arc<dyn DeviceMemory>,
    has_bytes: bool,
    /// What is added to the handles of the device behind, which counts them from 1 as all simulated devices do: no two
    /// memory objects of a replay have one handle.
    first_handle: u64,
    budgets: Budgets,
    records: bool,
    /// Whether memory that nobody uses may stay mapped.
    stays_mapped: bool,
    gauges: Arc<Gauges>,
    state: Mutex<State, rank::ReplayDriver>,
}

impl Driver {
    pub fn new(
        info: DeviceInfo,
        behind: Arc<dyn DeviceMemory>,
        kind: Behind,
        budgets: Budgets,
        (records, stays_mapped): (bool, bool),
        gauges: Arc<Gauges>,
    ) -> Self {
        let calls = DriverCalls {
            by_type: vec![(0, 0); info.types.len()],
            by_heap: vec![(0, 0); info.heaps.len()],
            ..DriverCalls::default()
        };
        let reports = vec![None; info.heaps.len()];
        let state = Mutex::new(State { calls, reports, ..State::default() });
        let (has_bytes, first_handle) = match kind {
            Behind::Real => (true, 0),
            Behind::Simulated(number) => (false, u64::from(number) << 48),
        };
        Self {
            info,
            behind,
            has_bytes,
            first_handle,
            budgets,
            records,
            stays_mapped,
            gauges,
            state,
        }
    }

    /// Notes a recorded answer to the call that a thread makes next.
    pub fn expect(&self, thread: u32, answer: Answer) {
        self.state.lock().answers.entry(thread).or_default().push_back(answer);
    }

    /// Notes whose call is played next.
    pub fn begin_call(&self, thread: u32) {
        self.state.lock().thread = thread;
    }

    /// Forgets answers that nobody asked for; returns how many there were, and how many calls had none.
    pub fn end_of_call(&self) -> (u64, u64) {
        let mut state = self.state.lock();
        let thread = state.thread;
        let left = state.answers.remove(&thread).map_or(0, |it| it.len() as u64);
        (left, std::mem::take(&mut state.unexpected))
    }

    /// Sets usage and budget of a heap as the recorded driver reported them, when the allocator held `held` bytes of it.
    pub fn report(&self, heap: u32, usage: u64, budget: u64, held: u64) {
        if let Some(report) = self.state.lock().reports.get_mut(heap as usize) {
            *report = Some((usage.saturating_sub(held), budget));
        }
    }

    /// Returns and removes what was asked for since the last call.
    pub fn take_events(&self) -> Vec<DriverEvent> {
        if self.records { std::mem::take(&mut self.state.lock().events) } else { Vec::new() }
    }

    /// Returns what was asked for so far.
    pub fn calls(&self) -> DriverCalls {
        self.state.lock().calls.clone()
    }

    /// Returns the memory objects that are held, by their handles, with their sizes in bytes.
    pub fn memories(&self) -> Vec<(u64, u64)> {
        let state = self.state.lock();
        state.live.iter().map(|(handle, (_, size))| (*handle, *size)).collect()
    }

    fn count<T>(
        &self,
        function: usize,
        call: impl FnOnce() -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let made = call();
        let mut state = self.state.lock();
        state.calls.counts[function] += 1;
        state.calls.failed[function] += u64::from(made.is_err());
        made
    }

    /// Returns the failure that the recorded driver answered, if it did.
    fn recorded_failure(&self, info: &MemoryAllocateInfo) -> Option<DeviceError> {
        let mut state = self.state.lock();
        let thread = state.thread;
        let first = *state.answers.get(&thread)?.front()?;
        let is_this = first.size == info.size
            && first.memory_type.is_none_or(|it| it == info.memory_type_index);
        if !is_this {
            state.unexpected += 1;
            return None;
        }
        state.answers.get_mut(&thread)?.pop_front();
        (first.result < 0).then(|| DeviceError::from_vk_result(first.result))
    }
}

impl DeviceMemory for Driver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn names_resources(&self) -> bool {
        self.behind.names_resources()
    }

    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        // What was imported and what the resource was is not there any more: memory like it is.
        let plain = MemoryAllocateInfo {
            next: 0,
            import: None,
            dedicated: None,
            export_handle_types: 0,
            ..*info
        };
        let made = match self.recorded_failure(info) {
            Some(error) => Err(error),
            None => self.behind.allocate(&plain),
        };
        let made = made.map(|handle| MemoryHandle(handle.0 + self.first_handle));
        let mut state = self.state.lock();
        state.calls.counts[0] += 1;
        if self.records {
            state.events.push(DriverEvent::Allocated { info: *info, result: made });
        }
        let Ok(handle) = made else {
            state.calls.failed[0] += 1;
            return made;
        };
        let (of_type, size) = (info.memory_type_index, info.size);
        state.live.insert(handle.0, (of_type, size));
        let by_type = &mut state.calls.by_type[of_type as usize];
        *by_type = (by_type.0 + 1, by_type.1.saturating_add(size));
        let by_heap = &mut state.calls.by_heap[self.info.heap_of(of_type) as usize];
        by_heap.0 += size;
        by_heap.1 = by_heap.1.max(by_heap.0);
        drop(state);
        self.gauges.hold(size);
        made
    }

    fn free(&self, memory: MemoryHandle) {
        self.behind.free(MemoryHandle(memory.0 - self.first_handle));
        let mut state = self.state.lock();
        state.calls.counts[1] += 1;
        if self.records {
            state.events.push(DriverEvent::Freed(memory));
        }
        let Some((of_type, size)) = state.live.remove(&memory.0) else { return };
        state.calls.by_heap[self.info.heap_of(of_type) as usize].0 -= size;
        drop(state);
        self.gauges.give_back(size);
    }

    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError> {
        self.count(2, || if self.has_bytes { self.behind.map(memory) } else { Ok(ANYWHERE) })
    }

    fn unmap(&self, memory: MemoryHandle) {
        let _ = self.count(3, || {
            if self.has_bytes {
                self.behind.unmap(memory);
            }
            Ok(())
        });
    }

    fn may_stay_mapped(&self) -> bool {
        self.stays_mapped && self.behind.may_stay_mapped()
    }

    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.count(4, || if self.has_bytes { self.behind.flush(ranges) } else { Ok(()) })
    }

    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.count(5, || if self.has_bytes { self.behind.invalidate(ranges) } else { Ok(()) })
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        match self.budgets {
            Budgets::Device => return self.count(6, || Ok(self.behind.budget())).unwrap_or(None),
            Budgets::None => return None,
            _ => {}
        }
        let mut state = self.state.lock();
        state.calls.counts[6] += 1;
        let heaps = state.calls.by_heap.iter().enumerate();
        let budgets = heaps.map(|(heap, &(held, _))| {
            let (others, budget) = match &self.budgets {
                Budgets::Fixed(budgets) => (0, budgets.get(heap).copied().unwrap_or(0)),
                // A budget of 0 stands for one that is not known.
                _ => state.reports[heap].unwrap_or((0, 0)),
            };
            DriverBudget { usage: others.saturating_add(held), budget }
        });
        Some(budgets.collect())
    }
}
