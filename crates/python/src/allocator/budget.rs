//! Budgets, what happens when one is reached, and empty blocks.

use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::numbers::real;
use crate::errors::invalid;
use crate::interpreter::detach;
use crate::objects::statistics::heap_budgets;

fn threshold(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    real(value, "threshold")
}

#[pymethods]
impl Allocator {
    /// Usage and budget of every heap, in bytes (`vmaGetHeapBudgets`). Quick enough for every frame.
    /// A list of `HeapBudget`, which prints as a table.
    fn heap_budgets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(py)?;
        let budgets = self.state.engine().heap_budgets();
        self.handlers.tell(py, &self.state);
        heap_budgets(py, budgets)
    }

    /// Calls `callback(heap_index, budget)` when the usage of a heap comes to `threshold` times its
    /// budget, with the `HeapBudget` of that time; again when it has been below in between.
    ///
    /// The callback runs outside of all locks, in the call that noticed: one that allocates,
    /// `heap_budgets` or `set_current_frame_index`. It may use the allocator, as to destroy what
    /// can be made again, or to `trim`. An exception in it is shown (`sys.unraisablehook`), not
    /// raised. One callback at a time; None removes it. Returns the callback, so that it serves as
    /// a decorator.
    ///
    /// Raises `InvalidArgumentError` for a threshold that is not from 0 to 1.
    #[pyo3(signature = (callback, threshold = 0.9))]
    fn on_pressure<'py>(
        &self,
        callback: Bound<'py, PyAny>,
        #[pyo3(from_py_with = threshold)] threshold: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        let _inside = self.state.enter(py)?;
        if !(0.0..=1.0).contains(&threshold) {
            return Err(invalid(py, format!("threshold is {threshold}, not from 0 to 1")));
        }
        let is_set = self.handlers.set_pressure(&callback)?;
        self.state.engine().set_pressure_threshold(is_set.then_some(threshold));
        Ok(callback)
    }

    /// Calls `callback(error)` before a call that creates, allocates, aliases or imports raises an
    /// `OutOfDeviceMemoryError` or a `TooManyObjectsError`, whichever Vulkan call ran out: also
    /// `vkCreateBuffer` or `vkBindBufferMemory`, and whatever error `vkAllocateMemory` ended with, but for a
    /// lost device. Not where freeing cannot help: for a request that is
    /// larger than a block of its pool, or above what the device can allocate at once.
    ///
    /// If it answers True, having freed something, the call is tried again, for as long as that
    /// goes on, or until a signal (Ctrl-C) ends it; False or None raises the error. The callback runs
    /// outside of all locks, while nothing of the failed attempt is left, and may use the allocator;
    /// what fails inside it is raised there at once. One callback at a time; None removes it. Returns
    /// the callback, so that it serves as a decorator.
    fn on_out_of_memory<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(callback.py())?;
        self.handlers.set_out_of_memory(&callback)?;
        Ok(callback)
    }

    /// Gives empty blocks that are kept back to the driver, but for those of `min_block_count`.
    /// Returns their bytes.
    fn trim(&self, py: Python<'_>) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        let bytes = detach(py, || self.state.engine().trim());
        self.handlers.tell(py, &self.state);
        Ok(bytes)
    }

    /// Calls `callback(event)` after each `vkAllocateMemory` that gave memory and each `vkFreeMemory`
    /// (`VmaDeviceMemoryCallbacks`), with a `DeviceMemoryEvent`: `kind` ("allocate" or "free"), `memory`
    /// (the `VkDeviceMemory`), `size` in bytes, `memory_type_index` and `heap_index`.
    ///
    /// The callback runs outside of all locks, before the call that caused it returns, and may use the
    /// allocator. Events come one after the other in their order: while a callback runs, those of other
    /// threads wait for its thread. Blocks that `prefetch=True` takes ahead are told of by the next call or
    /// by the main thread, whichever comes first. An exception in it is shown (`sys.unraisablehook`), not
    /// raised. One callback at a time; None removes it, and so does the end of the `Allocator` object.
    /// Returns the callback, so that it serves as a decorator.
    fn on_device_memory<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(callback.py())?;
        self.state.listen_to_device_memory(&callback)?;
        Ok(callback)
    }
}
