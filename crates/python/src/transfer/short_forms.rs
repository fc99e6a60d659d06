//! `Buffer.upload` and `Buffer.download`, on the transfers that each allocator has.

use pyo3::prelude::*;

use super::copies::Part;
use super::download::Wanted;
use super::transfers::Transfers;
use crate::objects::buffer::Buffer;

#[pymethods]
impl Buffer {
    /// `Allocator.transfers` of its allocator, for ranges of it.
    #[getter]
    fn _transfers(slf: &Bound<'_, Self>) -> PyResult<Transfers> {
        let resource = &slf.as_super().get().resource;
        resource.check_live(slf.py())?;
        Ok(Transfers::of(&resource.allocator))
    }

    /// Copies an array into the buffer from `offset` bytes on, and waits until the device has it:
    /// `Allocator.transfers.upload(array, buffer, ...).result()`, where everything else is told.
    ///
    /// Raises what `Transfers.upload` and `Transfer.result` raise.
    #[pyo3(signature = (array, offset = None, *, dtype = None, progress = None))]
    fn upload(
        slf: &Bound<'_, Self>,
        array: &Bound<'_, PyAny>,
        offset: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let part = Part::whole(slf);
        part.resource().check_live(py)?;
        let transfers = Transfers::of(&part.resource().allocator);
        part.resource().allocator.change(py, || {
            let begun = transfers.start_upload(py, array, &part, offset, dtype, progress, None)?;
            begun.get().result(py, None).map(drop)
        })
    }

    /// Copies the buffer into a new array, of `size` bytes from `offset` on, and waits for it:
    /// `Allocator.transfers.download(buffer, ...).result()`, where everything else is told.
    ///
    /// Raises what `Transfers.download` and `Transfer.result` raise.
    #[pyo3(signature = (
        dtype = None, shape = None, *, offset = None, size = None, out = None, progress = None
    ))]
    fn download(
        slf: &Bound<'_, Self>,
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
        out: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let part = Part::whole(slf);
        part.resource().check_live(py)?;
        let transfers = Transfers::of(&part.resource().allocator);
        let wanted = Wanted { dtype, shape, offset, size, out };
        let begun = transfers.start_download(py, &part, &wanted, progress, None)?;
        begun.get().result(py, None)
    }
}
