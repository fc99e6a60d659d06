//! [`RecorderSlot`]: who records an allocator.

use std::sync::Arc;

use super::order;
use super::told::{Recorder, Told};
use crate::lock::{RwLock, rank};

/// Who records an allocator, if anybody does.
#[derive(Default)]
pub(crate) struct RecorderSlot(RwLock<Option<Arc<dyn Recorder>>, rank::Recorder>);

impl RecorderSlot {
    /// Sets who records from now on; returns who did. Once this has returned, that one is not told anything more.
    pub fn set(&self, recorder: Option<Arc<dyn Recorder>>) -> Option<Arc<dyn Recorder>> {
        let mut slot = self.0.write();
        if recorder.is_some() {
            order::begin();
        }
        let before = std::mem::replace(&mut *slot, recorder);
        if before.is_some() {
            order::end();
        }
        before
    }

    /// Tells what took effect when this thread got its last number.
    #[cold]
    #[inline(never)]
    pub fn tell(&self, told: &Told<'_>) {
        let slot = self.0.read_recursive();
        let number = order::take();
        if let Some(recorder) = &*slot {
            recorder.tell(number, told);
        }
    }

    /// Tells what was done to `count` objects, each of which gets a number.
    #[cold]
    #[inline(never)]
    pub fn tell_of_many(&self, count: usize, told: &Told<'_>) {
        let slot = self.0.read_recursive();
        if let Some(recorder) = &*slot {
            recorder.tell(order::next_of(count + 1), told);
        }
    }

    /// Tells what takes effect now; the number that this thread got last is left to the call that it is in.
    #[cold]
    #[inline(never)]
    pub fn tell_now(&self, told: &Told<'_>) {
        let slot = self.0.read_recursive();
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
