//! One `VkDeviceMemory`: its mapping and its end.

use std::sync::Arc;

use crate::device::{
    DeviceError, DeviceMemory, HostAddress, MemoryAllocateInfo, MemoryHandle, MemoryPropertyFlags,
};
use crate::error::Error;
use crate::heap::ledger::HeapLedger;
use crate::lock::{Mutex, rank};
use crate::words::bytes;

/// After so many maps and unmaps a shared block stays mapped for the rest of its life: mapping is a
/// call of the kernel, and keeping a mapping costs address space only.
const STAY_MAPPED_AFTER: u32 = 7;

#[derive(Debug, Default)]
struct Mapping {
    address: Option<HostAddress>,
    /// Maps that were not undone.
    count: u64,
    /// Maps and unmaps so far.
    events: u32,
    freed: bool,
}

/// A memory object that the engine took from the device.
///
/// Its own small lock is held while the driver maps or unmaps it, because Vulkan asks for exactly
/// that: host access to one `VkDeviceMemory` has to be synchronised. No other allocation of the
/// arena waits for it, unless it wants to map the same object.
pub struct MemoryObject {
    device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    /// The handle.
    pub handle: MemoryHandle,
    /// In bytes.
    pub size: u64,
    /// Index into the device's types.
    pub memory_type_index: u32,
    /// `VkExternalMemoryHandleTypeFlags` that it was allocated for.
    pub export_handle_types: u32,
    /// Others made it.
    pub is_imported: bool,
    /// It was allocated for one resource (`VkMemoryDedicatedAllocateInfo`).
    pub names_resource: bool,
    shared: bool,
    mapping: Mutex<Mapping, rank::Mapping>,
}

impl MemoryObject {
    pub(crate) fn new(
        device: Arc<dyn DeviceMemory>,
        ledger: Arc<HeapLedger>,
        handle: MemoryHandle,
        info: &MemoryAllocateInfo,
        shared: bool,
    ) -> Self {
        let MemoryAllocateInfo { size, memory_type_index, export_handle_types, .. } = *info;
        let is_imported = info.import.is_some();
        let names_resource = info.dedicated.is_some() && device.names_resources();
        let mapping = Mutex::default();
        Self {
            device,
            ledger,
            handle,
            size,
            memory_type_index,
            export_handle_types,
            is_imported,
            names_resource,
            shared,
            mapping,
        }
    }

    /// Maps that were not undone. Waits while the driver maps it.
    pub(crate) fn map_count(&self) -> u64 {
        self.mapping.lock().count
    }

    /// Maps the object if it is not mapped yet, and counts.
    pub(crate) fn map(&self) -> Result<HostAddress, Error> {
        let flags = self.device.info().flags_of(self.memory_type_index);
        if !flags.contains(MemoryPropertyFlags::HOST_VISIBLE) {
            return Err(Error::MemoryMap(format!(
                "memory type {} cannot be mapped: it is not HOST_VISIBLE; ask for \
                 HOST_ACCESS_SEQUENTIAL_WRITE or HOST_ACCESS_RANDOM when allocating, or copy \
                 through a staging buffer",
                self.memory_type_index
            )));
        }
        let mut mapping = self.mapping.lock();
        if mapping.freed {
            return Err(Error::UseAfterFree);
        }
        let address = match mapping.address {
            Some(address) => address,
            None => self.device.map(self.handle).map_err(|error| self.map_failed(error))?,
        };
        mapping.address = Some(address);
        mapping.count += 1;
        mapping.events = mapping.events.saturating_add(1);
        Ok(address)
    }

    fn map_failed(&self, error: DeviceError) -> Error {
        const CALL: &str = "vkMapMemory";
        match error {
            DeviceError::DeviceLost | DeviceError::OutOfHostMemory => {
                let figures = self.ledger.figures(self.memory_type_index, self.size);
                Error::of_call(CALL, error, figures)
            }
            // Out of device memory, too: that no other memory type can help is what counts here.
            _ => Error::MemoryMap(format!(
                "the driver could not map {} of memory type {}: {}",
                bytes(self.size),
                self.memory_type_index,
                error.of(CALL)
            )),
        }
    }

    /// Counts one more map if the object is mapped already; makes no call of the driver.
    pub(crate) fn map_if_mapped(&self) -> Option<HostAddress> {
        // A busy lock may mean that the driver is mapping right now.
        let mut mapping = self.mapping.try_lock()?;
        let address = mapping.address?;
        mapping.count += 1;
        mapping.events = mapping.events.saturating_add(1);
        Some(address)
    }

    /// Keeps it mapped, if it is mapped now. Waits while the driver maps or unmaps it.
    pub(crate) fn hold_if_mapped(memory: &Arc<Self>) -> Option<MappedHold> {
        let mut mapping = memory.mapping.lock();
        let is_mapped = mapping.address.is_some() && !mapping.freed;
        mapping.count += u64::from(is_mapped);
        drop(mapping);
        is_mapped.then(|| MappedHold(memory.clone()))
    }

    /// Whether it is mapped now; does not wait for a driver that is mapping it.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapping.try_lock().is_some_and(|mapping| mapping.address.is_some())
    }

    /// Maps it for the rest of its life, if the driver can. Whoever maps it then finds out.
    pub(crate) fn map_for_good(&self) {
        if self.map().is_ok() {
            let mut mapping = self.mapping.lock();
            mapping.count -= 1;
            mapping.events = STAY_MAPPED_AFTER;
        }
    }

    /// Undoes `count` maps.
    pub(crate) fn unmap(&self, count: u64) {
        if count == 0 {
            return;
        }
        let mut mapping = self.mapping.lock();
        debug_assert!(mapping.count >= count);
        mapping.count -= count;
        mapping.events = mapping.events.saturating_add(1);
        let keep = self.shared && mapping.events >= STAY_MAPPED_AFTER;
        if mapping.count == 0 && mapping.address.is_some() && !mapping.freed && !keep {
            mapping.address = None;
            self.device.unmap(self.handle);
        }
    }

    /// Where it is mapped now.
    pub(crate) fn mapped_at(&self) -> Option<HostAddress> {
        self.mapping.lock().address
    }

    /// Gives the memory back to the driver.
    fn free(&self) {
        let mut mapping = self.mapping.lock();
        if !mapping.freed {
            mapping.freed = true;
            self.ledger.free(self.handle, self.memory_type_index, self.size);
        }
    }
}

/// Keeps a memory object mapped while it lives.
pub(crate) struct MappedHold(Arc<MemoryObject>);

impl Drop for MappedHold {
    fn drop(&mut self) {
        // Not as much as a map and an unmap of the caller's, which `unmap` counts.
        let mut mapping = self.0.mapping.lock();
        if mapping.count > 1 {
            mapping.count -= 1;
            return;
        }
        drop(mapping);
        self.0.unmap(1);
    }
}

/// The right to a memory object: when the last one is gone, the driver gets it back. The block that lies
/// in it has one, and who destroys a buffer there whose place is free already.
pub(crate) struct Lease(Arc<MemoryObject>);

impl Lease {
    /// The first one. There is one first one of each.
    pub fn new(memory: Arc<MemoryObject>) -> Arc<Self> {
        Arc::new(Self(memory))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// The part of a free that has to call the driver. It does so when dropped, so that the caller can
/// choose where: outside its locks.
#[must_use = "dropping it calls the driver"]
#[derive(Default)]
pub struct Release(
    /// As a rule nothing, which travels in a register.
    Option<Box<Work>>,
);

/// What the driver has to do.
#[derive(Default)]
struct Work {
    unmap: Option<(Arc<MemoryObject>, u64)>,
    free: Vec<Arc<Lease>>,
}

impl Release {
    pub(crate) fn unmap(&mut self, memory: Arc<MemoryObject>, count: u64) {
        debug_assert!(self.0.is_none(), "a release of one allocation");
        if count > 0 {
            self.0.get_or_insert_default().unmap = Some((memory, count));
        }
    }

    /// Undoes so many maps more of an allocation that was mapped.
    pub(crate) fn unmap_more(&mut self, more: u64) {
        // Memory of its own is freed as it is mapped.
        if let Some((_, count)) = self.0.as_mut().and_then(|work| work.unmap.as_mut()) {
            *count += more;
        }
    }

    pub(crate) fn free(&mut self, lease: Arc<Lease>) {
        self.0.get_or_insert_default().free.push(lease);
    }

    /// Bytes of memory that the driver has to free: when this is dropped, or right after a destroy that
    /// runs there.
    pub fn bytes(&self) -> u64 {
        self.0.iter().flat_map(|work| &work.free).map(|lease| lease.0.size).sum()
    }

    /// Whether it has anything for the driver to do.
    #[inline]
    pub fn calls_driver(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the driver has memory to free, which may take long.
    pub fn frees_memory(&self) -> bool {
        self.0.as_ref().is_some_and(|work| !work.free.is_empty())
    }
}

impl Work {
    #[cold]
    #[inline(never)]
    fn call_driver(self) {
        if let Some((memory, count)) = self.unmap {
            memory.unmap(count);
        }
        drop(self.free);
    }
}

impl Drop for Release {
    #[inline]
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work.call_driver();
        }
    }
}
