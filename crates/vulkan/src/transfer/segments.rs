//! Segments of the rings: room for a piece of a buffer's transfer, and its copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::allocator::DeviceAllocator;
use crate::driver::submission::Submission;
use crate::transfer::engine::{Fill, Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::lane::{CopyOut, CopyTo, SLICE};
use crate::transfer::ring::{Place, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};
use crate::transfer::uses::BufferPart;

impl TransferEngine {
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
}
