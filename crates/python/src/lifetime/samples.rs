//! Looks from outside at an allocator, which `close` waits for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

use super::ownership::AllocatorState;
use crate::errors::pinned;
use crate::interpreter::detach;

/// A sample of this thread, while it lives.
pub struct Sampling<'a>(&'a Mutex<Vec<ThreadId>, rank::Samples>);

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
pub struct Quiet<'a>(&'a AtomicU32);

impl<'a> Quiet<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AllocatorState {
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
    pub fn without_samples(&self, py: Python<'_>) -> PyResult<Quiet<'_>> {
        let quiet = Quiet::new(&self.quiet);
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
            detach(py, || std::thread::sleep(Duration::from_micros(100)));
        }
    }
}
