//! Making `Transfers`, and those that each allocator has.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::text::Text;
use crate::transfer::transfers::Transfers;

#[pymethods]
impl Transfers {
    #[new]
    #[pyo3(
        signature = (allocator, ring_size = None, *, queue = None),
        text_signature = "(allocator, ring_size=67108864, *, queue=None)"
    )]
    fn make(
        py: Python<'_>,
        allocator: &Bound<'_, PyAny>,
        ring_size: Option<&Bound<'_, PyAny>>,
        queue: Option<Text>,
    ) -> PyResult<Self> {
        let allocator = allocator.cast::<Allocator>().map_err(|_| {
            let kind = allocator.get_type().name().map_or("?".into(), |name| name.to_string());
            PyTypeError::new_err(format!("allocator must be a vk_mem.Allocator, not {kind}"))
        })?;
        Self::new(py, &allocator.get().state, ring_size, queue.as_ref())
    }
}

#[pymethods]
impl Allocator {
    /// The `Transfers` that `Buffer.upload`, `Buffer.download` and `create_buffer(data=...)` use, with
    /// rings of 64 MiB, which are allocated when they are first needed.
    #[getter]
    fn transfers(&self, py: Python<'_>) -> PyResult<Transfers> {
        self.state.check_open(py)?;
        Ok(Transfers::of(&self.state))
    }
}
