//! What a simulated device knows of its loss.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{DeviceError, MemoryHandle};

use crate::driver::binding_log::BindingLog;
use crate::driver::faults::FaultInfo;

/// Whether a simulated device is lost, and what it tells then.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Whether all later submissions and waits fail.
    pub(super) is_lost: AtomicBool,
    /// Whether a call said that it is lost; one such error can be requested of a device that goes on.
    pub(super) was_told: AtomicBool,
    pub(super) info: Mutex<FaultInfo, rank::SimulatedFaults>,
    /// The bindings of addresses, and whether what explains faults is kept at all.
    pub(super) log: Option<BindingLog>,
    /// How many want bindings to be noted.
    pub(super) users: AtomicU64,
}

impl Faults {
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Notes that a call of this device is answered with an error.
    pub(super) fn told(&self, error: DeviceError) {
        if error == DeviceError::DeviceLost {
            self.was_told.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns the first address of a memory object. Objects are far apart, as in the address space of a GPU.
pub(super) fn address_of(memory: MemoryHandle) -> u64 {
    (memory.0 & 0xff_ffff) << 38
}
