//! The loss of a simulated device, with the faults that it tells afterwards.

use std::sync::atomic::Ordering;

use ash::vk;
use vkmem_engine::{Call, CallError, DedicatedTarget, DeviceError, MemoryHandle};

use crate::driver::binding_log::BindingLog;
use crate::driver::faults::{AddressBinding, FaultInfo};
use crate::instance::extensions::{ADDRESS_BINDING_REPORT, DEVICE_FAULT, features_of};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::fault_state::address_of;

impl SimulatedDriver {
    /// Keeps what is needed to explain faults, as `fault_reports` of a real device does that has both extensions.
    #[must_use]
    pub fn with_fault_reports(mut self, are_kept: bool) -> Self {
        self.faults.log = are_kept.then(BindingLog::default);
        if are_kept {
            for name in [DEVICE_FAULT, ADDRESS_BINDING_REPORT] {
                if !self.extensions.iter().any(|it| it == name) {
                    self.extensions.push(name.to_owned());
                }
            }
            self.features = features_of(&self.extensions);
        }
        self
    }

    /// Loses the device: nothing of what was submitted and has not ended is executed, and all later submissions and
    /// waits fail. What the faults tell is added to what earlier ones did; a new description replaces the old one.
    pub fn lose(&self, mut faults: FaultInfo) {
        {
            let mut info = self.faults.info.lock();
            info.addresses.append(&mut faults.addresses);
            info.vendor.append(&mut faults.vendor);
            if !faults.description.is_empty() {
                info.description = faults.description;
            }
        }
        let mut state = self.submissions.state.lock();
        self.faults.is_lost.store(true, Ordering::Relaxed);
        state.drop_all();
        self.submissions.ended.notify_all();
    }

    /// Returns whether the device is lost, or said so.
    pub(super) fn is_lost_or_said_so(&self) -> bool {
        self.faults.is_lost() || self.faults.was_told.load(Ordering::Relaxed)
    }

    /// Returns an error if the device is lost.
    pub(super) fn check_not_lost(&self, call: &'static str) -> Result<(), CallError> {
        if self.faults.is_lost() { Err(DeviceError::DeviceLost.of(call)) } else { Ok(()) }
    }

    pub(super) fn told_faults(&self) -> Result<Option<FaultInfo>, CallError> {
        if !self.extensions.iter().any(|it| it == DEVICE_FAULT) {
            return Ok(None);
        }
        let call = Call::DeviceFaultInfo;
        self.device.enter(call).map_err(|error| error.of(call.name()))?;
        if !self.is_lost_or_said_so() {
            self.device.report_violation(call, "the device is not lost");
        }
        Ok(Some(self.faults.info.lock().clone()))
    }

    /// Begins to note bindings, for one more user.
    pub(super) fn begin_reports(&self) {
        self.faults.users.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends to note bindings for one user.
    pub(super) fn end_reports(&self) {
        let before = self.faults.users.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "ended as often as begun");
    }

    fn log_in_use(&self) -> Option<&BindingLog> {
        let is_noting = self.faults.users.load(Ordering::Relaxed) > 0;
        self.faults.log.as_ref().filter(|_| is_noting)
    }

    /// Notes that addresses were bound to an object, or that they are no longer.
    pub(super) fn note_binding(
        &self,
        target: DedicatedTarget,
        (memory, offset): (MemoryHandle, u64),
        size: u64,
        is_bound: bool,
    ) {
        let Some(log) = self.log_in_use() else { return };
        let (object_type, object) = match target {
            DedicatedTarget::Buffer(buffer) => (vk::ObjectType::BUFFER, buffer),
            DedicatedTarget::Image(image) => (vk::ObjectType::IMAGE, image),
        };
        let binding = AddressBinding {
            address: address_of(memory) + offset,
            size,
            object_type,
            object,
            name: None,
            is_internal: false,
            order: 0,
            is_unbound: false,
        };
        log.note(binding, is_bound);
    }
}
