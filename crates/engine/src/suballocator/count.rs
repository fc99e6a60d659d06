//! Counts the regions of all blocks.
//!
//! In the order of the slots, as no look at a node then waits for the one before it. Which of them live is
//! anybody's guess, so sums go without a branch. Free neighbours are merged, and links say which are free:
//! what is unused is the free regions and what live ones take up beyond their size. Of the latter only the
//! extremes have to know whether it lies before a free region, and few come into question for those.

use super::node::{MAX_PADDING, Node, is_free_link, target};
use super::region::RegionTable;
use crate::statistics::Statistics;

/// So many regions further on it is known which ones are needed to count.
const AHEAD: usize = 16;

impl RegionTable {
    /// Adds the regions of all blocks, none of which waits to be merged.
    pub(super) fn count(&self, statistics: &mut Statistics) {
        // In registers while it counts.
        let mut counted = Statistics::default();
        for row in self.nodes().rows() {
            for (at, node) in row.iter().enumerate() {
                if let Some(later) = row.get(at + AHEAD)
                    && !later.is_live()
                    && may_be_extreme(later.size(), MAX_PADDING, &counted)
                {
                    // What lies before a free one is somewhere else.
                    self.nodes().expect(target(later.previous));
                }
                self.count_node(node, &mut counted);
            }
        }
        statistics.add(&counted);
    }

    #[inline(always)]
    fn count_node(&self, node: &Node, counted: &mut Statistics) {
        let live = node.is_live();
        let if_live = u64::from(live).wrapping_neg();
        counted.allocation_count += u64::from(live);
        counted.allocation_bytes += node.size() & if_live;
        counted.allocation_size_min = counted.allocation_size_min.min(node.size() | !if_live);
        counted.allocation_size_max = counted.allocation_size_max.max(node.size() & if_live);

        // Edges and vacant slots have no bytes.
        let unused = if live { node.padding() } else { node.size() };
        counted.unused_range_bytes += unused;
        let is_range = unused != 0 && !(live && is_free_link(node.next));
        counted.unused_range_count += u64::from(is_range);
        let most_before = if live { 0 } else { MAX_PADDING };
        if is_range && may_be_extreme(unused, most_before, counted) {
            let before = if live { 0 } else { self.node(node.previous).padding() };
            let range = before + unused;
            counted.unused_range_size_min = counted.unused_range_size_min.min(range);
            counted.unused_range_size_max = counted.unused_range_size_max.max(range);
        }
    }
}

/// Whether a range of so many bytes, and at most so many before it, may be smaller or larger than all so
/// far.
#[inline(always)]
fn may_be_extreme(bytes: u64, most_before: u64, counted: &Statistics) -> bool {
    // Of nothing, it would be the smallest.
    bytes.wrapping_sub(1) < counted.unused_range_size_min.wrapping_sub(1)
        || bytes + most_before > counted.unused_range_size_max
}
