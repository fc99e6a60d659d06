//! Commands of the program's own on a simulated queue, which name buffers by handles.

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::TransferCommand;

use super::simulated::SimulatedDevice;
use crate::arguments::numbers::{live_handle, unsigned, unsigned_32, unsigned_or_zero};
use crate::errors::IntoPyResult;
use crate::interpreter::detach;

impl SimulatedDevice {
    fn submit(&self, py: Python<'_>, command: TransferCommand) -> PyResult<()> {
        let driver = self.driver(py)?;
        let submitted = detach(py, || driver.submit_as_owner(&[command]));
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

    /// Begins a command buffer that is submitted once, for `DefragmentationPass.record`; returns its handle.
    fn begin_command_buffer(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.driver(py)?.begin_command_buffer().as_raw())
    }

    /// Ends a command buffer of `begin_command_buffer` and submits it (`vkQueueSubmit`), as a program does; does not
    /// wait. The handle is gone then. What Vulkan forbids is among the `violations`; raises `VkMemError` if
    /// something could not be carried out.
    fn submit_command_buffer(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let buffer = live_handle(command_buffer, "VkCommandBuffer", "command_buffer")?;
        let driver = self.driver(py)?;
        let submit = || driver.submit_command_buffer(vk::CommandBuffer::from_raw(buffer));
        detach(py, submit).map(drop).map_err(Error::from).or_raise(py)
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
