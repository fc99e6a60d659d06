//! The transfers that are in flight: waiting for them, and letting go of those that have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pyo3::prelude::*;

use super::state::{Transfer, TransfersState, Watch};
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Background};

/// When the list is looked through.
#[derive(Debug)]
pub struct Looks {
    calls: AtomicU64,
    /// When so many are in flight, all of them are looked at.
    all_at: AtomicU64,
}

impl Default for Looks {
    fn default() -> Self {
        Self { calls: AtomicU64::new(0), all_at: AtomicU64::new(FEW) }
    }
}

/// How many of the oldest are looked at: twice as many as were begun meanwhile.
const AT_ONCE: usize = 32;
/// One of so many calls asks the driver.
const CALLS: u64 = 16;
/// Few enough to be looked at again and again.
const FEW: u64 = 64;
/// How many are waited for without the interpreter.
const WAIT_FOR: usize = 1024;

impl TransfersState {
    /// Notes that one is in flight.
    pub fn add(&self, transfer: Py<Transfer>) {
        self.in_flight.lock().push_back(transfer);
    }

    /// Notes that some are in flight.
    pub fn add_all(&self, transfers: impl Iterator<Item = Py<Transfer>>) {
        self.in_flight.lock().extend(transfers);
    }

    /// How many are in flight, as far as is known.
    pub fn in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }

    fn oldest(&self, py: Python<'_>, count: usize) -> Vec<Py<Transfer>> {
        self.in_flight.lock().iter().take(count).map(|it| it.clone_ref(py)).collect()
    }

    /// Lets go of those at the front that are known to have ended.
    pub fn let_first_go(&self, py: Python<'_>) {
        let gone: Vec<_> = {
            let mut all = self.in_flight.lock();
            let ended = |it: &&Py<Transfer>| it.get().job.is_known_to_have_ended();
            let count = all.iter().take_while(ended).count();
            all.drain(..count).collect()
        };
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
        detach(py, || first.iter().all(|it| it.get().has_ended(allocator)));
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
        let gone: Vec<_> = {
            let mut all = self.in_flight.lock();
            let (gone, left): (Vec<_>, Vec<_>) =
                all.drain(..).partition(|it| it.get().job.is_known_to_have_ended());
            *all = left.into();
            gone
        };
        Self::let_all_go(py, gone);
    }

    /// Without the lock: it may be the last reference, and what it leads to is the caller's.
    fn let_all_go(py: Python<'_>, gone: Vec<Py<Transfer>>) {
        for it in gone {
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
                    let job = &it.get().job;
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
