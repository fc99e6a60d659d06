//! Transfers in pieces: some threads copy while the device does, each from piece to piece.

use std::sync::Arc;

use vkmem_engine::Error;

use crate::allocator::DeviceAllocator;
use crate::host::copy::Target;
use crate::transfer::batch::BufferPart;
use crate::transfer::engine::{Fill, Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;
use crate::transfer::workers::{Pieces, threads};

/// The largest piece in bytes: small enough that many are on their way at once.
const LARGEST: u64 = 4 << 20;
/// Smaller pieces of a small ring cost more calls than they save time.
const SMALLEST: u64 = 4 << 10;

/// Called by the caller's own thread between pieces with the bytes that are done: whether to stop.
pub type Between<'a> = &'a dyn Fn(u64) -> bool;

/// Copies one piece: batch, offset and size in bytes, whether to stop a wait.
pub(super) type Piece<'a> = dyn Fn(u64, u64, u64, Pause<'_>) -> Result<(), Stopped> + Sync + 'a;

/// What one transfer needs from its caller.
pub struct TransferCall<'a, P = BufferPart> {
    /// The allocator of the buffer and of the rings.
    pub allocator: &'a DeviceAllocator,
    /// Progress and outcome of this transfer.
    pub job: &'a Arc<Job>,
    /// Gathers its commands; of its own, and submitted at once, if there is none.
    pub batch: Option<u64>,
    /// Where the bytes go to or come from on the device.
    pub part: P,
    /// Whether to stop a wait.
    pub pause: Pause<'a>,
    /// Between pieces.
    pub between: Between<'a>,
}

/// How the pieces of a transfer are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) piece: u64,
    /// Bytes of the ring that it may use: the rest stays for what others copy meanwhile.
    pub(super) limit: u64,
}

impl TransferEngine {
    /// Pieces are multiples of `grain` bytes, so that none ends inside of an element.
    pub(super) fn cut(&self, size: u64, grain: u64) -> Cut {
        let ring = self.ring_size();
        // What fits takes one piece; else several are on their way.
        let most = if size <= LARGEST.min(ring / 4) {
            size
        } else {
            (ring / 32).clamp(SMALLEST.min(ring / 4).max(1), LARGEST)
        };
        let piece = (most / grain * grain).max(grain);
        Cut { piece, limit: if size <= ring / 4 { ring } else { ring / 2 } }
    }

    /// The largest element that an upload may have, in bytes.
    pub fn largest_grain(&self) -> u64 {
        self.ring_size() / 4
    }

    /// Copies a source to a buffer. When it returns, the source may change: its bytes are in the ring. An
    /// error of the driver is that of the job.
    ///
    /// # Errors
    /// `Interrupted` alone. What was submitted by then still runs.
    pub fn upload(
        &self,
        call: &TransferCall<'_>,
        fill: &Fill<'_>,
        grain: u64,
        is_serial: bool,
    ) -> Result<(), Stopped> {
        let size = call.job.size;
        let cut = self.cut(size, grain);
        let threads = if is_serial { 1 } else { threads(size, Target::InUse) };
        let TransferCall { allocator, job, part, .. } = *call;
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            self.upload_piece(allocator, job, batch, part, from, length, cut.limit, fill, pause)
        };
        self.end(job, self.pieces(call, cut, threads, &one))
    }

    /// Closes a job, of which no more is to be done; an error of the driver becomes that of the job.
    pub(super) fn end(&self, job: &Job, ended: Result<(), Stopped>) -> Result<(), Stopped> {
        let ended = match ended {
            Ok(()) => Ok(()),
            Err(Stopped::Failed(error)) => {
                job.fail(error);
                Ok(())
            }
            Err(Stopped::Interrupted) => {
                job.fail(Error::InvalidArgument("the transfer was interrupted".into()));
                Err(Stopped::Interrupted)
            }
        };
        job.close();
        ended
    }

    pub(super) fn pieces<P>(
        &self,
        call: &TransferCall<'_, P>,
        cut: Cut,
        threads: usize,
        one: &Piece<'_>,
    ) -> Result<(), Stopped> {
        let size = call.job.size;
        if size <= cut.piece {
            return match call.batch {
                Some(batch) => one(batch, 0, size, call.pause),
                None => {
                    let batch = self.open_batch();
                    let done = one(batch, 0, size, call.pause);
                    self.close_batch(call.allocator, batch);
                    done
                }
            };
        }
        let allocator = call.allocator;
        if let Some(batch) = call.batch {
            // What it holds was asked for before this.
            self.flush_batch(allocator, batch);
        }
        let pieces = Pieces::new(size, cut.piece, 0);
        pieces.run(threads, call.pause, call.between, &|pause, between| {
            // Each piece is on its way before the next one is copied.
            let batch = self.open_batch();
            let mut copied = Ok(());
            while copied.is_ok()
                && let Some((from, length)) = pieces.take()
            {
                copied = one(batch, from, length, pause);
                self.flush_batch(allocator, batch);
                copied = copied.and_then(|()| pieces.done(length, between));
                if call.job.has_failed() {
                    pieces.stop();
                }
            }
            self.close_batch(allocator, batch);
            copied
        })
    }
}
