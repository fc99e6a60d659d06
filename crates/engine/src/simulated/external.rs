//! Memory shared by several simulated devices.

use std::sync::Arc;

use crate::device::{DeviceError, MemoryAllocateInfo, MemoryHandle, MemoryRange};

use super::SimulatedDevice;
use super::calls::Call;
use super::payload::SimulatedPayload;

impl SimulatedDevice {
    /// Returns the payload of a live memory object.
    pub fn payload(&self, memory: MemoryHandle) -> Option<SimulatedPayload> {
        let objects = self.objects.lock();
        let object = objects.live.get(&memory.0)?;
        Some(SimulatedPayload { store: Arc::clone(&object.device) })
    }

    /// Allocates a memory object on the payload that `find` returns: the caller knows which payload the
    /// handle of an import refers to.
    ///
    /// # Errors
    /// The error of `find`, or any that an allocation returns.
    pub fn allocate_on(
        &self,
        info: &MemoryAllocateInfo,
        find: impl FnOnce() -> Result<Option<SimulatedPayload>, DeviceError>,
    ) -> Result<MemoryHandle, DeviceError> {
        let asked = MemoryRange { memory: MemoryHandle(0), offset: 0, size: info.size };
        let ticket = self.calls.begin(Call::Allocate, &[asked], Some(info.memory_type_index))?;
        let result = match self.wrong_request(info) {
            Some((what, error)) => {
                self.report_violation(Call::Allocate, what);
                Err(error)
            }
            None => find().and_then(|payload| self.take_memory(info, payload.as_ref())),
        };
        self.calls.amend(ticket, |record| match result {
            Ok(memory) => record.ranges[0].memory = memory,
            Err(error) => record.result = Err(error),
        });
        result
    }
}
