//! The moves of an allocator that were submitted, and what they left behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{AllocationId, PoolKey};
use vkmem_vulkan::{Driver, ResourceHandle, Submission};

use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Background, Moves, Resource, ResourceRef};
use crate::observe::call_site::Origin;

/// How long a wait for the device lasts before it looks for signals.
const SLICE_NS: u64 = 50_000_000;

/// How long the device is asked again and again before a wait. Then the thread would sleep, and waking up takes
/// as long as copying ten megabytes.
const POLLED: Duration = Duration::from_micros(100);

/// Waits until a submission has ended, for a time in nanoseconds; returns whether it has, which it also has after an
/// error. The caller does not hold the GIL.
fn has_ended(driver: &dyn Driver, submission: Submission, timeout_ns: u64) -> bool {
    let begun = Instant::now();
    while driver.is_done(submission) == Ok(false) {
        if begun.elapsed() >= POLLED {
            return driver.wait(submission, timeout_ns).unwrap_or(true);
        }
        std::thread::yield_now();
    }
    // Tells an error from an end.
    driver.wait(submission, timeout_ns).unwrap_or(true)
}

/// Waits until a submission has ended. An error ends the wait, as nothing runs any more then. The caller does not hold
/// the GIL.
pub(super) fn wait(driver: &dyn Driver, submission: Submission) {
    while !has_ended(driver, submission, u64::MAX) {}
}

/// What a resource has left at its old place.
pub struct Left {
    /// The old handle.
    pub handle: ResourceHandle,
    /// The old memory.
    pub id: AllocationId,
    /// Whether that is still live: after a slide it is not.
    pub has_memory: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Usage, for dumps.
    pub usage: u64,
    /// Where the resource was created.
    pub origin: Option<Origin>,
}

/// Memory objects that a run of defragmentation has given back to the device, now or later.
#[derive(Debug, Default)]
pub struct FreedCounts {
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Their number.
    pub objects: AtomicU64,
}

/// Resources whose copies were submitted together.
struct Flight {
    submission: Submission,
    /// Each is pinned, as the device writes to it.
    moved: Vec<ResourceRef>,
    /// How many frames had begun.
    frame: u64,
    left: Vec<Left>,
    counts: Arc<FreedCounts>,
}

/// What waits for its frame.
struct Waiting {
    frame: u64,
    left: Vec<Left>,
    counts: Arc<FreedCounts>,
}

#[derive(Default)]
struct State {
    flights: VecDeque<Flight>,
    waiting: VecDeque<Waiting>,
}

/// The moves of an allocator.
#[derive(Default)]
pub struct Mover(Mutex<State, rank::MovesInFlight>);

impl Mover {
    /// The moves of an allocator, entered with it by the first.
    pub fn of(allocator: &AllocatorState) -> Arc<Self> {
        let made = allocator.moves.get_or_init(|| {
            let made = Arc::new(Self::default());
            allocator.background.lock().push(made.clone());
            made
        });
        let any: Arc<dyn std::any::Any + Send + Sync> = made.clone();
        any.downcast().expect("made above")
    }

    /// Adds moves that were submitted. Each resource has one pin for that.
    pub fn add(
        &self,
        allocator: &AllocatorState,
        submission: Submission,
        moved: Vec<ResourceRef>,
        left: Vec<Left>,
        counts: &Arc<FreedCounts>,
    ) {
        let frame = allocator.frames_begun();
        let flight = Flight { submission, moved, frame, left, counts: counts.clone() };
        self.0.lock().flights.push_back(flight);
    }

    /// Waits for all copies, and releases what no frame in flight can use.
    pub fn settle_all(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        self.settle(py, allocator, None)?;
        self.release_unused(py, allocator);
        Ok(())
    }

    /// Does that without an end by a signal.
    pub fn settle_now(&self, py: Python<'_>, allocator: &AllocatorState) {
        self.land(py, allocator, true);
        self.release_unused(py, allocator);
    }

    /// Lets go of the resources whose copies have ended; what they left waits for its frame from then on.
    fn land(&self, py: Python<'_>, allocator: &AllocatorState, wait: bool) {
        loop {
            let Some(next) = self.0.lock().flights.front().map(|it| it.submission) else { return };
            let driver = allocator.device_allocator.driver();
            // An error says that nothing runs any more: the device is lost.
            let has_ended = detach(py, || match wait {
                true => has_ended(&**driver, next, SLICE_NS),
                false => match driver.is_done(next) {
                    Ok(done) => done,
                    Err(_) => driver.wait(next, 0).unwrap_or(true),
                },
            });
            if has_ended {
                self.let_go(py, next);
            } else if !wait {
                return;
            }
        }
    }

    /// Lets go of all up to a submission.
    fn let_go(&self, py: Python<'_>, until: Submission) {
        let mut moved = Vec::new();
        {
            let mut state = self.0.lock();
            while state.flights.front().is_some_and(|it| it.submission <= until) {
                let Some(flight) = state.flights.pop_front() else { break };
                let Flight { frame, left, counts, .. } = flight;
                state.waiting.push_back(Waiting { frame, left, counts });
                moved.extend(flight.moved);
            }
        }
        // Without the lock: one may be the last reference.
        for it in moved {
            it.pins.remove(py);
        }
    }

    /// Releases what no frame in flight can use.
    fn release_unused(&self, py: Python<'_>, allocator: &AllocatorState) {
        loop {
            let Some(frame) = self.0.lock().waiting.front().map(|it| it.frame) else { return };
            if !allocator.is_unused_since(frame) {
                return;
            }
            let next = {
                let mut state = self.0.lock();
                let is_it = state.waiting.front().is_some_and(|it| it.frame == frame);
                is_it.then(|| state.waiting.pop_front()).flatten()
            };
            if let Some(next) = next {
                detach(py, || release(allocator, &next.left, &next.counts));
                allocator.tell_device_memory(py);
            }
        }
    }
}

/// Destroys the old handles and frees the old memory. Blocks that become empty are given back by another thread: a
/// frame has no time for that.
fn release(allocator: &AllocatorState, left: &[Left], counts: &FreedCounts) {
    if let Some(debugger) = allocator.debugger() {
        let own = left.iter().filter(|it| it.has_memory).map(|it| it.id);
        debugger.frees_left(allocator, &own.collect::<Vec<_>>());
    }
    // Before the driver can reuse the handles.
    drop(allocator.device.bindings.remove_many(left.iter().map(|it| it.handle)));
    let memory: Vec<AllocationId> =
        left.iter().filter(|it| it.has_memory).map(|it| it.id).collect();
    // SAFETY: the copies have ended and no frame in flight uses them, and each is released once.
    let freed = unsafe { allocator.device_allocator.destroy_many(left, |it| it.handle, &memory) };
    for it in &freed.releases {
        counts.bytes.fetch_add(it.bytes(), Ordering::Relaxed);
        counts.objects.fetch_add(it.object_count(), Ordering::Relaxed);
    }
    allocator.engine().release_later(freed.releases);
}

impl Background for Mover {
    fn retire(&self, py: Python<'_>, allocator: &AllocatorState) {
        self.land(py, allocator, false);
        self.release_unused(py, allocator);
    }

    fn uses(&self, resource: &Resource) -> bool {
        let state = self.0.lock();
        state
            .flights
            .iter()
            .flat_map(|it| &it.moved)
            .any(|it| std::ptr::eq(&raw const **it, resource))
    }

    fn is_busy(&self) -> bool {
        !self.0.lock().flights.is_empty()
    }

    fn settle(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        until: Option<Instant>,
    ) -> PyResult<bool> {
        while self.is_busy() {
            self.land(py, allocator, until.is_none_or(|until| Instant::now() < until));
            if self.is_busy() && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            py.check_signals()?;
        }
        Ok(true)
    }

    fn end(&self, allocator: &AllocatorState) {
        let waiting = std::mem::take(&mut self.0.lock().waiting);
        for it in waiting {
            release(allocator, &it.left, &it.counts);
        }
    }
}

impl Moves for Mover {
    fn wait_for(&self, py: Python<'_>, allocator: &AllocatorState, resource: &Resource) -> bool {
        let is_used = self.is_busy() && self.uses(resource);
        if is_used {
            self.land(py, allocator, true);
            self.release_unused(py, allocator);
        }
        is_used
    }

    fn release(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        wanted: &dyn Fn(PoolKey) -> bool,
    ) {
        self.land(py, allocator, true);
        let mut of_these = Vec::new();
        for it in &mut self.0.lock().waiting {
            let (those, others) =
                std::mem::take(&mut it.left).into_iter().partition(|it| wanted(it.id.pool_key()));
            let those: Vec<Left> = those;
            it.left = others;
            of_these.push((those, it.counts.clone()));
        }
        detach(py, || {
            for (left, counts) in &of_these {
                release(allocator, left, counts);
            }
        });
        allocator.tell_device_memory(py);
    }

    fn left(&self) -> Vec<(AllocationId, u64, u64, Option<Origin>)> {
        let state = self.0.lock();
        let left = state.flights.iter().flat_map(|it| &it.left);
        let left = left.chain(state.waiting.iter().flat_map(|it| &it.left));
        let left = left.filter(|it| it.has_memory);
        left.map(|it| (it.id, it.size, it.usage, it.origin)).collect()
    }
}
