//! [`Margins`]: the bytes before and behind each allocation that nobody may write.
//!
//! ```text
//!   region   [ front: margin rounded up to the alignment ][ payload: what was asked for ][ back: margin ]
//!   checked: [ all of it                              ]                                 [ margin ][ rounding ]
//! ```
//!
//! The suballocator knows whole regions only. The front part is a multiple of the region's alignment, which is
//! stored with it, so the place of the payload follows from the region alone.

use crate::suballocator::RegionRequest;

/// The least alignment of regions with margins, in bytes. Regions of a smaller one are the gaps that are held while
/// an allocation slides down; these have no margins.
pub(crate) const LEAST_ALIGNMENT: u64 = 4;

/// The margins of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Margins {
    bytes: u64,
}

/// A range of a memory object in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub size: u64,
}

impl Margins {
    /// Creates margins of a number of bytes, a multiple of 4.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Returns whether there are any.
    pub fn are_on(self) -> bool {
        self.bytes != 0
    }

    /// Returns the bytes before and behind the payload of a region of an alignment.
    pub fn around(self, alignment: u64) -> [u64; 2] {
        if alignment < LEAST_ALIGNMENT || self.bytes == 0 {
            return [0, 0];
        }
        // The margin is small, so this cannot overflow.
        [self.bytes.next_multiple_of(alignment), self.bytes]
    }

    /// Returns the bytes of both.
    pub fn sum(self, alignment: u64) -> u64 {
        let [front, back] = self.around(alignment);
        front.saturating_add(back)
    }

    /// Returns the request for the whole region of a request for a payload. A size that would overflow becomes one
    /// that no block has.
    pub fn widen(self, request: RegionRequest) -> RegionRequest {
        RegionRequest { size: request.size.saturating_add(self.sum(request.alignment)), ..request }
    }

    /// Returns the payload of a region.
    pub fn payload(self, alignment: u64, region: Extent) -> Extent {
        let [front, back] = self.around(alignment);
        Extent { offset: region.offset + front, size: region.size - front - back }
    }
}
