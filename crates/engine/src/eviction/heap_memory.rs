//! Memory objects of a heap in which all that is live may be taken away: dedicated ones and whole blocks.

use std::collections::HashSet;
use std::sync::Arc;

use super::attempt::{Attempt, Taken};
use super::group::{Group, Mark};
use super::host_memory::{collect, push};
use super::rule::{Priority, Rule};
use crate::handle::{AllocationId, PoolKey, SlotKey};
use crate::pools::memory_object::Release;
use crate::pools::pool::Pool;
use crate::pools::registry::Pools;
use crate::recording::is_active;
use crate::request::{AllocationCreateFlags as Create, AllocationRequest};
use crate::suballocator::{BlockIndex, RegionTag};

/// The oldest allocations of a pool whose memory objects are weighed; more of them if these are not enough.
const FIRST_MARKS: usize = 64;

/// What has to become free.
pub(super) struct Need {
    heap: u32,
    /// Bytes of the heap.
    bytes: u64,
    /// The pool whose block is to become empty and the bytes that it needs to have, if one of its blocks is needed.
    own: Option<(PoolKey, u64)>,
    /// Whether less than `bytes` is better than nothing.
    partly: bool,
}

impl Need {
    /// The need of a request that a limit or a budget refuses; `None` if none does.
    pub fn of_limits(pool: &Pool, request: &AllocationRequest) -> Option<Self> {
        let (_, missing) = Self::bytes(pool, request);
        (missing > 0).then(|| Self::of_bytes(pool, missing))
    }

    /// The need of a request that the driver refuses: as much as the request needs may help, and if there are too many
    /// memory objects, any of them.
    pub fn of_driver(pool: &Pool, request: &AllocationRequest, too_many_objects: bool) -> Self {
        let (object, missing) = Self::bytes(pool, request);
        Self::of_bytes(pool, if too_many_objects { missing.max(1) } else { missing.max(object) })
    }

    /// The need of a block in which a request has room.
    pub fn of_block(pool: &Pool, size: u64) -> Self {
        Self { own: Some((pool.pool_key(), size)), ..Self::of_bytes(pool, size) }
    }

    fn bytes(pool: &Pool, request: &AllocationRequest) -> (u64, u64) {
        let within_budget = request.create_info.flags.contains(Create::WITHIN_BUDGET);
        pool.missing_bytes(request, within_budget)
    }

    fn of_bytes(pool: &Pool, bytes: u64) -> Self {
        Self { heap: pool.heap(), bytes, own: None, partly: false }
    }

    /// The need of a heap that is over its budget.
    pub fn of_heap(heap: u32, bytes: u64) -> Self {
        Self { heap, bytes, own: None, partly: true }
    }
}

/// A memory object that becomes free if these allocations are taken away.
pub(super) struct Unit {
    group: Arc<Group>,
    /// The block; `None`: dedicated memory.
    block: Option<BlockIndex>,
    victims: Vec<Mark>,
    keys: Vec<SlotKey>,
    bytes: u64,
    /// The highest priority and the newest use in it.
    rank: (Priority, u64),
}

impl Attempt<'_> {
    /// Returns the memory objects to free, the oldest ones, if there are enough.
    pub fn choose_units(&self, need: &Need) -> Option<Vec<Unit>> {
        let mut most = FIRST_MARKS;
        loop {
            let (units, is_all) = self.units(need, most)?;
            let mut chosen = choose(units, need);
            if chosen.is_none() && !is_all {
                most = most.saturating_mul(16);
                continue;
            }
            return chosen.take().filter(|chosen| !chosen.is_empty());
        }
    }

    /// Returns the memory objects that hold one of the `most` oldest allocations of each pool, and whether these
    /// were all; `None` without host memory.
    fn units(&self, need: &Need, most: usize) -> Option<(Vec<Unit>, bool)> {
        let is_wanted = |group: &Group| {
            group.heap == need.heap
                && need.own.is_none_or(|(pool, _)| group.key.pool == pool && !group.key.dedicated)
        };
        let (mut units, mut is_all) = (Vec::new(), true);
        for group in self.eviction.groups(is_wanted)? {
            let Some(rule) = self.eviction.rule(&group, &self.reach) else { continue };
            let marks = self.oldest(&group, &rule, most)?;
            is_all &= marks.len() < most;
            // Without the pool there is nothing to find.
            let found = self.pools.with_pool(group.key.pool, |pool| {
                Some(match group.key.dedicated {
                    true => dedicated_of(pool, &group, &marks, &mut units),
                    false => self.blocks_of(pool, &group, &rule, &marks, &mut units),
                })
            });
            found.unwrap_or(Some(()))?;
        }
        Some((units, is_all))
    }

    /// Returns the `most` oldest allocations of a group; `None` without host memory.
    pub fn oldest(&self, group: &Group, rule: &Rule, most: usize) -> Option<Vec<Mark>> {
        let mut records = group.lock();
        let mut walk = records.oldest(rule);
        let mut marks = Vec::new();
        let mut reserved = Some(());
        while marks.len() < most
            && reserved.is_some()
            && let Some(mark) = walk.next(&mut records, &self.spared)
        {
            reserved = push(&mut marks, mark);
        }
        walk.close(&mut records);
        reserved.map(|()| marks)
    }

    /// Adds the blocks of marked allocations that hold nothing but what may go; `None` without host memory.
    fn blocks_of(
        &self,
        pool: &Pool,
        group: &Arc<Group>,
        rule: &Rule,
        marks: &[Mark],
        units: &mut Vec<Unit>,
    ) -> Option<()> {
        let records = group.lock();
        let mut seen = HashSet::new();
        for mark in marks {
            let Some(block) = pool.arena().block_of(mark.id.key) else { continue };
            seen.try_reserve(1).ok()?;
            if !seen.insert(block) {
                continue;
            }
            let mut victims = Vec::new();
            let all = pool.arena().search_block(block, |regions| {
                regions.all_of(block, &mut |key| {
                    let mark = records.eligible(key, rule, &self.spared);
                    mark.is_some_and(|mark| push(&mut victims, mark).is_some())
                })
            });
            let (Some(Some(keys)), Some(memory)) = (all, pool.arena().block(block)) else {
                continue;
            };
            let rank = victims.iter().map(Mark::rank).max();
            let Some(rank) = rank else { continue };
            let group = group.clone();
            let (block, bytes) = (Some(block), memory.size);
            push(units, Unit { group, block, victims, keys, bytes, rank })?;
        }
        Some(())
    }

    /// Takes away what is in these memory objects: all or nothing; they are freed with `taken`. `ready`, called when
    /// it is sure that they can go, decides whether they do; it makes no driver call. Returns whether they were taken.
    pub fn take_units(
        &mut self,
        units: &[Unit],
        taken: &mut Taken,
        ready: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut victims: Vec<AllocationId> = Vec::new();
        for mark in units.iter().flat_map(|unit| &unit.victims) {
            if push(&mut victims, mark.id).is_none() {
                return false;
            }
        }
        // A unit may have maps to undo for each victim that was mapped last, and one memory object.
        if taken.reserve(victims.len(), victims.len() + units.len()).is_none() {
            return false;
        }
        let pools = self.pools;
        self.ask(&victims, &mut || {
            let mut claims = Claims { units, claimed: 0 };
            while claims.claimed < units.len() {
                let unit = &units[claims.claimed];
                if !unit.group.lock().claim(&unit.victims) {
                    return false;
                }
                claims.claimed += 1;
            }
            if !units.iter().all(|unit| unit.can_go(pools)) || !ready() {
                return false;
            }
            for unit in units {
                unit.take(pools, taken);
            }
            claims.claimed = 0;
            true
        })
    }
}

/// Claims that are given up when this is dropped, also by a panic: touches wait for them.
struct Claims<'a> {
    units: &'a [Unit],
    claimed: usize,
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        let claimed = &self.units[..self.claimed];
        claimed.iter().for_each(|unit| unit.group.lock().unclaim(&unit.victims));
    }
}

impl Unit {
    /// Returns the bytes of the memory object.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the block and what is in it; `None` for dedicated memory.
    pub fn into_block(self) -> Option<(BlockIndex, Vec<Mark>)> {
        Some((self.block?, self.victims))
    }

    /// Returns whether it still holds nothing else.
    fn can_go(&self, pools: &Pools) -> bool {
        let can_go = pools.with_pool(self.group.key.pool, |pool| {
            Some(match self.block {
                Some(block) => pool.arena().holds_only(block, &self.keys),
                None => pool.is_loose(self.victims[0].id),
            })
        });
        can_go == Some(true)
    }

    /// Takes away what is in it. If something else was placed in the block meanwhile, the block stays.
    fn take(&self, pools: &Pools, taken: &mut Taken) {
        let (key, keys) = (self.group.key, &self.keys);
        let Taken { releases, named, count, .. } = taken;
        let mut records = self.group.lock();
        pools.with_pool(key.pool, |pool| {
            let mut note = |slot, tag: RegionTag| {
                *count += 1;
                if tag.named {
                    named.push(AllocationId::new(key.pool, key.dedicated, slot));
                }
            };
            match self.block {
                Some(block) => {
                    pool.arena().lose_block(block, keys, releases, &mut note);
                }
                None => {
                    let mut release = Release::default();
                    pool.lose(true, keys, &mut release, &mut note);
                    releases.push(release);
                }
            }
            Some(())
        });
        if is_active() {
            self.group.tell_losses(&self.victims);
        }
        records.lose(&self.victims);
    }
}

/// Adds the memory objects of marked dedicated allocations that are not mapped; `None` without host memory.
fn dedicated_of(
    pool: &Pool,
    group: &Arc<Group>,
    marks: &[Mark],
    units: &mut Vec<Unit>,
) -> Option<()> {
    for mark in marks {
        let Some((memory, tag)) = pool.memory_of(mark.id) else { continue };
        if tag.is_mapped() {
            continue;
        }
        let (victims, keys) =
            (collect([*mark].iter().copied())?, collect([mark.id.key].into_iter())?);
        let (group, bytes, rank) = (group.clone(), memory.size, mark.rank());
        push(units, Unit { group, block: None, victims, keys, bytes, rank })?;
    }
    Some(())
}

/// Returns the oldest units that are needed; `None` if all are not enough.
fn choose(mut units: Vec<Unit>, need: &Need) -> Option<Vec<Unit>> {
    // Without host memory, and in an order that does not change.
    units.sort_unstable_by_key(|unit| (unit.rank, unit.victims.first().map(|mark| mark.record)));
    if let Some((_, size)) = need.own {
        let at = units.iter().position(|unit| unit.bytes >= size)?;
        return Some(vec![units.swap_remove(at)]);
    }
    let mut sum = 0u64;
    let mut chosen: Vec<Unit> = Vec::new();
    for unit in units {
        if sum >= need.bytes {
            break;
        }
        sum = sum.saturating_add(unit.bytes);
        push(&mut chosen, unit)?;
    }
    if sum < need.bytes && !need.partly {
        return None;
    }
    // What a later, larger one makes superfluous, the newest first.
    for at in (0..chosen.len()).rev() {
        if sum - chosen[at].bytes >= need.bytes {
            sum -= chosen.remove(at).bytes;
        }
    }
    Some(chosen)
}
