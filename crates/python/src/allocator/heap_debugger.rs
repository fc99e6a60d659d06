//! `vk_mem._vk_mem._HeapDebugger`: what a `BufferHeap`, which is written in Python, needs to have its slices watched.

use pyo3::prelude::*;

use super::Allocator;
use crate::debugging::heap_watch::HeapWatch;
use crate::debugging::raising::end_block;
use crate::debugging::read;
use crate::objects::resource::ResourceObject;

/// Watches the slices of one heap. Private: the heap says what happens to them.
#[pyclass(name = "_HeapDebugger", module = "vk_mem._vk_mem", frozen)]
pub struct HeapDebugger {
    watch: HeapWatch,
}

#[pymethods]
impl HeapDebugger {
    #[new]
    fn new(
        py: Python<'_>,
        allocator: &Bound<'_, Allocator>,
        debug: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let state = &allocator.get().state;
        let settings = read::debug(debug)?;
        let _inside = state.enter(py)?;
        Ok(Self { watch: HeapWatch::begin(py, state, settings) })
    }

    /// Begins to watch a buffer; returns its number.
    fn add_buffer(&self, buffer: &Bound<'_, ResourceObject>) -> u64 {
        self.watch.add_buffer(&buffer.get().resource)
    }

    /// Forgets a buffer with its slices.
    fn remove_buffer(&self, number: u64) {
        self.watch.remove_buffer(number);
    }

    /// Checks all memory of the allocator, if each call does, and raises what was found.
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        self.watch.enter(py)
    }

    /// Fills a new slice and writes its margins.
    fn allocated(
        &self,
        py: Python<'_>,
        number: u64,
        offset: u64,
        size: u64,
        name: Option<String>,
    ) -> PyResult<()> {
        self.watch.allocated(py, (number, offset, size), name)
    }

    /// Notes the object of a slice, by a weak reference to it.
    fn note_object(&self, number: u64, offset: u64, reference: Py<PyAny>) {
        self.watch.note_object(number, offset, reference);
    }

    /// Checks and fills a slice that ends; returns its size if it goes into quarantine, else None.
    fn freed(&self, py: Python<'_>, number: u64, offset: u64) -> PyResult<Option<u64>> {
        self.watch.freed(py, number, offset)
    }

    /// Checks a slice whose quarantine is over, and forgets it.
    fn leaves(&self, py: Python<'_>, number: u64, offset: u64) {
        self.watch.leaves(py, number, offset);
    }

    /// Checks all slices, and raises what is found; returns the number of ranges.
    fn check(&self, py: Python<'_>) -> PyResult<u64> {
        self.watch.check_on_demand(py)
    }

    /// Checks all slices; what was not told yet is told by `report`.
    fn check_new(&self, py: Python<'_>) {
        self.watch.check_new(py);
    }

    /// Raises what calls of this thread have found.
    fn raise_found(&self, py: Python<'_>) -> PyResult<()> {
        self.watch.raise(py)
    }

    /// Tells what calls of this thread have found by the callback, else by warnings.
    fn report(&self, py: Python<'_>) -> PyResult<()> {
        self.watch.report(py)
    }

    /// Ends that.
    fn end(&self) {
        self.watch.end();
    }
}

#[pymethods]
impl Allocator {
    /// Ends a `with` block of Python, which an exception leaves or None, by a call that does nothing the second time.
    /// What `CorruptionError` would say is reported where it would take the place of that exception.
    fn _end_block(
        &self,
        py: Python<'_>,
        exception: Option<&Bound<'_, PyAny>>,
        end: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let state = &self.state;
        end_block(py, state, exception.is_some(), 2, || end.call0().map(drop))
    }
}
