//! [`LossWatcher`]: which allocations a replay loses.

use std::collections::VecDeque;

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{AllocationId, EvictionOwner};

/// Notes allocations that are taken away, until they are asked for.
#[derive(Default)]
pub(super) struct LossWatcher {
    lost: Mutex<Vec<AllocationId>, rank::ReplayObject>,
    /// What the program refused to lose, question by question.
    refused: Mutex<VecDeque<Vec<AllocationId>>, rank::ReplayObject>,
}

impl LossWatcher {
    /// Returns and removes the allocations that were lost since the last call.
    pub fn take(&self) -> Vec<AllocationId> {
        std::mem::take(&mut self.lost.lock())
    }
}

impl LossWatcher {
    /// Refuses to lose allocations when it is asked next.
    pub fn refuse(&self, allocations: Vec<AllocationId>) {
        self.refused.lock().push_back(allocations);
    }
}

impl EvictionOwner for LossWatcher {
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        let mut all = self.refused.lock();
        let is_this = |refused: &Vec<AllocationId>| refused.iter().all(|it| victims.contains(it));
        if all.front().is_some_and(is_this)
            && let Some(refused) = all.pop_front()
        {
            return Err(refused);
        }
        drop(all);
        let done = commit();
        if done {
            self.lost.lock().extend_from_slice(victims);
        }
        Ok(done)
    }
}
