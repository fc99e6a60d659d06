//! What the Python objects of one allocator share.

use std::collections::HashMap;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use vkmem_engine::{AllocationId, Allocator as Engine, Home, PoolId};
use vkmem_vulkan::DeviceAllocator;

use crate::errors::{pinned, use_after_free};
use crate::lifetime::device_memory::DeviceMemoryListener;
use crate::lifetime::live::Live;
use crate::lifetime::ownership::{Handles, Resource};
use crate::lifetime::pieces::Pieces;
use crate::lifetime::pins::{Pinned, Pins};
use crate::lifetime::release::Remains;
use crate::objects::device::DeviceCore;
use crate::observe::observed::{Observed, Origin};

/// A resource that nobody holds any more, and how many frames had begun when that was noticed.
struct Collected {
    frame: u64,
    remains: Remains,
    /// For dumps.
    usage: u64,
    origin: Option<Origin>,
}

/// What waits for the frames in flight to end.
#[derive(Default)]
struct Waiting {
    /// Frames begun so far, whatever index the caller counts them by.
    frames: u64,
    /// In pieces: what is put aside must not need a large table to grow.
    collected: Pieces<Collected>,
}

/// How many frames lie between two indices; `None` if the second is no later one. VMA's index has 32
/// bits: from the upper half of those to the lower one it has wrapped around.
fn frames_between(before: u64, after: u64) -> Option<u64> {
    const HALF: u64 = 1 << 31;
    let wraps = (HALF..2 * HALF).contains(&before) && after < HALF;
    if after >= before { Some(after - before) } else { wraps.then(|| 2 * HALF - before + after) }
}

/// The shared half of an `Allocator`.
pub struct AllocatorState {
    /// The engine and the driver.
    pub device_allocator: ManuallyDrop<DeviceAllocator>,
    /// Keeps the device alive.
    pub device: Arc<DeviceCore>,
    /// Who is inside a call; closed when the allocator is.
    pub pins: Pins,
    /// Everything that is not destroyed.
    pub live: Mutex<Live>,
    /// Of open pools that have one.
    pub pool_names: Mutex<HashMap<PoolId, Arc<str>>>,
    /// Who is told of memory objects.
    pub device_memory: DeviceMemoryListener,
    /// Call sites and counts, for those who ask.
    pub observed: Observed,
    waiting: Mutex<Waiting>,
    /// As the caller counts.
    frame: AtomicU64,
    frames_in_flight: u64,
    abandoned: AtomicBool,
    /// Who closes it, until everything is released.
    closing: Mutex<Option<ThreadId>>,
    /// Threads inside of a sample.
    samples: Mutex<Vec<ThreadId>>,
    /// Calls that want none.
    quiet: AtomicU32,
}

/// A sample of this thread, while it lives.
pub struct Sampling<'a>(&'a Mutex<Vec<ThreadId>>);

impl Drop for Sampling<'_> {
    fn drop(&mut self) {
        let me = std::thread::current().id();
        let mut samples = self.0.lock();
        if let Some(mine) = samples.iter().position(|it| *it == me) {
            samples.swap_remove(mine);
        }
    }
}

/// Counts as one while it lives.
pub struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AllocatorState {
    /// With nothing in it.
    pub fn new(
        device_allocator: DeviceAllocator,
        device: Arc<DeviceCore>,
        frames_in_flight: u64,
    ) -> Self {
        Self {
            device_allocator: ManuallyDrop::new(device_allocator),
            device,
            pins: Pins::default(),
            live: Mutex::default(),
            pool_names: Mutex::default(),
            device_memory: DeviceMemoryListener::default(),
            observed: Observed::default(),
            waiting: Mutex::default(),
            frame: AtomicU64::new(0),
            frames_in_flight,
            abandoned: AtomicBool::new(false),
            closing: Mutex::default(),
            samples: Mutex::default(),
            quiet: AtomicU32::new(0),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.device_allocator.engine()
    }

    /// Registers a call; an exception after close.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.device.check_process(py)?;
        self.pins.pin(py).ok_or_else(|| closed(py))
    }

    /// Puts what an unclosed object leaves behind aside until no frame in flight can use it. Its bytes.
    pub fn collect(&self, resource: &Resource) -> u64 {
        let (remains, origin) = (resource.remains(), resource.origin());
        let (usage, size) = (resource.usage, remains.size);
        let mut waiting = self.waiting.lock();
        let frame = waiting.frames;
        waiting.collected.push(Collected { frame, remains, usage, origin });
        size
    }

    /// How many objects wait so, and their bytes.
    pub fn waiting(&self) -> (usize, u64) {
        let collected = &self.waiting.lock().collected;
        (collected.len(), collected.iter().map(|it| it.remains.size).sum())
    }

    /// Allocation, usage and origin of each that waits so and has memory of its own.
    pub fn waiting_allocations(&self) -> Vec<(AllocationId, u64, Option<Origin>)> {
        let collected = &self.waiting.lock().collected;
        let owners = collected.iter().filter(|it| it.remains.alias_of.is_none());
        owners.map(|it| (it.remains.id, it.usage, it.origin)).collect()
    }

    /// Handles of all that waits so.
    pub fn waiting_handles(&self) -> Vec<Handles> {
        let collected = &self.waiting.lock().collected;
        let handles = collected.iter().map(|it| it.remains.handles);
        handles.filter(|it| *it != Handles::Memory).collect()
    }

    /// How many aliases of a resource wait so.
    pub fn waiting_in(&self, resource: &Resource) -> u32 {
        let collected = &self.waiting.lock().collected;
        let aliases = collected.iter().filter(|it| it.remains.lies_in(resource));
        aliases.fold(0, |count, _| count + 1)
    }

    /// The frame that is being recorded.
    pub fn current_frame(&self) -> u64 {
        self.frame.load(Ordering::Relaxed)
    }

    /// Frames that the device may still be working on.
    pub fn frames_in_flight(&self) -> u64 {
        self.frames_in_flight
    }

    /// Starts a frame; how many have begun by now, for [`take_unused`](Self::take_unused). The current
    /// index, if this one does not follow it.
    pub fn begin_frame(&self, frame: u64) -> Result<u64, u64> {
        let mut waiting = self.waiting.lock();
        let current = self.frame.load(Ordering::Relaxed);
        let more = frames_between(current, frame).ok_or(current)?;
        self.frame.store(frame, Ordering::Relaxed);
        waiting.frames = waiting.frames.saturating_add(more);
        Ok(waiting.frames)
    }

    /// Some of what no frame in flight can use any more, to be released; empty after the last.
    pub fn take_unused(&self, frames: u64) -> Vec<Remains> {
        let unused = |it: &Collected| it.frame.saturating_add(self.frames_in_flight) < frames;
        let taken = self.waiting.lock().collected.take_first(unused);
        taken.into_iter().map(|it| it.remains).collect()
    }

    /// What waits in some pools, to be released.
    pub fn take_collected(&self, wanted: impl Fn(Home) -> bool) -> Vec<Remains> {
        let taken = self.waiting.lock().collected.take_all(|it| wanted(it.remains.home()));
        taken.into_iter().map(|it| it.remains).collect()
    }

    /// Marks the stretch in which everything is released.
    pub fn set_closing(&self, closing: bool) {
        *self.closing.lock() = closing.then(|| std::thread::current().id());
    }

    /// Begins a sample, which `close` waits for instead of being refused; `None` while it does. To be
    /// dropped after the pin.
    pub fn begin_sample(&self) -> Option<Sampling<'_>> {
        // First, so that a close that does not see it is seen here.
        self.samples.lock().push(std::thread::current().id());
        let sampling = Sampling(&self.samples);
        (self.quiet.load(Ordering::SeqCst) == 0).then_some(sampling)
    }

    /// Waits until no other thread samples, and lets no sample begin while the result lives. An exception
    /// if this thread does: what a sample lets go of may warn, and the warning's hook come here.
    pub fn without_samples(&self, py: Python<'_>) -> PyResult<Counted<'_>> {
        let quiet = Counted::new(&self.quiet);
        let me = std::thread::current().id();
        loop {
            let samples = self.samples.lock().clone();
            if samples.contains(&me) {
                return Err(pinned(
                    "cannot close the allocator: this thread is inside of a sample of it",
                ));
            }
            if samples.is_empty() {
                return Ok(quiet);
            }
            py.detach(|| std::thread::sleep(Duration::from_micros(100)));
        }
    }

    /// Waits while another thread releases everything: after close() the caller may end the device.
    pub fn wait_until_released(&self, py: Python<'_>) {
        let me = std::thread::current().id();
        py.detach(|| {
            while self.closing.lock().is_some_and(|other| other != me) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// From now on the device may be gone: nothing calls it any more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.engine().stop_prefetch();
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
        if self.is_abandoned() && !closed {
            return;
        }
        if !closed {
            let name = &self.device_allocator.driver().info().name;
            let mut message = format!("the allocator of {name} was never closed");
            if !self.device.is_owned {
                message += ", and keeps its memory: the device, which is not its own, may be gone";
            }
            Python::try_attach(|py| warn_unclosed(py, &message));
        }
        // A wrapped device may be gone by now: its memory goes with it, and a call would crash.
        if !closed && !self.device.is_owned {
            self.engine().stop_prefetch();
            return;
        }
        // The warning ran code of the caller's, which may have forked.
        if self.device.is_forked() {
            return;
        }
        loop {
            let some = self.waiting.get_mut().collected.take_first(|_| true);
            if some.is_empty() {
                break;
            }
            some.iter().for_each(|it| drop(it.remains.release(self)));
        }
        // SAFETY: dropped once, here; nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.device_allocator) };
    }
}

/// Lets the interpreter go while this thread waits for another one, if it has it.
pub fn wait_without_interpreter(wait: &(dyn Fn() + Sync)) {
    if Python::try_attach(|py| py.detach(wait)).is_none() {
        wait();
    }
}

#[cold]
fn closed(py: Python<'_>) -> PyErr {
    use_after_free(py, "the allocator is closed")
}

/// Issues a `ResourceWarning`; an exception if warnings are turned into errors.
pub fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    let category = py.get_type::<PyResourceWarning>();
    PyErr::warn(py, &category, &CString::new(message.replace('\0', "?"))?, 1)
}

/// Issues a `ResourceWarning` from a finaliser: whatever exception is on its way stays, and a warning
/// that was turned into an error is shown, not raised.
pub fn warn_unclosed(py: Python<'_>, message: &str) {
    in_finaliser(py, || warn(py, message));
}

/// Runs what may raise where nothing may be raised.
pub fn in_finaliser(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    let on_its_way = PyErr::take(py);
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}
