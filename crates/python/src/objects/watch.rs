//! `vk_mem.statistics.Watch`, its native half.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::lifetime::ownership::AllocatorState;
use crate::observe::observed::{Figures, WatchState};

/// Counts creating and releasing calls until it ends. The public face is `vk_mem.statistics`.
#[pyclass(name = "_Watch", module = "vk_mem._vk_mem", frozen)]
pub struct Watch {
    allocator: Arc<AllocatorState>,
    state: Arc<WatchState>,
}

impl Watch {
    /// Begins.
    pub fn begin(allocator: &Arc<AllocatorState>, by: Option<&str>, this_thread: bool) -> Self {
        let state = Arc::new(WatchState::new(by, this_thread));
        allocator.observed.begin(state.clone());
        Self { allocator: allocator.clone(), state }
    }
}

#[pymethods]
impl Watch {
    fn figures(&self) -> Figures {
        self.state.figures()
    }

    fn rows(&self, py: Python<'_>) -> PyResult<Vec<(Option<String>, Figures)>> {
        self.state.rows(py)
    }

    fn end(&self) {
        // The child of a fork does not get its parent's threads, but their locks.
        if !self.allocator.device.is_forked() {
            self.allocator.observed.end(&self.state);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
