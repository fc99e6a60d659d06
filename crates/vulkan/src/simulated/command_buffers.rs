//! Command buffers of the program on a simulated device: what is recorded runs once they are submitted.

use ash::vk::{self, Handle};
use vkmem_engine::{Call, CallError, DeviceError, VALIDATION_FAILED};

use crate::driver::submission::{Submission, TransferCommand};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::unordered::Side;

/// Handles of command buffers spell "CMD" in their upper bytes.
const TAG: u64 = 0x434D_4400_0000_0000;

impl SimulatedDriver {
    /// Begins a command buffer that is submitted once (`VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT`). Handles
    /// are not reused.
    pub fn begin_command_buffer(&self) -> vk::CommandBuffer {
        let mut state = self.command_buffers.lock();
        state.begun += 1;
        let begun = vk::CommandBuffer::from_raw(TAG + state.begun);
        state.recording.insert(begun, Vec::new());
        begun
    }

    /// Ends and submits a command buffer as the owner of the queue does; the handle is gone.
    ///
    /// # Errors
    /// Those of [`Driver::submit`](crate::Driver::submit); `VALIDATION_FAILED` if it is not being recorded.
    pub fn submit_command_buffer(
        &self,
        buffer: vk::CommandBuffer,
    ) -> Result<Submission, CallError> {
        let commands = self.end_command_buffer(buffer)?;
        self.submit_recorded(&commands, Side::Main)
    }

    /// Like [`submit_command_buffer`](Self::submit_command_buffer), to the second queue. Nothing orders the two
    /// queues but a wait of the host.
    ///
    /// # Errors
    /// The same, and `FeatureNotPresent` without a second queue.
    pub fn submit_command_buffer_to_second(
        &self,
        buffer: vk::CommandBuffer,
    ) -> Result<Submission, CallError> {
        if self.second_queue.is_none() {
            return Err(DeviceError::FeatureNotPresent.of("vkGetDeviceQueue"));
        }
        let commands = self.end_command_buffer(buffer)?;
        self.submit_recorded(&commands, Side::Second)
    }

    fn end_command_buffer(
        &self,
        buffer: vk::CommandBuffer,
    ) -> Result<Vec<TransferCommand>, CallError> {
        let recorded = self.command_buffers.lock().recording.remove(&buffer);
        recorded.ok_or_else(|| self.refuse(buffer, "vkQueueSubmit"))
    }

    /// Records commands of the program as they are: barriers are among them, or missing.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` if the command buffer is not being recorded.
    pub fn record_own(
        &self,
        buffer: vk::CommandBuffer,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        let mut state = self.command_buffers.lock();
        let Some(recorded) = state.recording.get_mut(&buffer) else {
            drop(state);
            return Err(self.refuse(buffer, "vkCmdCopyBuffer"));
        };
        recorded.extend_from_slice(commands);
        Ok(())
    }

    /// Implements [`Driver::record`](crate::Driver::record).
    pub(super) fn record_into(
        &self,
        buffer: vk::CommandBuffer,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        let barrier = [TransferCommand::Barrier];
        self.record_own(buffer, &[&barrier[..], commands, &barrier[..]].concat())
    }

    fn refuse(&self, buffer: vk::CommandBuffer, call: &'static str) -> CallError {
        let what = format!("{:#x} is no command buffer that is being recorded", buffer.as_raw());
        self.device.report_violation(Call::Submit, what);
        VALIDATION_FAILED.of(call)
    }
}
