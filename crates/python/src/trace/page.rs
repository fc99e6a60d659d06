//! The data of a page of a trace.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vkmem_trace::timeline_data_with;

use super::background::{Ends, run};
use super::data::TraceData;

#[pymethods]
impl TraceData {
    /// What a page shows of the trace: a header as JSON, and columns. Where the trace says no places, it is played.
    fn timeline<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(String, Bound<'py, PyBytes>)> {
        let trace = self.trace.clone();
        let data = run(py, Ends::ByItself, progress, move |work| {
            timeline_data_with(&trace, &|done, total| work.note(done, total))
        })?;
        Ok((data.header, PyBytes::new(py, &data.body)))
    }
}
