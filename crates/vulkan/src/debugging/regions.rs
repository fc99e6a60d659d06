//! [`Regions`]: which pieces of a memory object are copied together.

use ash::vk;
use vkmem_engine::{MemoryAccess, MemoryPropertyFlags};

use crate::debugging::windows::Part;
use crate::driver::contract::Driver;

/// Places pieces one behind the other in a buffer that they are copied to; those that lie near each other in memory
/// become one region, together with what lies between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    /// The most bytes between two pieces that are copied with both of them.
    gap: u64,
    /// The buffer of the last piece, and its end there.
    last: Option<(vk::Buffer, u64)>,
    /// Bytes of the pieces so far.
    pub(super) size: u64,
}

/// The place of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its offset in the buffer that it is copied to, in bytes.
    pub(super) at: u64,
    /// Bytes between the end of the piece before and this one, if both are one region.
    pub(super) gap: Option<u64>,
}

impl Regions {
    /// Begins the regions of a memory object. What lies between pieces is left out where the host may have written it
    /// without a flush: a device that reads it is a fault of the program elsewhere.
    pub(super) fn of(driver: &dyn Driver, memory: &MemoryAccess) -> Self {
        let flags = driver.info().flags_of(memory.memory_type_index());
        let is_visible = flags.contains(MemoryPropertyFlags::HOST_VISIBLE);
        let gap = if is_visible { 0 } else { driver.bytes_of_a_region() };
        Self::with_gap(gap)
    }

    pub(super) fn with_gap(gap: u64) -> Self {
        Self { gap, last: None, size: 0 }
    }

    /// Returns where a piece would lie.
    #[inline]
    pub(super) fn place(&self, part: &Part) -> Place {
        let gap = self.last.and_then(|(buffer, end)| {
            let gap = part.offset.checked_sub(end).filter(|gap| *gap <= self.gap)?;
            (buffer == part.buffer).then_some(gap)
        });
        Place { at: self.size + gap.unwrap_or(0), gap }
    }

    /// Adds a piece, and returns where it lies.
    #[inline]
    pub(super) fn add(&mut self, part: &Part) -> Place {
        let place = self.place(part);
        self.size = place.at + part.size;
        self.last = Some((part.buffer, part.offset + part.size));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: u64 = 4096;

    fn part(buffer: u64, offset: u64, size: u64) -> Part {
        Part { buffer: vk::Handle::from_raw(buffer), offset, at: offset, size }
    }

    #[test]
    fn pieces_near_each_other_are_one_region() {
        for (gap, expected) in [
            (0, [(0, None), (16, Some(0)), (32, None), (48, None), (64, None), (80, None)]),
            (
                GAP,
                [
                    (0, None),
                    (16, Some(0)),
                    (48, Some(16)),
                    (64, None),
                    (80, None),
                    (4192, Some(GAP)),
                ],
            ),
        ] {
            let mut regions = Regions::with_gap(gap);
            let offsets = [(1, 0), (1, 16), (1, 48), (1, 64 + GAP + 1), (2, 8192), (2, 8208 + GAP)];
            let places = offsets.map(|(buffer, offset)| {
                let place = regions.add(&part(buffer, offset, 16));
                (place.at, place.gap)
            });
            assert_eq!(places, expected);
            assert_eq!(regions.size, expected[5].0 + 16);
        }
    }
}
