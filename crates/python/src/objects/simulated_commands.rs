//! Commands of the program's own on a simulated queue, which name buffers by handles.

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::{Driver, TransferCommand};

use super::simulated::SimulatedDevice;
use crate::arguments::numbers::{live_handle, unsigned, unsigned_32, unsigned_or_zero};
use crate::errors::IntoPyResult;
use crate::interpreter::detach;

/// The longest wait for the device between two looks at signals, in nanoseconds.
const LOOK: u64 = 20_000_000;

impl SimulatedDevice {
    fn record(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
        command: TransferCommand,
    ) -> PyResult<()> {
        let buffer = live_handle(command_buffer, "VkCommandBuffer", "command_buffer")?;
        let recorded = self.driver(py)?.record_own(vk::CommandBuffer::from_raw(buffer), &[command]);
        recorded.map_err(Error::from).or_raise(py)
    }

    fn submit(&self, py: Python<'_>, command: TransferCommand) -> PyResult<()> {
        let driver = self.driver(py)?;
        let submitted = detach(py, || driver.submit_as_owner(&[command]));
        submitted.map(drop).map_err(Error::from).or_raise(py)
    }
}

fn fill(
    buffer: &Bound<'_, PyAny>,
    size: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
    offset: Option<&Bound<'_, PyAny>>,
) -> PyResult<TransferCommand> {
    Ok(TransferCommand::FillBuffer {
        buffer: vk::Buffer::from_raw(unsigned(buffer, "buffer")?),
        offset: unsigned_or_zero(offset, "offset")?,
        size: unsigned(size, "size")?,
        value: value.map_or(Ok(0), |value| unsigned_32(value, "value"))?,
    })
}

fn copy(
    source: &Bound<'_, PyAny>,
    target: &Bound<'_, PyAny>,
    size: &Bound<'_, PyAny>,
    source_offset: Option<&Bound<'_, PyAny>>,
    target_offset: Option<&Bound<'_, PyAny>>,
) -> PyResult<TransferCommand> {
    Ok(TransferCommand::CopyBuffer {
        source: vk::Buffer::from_raw(unsigned(source, "source")?),
        source_offset: unsigned_or_zero(source_offset, "source_offset")?,
        target: vk::Buffer::from_raw(unsigned(target, "target")?),
        target_offset: unsigned_or_zero(target_offset, "target_offset")?,
        size: unsigned(size, "size")?,
    })
}

#[pymethods]
impl SimulatedDevice {
    /// Submits a fill (`vkCmdFillBuffer`) of a buffer by its handle, `Buffer.handle`, as a program does whose
    /// command buffer may have been recorded long before, between two barriers; does not wait. `offset` and `size`
    /// are in bytes, multiples of 4. What Vulkan forbids is among the `violations`, also a write to the old place of a buffer
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
        let command = fill(buffer, size, value, offset)?;
        self.submit(py, command)
    }

    /// Begins a command buffer that is submitted once, for `record_fill` and its like and for
    /// `DefragmentationPass.record`; returns its handle.
    fn begin_command_buffer(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.driver(py)?.begin_command_buffer().as_raw())
    }

    /// Records a fill (`vkCmdFillBuffer`) of a buffer by its handle, as `submit_fill` does. Barriers are the program's
    /// task: `record_barrier`.
    #[pyo3(signature = (command_buffer, buffer, size, value = None, *, offset = None))]
    fn record_fill(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
        buffer: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.record(py, command_buffer, fill(buffer, size, value, offset)?)
    }

    /// Records a copy (`vkCmdCopyBuffer`) between buffers by their handles, as `submit_copy` does. Barriers are the
    /// program's task: `record_barrier`.
    #[pyo3(signature = (
        command_buffer, source, target, size, *, source_offset = None, target_offset = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn record_copy(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
        source: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        source_offset: Option<&Bound<'_, PyAny>>,
        target_offset: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let command = copy(source, target, size, source_offset, target_offset)?;
        self.record(py, command_buffer, command)
    }

    /// Records a full memory barrier (`vkCmdPipelineBarrier`) between what was recorded, or submitted before, and
    /// what comes after it on the queue.
    fn record_barrier(&self, py: Python<'_>, command_buffer: &Bound<'_, PyAny>) -> PyResult<()> {
        self.record(py, command_buffer, TransferCommand::Barrier)
    }

    /// Ends a command buffer of `begin_command_buffer` and submits it (`vkQueueSubmit`), as a program does; does not
    /// wait. The handle is gone then. With `transfer_queue` it is submitted to the second queue, which only a wait
    /// (`wait_idle`) puts in an order with the first one. What Vulkan forbids is among the `violations`, also what
    /// commands of earlier submissions lack a barrier against; raises `VkMemError` if something could not be carried
    /// out, `FeatureNotPresentError` without such a queue.
    #[pyo3(signature = (command_buffer, *, transfer_queue = false))]
    fn submit_command_buffer(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
        transfer_queue: bool,
    ) -> PyResult<()> {
        let buffer = live_handle(command_buffer, "VkCommandBuffer", "command_buffer")?;
        let buffer = vk::CommandBuffer::from_raw(buffer);
        let driver = self.driver(py)?;
        let submit = || match transfer_queue {
            true => driver.submit_command_buffer_to_second(buffer),
            false => driver.submit_command_buffer(buffer),
        };
        detach(py, submit).map(drop).map_err(Error::from).or_raise(py)
    }

    /// Waits until everything that was submitted has ended (`vkDeviceWaitIdle`). What is submitted afterwards needs
    /// no barrier against it. Where submissions are held, another thread has to complete them.
    fn wait_idle(&self, py: Python<'_>) -> PyResult<()> {
        let driver = self.driver(py)?;
        let last = detach(py, || driver.last_submission());
        while !detach(py, || driver.wait(last, LOOK)).map_err(Error::from).or_raise(py)? {
            py.check_signals()?;
        }
        Ok(())
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
        let command = copy(source, target, size, source_offset, target_offset)?;
        self.submit(py, command)
    }
}
