//! What goes on after the call that began it: transfers, which use resources until the device is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::ownership::{AllocatorState, Background, Resource};
use crate::errors::pinned;
use crate::interpreter::detach;

/// How long the end waits for calls in other threads to notice that what they wait for has ended.
const TO_NOTICE: Duration = Duration::from_millis(200);

impl AllocatorState {
    /// All of it.
    pub fn background(&self) -> Vec<Arc<dyn Background>> {
        self.background.lock().clone()
    }

    /// Lets go of what the device is done with.
    #[cold]
    pub fn retire_background(&self, py: Python<'_>) {
        for it in self.background() {
            it.retire(py, self);
        }
    }

    /// Whether a resource is used after the call that began that.
    #[cold]
    pub fn is_used_in_background(&self, resource: &Resource) -> bool {
        self.background().iter().any(|it| it.uses(resource))
    }

    /// Waits for all of it. An exception, and nothing was changed, where the time was not enough.
    pub fn settle_background(&self, py: Python<'_>, at_most: Option<Duration>) -> PyResult<()> {
        let all = self.background();
        let until = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        while all.iter().any(|it| it.is_busy()) {
            for it in &all {
                if !it.settle(py, self, until)? {
                    return Err(pinned(
                        "cannot close the allocator: transfers are in flight, and do not end",
                    ));
                }
            }
            let noticed = Instant::now() + TO_NOTICE;
            while self.pins.is_in_use() && Instant::now() < noticed {
                detach(py, || std::thread::sleep(Duration::from_millis(1)));
            }
        }
        Ok(())
    }

    /// Gives back what all of it has.
    pub fn end_background(&self) {
        let all = std::mem::take(&mut *self.background.lock());
        for it in all {
            it.end(self);
        }
    }
}
