//! The queue of a simulated device: when submissions are executed.

use std::time::{Duration, Instant};

use std::sync::Arc;

use vkmem_engine::words::bytes;
use vkmem_engine::{
    Call, CallError, DeviceError, Finding, MemoryRange, VALIDATION_FAILED, ViolationKind,
};

use crate::driver::submission::{QueueLock, Submission, TransferCommand};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::intersection;
use crate::simulated::pending::{Completion, Pending, State};
use crate::simulated::transfer::LastCopy;
use crate::simulated::unordered::Side;
use crate::simulated::work::{Piece, Work};

impl SimulatedDriver {
    /// Gives the queue an owner with a lock, as that of a wrapped device.
    #[must_use]
    pub fn with_queue_lock(mut self, lock: Option<Arc<dyn QueueLock>>) -> Self {
        self.owners_lock = lock;
        self
    }

    /// Submits commands of the owner of the queue, who holds its lock if there is one, between two barriers.
    ///
    /// # Errors
    /// Those of [`Driver::submit`](crate::Driver::submit).
    pub fn submit_as_owner(&self, commands: &[TransferCommand]) -> Result<Submission, CallError> {
        self.submit_commands(commands)
    }

    /// Submits a command buffer of the program to a queue: what orders its commands is in it.
    ///
    /// # Errors
    /// Those of [`Driver::submit`](crate::Driver::submit).
    pub(super) fn submit_recorded(
        &self,
        commands: &[TransferCommand],
        side: Side,
    ) -> Result<Submission, CallError> {
        self.device.enter(Call::Submit).map_err(|error| self.failed(error))?;
        self.submit_entered(commands, Some(side))
    }

    /// Returns the error of a submission, which says that the device is lost if it is.
    fn failed(&self, error: DeviceError) -> CallError {
        self.faults.told(error);
        error.of(Call::Submit.name())
    }

    /// Submits under the lock of the owner of the queue.
    pub(super) fn under_owners_lock(
        &self,
        submit: impl FnOnce() -> Result<Submission, CallError>,
    ) -> Result<Submission, CallError> {
        let Some(lock) = &self.owners_lock else { return submit() };
        lock.lock()?;
        let submitted = submit();
        let unlocked = lock.unlock();
        let submission = submitted?;
        if unlocked.is_err() {
            // The caller does not get the number, so it cannot wait.
            while !self.wait_for(submission, u64::MAX).unwrap_or(true) {}
        }
        unlocked.map(|()| submission)
    }

    /// Sets when later submissions are executed. `AtOnce` executes pending ones now, too.
    pub fn set_completion(&self, completion: Completion) {
        let mut state = self.submissions.state.lock();
        state.completion = completion;
        if completion == Completion::AtOnce {
            self.execute_up_to(&mut state, u64::MAX);
        }
    }

    /// Executes the oldest pending submissions; returns their number.
    pub fn complete_submissions(&self, count: usize) -> usize {
        let mut state = self.submissions.state.lock();
        let before = state.pending.len();
        let last = state.pending.iter().take(count).next_back().map_or(0, |it| it.number);
        self.execute_up_to(&mut state, last);
        before - state.pending.len()
    }

    /// Returns the number of pending submissions.
    pub fn pending_submissions(&self) -> usize {
        self.submissions.state.lock().pending.len()
    }

    /// A violation where the host uses memory that a submission, which has not ended, writes, or writes
    /// what such a one reads.
    pub(super) fn check_host_access(&self, range: MemoryRange, writes: bool) {
        if !writes {
            self.check_invalidated(range);
        }
        let state = self.submissions.state.lock();
        for Pending { number, uses, .. } in &state.pending {
            let hit = |(of, is_written): &&(MemoryRange, bool)| {
                of.memory == range.memory
                    && of.offset < range.offset + range.size
                    && range.offset < of.offset + of.size
                    && (writes || *is_written)
            };
            let Some((of, is_written)) = uses.iter().find(hit) else { continue };
            let host = if writes { "writes" } else { "reads" };
            let device = if *is_written { "writes" } else { "reads" };
            let what = format!(
                "the host {host} {} at offset {} of memory {:#x}, of which submission {number}, which \
                 has not ended, {device} {} at offset {}",
                bytes(range.size),
                range.offset,
                range.memory.0,
                bytes(of.size),
                of.offset
            );
            let found = Finding::new(ViolationKind::InUse, what).at(intersection(&range, of));
            let user = format!("submission {number}, which {device} there");
            self.device.report(Call::Submit, found.with(user));
            return;
        }
    }

    /// Returns the memory that commands use, and whether they write it. Blits are left out: the host does not
    /// access the memory of images with optimal tiling.
    pub(super) fn memory_of(&self, commands: &[TransferCommand]) -> Vec<(MemoryRange, bool)> {
        let (mut uses, mut last) = (Vec::new(), LastCopy::default());
        // What is invalid is told when the command is executed.
        for plan in commands.iter().filter_map(|command| self.plan(command, &mut last).ok()) {
            match plan.work {
                Work::Fill { memory, offset, size, .. } => {
                    uses.push((MemoryRange { memory, offset, size }, true));
                }
                Work::Copy(pieces) => {
                    for Piece { from, to, size } in pieces {
                        let range = |(memory, offset)| MemoryRange { memory, offset, size };
                        uses.extend([(range(from), false), (range(to), true)]);
                    }
                }
                Work::Clear(rows) => uses.extend(rows.into_iter().map(|it| (it.range, true))),
                Work::Blit(_) | Work::Nothing => {}
            }
        }
        uses
    }

    /// Executes submissions up to a number. Errors in them are violations: for example a resource that was
    /// destroyed too early.
    pub(super) fn execute_up_to(&self, state: &mut State, up_to: u64) {
        while state.pending.front().is_some_and(|it| it.number <= up_to) {
            let Some(Pending { number, commands, .. }) = state.pending.pop_front() else { break };
            self.execute_submission(state, number, &commands);
            state.done = number;
        }
        self.submissions.ended.notify_all();
    }

    pub(super) fn submit_commands(
        &self,
        commands: &[TransferCommand],
    ) -> Result<Submission, CallError> {
        self.device.enter(Call::Submit).map_err(|error| self.failed(error))?;
        self.submit_entered(commands, None)
    }

    /// `recorded_for` is the queue of a command buffer of the program's; other commands lie between two barriers on
    /// the main queue.
    fn submit_entered(
        &self,
        commands: &[TransferCommand],
        recorded_for: Option<Side>,
    ) -> Result<Submission, CallError> {
        if commands.is_empty() {
            return Ok(Submission::NONE);
        }
        let mut state = self.submissions.state.lock();
        self.check_not_lost(Call::Submit.name())?;
        self.check_late(&state.moved, commands);
        state.last += 1;
        let number = state.last;
        self.check_flushed(number, commands);
        let is_ordered = match recorded_for {
            Some(side) => self.check_order(&mut state.unordered, number, commands, side),
            None => {
                state.unordered.barrier(Side::Main);
                true
            }
        };
        if recorded_for == Some(Side::Second) {
            // The program has not changed the owner of anything.
            state.on_second.insert(number, Vec::new());
        }
        if state.completion == Completion::AtOnce {
            let allowed = self.execute_submission(&mut state, number, commands);
            state.done = number;
            let allowed = allowed && is_ordered;
            return if allowed {
                Ok(Submission(number))
            } else {
                Err(self.failed(VALIDATION_FAILED))
            };
        }
        let uses = self.memory_of(commands);
        state.pending.push_back(Pending { number, commands: commands.to_vec(), uses });
        Ok(Submission(number))
    }

    pub(super) fn wait_for(
        &self,
        submission: Submission,
        timeout_ns: u64,
    ) -> Result<bool, CallError> {
        if submission == Submission::NONE {
            return Ok(true);
        }
        let entered = self.device.enter(Call::WaitSemaphores);
        let mut state = self.submissions.state.lock();
        self.check_not_lost(Call::WaitSemaphores.name())?;
        if let Err(error) = entered {
            self.faults.told(error);
            if error == DeviceError::DeviceLost {
                // Nothing runs any more, and none of the commands was executed.
                state.drop_all();
                self.submissions.ended.notify_all();
            } else {
                let last = state.last;
                self.execute_up_to(&mut state, last);
            }
            return Err(error.of(Call::WaitSemaphores.name()));
        }
        if state.completion == Completion::WhenWaited {
            self.execute_up_to(&mut state, submission.0);
        }
        let end = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        while state.done < submission.0 {
            match end {
                Some(end) if !self.submissions.ended.wait_until(&mut state, end) => break,
                Some(_) => {}
                None => self.submissions.ended.wait(&mut state),
            }
        }
        self.check_not_lost(Call::WaitSemaphores.name())?;
        let is_done = state.done >= submission.0;
        if is_done {
            state.unordered.ended(submission.0);
        }
        Ok(is_done)
    }

    pub(super) fn has_ended(&self, submission: Submission) -> bool {
        let mut state = self.submissions.state.lock();
        let is_done = state.done >= submission.0;
        if is_done {
            state.unordered.ended(submission.0);
        }
        is_done
    }

    /// Returns the last submission so far.
    pub fn last_submission(&self) -> Submission {
        Submission(self.submissions.state.lock().last)
    }
}
