//! Allocating and freeing many allocations of one pool.

use super::{DedicatedNeed, Pool};
use crate::handle::{Allocation, AllocationId};
use crate::pools::memory_object::Release;
use crate::request::AllocationRequest;
use crate::suballocator::RegionTag;

impl Pool {
    /// Allocates without driver calls, up to the first request that needs one; returns the number
    /// allocated. All requests have the same create info and memory types.
    pub(crate) fn try_allocate_many(
        &self,
        requests: &[AllocationRequest],
        made: &mut Vec<Allocation>,
    ) -> usize {
        let Some(first) = requests.first() else { return 0 };
        if self.margins.are_on() {
            let one_by_one = requests.iter().map_while(|request| self.try_allocate(request));
            let before = made.len();
            made.extend(one_by_one);
            return made.len() - before;
        }
        let mapped = self.is_to_be_mapped(first);
        let in_blocks = requests
            .iter()
            .take_while(|request| self.dedicated_need(request) == DedicatedNeed::No)
            .map(|request| self.region_request(request));
        let mut of_place = requests.iter();
        self.arena.allocate_many_in_place(in_blocks, mapped, |handle, address| {
            if let Some(request) = of_place.next() {
                let mapped = address.map(|address| address.at(handle.offset));
                made.push(self.allocation(false, &handle, request, mapped));
            }
        })
    }

    /// Frees allocations and skips stale ids; `freed` is called for each that was live. Pending driver
    /// calls are pushed to `releases`, or made here if there is no host memory for that.
    pub(crate) fn free_many(
        &self,
        ids: &[AllocationId],
        releases: &mut Vec<Release>,
        mut freed: impl FnMut(usize, RegionTag, &mut Release),
    ) {
        let mut next = 0;
        for run in ids.chunk_by(|a, b| a.is_dedicated() == b.is_dedicated()) {
            if run.first().is_some_and(|id| id.is_dedicated()) {
                for (index, id) in run.iter().enumerate() {
                    let mut release = Release::default();
                    if let Some(tag) = self.dedicated.free(id.key, &mut release) {
                        freed(next + index, tag, &mut release);
                        if releases.try_reserve(1).is_ok() {
                            releases.push(release);
                        }
                    }
                }
            } else {
                self.arena.free_many(run, releases, |index, tag, release| {
                    freed(next + index, tag, release);
                });
            }
            next += run.len();
        }
    }
}
