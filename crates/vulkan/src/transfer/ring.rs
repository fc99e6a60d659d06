//! Which parts of a ring of memory are in use, and in which order they come free. No memory here, no device.

use std::collections::VecDeque;

use crate::driver::submission::Submission;

/// Where a segment stands on its way from the host to the device, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// The host fills it or reads it.
    Held,
    /// A command that uses it waits to be submitted with the others of this batch.
    Recorded(u64),
    /// The device uses it until this has ended.
    Submitted(Submission),
    /// It can be used again once all older ones can.
    Free,
}

#[derive(Debug)]
struct Segment<T> {
    offset: u64,
    state: SegmentState,
    payload: Option<T>,
}

/// A part of the ring, by its number, which grows by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the segment.
    pub number: u64,
    /// In bytes from the start of the ring.
    pub offset: u64,
}

/// Segments of a ring, oldest first. They may end in any order, and come free in the order of their birth.
#[derive(Debug)]
pub struct Ring<T> {
    size: u64,
    /// Where the newest one ends.
    head: u64,
    segments: VecDeque<Segment<T>>,
    /// Number of the oldest.
    first: u64,
}

impl<T> Ring<T> {
    /// An empty one of so many bytes.
    pub fn new(size: u64) -> Self {
        Self { size, head: 0, segments: VecDeque::new(), first: 0 }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes from the start of the oldest segment to the end of the newest one, gaps included.
    pub fn used(&self) -> u64 {
        match self.segments.front() {
            None => 0,
            Some(oldest) if self.head > oldest.offset => self.head - oldest.offset,
            Some(oldest) => self.size - oldest.offset + self.head,
        }
    }

    /// Takes `size` bytes, aligned to a power of two, if the ring then has at most `limit` bytes in use;
    /// `None` where it is too full.
    pub fn reserve(&mut self, size: u64, alignment: u64, limit: u64) -> Option<Place> {
        debug_assert!(size > 0 && alignment.is_power_of_two());
        let offset = match self.segments.front() {
            None => 0,
            Some(oldest) => {
                let next = self.head.next_multiple_of(alignment);
                if self.head > oldest.offset {
                    // Behind the newest, or from the start on.
                    if next + size <= self.size {
                        next
                    } else if size <= oldest.offset {
                        0
                    } else {
                        return None;
                    }
                } else if next + size <= oldest.offset {
                    next
                } else {
                    return None;
                }
            }
        };
        if offset + size > self.size {
            return None;
        }
        let head = std::mem::replace(&mut self.head, offset + size);
        self.segments.push_back(Segment { offset, state: SegmentState::Held, payload: None });
        // A segment alone always has room: it would wait for itself otherwise.
        if self.used() > limit && self.segments.len() > 1 {
            self.segments.pop_back();
            self.head = head;
            return None;
        }
        Some(Place { number: self.first + self.segments.len() as u64 - 1, offset })
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment<T>> {
        let index = number.checked_sub(self.first)?;
        self.segments.get_mut(usize::try_from(index).ok()?)
    }

    /// What a segment is; none that has come free.
    pub fn state(&self, number: u64) -> Option<SegmentState> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.segments.get(index).map(|it| it.state)
    }

    /// Changes what a segment is; `Free` ends it.
    pub fn set(&mut self, number: u64, state: SegmentState) {
        if let Some(segment) = self.segment(number) {
            segment.state = state;
        }
        while self.segments.front().is_some_and(|it| it.state == SegmentState::Free) {
            self.segments.pop_front();
            self.first += 1;
        }
        if self.segments.is_empty() {
            self.head = 0;
        }
    }

    /// Gives a segment what is to be done with it at its end.
    pub fn attach(&mut self, number: u64, payload: T) {
        if let Some(segment) = self.segment(number) {
            segment.payload = Some(payload);
        }
    }

    /// Takes that back, and the segment for the host, if the device has it.
    pub fn claim(&mut self, number: u64) -> Option<T> {
        let segment = self.segment(number)?;
        if !matches!(segment.state, SegmentState::Submitted(_)) {
            return None;
        }
        let payload = segment.payload.take()?;
        segment.state = SegmentState::Held;
        Some(payload)
    }

    /// The oldest segment: what a full ring waits for.
    pub fn oldest(&self) -> Option<(u64, SegmentState)> {
        self.segments.front().map(|it| (self.first, it.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the ring should hold, segment by segment.
    #[derive(Default)]
    struct Shadow {
        live: Vec<(u64, u64, u64, bool)>,
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn segments_never_overlap_and_come_free_in_order() {
        for seed in 1..200_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let size = 1 << (6 + random(&mut state) % 8);
            let mut ring = Ring::<u64>::new(size);
            let mut shadow = Shadow::default();
            let mut refused = 0;
            for _ in 0..2_000 {
                let choice = random(&mut state) % 5;
                if choice < 3 {
                    let wanted = 1 + random(&mut state) % size;
                    let wanted =
                        if random(&mut state).is_multiple_of(4) { wanted } else { 1 + wanted / 8 };
                    let alignment = 1 << (random(&mut state) % 6);
                    let limit = if choice == 0 { size / 2 } else { size };
                    match ring.reserve(wanted, alignment, limit) {
                        Some(place) => {
                            assert!(place.offset % alignment == 0 && place.offset + wanted <= size);
                            for (number, offset, length, _) in &shadow.live {
                                let apart = place.offset + wanted <= *offset
                                    || offset + length <= place.offset;
                                assert!(apart, "{place:?} {wanted} hits {number}");
                                assert!(place.number > *number);
                            }
                            assert!(shadow.live.is_empty() || ring.used() <= limit);
                            shadow.live.push((place.number, place.offset, wanted, false));
                        }
                        None => {
                            refused += 1;
                            assert!(!shadow.live.is_empty(), "an empty ring has room");
                        }
                    }
                } else if !shadow.live.is_empty() {
                    let index = random(&mut state) as usize % shadow.live.len();
                    shadow.live[index].3 = true;
                    ring.set(shadow.live[index].0, SegmentState::Free);
                    while shadow.live.first().is_some_and(|it| it.3) {
                        shadow.live.remove(0);
                    }
                }
                assert_eq!(ring.oldest().map(|it| it.0), shadow.live.first().map(|it| it.0));
                assert_eq!(ring.segments.len(), shadow.live.len());
                let sum: u64 = shadow.live.iter().map(|it| it.2).sum();
                assert!(ring.used() >= sum && ring.used() <= size);
            }
            assert!(refused > 0);
        }
    }

    #[test]
    fn a_full_ring_names_its_oldest_segment() {
        let mut ring = Ring::<()>::new(100);
        let places: Vec<_> = (0..4).map(|_| ring.reserve(25, 1, 100).unwrap()).collect();
        assert_eq!(places.iter().map(|it| it.offset).collect::<Vec<_>>(), [0, 25, 50, 75]);
        assert_eq!(ring.used(), 100);
        assert!(ring.reserve(1, 1, 100).is_none());
        ring.set(1, SegmentState::Free);
        assert!(ring.reserve(1, 1, 100).is_none(), "the oldest still lies before it");
        ring.set(0, SegmentState::Submitted(Submission::NONE));
        assert_eq!(ring.oldest(), Some((0, SegmentState::Submitted(Submission::NONE))));
        ring.set(0, SegmentState::Free);
        assert_eq!(ring.oldest().map(|it| it.0), Some(2));
        assert_eq!(ring.reserve(50, 1, 100), Some(Place { number: 4, offset: 0 }));
        assert!(ring.reserve(1, 1, 100).is_none());
    }

    #[test]
    fn what_the_device_has_is_claimed_once() {
        let mut ring = Ring::<&str>::new(64);
        let place = ring.reserve(8, 8, 64).unwrap();
        ring.attach(place.number, "copy it out");
        assert_eq!(ring.claim(place.number), None, "the host has it");
        ring.set(place.number, SegmentState::Recorded(7));
        assert_eq!(ring.claim(place.number), None, "it was not submitted");
        ring.set(place.number, SegmentState::Submitted(Submission::NONE));
        assert_eq!(ring.claim(place.number), Some("copy it out"));
        assert_eq!(ring.claim(place.number), None);
        ring.set(place.number, SegmentState::Free);
        assert_eq!((ring.used(), ring.state(place.number)), (0, None));
    }

    #[test]
    fn one_segment_alone_may_exceed_the_limit_but_not_the_ring() {
        let mut ring = Ring::<()>::new(64);
        assert!(ring.reserve(65, 1, 64).is_none());
        assert!(ring.reserve(64, 1, 32).is_some());
    }
}
