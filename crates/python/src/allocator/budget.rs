//! Budgets and callbacks at their limits, empty blocks.

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
    /// Returns usage and budget of every heap in bytes (`vmaGetHeapBudgets`), as a list of `HeapBudget` that
    /// prints as a table. Fast enough to be called every frame.
    fn heap_budgets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(py)?;
        let budgets = self.state.engine().heap_budgets();
        self.handlers.call_pending(py, &self.state);
        heap_budgets(py, budgets)
    }

    /// Calls `callback(heap_index, budget)` when the usage of a heap reaches `threshold` times its budget,
    /// with the current `HeapBudget`; again after it has been below in between.
    ///
    /// The callback runs without locks, in the call that noticed: one that allocates, `heap_budgets` or
    /// `set_current_frame_index`. It may use the allocator, for example to destroy resources that can be
    /// created again, or to `trim`. An exception in it is printed (`sys.unraisablehook`), not raised. There
    /// is one callback at a time; None removes it. Returns the callback, so it can be used as a decorator.
    ///
    /// Raises `InvalidArgumentError` unless the threshold is from 0 to 1.
    #[pyo3(signature = (callback, threshold = 0.9))]
    fn on_pressure<'py>(
        &self,
        callback: Bound<'py, PyAny>,
        #[pyo3(from_py_with = threshold)] threshold: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            if !(0.0..=1.0).contains(&threshold) {
                return Err(invalid(py, format!("threshold is {threshold}, not from 0 to 1")));
            }
            let is_set = self.handlers.set_pressure(&callback)?;
            self.state.engine().set_pressure_threshold(is_set.then_some(threshold));
            Ok(callback)
        })
    }

    /// Calls `callback(error)` before a call that creates, allocates, aliases or imports raises an
    /// `OutOfDeviceMemoryError` or a `TooManyObjectsError`, whichever Vulkan call failed: including
    /// `vkCreateBuffer` and `vkBindBufferMemory`, and any error of `vkAllocateMemory` except a lost device.
    /// Not called if freeing cannot help: for a request larger than a block of its pool, or than the device
    /// can allocate at once.
    ///
    /// If the callback returns True, having freed something, the call is tried again, until it succeeds, the
    /// callback returns another value, or a signal arrives (Ctrl-C); False or None raises the error. The
    /// callback runs without locks, when the failed attempt has been undone, and may use the allocator; a
    /// failure inside it is raised there at once. There is one callback at a time; None removes it. Returns
    /// the callback, so it can be used as a decorator.
    fn on_out_of_memory<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            self.handlers.set_out_of_memory(&callback)?;
            Ok(callback)
        })
    }

    /// Frees the retained empty blocks, except for `min_block_count` of each pool. Returns their size in
    /// bytes. Waits until blocks that `defragment` has emptied are given back to the device, too.
    fn trim(&self, py: Python<'_>) -> PyResult<u64> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let bytes = detach(py, || self.state.engine().trim());
            self.handlers.call_pending(py, &self.state);
            Ok(bytes)
        })
    }

    /// Calls `callback(event)` after each successful `vkAllocateMemory` and each `vkFreeMemory`
    /// (`VmaDeviceMemoryCallbacks`), with a `DeviceMemoryEvent`: `kind` ("allocate" or "free"), `memory` (the
    /// `VkDeviceMemory`), `size` in bytes, `memory_type_index` and `heap_index`.
    ///
    /// The callback runs without locks, before the call that caused the event returns, and may use the
    /// allocator. Events are delivered one at a time, in their order: while a callback runs, the events of
    /// other threads are left to its thread. Events of blocks that `prefetch=True` allocates ahead are
    /// delivered by the next call or by the main thread, whichever comes first. An exception in the callback
    /// is printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes it, and
    /// so does the end of the `Allocator` object. Returns the callback, so it can be used as a decorator.
    fn on_device_memory<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            self.state.listen_to_device_memory(&callback)?;
            Ok(callback)
        })
    }
}
