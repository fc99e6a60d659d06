//! Commands of the program's own on a simulated queue, which name buffers by handles.

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::{Driver, TransferCommand};

use super::simulated::SimulatedDevice;
use crate::arguments::numbers::{unsigned, unsigned_32, unsigned_or_zero};
use crate::errors::IntoPyResult;
use crate::interpreter::detach;

impl SimulatedDevice {
    fn submit(&self, py: Python<'_>, command: TransferCommand) -> PyResult<()> {
        let driver = self.driver(py)?;
        // SAFETY: a simulated driver looks up each handle, and reports one that is not live.
        let submitted = detach(py, || unsafe { driver.submit(&[command]) });
        submitted.map(drop).map_err(Error::from).or_raise(py)
    }
}

#[pymethods]
impl SimulatedDevice {
    /// Submits a fill (`vkCmdFillBuffer`) of a buffer by its handle, `Buffer.handle`, as a program does whose
    /// command buffer may have been recorded long before; does not wait. `offset` and `size` are in bytes,
    /// multiples of 4. What Vulkan forbids is among the `violations`, also a write to the old place of a buffer
    /// that has moved; raises `VkMemError` if the command could not be carried out.
    #[pyo3(signature = (buffer, size, value = None, *, offset = None))]
    fn submit_fill(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let command = TransferCommand::FillBuffer {
            buffer: vk::Buffer::from_raw(unsigned(buffer, "buffer")?),
            offset: unsigned_or_zero(offset, "offset")?,
            size: unsigned(size, "size")?,
            value: value.map_or(Ok(0), |value| unsigned_32(value, "value"))?,
        };
        self.submit(py, command)
    }

    /// Submits a copy (`vkCmdCopyBuffer`) between buffers by their handles, as `submit_fill` does. Offsets and
    /// `size` are in bytes.
    #[pyo3(signature = (source, target, size, *, source_offset = None, target_offset = None))]
    fn submit_copy(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        source_offset: Option<&Bound<'_, PyAny>>,
        target_offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let command = TransferCommand::CopyBuffer {
            source: vk::Buffer::from_raw(unsigned(source, "source")?),
            source_offset: unsigned_or_zero(source_offset, "source_offset")?,
            target: vk::Buffer::from_raw(unsigned(target, "target")?),
            target_offset: unsigned_or_zero(target_offset, "target_offset")?,
            size: unsigned(size, "size")?,
        };
        self.submit(py, command)
    }
}
