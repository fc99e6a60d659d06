//! Prefetching into the processor's caches.

/// Number of elements between the one in use and the one that is prefetched.
const AHEAD: usize = 8;

/// Bytes of a cache line on most processors.
const CACHE_LINE: u64 = 64;

/// Iterates over `things` and calls `prefetch` for an element further on, to [prefetch](prefetch_line) it. Data
/// that was not used for a while is in no cache, and an atomic read-modify-write per element keeps the
/// processor from loading the next element early.
pub fn prefetching<T>(things: &[T], prefetch: impl Fn(&T)) -> impl Iterator<Item = &T> {
    things.iter().enumerate().map(move |(index, thing)| {
        if let Some(later) = things.get(index + AHEAD) {
            prefetch(later);
        }
        thing
    })
}

/// Prefetches the cache line at an address. The address may be a Vulkan handle: for most drivers that is
/// the address of their object, and where it is not, nothing happens.
#[inline(always)]
pub fn prefetch_line(address: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; it returns nothing and never faults, whatever
    // the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as usize as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches the cache lines of `count` bytes from an address on; `count` is more than 0.
#[inline(always)]
pub fn prefetch_bytes(address: u64, count: u64) {
    debug_assert!(count > 0);
    for line in (0..count).step_by(CACHE_LINE as usize) {
        prefetch_line(address.wrapping_add(line));
    }
    // The last byte may be in another line, as the range need not start at one.
    prefetch_line(address.wrapping_add(count).wrapping_sub(1));
}
