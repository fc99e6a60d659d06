//! Resources whose memory may be taken away: touches of many, losses on demand, callbacks.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::touches::Touches;
use super::{Allocator, python_object};
use crate::arguments::callback::{callable, exchange};
use crate::interpreter::detach;
use crate::lifetime::ownership::Resource;
use crate::objects::allocation::Allocation;
use crate::objects::resource::ResourceObject;

impl Allocator {
    /// Loses resources where a heap is over its budget, if the allocator was created for that.
    pub(super) fn keep_budget(&self, py: Python<'_>) {
        if self.evicts_over_budget {
            detach(py, || self.state.engine().evict_over_budget());
            self.state.tell_device_memory(py);
        }
    }
}

#[pymethods]
impl Allocator {
    /// Number of frames after which what was not used may be lost.
    #[getter]
    fn frames_in_use(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        Ok(self.state.frames_in_use())
    }

    /// Notes that many resources are used in this frame, as `Resource.touch` does for one. Returns those that were
    /// lost, in the order in which they were given. Takes any iterable; a list is fastest.
    ///
    /// Raises `UseAfterFreeError` for what was destroyed, `InvalidArgumentError` for what is of another allocator;
    /// those before it are touched then.
    fn touch_many<'py>(
        &self,
        py: Python<'py>,
        resources: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            if resources.is_instance_of::<ResourceObject>() {
                let kind = resources.get_type().name()?;
                let why = format!(
                    "resources must be a list of resources, not {kind}: touch() is for one"
                );
                return Err(PyTypeError::new_err(why));
            }
            Touches::of(&self.state, resources)
        })
    }

    /// Takes the memory of all resources that may be lost now, in all pools: created with `CAN_BECOME_LOST`, not used
    /// in this frame and in the `frames_in_use` frames before, and neither mapped nor held. Returns their number.
    fn make_allocations_lost(&self, py: Python<'_>) -> PyResult<usize> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let count = self.state.make_allocations_lost(py, None)?;
            self.handlers.call_pending(py, &self.state);
            Ok(count)
        })
    }

    /// Creates an `Allocation` that is lost from the start (`vmaCreateLostAllocation` of VMA 2.3), to stand for one
    /// that is yet to be made: it has no memory, and `touch()` returns False.
    fn create_lost_allocation(&self, py: Python<'_>) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        python_object(py, Resource::lost(py, &self.state), None, Allocation)
    }

    /// Calls `callback(resources)` with the list of the resources that one call has taken memory from.
    /// `Resource.on_lost` is for single resources.
    ///
    /// The callback runs without locks, before the call returns that took the memory, and may use the allocator. An
    /// exception in it is printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes
    /// it, and so does the end of the `Allocator` object. Returns the callback, so it can be used as a decorator.
    fn on_lost<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            exchange(&self.state.on_lost, callable(&callback)?);
            Ok(callback)
        })
    }
}
