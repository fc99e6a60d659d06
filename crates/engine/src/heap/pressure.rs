//! Noticing that a heap fills up, or that there are more memory objects than a device allows.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Beside the bits of the heaps, of which there are 16 at most: more memory objects live than
/// `maxMemoryAllocationCount` says.
pub const PAST_ALLOCATION_COUNT: u32 = 1 << 31;

/// Beside these: there are events for [`Allocator::take_memory_events`](crate::Allocator::take_memory_events).
pub const MEMORY_EVENTS: u32 = 1 << 30;

/// No usage reaches it.
const OFF: f64 = f64::INFINITY;

/// Which heaps have come to a share of their budget. Lock-free.
pub(crate) struct Pressure {
    /// Bits of an `f64`.
    threshold: AtomicU64,
    /// By heap: at the threshold or above.
    high: AtomicU32,
    /// By heap: came there, and nobody has asked yet.
    crossed: AtomicU32,
    /// That was crossed before.
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
    /// Starts anew: a heap that is at the threshold already is crossed.
    pub fn set_threshold(&self, share: Option<f64>) {
        self.threshold.store(share.unwrap_or(OFF).to_bits(), Relaxed);
        self.high.store(0, Relaxed);
        self.crossed.fetch_and(PAST_ALLOCATION_COUNT | MEMORY_EVENTS, Relaxed);
    }

    /// More memory objects live than the device says: crossed once.
    pub fn note_past_count(&self) {
        if !self.past_count.swap(true, Relaxed) {
            self.crossed.fetch_or(PAST_ALLOCATION_COUNT, Relaxed);
        }
    }

    /// There is something to take.
    pub fn note_memory_events(&self) {
        self.crossed.fetch_or(MEMORY_EVENTS, Relaxed);
    }

    pub fn is_watched(&self) -> bool {
        self.threshold.load(Relaxed) != OFF.to_bits()
    }

    /// Takes note of a heap. Each way up counts once.
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

    /// The heaps that are crossed, once.
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
