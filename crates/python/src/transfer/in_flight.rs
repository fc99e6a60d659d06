//! The transfers that are in flight: waiting for them, and letting go of those that have ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::prelude::*;
use vkmem_vulkan::Job;

use super::jobs::OneJob;
use super::state::{FEW, Transfer, TransfersState};
use super::watch::Watch;
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Background};

/// How many jobs of the oldest are looked at: twice as many as were begun meanwhile.
const AT_ONCE: usize = 32;
/// One of so many calls asks the driver.
const CALLS: u64 = 16;
/// How many jobs are waited for without the interpreter.
const WAIT_FOR: usize = 1024;

impl TransfersState {
    /// Notes that one is in flight.
    pub fn add(&self, transfer: Py<Transfer>) {
        self.in_flight.lock().push(OneJob::Alone(transfer.get().job.clone(), transfer));
    }

    /// Notes that transfers of one job are in flight.
    pub fn add_together(&self, job: Arc<Job>, transfers: Arc<[Py<Transfer>]>) {
        self.in_flight.lock().push(OneJob::Together(job, transfers));
    }

    /// How many are in flight, as far as is known.
    pub fn in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }

    /// The oldest jobs, `count` at most.
    fn oldest(&self, py: Python<'_>, count: usize) -> Vec<OneJob<Py<Transfer>>> {
        self.in_flight.lock().oldest(count, |it| it.clone_ref(py))
    }

    /// Asks the driver about all of them.
    pub(super) fn poll_all(&self, py: Python<'_>, allocator: &AllocatorState) {
        let running = self.oldest(py, usize::MAX);
        detach(py, || {
            for it in &running {
                self.engine.poll(&allocator.device_allocator, it.job());
            }
        });
        drop(running);
    }

    /// Lets go of those at the front that are known to have ended.
    pub fn let_first_go(&self, py: Python<'_>) {
        let gone = self.in_flight.lock().take_first_ended();
        Self::let_all_go(py, gone);
    }

    /// Lets go of those that have ended: now and then asks the driver about the oldest, and seldom about all.
    pub fn retire_some(&self, py: Python<'_>, allocator: &AllocatorState) {
        if !self.looks.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(CALLS) {
            return;
        }
        let first = self.oldest(py, AT_ONCE);
        if first.is_empty() {
            return;
        }
        // The driver is asked without the lock, and without the interpreter.
        detach(py, || {
            first
                .iter()
                .filter_map(|it| it.transfers().first())
                .all(|it| it.get().has_ended(allocator))
        });
        drop(first);
        self.let_first_go(py);
        if self.in_flight() as u64 > self.looks.all_at.load(Ordering::Relaxed) {
            self.retire(py, allocator);
            let left = self.in_flight() as u64;
            self.looks.all_at.store(left.saturating_mul(2).max(FEW), Ordering::Relaxed);
        }
    }

    /// Lets go of all that are known to have ended.
    pub(super) fn retire_ended(&self, py: Python<'_>) {
        let gone = self.in_flight.lock().take_ended();
        Self::let_all_go(py, gone);
    }

    /// Without the lock: it may be the last reference, and what it leads to is the caller's.
    fn let_all_go(py: Python<'_>, gone: Vec<OneJob<Py<Transfer>>>) {
        for it in gone.iter().flat_map(OneJob::transfers) {
            it.get().let_go(py);
        }
    }

    /// Waits for all that are in flight: whether all have ended.
    pub fn wait_all(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        until: Option<Instant>,
    ) -> PyResult<bool> {
        let on = &allocator.device_allocator;
        detach(py, || self.engine.flush(on));
        loop {
            let next = self.oldest(py, WAIT_FOR);
            if next.is_empty() {
                return Ok(true);
            }
            let watch = Watch::quiet();
            let waited = detach(py, || {
                for it in &next {
                    let job = it.job();
                    if !job.is_known_to_have_ended()
                        && !self.engine.wait(on, job, until, &|| watch.pause())?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            });
            drop(next);
            self.let_first_go(py);
            if !watch.result(py, waited)? {
                return Ok(false);
            }
        }
    }
}
