//! [`Pressure`]: detects that a heap's usage reaches a share of its budget, or that there are more memory
//! objects than the device allows.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bit beside those of the (at most 16) heaps: more than `maxMemoryAllocationCount` memory objects are
/// live.
pub const PAST_ALLOCATION_COUNT: u32 = 1 << 31;

/// Bit beside those of the (at most 16) heaps: there are events for
/// [`Allocator::take_memory_events`](crate::Allocator::take_memory_events).
pub const MEMORY_EVENTS: u32 = 1 << 30;

/// Bit beside those of the (at most 16) heaps: allocations were lost.
pub const LOSSES: u32 = 1 << 29;

/// All bits beside those of the heaps.
const OTHERS: u32 = PAST_ALLOCATION_COUNT | MEMORY_EVENTS | LOSSES;

/// A threshold that no usage reaches.
const OFF: f64 = f64::INFINITY;

/// The heaps whose usage has reached a share of their budget. Lock-free.
pub(crate) struct Pressure {
    /// Share of the budget, as the bits of an `f64`.
    threshold: AtomicU64,
    /// Bit i is set while the usage of heap i is at or above the threshold.
    high: AtomicU32,
    /// Bit i is set when the usage of heap i reaches the threshold, and cleared by [`take`](Self::take).
    crossed: AtomicU32,
    /// Whether `maxMemoryAllocationCount` was exceeded before.
    past_count: AtomicBool,
}

impl Default for Pressure {
    fn default() -> Self {
        let threshold = AtomicU64::new(OFF.to_bits());
        let (high, crossed) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { threshold, high, crossed, past_count: AtomicBool::new(false) }
    }
}

impl Pressure {
    /// Sets the threshold and forgets earlier crossings: a heap that is above it already counts as
    /// crossing it again.
    pub fn set_threshold(&self, share: Option<f64>) {
        self.threshold.store(share.unwrap_or(OFF).to_bits(), Relaxed);
        self.high.store(0, Relaxed);
        self.crossed.fetch_and(OTHERS, Relaxed);
    }

    /// Records that `maxMemoryAllocationCount` is exceeded; reported once.
    pub fn note_past_count(&self) {
        if !self.past_count.swap(true, Relaxed) {
            self.crossed.fetch_or(PAST_ALLOCATION_COUNT, Relaxed);
        }
    }

    /// Records that there are memory events to take.
    pub fn note_memory_events(&self) {
        self.crossed.fetch_or(MEMORY_EVENTS, Relaxed);
    }

    /// Records that allocations were lost.
    pub fn note_losses(&self) {
        self.crossed.fetch_or(LOSSES, Relaxed);
    }

    pub fn is_watched(&self) -> bool {
        self.threshold.load(Relaxed) != OFF.to_bits()
    }

    /// Compares the usage of a heap with the threshold; each rise above it is reported once.
    pub fn note(&self, heap: u32, usage: u64, budget: u64) {
        let threshold = f64::from_bits(self.threshold.load(Relaxed));
        let bit = 1u32 << heap;
        if usage as f64 >= threshold * budget as f64 {
            if self.high.fetch_or(bit, Relaxed) & bit == 0 {
                self.crossed.fetch_or(bit, Relaxed);
            }
        } else {
            self.high.fetch_and(!bit, Relaxed);
        }
    }

    /// Returns and clears the bits of [`crossed`](Self::crossed).
    pub fn take(&self) -> u32 {
        if self.crossed.load(Relaxed) == 0 { 0 } else { self.crossed.swap(0, Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_up_is_news_once() {
        let pressure = Pressure::default();
        pressure.note(1, 100, 100);
        assert_eq!(pressure.take(), 0, "nobody asked");
        pressure.set_threshold(Some(0.9));
        pressure.note(1, 89, 100);
        assert_eq!(pressure.take(), 0);
        pressure.note(1, 90, 100);
        pressure.note(1, 95, 100);
        pressure.note(3, 100, 100);
        assert_eq!(pressure.take(), 0b1010);
        assert_eq!(pressure.take(), 0);
        pressure.note(1, 50, 100);
        pressure.note(1, 91, 100);
        assert_eq!(pressure.take(), 0b10);
    }
}
