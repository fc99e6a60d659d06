//! The engine of transfers: rings, batches, and what waits for them. Nothing of it knows of Python, and no
//! lock is held through a copy, a submission or a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vkmem_engine::lock::{Condvar, Mutex, rank};
use vkmem_engine::{CallError, Error};

use crate::allocator::DeviceAllocator;
pub use crate::driver::stopped::{Pause, Stopped};
use crate::driver::submission::{Submission, TransferCommand};
use crate::transfer::batch::{Batch, Part};
use crate::transfer::batch_images::ImagesInFlight;
use crate::transfer::batches::{Batches, First};
use crate::transfer::image::{ImagePart, MipChain};
use crate::transfer::job::Job;
use crate::transfer::lane::Lane;
use crate::transfer::queue_choice::QueueChoice;
use crate::transfer::region::Piece;
use crate::transfer::ring::SegmentState;
use crate::transfer::staging::TransferDirection;
use crate::transfer::uses::BufferPart;
use crate::transfer::uses::Use;

/// A batch is submitted when it has so many bytes, or a quarter of the ring.
const BATCH: u64 = 16 << 20;

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
pub(super) struct Lost {
    pub(super) after: u64,
    pub(super) up_to: u64,
    pub(super) error: CallError,
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
    pub(super) done: AtomicU64,
    pub(super) last: AtomicU64,
    pub(super) lost: Mutex<Option<Lost>, rank::TransfersLost>,
    pub(super) images: Mutex<ImagesInFlight, rank::TransferImages>,
    submits: AtomicU64,
    on_transfer_queue: AtomicU64,
    pub(super) waits: AtomicU64,
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
    pub(super) fn record(
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
