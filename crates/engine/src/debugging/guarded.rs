//! What a checker is told: memory that nobody may write.

use std::ops::Range;

use crate::handle::AllocationId;

/// The bytes around the contents of an allocation that nobody may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardBands {
    /// Bytes right before its memory.
    pub front: u64,
    /// The last bytes of its memory, which are not part of its buffer: the memory that a driver requires for a buffer
    /// may be larger than the buffer.
    pub slack: u64,
    /// Bytes right behind its memory.
    pub back: u64,
}

impl GuardBands {
    /// Returns whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Returns the ranges before and behind the contents of memory of a size at an offset.
    pub fn ranges(self, (offset, size): (u64, u64)) -> [Range<u64>; 2] {
        let end = offset + size;
        [offset - self.front..offset, end - self.slack..end + self.back]
    }

    /// Returns the range between them.
    pub fn contents(self, (offset, size): (u64, u64)) -> Range<u64> {
        offset..offset + size - self.slack
    }
}

/// Why nobody may write a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedUse {
    /// It is the margin before an allocation.
    FrontMargin,
    /// It is the margin behind an allocation.
    BackMargin,
    /// It was freed, and is not given out again yet.
    Quarantined,
    /// It belongs to no allocation.
    Unused,
}

/// A range of a memory object that nobody may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedRange {
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Where it begins, counted from the start of its allocation, in bytes; 0 if it has none.
    pub from_start: i64,
    /// Why nobody may write it.
    pub is: GuardedUse,
    /// The allocation that it belongs to; in quarantine the one that it belonged to, whose id is stale. `None` if
    /// it is unused.
    pub id: Option<AllocationId>,
    /// The next allocations below and above that are live, in the same memory object.
    pub neighbours: [Option<AllocationId>; 2],
}

impl GuardedRange {
    /// Returns the margins before and behind an allocation at a place of its memory object, offset and size, without its
    /// neighbours.
    pub fn margins_of(id: AllocationId, place: (u64, u64), bands: GuardBands) -> [GuardedRange; 2] {
        let [front, back] = bands.ranges(place);
        [(front, GuardedUse::FrontMargin), (back, GuardedUse::BackMargin)]
            .map(|(range, is)| Self::of(id, place.0, range, is))
    }

    /// Returns the contents of an allocation in quarantine, without its neighbours.
    pub fn quarantined(id: AllocationId, place: (u64, u64), bands: GuardBands) -> GuardedRange {
        Self::of(id, place.0, bands.contents(place), GuardedUse::Quarantined)
    }

    fn of(id: AllocationId, start: u64, range: Range<u64>, is: GuardedUse) -> Self {
        let from_start = range.start.cast_signed() - start.cast_signed();
        let (offset, size) = (range.start, range.end - range.start);
        Self { offset, size, from_start, is, id: Some(id), neighbours: [None; 2] }
    }

    /// Returns whether another one is this range, whatever its neighbours are.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.offset, it.size, it.is, it.id);
        place(self) == place(other)
    }
}
