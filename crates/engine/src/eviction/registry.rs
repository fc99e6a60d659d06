//! [`Eviction`]: all evictable allocations of an allocator, its frame clock and its owner.

use std::collections::HashMap;
use std::sync::Arc;

use super::evictable::Evictable;
use super::group::{Counts, Group, GroupKey};
use super::host_memory::push;
use super::owner::EvictionOwner;
use super::rule::{Priority, Reach, Rule};
use super::stamps::Clock;
use crate::error::Error;
use crate::handle::{Allocation, AllocationId, PoolKey};
use crate::lock::{RwLock, rank};
use crate::pools::pool::Pool;
use crate::recording::{RecorderSlot, Told};

/// Chunks of allocations whose bounds are corrected in a frame: 10 to 15 us if none of them is in the cache.
const CORRECTIONS: usize = 24;

/// Evictable and lost allocations of one memory type, or of all: VMA 2.3 counts none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionStatistics {
    /// Number of allocations that may be taken away when they are old enough.
    pub evictable_count: u64,
    /// Their requested size in bytes.
    pub evictable_bytes: u64,
    /// Number of allocations that were taken away and whose owner has not ended them yet.
    pub lost_count: u64,
    /// Their requested size in bytes.
    pub lost_bytes: u64,
    /// Number of allocations that were ever taken away.
    pub loss_count: u64,
    /// Their requested size in bytes.
    pub loss_bytes: u64,
}

impl EvictionStatistics {
    fn add(&mut self, counts: &Counts) {
        self.evictable_count += counts.evictable.0;
        self.evictable_bytes += counts.evictable.1;
        self.lost_count += counts.lost.0;
        self.lost_bytes += counts.lost.1;
        self.loss_count += counts.losses.0;
        self.loss_bytes += counts.losses.1;
    }
}

/// All evictable allocations of an allocator.
pub(crate) struct Eviction {
    pub(super) clock: Arc<Clock>,
    frames_in_use: u64,
    recorder: Arc<RecorderSlot>,
    groups: RwLock<HashMap<GroupKey, Arc<Group>>, rank::EvictablePools>,
    owner: RwLock<Option<Arc<dyn EvictionOwner>>, rank::EvictionOwner>,
}

impl Eviction {
    /// Creates a registry without allocations; `frames_in_use` applies to pools without a value of their own.
    pub fn new(frames_in_use: u64, recorder: Arc<RecorderSlot>) -> Self {
        let (clock, groups, owner) = (Arc::default(), RwLock::default(), RwLock::default());
        Self { clock, frames_in_use, recorder, groups, owner }
    }

    /// Sets the frame, and corrects some of the bounds of the groups, so that requests find them correct. Takes some
    /// microseconds, however many allocations there are.
    pub fn set_frame(&self, frame: u64) {
        if !self.clock.set(frame) {
            return;
        }
        let groups = self.groups.read();
        // Each frame begins with another group.
        let first = (frame % groups.len().max(1) as u64) as usize;
        let mut left = CORRECTIONS;
        for group in groups.values().cycle().skip(first).take(groups.len()) {
            if left == 0 {
                break;
            }
            left -= group.lock().correct_bounds(self.frame(), left);
        }
    }

    pub fn frame(&self) -> u64 {
        self.clock.frame()
    }

    pub fn set_owner(&self, owner: Option<Arc<dyn EvictionOwner>>) {
        let before = std::mem::replace(&mut *self.owner.write(), owner);
        // Without the lock: it may run foreign code.
        drop(before);
    }

    /// Tells who records the allocator what its owner refused to lose.
    #[cold]
    pub(super) fn tell_refused(&self, in_use: &[AllocationId]) {
        self.recorder.tell_now(&Told::RefuseLosses(in_use));
    }

    pub(super) fn owner(&self) -> Option<Arc<dyn EvictionOwner>> {
        self.owner.read().clone()
    }

    /// Makes an allocation of a pool evictable.
    pub fn add(
        &self,
        pool: &Pool,
        allocation: &Allocation,
        priority: f32,
    ) -> Result<Evictable, Error> {
        let key = GroupKey::of(allocation.id);
        let group = match self.group(key) {
            Some(group) => group,
            None => self.new_group(key, pool)?,
        };
        let priority = Priority::new(priority);
        let (chunk, record) = group.add(allocation.id, allocation.size, priority)?;
        Ok(Evictable::new(chunk, group, record))
    }

    fn new_group(&self, key: GroupKey, pool: &Pool) -> Result<Arc<Group>, Error> {
        let rules = pool.rules();
        let frames_in_use = rules.frames_in_use.unwrap_or(self.frames_in_use);
        let mut groups = self.groups.write();
        groups.try_reserve(1).map_err(|_| Error::NoHostMemory("an evictable allocation"))?;
        let memory = (rules.memory_type_index, pool.heap());
        let group = || Group::new(key, memory, frames_in_use, &self.clock, &self.recorder);
        Ok(groups.entry(key).or_insert_with(|| Arc::new(group())).clone())
    }

    pub(super) fn group(&self, key: GroupKey) -> Option<Arc<Group>> {
        self.groups.read().get(&key).cloned()
    }

    /// Returns the groups for which `wanted` is true, in an order that does not change; `None` without host memory.
    pub(super) fn groups(&self, wanted: impl Fn(&Group) -> bool) -> Option<Vec<Arc<Group>>> {
        let groups = self.groups.read();
        let mut found: Vec<Arc<Group>> = Vec::new();
        for group in groups.values().filter(|group| wanted(group)) {
            push(&mut found, group.clone())?;
        }
        drop(groups);
        let place = |group: &Arc<Group>| {
            let (kind, number) = match group.key.pool {
                PoolKey::Default(index) => (0, u64::from(index)),
                PoolKey::Custom(id) => (1, id.0.to_bits()),
            };
            (kind, number, group.key.dedicated)
        };
        found.sort_unstable_by_key(place);
        Some(found)
    }

    /// Returns the rule for a group; `None` if nothing in it is old enough.
    pub(super) fn rule(&self, group: &Group, reach: &Reach) -> Option<Rule> {
        reach.rule(self.frame(), group.frames_in_use)
    }

    /// Forgets the groups of a pool that was destroyed.
    pub fn forget_pool(&self, pool: PoolKey) {
        self.groups.write().retain(|key, _| key.pool != pool);
    }

    /// Counts evictable and lost allocations of the memory types for whose indices `wanted` is true. O(pools with such
    /// allocations).
    pub fn statistics(&self, wanted: impl Fn(u32) -> bool) -> EvictionStatistics {
        let mut statistics = EvictionStatistics::default();
        let groups = self.groups.read();
        for group in groups.values().filter(|it| wanted(it.memory_type_index)) {
            statistics.add(&group.lock().counts);
        }
        statistics
    }
}
