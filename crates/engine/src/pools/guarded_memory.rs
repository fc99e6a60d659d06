//! [`GuardedMemory`]: a memory object with the ranges that nobody may write.

use std::sync::Arc;

use crate::debugging::guarded::GuardedRange;
use crate::device::{HostAddress, MemoryHandle};
use crate::error::Error;
use crate::handle::PoolKey;
use crate::pools::memory_object::{Lease, MappedHold, MemoryObject};

/// A memory object with the ranges in it that nobody may write, by ascending offset. It is not freed while this
/// lives; dropping this may call the driver.
pub struct GuardedMemory {
    /// The pool that it belongs to.
    pub pool_key: PoolKey,
    /// The ranges.
    pub ranges: Vec<GuardedRange>,
    memory: Arc<MemoryObject>,
    _lease: Arc<Lease>,
}

impl GuardedMemory {
    pub(crate) fn new(
        pool_key: PoolKey,
        memory: Arc<MemoryObject>,
        lease: Arc<Lease>,
        ranges: Vec<GuardedRange>,
    ) -> Self {
        Self { pool_key, ranges, memory, _lease: lease }
    }

    /// Returns the handle of the memory object.
    pub fn memory(&self) -> MemoryHandle {
        self.memory.handle
    }

    /// Returns the size of the memory object in bytes.
    pub fn size(&self) -> u64 {
        self.memory.size
    }

    /// Returns the index into the device's memory types.
    pub fn memory_type_index(&self) -> u32 {
        self.memory.memory_type_index
    }

    /// Maps the memory object for as long as the result lives. May call the driver.
    ///
    /// # Errors
    /// [`Error::MemoryMap`] if the memory is not host-visible or the driver refuses.
    pub fn map(&self) -> Result<MappedMemory, Error> {
        let address = self.memory.map()?;
        Ok(MappedMemory { address, _hold: MappedHold::of_map(self.memory.clone()) })
    }
}

/// A mapped memory object. Dropping this may unmap it, which calls the driver.
pub struct MappedMemory {
    /// The host address of its first byte.
    pub address: HostAddress,
    _hold: MappedHold,
}
