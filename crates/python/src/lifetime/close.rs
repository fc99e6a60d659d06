//! The end of an allocator: closed by hand, collected, or left to the end of the interpreter. And what
//! follows: pools and devices that nobody holds any more.

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
    detach, set_ending, try_attach, warn, warn_unclosed, without_interpreter,
};
use crate::process::host_memory::check_room;

/// What the end of one takes until all have ended, in bytes.
pub const TO_END_ONE: usize = 192;

/// How many live things a warning lists by name.
const LISTED: usize = 10;

/// Every allocator that may still be open.
static OPEN: Mutex<Vec<Weak<AllocatorState>>, rank::OpenAllocators> = Mutex::new(Vec::new());

/// Remembers an allocator for the end of the interpreter.
pub fn register(state: &Arc<AllocatorState>) -> Result<(), TryReserveError> {
    let mut open = OPEN.lock();
    open.retain(|state| state.strong_count() > 0);
    open.try_reserve(1)?;
    open.push(Arc::downgrade(state));
    Ok(())
}

/// All that may still be open.
pub fn open_allocators() -> Vec<Arc<AllocatorState>> {
    OPEN.lock().iter().filter_map(Weak::upgrade).collect()
}

/// An exception if something has an open view or is in a call.
pub fn in_use(live: &[ResourceRef], owner: &str) -> PyResult<()> {
    match live.iter().find(|it| it.pins.is_in_use()) {
        None => Ok(()),
        Some(used) => Err(pinned(format!(
            "cannot close the {owner}: {} has an open view, or another thread uses it",
            used.describe()
        ))),
    }
}

/// What a closing owner says of things that are still alive.
pub fn leaked(py: Python<'_>, live: &[ResourceRef], owner: &str) -> Option<String> {
    (!live.is_empty()).then(|| {
        let line = |it: &ResourceRef| it.describe() + &it.made_at(py);
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

/// What a closed allocator has to be warned of.
#[derive(Default)]
pub struct Closed {
    /// What was still live.
    pub leaked: Option<String>,
    /// What the device never saw.
    pub lost: Vec<String>,
}

impl Closed {
    /// Issues both; an exception if warnings are turned into errors.
    pub fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let leaked = self.leaked.as_ref().map_or(Ok(()), |leaked| warn(py, leaked));
        unflushed::warn_all(py, &self.lost).and(leaked)
    }
}

/// Closes. A refused close changes nothing.
pub fn close(py: Python<'_>, state: &AllocatorState) -> PyResult<Closed> {
    state.device.check_process(py)?;
    if state.pins.is_closed() {
        state.wait_until_released(py);
        return Ok(Closed::default());
    }
    // From here to the closed pins the interpreter is held, so nothing changes in between.
    let _quiet = state.without_samples(py)?;
    // Nothing has changed yet.
    check_room(py, state.live.lock().len() + state.waiting().0, TO_END_ONE)?;
    // The lock is gone when the last reference of one of them is.
    let live = state.live.lock().all();
    in_use(&live, "allocator")?;
    state.check_retired_views(|_| true, "allocator")?;
    // Before it says that it is closed, so that nobody takes that for the end.
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
    let mut remains: Vec<_> = live.iter().filter_map(|it| it.close_for_allocator(py)).collect();
    remains.extend(state.take_collected(|_| true));
    release_all(py, state, &remains);
    detach(py, || {
        state.engine().close();
        state.device.allocator_ended();
    });
    state.tell_device_memory(py);
    state.set_closing(false);
    Ok(Closed { leaked, lost })
}

/// The last call before the interpreter ends; registered with `atexit`.
#[pyfunction]
pub fn _close_all_at_exit(py: Python<'_>) {
    set_ending();
    let open: Vec<_> = OPEN.lock().drain(..).filter_map(|state| state.upgrade()).collect();
    let here = |state: &&Arc<AllocatorState>| !state.pins.is_closed() && !state.device.is_forked();
    for state in open.iter().filter(here) {
        let name = &state.device_allocator.driver().info().name;
        if !state.device.is_owned {
            // The caller's device may be gone already.
            state.abandon(py);
            warn_unclosed(py, &format!("the allocator of {name} was never closed"));
            continue;
        }
        match close(py, state) {
            Ok(closed) => {
                unflushed::warn_in_finaliser(py, &closed.lost);
                let leaked = closed.leaked.map_or(String::new(), |leaked| format!(": {leaked}"));
                warn_unclosed(py, &format!("the allocator of {name} was never closed{leaked}"));
            }
            // A view is open. Leaving the memory to the end of the process is the safe thing.
            Err(why) => {
                state.abandon(py);
                let why = why.value(py);
                warn_unclosed(py, &format!("the allocator of {name} was never closed: {why}"));
            }
        }
    }
}

impl DeviceCore {
    /// An allocator was closed. With the last one of a wrapped device all goes that is left of copies: the
    /// caller may destroy the device now.
    fn allocator_ended(&self) {
        let was_last = self.open_allocators.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && !self.is_owned {
            // SAFETY: who closes an allocator has not destroyed the device yet.
            unsafe { self.driver.release_submissions() };
        }
    }
}

impl AllocatorState {
    /// Marks the stretch in which everything is released.
    pub fn set_closing(&self, closing: bool) {
        *self.closing.lock() = closing.then(|| std::thread::current().id());
    }

    /// Waits while another thread releases everything: after close() the caller may end the device.
    pub fn wait_until_released(&self, py: Python<'_>) {
        let me = std::thread::current().id();
        detach(py, || {
            while self.closing.lock().is_some_and(|other| other != me) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// From now on the device may be gone: nothing calls it any more.
    pub fn abandon(&self, py: Python<'_>) {
        self.abandoned.store(true, Ordering::Relaxed);
        // The thread that is waited for may be in a call of the driver, and that in Python code.
        detach(py, || self.engine().stop_prefetch());
    }

    /// Whether [`abandon`](Self::abandon) was called.
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
            // Without a call: a wrapped device may be gone by now.
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
        // A wrapped device may be gone by now: its memory goes with it, and a call would crash.
        if !closed && !self.device.is_owned {
            without_interpreter(|| self.engine().stop_prefetch());
            return;
        }
        // The warning ran code of the caller's, which may have forked.
        if self.device.is_forked() {
            return;
        }
        without_interpreter(|| {
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
            // SAFETY: dropped once, here; nothing uses it afterwards.
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
            // SAFETY: dropped once, here; nothing uses it afterwards.
            without_interpreter(|| unsafe { ManuallyDrop::drop(&mut self.driver) });
        }
    }
}
