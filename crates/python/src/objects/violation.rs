//! `vk_mem.Violation`: what a simulated device found broken.

use pyo3::prelude::*;
use vkmem_engine::Violation as Record;

use super::simulated::SimulatedDevice;
use crate::interpreter::detach;

/// A rule that a program broke on a simulated device; `str()` is one sentence.
///
/// What it is about is a range of a memory object (`memory`, `offset`, `length`), a buffer or image (`resource`),
/// or neither.
#[pyclass(module = "vk_mem", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct Violation {
    /// What is broken: "missing_flush", "missing_invalidate", "missing_barrier", "in_use" (the host does not wait
    /// for the device), "out_of_bounds", "use_after_free", or "rule" for any other rule of Vulkan.
    #[pyo3(get)]
    kind: &'static str,
    /// The Vulkan command that showed it, such as "vkQueueSubmit".
    #[pyo3(get)]
    call: &'static str,
    /// The `VkDeviceMemory`.
    #[pyo3(get)]
    memory: Option<u64>,
    /// Index into the device's memory types.
    #[pyo3(get)]
    memory_type_index: Option<u32>,
    /// The first of the bytes, counted from the start of the memory.
    #[pyo3(get)]
    offset: Option<u64>,
    /// Number of bytes from the first to the last that it is about.
    #[pyo3(get)]
    length: Option<u64>,
    /// Handle of the buffer or image that was used.
    #[pyo3(get)]
    resource: Option<u64>,
    /// Who else uses these bytes, in words: a command, a submission, a buffer.
    #[pyo3(get)]
    other: Option<String>,
    text: String,
}

impl From<&Record> for Violation {
    fn from(record: &Record) -> Self {
        let found = &record.finding;
        Self {
            kind: found.kind.name(),
            call: record.call.name(),
            memory: found.place.map(|place| place.memory.0),
            memory_type_index: record.memory_type_index,
            offset: found.place.map(|place| place.offset),
            length: found.place.map(|place| place.size),
            resource: found.resource,
            other: found.other.clone(),
            text: record.to_string(),
        }
    }
}

#[pymethods]
impl Violation {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.Violation {}: {}>", self.kind, self.text)
    }
}

#[pymethods]
impl SimulatedDevice {
    /// What the program broke so far, in the order in which it was found.
    #[getter]
    fn violations(&self, py: Python<'_>) -> PyResult<Vec<Violation>> {
        let found = self.driver(py)?.device().violation_records();
        Ok(found.iter().map(Violation::from).collect())
    }

    /// Returns the `violations` so far, and forgets them: for tests that provoke some.
    fn take_violations(&self, py: Python<'_>) -> PyResult<Vec<Violation>> {
        let found = self.driver(py)?.device().take_violation_records();
        Ok(found.iter().map(Violation::from).collect())
    }

    /// Looks now for host writes to memory that nothing is bound to (`watch_unbound`), wherever memory is mapped.
    fn check_unbound(&self, py: Python<'_>) -> PyResult<()> {
        let driver = self.driver(py)?;
        detach(py, || driver.check_unbound());
        Ok(())
    }
}
