//! Hints for the processor.

/// So many things ahead are fetched.
const AHEAD: usize = 8;

/// Bytes that come into the cache together, on most processors.
const CACHE_LINE: u64 = 64;

/// Walks over things, and has what comes a little later [expected](expect_at). What was not used for a
/// while is in no cache, and a locked instruction between two keeps the processor from looking at the
/// second before.
pub fn ahead<T>(things: &[T], expect: impl Fn(&T)) -> impl Iterator<Item = &T> {
    things.iter().enumerate().map(move |(index, thing)| {
        if let Some(later) = things.get(index + AHEAD) {
            expect(later);
        }
        thing
    })
}

/// Says that what lies at an address is needed soon, so that it is fetched into the cache while other
/// things are done. It may be a handle of Vulkan: those of most drivers are the address of their object,
/// and where one is not, nothing happens.
#[inline(always)]
pub fn expect_at(address: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; it gives nothing and never faults, whatever the
    // address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as usize as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same of so many bytes from an address on, of which there are some.
#[inline(always)]
pub fn expect_bytes(address: u64, count: u64) {
    debug_assert!(count > 0);
    for line in (0..count).step_by(CACHE_LINE as usize) {
        expect_at(address.wrapping_add(line));
    }
    // It need not begin where a line does.
    expect_at(address.wrapping_add(count).wrapping_sub(1));
}
