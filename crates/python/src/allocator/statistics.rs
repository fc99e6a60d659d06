//! Statistics and consistency checks.

use pyo3::prelude::*;

use super::Allocator;
use crate::errors::IntoPyResult;
use crate::interpreter::detach;
use crate::objects::statistics::TotalStatistics;

#[pymethods]
impl Allocator {
    /// Counts blocks, allocations and unused ranges by memory type, heap and custom pool
    /// (`vmaCalculateStatistics`). O(allocations). Each pool is counted once, at one moment, and the sums are
    /// sums of these.
    fn calculate_statistics(&self, py: Python<'_>) -> PyResult<TotalStatistics> {
        let _inside = self.state.enter(py)?;
        detach(py, || TotalStatistics::of(&self.state)).or_raise(py)
    }

    /// Checks all bookkeeping of the engine. Raises `CorruptionError` with the first fault found.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let _inside = self.state.enter(py)?;
        let checked = detach(py, || self.state.engine().validate());
        checked.map_err(|broken| crate::errors::corruption(py, &broken))
    }
}
