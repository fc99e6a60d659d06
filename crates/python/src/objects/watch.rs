//! Event listeners for Python: `vk_mem.statistics`, `vk_mem.serve_stats`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::lifetime::ownership::AllocatorState;
use crate::observe::event_counts::EventCounts;
use crate::observe::events::Listener;
use crate::observe::watch_state::{Figures, WatchState};

/// A listener of an allocator, removed when dropped.
struct Listening {
    allocator: Arc<AllocatorState>,
    listener: Arc<dyn Listener>,
}

impl Listening {
    fn begin(allocator: &Arc<AllocatorState>, listener: Arc<dyn Listener>) -> Self {
        allocator.events.begin(listener.clone());
        Self { allocator: allocator.clone(), listener }
    }

    fn end(&self) {
        // The child of a fork does not have the parent's threads, but their locks may be held.
        if !self.allocator.device.is_forked() {
            self.allocator.events.end(&self.listener);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts creating and releasing calls until it ends. Public as `vk_mem.statistics`.
#[pyclass(name = "_Watch", module = "vk_mem._vk_mem", frozen)]
pub struct Watch {
    listening: Listening,
    state: Arc<WatchState>,
}

impl Watch {
    /// Adds the listener.
    pub fn begin(allocator: &Arc<AllocatorState>, by: Option<&str>, this_thread: bool) -> Self {
        let state = Arc::new(WatchState::new(&allocator.sites, by, this_thread));
        Self { listening: Listening::begin(allocator, state.clone()), state }
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
        self.listening.end();
    }
}

/// Counts the events of an allocator by kind until it ends. Read by `vk_mem.serve_stats`.
#[pyclass(name = "_EventCounter", module = "vk_mem._vk_mem", frozen)]
pub struct EventCounter {
    listening: Listening,
    counts: Arc<EventCounts>,
}

impl EventCounter {
    /// Adds the listener.
    pub fn begin(allocator: &Arc<AllocatorState>) -> Self {
        let counts = Arc::new(EventCounts::default());
        Self { listening: Listening::begin(allocator, counts.clone()), counts }
    }
}

#[pymethods]
impl EventCounter {
    /// Returns the number of events of each kind since it was added.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        self.counts.read().try_for_each(|(kind, count)| counts.set_item(kind, count))?;
        Ok(counts)
    }

    fn end(&self) {
        self.listening.end();
    }
}
