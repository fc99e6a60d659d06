//! [`Attempt`]: one request's attempts to take allocations away: choose, ask the owner, commit, and choose anew if
//! somebody was faster.

use super::group::{Group, Mark, Records, Spared};
use super::host_memory::collect;
use super::registry::Eviction;
use super::rule::Reach;
use crate::handle::{AllocationId, SlotKey};
use crate::pools::memory_object::Release;
use crate::pools::registry::Pools;
use crate::recording::is_active;
use crate::suballocator::RegionTag;

/// Attempts of one request: others may use the victims between choice and deed.
const ATTEMPTS: u32 = 32;

/// What is left to do after allocations were taken away.
#[derive(Default)]
pub(crate) struct Taken {
    /// Memory objects to free.
    pub releases: Vec<Release>,
    /// Allocations that had a name.
    pub named: Vec<AllocationId>,
    /// Allocations with a name that have moved: before and after.
    pub renamed: Vec<(AllocationId, AllocationId)>,
    /// Number of allocations taken.
    pub count: usize,
}

impl Taken {
    pub(super) fn add(&mut self, other: Self) {
        self.releases.extend(other.releases);
        self.named.extend(other.named);
        self.renamed.extend(other.renamed);
        self.count += other.count;
    }

    /// Reserves host memory for the loss of `victims` allocations and the release of `objects` memory objects; `None`
    /// if there is none.
    pub(super) fn reserve(&mut self, victims: usize, objects: usize) -> Option<()> {
        self.named.try_reserve(victims).ok()?;
        self.releases.try_reserve(objects).ok()
    }

    pub(super) fn note(&mut self, id: AllocationId, tag: RegionTag) {
        self.count += 1;
        if tag.named {
            self.named.push(id);
        }
    }
}

/// The attempts of one request.
pub(super) struct Attempt<'a> {
    pub eviction: &'a Eviction,
    pub pools: &'a Pools,
    pub reach: Reach,
    pub spared: Spared,
    /// Whether freeing memory could help a request that the driver has refused.
    pub may_free: bool,
    left: u32,
}

impl<'a> Attempt<'a> {
    pub fn new(eviction: &'a Eviction, pools: &'a Pools, reach: Reach) -> Self {
        Self { eviction, pools, reach, spared: Spared::new(), may_free: true, left: ATTEMPTS }
    }

    /// Counts an attempt; false if there were too many.
    pub fn again(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Ends the attempts of the request.
    pub fn give_up(&mut self) {
        self.left = 0;
    }

    /// Spares allocations from now on; ends the attempts without host memory for that.
    pub fn spare(&mut self, all: &[AllocationId]) {
        match self.spared.try_reserve(all.len()) {
            Ok(()) => self.spared.extend(all),
            Err(_) => self.give_up(),
        }
    }

    /// Lets the owner take victims away with `commit`. Returns false if nothing has changed; then those that are in
    /// use are spared from now on.
    pub fn ask(&mut self, victims: &[AllocationId], commit: &mut dyn FnMut() -> bool) -> bool {
        let Some(owner) = self.eviction.owner() else { return commit() };
        match owner.evict(victims, commit) {
            Ok(done) => done,
            Err(in_use) => {
                if is_active() {
                    self.eviction.tell_refused(&in_use);
                }
                self.spare(&in_use);
                false
            }
        }
    }
}

/// Takes regions of one group away with `act`, which frees them: all or none. `act` is called with the group's lock
/// held, so it takes short locks only.
pub(super) fn commit_in_group(
    group: &Group,
    marks: &[Mark],
    act: impl FnOnce(&[SlotKey]) -> bool,
) -> bool {
    let Some(keys) = collect(marks.iter().map(|mark| mark.id.key)) else { return false };
    let mut records = group.lock();
    if !records.claim(marks) {
        return false;
    }
    let mut claim = Claim { records: &mut records, marks, done: false };
    claim.done = act(&keys);
    if claim.done && is_active() {
        group.tell_losses(marks);
    }
    claim.done
}

/// A claim that is decided when it is dropped, also by a panic: touches wait for it.
struct Claim<'a> {
    records: &'a mut Records,
    marks: &'a [Mark],
    done: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        match self.done {
            true => self.records.lose(self.marks),
            false => self.records.unclaim(self.marks),
        }
    }
}

/// Returns the ids of marked allocations; `None` without host memory.
pub(super) fn ids(marks: &[Mark]) -> Option<Vec<AllocationId>> {
    collect(marks.iter().map(|mark| mark.id))
}
