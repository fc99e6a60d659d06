//! [`BlockFigures`]: what a block holds.

use std::collections::HashSet;
use std::ops::Range;

use crate::request::ResourceKind;

/// What a block holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockFigures {
    /// Whether there is such a block.
    pub exists: bool,
    /// Bytes that can be divided: of its live and its free regions.
    pub capacity: u64,
    /// Bytes of live regions, without those that are to be freed because they have moved.
    pub live: u64,
    /// Number of live regions.
    pub count: u32,
    /// Number of free regions.
    pub gaps: u32,
    /// Index of the first of these in the list of all free regions, in which they lie one behind the other.
    pub first_gap: usize,
    /// Number of live regions that have moved away or are about to, and are to be freed.
    pub sources: u32,
    /// Whether there are live regions of other kinds, and of linear ones: buffers and linear images.
    pub kinds: [bool; 2],
}

impl BlockFigures {
    pub fn is_empty(&self) -> bool {
        // A block that has only sources left is given back when they are freed.
        self.exists && self.live == 0 && self.sources == 0
    }

    pub fn is_in_use(&self) -> bool {
        self.exists && self.live > 0
    }

    /// Returns whether there are regions of kinds that must not share a page.
    pub fn is_mixed(&self) -> bool {
        self.kinds == [true; 2]
    }

    /// Returns where the free regions lie in the list of all.
    pub fn gap_range(&self) -> Range<usize> {
        self.first_gap..self.first_gap + self.gaps as usize
    }

    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.live)
    }
}

/// Returns whether resources of a kind may share a page with buffers.
pub(super) fn is_linear(kind: ResourceKind) -> bool {
    matches!(kind, ResourceKind::Buffer | ResourceKind::ImageLinear)
}

/// Returns the blocks in use by ascending live bytes, the later of two equal ones first.
pub(super) fn emptiest_first(blocks: &[BlockFigures], without: &HashSet<u32>) -> Vec<u32> {
    let in_use =
        (0u32..).zip(blocks).filter(|(index, it)| it.is_in_use() && !without.contains(index));
    let mut order: Vec<(u64, std::cmp::Reverse<u32>)> =
        in_use.map(|(index, it)| (it.live, std::cmp::Reverse(index))).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index.0).collect()
}
