//! Transfers in pieces: some threads copy while the device does, each from piece to piece.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, available_parallelism, scope};

use vkmem_engine::Error;
use vkmem_engine::lock::{Mutex, rank};

use crate::allocator::DeviceAllocator;
use crate::transfer::batch::BufferPart;
use crate::transfer::engine::{Fill, Pause, Stopped, TransferEngine};
use crate::transfer::job::Job;

/// The largest piece in bytes: small enough that many are on their way at once.
const LARGEST: u64 = 4 << 20;
/// Smaller pieces of a small ring cost more calls than they save time.
const SMALLEST: u64 = 4 << 10;
/// Several threads copy from so many bytes on.
const PARALLEL: u64 = 32 << 20;
const MAX_THREADS: usize = 8;

/// Called by the caller's own thread between pieces with the bytes that are done: whether to stop.
pub type Between<'a> = &'a dyn Fn(u64) -> bool;

/// Copies one piece: batch, offset and size in bytes, whether to stop a wait.
type Piece<'a> = dyn Fn(u64, u64, u64, Pause<'_>) -> Result<(), Stopped> + Sync + 'a;

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

pub(super) fn threads(size: u64, least: usize) -> usize {
    if size < PARALLEL {
        return 1;
    }
    let cores = available_parallelism().map_or(1, NonZero::get);
    (cores / 2).clamp(least, MAX_THREADS)
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
        let threads = if is_serial { 1 } else { threads(size, 1) };
        let TransferCall { allocator, job, part, .. } = *call;
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            self.upload_piece(allocator, job, batch, part, from, length, cut.limit, fill, pause)
        };
        self.end(call, self.pieces(call, cut, threads, &one))
    }

    /// Copies a buffer to the host. What fits into half of the ring is on its way when this returns, and is
    /// copied out when the job is waited for; of more all but the end has arrived.
    ///
    /// # Errors
    /// `Interrupted` alone.
    ///
    /// # Safety
    /// `target` is valid for as many bytes as the job has, until that has ended.
    pub unsafe fn download(&self, call: &TransferCall<'_>, target: usize) -> Result<(), Stopped> {
        let size = call.job.size;
        let cut = self.cut(size, 1);
        let is_large = size > self.ring_size() / 2;
        let threads = if is_large { threads(size, 2) } else { 1 };
        let TransferCall { allocator, job, part, .. } = *call;
        let one = |batch: u64, from: u64, length: u64, pause: Pause<'_>| {
            let number = self.download_piece(
                allocator, job, batch, part, from, length, cut.limit, target, pause,
            )?;
            if is_large {
                self.flush_batch(allocator, batch);
                self.finish_piece(allocator, number, pause)?;
            }
            Ok(())
        };
        self.end(call, self.pieces(call, cut, threads, &one))
    }

    pub(super) fn end<P>(
        &self,
        call: &TransferCall<'_, P>,
        ended: Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let ended = match ended {
            Ok(()) => Ok(()),
            Err(Stopped::Failed(error)) => {
                call.job.fail(error);
                Ok(())
            }
            Err(Stopped::Interrupted) => {
                call.job.fail(Error::InvalidArgument("the transfer was interrupted".into()));
                Err(Stopped::Interrupted)
            }
        };
        call.job.close();
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
        let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let (stop, first) = (AtomicBool::new(false), Mutex::<_, rank::TransferFailure>::new(None));
        let job = call.job;
        let work = |pause: Pause<'_>, between: Between<'_>| {
            // Each piece is on its way before the next one is copied.
            let batch = self.open_batch();
            while !stop.load(Ordering::Relaxed) {
                let from = next.fetch_add(cut.piece, Ordering::Relaxed);
                if from >= size {
                    break;
                }
                let length = cut.piece.min(size - from);
                let mut copied = one(batch, from, length, pause);
                self.flush_batch(allocator, batch);
                let all = done.fetch_add(length, Ordering::Relaxed) + length;
                if copied.is_ok() && between(all) {
                    copied = Err(Stopped::Interrupted);
                }
                if let Err(stopped) = copied {
                    stop.store(true, Ordering::Relaxed);
                    first.lock().get_or_insert(stopped);
                } else if job.has_failed() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            self.close_batch(allocator, batch);
        };
        if let Some(batch) = call.batch {
            // What it holds was asked for before this.
            self.flush_batch(call.allocator, batch);
        }
        scope(|scope| {
            let begin = |_| {
                let (work, stop) = (&work, &stop);
                let builder = Builder::new().name("vk-mem copy".into());
                let run = move || work(&|| stop.load(Ordering::Relaxed), &|_| false);
                // Where the process may start no more threads, this one does it all.
                builder.spawn_scoped(scope, run).ok()
            };
            let others: Vec<_> = (1..threads).filter_map(begin).collect();
            work(call.pause, call.between);
            // Joined by hand: a later fork must not see them.
            others.into_iter().for_each(|thread| thread.join().expect("a copy does not panic"));
        });
        let stopped = first.lock().take();
        match stopped {
            Some(stopped) => Err(stopped),
            None => Ok(()),
        }
    }
}
