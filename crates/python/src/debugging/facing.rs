//! Whether the margins of neighbours are intact: that tells on which side of a margin the writer was.

use std::collections::HashSet;

use vkmem_engine::{AllocationId, GuardedUse};
use vkmem_vulkan::Finding;

use super::state::DebugState;
use crate::lifetime::ownership::AllocatorState;

/// Findings whose neighbours are looked at: so many have a report at most.
const MOST: usize = 100;

/// Returns the margin of a neighbour that is next to the one that was written.
fn next_to(finding: &Finding) -> Option<(AllocationId, GuardedUse)> {
    let [before, behind] = finding.range.neighbours;
    match finding.range.is {
        GuardedUse::FrontMargin => before.map(|id| (id, GuardedUse::BackMargin)),
        GuardedUse::BackMargin => behind.map(|id| (id, GuardedUse::FrontMargin)),
        GuardedUse::Quarantined | GuardedUse::Unused => None,
    }
}

impl DebugState {
    /// Returns for each finding whether the neighbour's margin next to it is as it was; `None` if there is none, or if
    /// that is not known.
    pub(super) fn facing(
        &self,
        allocator: &AllocatorState,
        findings: &[Finding],
    ) -> Vec<Option<bool>> {
        let looked_at = &findings[..findings.len().min(MOST)];
        let mut ids: Vec<AllocationId> = Vec::new();
        let mut seen = HashSet::new();
        for (id, _) in looked_at.iter().filter_map(next_to) {
            let is_filled = || allocator.engine().hold_memory_of(id).is_ok_and(|it| it.is_filled);
            if seen.insert(id) && is_filled() {
                ids.push(id);
            }
        }
        // What cannot be checked is not known.
        if ids.is_empty() {
            return vec![None; findings.len()];
        }
        let pause = || self.running.pause();
        let checked = self.memory.check_some(&allocator.device_allocator, &ids, &pause);
        let Ok(checked) = self.outcome(checked) else { return vec![None; findings.len()] };
        let known: HashSet<AllocationId> = ids.into_iter().collect();
        let is_wrong: HashSet<(AllocationId, u8)> = checked
            .findings
            .iter()
            .filter_map(|it| it.range.id.map(|id| (id, it.range.is as u8)))
            .collect();
        let facing = looked_at.iter().map(|it| {
            let (id, is) = next_to(it).filter(|it| known.contains(&it.0))?;
            Some(!is_wrong.contains(&(id, is as u8)))
        });
        facing.chain(std::iter::repeat(None)).take(findings.len()).collect()
    }
}
