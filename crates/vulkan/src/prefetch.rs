//! A hint for the processor.

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
