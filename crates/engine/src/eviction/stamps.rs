//! [`Chunk`]: when each of 256 evictable allocations was last used, and whether it is lost.
//!
//! ```text
//!   stamp   [ frame of the last use: 62 bits ][ state: 2 bits ]
//!
//!   LIVE --claim--> CLAIMED --> LOST        an eviction: all of its victims are claimed, or none
//!     ^                |
//!     +---- unclaim ---+
//!   LIVE --end--> ENDED                     LOST --end--> ENDED
//! ```
//!
//! A touch is one compare-and-swap from the stamp that it read, and so is a claim: of a touch and an eviction that
//! meet, one finds that the other was first.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Allocations of a chunk.
pub(super) const CHUNK: usize = 256;
/// The last frame that a stamp can hold.
const LAST_FRAME: u64 = u64::MAX >> 2;

/// What a stamp says beside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live = 0,
    Lost = 1,
    Ended = 2,
    Claimed = 3,
}

/// A frame and a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    fn new(frame: u64, state: State) -> Self {
        Self(frame.min(LAST_FRAME) << 2 | state as u64)
    }

    pub fn frame(self) -> u64 {
        self.0 >> 2
    }

    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Live,
            1 => State::Lost,
            2 => State::Ended,
            _ => State::Claimed,
        }
    }

    pub fn is_live(self) -> bool {
        self.0 & 3 == State::Live as u64
    }

    fn with(self, state: State) -> Self {
        Self::new(self.frame(), state)
    }
}

/// The number of the current frame.
#[derive(Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    /// Sets the frame, unless it is an earlier one; returns whether it is a later one.
    pub fn set(&self, frame: u64) -> bool {
        let new = Stamp::new(frame, State::Live).0;
        self.0.fetch_max(new, AcqRel) < new
    }

    pub fn frame(&self) -> u64 {
        self.now().frame()
    }

    fn now(&self) -> Stamp {
        Stamp(self.0.load(Acquire))
    }
}

/// The stamps of 256 allocations of one priority.
pub(super) struct Chunk {
    stamps: [AtomicU64; CHUNK],
}

impl Chunk {
    pub fn new() -> Self {
        // None is live.
        const ENDED: u64 = State::Ended as u64;
        Self { stamps: [const { AtomicU64::new(ENDED) }; CHUNK] }
    }

    #[inline]
    pub fn get(&self, index: usize) -> Stamp {
        Stamp(self.stamps[index].load(Acquire))
    }

    /// Begins the life of an allocation, used in the current frame.
    pub fn begin(&self, index: usize, clock: &Clock) {
        self.stamps[index].store(clock.now().0, Release);
    }

    /// Returns whether an allocation is there and was used in the current frame.
    #[inline]
    pub fn is_current(&self, index: usize, clock: &Clock) -> bool {
        self.get(index) == clock.now()
    }

    /// Marks it as used in the current frame; false if it is lost or has ended.
    #[inline]
    pub fn touch(&self, index: usize, clock: &Clock) -> bool {
        let mut seen = self.get(index);
        loop {
            let now = clock.now();
            match seen.state() {
                // Another thread may have seen a later frame.
                State::Live if seen.0 >= now.0 => return true,
                State::Live => match self.exchange(index, seen, now) {
                    Ok(()) => return true,
                    Err(found) => seen = found,
                },
                State::Claimed => seen = self.decided(index),
                State::Lost | State::Ended => return false,
            }
        }
    }

    fn exchange(&self, index: usize, from: Stamp, to: Stamp) -> Result<(), Stamp> {
        let stamp = &self.stamps[index];
        stamp.compare_exchange(from.0, to.0, AcqRel, Acquire).map(drop).map_err(Stamp)
    }

    /// Returns frame and index of the least recently used live or claimed one behind `last`, in the order of
    /// both.
    pub fn lowest_after(&self, last: Option<(u64, u32)>) -> Option<(u64, u32)> {
        let mut lowest: Option<(u64, u32)> = None;
        let mut least = u64::MAX;
        for (index, stamp) in (0u32..).zip(&self.stamps) {
            let stamp = Stamp(stamp.load(Relaxed));
            // Of those of one frame the first is found.
            if stamp.frame() < least
                && matches!(stamp.state(), State::Live | State::Claimed)
                && last.is_none_or(|last| (stamp.frame(), index) > last)
            {
                least = stamp.frame();
                lowest = Some((least, index));
            }
        }
        lowest
    }

    /// Waits until an eviction has decided, which takes it no driver call and no long lock; returns the stamp.
    #[cold]
    pub fn decided(&self, index: usize) -> Stamp {
        loop {
            let stamp = self.get(index);
            if stamp.state() != State::Claimed {
                return stamp;
            }
            std::thread::yield_now();
        }
    }

    /// Claims an allocation for an eviction; false if it is not as it was seen.
    pub fn claim(&self, index: usize, seen: Stamp) -> bool {
        seen.is_live() && self.exchange(index, seen, seen.with(State::Claimed)).is_ok()
    }

    /// Ends a claim: with the allocation lost, or as it was.
    pub fn decide(&self, index: usize, lost: bool) {
        let claimed = self.get(index);
        debug_assert_eq!(claimed.state(), State::Claimed);
        let state = if lost { State::Lost } else { State::Live };
        self.stamps[index].store(claimed.with(state).0, Release);
    }

    /// Ends an allocation; returns whether it was lost.
    pub fn end(&self, index: usize) -> bool {
        loop {
            let seen = self.decided(index);
            if self.exchange(index, seen, seen.with(State::Ended)).is_ok() {
                return seen.state() == State::Lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_touch_and_a_claim_one_is_first() {
        let clock = Clock::default();
        let chunk = Chunk::new();
        chunk.begin(3, &clock);
        let seen = chunk.get(3);
        clock.set(9);
        assert!(chunk.touch(3, &clock));
        assert!(!chunk.claim(3, seen), "it was touched since");
        let seen = chunk.get(3);
        assert_eq!(seen.frame(), 9);
        assert!(chunk.claim(3, seen));
        chunk.decide(3, false);
        assert_eq!(chunk.get(3), seen);
        assert!(chunk.claim(3, seen));
        chunk.decide(3, true);
        assert!(!chunk.touch(3, &clock) && chunk.end(3));
        assert!(!chunk.touch(3, &clock) && !chunk.touch(4, &clock));
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::default();
        clock.set(7);
        clock.set(3);
        assert_eq!(clock.frame(), 7);
        clock.set(u64::MAX);
        assert_eq!(clock.frame(), LAST_FRAME);
    }
}
