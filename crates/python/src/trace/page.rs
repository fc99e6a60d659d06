//! The data of a page of a trace.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vkmem_trace::timeline_data;

use super::background::{Ends, run};
use super::data::TraceData;

#[pymethods]
impl TraceData {
    /// What a page shows of the trace: a header as JSON, and columns. Where the trace says no places, it is played.
    fn timeline<'py>(&self, py: Python<'py>) -> PyResult<(String, Bound<'py, PyBytes>)> {
        let trace = self.trace.clone();
        let data = run(py, Ends::ByItself, None, move |_| timeline_data(&trace))?;
        Ok((data.header, PyBytes::new(py, &data.body)))
    }
}
