//! [`Gauges`]: bytes held and live now, and when they were the most.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The most bytes of a figure, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Bytes.
    pub bytes: u64,
    /// Index of the event.
    pub event: usize,
}

/// A figure and its peak. With several threads the event is near that of the peak.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
    at: AtomicUsize,
}

impl Gauge {
    /// Adds bytes; returns whether they are now more than ever.
    fn add(&self, bytes: u64, event: usize) -> bool {
        let now = self.now.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let is_peak = now > self.peak.load(Relaxed);
        if is_peak {
            self.peak.store(now, Relaxed);
            self.at.store(event, Relaxed);
        }
        is_peak
    }

    fn subtract(&self, bytes: u64) {
        let _ = self.now.fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_sub(bytes)));
    }

    fn peak(&self) -> Peak {
        Peak { bytes: self.peak.load(Relaxed), event: self.at.load(Relaxed) }
    }
}

/// Bytes held and live in all heaps of all devices of a replay.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    held: Gauge,
    live: Gauge,
    held_at_peak_of_live: AtomicU64,
    event: AtomicUsize,
}

impl Gauges {
    /// Notes the event that is played.
    pub fn set_event(&self, event: usize) {
        self.event.store(event, Relaxed);
    }

    pub fn hold(&self, bytes: u64) {
        self.held.add(bytes, self.event.load(Relaxed));
    }

    pub fn give_back(&self, bytes: u64) {
        self.held.subtract(bytes);
    }

    #[inline]
    pub fn allocate(&self, bytes: u64) {
        if self.live.add(bytes, self.event.load(Relaxed)) {
            self.held_at_peak_of_live.store(self.held(), Relaxed);
        }
    }

    pub fn free(&self, bytes: u64) {
        self.live.subtract(bytes);
    }

    pub fn held(&self) -> u64 {
        self.held.now.load(Relaxed)
    }

    pub fn live(&self) -> u64 {
        self.live.now.load(Relaxed)
    }

    pub fn peak_of_held(&self) -> Peak {
        self.held.peak()
    }

    pub fn peak_of_live(&self) -> Peak {
        self.live.peak()
    }

    pub fn held_at_peak_of_live(&self) -> u64 {
        self.held_at_peak_of_live.load(Relaxed)
    }
}
