//! The end of an allocator: closed explicitly, garbage-collected, or at interpreter exit; and the end of
//! unreferenced pools and devices.

use std::collections::TryReserveError;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use vkmem_engine::human_bytes;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::counted;

use super::ownership::{AllocatorState, DeviceCore, PoolState, ResourceRef};
use super::pins::NotClosed;
use super::release::release_all;
use super::unflushed;
use crate::errors::pinned;
use crate::interpreter::{
    detach, in_finaliser, set_ending, try_attach, warn, warn_unclosed, without_gil,
};
use crate::process::host_memory::check_room;
use crate::recording::session::end_all;

/// Host memory that ending one resource takes until all have ended, in bytes.
pub const TO_END_ONE: usize = 192;

/// Maximum number of live resources that a warning lists by name.
const LISTED: usize = 10;

/// Every allocator that may still be open.
static OPEN: Mutex<Vec<Weak<AllocatorState>>, rank::OpenAllocators> = Mutex::new(Vec::new());

/// Registers an allocator for [`_close_all_at_exit`].
pub fn register(state: &Arc<AllocatorState>) -> Result<(), TryReserveError> {
    let mut open = OPEN.lock();
    open.retain(|state| state.strong_count() > 0);
    open.try_reserve(1)?;
    open.push(Arc::downgrade(state));
    Ok(())
}

/// Returns all allocators that may still be open.
pub fn open_allocators() -> Vec<Arc<AllocatorState>> {
    OPEN.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Raises `BufferError` if a resource has an open view or is used by a call.
pub fn in_use(live: &[ResourceRef], owner: &str) -> PyResult<()> {
    match live.iter().find(|it| it.pins.is_in_use()) {
        None => Ok(()),
        Some(used) => Err(pinned(format!(
            "cannot close the {owner}: {} has an open view, or another thread uses it",
            used.describe()
        ))),
    }
}

/// Returns the warning about resources that were live when their owner was closed; `None` without any.
pub fn leaked(py: Python<'_>, live: &[ResourceRef], owner: &str) -> Option<String> {
    (!live.is_empty()).then(|| {
        let line = |it: &ResourceRef| it.describe() + &it.call_site_text(py);
        let mut lines: Vec<String> = live.iter().take(LISTED).map(line).collect();
        if live.len() > LISTED {
            lines.push(format!("and {} more", live.len() - LISTED));
        }
        let bytes = human_bytes(live.iter().map(|it| it.own_size()).sum());
        format!(
            "the {owner} was closed with {} ({bytes}), which {} released: {}",
            counted(live.len(), "live object"),
            if live.len() == 1 { "was" } else { "were" },
            lines.join(if live.iter().any(|it| it.origin().is_some()) { "; " } else { ", " })
        )
    })
}

/// The warnings that closing an allocator gives.
#[derive(Default)]
pub struct Closed {
    /// The warning about live resources.
    pub leaked: Option<String>,
    /// Warnings about host writes that were never flushed.
    pub lost: Vec<String>,
}

impl Closed {
    /// Issues all warnings, and reports what was found in the memory; raises an exception if warnings are turned into
    /// errors.
    pub fn warn(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        let leaked = self.leaked.as_ref().map_or(Ok(()), |leaked| warn(py, leaked));
        let found = allocator.report_found(py);
        unflushed::warn_all(py, &self.lost).and(found).and(leaked)
    }
}

/// How long the end of the interpreter waits for what the device does.
const AT_EXIT: Duration = Duration::from_secs(10);

/// Closes an allocator, after the end of all transfers. Changes nothing if it raises.
pub fn close(py: Python<'_>, state: &Arc<AllocatorState>) -> PyResult<Closed> {
    close_within(py, state, None)
}

fn close_within(
    py: Python<'_>,
    state: &Arc<AllocatorState>,
    at_most: Option<Duration>,
) -> PyResult<Closed> {
    state.device.check_process(py)?;
    if state.pins.is_closed() {
        state.wait_until_released(py);
        return Ok(Closed::default());
    }
    state.settle_background(py, at_most)?;
    if let (Some(at_most), Some(debugger)) = (at_most, state.debugger())
        && !debugger.check_at_exit(py, state, at_most)
    {
        return Err(pinned("cannot close the allocator: the check of its memory does not end"));
    }
    if state.pins.is_closed() {
        state.wait_until_released(py);
        return Ok(Closed::default());
    }
    // The GIL is held from here until the pins are closed, so nothing changes in between.
    let _block = state.block_samples(py)?;
    // Checked before anything has changed.
    check_room(py, state.live.lock().len() + state.waiting().0, TO_END_ONE)?;
    // Unlocked before `live` is dropped: a last reference among them locks the list.
    let live = state.live.lock().all();
    in_use(&live, "allocator")?;
    state.check_retired_views(|_| true, "allocator")?;
    // Set before `is_closed` becomes true, as other threads take that for the end of the release.
    let closed = {
        state.set_closing(true);
        state.pins.close(py)
    };
    if closed.is_err() {
        state.set_closing(false);
    }
    match closed {
        Ok(()) => {}
        Err(NotClosed::Already) => return Ok(Closed::default()),
        Err(NotClosed::InUse) => {
            return Err(pinned(
                "cannot close the allocator: a call runs, in another thread or, around a callback, in \
                 this one",
            ));
        }
    }
    let leaked = leaked(py, &live, "allocator");
    let lost = live.iter().filter_map(|it| it.lost_writes()).collect();
    let mut pending: Vec<_> = live.iter().filter_map(|it| it.close_for_allocator(py)).collect();
    pending.extend(state.take_collected(|_| true));
    release_all(py, state, &pending);
    detach(py, || {
        state.end_background();
        state.engine().close();
        state.device.allocator_ended();
    });
    state.end_recording(py);
    state.tell_device_memory(py);
    state.set_closing(false);
    Ok(Closed { leaked, lost })
}

/// Closes all open allocators at interpreter exit; registered with `atexit`.
#[pyfunction]
pub fn _close_all_at_exit(py: Python<'_>) {
    set_ending();
    let open: Vec<_> = OPEN.lock().drain(..).filter_map(|state| state.upgrade()).collect();
    let here = |state: &&Arc<AllocatorState>| !state.pins.is_closed() && !state.device.is_forked();
    for state in open.iter().filter(here) {
        let name = &state.device_allocator.driver().info().name;
        if !state.device.is_owned {
            // The caller may have destroyed a wrapped device already.
            state.abandon(py);
            warn_unclosed(py, &format!("the allocator of {name} was never closed"));
            continue;
        }
        match close_within(py, state, Some(AT_EXIT)) {
            Ok(closed) => {
                in_finaliser(py, || state.report_found(py));
                unflushed::warn_in_finaliser(py, &closed.lost);
                let leaked = closed.leaked.map_or(String::new(), |leaked| format!(": {leaked}"));
                warn_unclosed(py, &format!("the allocator of {name} was never closed{leaked}"));
            }
            // A view is open: leaving the memory to process exit is safe, freeing it is not.
            Err(why) => {
                state.abandon(py);
                let why = why.value(py);
                warn_unclosed(py, &format!("the allocator of {name} was never closed: {why}"));
            }
        }
    }
    end_all(py);
}

impl DeviceCore {
    /// Counts an allocator as closed. With the last one of a wrapped device, everything that submissions
    /// created on the device is destroyed, as the caller may destroy the device now.
    fn allocator_ended(&self) {
        let was_last = self.open_allocators.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && !self.is_owned {
            // SAFETY: the caller destroys the device only after its allocators are closed.
            unsafe { self.driver.release_submissions() };
        }
        if !self.is_owned && self.driver.has_fault_reports() {
            // SAFETY: as above; the allocator began them when it was made.
            unsafe { self.driver.end_binding_reports() };
        }
    }
}

impl AllocatorState {
    /// Sets or clears the thread that releases everything; see
    /// [`wait_until_released`](Self::wait_until_released).
    pub fn set_closing(&self, closing: bool) {
        *self.closing.lock() = closing.then(|| std::thread::current().id());
    }

    /// Waits while another thread releases everything: the caller may destroy the device after `close()`
    /// returns.
    pub fn wait_until_released(&self, py: Python<'_>) {
        let me = std::thread::current().id();
        detach(py, || {
            while self.closing.lock().is_some_and(|other| other != me) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// Stops all calls of the device, which may have been destroyed.
    pub fn abandon(&self, py: Python<'_>) {
        self.abandoned.store(true, Ordering::Relaxed);
        // The threads that this waits for may be in driver calls that run Python code.
        detach(py, || self.engine().stop_threads());
        self.end_recording(py);
    }

    /// Returns whether [`abandon`](Self::abandon) was called, or the process was forked.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.device.is_forked()
    }
}

impl Drop for AllocatorState {
    fn drop(&mut self) {
        if self.device.is_forked() {
            return;
        }
        let closed = self.pins.is_closed();
        if !closed {
            // Without a driver call: a wrapped device may have been destroyed by now.
            self.device.open_allocators.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_abandoned() && !closed {
            return;
        }
        if !closed {
            let name = &self.device_allocator.driver().info().name;
            let mut message = format!("the allocator of {name} was never closed");
            if !self.device.is_owned {
                message += ", and keeps its memory: the device, which is not its own, may be gone";
            }
            try_attach(|py| warn_unclosed(py, &message));
        }
        // A wrapped device may have been destroyed by now: its memory is freed with it, and a driver call
        // would crash.
        if !closed && !self.device.is_owned {
            without_gil(|| self.engine().stop_threads());
            return;
        }
        // The warning ran Python code of the caller, which may have forked.
        if self.device.is_forked() {
            return;
        }
        without_gil(|| {
            loop {
                let waiting = self.waiting.get_mut();
                // Those with a view first; the view has ended, as it kept this alive.
                let mut some = waiting.viewed.take_first(|_| true);
                if some.is_empty() {
                    some = waiting.collected.take_first(|_| true);
                }
                if some.is_empty() {
                    break;
                }
                some.iter().for_each(|it| drop(it.pending.release(self)));
            }
            self.end_background();
            // SAFETY: dropped once, here; not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.device_allocator) };
        });
    }
}

impl Drop for PoolState {
    fn drop(&mut self) {
        let over = self.pins.is_closed() || self.allocator.pins.is_closed();
        if over || self.allocator.device.is_forked() {
            return;
        }
        let message = format!("unclosed {}: it is released with its allocator", self.describe());
        try_attach(|py| warn_unclosed(py, &message));
    }
}

impl Drop for DeviceCore {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here; not used afterwards.
            without_gil(|| unsafe { ManuallyDrop::drop(&mut self.driver) });
        }
    }
}
