//! [`HeapWatch`]: fills, margins and quarantine of the slices of one buffer heap.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::{Divided, LeftOut, LeftOutPart, Part, PartOrder, Stopped};

use super::debugger::AllocatorDebugger;
use super::moment::Moment;
use super::raising;
use super::settings::{CheckMode, DebugSettings};
use super::slices::{DividedBuffer, Slice, Which};
use super::state::DebugState;
use crate::errors::feature_not_present;
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Debugger, ResourceRef};

/// Looks for faults of the program in the slices of one heap. Only while it lives they are watched.
pub struct HeapWatch {
    allocator: Arc<AllocatorState>,
    debugger: Arc<AllocatorDebugger>,
    settings: DebugSettings,
    /// Number of the heap.
    heap: u64,
}

impl HeapWatch {
    /// Begins to watch the slices of a heap, which has none yet.
    pub fn begin(py: Python<'_>, allocator: &Arc<AllocatorState>, settings: DebugSettings) -> Self {
        if settings.check == CheckMode::Call {
            allocator.pins.watch(py);
        }
        let debugger = AllocatorDebugger::of(allocator, DebugSettings::default());
        let state = debugger.state();
        state.note_mode(&settings);
        let mut slices = state.slices.lock();
        let heap = slices.next_number();
        slices.heaps.insert(heap, None);
        drop(slices);
        Self { allocator: allocator.clone(), debugger, settings, heap }
    }

    fn state(&self) -> &DebugState {
        self.debugger.state()
    }

    /// Begins to watch a buffer of the heap; returns its number.
    pub fn add_buffer(&self, resource: &ResourceRef) -> u64 {
        let mut slices = self.state().slices.lock();
        let number = slices.next_number();
        let buffer = DividedBuffer {
            heap: self.heap,
            id: resource.allocation().id,
            resource: Arc::new(resource.downgrade()),
            margin: if self.settings.checks_margins() { self.settings.margin } else { 0 },
            slices: BTreeMap::new(),
        };
        slices.buffers.insert(number, buffer);
        number
    }

    /// Forgets a buffer and its slices.
    pub fn remove_buffer(&self, number: u64) {
        let removed = self.state().slices.lock().buffers.remove(&number);
        // Without the lock: it refers to Python objects.
        drop(removed);
    }

    fn now(&self, py: Python<'_>) -> Moment {
        let sites = &self.allocator.sites;
        let site = if sites.is_tracking() { sites.capture_tracked(py) } else { None };
        Moment { site, ..Moment::of(None, self.allocator.current_frame()) }
    }

    /// Runs something while a buffer does not move, without the GIL; `None` if it has ended or is not known.
    fn with_buffer<T: Send>(
        &self,
        py: Python<'_>,
        number: u64,
        run: impl FnOnce(Divided, u64) -> T + Send,
    ) -> PyResult<Option<T>> {
        let resource =
            self.state().slices.lock().buffers.get(&number).map(|it| it.resource.clone());
        let Some(resource) = resource.and_then(|it| it.upgrade()) else { return Ok(None) };
        let _pin = match resource.pins.pin(py) {
            Some(pin) => pin,
            None => resource.enter_unused(py)?,
        };
        let place = self.state().slices.lock().buffers.get(&number).map(|it| (it.id, it.margin));
        let Some((id, margin)) = place else { return Ok(None) };
        Ok(Some(detach(py, || run(Divided { id, number }, margin))))
    }

    /// Writes a part of a buffer; returns what was left out.
    fn write(&self, (of, part): (Divided, Part), order: PartOrder) -> Result<Vec<LeftOut>, Error> {
        let memory = &self.state().memory;
        // SAFETY: nobody uses the slice, which is new or has ended; the buffer is pinned, so that it does not move.
        unsafe { memory.write_part(&self.allocator.device_allocator, of, part, order) }
    }

    /// Fills a new slice and writes its margins, which are checked from then on.
    pub fn allocated(
        &self,
        py: Python<'_>,
        (number, offset, size): (u64, u64, u64),
        name: Option<String>,
    ) -> PyResult<()> {
        let made = self.now(py);
        let fill = self.settings.fill.map(|it| it.of_new());
        let with_margins = self.settings.checks_margins();
        let order = PartOrder { fill, with_margins, is_freed: false };
        let state = self.state();
        let has_margins = self.with_buffer(py, number, |of, margin| {
            match self.write((of, Part { offset, size, margin }), order) {
                Ok(left_out) => {
                    self.note_left_out(&left_out);
                    let is_margin = |it: &LeftOut| it.part == LeftOutPart::Margins;
                    with_margins && !left_out.iter().any(is_margin)
                }
                Err(error) => {
                    state.note_failure("a new slice was not filled", &error);
                    false
                }
            }
        })?;
        let mut slices = state.slices.lock();
        let number_of_slice = slices.next_number();
        let Some(buffer) = slices.buffers.get_mut(&number) else { return Ok(()) };
        let slice = Slice {
            number: number_of_slice,
            size,
            has_margins: has_margins.unwrap_or(false),
            name,
            made,
            freed: None,
            contents: None,
            object: None,
            told: Vec::new(),
        };
        let before = buffer.slices.insert(offset, slice);
        drop(slices);
        // Without the lock: it refers to a Python object.
        drop(before);
        Ok(())
    }

    /// Notes the Python object of a slice: a weak reference.
    pub fn note_object(&self, number: u64, offset: u64, object: Py<PyAny>) {
        let mut slices = self.state().slices.lock();
        let buffer = slices.buffers.get_mut(&number);
        if let Some(slice) = buffer.and_then(|it| it.slices.get_mut(&offset)) {
            slice.object = Some(Arc::new(object));
        }
    }

    fn note_left_out(&self, left_out: &[LeftOut]) {
        for it in left_out {
            let what = match it.part {
                LeftOutPart::Margins => "margins are neither written nor checked",
                LeftOutPart::Contents => "contents are not filled",
            };
            if it.part == LeftOutPart::Margins {
                self.state().slices.lock().heaps.insert(self.heap, Some(it.why));
            }
            let what = format!("there are slices of a BufferHeap whose {what}: {}", it.why);
            self.state().records.lock().leave_out(what.clone(), || what);
        }
    }

    /// Checks and fills a slice that ends. Returns its size if it goes into quarantine: else nothing is known of it any
    /// more.
    pub fn freed(&self, py: Python<'_>, number: u64, offset: u64) -> PyResult<Option<u64>> {
        let (state, now) = (self.state(), self.now(py));
        let known = state.slices.lock().buffers.get(&number).and_then(|it| {
            it.slices.get(&offset).map(|slice| (slice.size, slice.freed.is_some(), it.margin))
        });
        let Some((size, is_freed, margin)) = known else { return Ok(None) };
        if is_freed {
            return Ok(Some(size));
        }
        self.check(py, Which::Slice(number, offset));
        let fill = self.settings.contents_of_freed().map(|it| it.of_freed());
        let part = Part { offset, size, margin };
        let order = PartOrder { fill, with_margins: false, is_freed: true };
        let is_filled = fill.is_some()
            && self
                .with_buffer(py, number, |of, _| match self.write((of, part), order) {
                    Ok(left_out) => {
                        self.note_left_out(&left_out);
                        left_out.is_empty()
                    }
                    Err(error) => {
                        state.note_failure("a freed slice was not filled", &error);
                        false
                    }
                })?
                .unwrap_or(false);
        let mut slices = state.slices.lock();
        let buffer = slices.buffers.get_mut(&number);
        let waits = self.settings.quarantine.is_some() && buffer.is_some();
        let gone = buffer.and_then(|it| {
            if !waits {
                return it.slices.remove(&offset);
            }
            if let Some(slice) = it.slices.get_mut(&offset) {
                slice.freed = Some(now);
                slice.contents = fill.filter(|_| is_filled);
            }
            None
        });
        drop(slices);
        // Without the lock: it refers to a Python object.
        drop(gone);
        Ok(waits.then_some(size))
    }

    /// Checks a slice whose quarantine is over, and forgets it.
    pub fn leaves(&self, py: Python<'_>, number: u64, offset: u64) {
        self.check(py, Which::Slice(number, offset));
        let mut slices = self.state().slices.lock();
        let gone = slices.buffers.get_mut(&number).and_then(|it| it.slices.remove(&offset));
        drop(slices);
        // Without the lock: it refers to a Python object.
        drop(gone);
    }

    /// Checks slices, and keeps what is found and was not told.
    fn check(&self, py: Python<'_>, which: Which) {
        let (state, allocator) = (self.state(), &*self.allocator);
        if allocator.is_abandoned() {
            return;
        }
        detach(py, || match state.check_slices(allocator, u32::MAX, which) {
            Ok(checked) => state.keep_slices(allocator, checked.findings),
            Err(Stopped::Failed(error)) => {
                state.note_failure("slices of a BufferHeap were not checked", &error);
            }
            // Nothing was told yet: the next check of the heap finds all of it.
            Err(Stopped::Interrupted) if matches!(which, Which::Heap(_)) => {}
            Err(Stopped::Interrupted) => state.note_interrupt(),
        });
    }

    /// Checks all slices, and keeps what is found and was not told.
    pub fn check_new(&self, py: Python<'_>) {
        self.check(py, Which::Heap(self.heap));
    }

    /// Checks all slices and raises what is found; returns the number of ranges.
    pub fn check_on_demand(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.state();
        let allocator = &*self.allocator;
        let checked = detach(py, || {
            let checked = state.check_slices(allocator, u32::MAX, Which::Heap(self.heap))?;
            let reports = state.slice_reports(allocator, checked.findings);
            Ok((reports, checked.ranges, checked.unchecked))
        });
        let (reports, ranges, unchecked) =
            checked.map_err(|stopped| raising::stopped(py, state, stopped))?;
        raising::raise_told(py, allocator, state, &reports)?;
        let left_out = self.state().slices.lock().heaps.get(&self.heap).copied().flatten();
        match unchecked.first().map(|it| it.why).or(left_out) {
            Some(why) if ranges == 0 => {
                Err(feature_not_present(py, &format!("memory cannot be checked: {why}")))
            }
            _ => Ok(ranges),
        }
    }

    /// Checks all memory of the allocator, if each call does, and raises what was found.
    pub fn enter(&self, py: Python<'_>) -> PyResult<()> {
        self.allocator.enter(py).map(drop)
    }

    /// Raises what calls of this thread have found.
    pub fn raise(&self, py: Python<'_>) -> PyResult<()> {
        self.debugger.raise(py, &self.allocator)
    }

    /// Tells what calls of this thread have found, where nothing can be raised.
    pub fn report(&self, py: Python<'_>) -> PyResult<()> {
        self.debugger.report(py, &self.allocator)
    }

    /// Forgets all buffers of the heap.
    pub fn end(&self) {
        let mut slices = self.state().slices.lock();
        let gone: Vec<DividedBuffer> =
            slices.buffers.extract_if(|_, it| it.heap == self.heap).map(|it| it.1).collect();
        slices.heaps.remove(&self.heap);
        drop(slices);
        // Without the lock: they refer to Python objects.
        drop(gone);
    }
}

impl Drop for HeapWatch {
    fn drop(&mut self) {
        if self.allocator.is_abandoned() {
            // In a forked child another thread may hold the lock for ever.
            return;
        }
        self.end();
    }
}
