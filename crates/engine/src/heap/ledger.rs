//! [`HeapLedger`]: bytes and memory objects allocated from each heap, and their budgets.

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
use crate::heap::reclaimer::Reclaimer;
use crate::lock::{RwLock, rank};
use crate::recording::{RecorderSlot, Told, is_active};
use crate::words::bytes;

/// Budget assumed without `VK_EXT_memory_budget`, in percent of the heap.
const ESTIMATED_SHARE_PERCENT: u64 = 80;

/// Usage and budget of one heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapBudget {
    /// Number of memory objects that this allocator holds.
    pub block_count: u32,
    /// Size of these memory objects in bytes.
    pub block_bytes: u64,
    /// Number of live allocations.
    pub allocation_count: u64,
    /// Requested size of these allocations in bytes.
    pub allocation_bytes: u64,
    /// Bytes in use: the driver's figure if it reports one, else `block_bytes`.
    pub usage: u64,
    /// Bytes that may be in use: the driver's figure if it reports one, else 80 % of the heap or of its
    /// limit.
    pub budget: u64,
}

/// How much the pools hold of one heap, and what is in use of it: what moves could join. Memory that waits for the
/// driver to take it back is in no pool. Dedicated memory counts with its allocation alone, as no move frees any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// Number of blocks and dedicated memory objects.
    pub block_count: u64,
    /// Their size in bytes.
    pub block_bytes: u64,
    /// Number of live allocations.
    pub allocation_count: u64,
    /// Requested size of these allocations in bytes.
    pub allocation_bytes: u64,
}

impl HeapUsage {
    /// Adds other figures.
    pub(crate) fn add(&mut self, other: &Self) {
        self.block_count += other.block_count;
        self.block_bytes += other.block_bytes;
        self.allocation_count += other.allocation_count;
        self.allocation_bytes += other.allocation_bytes;
    }
}

/// Bytes and memory objects allocated from the driver, by heap. Lock-free, except for the driver's last
/// report.
pub struct HeapLedger {
    device: Arc<dyn DeviceMemory>,
    heaps: Vec<HeapCount>,
    objects: AtomicU32,
    /// Whether the driver reports budgets (`VK_EXT_memory_budget`).
    asks_driver: bool,
    /// Whether more than `maxMemoryAllocationCount` objects may be allocated.
    exceed_count: bool,
    /// Number of objects allocated and freed since the driver was last queried.
    changes: AtomicU32,
    pressure: Pressure,
    events: MemoryEvents,
    /// Gives memory back later. What waits for it is still counted here.
    pub reclaimer: Reclaimer,
    /// Who records the allocator. Here, as whatever calls the driver has the ledger.
    pub recorder: Arc<RecorderSlot>,
}

/// Memory objects of a heap that are about to be freed in exchange for a booking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Their size in bytes.
    pub bytes: u64,
    /// Their number, as far as they are freed before the new object is allocated.
    pub objects: u32,
}

/// Bytes above a limit or a budget that were booked in exchange for memory objects that are about to be freed. They
/// count as within it until those are freed, or until this is dropped.
pub struct Debt {
    ledger: Arc<HeapLedger>,
    heap: u32,
    bytes: u64,
}

impl Debt {
    /// Makes the result of [`HeapLedger::reserve`] end when it is dropped.
    pub fn new(ledger: &Arc<HeapLedger>, memory_type_index: u32, bytes: u64) -> Self {
        let (heap, _) = ledger.heap_of(memory_type_index);
        Self { ledger: ledger.clone(), heap, bytes }
    }

    /// Takes up to `most` bytes out, for [`HeapLedger::free`] of a memory object in the same heap.
    pub fn take(&mut self, most: u64) -> u64 {
        let part = self.bytes.min(most);
        self.bytes -= part;
        part
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.ledger.heaps[self.heap as usize].owed.fetch_sub(self.bytes, Relaxed);
    }
}

/// The driver is queried again after this many allocations and frees.
const CHANGES_UNTIL_OLD: u32 = 30;

impl HeapCount {
    fn settled(&self) -> u64 {
        // In this order: a booking in between is then missing from `bytes` or included in `pending`.
        let bytes = self.bytes.load(Acquire);
        bytes.saturating_sub(self.pending.load(Relaxed))
    }

    fn estimate(&self) -> u64 {
        // Divides before multiplying, as a heap may be up to 2^64 bytes.
        self.limit / 100 * ESTIMATED_SHARE_PERCENT
    }
}

struct HeapCount {
    /// The smaller of the heap's size and the caller's limit, in bytes.
    limit: u64,
    limited: bool,
    bytes: AtomicU64,
    /// The part of `bytes` that is booked but not allocated from the driver yet.
    pending: AtomicU64,
    /// The part of `bytes` above the limit or the budget, for which others are about to be freed.
    owed: AtomicU64,
    objects: AtomicU32,
    /// Bytes of empty blocks that are retained.
    kept: AtomicU64,
    report: RwLock<DriverReport, rank::HeapReport>,
}

/// The driver's last report for a heap.
#[derive(Clone, Copy, Debug, Default)]
struct DriverReport {
    usage: u64,
    budget: u64,
    /// Bytes of this allocator that the report includes.
    bytes_then: u64,
}

impl DriverReport {
    /// Returns whether it says more than that this allocator has allocated or freed since another one.
    fn tells_more_than(self, before: Self) -> bool {
        let of_others = |it: Self| it.usage.wrapping_sub(it.bytes_then);
        (of_others(self), self.budget) != (of_others(before), before.budget)
    }

    /// Returns the reported usage, corrected by what was allocated and freed since.
    fn usage_with(self, bytes: u64) -> u64 {
        self.usage.saturating_add(bytes).saturating_sub(self.bytes_then)
    }
}

impl HeapLedger {
    /// Creates a ledger. `limits[i]` limits heap i in bytes; `u64::MAX` and missing entries mean no
    /// limit.
    pub fn new(device: Arc<dyn DeviceMemory>, limits: &[u64], exceed_count: bool) -> Self {
        let heaps = device.info().heaps.iter().enumerate().map(|(index, heap)| {
            let asked = limits.get(index).copied().unwrap_or(u64::MAX);
            HeapCount {
                limit: asked.min(heap.size),
                limited: asked < heap.size,
                bytes: AtomicU64::new(0),
                pending: AtomicU64::new(0),
                owed: AtomicU64::new(0),
                objects: AtomicU32::new(0),
                kept: AtomicU64::new(0),
                report: RwLock::default(),
            }
        });
        let heaps = heaps.collect();
        let (objects, changes) = (AtomicU32::new(0), AtomicU32::new(0));
        let asks_driver = device.budget().is_some();
        let ledger = Self {
            heaps,
            objects,
            asks_driver,
            exceed_count,
            changes,
            pressure: Pressure::default(),
            events: MemoryEvents::default(),
            reclaimer: Reclaimer::default(),
            recorder: Arc::default(),
            device,
        };
        ledger.refresh();
        ledger
    }

    /// Queries the driver for usage and budget, if it reports them.
    pub fn refresh(&self) {
        if !self.asks_driver {
            return;
        }
        // Before the query: memory that is allocated meanwhile is counted twice until the next query
        // rather than not at all.
        let settled: Vec<u64> = self.heaps.iter().map(HeapCount::settled).collect();
        let Some(budgets) = self.device.budget() else { return };
        let mut changed = Vec::new();
        for ((count, report), bytes_then) in self.heaps.iter().zip(budgets).zip(settled) {
            // Some drivers report 0, or more than the heap.
            let usage = if report.usage == 0 { bytes_then } else { report.usage };
            let budget = if report.budget == 0 { count.estimate() } else { report.budget };
            let now = DriverReport { usage, budget: budget.min(count.limit), bytes_then };
            let before = std::mem::replace(&mut *count.report.write(), now);
            if is_active() {
                changed.push(now.tells_more_than(before));
            }
        }
        if is_active() {
            let heaps = (0..).zip(&changed).filter(|(_, changed)| **changed);
            heaps.for_each(|(heap, _)| self.tell_report(heap));
        }
        self.changes.store(0, Relaxed);
        (0..self.heaps.len() as u32).for_each(|heap| self.watch(heap));
    }

    /// Queries the driver if there were [`CHANGES_UNTIL_OLD`] changes since the last query; returns whether it did.
    pub fn refresh_if_old(&self) -> bool {
        let is_old = self.changes.load(Relaxed) >= CHANGES_UNTIL_OLD;
        if is_old {
            self.refresh();
        }
        is_old
    }

    /// Returns whether the driver reports budgets.
    pub fn asks_driver(&self) -> bool {
        self.asks_driver
    }

    /// Tells who records the allocator what the driver reported last for a heap.
    #[cold]
    pub fn tell_report(&self, heap: u32) {
        let count = &self.heaps[heap as usize];
        let report = *count.report.read();
        self.recorder.tell_now(&Told::Budget {
            heap,
            block_count: count.objects.load(Relaxed),
            block_bytes: report.bytes_then,
            usage: report.usage,
            budget: report.budget,
        });
    }

    fn heap_of(&self, memory_type_index: u32) -> (u32, &HeapCount) {
        let index = self.device.info().heap_of(memory_type_index);
        (index, &self.heaps[index as usize])
    }

    /// Returns the number of memory objects in all heaps.
    pub fn objects(&self) -> u32 {
        self.objects.load(Relaxed)
    }

    /// Returns the number of memory objects in a heap and their size in bytes.
    pub fn held(&self, heap: u32) -> (u32, u64) {
        let count = &self.heaps[heap as usize];
        (count.objects.load(Relaxed), count.bytes.load(Relaxed))
    }

    /// Returns the heap's size, or the caller's limit if that is smaller, in bytes.
    pub fn limit(&self, heap: u32) -> u64 {
        self.heaps[heap as usize].limit
    }

    /// Returns usage and budget of a heap in bytes.
    pub fn usage_and_budget(&self, heap: u32) -> (u64, u64) {
        let count = &self.heaps[heap as usize];
        let bytes = count.bytes.load(Relaxed);
        if !self.asks_driver {
            return (bytes, count.estimate());
        }
        let report = *count.report.read();
        (report.usage_with(bytes), report.budget)
    }

    /// Returns the budget of a memory type's heap in bytes.
    pub fn budget(&self, memory_type_index: u32) -> u64 {
        let (heap, _) = self.heap_of(memory_type_index);
        self.usage_and_budget(heap).1
    }

    /// Returns the bytes that still fit into the budget of a memory type's heap.
    pub fn headroom(&self, memory_type_index: u32) -> u64 {
        let (heap, _) = self.heap_of(memory_type_index);
        let (usage, budget) = self.usage_and_budget(heap);
        budget.saturating_sub(usage)
    }

    /// Returns the bytes that have to be freed in a memory type's heap until an object of `size` bytes can be
    /// booked and, as far as is known, allocated from the driver.
    pub fn missing(&self, memory_type_index: u32, size: u64, within_budget: bool) -> u64 {
        let (heap, count) = self.heap_of(memory_type_index);
        let owed = count.owed.load(Relaxed);
        let bytes = count.bytes.load(Relaxed).saturating_sub(owed);
        let (usage, budget) = self.usage_and_budget(heap);
        let usage = usage.saturating_sub(owed);
        let used = if count.limited { bytes } else { usage.max(bytes) };
        let over_limit = used.saturating_add(size).saturating_sub(count.limit);
        let over_budget = usage.saturating_add(size).saturating_sub(budget);
        if within_budget { over_limit.max(over_budget) } else { over_limit }
    }

    /// Returns whether the usage of a memory type's heap exceeds its budget.
    pub fn is_over_budget(&self, memory_type_index: u32) -> bool {
        self.is_heap_over_budget(self.heap_of(memory_type_index).0)
    }

    /// Returns whether the usage of a heap exceeds its budget.
    pub fn is_heap_over_budget(&self, heap: u32) -> bool {
        let (usage, budget) = self.usage_and_budget(heap);
        usage > budget
    }

    /// Returns the figures for an error about `size` bytes of a memory type.
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

    /// Books one memory object before it is allocated from the driver. Limits apply to what remains once what is
    /// offered in exchange is freed, in one atomic step, so that nobody else can have what that leaves. Returns the
    /// bytes of a [`Debt`]. Makes no driver call.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`] above a limit or, if `within_budget`, above the budget;
    /// [`Error::TooManyObjects`] at `maxMemoryAllocationCount`.
    pub fn reserve(
        &self,
        memory_type_index: u32,
        size: u64,
        within_budget: bool,
        offer: Offer,
    ) -> Result<u64, Error> {
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
        // Without a limit of the caller's the driver enforces the heap's size: some can page memory out.
        let cap = if count.limited { count.limit } else { u64::MAX };
        let report = *count.report.read();
        // Tested and booked in one atomic read-modify-write: of two threads that each fit alone, one
        // succeeds.
        count.pending.fetch_add(size, Relaxed);
        let over = |bytes: u64| {
            let over_budget = match (within_budget, self.asks_driver) {
                (false, _) => 0,
                (true, true) => report.usage_with(bytes).saturating_sub(report.budget),
                (true, false) => bytes.saturating_sub(count.estimate()),
            };
            bytes.saturating_sub(cap).max(over_budget)
        };
        let mut owed = 0;
        let booked = count.bytes.fetch_update(AcqRel, Relaxed, |bytes| {
            let bytes = bytes.checked_add(size)?;
            owed = over(bytes.saturating_sub(count.owed.load(Relaxed)));
            (owed <= offer.bytes).then_some(bytes)
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
            let left = objects.saturating_sub(offer.objects);
            (left < limit || self.exceed_count).then(|| objects.saturating_add(1))
        };
        let Ok(before) = self.objects.fetch_update(Relaxed, Relaxed, book_object) else {
            count.bytes.fetch_sub(size, Relaxed);
            count.pending.fetch_sub(size, Relaxed);
            return Err(Error::TooManyObjects { limit, figures: figures() });
        };
        count.owed.fetch_add(owed, Relaxed);
        if before.saturating_sub(offer.objects) >= limit {
            self.pressure.note_past_count();
        }
        count.objects.fetch_add(1, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        self.watch(heap);
        Ok(owed)
    }

    /// Marks a booking as done, once the driver has allocated or refused it.
    pub fn settle(&self, memory_type_index: u32, size: u64) {
        self.heap_of(memory_type_index).1.pending.fetch_sub(size, Relaxed);
    }

    /// Cancels a booking after the driver refused it or the object was freed.
    pub fn release(&self, memory_type_index: u32, size: u64) {
        let (heap, count) = self.heap_of(memory_type_index);
        count.bytes.fetch_sub(size, Relaxed);
        count.objects.fetch_sub(1, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        self.objects.fetch_sub(1, Relaxed);
        self.watch(heap);
    }

    /// Counts an empty block as retained if those of its heap stay within `most` bytes; returns whether
    /// they do.
    pub fn keep(&self, memory_type_index: u32, size: u64, most: u64) -> bool {
        let (_, count) = self.heap_of(memory_type_index);
        let more = |kept: u64| kept.checked_add(size).filter(|&kept| kept <= most);
        count.kept.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Removes a block from the retained ones, because it is in use again or freed.
    pub fn unkeep(&self, memory_type_index: u32, size: u64) {
        self.heap_of(memory_type_index).1.kept.fetch_sub(size, Relaxed);
    }

    /// Returns the bytes of empty blocks that are retained in a heap.
    pub fn kept(&self, heap: u32) -> u64 {
        self.heaps[heap as usize].kept.load(Relaxed)
    }

    /// Sets the share of the budget that [`take_pressed`](Self::take_pressed) reports; `None` switches it
    /// off.
    pub fn set_pressure_threshold(&self, share: Option<f64>) {
        self.pressure.set_threshold(share);
        (0..self.heaps.len() as u32).for_each(|heap| self.watch(heap));
    }

    /// Returns and clears a bit mask: bit i if the usage of heap i has reached the threshold since the
    /// last call, [`PAST_ALLOCATION_COUNT`](crate::PAST_ALLOCATION_COUNT) once,
    /// [`MEMORY_EVENTS`](crate::MEMORY_EVENTS) and [`LOSSES`](crate::LOSSES).
    pub fn take_pressed(&self) -> u32 {
        self.pressure.take()
    }

    /// Records that allocations were lost.
    pub fn note_losses(&self) {
        self.pressure.note_losses();
    }

    /// Records the event that the driver allocated a memory object.
    pub fn note_allocated(&self, memory: MemoryHandle, memory_type_index: u32, size: u64) {
        let kind = MemoryEventKind::Allocate;
        self.note(MemoryEvent { kind, memory, memory_type_index, size }, || ());
    }

    /// Frees a memory object in the driver, cancels its booking and records the event. `owed` bytes of a [`Debt`] end
    /// with it.
    pub fn free(&self, memory: MemoryHandle, memory_type_index: u32, size: u64, owed: u64) {
        let kind = MemoryEventKind::Free;
        if is_active() {
            // Before the driver can reuse the handle.
            self.recorder.tell_now(&Told::FreeMemory(memory));
        }
        self.note(MemoryEvent { kind, memory, memory_type_index, size }, || {
            self.device.free(memory);
            if owed > 0 {
                self.heap_of(memory_type_index).1.owed.fetch_sub(owed, Relaxed);
            }
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

    /// Returns and removes the recorded events.
    pub fn take_memory_events(&self) -> LinkedList<MemoryEvent> {
        self.events.take()
    }

    fn watch(&self, heap: u32) {
        if self.pressure.is_watched() {
            let (usage, budget) = self.usage_and_budget(heap);
            self.pressure.note(heap, usage, budget);
        }
    }

    /// Returns whether more than three quarters of `maxMemoryAllocationCount` objects are live, so that
    /// further allocations should share blocks.
    pub fn is_short_of_objects(&self) -> bool {
        let limit = u64::from(self.device.info().limits.max_memory_allocation_count);
        u64::from(self.objects()) * 4 > limit * 3
    }
}
