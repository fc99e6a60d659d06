//! Submissions: command buffers in flight, their reuse, and how their end is detected.
//!
//! Each submission has a number, one more than the one before. With timeline semaphores, one semaphore counts
//! them; without, each command buffer has a fence. In either case, the end of a submission implies the end of
//! all before it.

use std::collections::VecDeque;
use std::mem;
use std::slice;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::lock::{Mutex, MutexGuard, rank};
use vkmem_engine::{CallError, DeviceError};

use crate::device::command_slots::{CommandSlot, answered, create_timeline};
use crate::device::logical::LogicalDevice;
use crate::driver::submission::{QueueLock, Submission, TransferCommand};
use crate::instance::functions::TimelineFunctions;

/// Maximum number of free command buffers to keep: as many as both rings of a `TransferEngine` have pieces.
const MOST_FREE_SLOTS: usize = 64;

struct InFlight {
    number: u64,
    slot: CommandSlot,
    /// Number of threads that wait for its fence.
    waiters: u32,
}

/// Submissions that may not have been completed, as the device was lost.
#[derive(Clone, Copy)]
struct Lost {
    after: u64,
    up_to: u64,
    error: CallError,
}

#[derive(Default)]
struct State {
    free: Vec<CommandSlot>,
    /// In order of submission.
    in_flight: VecDeque<InFlight>,
    /// Null before the first submission, and without timeline semaphores.
    timeline: vk::Semaphore,
    /// Number of the last submission.
    last: u64,
    /// All submissions up to this number have ended.
    done: u64,
    lost: Option<Lost>,
    /// Number of threads that record, submit or wait.
    users: u32,
}

impl State {
    /// Returns the outcome of a submission; `None` while it may run.
    fn outcome(&self, number: u64) -> Option<Result<(), CallError>> {
        match self.lost {
            Some(lost) if lost.after < number && number <= lost.up_to => Some(Err(lost.error)),
            _ => (number <= self.done).then_some(Ok(())),
        }
    }

    fn has_ended(&mut self, number: u64) {
        self.done = self.done.max(number);
    }

    /// Adds a slot to the free list; returns it if the list is full.
    fn keep(&mut self, slot: CommandSlot) -> Option<CommandSlot> {
        if self.free.len() >= MOST_FREE_SLOTS {
            return Some(slot);
        }
        self.free.push(slot);
        None
    }

    /// Frees the slots of submissions that have ended; returns those that the free list has no room for.
    fn retire(&mut self) -> Vec<CommandSlot> {
        let mut surplus = Vec::new();
        let mut index = 0;
        while self.in_flight.get(index).is_some_and(|it| it.number <= self.done) {
            if self.in_flight[index].waiters > 0 {
                index += 1;
                continue;
            }
            let Some(ended) = self.in_flight.remove(index) else { break };
            surplus.extend(self.keep(ended.slot));
        }
        surplus
    }
}

/// What a thread waits for.
#[derive(Clone, Copy)]
enum Signal {
    Timeline(vk::Semaphore),
    /// The fence of this submission, which is the one that is waited for or a later one.
    Fence(vk::Fence, u64),
}

/// A queue, and the Vulkan objects for submissions to it, created on first use and kept until
/// [`release`](Self::release).
///
/// Vulkan allows one thread at a time on a queue: `on_queue` ensures that among the calls of this library,
/// and the lock of a wrapped queue's owner among all others. The owner's lock is taken first, while no other
/// one is held. No lock is held while a thread waits for the device.
pub(crate) struct Submissions {
    queue: vk::Queue,
    family_index: u32,
    timeline: Option<TimelineFunctions>,
    owners_lock: Option<Arc<dyn QueueLock>>,
    on_queue: Mutex<(), rank::Queue>,
    state: Mutex<State, rank::Submissions>,
}

/// Keeps the semaphore and the slots alive. Must be dropped while the state is not locked.
pub(super) struct Use<'a>(&'a Submissions);

impl<'a> Use<'a> {
    fn begin(
        submissions: &'a Submissions,
        mut state: MutexGuard<'a, State, rank::Submissions>,
    ) -> Self {
        state.users += 1;
        Self(submissions)
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.state.lock().users -= 1;
    }
}

fn destroy_all(device: &LogicalDevice, slots: impl IntoIterator<Item = CommandSlot>) {
    slots.into_iter().for_each(|slot| slot.destroy(device));
}

impl Submissions {
    /// Creates the submissions of a queue. With a null queue every submission fails with `FeatureNotPresent`.
    pub(crate) fn new(
        queue: vk::Queue,
        family_index: u32,
        timeline: Option<TimelineFunctions>,
        owners_lock: Option<Arc<dyn QueueLock>>,
    ) -> Self {
        Self {
            queue,
            family_index,
            timeline,
            owners_lock,
            on_queue: Mutex::new(()),
            state: Mutex::default(),
        }
    }

    pub(crate) fn queue(&self) -> vk::Queue {
        self.queue
    }

    pub(crate) fn family_index(&self) -> u32 {
        self.family_index
    }

    /// Implements [`Driver::submit`](crate::Driver::submit).
    ///
    /// # Safety
    /// The device is the queue's; the resources are live, ranges lie inside them, and nothing else uses them
    /// until the submission has ended.
    pub(crate) unsafe fn submit(
        &self,
        device: &LogicalDevice,
        commands: &[TransferCommand],
    ) -> Result<Submission, CallError> {
        if self.queue == vk::Queue::null() {
            return Err(DeviceError::FeatureNotPresent.of("vkGetDeviceQueue"));
        }
        if commands.is_empty() {
            return Ok(Submission::NONE);
        }
        let (slot, semaphore, _in_use) = self.slot(device)?;
        // SAFETY: the caller guarantees the resources.
        if let Err(error) = unsafe { slot.record(device, commands) } {
            slot.destroy(device);
            return Err(error);
        }
        if let Err(error) = self.lock_owner() {
            // Not submitted, so it can be destroyed.
            slot.destroy(device);
            return Err(error);
        }
        let submitted = self.submit_slot(device, slot, semaphore);
        let unlocked = self.unlock_owner();
        let number = submitted?;
        self.or_ended(device, Submission(number), unlocked)
    }

    /// Returns a submission; or waits for it after an error of unlocking, with which the caller does not get it. A
    /// wait that fails says that nothing runs any more.
    pub(super) fn or_ended(
        &self,
        device: &LogicalDevice,
        submission: Submission,
        unlocked: Result<(), CallError>,
    ) -> Result<Submission, CallError> {
        if unlocked.is_err() {
            while !self.wait(device, submission, u64::MAX).unwrap_or(true) {}
        }
        unlocked.map(|()| submission)
    }

    pub(super) fn lock_owner(&self) -> Result<(), CallError> {
        self.owners_lock.as_ref().map_or(Ok(()), |lock| lock.lock())
    }

    pub(super) fn unlock_owner(&self) -> Result<(), CallError> {
        self.owners_lock.as_ref().map_or(Ok(()), |lock| lock.unlock())
    }

    /// Returns the lock of the queue's owner.
    pub(super) fn owners_lock(&self) -> Option<&Arc<dyn QueueLock>> {
        self.owners_lock.as_ref()
    }

    /// Keeps other threads from the queue.
    pub(super) fn lock_queue(&self) -> MutexGuard<'_, (), rank::Queue> {
        self.on_queue.lock()
    }

    /// Returns the number of the next submission. The queue is locked.
    pub(super) fn next_number(&self) -> u64 {
        self.state.lock().last + 1
    }

    /// Notes a submission. The queue is locked, since it got its number.
    pub(super) fn has_submitted(&self, number: u64, slot: CommandSlot) {
        let mut state = self.state.lock();
        state.last = number;
        state.in_flight.push_back(InFlight { number, slot, waiters: 0 });
    }

    /// Returns a command buffer to record, and the timeline semaphore if there is one.
    pub(super) fn slot(
        &self,
        device: &LogicalDevice,
    ) -> Result<(CommandSlot, vk::Semaphore, Use<'_>), CallError> {
        let mut state = self.state.lock();
        if let Some(functions) = &self.timeline
            && state.timeline == vk::Semaphore::null()
        {
            state.timeline = create_timeline(device, functions, state.last)?;
        }
        let semaphore = state.timeline;
        if state.free.is_empty() {
            // Without waits no slot has been freed yet. If the query fails, a new one is created.
            let _ = self.poll(device, &mut state);
            destroy_all(device, state.retire());
        }
        let kept = state.free.pop();
        let in_use = Use::begin(self, state);
        let slot = match kept {
            Some(slot) => match slot.reset(device) {
                Ok(()) => slot,
                Err(error) => {
                    slot.destroy(device);
                    return Err(error);
                }
            },
            None => CommandSlot::new(device, self.family_index, self.timeline.is_none())?,
        };
        Ok((slot, semaphore, in_use))
    }

    /// Submits a recorded command buffer. The owner's lock is held.
    fn submit_slot(
        &self,
        device: &LogicalDevice,
        slot: CommandSlot,
        semaphore: vk::Semaphore,
    ) -> Result<u64, CallError> {
        let on_queue = self.on_queue.lock();
        let number = self.next_number();
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .signal_semaphore_values(slice::from_ref(&number));
        let mut submit = vk::SubmitInfo::default().command_buffers(slice::from_ref(&slot.buffer));
        if semaphore != vk::Semaphore::null() {
            submit = submit.signal_semaphores(slice::from_ref(&semaphore)).push_next(&mut values);
        }
        let functions = &device.functions;
        // SAFETY: the command buffer is executable, the fence null or unsignalled, the number greater than
        // all before, and no other thread uses the queue.
        let submitted = unsafe { (functions.queue_submit)(self.queue, 1, &submit, slot.fence) };
        if let Err(error) = answered("vkQueueSubmit", submitted) {
            if error.result == DeviceError::DeviceLost {
                // SAFETY: no other thread uses the queue. `VK_ERROR_DEVICE_LOST` is the only error after
                // which the commands may run.
                let _ = unsafe { (functions.queue_wait_idle)(self.queue) };
            }
            drop(on_queue);
            slot.destroy(device);
            return Err(error);
        }
        self.has_submitted(number, slot);
        Ok(number)
    }

    /// Implements [`Driver::wait`](crate::Driver::wait).
    pub(crate) fn wait(
        &self,
        device: &LogicalDevice,
        submission: Submission,
        timeout_ns: u64,
    ) -> Result<bool, CallError> {
        let number = submission.0;
        let mut state = self.state.lock();
        if let Some(outcome) = state.outcome(number) {
            return outcome.map(|()| true);
        }
        assert!(number <= state.last, "a submission of another device");
        let signal = if self.timeline.is_some() {
            Signal::Timeline(state.timeline)
        } else {
            let later = state.in_flight.iter_mut().find(|it| it.number >= number);
            let later = later.expect("what has not ended is in flight");
            later.waiters += 1;
            Signal::Fence(later.slot.fence, later.number)
        };
        let in_use = Use::begin(self, state);
        let ended = self.wait_for(device, signal, number, timeout_ns);
        if ended.is_err() {
            self.drain(device, signal, number, ended);
        }
        let mut state = self.state.lock();
        let mut reached = number;
        if let Signal::Fence(_, of) = signal {
            reached = of;
            if let Some(waited) = state.in_flight.iter_mut().find(|it| it.number == of) {
                waited.waiters -= 1;
            }
        }
        if ended == Ok(true) {
            state.has_ended(reached);
        }
        let surplus = state.retire();
        drop(state);
        destroy_all(device, surplus);
        drop(in_use);
        ended
    }

    /// Waits until a signal is set, for at most a time; returns whether it is set.
    fn wait_for(
        &self,
        device: &LogicalDevice,
        signal: Signal,
        number: u64,
        timeout_ns: u64,
    ) -> Result<bool, CallError> {
        let (call, result) = match (signal, &self.timeline) {
            (Signal::Timeline(semaphore), Some(functions)) => {
                let info = vk::SemaphoreWaitInfo::default()
                    .semaphores(slice::from_ref(&semaphore))
                    .values(slice::from_ref(&number));
                // SAFETY: the semaphore is live while it is in use.
                let waited =
                    unsafe { (functions.waits.wait_semaphores)(device.handle, &info, timeout_ns) };
                ("vkWaitSemaphores", waited)
            }
            (Signal::Fence(fence, _), _) => {
                let wait = device.functions.wait_for_fences;
                // SAFETY: the fence is submitted, and neither reset nor destroyed while it has waiters.
                let waited = unsafe { wait(device.handle, 1, &fence, vk::TRUE, timeout_ns) };
                ("vkWaitForFences", waited)
            }
            (Signal::Timeline(_), None) => return Ok(false),
        };
        if result == vk::Result::TIMEOUT {
            return Ok(false);
        }
        answered(call, result).map(|()| true)
    }

    /// Waits for the queue after a wait that failed: the submissions may still run, and the caller is about
    /// to destroy their resources.
    fn drain(
        &self,
        device: &LogicalDevice,
        signal: Signal,
        number: u64,
        failed: Result<bool, CallError>,
    ) {
        let Err(error) = failed else { return };
        if self.lock_owner().is_err() {
            // The queue must not be used. Waiting once more is all that is left.
            if self.wait_for(device, signal, number, u64::MAX) == Ok(true) {
                self.state.lock().has_ended(number);
            }
            return;
        }
        let on_queue = self.on_queue.lock();
        // SAFETY: no other thread uses the queue.
        let idle = unsafe { (device.functions.queue_wait_idle)(self.queue) };
        let mut state = self.state.lock();
        let last = state.last;
        if idle != vk::Result::SUCCESS {
            // The device is lost: then all its objects may be destroyed.
            state.lost = Some(Lost { after: state.done, up_to: last, error });
        }
        state.has_ended(last);
        drop(state);
        drop(on_queue);
        // The first error is the one to return.
        let _ = self.unlock_owner();
    }

    /// Implements [`Driver::is_done`](crate::Driver::is_done).
    pub(crate) fn is_done(
        &self,
        device: &LogicalDevice,
        submission: Submission,
    ) -> Result<bool, CallError> {
        let mut state = self.state.lock();
        if state.outcome(submission.0).is_none() {
            self.poll(device, &mut state)?;
            destroy_all(device, state.retire());
        }
        state.outcome(submission.0).transpose().map(|ended| ended.is_some())
    }

    /// Queries how far the device has come.
    fn poll(&self, device: &LogicalDevice, state: &mut State) -> Result<(), CallError> {
        if let Some(functions) = &self.timeline {
            let mut number = 0;
            let get = functions.waits.get_semaphore_counter_value;
            if state.timeline != vk::Semaphore::null() {
                // SAFETY: the semaphore is live: it is destroyed under the lock of the state.
                let got = unsafe { get(device.handle, state.timeline, &mut number) };
                answered("vkGetSemaphoreCounterValue", got)?;
            }
            // Some drivers report the maximum when the device is lost.
            state.has_ended(number.min(state.last));
            return Ok(());
        }
        for index in 0..state.in_flight.len() {
            let InFlight { number, slot, .. } = &state.in_flight[index];
            let number = *number;
            // SAFETY: the fence is live.
            let status = unsafe { (device.functions.get_fence_status)(device.handle, slot.fence) };
            if status == vk::Result::NOT_READY {
                break;
            }
            answered("vkGetFenceStatus", status)?;
            state.has_ended(number);
        }
        Ok(())
    }

    /// Implements [`Driver::release_submissions`](crate::Driver::release_submissions).
    ///
    /// # Safety
    /// The device is the queue's, and live.
    pub(crate) unsafe fn release(&self, device: &LogicalDevice) {
        let mut state = self.state.lock();
        if !state.in_flight.is_empty() {
            let last = Submission(state.last);
            drop(state);
            while self.wait(device, last, u64::MAX) == Ok(false) {}
            state = self.state.lock();
        }
        let mut slots = state.retire();
        slots.append(&mut state.free);
        let mut timeline = vk::Semaphore::null();
        // Otherwise another thread submits or waits, and keeps the semaphore. Waiting for it could deadlock:
        // it may need the owner's lock, which the caller may hold.
        if state.users == 0 && state.in_flight.is_empty() {
            timeline = mem::take(&mut state.timeline);
        }
        drop(state);
        destroy_all(device, slots);
        if let Some(functions) = &self.timeline {
            let destroy = functions.semaphores.destroy_semaphore;
            // SAFETY: created here or null, and not in use: it was taken out while there were no users.
            unsafe { destroy(device.handle, timeline, device.callbacks()) };
        }
    }
}
