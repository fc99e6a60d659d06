//! The callback of an allocator for each `vkAllocateMemory` and `vkFreeMemory`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pyo3::{PyTraverseError, PyVisit};

use crate::arguments::callback::{Callback, exchange};

/// The callback of an allocator. It runs without locks; events are delivered in their order.
#[derive(Default)]
pub struct DeviceMemoryListener {
    pub(super) callback: Callback,
    /// Whether a thread is delivering events: it goes on until there are none.
    pub(super) is_delivering: AtomicBool,
    /// Whether the main thread has been asked to deliver events.
    pub(super) is_requested: Arc<AtomicBool>,
}

impl DeviceMemoryListener {
    /// Traverses the callback for the cycle collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // If another thread holds the lock, the object is reachable, and so is the callback.
        match self.callback.try_lock() {
            Some(callback) => visit.call(&*callback),
            None => Ok(()),
        }
    }

    /// Removes the callback, for the cycle collector.
    pub fn clear(&self) {
        exchange(&self.callback, None);
    }
}
