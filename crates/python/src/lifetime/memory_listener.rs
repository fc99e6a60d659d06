//! The callback of an allocator for each `vkAllocateMemory` and `vkFreeMemory`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pyo3::{PyTraverseError, PyVisit};

use crate::arguments::callback::{Callback, exchange};

/// The callback of an allocator. It runs outside of all locks; events come in their order.
#[derive(Default)]
pub struct DeviceMemoryListener {
    pub(super) callback: Callback,
    /// A thread is telling: it goes on until there is nothing more to tell.
    pub(super) is_telling: AtomicBool,
    /// The main thread is asked to tell.
    pub(super) is_asked: Arc<AtomicBool>,
}

impl DeviceMemoryListener {
    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Another thread that holds it is alive, and so is what it holds.
        match self.callback.try_lock() {
            Some(callback) => visit.call(&*callback),
            None => Ok(()),
        }
    }

    /// For the garbage collector.
    pub fn clear(&self) {
        exchange(&self.callback, None);
    }
}
