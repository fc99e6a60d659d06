//! Counts the regions of all blocks.
//!
//! In the order of the slots, as no look at a node then waits for the one before it. Which of them live is
//! anybody's guess, so sums go without a branch. Free neighbours are merged, and links say which are free:
//! what is unused is the free regions and what live ones take up beyond their size. Of the latter only the
//! extremes have to know whether it lies before a free region, and few come into question for those.

use std::hint::select_unpredictable;

use super::node::{NONE, Node, is_free_link, target};
use super::region::RegionTable;
use crate::statistics::Statistics;

impl RegionTable {
    /// Adds the regions of all blocks, none of which waits to be merged, or takes up more than `padding`
    /// bytes beyond its size.
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

/// Sums and extremes so far. The sums are of parts of the blocks, whose sizes are added up with a check when
/// they are counted.
#[derive(Default)]
struct Count {
    padding: u64,
    live: u64,
    live_bytes: u64,
    live_sizes: Extremes,
    unused: u64,
    unused_bytes: u64,
    unused_sizes: Extremes,
    asked: Asked,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, node: &Node, table: &RegionTable) {
        let sum = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
        let (is_live, size) = (node.is_live(), node.size());
        let if_live = u64::from(is_live).wrapping_neg();
        sum(&mut self.live, u64::from(is_live));
        sum(&mut self.live_bytes, size & if_live);
        if is_live & self.live_sizes.lack(size) {
            self.live_sizes.add(size);
        }

        // Edges and vacant slots have no bytes.
        let unused = select_unpredictable(is_live, node.padding_if_live(), size);
        sum(&mut self.unused_bytes, unused);
        let is_range = (unused != 0) & !(is_live & is_free_link(node.next));
        sum(&mut self.unused, u64::from(is_range));
        let most = unused.wrapping_add(self.padding & !if_live);
        if is_range & (self.unused_sizes.lack(unused) | self.unused_sizes.lack(most)) {
            self.add_range(node, unused, table);
        }
    }

    #[cold]
    fn add_range(&mut self, node: &Node, unused: u64, table: &RegionTable) {
        if node.is_live() {
            return self.unused_sizes.add(unused);
        }
        // What lies before it is somewhere else: on its way while others are counted.
        let before = target(node.previous);
        table.nodes().expect(before);
        let earlier = self.asked.exchange((before, unused));
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
        for asked in self.asked.ranges {
            self.answer(asked, table);
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

/// The smallest size and how much larger the largest is: then one comparison finds whether another one is
/// neither.
#[derive(Clone, Copy)]
struct Extremes {
    min: u64,
    span: u64,
}

impl Default for Extremes {
    /// Of no sizes, which no size is between.
    fn default() -> Self {
        Self { min: u64::MAX, span: 0 }
    }
}

impl Extremes {
    /// Whether a size is not between them.
    #[inline(always)]
    fn lack(&self, size: u64) -> bool {
        size.wrapping_sub(self.min) > self.span
    }

    #[cold]
    fn add(&mut self, size: u64) {
        let max = if self.min == u64::MAX { size } else { size.max(self.min + self.span) };
        self.min = self.min.min(size);
        self.span = max - self.min;
    }
}

/// Free regions and what lies before each, which was not looked at yet.
struct Asked {
    ranges: [(u32, u64); Self::COUNT],
    next: usize,
}

impl Default for Asked {
    fn default() -> Self {
        Self { ranges: [(NONE, 0); Self::COUNT], next: 0 }
    }
}

impl Asked {
    const COUNT: usize = 16;

    /// Takes one in for the one that has been here for longest.
    fn exchange(&mut self, range: (u32, u64)) -> (u32, u64) {
        self.next = (self.next + 1) % Self::COUNT;
        std::mem::replace(&mut self.ranges[self.next], range)
    }
}
