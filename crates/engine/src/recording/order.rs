//! Numbers of events, in the order in which they take effect.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Number of allocators of this process that are recorded.
static RECORDED: AtomicU32 = AtomicU32::new(0);
/// The next number. Taken under the lock of a pool, so events of one pool are in the order of their numbers.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Number of the next run of defragmentation.
static NEXT_RUN: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The number that this thread got last; 0 once it was taken.
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Returns whether any allocator of this process is recorded.
#[inline(always)]
pub fn is_active() -> bool {
    RECORDED.load(Relaxed) != 0
}

/// Counts a recorded allocator.
pub(super) fn begin() {
    RECORDED.fetch_add(1, Relaxed);
}

/// Undoes [`begin`].
pub(super) fn end() {
    RECORDED.fetch_sub(1, Relaxed);
}

/// Numbers what takes effect now, under the lock that orders it.
#[inline(always)]
pub(crate) fn mark() {
    if is_active() {
        give_number();
    }
}

#[cold]
#[inline(never)]
fn give_number() {
    LAST.set(next());
}

/// Returns the first of several new numbers.
pub fn next_of(count: usize) -> u64 {
    NEXT.fetch_add(count as u64, Relaxed)
}

/// Returns a new number: for what is told besides the calls of an allocator.
pub fn next() -> u64 {
    NEXT.fetch_add(1, Relaxed)
}

/// Returns the number that this thread got last, or a new one if it got none for this call.
pub(crate) fn take() -> u64 {
    match LAST.take() {
        0 => next(),
        number => number,
    }
}

/// Returns the number of a run of defragmentation that begins.
pub(crate) fn next_run() -> u32 {
    NEXT_RUN.fetch_add(1, Relaxed)
}
