//! Parallel copies of many bytes.
//!
//! One core rarely uses the whole memory bandwidth, and the system clears new memory when it is first
//! touched, which takes longer than the copy itself: several threads do both faster.

use std::num::NonZero;
use std::thread::{Builder, available_parallelism, scope};

/// Bytes per thread: copying them takes about 2 ms, starting a thread less than a tenth of that.
const BYTES_PER_THREAD: usize = 16 << 20;
/// More threads than this gain little.
const MAX_THREADS: usize = 8;
/// Each share but the first starts at a page boundary of the target, of huge pages as well, so that no
/// two threads wait for the same page to be cleared.
const HUGE_PAGE: usize = 2 << 20;

/// The state of the memory to copy to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Not touched since the system reserved it: clearing its pages takes most of the time.
    New,
    /// Any other memory.
    InUse,
}

impl Target {
    /// Returns the number of threads for a copy of `length` bytes.
    fn threads(self, length: usize, cores: usize) -> usize {
        let cores = match self {
            Self::New => cores,
            // On two cores, one alone may use the whole memory bandwidth.
            Self::InUse => cores / 2,
        };
        (length / BYTES_PER_THREAD).min(MAX_THREADS).min(cores).max(1)
    }
}

/// Copies `length` bytes from one address to another, like `memmove`. From 32 MiB on up to 8 threads
/// share the copy: as many as half of the available cores, or all of them if the target is new memory.
/// Blocks until the copy is done.
///
/// # Safety
/// Both ranges are valid for `length` bytes, the target for writing, until it returns.
pub unsafe fn copy_bytes(from: usize, to: usize, length: usize, target: Target) {
    let copy = |(start, end): (usize, usize)| {
        // SAFETY: within the ranges that the caller guarantees. If there are several shares, they do not
        // overlap each other, nor do the two ranges.
        unsafe {
            std::ptr::copy((from + start) as *const u8, (to + start) as *mut u8, end - start)
        };
    };
    if length < 2 * BYTES_PER_THREAD || from.abs_diff(to) < length {
        return copy((0, length));
    }
    // Queried each time: the process may be bound to other cores meanwhile.
    let threads = target.threads(length, available_parallelism().map_or(1, NonZero::get));
    scope(|scope| {
        let begin = |number| {
            let share = share(number, threads, to, length);
            let builder = Builder::new().name("vk-mem copy".into());
            let begun = builder.spawn_scoped(scope, move || copy(share));
            if begun.is_err() {
                // The process may start no more threads.
                copy(share);
            }
            begun.ok()
        };
        let others: Vec<_> = (1..threads).filter_map(begin).collect();
        copy(share(0, threads, to, length));
        // Joined explicitly: a scope waits until the closures return, not until the threads have ended,
        // and a later fork must not see them.
        others.into_iter().for_each(|thread| thread.join().expect("a copy does not panic"));
    });
}

/// Returns start and end of the share of a thread, relative to `to`.
fn share(number: usize, threads: usize, to: usize, length: usize) -> (usize, usize) {
    let start_of = |number| match number {
        0 => 0,
        _ if number == threads => length,
        // A share is larger than a page, so none is empty.
        _ => (to + length / threads * number) / HUGE_PAGE * HUGE_PAGE - to,
    };
    (start_of(number), start_of(number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_once_and_begin_with_pages() {
        let at = [0, 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 17];
        for to in at {
            for length in [
                BYTES_PER_THREAD,
                2 * BYTES_PER_THREAD,
                2 * BYTES_PER_THREAD + 1,
                (100 << 20) + 12_345,
                256 << 20,
            ] {
                for threads in 1..=Target::New.threads(length, 16) {
                    let all: Vec<_> =
                        (0..threads).map(|it| share(it, threads, to, length)).collect();
                    let mut last = 0;
                    for &(start, end) in &all {
                        assert!(start == last && end > start, "{to} {length} {threads}: {all:?}");
                        assert!(start == 0 || (to + start).is_multiple_of(HUGE_PAGE));
                        last = end;
                    }
                    assert_eq!((last, all.len()), (length, threads));
                }
            }
        }
    }

    #[test]
    fn few_bytes_and_few_cores_take_few_threads() {
        let threads = |length, cores| {
            [Target::New, Target::InUse].map(|target| target.threads(length, cores))
        };
        assert_eq!(threads(0, 16), [1, 1]);
        assert_eq!(threads(BYTES_PER_THREAD, 16), [1, 1]);
        assert_eq!(threads(2 * BYTES_PER_THREAD, 16), [2, 2]);
        assert_eq!(threads(256 << 20, 64), [MAX_THREADS; 2]);
        assert_eq!(threads(256 << 20, 6), [6, 3]);
        assert_eq!(threads(256 << 20, 2), [2, 1]);
        assert_eq!(threads(usize::MAX, 1), [1, 1]);
    }

    #[test]
    fn bytes_arrive_wherever_they_begin() {
        let length = 2 * BYTES_PER_THREAD + 4321;
        let source: Vec<u8> = (0..length + 100).map(|it| (it * 7 + it / 251) as u8).collect();
        let mut target = vec![0xee; length + 100];
        for length in [0, 1, BYTES_PER_THREAD - 1, BYTES_PER_THREAD + 1, length] {
            for (from, to) in [(0, 0), (3, 50), (77, 1), (0, 99)] {
                target.fill(0xee);
                let source_at = source.as_ptr().expose_provenance();
                let target_at = target.as_mut_ptr().expose_provenance();
                // SAFETY: both vectors are longer.
                unsafe { copy_bytes(source_at + from, target_at + to, length, Target::New) };
                assert!(target[to..to + length] == source[from..from + length]);
                assert!(target[..to].iter().chain(&target[to + length..]).all(|it| *it == 0xee));
            }
        }
    }

    #[test]
    fn what_overlaps_is_moved() {
        let length = 2 * BYTES_PER_THREAD;
        for (from, to) in [(0, 4096), (4096, 0), (5, 5)] {
            let mut memory: Vec<u8> = (0..length + 4096).map(|it| (it / 3) as u8).collect();
            let expected = memory[from..from + length].to_vec();
            let at = memory.as_mut_ptr().expose_provenance();
            // SAFETY: both ranges are of the vector.
            unsafe { copy_bytes(at + from, at + to, length, Target::New) };
            assert!(memory[to..to + length] == expected);
        }
    }
}
