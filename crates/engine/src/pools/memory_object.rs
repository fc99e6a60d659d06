//! [`MemoryObject`]: one `VkDeviceMemory`, its mapping and its release.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::device::{
    DeviceError, DeviceMemory, HostAddress, MemoryAllocateInfo, MemoryHandle, MemoryPropertyFlags,
};
use crate::error::Error;
use crate::handle::PoolKey;
use crate::heap::ledger::{Debt, HeapLedger};
use crate::lock::{Mutex, rank};
use crate::pools::overdue::EndQuarantine;
use crate::words::bytes;

/// A shared block stays mapped after this many maps and unmaps: mapping is a system call, while a mapping
/// that is kept only costs address space.
const STAY_MAPPED_AFTER: u32 = 7;

#[derive(Debug, Default)]
struct Mapping {
    address: Option<HostAddress>,
    /// Number of maps that were not undone.
    count: u64,
    /// Number of maps and unmaps so far.
    events: u32,
    freed: bool,
}

/// A memory object that the engine allocated from the device.
///
/// Its own lock is held while the driver maps or unmaps it, because Vulkan requires host access to one
/// `VkDeviceMemory` to be synchronised. Other allocations of the arena do not wait for it, unless they
/// map the same object.
pub struct MemoryObject {
    device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    /// Handle of the memory object.
    pub handle: MemoryHandle,
    /// Size in bytes.
    pub size: u64,
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// The parameters that it was allocated with.
    pub info: MemoryAllocateInfo,
    /// `VkExternalMemoryHandleTypeFlags` that it was allocated for.
    pub export_handle_types: u32,
    /// Whether it was imported.
    pub is_imported: bool,
    /// Whether it is dedicated to one resource (`VkMemoryDedicatedAllocateInfo`).
    pub names_resource: bool,
    shared: bool,
    /// Whether a handle of it was exported.
    exported: AtomicBool,
    /// Bytes of a debt of its heap that end when it is freed.
    owed: AtomicU64,
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
            info: *info,
            export_handle_types,
            is_imported,
            names_resource,
            shared,
            exported: AtomicBool::new(false),
            owed: AtomicU64::new(0),
            mapping,
        }
    }

    /// Returns whether it is a block, which many allocations may share.
    pub(crate) fn is_block(&self) -> bool {
        self.shared
    }

    /// Notes that a handle of it was exported.
    pub(crate) fn note_exported(&self) {
        self.exported.store(true, Relaxed);
    }

    /// Returns whether a handle of it was exported.
    pub(crate) fn is_exported(&self) -> bool {
        self.exported.load(Relaxed)
    }

    /// Returns the number of maps that were not undone. Waits for a thread that is mapping or unmapping
    /// it.
    pub(crate) fn map_count(&self) -> u64 {
        self.mapping.lock().count
    }

    /// Maps the object if it is not mapped yet, and counts one map.
    ///
    /// # Errors
    /// [`Error::MemoryMap`] if the memory is not host-visible or the driver refuses;
    /// [`Error::UseAfterFree`] if it was freed.
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
            // Including out of device memory: another memory type cannot help here.
            _ => Error::MemoryMap(format!(
                "the driver could not map {} of memory type {}: {}",
                bytes(self.size),
                self.memory_type_index,
                error.of(CALL)
            )),
        }
    }

    /// Counts one map if the object is mapped already; `None` if it is not. Makes no driver call.
    pub(crate) fn map_if_mapped(&self) -> Option<HostAddress> {
        // A held lock may mean that another thread is in `vkMapMemory`.
        let mut mapping = self.mapping.try_lock()?;
        let address = mapping.address?;
        mapping.count += 1;
        mapping.events = mapping.events.saturating_add(1);
        Some(address)
    }

    /// Returns a guard that keeps the object mapped, if it is mapped now. Waits for a thread that is
    /// mapping or unmapping it.
    pub(crate) fn hold_if_mapped(memory: &Arc<Self>) -> Option<MappedHold> {
        let mut mapping = memory.mapping.lock();
        let is_mapped = mapping.address.is_some() && !mapping.freed;
        mapping.count += u64::from(is_mapped);
        drop(mapping);
        is_mapped.then(|| MappedHold(memory.clone()))
    }

    /// Returns whether it is mapped now; false while another thread is mapping it, without waiting.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapping.try_lock().is_some_and(|mapping| mapping.address.is_some())
    }

    /// Maps the object for the rest of its life. A failure is ignored here: the next map reports it.
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
        let keep =
            || self.shared && mapping.events >= STAY_MAPPED_AFTER && self.device.may_stay_mapped();
        if mapping.count == 0 && mapping.address.is_some() && !mapping.freed && !keep() {
            mapping.address = None;
            self.device.unmap(self.handle);
        }
    }

    /// Returns the address where it is mapped now.
    pub(crate) fn mapped_at(&self) -> Option<HostAddress> {
        self.mapping.lock().address
    }

    /// Frees the memory in the driver.
    fn free(&self) {
        let mut mapping = self.mapping.lock();
        if !mapping.freed {
            mapping.freed = true;
            let owed = self.owed.load(Relaxed);
            self.ledger.free(self.handle, self.memory_type_index, self.size, owed);
        }
    }
}

/// A guard that keeps a memory object mapped while it lives.
pub(crate) struct MappedHold(Arc<MemoryObject>);

impl MappedHold {
    /// Creates a guard that undoes a map that was counted.
    pub(crate) fn of_map(memory: Arc<MemoryObject>) -> Self {
        Self(memory)
    }
}

impl Drop for MappedHold {
    fn drop(&mut self) {
        // Not counted in `events`, unlike a map and unmap of the caller's.
        let mut mapping = self.0.mapping.lock();
        if mapping.count > 1 {
            mapping.count -= 1;
            return;
        }
        drop(mapping);
        self.0.unmap(1);
    }
}

/// Shared ownership of a memory object: dropping the last lease frees it in the driver. The block in the
/// memory holds one, and so does a thread that is destroying a buffer whose region is free already.
pub(crate) struct Lease(Arc<MemoryObject>);

impl Lease {
    /// Creates the first lease of a memory object; to be called once for each.
    pub fn new(memory: Arc<MemoryObject>) -> Arc<Self> {
        Arc::new(Self(memory))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// The driver calls of a free. They are made when this is dropped, so that the caller can choose the
/// place: outside of its locks.
#[must_use = "dropping it calls the driver"]
#[derive(Default)]
pub struct Release(
    /// Usually `None`, which is returned in a register.
    Option<Box<Work>>,
);

/// The driver calls to make.
#[derive(Default)]
struct Work {
    unmap: Option<(Arc<MemoryObject>, u64)>,
    free: Vec<Arc<Lease>>,
    /// A pool in whose quarantine something is overdue.
    overdue: Option<(Arc<dyn EndQuarantine>, PoolKey)>,
}

impl Release {
    pub(crate) fn unmap(&mut self, memory: Arc<MemoryObject>, count: u64) {
        debug_assert!(self.0.is_none(), "a release of one allocation");
        if count > 0 {
            self.0.get_or_insert_default().unmap = Some((memory, count));
        }
    }

    /// Adds to the number of maps to undo, for an allocation that was mapped.
    pub(crate) fn unmap_more(&mut self, more: u64) {
        // Dedicated memory is freed without unmapping it.
        if let Some((_, count)) = self.0.as_mut().and_then(|work| work.unmap.as_mut()) {
            *count += more;
        }
    }

    /// Reserves host memory for `objects` memory objects; `None` if there is none.
    pub(crate) fn try_reserve(&mut self, objects: usize) -> Option<()> {
        // So few have room in what the first one takes.
        const FEW: usize = 4;
        if objects > FEW {
            self.0.get_or_insert_default().free.try_reserve(objects).ok()?;
        }
        Some(())
    }

    pub(crate) fn free(&mut self, lease: Arc<Lease>) {
        self.0.get_or_insert_default().free.push(lease);
    }

    /// Lets what is overdue in the quarantine of a pool be given out again when this is dropped.
    pub(crate) fn end_overdue(&mut self, quarantines: Arc<dyn EndQuarantine>, pool_key: PoolKey) {
        self.0.get_or_insert_default().overdue = Some((quarantines, pool_key));
    }

    /// Lets a debt of the heap end, as far as possible, when the memory is freed.
    pub(crate) fn pay(&self, debt: &mut Debt) {
        for lease in self.0.iter().flat_map(|work| &work.free) {
            lease.0.owed.fetch_add(debt.take(lease.0.size), Relaxed);
        }
    }

    /// Returns the bytes of memory that will be freed when this is dropped, or right after a destroy in
    /// the same memory that is still running.
    pub fn bytes(&self) -> u64 {
        self.0.iter().flat_map(|work| &work.free).map(|lease| lease.0.size).sum()
    }

    /// Returns the number of memory objects that will be freed when this is dropped.
    pub fn object_count(&self) -> u64 {
        self.0.as_ref().map_or(0, |work| work.free.len() as u64)
    }

    /// Returns whether dropping this calls the driver.
    #[inline]
    pub fn calls_driver(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether dropping this frees memory in the driver, which may take long.
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
        if let Some((quarantines, pool_key)) = self.overdue {
            quarantines.end_overdue(pool_key);
        }
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
