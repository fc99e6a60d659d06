//! A hint for the processor.

/// Says that the driver's object behind a handle is needed soon, so that it is fetched into the cache
/// beside what is fetched of ours. Handles of most drivers are addresses; where one is not, nothing
/// happens.
#[inline(always)]
pub fn expect_object(handle: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; it gives nothing and never faults, whatever the
    // address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(handle as usize as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = handle;
}
