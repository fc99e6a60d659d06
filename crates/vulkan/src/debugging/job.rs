//! [`Job`]: what of one resource's memory is to be written.

use std::ops::Range;

use vkmem_engine::{AllocationMemory, GuardBands, Pattern};

/// What of one target is to be written.
pub(super) struct Job {
    pub(super) place: AllocationMemory,
    /// The margins around its contents.
    pub(super) bands: GuardBands,
    /// The byte, if its contents are filled.
    pub(super) contents: Option<u8>,
    /// The pattern, if it has margins to be written.
    pub(super) margins: Option<Pattern>,
}

impl Job {
    /// Returns where its contents lie in the memory object, between its margins.
    pub(super) fn contents(&self) -> Range<u64> {
        self.bands.contents(self.place.place())
    }

    /// Returns where its margins lie in the memory object; empty ranges if they are not to be written.
    pub(super) fn margins(&self) -> [Range<u64>; 2] {
        let bands = if self.margins.is_some() { self.bands } else { GuardBands::default() };
        bands.ranges(self.place.place())
    }
}
