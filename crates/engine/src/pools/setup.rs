//! [`Setup`]: what all pools of an allocator share, and the allocation of memory objects.

use std::sync::Arc;

use crate::debugging::options::DebugOptions;
use crate::device::{DeviceError, DeviceMemory, MemoryAllocateInfo};
use crate::error::{Error, FailureFigures};
use crate::heap::ledger::HeapLedger;
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::block_sizes::BlockSizes;
use crate::pools::memory_object::MemoryObject;
use crate::pools::prefetch_queue::PrefetchQueue;
use crate::pools::quarantine::Quarantines;

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
    let (device, ledger) = (&setup.device, &setup.ledger);
    let (memory_type_index, size) = (info.memory_type_index, info.size);
    ledger.reserve(memory_type_index, size, within_budget)?;
    let taken = device.allocate(info);
    ledger.settle(memory_type_index, size);
    match taken {
        Ok(handle) => {
            ledger.note_allocated(handle, memory_type_index, size);
            let (device, ledger) = (device.clone(), ledger.clone());
            Ok(MemoryObject::new(device, ledger, handle, info, shared))
        }
        Err(error) => {
            ledger.release(memory_type_index, size);
            let figures = ledger.figures(memory_type_index, size);
            Err(match error {
                DeviceError::DeviceLost | DeviceError::OutOfDeviceMemory => {
                    Error::of_call("vkAllocateMemory", error, figures)
                }
                // An import that fails is wrong by itself: freeing memory does not help.
                result => {
                    let can_never_succeed = info.import.is_some();
                    let figures = FailureFigures { can_never_succeed, ..figures };
                    Error::Refused { result, figures }
                }
            })
        }
    }
}
