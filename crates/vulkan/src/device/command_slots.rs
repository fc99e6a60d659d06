//! Command buffers, each with the objects that a submission of it needs.

use ash::vk;
use vkmem_engine::{CallError, DeviceError};

use crate::device::logical::{LogicalDevice, check};
use crate::device::transfer_commands::Recorder;
use crate::driver::submission::TransferCommand;
use crate::instance::functions::{SemaphoreFunctions, TimelineFunctions};

/// Objects for one submission: a command pool of its own, so that several threads can record.
pub(crate) struct CommandSlot {
    pool: vk::CommandPool,
    pub(crate) buffer: vk::CommandBuffer,
    /// Null if a timeline semaphore counts submissions.
    pub(crate) fence: vk::Fence,
    /// What a submission to the transfer queue needs besides; made by the first one.
    pub(crate) transfer: Option<Box<TransferSlot>>,
}

/// Command buffers and semaphores of a submission to the transfer queue.
pub(crate) struct TransferSlot {
    /// For the main queue, before the copies.
    pub(crate) release: CommandSlot,
    /// For the transfer queue.
    pub(crate) copies: CommandSlot,
    /// Signalled by the first part, waited for by the second one.
    pub(crate) released: vk::Semaphore,
    /// Signalled by the second part, waited for by the last one.
    pub(crate) copied: vk::Semaphore,
    functions: SemaphoreFunctions,
}

impl TransferSlot {
    fn new(
        device: &LogicalDevice,
        functions: &SemaphoreFunctions,
        main_family: u32,
        family: u32,
    ) -> Result<Self, CallError> {
        let mut slot = Self {
            release: CommandSlot::new(device, main_family, false)?,
            copies: CommandSlot::empty(),
            released: vk::Semaphore::null(),
            copied: vk::Semaphore::null(),
            functions: *functions,
        };
        match slot.fill(device, family) {
            Ok(()) => Ok(slot),
            Err(error) => {
                slot.destroy(device);
                Err(error)
            }
        }
    }

    fn fill(&mut self, device: &LogicalDevice, family: u32) -> Result<(), CallError> {
        self.copies = CommandSlot::new(device, family, false)?;
        let info = vk::SemaphoreCreateInfo::default();
        for semaphore in [&mut self.released, &mut self.copied] {
            let create = self.functions.create_semaphore;
            // SAFETY: the device is live.
            let created = unsafe { create(device.handle, &info, device.callbacks(), semaphore) };
            answered("vkCreateSemaphore", created)?;
        }
        Ok(())
    }

    /// Destroys the slot, whose command buffers do not run.
    fn destroy(self, device: &LogicalDevice) {
        for semaphore in [self.released, self.copied] {
            let destroy = self.functions.destroy_semaphore;
            // SAFETY: null or created here, and not in use.
            unsafe { destroy(device.handle, semaphore, device.callbacks()) };
        }
        self.release.destroy(device);
        self.copies.destroy(device);
    }
}

/// Converts the result of a call to an error with its name.
pub(crate) fn answered(call: &'static str, result: vk::Result) -> Result<(), CallError> {
    check(result).map_err(|error| error.of(call))
}

impl CommandSlot {
    fn empty() -> Self {
        Self {
            pool: vk::CommandPool::null(),
            buffer: vk::CommandBuffer::null(),
            fence: vk::Fence::null(),
            transfer: None,
        }
    }

    pub(crate) fn new(
        device: &LogicalDevice,
        family_index: u32,
        has_fence: bool,
    ) -> Result<Self, CallError> {
        let mut slot = Self::empty();
        match slot.fill(device, family_index, has_fence) {
            Ok(()) => Ok(slot),
            Err(error) => {
                slot.destroy(device);
                Err(error)
            }
        }
    }

    fn fill(
        &mut self,
        device: &LogicalDevice,
        family_index: u32,
        has_fence: bool,
    ) -> Result<(), CallError> {
        let functions = &device.functions;
        let info = vk::CommandPoolCreateInfo::default()
            .flags(vk::CommandPoolCreateFlags::TRANSIENT)
            .queue_family_index(family_index);
        let (create, callbacks) = (functions.create_command_pool, device.callbacks());
        // SAFETY: the device is live, and the family is that of its queue.
        let created = unsafe { create(device.handle, &info, callbacks, &mut self.pool) };
        answered("vkCreateCommandPool", created)?;
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(self.pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        let allocate = functions.allocate_command_buffers;
        // SAFETY: the device is live, and the pool is new.
        let allocated = unsafe { allocate(device.handle, &info, &mut self.buffer) };
        answered("vkAllocateCommandBuffers", allocated)?;
        if has_fence {
            let info = vk::FenceCreateInfo::default();
            let create = functions.create_fence;
            // SAFETY: the device is live.
            let created = unsafe { create(device.handle, &info, callbacks, &mut self.fence) };
            answered("vkCreateFence", created)?;
        }
        Ok(())
    }

    /// Resets the slot for the next submission. Its last one has ended.
    pub(crate) fn reset(&self, device: &LogicalDevice) -> Result<(), CallError> {
        let functions = &device.functions;
        let flags = vk::CommandPoolResetFlags::empty();
        // SAFETY: the pool is live, no other thread uses it, and its command buffer does not run.
        let reset = unsafe { (functions.reset_command_pool)(device.handle, self.pool, flags) };
        answered("vkResetCommandPool", reset)?;
        if self.fence != vk::Fence::null() {
            // SAFETY: the fence is live, and no running submission uses it.
            let reset = unsafe { (functions.reset_fences)(device.handle, 1, &self.fence) };
            answered("vkResetFences", reset)?;
        }
        Ok(())
    }

    /// Records commands.
    ///
    /// # Safety
    /// The resources are live, the ranges lie inside them, and the images are in the layouts that the
    /// commands name.
    pub(crate) unsafe fn record(
        &self,
        device: &LogicalDevice,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        let buffer = self.begin(device)?;
        // SAFETY: the command buffer is recording; the caller guarantees the rest.
        unsafe { Recorder { device, buffer }.record(commands) };
        self.end(device)
    }

    /// Begins the command buffer, which is new or reset, and returns it.
    pub(crate) fn begin(&self, device: &LogicalDevice) -> Result<vk::CommandBuffer, CallError> {
        let info = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the command buffer is new or reset, and no other thread uses its pool.
        let begun = unsafe { (device.functions.begin_command_buffer)(self.buffer, &info) };
        answered("vkBeginCommandBuffer", begun).map(|()| self.buffer)
    }

    /// Ends the command buffer, which is recording.
    pub(crate) fn end(&self, device: &LogicalDevice) -> Result<(), CallError> {
        // SAFETY: the command buffer is recording.
        let ended = unsafe { (device.functions.end_command_buffer)(self.buffer) };
        answered("vkEndCommandBuffer", ended)
    }

    /// Returns what a submission to the transfer queue needs: new, or reset.
    pub(crate) fn prepare_transfer(
        &mut self,
        device: &LogicalDevice,
        functions: &SemaphoreFunctions,
        main_family: u32,
        family: u32,
    ) -> Result<&TransferSlot, CallError> {
        match &self.transfer {
            Some(kept) => {
                kept.release.reset(device)?;
                kept.copies.reset(device)?;
            }
            None => {
                let new = TransferSlot::new(device, functions, main_family, family)?;
                self.transfer = Some(Box::new(new));
            }
        }
        self.transfer.as_deref().ok_or(DeviceError::OutOfHostMemory.of("vkCreateCommandPool"))
    }

    /// Destroys the slot, whose command buffer does not run.
    pub(crate) fn destroy(self, device: &LogicalDevice) {
        if let Some(transfer) = self.transfer {
            transfer.destroy(device);
        }
        let (functions, callbacks) = (&device.functions, device.callbacks());
        // SAFETY: the device is live; the handles are null or created here, and not in use. The command
        // buffer is freed with its pool.
        unsafe {
            (functions.destroy_fence)(device.handle, self.fence, callbacks);
            (functions.destroy_command_pool)(device.handle, self.pool, callbacks);
        }
    }
}

/// Creates a timeline semaphore with an initial value.
pub(crate) fn create_timeline(
    device: &LogicalDevice,
    functions: &TimelineFunctions,
    number: u64,
) -> Result<vk::Semaphore, CallError> {
    let mut kind = vk::SemaphoreTypeCreateInfo::default()
        .semaphore_type(vk::SemaphoreType::TIMELINE)
        .initial_value(number);
    let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
    let mut semaphore = vk::Semaphore::null();
    let create = functions.semaphores.create_semaphore;
    // SAFETY: the device is live, and has the feature.
    let created = unsafe { create(device.handle, &info, device.callbacks(), &mut semaphore) };
    answered("vkCreateSemaphore", created)?;
    Ok(semaphore)
}
