//! The counter that gives events of recordings their times.

use vkmem_trace::Counter;

/// Returns the processor's time stamp counter, if it runs at one rate on all cores.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn counter() -> Option<Counter> {
    use std::arch::x86_64::_rdtsc;
    use std::sync::OnceLock;

    static SERVES: OnceLock<bool> = OnceLock::new();
    // The system watches the counter, and takes another source of time if it is not to be trusted.
    let is_trusted = || {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        match std::fs::read_to_string(path) {
            Ok(source) => matches!(source.trim(), "tsc" | "kvm-clock"),
            // A container need not show it.
            Err(_) => is_invariant(),
        }
    };
    // SAFETY: every processor of this architecture has the instruction, and it touches no memory.
    SERVES.get_or_init(is_trusted).then_some(|| unsafe { _rdtsc() })
}

/// Returns whether the processor says that its counter runs at one rate in all states.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn is_invariant() -> bool {
    const LARGEST: u32 = 0x8000_0000;
    const POWER: u32 = 0x8000_0007;
    const INVARIANT: u32 = 1 << 8;
    // SAFETY: every processor of this architecture has the instruction, and it touches no memory.
    #[allow(unused_unsafe, reason = "it is safe from Rust 1.94 on")]
    let ask = |leaf| unsafe { std::arch::x86_64::__cpuid(leaf) };
    ask(LARGEST).eax >= POWER && ask(POWER).edx & INVARIANT != 0
}

/// Returns nothing: elsewhere the system's clock is as good.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn counter() -> Option<Counter> {
    None
}
