//! Downloads in pieces: the device copies later ones into the ring while threads copy earlier ones out.

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::sync::Arc;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use crate::allocator::DeviceAllocator;
use crate::driver::submission::Submission;
use crate::host::copy::Target;
use crate::transfer::batch::BufferPart;
use crate::transfer::engine::{Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::lane::SLICE;
use crate::transfer::pieces::{Between, TransferCall};
use crate::transfer::ring::SegmentState;
use crate::transfer::staging::TransferDirection;
use crate::transfer::workers::{Pieces, threads};

/// How long a thread asks whether a submission has ended before it waits in the driver, which may wake it up a
/// millisecond late: a device needs a tenth of this for a piece.
const ASK: Duration = Duration::from_millis(1);
/// How often it asks before other threads may run: on a busy machine that takes longer than a small transfer.
const AT_FIRST: u32 = 100;

/// A download that several threads carry out.
struct Large<'a> {
    allocator: &'a DeviceAllocator,
    job: &'a Arc<Job>,
    part: BufferPart,
    target: usize,
    pieces: Pieces,
    /// Bytes of the ring that it may use: the rest stays for what others copy meanwhile.
    limit: u64,
    /// How many pieces each thread has on their way.
    ahead: usize,
}

impl TransferEngine {
    /// Copies a buffer to the host. What fits into half of the ring is on its way when this returns, and is
    /// copied out when the job is waited for; of more all but the end has arrived.
    ///
    /// # Errors
    /// `Interrupted` alone.
    ///
    /// # Safety
    /// `target` is valid for as many bytes as the job has, until that has ended.
    pub unsafe fn download(
        &self,
        call: &TransferCall<'_>,
        target: usize,
        kind: Target,
    ) -> Result<(), Stopped> {
        let TransferCall { allocator, job, part, .. } = *call;
        let (size, ring) = (job.size, self.ring_size());
        let cut = self.cut(size, 1);
        if size <= ring / 2 {
            let ended = self.pieces(call, cut, 1, &|batch, from, length, pause| {
                let down = TransferDirection::Download;
                let place = self.reserve(allocator, down, length, cut.limit, pause)?;
                self.download_piece(allocator, job, batch, part, from, length, place, target);
                Ok(())
            });
            return self.end(job, ended);
        }
        // Pieces begin at page boundaries of the target, of huge pages where they are as large: no two threads
        // wait for one page to be cleared, and each finds what was cleared for it in its cache.
        let piece = 1 << cut.piece.ilog2();
        let (threads, limit) = (threads(size, kind), ring / 4 * 3);
        let ahead = usize::try_from(limit / piece).unwrap_or(usize::MAX) / threads;
        let pieces = Pieces::new(size, piece, target as u64);
        let ahead = ahead.max(1);
        let large = Large { allocator, job, part, target, pieces, limit, ahead };
        if let Some(batch) = call.batch {
            // What it holds was asked for before this.
            self.flush_batch(allocator, batch);
        }
        let ended = large.pieces.run(threads, call.pause, call.between, &|pause, between| {
            let batch = self.open_batch();
            let copied = self.download_pieces(&large, batch, pause, between);
            self.close_batch(allocator, batch);
            copied
        });
        self.end(job, ended)
    }

    /// What each thread does: it has some pieces on their way, so that the device need not wait while the
    /// thread copies one out.
    fn download_pieces(
        &self,
        large: &Large<'_>,
        batch: u64,
        pause: Pause<'_>,
        between: Between<'_>,
    ) -> Result<(), Stopped> {
        let Large { allocator, job, part, .. } = *large;
        let mut on_their_way = VecDeque::with_capacity(large.ahead);
        let mut taken = None;
        while !large.pieces.is_stopped() {
            while on_their_way.len() < large.ahead {
                taken = taken.or_else(|| large.pieces.take());
                let Some((from, size)) = taken else { break };
                let place = match self.down.reserve(size, large.limit) {
                    Ok(place) => place,
                    // Its own oldest piece comes first.
                    Err(_) if !on_their_way.is_empty() => break,
                    Err(_) => {
                        let down = TransferDirection::Download;
                        self.reserve(allocator, down, size, large.limit, pause)?
                    }
                };
                on_their_way.push_back((place.0.number, size));
                self.download_piece(allocator, job, batch, part, from, size, place, large.target);
                self.flush_batch(allocator, batch);
                taken = None;
            }
            let Some((number, size)) = on_their_way.pop_front() else { break };
            self.finish_piece(allocator, number, pause)?;
            large.pieces.done(size, between)?;
            if job.has_failed() {
                large.pieces.stop();
            }
        }
        Ok(())
    }

    /// Waits for one piece of a download, and copies it out unless another thread does.
    pub(super) fn finish_piece(
        &self,
        allocator: &DeviceAllocator,
        number: u64,
        pause: Pause<'_>,
    ) -> Result<(), Stopped> {
        loop {
            match self.down.state(number) {
                Some(SegmentState::Submitted(submission)) => {
                    self.ask_for(allocator, submission);
                    match self.wait_for(allocator, submission, SLICE) {
                        Ok(true) => {
                            self.copy_out(allocator, number);
                            return Ok(());
                        }
                        Ok(false) => {}
                        Err(error) => {
                            self.drop_segment(number, error);
                            return Err(Stopped::Failed(error.into()));
                        }
                    }
                }
                // Another thread submits it right now.
                Some(SegmentState::Recorded(_)) => {
                    self.down.wait_for_change(Duration::from_millis(1));
                }
                Some(SegmentState::Held | SegmentState::Free) | None => return Ok(()),
            }
            if pause() {
                return Err(Stopped::Interrupted);
            }
        }
    }

    /// Copies segments out that have arrived, or do so soon, up to the first one that does not.
    pub(super) fn copy_arrived_out(
        &self,
        allocator: &DeviceAllocator,
        job: &Job,
        segments: &[u64],
    ) {
        if segments.is_empty() {
            return;
        }
        let pieces = Pieces::new(segments.len() as u64, 1, 0);
        let threads = threads(job.size, Target::New).min(segments.len());
        let copied = pieces.run(threads, &|| false, &|_| false, &|_, _| {
            while let Some((index, _)) = pieces.take() {
                let number = segments[index as usize];
                let Some(SegmentState::Submitted(submission)) = self.down.state(number) else {
                    continue;
                };
                self.ask_for(allocator, submission);
                match self.wait_for(allocator, submission, Duration::ZERO) {
                    Ok(true) => self.copy_out(allocator, number),
                    // Left to the caller, who waits for it.
                    Ok(false) | Err(_) => pieces.stop(),
                }
            }
            Ok(())
        });
        debug_assert_eq!(copied, Ok(()), "nothing here can fail");
    }

    /// Asks for a while whether a submission has ended.
    pub(super) fn ask_for(&self, allocator: &DeviceAllocator, submission: Submission) {
        for _ in 0..AT_FIRST {
            if self.is_done(allocator, submission) {
                return;
            }
            spin_loop();
        }
        let until = Instant::now() + ASK;
        while !self.is_done(allocator, submission) && Instant::now() < until {
            yield_now();
        }
    }
}
