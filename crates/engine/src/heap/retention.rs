//! Empty blocks that are kept for the next allocation.

use crate::heap::ledger::HeapLedger;

/// Which empty blocks stay, while their heap is within its budget. All limits hold together.
/// Blocks of `min_block_count` stay in any case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmptyBlockRetention {
    /// Blocks of each memory type, and of each pool.
    pub count: Option<u32>,
    /// Bytes of each heap.
    pub bytes: Option<u64>,
    /// Share of each heap's budget, from 0 to 1.
    pub share: Option<f64>,
}

impl Default for EmptyBlockRetention {
    /// One block of each memory type, as in VMA: the next allocation often comes soon.
    fn default() -> Self {
        Self { count: Some(1), bytes: None, share: None }
    }
}

impl EmptyBlockRetention {
    /// Counts a block of `size` bytes that came empty as kept, beside `kept` others of its arena, if
    /// the limits allow it.
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
