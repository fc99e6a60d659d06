//! The counter that gives events of recordings their times.

use vkmem_trace::Counter;

/// Returns the processor's time stamp counter, if it runs at one rate on all cores.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn counter() -> Option<Counter> {
    use std::arch::x86_64::_rdtsc;
    use std::sync::OnceLock;

    static SERVES: OnceLock<bool> = OnceLock::new();
    // The system watches the counter, and takes another source of time if it is not to be trusted.
    let trusted = || {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let source = std::fs::read_to_string(path).unwrap_or_default();
        matches!(source.trim(), "tsc" | "kvm-clock")
    };
    // SAFETY: every processor of this architecture has the instruction, and it touches no memory.
    SERVES.get_or_init(trusted).then_some(|| unsafe { _rdtsc() })
}

/// Returns nothing: elsewhere the system's clock is as good.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn counter() -> Option<Counter> {
    None
}
