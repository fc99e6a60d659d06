//! Taking away without a request: all that is old enough, or what a heap has beyond its budget.

use super::attempt::{Attempt, Taken, commit_in_group, ids};
use super::group::{Group, Mark};
use super::heap_memory::Need;
use super::host_memory::push;
use super::registry::Eviction;
use super::rule::{Reach, Rule};
use crate::handle::{AllocationId, PoolKey};
use crate::pools::memory_object::Release;
use crate::pools::registry::Pools;

/// Allocations that are taken away at once.
const BATCH: usize = 4096;

impl Eviction {
    /// Takes away all allocations that are old enough, of a pool or of all.
    pub fn take_all(&self, pools: &Pools, pool: Option<PoolKey>) -> Taken {
        let mut taken = Taken::default();
        let of_pool = |group: &Group| pool.is_none_or(|pool| group.key.pool == pool);
        for group in self.groups(of_pool).unwrap_or_default() {
            let mut attempt = Attempt::new(self, pools, Reach::default());
            while let Some(rule) = self.rule(&group, &attempt.reach) {
                let marks = attempt.loose(&group, &rule);
                if marks.is_empty()
                    || (!attempt.take(&group, &marks, &mut taken) && !attempt.again())
                {
                    break;
                }
            }
        }
        taken
    }

    /// Takes away the oldest allocations of a heap until `bytes` of memory objects are free, or as much as
    /// possible.
    pub fn take_from_heap(&self, pools: &Pools, heap: u32, bytes: u64) -> Taken {
        let mut taken = Taken::default();
        let mut attempt = Attempt::new(self, pools, Reach::default());
        let need = Need::of_heap(heap, bytes);
        while attempt.again() {
            let Some(chosen) = attempt.choose_units(&need) else { break };
            if attempt.take_units(&chosen, &mut taken, &mut || true) {
                break;
            }
        }
        taken
    }
}

impl Attempt<'_> {
    /// Returns some of those that may be freed, the oldest first; those that may not are spared from now on.
    fn loose(&mut self, group: &Group, rule: &Rule) -> Vec<Mark> {
        let mut records = group.lock();
        let mut walk = records.oldest(rule);
        let (mut marks, mut fixed) = (Vec::new(), Vec::new());
        self.pools.with_pool(group.key.pool, |pool| {
            while marks.len() < BATCH
                && let Some(mark) = walk.next(&mut records, &self.spared)
            {
                match pool.is_loose(mark.id) {
                    true => push(&mut marks, mark)?,
                    false => push(&mut fixed, mark.id)?,
                }
            }
            Some(())
        });
        walk.close(&mut records);
        self.spare(&fixed);
        marks
    }

    fn take(&mut self, group: &Group, marks: &[Mark], taken: &mut Taken) -> bool {
        let (pools, key) = (self.pools, group.key);
        let Some(victims) = ids(marks) else { return false };
        let mut release = Release::default();
        let objects = pools.with_pool(key.pool, |pool| Some(pool.objects_at_most(marks.len())));
        let reserved = taken.reserve(marks.len(), 1).is_some()
            && release.try_reserve(objects.unwrap_or(0)).is_some();
        if !reserved {
            return false;
        }
        let done = self.ask(&victims, &mut || {
            commit_in_group(group, marks, |keys| {
                let mut note =
                    |slot, tag| taken.note(AllocationId::new(key.pool, key.dedicated, slot), tag);
                let lost = pools.with_pool(key.pool, |pool| {
                    Some(pool.lose(key.dedicated, keys, &mut release, &mut note))
                });
                lost == Some(true)
            })
        });
        taken.releases.push(release);
        done
    }
}
