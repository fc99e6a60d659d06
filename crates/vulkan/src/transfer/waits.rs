//! Waiting for submissions and transfers, and copying out what has arrived.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vkmem_engine::CallError;

use crate::allocator::DeviceAllocator;
use crate::driver::submission::Submission;
use crate::transfer::engine::{Lost, Pause, Stopped, TransferEngine};
use crate::transfer::job::{Job, Progress};
use crate::transfer::lane::SLICE;
use crate::transfer::ring::SegmentState;

impl TransferEngine {
    /// Whether a submission has ended, without a wait.
    pub(super) fn is_done(&self, allocator: &DeviceAllocator, submission: Submission) -> bool {
        if submission.0 <= self.done.load(Ordering::Acquire) {
            return true;
        }
        // A device that cannot say is asked again by a wait.
        let done = allocator.driver().is_done(submission) == Ok(true);
        if done {
            self.done.fetch_max(submission.0, Ordering::AcqRel);
        }
        done
    }

    /// Waits for a submission; whether it has ended. An error is that of the device: nothing runs any more.
    pub(super) fn wait_for(
        &self,
        allocator: &DeviceAllocator,
        submission: Submission,
        at_most: Duration,
    ) -> Result<bool, CallError> {
        if self.is_done(allocator, submission) {
            return self.lost_error(submission, submission).map_or(Ok(true), Err);
        }
        // What is submitted meanwhile may run on.
        let up_to = self.last.load(Ordering::Acquire).max(submission.0);
        let nanoseconds = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        match allocator.driver().wait(submission, nanoseconds) {
            Ok(true) => {
                self.done.fetch_max(submission.0, Ordering::AcqRel);
                self.lost_error(submission, submission).map_or(Ok(true), Err)
            }
            Ok(false) => Ok(false),
            Err(error) => {
                let after = self.done.load(Ordering::Acquire);
                if error.result == vkmem_engine::DeviceError::DeviceLost {
                    self.lost.lock().get_or_insert(Lost { after, up_to, error });
                    self.images.lock().lose(Submission(after));
                }
                self.done.fetch_max(up_to, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// What took some of the submissions between two with it.
    fn lost_error(&self, first: Submission, last: Submission) -> Option<CallError> {
        let lost = (*self.lost.lock())?;
        (lost.after < last.0 && first.0 <= lost.up_to).then_some(lost.error)
    }

    /// Waits for all submissions of a job, up to `last`; returns whether they have ended.
    fn wait_for_job(
        &self,
        allocator: &DeviceAllocator,
        job: &Job,
        last: Submission,
        at_most: Duration,
    ) -> Result<bool, CallError> {
        let ended = self.wait_for(allocator, last, at_most)?;
        match self.lost_error(job.first(), last) {
            Some(error) if ended => Err(error),
            _ => Ok(ended),
        }
    }

    /// Waits until a job has ended or the time is up; whether it has ended.
    ///
    /// # Errors
    /// `Interrupted` where `pause` wants it.
    pub fn wait(
        &self,
        allocator: &DeviceAllocator,
        job: &Job,
        until: Option<Instant>,
        pause: Pause<'_>,
    ) -> Result<bool, Stopped> {
        loop {
            let left = until.map(|it| it.saturating_duration_since(Instant::now()));
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            match job.progress() {
                Progress::Ended(_) => return Ok(true),
                Progress::Recorded(batch) => {
                    if !self.flush_batch(allocator, batch) {
                        // Another thread submits it right now.
                        self.down.wait_for_change(slice.min(Duration::from_millis(1)));
                    }
                }
                Progress::Busy => {
                    self.down.wait_for_change(slice.min(Duration::from_millis(1)));
                }
                Progress::Running(last, segments) => {
                    // The first parts are copied out while the device copies the others.
                    let first = segments.first().map(|it| self.down.state(*it));
                    let next = match first {
                        Some(Some(SegmentState::Submitted(first))) => first.min(last),
                        _ => last,
                    };
                    if !slice.is_zero() {
                        self.ask_for(allocator, next);
                    }
                    match self.wait_for_job(allocator, job, next, slice) {
                        Ok(false) => {}
                        Ok(true) => {
                            self.copy_arrived_out(allocator, job, &segments);
                            if next == last {
                                job.device_is_done(Ok(()));
                            }
                            continue;
                        }
                        Err(error) => {
                            segments.iter().for_each(|it| self.drop_segment(*it, error));
                            job.device_is_done(Err(error.into()));
                            continue;
                        }
                    }
                }
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(matches!(job.progress(), Progress::Ended(_)));
            }
            if pause() {
                return Err(Stopped::Interrupted);
            }
        }
    }

    /// Whether a job has ended, without a wait; what has arrived of it is copied out.
    pub fn poll(&self, allocator: &DeviceAllocator, job: &Job) -> bool {
        if job.is_known_to_have_ended() {
            return true;
        }
        if let Progress::Running(last, segments) = job.progress()
            && self.is_done(allocator, last)
        {
            match self.lost_error(job.first(), last) {
                None => {
                    self.copy_arrived_out(allocator, job, &segments);
                    job.device_is_done(Ok(()));
                }
                Some(error) => {
                    segments.iter().for_each(|it| self.drop_segment(*it, error));
                    job.device_is_done(Err(error.into()));
                }
            }
        }
        job.is_known_to_have_ended()
    }

    /// Copies a segment of the ring for downloads to where it belongs, and frees it; its submission has
    /// ended. Nothing happens if another thread does it.
    pub(super) fn copy_out(&self, allocator: &DeviceAllocator, number: u64) {
        let Some((out, staging)) = self.down.claim(number) else { return };
        out.job.claim(number);
        let outcome = staging.invalidate(allocator, out.offset, out.size);
        if outcome.is_ok() {
            allocator.driver().host_access(staging.range(out.offset, out.size), false);
            let from = staging.address() + out.offset as usize;
            // SAFETY: the segment is this thread's, and its job waits for it.
            unsafe { out.run(from) };
        }
        self.down.set([number].into_iter(), SegmentState::Free);
        out.job.copied_out(outcome);
    }

    /// Frees a segment whose bytes never came.
    pub(super) fn drop_segment(&self, number: u64, error: CallError) {
        let Some((out, _)) = self.down.claim(number) else { return };
        out.job.claim(number);
        self.down.set([number].into_iter(), SegmentState::Free);
        out.job.copied_out(Err(error.into()));
    }
}
