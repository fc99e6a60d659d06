//! Samples: reads of an allocator's state by `serve_stats`, which `close` waits for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

use super::ownership::AllocatorState;
use crate::errors::pinned;
use crate::interpreter::detach;

/// A sample of this thread, until dropped.
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

/// Blocks new samples until dropped.
pub struct SampleBlock<'a>(&'a AtomicU32);

impl<'a> SampleBlock<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for SampleBlock<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AllocatorState {
    /// Begins a sample, which `close` waits for instead of raising; `None` while `close` waits. To be dropped
    /// after the pin.
    pub fn begin_sample(&self) -> Option<Sampling<'_>> {
        // Added before the flag is read: either this sees a `close`, or that sees this sample.
        self.samples.lock().push(std::thread::current().id());
        let sampling = Sampling(&self.samples);
        (self.sample_blocks.load(Ordering::SeqCst) == 0).then_some(sampling)
    }

    /// Waits until no other thread samples, and blocks new samples until the result is dropped.
    ///
    /// # Errors
    /// `BufferError` if this thread samples: a reference that a sample drops may issue a warning, whose hook
    /// may call `close`.
    pub fn block_samples(&self, py: Python<'_>) -> PyResult<SampleBlock<'_>> {
        let block = SampleBlock::new(&self.sample_blocks);
        let me = std::thread::current().id();
        loop {
            let samples = self.samples.lock().clone();
            if samples.contains(&me) {
                return Err(pinned(
                    "cannot close the allocator: this thread is inside of a sample of it",
                ));
            }
            if samples.is_empty() {
                return Ok(block);
            }
            detach(py, || std::thread::sleep(Duration::from_micros(100)));
        }
    }
}
