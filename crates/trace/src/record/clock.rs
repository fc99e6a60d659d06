//! [`Clock`]: when events happened, read cheaply by those who tell them.

use std::time::Instant;

/// Reads a counter of the processor that runs at one rate on all cores, whatever that is.
pub type Counter = fn() -> u64;

/// Gives events a stamp. Reading the system's clock takes a third of what recording a call costs, a counter much less.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    begin: Instant,
    counter: Option<Counter>,
}

impl Clock {
    /// Begins at 0 ns.
    pub fn begin(counter: Option<Counter>) -> Self {
        Self { begin: Instant::now(), counter }
    }

    /// Returns the stamp of an event that happens now; [`Stamps`] knows the time in ns.
    #[inline]
    pub fn stamp(&self) -> u64 {
        match self.counter {
            Some(read) => read(),
            None => self.time(),
        }
    }

    /// Returns the time in ns since the beginning.
    fn time(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    /// Returns stamp and time of one moment.
    fn both(&self) -> (u64, u64) {
        // The thread may be interrupted between the two: the closest of some readings is taken.
        let reading = || {
            let before = self.stamp();
            let time = self.time();
            let after = self.stamp();
            (after.saturating_sub(before), before + after.saturating_sub(before) / 2, time)
        };
        let closest = (0..3).map(|_| reading()).min_by_key(|it| it.0).expect("there are three");
        (closest.1, closest.2)
    }
}

/// Converts the stamps of a [`Clock`] to times.
pub(super) struct Stamps {
    clock: Clock,
    first: (u64, u64),
    last: (u64, u64),
}

impl Stamps {
    pub fn new(clock: Clock) -> Self {
        let first = clock.both();
        Self { clock, first, last: first }
    }

    /// Compares the counter with the system's clock. The more often, the closer they agree.
    pub fn compare(&mut self) {
        if self.clock.counter.is_some() {
            self.last = self.clock.both();
        }
    }

    /// Returns the time of now, in ns.
    pub fn now(&self) -> u64 {
        self.clock.time()
    }

    /// Returns the time of a stamp, in ns since the recording began.
    pub fn time(&self, stamp: u64) -> u64 {
        if self.clock.counter.is_none() {
            return stamp;
        }
        // The rate of the whole recording, as that of a short while would be inexact.
        let ticks = self.last.0.wrapping_sub(self.first.0) as i64;
        let passed = self.last.1.saturating_sub(self.first.1);
        let ago = self.last.0.wrapping_sub(stamp) as i64;
        let ns = if ticks > 0 { ago as f64 * (passed as f64 / ticks as f64) } else { 0.0 };
        self.last.1.saturating_add_signed(-(ns as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    static TICKS: AtomicU64 = AtomicU64::new(1 << 40);

    #[test]
    fn stamps_of_a_counter_become_times() {
        let mut stamps = Stamps::new(Clock::begin(Some(|| TICKS.load(Relaxed))));
        stamps.first = (1000, 50);
        stamps.last = (5000, 1050);
        assert_eq!([1000, 3000, 5000, 7000].map(|it| stamps.time(it)), [50, 550, 1050, 1550]);
        // What was stamped before the recording began is at its beginning.
        assert_eq!(stamps.time(0), 0);
        stamps.compare();
        assert_eq!(stamps.last.0, 1 << 40);
    }

    #[test]
    fn a_counter_that_stands_still_gives_the_time_of_the_comparison() {
        let stamps = Stamps::new(Clock::begin(Some(|| 7)));
        assert_eq!(stamps.time(7), stamps.last.1);
    }

    #[test]
    fn without_a_counter_stamps_are_times() {
        let clock = Clock::begin(None);
        let mut stamps = Stamps::new(clock);
        stamps.compare();
        let stamp = clock.stamp();
        assert_eq!(stamps.time(stamp), stamp);
        assert!(stamps.now() >= stamp);
    }
}
