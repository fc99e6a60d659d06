//! [`EmptyBlockRetention`]: which empty blocks are kept for later allocations.

use crate::heap::ledger::HeapLedger;

/// Limits on the empty blocks that are kept while their heap is within its budget. All limits apply at
/// once. The `min_block_count` blocks of a pool are kept in any case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmptyBlockRetention {
    /// Maximum number of empty blocks for each memory type and each pool.
    pub count: Option<u32>,
    /// Maximum bytes of empty blocks in each heap.
    pub bytes: Option<u64>,
    /// Maximum bytes of empty blocks in each heap, as a share of its budget from 0 to 1.
    pub share: Option<f64>,
}

impl Default for EmptyBlockRetention {
    /// Retains one block for each memory type, as in VMA: the next allocation often follows soon.
    fn default() -> Self {
        Self { count: Some(1), bytes: None, share: None }
    }
}

impl EmptyBlockRetention {
    /// Counts an empty block of `size` bytes as retained if the limits allow it, `kept` being the number
    /// of those in its arena; returns whether they do.
    pub(crate) fn keep(
        &self,
        ledger: &HeapLedger,
        memory_type_index: u32,
        kept: usize,
        size: u64,
    ) -> bool {
        if self.count.is_some_and(|count| kept >= count as usize) {
            return false;
        }
        let mut most = self.bytes.unwrap_or(u64::MAX);
        if let Some(share) = self.share {
            most = most.min((ledger.budget(memory_type_index) as f64 * share) as u64);
        }
        ledger.keep(memory_type_index, size, most)
    }
}
