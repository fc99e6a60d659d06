//! Counting what is held of each heap, and what may be.

use std::collections::LinkedList;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::device::{DeviceMemory, MemoryHandle};
use crate::error::{Error, FailureFigures};
use crate::heap::memory_events::{MemoryEvent, MemoryEventKind, MemoryEvents, WakeUp};
use crate::heap::pressure::Pressure;
use crate::lock::{RwLock, rank};
use crate::words::bytes;

/// Without a word of the driver, this share of a heap counts as ours to use.
const ESTIMATED_SHARE_PERCENT: u64 = 80;

/// Usage and budget of one heap, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapBudget {
    /// Memory objects that this allocator holds; a count.
    pub block_count: u32,
    /// Bytes of them.
    pub block_bytes: u64,
    /// Live allocations; a count.
    pub allocation_count: u64,
    /// Bytes of them, as requested.
    pub allocation_bytes: u64,
    /// Bytes in use: the driver's figure where it gives one, else `block_bytes`.
    pub usage: u64,
    /// Bytes that may be in use: the driver's figure where it gives one, else 80 % of the heap or
    /// of its limit.
    pub budget: u64,
}

/// Bytes and memory objects taken from the driver, by heap. Lock-free.
pub struct HeapLedger {
    device: Arc<dyn DeviceMemory>,
    heaps: Vec<HeapCount>,
    objects: AtomicU32,
    /// Whether the driver knows budgets.
    asks_driver: bool,
    /// Whether there may be more objects than the device says.
    exceed_count: bool,
    /// Objects taken and given back since the driver was asked.
    changes: AtomicU32,
    pressure: Pressure,
    events: MemoryEvents,
}

/// After so many objects taken or given back the driver is asked again.
const CHANGES_UNTIL_OLD: u32 = 30;

impl HeapCount {
    fn settled(&self) -> u64 {
        // In this order: what is booked in between is missing from the first, or is in the second.
        let bytes = self.bytes.load(Acquire);
        bytes.saturating_sub(self.pending.load(Relaxed))
    }

    fn estimate(&self) -> u64 {
        // Multiplied after the division: a heap may be as large as numbers go.
        self.limit / 100 * ESTIMATED_SHARE_PERCENT
    }
}

struct HeapCount {
    /// The smaller of the heap's size and the limit that the caller set.
    limit: u64,
    limited: bool,
    bytes: AtomicU64,
    /// The part of `bytes` that is booked and not yet in the driver's hands.
    pending: AtomicU64,
    objects: AtomicU32,
    /// Bytes of empty blocks that are kept.
    kept: AtomicU64,
    report: RwLock<DriverReport, rank::HeapReport>,
}

/// What the driver report last of a heap.
#[derive(Clone, Copy, Debug, Default)]
struct DriverReport {
    usage: u64,
    budget: u64,
    /// The driver had seen so many of our bytes.
    bytes_then: u64,
}

impl DriverReport {
    /// What was report, and what was taken or given back since.
    fn usage_with(self, bytes: u64) -> u64 {
        self.usage.saturating_add(bytes).saturating_sub(self.bytes_then)
    }
}

impl HeapLedger {
    /// `limits[i]` caps heap i; `u64::MAX` and missing entries do not.
    pub fn new(device: Arc<dyn DeviceMemory>, limits: &[u64], exceed_count: bool) -> Self {
        let heaps = device.info().heaps.iter().enumerate().map(|(index, heap)| {
            let asked = limits.get(index).copied().unwrap_or(u64::MAX);
            HeapCount {
                limit: asked.min(heap.size),
                limited: asked < heap.size,
                bytes: AtomicU64::new(0),
                pending: AtomicU64::new(0),
                objects: AtomicU32::new(0),
                kept: AtomicU64::new(0),
                report: RwLock::default(),
            }
        });
        let heaps = heaps.collect();
        let (objects, changes) = (AtomicU32::new(0), AtomicU32::new(0));
        let asks_driver = device.budget().is_some();
        let (pressure, events) = (Pressure::default(), MemoryEvents::default());
        let ledger =
            Self { heaps, objects, asks_driver, exceed_count, changes, pressure, events, device };
        ledger.refresh();
        ledger
    }

    /// Asks the driver for usage and budget, if it knows them.
    pub fn refresh(&self) {
        if !self.asks_driver {
            return;
        }
        // Before the driver is asked: what it takes meanwhile then counts twice until the next
        // time, rather than not at all.
        let settled: Vec<u64> = self.heaps.iter().map(HeapCount::settled).collect();
        let Some(budgets) = self.device.budget() else { return };
        for ((count, report), bytes_then) in self.heaps.iter().zip(budgets).zip(settled) {
            // Drivers have been seen to say 0, and more than the heap.
            let usage = if report.usage == 0 { bytes_then } else { report.usage };
            let budget = if report.budget == 0 { count.estimate() } else { report.budget };
            *count.report.write() =
                DriverReport { usage, budget: budget.min(count.limit), bytes_then };
        }
        self.changes.store(0, Relaxed);
        (0..self.heaps.len() as u32).for_each(|heap| self.watch(heap));
    }

    /// The same, if much has changed since.
    pub fn refresh_if_old(&self) {
        if self.changes.load(Relaxed) >= CHANGES_UNTIL_OLD {
            self.refresh();
        }
    }

    fn heap_of(&self, memory_type_index: u32) -> (u32, &HeapCount) {
        let index = self.device.info().heap_of(memory_type_index);
        (index, &self.heaps[index as usize])
    }

    /// Memory objects held, of all heaps.
    pub fn objects(&self) -> u32 {
        self.objects.load(Relaxed)
    }

    /// Memory objects and bytes held of one heap.
    pub fn held(&self, heap: u32) -> (u32, u64) {
        let count = &self.heaps[heap as usize];
        (count.objects.load(Relaxed), count.bytes.load(Relaxed))
    }

    /// The heap's size, or the limit set below it.
    pub fn limit(&self, heap: u32) -> u64 {
        self.heaps[heap as usize].limit
    }

    /// Usage and budget of a heap.
    pub fn usage_and_budget(&self, heap: u32) -> (u64, u64) {
        let count = &self.heaps[heap as usize];
        let bytes = count.bytes.load(Relaxed);
        if !self.asks_driver {
            return (bytes, count.estimate());
        }
        let report = *count.report.read();
        (report.usage_with(bytes), report.budget)
    }

    /// Bytes that may be in use of a memory type's heap.
    pub fn budget(&self, memory_type_index: u32) -> u64 {
        let (heap, _) = self.heap_of(memory_type_index);
        self.usage_and_budget(heap).1
    }

    /// Bytes that fit into the budget of a memory type's heap.
    pub fn headroom(&self, memory_type_index: u32) -> u64 {
        let (heap, _) = self.heap_of(memory_type_index);
        let (usage, budget) = self.usage_and_budget(heap);
        budget.saturating_sub(usage)
    }

    /// Whether more is in use than the budget of a memory type's heap allows.
    pub fn is_over_budget(&self, memory_type_index: u32) -> bool {
        self.is_heap_over_budget(self.heap_of(memory_type_index).0)
    }

    /// Whether more is in use than the budget of a heap allows.
    pub fn is_heap_over_budget(&self, heap: u32) -> bool {
        let (usage, budget) = self.usage_and_budget(heap);
        usage > budget
    }

    /// Figures for an error about `size` bytes of a memory type.
    pub fn figures(&self, memory_type_index: u32, size: u64) -> FailureFigures {
        let (heap, _) = self.heap_of(memory_type_index);
        let (heap_usage, heap_budget) = self.usage_and_budget(heap);
        FailureFigures {
            size,
            memory_type_index: Some(memory_type_index),
            heap_index: Some(heap),
            heap_usage,
            heap_budget,
            can_never_succeed: false,
        }
    }

    /// Books one memory object before the driver is asked for it.
    pub fn reserve(
        &self,
        memory_type_index: u32,
        size: u64,
        within_budget: bool,
    ) -> Result<(), Error> {
        self.refresh_if_old();
        let (heap, count) = self.heap_of(memory_type_index);
        let figures = || self.figures(memory_type_index, size);
        let out_of_memory =
            |reason: String| Error::OutOfDeviceMemory { reason, figures: figures() };
        let hopeless = |reason: String| Error::OutOfDeviceMemory {
            reason,
            figures: FailureFigures { can_never_succeed: true, ..figures() },
        };
        let limits = &self.device.info().limits;
        if size > limits.max_memory_allocation_size {
            return Err(hopeless(format!(
                "one memory object may have {} (maxMemoryAllocationSize)",
                bytes(limits.max_memory_allocation_size)
            )));
        }
        if size > count.limit {
            let what = if count.limited { "the limit set on" } else { "all of" };
            return Err(hopeless(format!("{what} heap {heap} is {}", bytes(count.limit))));
        }
        // The heap itself is the driver's to enforce: some can page.
        let cap = if count.limited { count.limit } else { u64::MAX };
        let report = *count.report.read();
        // Looked at and booked in one step: of two threads that each fit alone, one gets it.
        count.pending.fetch_add(size, Relaxed);
        let booked = count.bytes.fetch_update(AcqRel, Relaxed, |bytes| {
            let bytes = bytes.checked_add(size)?;
            let over = within_budget
                && if self.asks_driver {
                    report.usage_with(bytes) > report.budget
                } else {
                    bytes > count.estimate()
                };
            (bytes <= cap && !over).then_some(bytes)
        });
        if let Err(bytes) = booked {
            count.pending.fetch_sub(size, Relaxed);
            return Err(out_of_memory(if bytes.saturating_add(size) > cap {
                format!("over the limit set on heap {heap}")
            } else {
                format!("over the budget of heap {heap} (WITHIN_BUDGET)")
            }));
        }
        let limit = limits.max_memory_allocation_count;
        let book_object = |objects: u32| {
            (objects < limit || self.exceed_count).then(|| objects.saturating_add(1))
        };
        let Ok(before) = self.objects.fetch_update(Relaxed, Relaxed, book_object) else {
            count.bytes.fetch_sub(size, Relaxed);
            count.pending.fetch_sub(size, Relaxed);
            return Err(Error::TooManyObjects { limit, figures: figures() });
        };
        if before >= limit {
            self.pressure.note_past_count();
        }
        count.objects.fetch_add(1, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        self.watch(heap);
        Ok(())
    }

    /// The driver has answered for a booking, whatever it report.
    pub fn settle(&self, memory_type_index: u32, size: u64) {
        self.heap_of(memory_type_index).1.pending.fetch_sub(size, Relaxed);
    }

    /// Takes a booking back: the driver refused, or the object was freed.
    pub fn release(&self, memory_type_index: u32, size: u64) {
        let (heap, count) = self.heap_of(memory_type_index);
        count.bytes.fetch_sub(size, Relaxed);
        count.objects.fetch_sub(1, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        self.objects.fetch_sub(1, Relaxed);
        self.watch(heap);
    }

    /// Counts an empty block that is kept, if those of its heap stay within `most` bytes.
    pub fn keep(&self, memory_type_index: u32, size: u64, most: u64) -> bool {
        let (_, count) = self.heap_of(memory_type_index);
        let more = |kept: u64| kept.checked_add(size).filter(|&kept| kept <= most);
        count.kept.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Such a block is in use, or given back.
    pub fn unkeep(&self, memory_type_index: u32, size: u64) {
        self.heap_of(memory_type_index).1.kept.fetch_sub(size, Relaxed);
    }

    /// Bytes of empty blocks that are kept in a heap.
    pub fn kept(&self, heap: u32) -> u64 {
        self.heaps[heap as usize].kept.load(Relaxed)
    }

    /// What [`take_pressed`](Self::take_pressed) reports; `None`: nothing.
    pub fn set_pressure_threshold(&self, share: Option<f64>) {
        self.pressure.set_threshold(share);
        (0..self.heaps.len() as u32).for_each(|heap| self.watch(heap));
    }

    /// Bit i: the usage of heap i has come to the threshold since this was asked last; and
    /// [`PAST_ALLOCATION_COUNT`](crate::PAST_ALLOCATION_COUNT), once.
    pub fn take_pressed(&self) -> u32 {
        self.pressure.take()
    }

    /// Tells whoever wants to know that the driver gave a memory object.
    pub fn note_allocated(&self, memory: MemoryHandle, memory_type_index: u32, size: u64) {
        let kind = MemoryEventKind::Allocate;
        self.note(MemoryEvent { kind, memory, memory_type_index, size }, || ());
    }

    /// Gives a memory object back to the driver, takes its booking back and tells whoever wants to know.
    pub fn free(&self, memory: MemoryHandle, memory_type_index: u32, size: u64) {
        let kind = MemoryEventKind::Free;
        self.note(MemoryEvent { kind, memory, memory_type_index, size }, || {
            self.device.free(memory);
            self.release(memory_type_index, size);
        });
    }

    fn note(&self, event: MemoryEvent, call: impl FnOnce()) {
        if self.events.note(event, call) {
            self.pressure.note_memory_events();
        }
    }

    /// See [`Allocator::watch_memory`](crate::Allocator::watch_memory).
    pub fn watch_memory(&self, wake_up: Option<WakeUp>) {
        self.events.watch(wake_up);
    }

    /// What was noted since.
    pub fn take_memory_events(&self) -> LinkedList<MemoryEvent> {
        self.events.take()
    }

    fn watch(&self, heap: u32) {
        if self.pressure.is_watched() {
            let (usage, budget) = self.usage_and_budget(heap);
            self.pressure.note(heap, usage, budget);
        }
    }

    /// Whether so many objects live that one more should share a block rather than be dedicated:
    /// more than three quarters of what the device allows.
    pub fn is_short_of_objects(&self) -> bool {
        let limit = u64::from(self.device.info().limits.max_memory_allocation_count);
        u64::from(self.objects()) * 4 > limit * 3
    }
}
