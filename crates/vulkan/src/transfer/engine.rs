//! The engine of transfers: rings, batches, and what waits for them. Nothing of it knows of Python, and no
//! lock is held through a copy, a submission or a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vkmem_engine::lock::{Condvar, Mutex, rank};
use vkmem_engine::{CallError, Error};

use crate::allocator::DeviceAllocator;
use crate::driver::submission::{Submission, TransferCommand};
use crate::transfer::batch::{Batch, Part};
use crate::transfer::batch_images::ImagesInFlight;
use crate::transfer::batches::{Batches, First};
use crate::transfer::image::{ImagePart, MipChain};
use crate::transfer::job::{Job, Progress};
use crate::transfer::lane::{CopyOut, CopyTo, Lane, SLICE};
use crate::transfer::queue_choice::QueueChoice;
use crate::transfer::region::Piece;
use crate::transfer::ring::{Place, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};
use crate::transfer::uses::BufferPart;
use crate::transfer::uses::Use;

/// A batch is submitted when it has so many bytes, or a quarter of the ring.
const BATCH: u64 = 16 << 20;

/// Why a call did not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The caller wanted it.
    Interrupted,
    /// A call of the driver failed.
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Asked about every 50 ms while a call waits: whether it shall stop.
pub type Pause<'a> = &'a dyn Fn() -> bool;

/// Called by the caller's own thread between pieces with the bytes that are done: whether to stop.
pub type Between<'a> = &'a dyn Fn(u64) -> bool;

/// Copies bytes of the source from an offset on, so many, to an address.
pub type Fill<'a> = dyn Fn(u64, usize, usize) -> Result<(), Stopped> + Sync + 'a;

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// `vkQueueSubmit`s: three for each submission to the transfer queue.
    pub submits: u64,
    /// Submissions to the transfer queue.
    pub on_transfer_queue: u64,
    /// How often a ring was full, and a call waited for its oldest segment.
    pub waits: u64,
    /// Bytes of the rings that were made.
    pub ring_bytes: u64,
}

/// Submissions that the loss of the device took with it.
#[derive(Clone, Copy)]
struct Lost {
    after: u64,
    up_to: u64,
    error: CallError,
}

/// See the module.
pub struct TransferEngine {
    ring_size: u64,
    queue: QueueChoice,
    pub(super) up: Lane,
    pub(super) down: Lane,
    batches: Mutex<Batches, rank::TransferBatches>,
    /// Notified when a batch was submitted.
    submitted: Condvar,
    next_batch: AtomicU64,
    /// The newest submission that has ended, as far as is known, and the newest of all.
    done: AtomicU64,
    last: AtomicU64,
    lost: Mutex<Option<Lost>, rank::TransfersLost>,
    images: Mutex<ImagesInFlight, rank::TransferImages>,
    submits: AtomicU64,
    on_transfer_queue: AtomicU64,
    waits: AtomicU64,
}

impl TransferEngine {
    /// With rings of so many bytes each, which are made when they are first needed.
    pub fn new(ring_size: u64) -> Self {
        Self::on(ring_size, QueueChoice::default())
    }

    /// With rings of so many bytes each, on a queue.
    pub fn on(ring_size: u64, queue: QueueChoice) -> Self {
        Self {
            ring_size,
            queue,
            up: Lane::new(TransferDirection::Upload, ring_size),
            down: Lane::new(TransferDirection::Download, ring_size),
            batches: Mutex::default(),
            submitted: Condvar::default(),
            next_batch: AtomicU64::new(1),
            done: AtomicU64::new(0),
            last: AtomicU64::new(0),
            lost: Mutex::new(None),
            images: Mutex::default(),
            submits: AtomicU64::new(0),
            on_transfer_queue: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }

    /// Bytes of one ring.
    pub fn ring_size(&self) -> u64 {
        self.ring_size
    }

    /// What was done so far.
    pub fn counts(&self) -> TransferCounts {
        let made = |lane: &Lane| lane.staging().map_or(0, |_| self.ring_size);
        TransferCounts {
            submits: self.submits.load(Ordering::Relaxed),
            on_transfer_queue: self.on_transfer_queue.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            ring_bytes: made(&self.up) + made(&self.down),
        }
    }

    /// Which queue its transfers run on.
    pub fn queue(&self) -> QueueChoice {
        self.queue
    }

    pub(super) fn lane(&self, direction: TransferDirection) -> &Lane {
        match direction {
            TransferDirection::Upload => &self.up,
            TransferDirection::Download => &self.down,
        }
    }

    // Batches.

    /// Begins to gather commands.
    pub fn open_batch(&self) -> u64 {
        let number = self.next_batch.fetch_add(1, Ordering::Relaxed);
        self.batches.lock().open(number);
        number
    }

    /// Submits what was gathered so far; the batch stays open. False if there was nothing to submit.
    pub fn flush_batch(&self, allocator: &DeviceAllocator, number: u64) -> bool {
        let batch = self.batches.lock().take(number);
        let is_some = batch.is_some();
        self.submit(allocator, batch);
        is_some
    }

    /// Submits what was gathered, and ends the batch.
    pub fn close_batch(&self, allocator: &DeviceAllocator, number: u64) {
        let batch = self.batches.lock().close(number);
        self.submit(allocator, batch);
    }

    /// Submits what all open batches have gathered.
    pub fn flush(&self, allocator: &DeviceAllocator) {
        let numbers = self.batches.lock().numbers();
        for number in numbers {
            self.flush_batch(allocator, number);
        }
    }

    fn submit(&self, allocator: &DeviceAllocator, batch: Option<Arc<Batch>>) {
        let Some(batch) = batch else { return };
        let driver = &**allocator.driver();
        let mut is_second = false;
        let submit = |commands: &[TransferCommand]| {
            let exclusive = self.queue.exclusive_of(driver, &batch, commands);
            is_second = exclusive.is_some();
            // SAFETY: the callers of `upload` and `download` vouch for their buffers until the jobs have ended,
            // and the rings stay until no segment is in use.
            unsafe {
                match exclusive {
                    Some(exclusive) => driver.submit_to_transfer_queue(commands, &exclusive),
                    None => driver.submit(commands),
                }
            }
        };
        let outcome = batch.submit(submit);
        if let Ok(submission) = outcome
            && batch.has_images()
        {
            let done = Submission(self.done.load(Ordering::Acquire));
            self.images.lock().add(submission, &batch, done);
            let lost = *self.lost.lock();
            if let Some(lost) = lost
                && submission.0 <= lost.up_to
            {
                self.images.lock().lose(Submission(lost.after));
            }
        }
        {
            let mut batches = self.batches.lock();
            batches.left(&batch);
            self.submitted.notify_all();
        }
        let state = match &outcome {
            Ok(submission) => {
                self.submits.fetch_add(if is_second { 3 } else { 1 }, Ordering::Relaxed);
                self.on_transfer_queue.fetch_add(is_second.into(), Ordering::Relaxed);
                self.last.fetch_max(submission.0, Ordering::AcqRel);
                SegmentState::Submitted(*submission)
            }
            Err(_) => SegmentState::Free,
        };
        for lane in [&self.up, &self.down] {
            let segments = batch.parts.iter().filter_map(|part| part.segment);
            let mut here =
                segments.filter(|(direction, _)| *direction == lane.direction).peekable();
            if here.peek().is_some() {
                lane.set(here.map(|(_, number)| number), state);
            }
        }
        for Part { job, segment } in &batch.parts {
            if let (Err(_), Some((TransferDirection::Download, number))) = (&outcome, segment)
                && job.claim(*number)
            {
                job.copied_out(Ok(()));
            }
            job.submitted(1, &outcome);
        }
        if let Some(room) = Arc::into_inner(batch).map(Batch::into_room) {
            self.batches.lock().keep_room(room);
        }
    }

    /// Adds one copy to a batch. Beyond a number of bytes it is submitted.
    #[allow(clippy::too_many_arguments, reason = "one place for both directions")]
    fn record(
        &self,
        allocator: &DeviceAllocator,
        number: u64,
        job: &Arc<Job>,
        host: BufferPart,
        part: BufferPart,
        size: u64,
        segment: Option<(TransferDirection, u64)>,
        writes: bool,
    ) {
        let of = Use::of_buffer(part.buffer, part.offset, size, writes);
        // A host's side that may be shared is the pages of an array.
        let uses = std::iter::once((of, part.is_shared || host.is_shared));
        self.record_all(allocator, number, Part { job: job.clone(), segment }, uses, |batch| {
            batch.copy(host, part, size, writes);
        });
    }

    /// Adds the copy of a piece of an image to a batch.
    #[allow(clippy::too_many_arguments, reason = "one place for both directions")]
    pub(super) fn record_texels(
        &self,
        allocator: &DeviceAllocator,
        number: u64,
        job: &Arc<Job>,
        host: BufferPart,
        part: &ImagePart,
        piece: &Piece,
        segment: (TransferDirection, u64),
    ) {
        let uses = std::iter::once((Use::of_image(part.image.image), part.image.is_shared));
        let writes = segment.0 == TransferDirection::Upload;
        let whose = Part { job: job.clone(), segment: Some(segment) };
        self.record_all(allocator, number, whose, uses, |batch| {
            batch.copy_image(host, part, piece, job, writes);
        });
    }

    /// Adds the blits of a chain of mip levels to a batch.
    pub(super) fn record_mips(
        &self,
        allocator: &DeviceAllocator,
        number: u64,
        job: &Arc<Job>,
        chain: &MipChain,
    ) {
        let uses = std::iter::once((Use::of_image(chain.image.image), chain.image.is_shared));
        let whose = Part { job: job.clone(), segment: None };
        self.record_all(allocator, number, whose, uses, |batch| batch.make_mips(chain));
    }

    /// Adds the commands of one part of a transfer to a batch, once what other batches have recorded of the
    /// same bytes is submitted. `uses` are what they use, and whether its memory may be that of another
    /// resource as well. Beyond a number of bytes the batch is submitted.
    pub(super) fn record_all(
        &self,
        allocator: &DeviceAllocator,
        number: u64,
        part: Part,
        uses: impl Iterator<Item = (Use, bool)> + Clone,
        record: impl FnOnce(&mut Batch),
    ) {
        let mut batches = self.batches.lock();
        loop {
            match batches.first(number, &part.job, uses.clone()) {
                First::Nothing => break,
                First::Leaving => self.submitted.wait(&mut batches),
                First::Batch(other) => {
                    drop(batches);
                    self.flush_batch(allocator, other);
                    batches = self.batches.lock();
                }
            }
        }
        let batch = batches.get(number);
        record(batch);
        batch.parts.push(part);
        let is_full = batch.bytes >= self.most_of_a_batch();
        let full = if is_full { batches.take(number) } else { None };
        drop(batches);
        self.submit(allocator, full);
    }

    /// Bytes beyond which a batch is submitted.
    pub(super) fn most_of_a_batch(&self) -> u64 {
        BATCH.min(self.ring_size / 4)
    }

    // Waiting.

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

    /// Takes a segment; waits for the oldest one where the ring is full.
    pub(super) fn reserve(
        &self,
        allocator: &DeviceAllocator,
        direction: TransferDirection,
        size: u64,
        limit: u64,
        pause: Pause<'_>,
    ) -> Result<(Place, Staging), Stopped> {
        let lane = self.lane(direction);
        if direction == TransferDirection::Upload {
            // What was used last is in the caches still.
            lane.free_up_to(Submission(self.done.load(Ordering::Acquire)));
        }
        let mut has_waited = false;
        loop {
            let oldest = match lane.reserve(size, limit) {
                Ok(taken) => return Ok(taken),
                Err(oldest) => oldest,
            };
            match oldest {
                None => {
                    lane.make(allocator)?;
                    continue;
                }
                Some((number, SegmentState::Submitted(submission))) => {
                    if !has_waited {
                        self.waits.fetch_add(1, Ordering::Relaxed);
                    }
                    has_waited = true;
                    self.ask_for(allocator, submission);
                    let ended = self.wait_for(allocator, submission, SLICE);
                    match (direction, ended) {
                        (_, Ok(false)) => {}
                        // After an error nothing runs any more either.
                        (TransferDirection::Upload, _) => lane.free_up_to(submission),
                        (TransferDirection::Download, Ok(true)) => {
                            self.copy_out(allocator, number);
                        }
                        (TransferDirection::Download, Err(error)) => {
                            self.drop_segment(number, error);
                        }
                    }
                }
                Some((_, SegmentState::Recorded(batch))) => {
                    if !self.flush_batch(allocator, batch) {
                        lane.wait_for_change(Duration::from_millis(1));
                    }
                }
                Some((_, SegmentState::Held | SegmentState::Free)) => lane.wait_for_change(SLICE),
            }
            if pause() {
                return Err(Stopped::Interrupted);
            }
        }
    }

    // Pieces.

    /// Brings one piece into the ring, and its copy into a batch.
    #[allow(clippy::too_many_arguments, reason = "what a piece is")]
    pub(super) fn upload_piece(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        to: BufferPart,
        from: u64,
        size: u64,
        limit: u64,
        fill: &Fill<'_>,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        let up = TransferDirection::Upload;
        let (place, staging) = self.reserve(allocator, up, size, limit, pause)?;
        allocator.driver().host_access(staging.range(place.offset, size), true);
        let address = staging.address() + place.offset as usize;
        let filled = fill(from, size as usize, address)
            .and_then(|()| Ok(staging.flush(allocator, place.offset, size)?));
        if let Err(stopped) = filled {
            self.up.set([place.number].into_iter(), SegmentState::Free);
            return Err(stopped);
        }
        job.recorded(batch, None);
        self.up.recorded(place.number, batch, None);
        let host = staging.part(place.offset);
        let part = BufferPart { offset: to.offset + from, ..to };
        self.record(allocator, batch, job, host, part, size, Some((up, place.number)), true);
        Ok(())
    }

    /// Records the copy of one piece into a segment of the ring; it is copied on to `target` once it is there.
    #[allow(clippy::too_many_arguments, reason = "what a piece is")]
    pub(super) fn download_piece(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        from: BufferPart,
        start: u64,
        size: u64,
        (place, staging): (Place, Staging),
        target: usize,
    ) {
        let target = target + start as usize;
        let to = CopyTo::Address(target);
        let then = CopyOut { job: job.clone(), to, offset: place.offset, size };
        job.recorded(batch, Some(place.number));
        self.down.recorded(place.number, batch, Some(then));
        let host = staging.part(place.offset);
        let part = BufferPart { offset: from.offset + start, ..from };
        let segment = Some((TransferDirection::Download, place.number));
        self.record(allocator, batch, job, host, part, size, segment, false);
    }

    /// Records a copy between two buffers of the caller's, as one of an array's own pages is; `writes` says
    /// that it goes from `host` to `part`.
    #[allow(clippy::too_many_arguments, reason = "what a copy is")]
    pub fn copy_whole(
        &self,
        allocator: &DeviceAllocator,
        job: &Arc<Job>,
        batch: u64,
        host: BufferPart,
        part: BufferPart,
        writes: bool,
    ) {
        job.recorded(batch, None);
        // What the host's buffer holds may be part of another transfer of the batch.
        let host = BufferPart { is_shared: true, ..host };
        let shared = BufferPart { is_shared: true, ..part };
        self.record(allocator, batch, job, host, shared, job.size, None, writes);
        job.close();
    }

    /// Ends a job that nothing was done of, as the call was interrupted before.
    pub fn give_up(&self, job: &Job) {
        job.fail(Error::InvalidArgument("the transfer was interrupted".into()));
        job.device_is_done(Ok(()));
        job.close();
    }

    /// Ends a job that the host alone has done.
    pub fn done_by_host(&self, job: &Job, outcome: Result<(), Error>) {
        job.device_is_done(outcome);
        job.close();
    }

    /// Gives the memory of the rings back. False, and nothing, while a transfer is in flight.
    ///
    /// # Safety
    /// Jobs that have ended are known to have; the device is live.
    pub unsafe fn release(&self, allocator: &DeviceAllocator) -> bool {
        self.flush(allocator);
        let mut all = true;
        for lane in [&self.up, &self.down] {
            let done = Submission(self.done.load(Ordering::Acquire));
            if lane.direction == TransferDirection::Upload {
                let last = Submission(self.last.load(Ordering::Acquire));
                if self.is_done(allocator, last) {
                    lane.free_up_to(last);
                } else {
                    lane.free_up_to(done);
                }
            }
            let made = lane.staging().is_some();
            match lane.take() {
                // SAFETY: no segment is in use.
                Some(staging) => unsafe { staging.destroy(allocator) },
                None => all &= !made,
            }
        }
        all
    }
}
