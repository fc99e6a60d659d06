//! Transfers that are submitted together.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::transfers::Transfers;
use crate::debugging::raising::{end_block, is_failing};
use crate::interpreter::detach;

#[pymethods]
impl Transfers {
    /// A context manager: what this thread begins inside of it is submitted together, at its end or
    /// earlier by `flush()`, by a wait for a part of it, or for each 16 MiB.
    fn batch(slf: &Bound<'_, Self>) -> PyResult<TransferBatch> {
        drop(slf.get().state.enter(slf.py(), &slf.get().allocator)?);
        Ok(TransferBatch { transfers: slf.clone().unbind() })
    }
}

/// What `Transfers.batch` returns.
#[pyclass(name = "_TransferBatch", module = "vk_mem", frozen)]
pub struct TransferBatch {
    transfers: Py<Transfers>,
}

#[pymethods]
impl TransferBatch {
    /// Begins to gather.
    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let transfers = slf.get().transfers.get();
        transfers.state.check_open(slf.py(), &transfers.allocator)?;
        transfers.state.begin_batch();
        Ok(slf)
    }

    /// Submits what was gathered, whatever happened.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let transfers = self.transfers.get();
        let end = || {
            if transfers.closed() {
                return Ok(());
            }
            transfers.allocator.change(py, || {
                let _inside = transfers.state.enter(py, &transfers.allocator)?;
                if let Some(batch) = transfers.state.end_batch() {
                    detach(py, || {
                        transfers
                            .state
                            .engine
                            .close_batch(&transfers.allocator.device_allocator, batch)
                    });
                }
                Ok(())
            })
        };
        end_block(py, &transfers.allocator, is_failing(exception), 1, end)
    }

    /// Submits what was gathered so far.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.transfers.get().flush(py)
    }
}
