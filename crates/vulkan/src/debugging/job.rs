//! [`Job`]: what of one resource's memory is to be written.

use std::ops::Range;

use vkmem_engine::{AllocationMemory, Pattern};

/// What of one target is to be written.
pub(super) struct Job {
    pub(super) place: AllocationMemory,
    /// The byte, if its contents are filled.
    pub(super) contents: Option<u8>,
    /// The pattern, if it has margins to be written.
    pub(super) margins: Option<Pattern>,
}

impl Job {
    /// Returns where its margins lie in the memory object; empty ranges if they are not to be written.
    pub(super) fn margins(&self) -> [Range<u64>; 2] {
        let AllocationMemory { offset, size, margin, .. } = self.place;
        let margin = if self.margins.is_some() { margin } else { 0 };
        [offset - margin..offset, offset + size..offset + size + margin]
    }
}
