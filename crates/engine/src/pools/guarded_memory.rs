//! [`GuardedMemory`]: a memory object with the ranges that nobody may write; and memory of an allocation.

use std::fmt;
use std::sync::Arc;

use crate::debugging::guarded::{GuardBands, GuardedRange};
use crate::device::{HostAddress, MemoryHandle};
use crate::error::Error;
use crate::handle::{AllocationId, PoolKey};
use crate::pools::memory_object::{Lease, MappedHold, MemoryObject};

/// A memory object for somebody who reads and writes it. Does not keep it from being freed.
#[derive(Clone)]
pub struct MemoryAccess(Arc<MemoryObject>);

impl MemoryAccess {
    pub(crate) fn new(memory: Arc<MemoryObject>) -> Self {
        Self(memory)
    }

    /// Returns the handle of the memory object.
    pub fn handle(&self) -> MemoryHandle {
        self.0.handle
    }

    /// Returns the size of the memory object in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Returns the index into the device's memory types.
    pub fn memory_type_index(&self) -> u32 {
        self.0.memory_type_index
    }

    /// Returns whether it was imported.
    pub fn is_imported(&self) -> bool {
        self.0.is_imported
    }

    /// Returns whether it is dedicated to one resource (`VkMemoryDedicatedAllocateInfo`), so that no other may be
    /// bound to it, or may be so by a `pNext` chain of the caller's: blocks, which are for many, are not.
    pub fn names_resource(&self) -> bool {
        self.0.names_resource || (self.0.info.next != 0 && !self.0.is_block())
    }

    /// Returns whether a handle of it was [exported](crate::Allocator::note_exported): others may use any of it.
    pub fn is_exported(&self) -> bool {
        self.0.is_exported()
    }

    /// Returns the `VkExternalMemoryHandleTypeFlags` that it was allocated for.
    pub fn export_handle_types(&self) -> u32 {
        self.0.export_handle_types
    }

    /// Maps the memory object for as long as the result lives. May call the driver.
    ///
    /// # Errors
    /// [`Error::MemoryMap`] if the memory is not host-visible or the driver refuses.
    pub fn map(&self) -> Result<MappedMemory, Error> {
        let address = self.0.map()?;
        Ok(MappedMemory { address, _hold: MappedHold::of_map(self.0.clone()) })
    }
}

impl fmt::Debug for MemoryAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {:#x}", self.handle().0)
    }
}

/// A mapped memory object. Dropping this may unmap it, which calls the driver.
pub struct MappedMemory {
    /// The host address of its first byte.
    pub address: HostAddress,
    _hold: MappedHold,
}

/// A memory object with the ranges in it that nobody may write, by ascending offset. It is not freed while this
/// lives; dropping this may call the driver.
pub struct GuardedMemory {
    /// The pool that it belongs to.
    pub pool_key: PoolKey,
    /// The ranges.
    pub ranges: Vec<GuardedRange>,
    /// The memory object.
    pub memory: MemoryAccess,
    _lease: Arc<Lease>,
}

impl GuardedMemory {
    pub(crate) fn new(
        pool_key: PoolKey,
        memory: Arc<MemoryObject>,
        lease: Arc<Lease>,
        ranges: Vec<GuardedRange>,
    ) -> Self {
        Self { pool_key, ranges, memory: MemoryAccess(memory), _lease: lease }
    }
}

/// Where an allocation lies. Its memory object is not freed while this lives; dropping this may call the driver.
pub struct AllocationMemory {
    /// The allocation.
    pub id: AllocationId,
    /// The memory object.
    pub memory: MemoryAccess,
    /// Offset of the allocation in the memory object, in bytes.
    pub offset: u64,
    /// Size of the allocation in bytes.
    pub size: u64,
    /// Its margins. They have a slack only while they hold the pattern.
    pub bands: GuardBands,
    /// Whether the margins [hold the pattern](crate::Allocator::note_filled).
    pub is_filled: bool,
    _lease: Arc<Lease>,
}

impl AllocationMemory {
    pub(crate) fn new(
        id: AllocationId,
        (memory, lease): (Arc<MemoryObject>, Arc<Lease>),
        (offset, size): (u64, u64),
        (bands, is_filled): (GuardBands, bool),
    ) -> Self {
        let memory = MemoryAccess(memory);
        Self { id, memory, offset, size, bands, is_filled, _lease: lease }
    }

    /// Returns offset and size of the allocation in bytes.
    pub fn place(&self) -> (u64, u64) {
        (self.offset, self.size)
    }

    /// Returns the place of a part of the allocation that has margins of its own, which lie in the allocation as well;
    /// `offset` counts from its start. `None` if that is not inside of it.
    #[must_use]
    pub fn part(self, offset: u64, size: u64, margin: u64) -> Option<Self> {
        let end = offset.checked_add(size)?.checked_add(margin)?;
        let is_inside = offset >= margin && end <= self.size;
        is_inside.then(|| Self {
            offset: self.offset + offset,
            size,
            bands: GuardBands { front: margin, slack: 0, back: margin },
            is_filled: false,
            ..self
        })
    }
}
