//! What is behind the memory objects of several simulated devices.

use std::sync::Arc;

use super::store::{HostBytes, LazyStore};

/// What is behind a memory object, apart from the object: it lives as long as any of them.
#[derive(Clone, Debug)]
pub struct SimulatedPayload {
    /// What the devices see. On non-coherent memory each mapping has its own view of it.
    pub(super) store: Arc<LazyStore>,
}

impl SimulatedPayload {
    /// Bytes of the host's.
    pub fn of_host(bytes: Arc<dyn HostBytes>, size: u64) -> Self {
        Self { store: Arc::new(LazyStore::foreign(bytes, size)) }
    }
}
