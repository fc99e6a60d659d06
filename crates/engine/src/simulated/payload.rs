//! The memory behind the memory objects of several simulated devices.

use std::sync::Arc;

use super::store::{HostBytes, LazyStore};

/// The memory behind a memory object; it lives as long as any object that refers to it.
#[derive(Clone, Debug)]
pub struct SimulatedPayload {
    /// The bytes that the devices see. In non-coherent memory each mapping has its own copy.
    pub(super) store: Arc<LazyStore>,
}

impl SimulatedPayload {
    /// Creates a payload of host memory.
    pub fn of_host(bytes: Arc<dyn HostBytes>, size: u64) -> Self {
        Self { store: Arc::new(LazyStore::foreign(bytes, size)) }
    }
}
