//! What the margins of a `BufferHeap`, which is written in Python, need of its allocator.

use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::callback::current;
use crate::debugging::raising::end_block;
use crate::process::forks::in_one_process;

#[pymethods]
impl Allocator {
    /// Returns where the caller of this package is, as `file:line in function` per line, innermost first; None if call
    /// sites are not tracked.
    fn _call_site(&self, py: Python<'_>) -> Option<String> {
        let sites = &self.state.sites;
        let site = if sites.is_tracking() { sites.capture_tracked(py) } else { None };
        site.map(|site| sites.lines(py, site).join("\n"))
    }

    /// Calls the callback of `on_corruption` with an error; returns whether there is one. An exception in it is printed.
    fn _tell_corruption(&self, error: Bound<'_, PyAny>) -> PyResult<bool> {
        let py = error.py();
        let Some(callback) = current(py, &self.state.on_corruption) else { return Ok(false) };
        if let Err(error) = in_one_process(py, || callback.call1((error,))).and_then(|it| it) {
            error.write_unraisable(py, Some(&callback));
        }
        Ok(true)
    }

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
