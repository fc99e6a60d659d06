//! Statistics of the regions of all blocks, in one pass over the slots.
//!
//! Slots are visited in order of the table, so that no access depends on the one before. Whether a slot
//! is live cannot be predicted, so sums are computed without a branch. Free neighbours are always merged
//! and links say which neighbours are free; so an unused range is a free region plus the padding of a
//! live one before it, or the padding alone. Only the smallest and largest range have to know what lies
//! before them, and few ranges are candidates for these.

use std::hint::select_unpredictable;

use super::node::{NONE, Node, is_free_link, target};
use super::region::RegionTable;
use crate::statistics::Statistics;

impl RegionTable {
    /// Adds the regions of all blocks to `statistics`. No region may wait to be merged, and `padding` is
    /// an upper bound in bytes of what a live region takes up beyond its size.
    pub(super) fn count(&self, padding: u64, statistics: &mut Statistics) {
        let mut count = Count { padding, ..Count::default() };
        for row in self.nodes().rows() {
            for node in row {
                count.add(node, self);
            }
        }
        statistics.add(&count.finish(self));
    }
}

/// Sums and extremes so far. The sums cannot overflow: they are bounded by the block sizes, whose sum is
/// checked when a block is added.
#[derive(Default)]
struct Count {
    padding: u64,
    live: u64,
    live_bytes: u64,
    live_sizes: Extremes,
    unused: u64,
    unused_bytes: u64,
    unused_sizes: Extremes,
    pending: PendingRanges,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, node: &Node, table: &RegionTable) {
        let sum = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
        let (is_live, size) = (node.is_live(), node.size());
        let if_live = u64::from(is_live).wrapping_neg();
        sum(&mut self.live, u64::from(is_live));
        sum(&mut self.live_bytes, size & if_live);
        if is_live & self.live_sizes.is_outside(size) {
            self.live_sizes.add(size);
        }

        // Edge nodes and vacant slots have 0 bytes.
        let unused = select_unpredictable(is_live, node.padding_if_live(), size);
        sum(&mut self.unused_bytes, unused);
        let is_range = (unused != 0) & !(is_live & is_free_link(node.next));
        sum(&mut self.unused, u64::from(is_range));
        let most = unused.wrapping_add(self.padding & !if_live);
        if is_range & (self.unused_sizes.is_outside(unused) | self.unused_sizes.is_outside(most)) {
            self.add_range(node, unused, table);
        }
    }

    #[cold]
    fn add_range(&mut self, node: &Node, unused: u64, table: &RegionTable) {
        if node.is_live() {
            return self.unused_sizes.add(unused);
        }
        // The region before it is elsewhere in the table: prefetch it and use it later.
        let before = target(node.previous);
        table.nodes().prefetch(before);
        let earlier = self.pending.exchange((before, unused));
        self.answer(earlier, table);
    }

    fn answer(&mut self, (before, unused): (u32, u64), table: &RegionTable) {
        if before != NONE {
            let padding = table.node(before).padding();
            debug_assert!(padding <= self.padding);
            self.unused_sizes.add(padding + unused);
        }
    }

    fn finish(mut self, table: &RegionTable) -> Statistics {
        for range in self.pending.ranges {
            self.answer(range, table);
        }
        let (live, unused) = (self.live_sizes, self.unused_sizes);
        let mut statistics = Statistics {
            allocation_count: self.live,
            allocation_bytes: self.live_bytes,
            unused_range_count: self.unused,
            unused_range_bytes: self.unused_bytes,
            ..Statistics::default()
        };
        if self.live > 0 {
            statistics.allocation_size_min = live.min;
            statistics.allocation_size_max = live.min + live.span;
        }
        if self.unused > 0 {
            statistics.unused_range_size_min = unused.min;
            statistics.unused_range_size_max = unused.min + unused.span;
        }
        statistics
    }
}

/// The smallest size and the span to the largest: one comparison then finds whether a size lies outside.
#[derive(Clone, Copy)]
struct Extremes {
    min: u64,
    span: u64,
}

impl Default for Extremes {
    /// Returns the extremes of no sizes: every size lies outside.
    fn default() -> Self {
        Self { min: u64::MAX, span: 0 }
    }
}

impl Extremes {
    /// Returns whether a size lies outside the extremes.
    #[inline(always)]
    fn is_outside(&self, size: u64) -> bool {
        size.wrapping_sub(self.min) > self.span
    }

    #[cold]
    fn add(&mut self, size: u64) {
        let max = if self.min == u64::MAX { size } else { size.max(self.min + self.span) };
        self.min = self.min.min(size);
        self.span = max - self.min;
    }
}

/// Free regions whose preceding region has been prefetched but not read yet.
struct PendingRanges {
    ranges: [(u32, u64); Self::COUNT],
    next: usize,
}

impl Default for PendingRanges {
    fn default() -> Self {
        Self { ranges: [(NONE, 0); Self::COUNT], next: 0 }
    }
}

impl PendingRanges {
    const COUNT: usize = 16;

    /// Adds a range and returns the one that has waited longest.
    fn exchange(&mut self, range: (u32, u64)) -> (u32, u64) {
        self.next = (self.next + 1) % Self::COUNT;
        std::mem::replace(&mut self.ranges[self.next], range)
    }
}
