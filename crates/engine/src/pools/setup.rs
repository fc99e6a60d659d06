//! [`Setup`]: what all pools of an allocator share, and the allocation of memory objects.

use std::sync::Arc;

use crate::debugging::options::DebugOptions;
use crate::device::{DeviceError, DeviceMemory, MemoryAllocateInfo};
use crate::error::{Error, FailureFigures};
use crate::heap::ledger::{Debt, HeapLedger, Offer};
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::block_sizes::BlockSizes;
use crate::pools::memory_object::MemoryObject;
use crate::pools::prefetch_queue::PrefetchQueue;
use crate::pools::quarantine::Quarantines;
use crate::recording::{Told, is_active};

/// What all pools of an allocator share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub device: Arc<dyn DeviceMemory>,
    pub ledger: Arc<HeapLedger>,
    /// Size of a block in a large heap in bytes; `None`: the default of [`BlockSizes::for_heap`].
    pub preferred_block_size: Option<u64>,
    /// Size of a block in a small heap in bytes; `None`: the default of [`BlockSizes::for_heap`].
    pub preferred_small_heap_block_size: Option<u64>,
    pub retention: EmptyBlockRetention,
    /// The queue for requests of blocks ahead of time, if prefetching is on.
    pub prefetch: Option<Arc<PrefetchQueue>>,
    /// What helps to find faults, in pools that do not say otherwise.
    pub debug: DebugOptions,
    /// What the quarantines of all pools share.
    pub quarantines: Arc<Quarantines>,
}

impl Setup {
    /// Returns the block size in bytes that the caller set for the heap of a memory type, if any.
    pub(crate) fn preferred_block_size(&self, memory_type_index: u32) -> Option<u64> {
        let heap = self.device.info().heap_of(memory_type_index);
        if BlockSizes::is_small_heap(self.ledger.limit(heap)) {
            self.preferred_small_heap_block_size
        } else {
            self.preferred_block_size
        }
    }
}

/// Books memory in the ledger and allocates it from the driver; cancels the booking if that fails. Memory that
/// another thread is about to give back is no reason of a failure. No lock is held.
pub(crate) fn take_memory(
    setup: &Setup,
    info: &MemoryAllocateInfo,
    within_budget: bool,
    shared: bool,
) -> Result<MemoryObject, Error> {
    match try_take_memory(setup, info, within_budget, shared) {
        Err(error) if error.is_shortage() && setup.ledger.reclaimer.finish() => {
            try_take_memory(setup, info, within_budget, shared)
        }
        taken => taken,
    }
}

fn try_take_memory(
    setup: &Setup,
    info: &MemoryAllocateInfo,
    within_budget: bool,
    shared: bool,
) -> Result<MemoryObject, Error> {
    setup.ledger.refresh_if_old();
    let booking = Booking::new(setup, info, within_budget, Offer::default())?;
    booking.take(shared).map_err(|error| refusal(setup, info, error))
}

/// Returns the error that says that the driver refused memory.
fn refusal(setup: &Setup, info: &MemoryAllocateInfo, error: DeviceError) -> Error {
    let figures = setup.ledger.figures(info.memory_type_index, info.size);
    match error {
        DeviceError::DeviceLost | DeviceError::OutOfDeviceMemory => {
            Error::of_call("vkAllocateMemory", error, figures)
        }
        // An import that fails is wrong by itself: freeing memory does not help.
        result => {
            let can_never_succeed = info.import.is_some();
            let figures = FailureFigures { can_never_succeed, ..figures };
            Error::Refused { result, figures }
        }
    }
}

/// A memory object that is booked in the ledger and not allocated from the driver yet; dropping it cancels that.
pub(crate) struct Booking {
    device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    info: MemoryAllocateInfo,
    /// The part above a limit or a budget, for which others are to be freed.
    owed: u64,
    is_taken: bool,
}

impl Booking {
    /// Books memory in exchange for what is about to be freed. Makes no driver call.
    ///
    /// # Errors
    /// The errors of [`HeapLedger::reserve`].
    pub fn new(
        setup: &Setup,
        info: &MemoryAllocateInfo,
        within_budget: bool,
        offer: Offer,
    ) -> Result<Self, Error> {
        let (device, ledger) = (setup.device.clone(), setup.ledger.clone());
        let (of_type, size) = (info.memory_type_index, info.size);
        let owed = ledger.reserve(of_type, size, within_budget, offer)?;
        Ok(Self { device, ledger, info: *info, owed, is_taken: false })
    }

    /// Returns the debt of the booking, once.
    pub fn debt(&mut self) -> Debt {
        let owed = std::mem::take(&mut self.owed);
        Debt::new(&self.ledger, self.info.memory_type_index, owed)
    }

    /// Allocates it from the driver; the booking is cancelled if that fails. No lock is held.
    pub fn take(mut self, shared: bool) -> Result<MemoryObject, DeviceError> {
        let Self { device, ledger, info, .. } = &self;
        let (memory_type_index, size) = (info.memory_type_index, info.size);
        let made = device.allocate(info);
        if is_active() {
            ledger.recorder.tell_now(&Told::AllocateMemory(info, made));
        }
        let handle = made?;
        ledger.settle(memory_type_index, size);
        ledger.note_allocated(handle, memory_type_index, size);
        let memory = MemoryObject::new(device.clone(), ledger.clone(), handle, info, shared);
        self.is_taken = true;
        Ok(memory)
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        drop(self.debt());
        if !self.is_taken {
            let (memory_type_index, size) = (self.info.memory_type_index, self.info.size);
            self.ledger.settle(memory_type_index, size);
            self.ledger.release(memory_type_index, size);
        }
    }
}
