//! Threads that carry out one transfer together, piece by piece.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, available_parallelism, scope};

use vkmem_engine::lock::{Mutex, rank};

use crate::host::copy::Target;
use crate::transfer::engine::{Pause, Stopped};
use crate::transfer::pieces::Between;

/// Bytes for each thread: copying them takes about 0.4 ms, starting a thread less than a tenth of that.
const BYTES_PER_THREAD: u64 = 4 << 20;
/// More threads than this gain little.
const MAX_THREADS: usize = 16;

/// Returns the number of threads that copy `size` bytes. Copies are limited by the memory, which three of four
/// cores use up; where new memory is cleared for them, by the cores.
pub(super) fn threads(size: u64, target: Target) -> usize {
    let wanted = usize::try_from(size / BYTES_PER_THREAD).unwrap_or(usize::MAX);
    if wanted <= 1 {
        // To count the cores takes longer than to copy so few bytes.
        return 1;
    }
    let cores = available_parallelism().map_or(1, NonZero::get);
    let most = match target {
        Target::New => cores,
        Target::InUse => (cores * 3).div_ceil(4),
    };
    wanted.min(most).min(MAX_THREADS)
}

/// The pieces of a transfer, which threads take in order, and how far they are.
pub(super) struct Pieces {
    size: u64,
    piece: u64,
    /// By how much the first piece is smaller, so that the others begin at multiples of `piece`.
    shift: u64,
    next: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
    first: Mutex<Option<Stopped>, rank::TransferFailure>,
}

impl Pieces {
    /// Cuts `size` bytes, of which the first lies at `start`, into pieces that begin at multiples of `piece`
    /// bytes.
    pub(super) fn new(size: u64, piece: u64, start: u64) -> Self {
        Self {
            size,
            piece,
            shift: start % piece,
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            first: Mutex::new(None),
        }
    }

    /// Takes the next piece: its offset and size in bytes. `None` if there is none, or the work stops.
    pub(super) fn take(&self) -> Option<(u64, u64)> {
        if self.is_stopped() {
            return None;
        }
        let start = self.next.fetch_add(self.piece, Ordering::Relaxed);
        let from = start.saturating_sub(self.shift);
        let end = (start + self.piece - self.shift).min(self.size);
        (from < end).then(|| (from, end - from))
    }

    /// Whether no more of it is to be done.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the work of all threads.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Counts a piece that is done.
    pub(super) fn done(&self, length: u64, between: Between<'_>) -> Result<(), Stopped> {
        let all = self.done.fetch_add(length, Ordering::Relaxed) + length;
        if between(all) { Err(Stopped::Interrupted) } else { Ok(()) }
    }

    /// Runs `work` in this thread and in others, `threads` in all, until each has returned. The first error
    /// ends the work of the others, and is returned.
    pub(super) fn run(
        &self,
        threads: usize,
        pause: Pause<'_>,
        between: Between<'_>,
        work: &(dyn Fn(Pause<'_>, Between<'_>) -> Result<(), Stopped> + Sync),
    ) -> Result<(), Stopped> {
        let work = |pause: Pause<'_>, between: Between<'_>| {
            if let Err(stopped) = work(pause, between) {
                self.stop();
                self.first.lock().get_or_insert(stopped);
            }
        };
        scope(|scope| {
            let begin = |_| {
                let builder = Builder::new().name("vk-mem copy".into());
                let work = &work;
                let run = move || work(&|| self.is_stopped(), &|_| false);
                // Where the process may start no more threads, this one does it all.
                builder.spawn_scoped(scope, run).ok()
            };
            let others: Vec<_> = (1..threads).filter_map(begin).collect();
            work(pause, between);
            // Joined by hand: a later fork must not see them.
            others.into_iter().for_each(|thread| thread.join().expect("a copy does not panic"));
        });
        self.first.lock().take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_once_and_begin_at_multiples() {
        for piece in [1, 7, 64, 4096] {
            for size in [1, 5, 63, 64, 65, 4095, 4096, 4097, 20_000] {
                for start in [0, 1, 16, 63, 64, 4096, 4100] {
                    let pieces = Pieces::new(size, piece, start);
                    let mut end = 0;
                    while let Some((from, length)) = pieces.take() {
                        assert!(from == end && length > 0 && length <= piece);
                        assert!(from == 0 || (start + from).is_multiple_of(piece));
                        end = from + length;
                    }
                    assert_eq!(end, size, "{piece} {start}");
                }
            }
        }
    }

    #[test]
    fn the_first_error_ends_all() {
        let pieces = Pieces::new(1000, 1, 0);
        let ended = pieces.run(4, &|| false, &|_| false, &|_, _| {
            while let Some((from, _)) = pieces.take() {
                if from == 10 {
                    return Err(Stopped::Interrupted);
                }
            }
            Ok(())
        });
        assert_eq!(ended, Err(Stopped::Interrupted));
        assert!(pieces.is_stopped() && pieces.take().is_none());
        let between = Pieces::new(1000, 100, 0);
        let ended = between.run(1, &|| false, &|done| done == 500, &|_, between_pieces| {
            while let Some((_, length)) = between.take() {
                between.done(length, between_pieces)?;
            }
            Ok(())
        });
        assert_eq!((ended, between.done.into_inner()), (Err(Stopped::Interrupted), 500));
    }
}
