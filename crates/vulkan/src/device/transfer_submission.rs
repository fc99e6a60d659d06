//! Submissions to the transfer queue: each is enclosed by two of the main queue.
//!
//! ```text
//!   main queue      release -- signal        wait -- acquire -- number n
//!                              |                ^
//!                              v                |
//!   transfer queue           wait -- acquire, copies, release -- signal
//! ```
//!
//! The first part lets the copies run after all earlier work of the main queue, the last one makes a
//! [`Submission`] of the main queue of them: a later one ends later, as without a second queue.

use std::slice;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{CallError, DeviceError};

use crate::device::command_slots::{CommandSlot, TransferSlot, answered};
use crate::device::logical::LogicalDevice;
use crate::device::ownership_barriers::Families;
use crate::device::submission::Submissions;
use crate::device::transfer_commands::Recorder;
use crate::driver::ownership::Ownership;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{QueueLock, Submission, TransferCommand};
use crate::driver::transfer_queue::TransferQueue;
use crate::instance::functions::SemaphoreFunctions;

/// The second queue of a device. It is used only while the main queue is locked.
pub(crate) struct SecondQueue {
    pub(crate) queue: vk::Queue,
    pub(crate) of: TransferQueue,
    pub(crate) owners_lock: Option<Arc<dyn QueueLock>>,
    pub(crate) semaphores: SemaphoreFunctions,
}

impl SecondQueue {
    fn there(&self) -> Families {
        Families { from: self.of.main_family_index, to: self.of.family_index }
    }

    fn back(&self) -> Families {
        Families { from: self.of.family_index, to: self.of.main_family_index }
    }

    fn ownership(&self, commands: &[TransferCommand], exclusive: &[ResourceHandle]) -> Ownership {
        if !self.of.is_of_another_family() {
            return Ownership::default();
        }
        let mut ownership = Ownership::of(commands, exclusive);
        if self.of.buffers_have_no_owner {
            ownership.there.buffers.clear();
            ownership.back.buffers.clear();
        }
        ownership
    }

    /// Takes its owner's lock, unless it is the one of the main queue, which is held.
    fn lock_owner(&self, held: Option<&Arc<dyn QueueLock>>) -> Result<(), CallError> {
        self.own_lock(held).map_or(Ok(()), |lock| lock.lock())
    }

    fn unlock_owner(&self, held: Option<&Arc<dyn QueueLock>>) -> Result<(), CallError> {
        self.own_lock(held).map_or(Ok(()), |lock| lock.unlock())
    }

    fn own_lock(&self, held: Option<&Arc<dyn QueueLock>>) -> Option<&Arc<dyn QueueLock>> {
        self.owners_lock.as_ref().filter(|lock| held.is_none_or(|held| !Arc::ptr_eq(held, lock)))
    }
}

/// One `vkQueueSubmit`.
#[derive(Clone, Copy)]
struct Batch<'a> {
    queue: vk::Queue,
    /// Null: none.
    waits_for: vk::Semaphore,
    /// None where there is nothing to record.
    commands: Option<&'a vk::CommandBuffer>,
    signals: &'a [vk::Semaphore],
    /// Values of `signals`, if one of them is a timeline semaphore.
    values: &'a [u64],
    fence: vk::Fence,
}

impl Batch<'_> {
    /// Submits it. Vulkan leaves everything as it was if that fails, unless the device is lost.
    fn submit(&self, device: &LogicalDevice) -> Result<(), CallError> {
        let stage = vk::PipelineStageFlags::ALL_COMMANDS;
        let mut values =
            vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(self.values);
        let mut submit = vk::SubmitInfo::default().signal_semaphores(self.signals);
        if self.waits_for != vk::Semaphore::null() {
            submit = submit
                .wait_semaphores(slice::from_ref(&self.waits_for))
                .wait_dst_stage_mask(slice::from_ref(&stage));
        }
        if let Some(commands) = self.commands {
            submit = submit.command_buffers(slice::from_ref(commands));
        }
        if !self.values.is_empty() {
            submit = submit.push_next(&mut values);
        }
        // SAFETY: the command buffers are executable, the fence null or unsignalled, the semaphores in the
        // states that the parts of a submission need, and no other thread uses the queue.
        let submitted =
            unsafe { (device.functions.queue_submit)(self.queue, 1, &submit, self.fence) };
        answered("vkQueueSubmit", submitted)
    }
}

impl Submissions {
    /// Implements [`Driver::submit_to_transfer_queue`](crate::Driver::submit_to_transfer_queue) for commands
    /// that the queue can carry out.
    ///
    /// # Safety
    /// Those of [`submit`](Self::submit); `exclusive` are the resources with `SHARING_MODE_EXCLUSIVE`.
    pub(crate) unsafe fn submit_to_second(
        &self,
        device: &LogicalDevice,
        second: &SecondQueue,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, CallError> {
        if commands.is_empty() {
            return Ok(Submission::NONE);
        }
        let ownership = second.ownership(commands, exclusive);
        let (mut slot, timeline, _in_use) = self.slot(device)?;
        let prepared = slot
            .prepare_transfer(
                device,
                &second.semaphores,
                self.family_index(),
                second.of.family_index,
            )
            .and_then(|transfer| {
                // SAFETY: the caller guarantees the resources.
                unsafe { record_copies(device, second, transfer, commands, &ownership) }
            });
        // SAFETY: the caller guarantees the resources.
        let recorded =
            prepared.and_then(|()| unsafe { record_acquire(device, second, &slot, &ownership) });
        if let Err(error) = recorded.and_then(|()| self.lock_owner()) {
            // Nothing was submitted.
            slot.destroy(device);
            return Err(error);
        }
        let main_lock = self.owners_lock();
        if let Err(error) = second.lock_owner(main_lock) {
            slot.destroy(device);
            // The first error is the one to return.
            let _ = self.unlock_owner();
            return Err(error);
        }
        let submitted = self.submit_parts(device, second, slot, timeline, &ownership);
        let unlocked = second.unlock_owner(main_lock);
        let unlocked = self.unlock_owner().and(unlocked);
        self.or_ended(device, Submission(submitted?), unlocked)
    }

    /// Submits the three parts. The locks of the owners are held.
    fn submit_parts(
        &self,
        device: &LogicalDevice,
        second: &SecondQueue,
        slot: CommandSlot,
        timeline: vk::Semaphore,
        ownership: &Ownership,
    ) -> Result<u64, CallError> {
        // Through all parts: between them no other thread finds a resource that the main queue does not own.
        let on_queue = self.lock_queue();
        let number = self.next_number();
        let outcome = parts(self.queue(), device, second, &slot, (timeline, number), ownership);
        if let Err(error) = outcome {
            for queue in [self.queue(), second.queue] {
                // SAFETY: no other thread uses the queues. What was submitted runs until then.
                let _ = unsafe { (device.functions.queue_wait_idle)(queue) };
            }
            drop(on_queue);
            slot.destroy(device);
            return Err(error);
        }
        self.has_submitted(number, slot);
        Ok(number)
    }
}

fn parts(
    main: vk::Queue,
    device: &LogicalDevice,
    second: &SecondQueue,
    slot: &CommandSlot,
    (timeline, number): (vk::Semaphore, u64),
    ownership: &Ownership,
) -> Result<(), CallError> {
    let Some(transfer) = slot.transfer.as_deref() else {
        return Err(DeviceError::FeatureNotPresent.of("vkGetDeviceQueue"));
    };
    let release = Batch {
        queue: main,
        waits_for: vk::Semaphore::null(),
        commands: (!ownership.there.is_empty()).then_some(&transfer.release.buffer),
        signals: slice::from_ref(&transfer.released),
        values: &[],
        fence: vk::Fence::null(),
    };
    release.submit(device)?;
    let copies = Batch {
        queue: second.queue,
        waits_for: transfer.released,
        commands: Some(&transfer.copies.buffer),
        signals: slice::from_ref(&transfer.copied),
        values: &[],
        fence: vk::Fence::null(),
    };
    submit_at_last(device, main, copies)?;
    let signals =
        if timeline == vk::Semaphore::null() { &[][..] } else { slice::from_ref(&timeline) };
    let acquire = Batch {
        queue: main,
        waits_for: transfer.copied,
        commands: (!ownership.back.is_empty()).then_some(&slot.buffer),
        signals,
        values: if signals.is_empty() { &[] } else { slice::from_ref(&number) },
        fence: slot.fence,
    };
    submit_at_last(device, second.queue, acquire)
}

/// Submits the second or the third part, after the other queue's work if it fails at first: resources that were
/// released and that nobody acquires have undefined contents.
fn submit_at_last(
    device: &LogicalDevice,
    other: vk::Queue,
    batch: Batch<'_>,
) -> Result<(), CallError> {
    match batch.submit(device) {
        Err(error) if error.result != DeviceError::DeviceLost => {
            // What has ended has given memory back.
            // SAFETY: no other thread uses the queue.
            let _ = unsafe { (device.functions.queue_wait_idle)(other) };
            batch.submit(device)
        }
        outcome => outcome,
    }
}

/// Records the first two parts.
///
/// # Safety
/// The resources are live, the ranges lie inside them, and the images are in the layouts that the commands name.
unsafe fn record_copies(
    device: &LogicalDevice,
    second: &SecondQueue,
    slot: &TransferSlot,
    commands: &[TransferCommand],
    ownership: &Ownership,
) -> Result<(), CallError> {
    if !ownership.there.is_empty() {
        let buffer = slot.release.begin(device)?;
        // SAFETY: the command buffer is recording; the caller guarantees the rest.
        unsafe { Recorder { device, buffer }.release(&ownership.there, second.there()) };
        slot.release.end(device)?;
    }
    let buffer = slot.copies.begin(device)?;
    let recorder = Recorder { device, buffer };
    // SAFETY: the command buffer is recording; the caller guarantees the rest.
    unsafe {
        recorder.acquire(&ownership.there, second.there());
        recorder.record(commands);
        recorder.release(&ownership.back, second.back());
    }
    slot.copies.end(device)
}

/// Records the last part.
///
/// # Safety
/// The resources are live.
unsafe fn record_acquire(
    device: &LogicalDevice,
    second: &SecondQueue,
    slot: &CommandSlot,
    ownership: &Ownership,
) -> Result<(), CallError> {
    if ownership.back.is_empty() {
        return Ok(());
    }
    let buffer = slot.begin(device)?;
    // SAFETY: the command buffer is recording; the caller guarantees the resources.
    unsafe { Recorder { device, buffer }.acquire(&ownership.back, second.back()) };
    slot.end(device)
}
