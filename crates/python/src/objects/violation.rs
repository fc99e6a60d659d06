//! `vk_mem.Violation`: what a simulated device found broken.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::Violation as Record;

use super::simulated::SimulatedDevice;
use crate::errors::invalid;
use crate::interpreter::detach;
use crate::lifetime::close::open_allocators;
use crate::lifetime::ownership::ResourceRef;

/// Resources that the text of a violation describes at most.
const MOST_DESCRIBED: usize = 4;

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
    /// Name of the buffer or image that was used, if it is live and has one; else that of the live ones in these bytes.
    #[pyo3(get)]
    name: Option<String>,
    /// Who else uses these bytes, in words: a command, a submission, a buffer.
    #[pyo3(get)]
    other: Option<String>,
    text: String,
}

/// Returns the live resources that a violation is about: the one that was used, else those in its bytes.
fn concerned<'a>(record: &Record, live: &'a [ResourceRef]) -> Vec<&'a ResourceRef> {
    let found = &record.finding;
    let used = live.iter().find(|it| Some(it.handle().raw()) == found.resource);
    if let Some(used) = used.filter(|_| found.resource != Some(0)) {
        return vec![used];
    }
    let Some(place) = found.place else { return Vec::new() };
    let is_there = |it: &&ResourceRef| {
        let its = it.allocation();
        its.memory == place.memory
            && its.offset < place.offset + place.size
            && place.offset < its.offset + its.size
    };
    live.iter().filter(is_there).collect()
}

impl Violation {
    /// Describes a violation with what the allocators of the device know of live resources.
    fn new(record: &Record, live: &[ResourceRef]) -> Self {
        let found = &record.finding;
        let text = record.to_string();
        let concerned = concerned(record, live);
        let names: Vec<String> = concerned.iter().filter_map(|it| it.name().ok()?).collect();
        let about: Vec<String> = concerned
            .iter()
            .take(MOST_DESCRIBED)
            .map(|it| match it.handle().raw() {
                0 => it.describe(),
                handle => format!("{handle:#x} is {}", it.describe()),
            })
            .collect();
        let about =
            if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
        Self {
            kind: found.kind.name(),
            call: record.call.name(),
            memory: found.place.map(|place| place.memory.0),
            memory_type_index: record.memory_type_index,
            offset: found.place.map(|place| place.offset),
            length: found.place.map(|place| place.size),
            resource: found.resource,
            name: (!names.is_empty()).then(|| names.join(", ")),
            other: found.other.clone(),
            text: format!("{text}{about}"),
        }
    }
}

impl SimulatedDevice {
    /// Describes violations.
    fn described(&self, found: &[Record]) -> Vec<Violation> {
        let mut live = Vec::new();
        if !found.is_empty() {
            let its =
                open_allocators().into_iter().filter(|it| Arc::ptr_eq(&it.device, &self.core));
            live.extend(its.flat_map(|it| it.live.lock().all()));
        }
        found.iter().map(|it| Violation::new(it, &live)).collect()
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
        Ok(self.described(&found))
    }

    /// Returns the `violations` so far, and forgets them: for tests that provoke some.
    fn take_violations(&self, py: Python<'_>) -> PyResult<Vec<Violation>> {
        let found = self.driver(py)?.device().take_violation_records();
        Ok(self.described(&found))
    }

    /// Looks now for host writes to memory that nothing is bound to, wherever memory is mapped.
    ///
    /// Raises `InvalidArgumentError` without `watch_unbound=True`.
    fn check_unbound(&self, py: Python<'_>) -> PyResult<()> {
        let driver = self.driver(py)?;
        if !driver.watches() {
            let why = "nothing watches unbound memory: make the device with watch_unbound=True";
            return Err(invalid(py, why));
        }
        detach(py, || driver.check_unbound());
        Ok(())
    }
}
