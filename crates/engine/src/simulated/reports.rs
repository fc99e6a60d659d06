//! The list of violations that a simulated device has seen.

use super::SimulatedDevice;
use super::calls::Call;
use super::violation::{Finding, Violation};
use crate::device::MemoryHandle;

impl SimulatedDevice {
    /// Returns all violations so far.
    pub fn violation_records(&self) -> Vec<Violation> {
        self.violations.lock().clone()
    }

    /// Returns and removes the violations so far.
    pub fn take_violation_records(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.violations.lock())
    }

    /// Returns all violations of the contract so far, as texts.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().iter().map(ToString::to_string).collect()
    }

    /// Returns and removes the violations so far, as texts: for tests that provoke them.
    pub fn take_violations(&self) -> Vec<String> {
        self.take_violation_records().iter().map(ToString::to_string).collect()
    }

    /// Records a violation that a layer above detected.
    pub fn report_violation(&self, call: Call, what: impl AsRef<str>) {
        self.report(call, what.as_ref());
    }

    /// Records a violation with its figures.
    pub fn report(&self, call: Call, finding: impl Into<Finding>) {
        let finding = finding.into();
        let of = |memory: MemoryHandle| self.memory(memory).map(|it| it.memory_type_index);
        let memory_type_index = finding.place.and_then(|place| of(place.memory));
        self.violations.lock().push(Violation { call, finding, memory_type_index });
    }
}
