//! [`RecorderSlot`]: who records an allocator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::order;
use super::told::{Recorder, Told};
use crate::lock::{RwLock, rank};

/// Who records an allocator, if anybody does.
#[derive(Default)]
pub(crate) struct RecorderSlot {
    recorder: RwLock<Option<Arc<dyn Recorder>>, rank::Recorder>,
    /// Whether there is one: so that an allocator that is not recorded takes no lock because another one is.
    is_set: AtomicBool,
}

impl RecorderSlot {
    /// Sets who records from now on; returns who did. Once this has returned, that one is not told anything more.
    pub fn set(&self, recorder: Option<Arc<dyn Recorder>>) -> Option<Arc<dyn Recorder>> {
        let mut slot = self.recorder.write();
        self.is_set.store(recorder.is_some(), Relaxed);
        if recorder.is_some() {
            order::begin();
        }
        let before = std::mem::replace(&mut *slot, recorder);
        if before.is_some() {
            order::end();
        }
        before
    }

    /// Returns whether anybody records the allocator.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_set.load(Relaxed)
    }

    /// Tells what took effect when this thread got its last number.
    #[cold]
    #[inline(never)]
    pub fn tell(&self, told: &Told<'_>) {
        let number = order::take();
        if !self.is_set() {
            return;
        }
        let slot = self.recorder.read_recursive();
        if let Some(recorder) = &*slot {
            recorder.tell(number, told);
        }
    }

    /// Tells what was done to `count` objects, each of which gets a number.
    #[cold]
    #[inline(never)]
    pub fn tell_of_many(&self, count: usize, told: &Told<'_>) {
        if !self.is_set() {
            return;
        }
        let slot = self.recorder.read_recursive();
        if let Some(recorder) = &*slot {
            recorder.tell(order::next_of(count + 1), told);
        }
    }

    /// Tells what takes effect now; the number that this thread got last is left to the call that it is in.
    #[cold]
    #[inline(never)]
    pub fn tell_now(&self, told: &Told<'_>) {
        if !self.is_set() {
            return;
        }
        let slot = self.recorder.read_recursive();
        if let Some(recorder) = &*slot {
            recorder.tell(order::next(), told);
        }
    }
}

impl Drop for RecorderSlot {
    fn drop(&mut self) {
        drop(self.set(None));
    }
}
