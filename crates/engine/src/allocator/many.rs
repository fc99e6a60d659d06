//! Allocating many, all or none, and freeing many.

use super::Allocator;
use crate::check::check_request;
use crate::error::{Error, FailedItem};
use crate::handle::{Allocation, AllocationId};
use crate::pools::memory_object::Release;
use crate::recording::{Told, is_active};
use crate::request::AllocationRequest;
use crate::suballocator::RegionTag;

/// The work that remains after many allocations were freed.
#[derive(Default)]
pub struct Freed {
    /// Pending driver calls, made when these are dropped.
    pub releases: Vec<Release>,
    /// Names of freed allocations that had one, with their index in the call.
    pub names: Vec<(usize, String)>,
}

/// Returns whether two requests choose the same memory type.
fn chooses_same_type(a: &AllocationRequest, b: &AllocationRequest) -> bool {
    a.requirements.memory_type_bits == b.requirements.memory_type_bits
        && a.resource_use == b.resource_use
        && a.create_info == b.create_info
}

impl Allocator {
    /// Allocates all requests or none. Requests to one pool are placed under one lock while there is
    /// room; each of the others is allocated like [`allocate`](Self::allocate). May call the driver. What requests
    /// before a failed one have taken away from others stays lost.
    ///
    /// # Errors
    /// The error of the first request that fails, with its index.
    pub fn allocate_many(
        &self,
        requests: &[AllocationRequest],
    ) -> Result<Vec<Allocation>, FailedItem> {
        let made = self.allocate_many_untold(requests);
        if is_active() {
            self.tell_many(requests, &made);
        }
        made
    }

    fn allocate_many_untold(
        &self,
        requests: &[AllocationRequest],
    ) -> Result<Vec<Allocation>, FailedItem> {
        for (index, request) in requests.iter().enumerate() {
            check_request(request).map_err(|error| FailedItem { index, error })?;
        }
        self.refuse_hopeless(requests)?;
        let mut made = Vec::new();
        if made.try_reserve_exact(requests.len()).is_err() {
            let error = Error::TooManyItems(requests.len());
            return Err(FailedItem { index: 0, error });
        }
        for run in requests.chunk_by(chooses_same_type) {
            let end = made.len() + run.len();
            while made.len() < end {
                let index = made.len();
                let rest = &run[run.len() - (end - index)..];
                if self.try_allocate_run(rest, &mut made) == rest.len() {
                    break;
                }
                let index = made.len();
                match self.allocate_untold(&run[run.len() - (end - index)]) {
                    Ok(allocation) => made.push(allocation),
                    Err(error) => {
                        self.undo(&made, &error);
                        return Err(FailedItem { index, error });
                    }
                }
            }
        }
        Ok(made)
    }

    /// Returns the error of the first request that no pool could ever serve, before anything is
    /// allocated.
    fn refuse_hopeless(&self, requests: &[AllocationRequest]) -> Result<(), FailedItem> {
        for (run, start) in requests.chunk_by(chooses_same_type).scan(0, |next, run| {
            let start = *next;
            *next += run.len();
            Some((run, start))
        }) {
            let mut largest = 0;
            for (at, request) in run.iter().enumerate() {
                let needs = &request.requirements;
                if needs.size <= largest && !needs.requires_dedicated {
                    continue;
                }
                if self.could_serve(request) {
                    largest = largest.max(needs.size);
                    continue;
                }
                // Allocating returns the exact reason.
                match self.allocate_untold(request) {
                    Ok(made) => drop(self.free_untold(made.id)),
                    Err(error) => return Err(FailedItem { index: start + at, error }),
                }
            }
        }
        Ok(())
    }

    /// Places requests of one kind in existing blocks; returns the number placed.
    fn try_allocate_run(&self, run: &[AllocationRequest], made: &mut Vec<Allocation>) -> usize {
        let Some(first) = run.first() else { return 0 };
        let mut custom = None;
        let pool = self.first_pool(first, &mut custom);
        pool.map_or(0, |pool| pool.try_allocate_many(run, made))
    }

    fn undo(&self, made: &[Allocation], error: &Error) {
        // Takes no host memory, as undoing must not fail.
        made.iter().for_each(|it| drop(self.free_untold(it.id)));
        if error.allows_fallback() {
            // Memory was short, and the blocks allocated for the other requests are empty now.
            self.release_retained();
        }
    }

    /// Frees many allocations; consecutive ids of one pool under one lock. Stale ids are skipped. The
    /// regions are free at once; pending driver calls are in [`Freed`].
    pub fn free_many(&self, ids: &[AllocationId]) -> Freed {
        let mut all = Freed::default();
        let mut names = Vec::new();
        let mut live = is_active().then(Vec::new);
        let mut start = 0;
        for run in ids.chunk_by(|a, b| a.pool_key() == b.pool_key()) {
            let mut freed = |index: usize, tag: RegionTag, release: &mut Release| {
                if tag.named
                    && let Some(name) = self.names.take(run[index])
                    // Without host memory the name is not reported.
                    && names.try_reserve(1).is_ok()
                {
                    names.push((start + index, name));
                }
                self.forget_maps(run[index], tag, release);
                if let Some(live) = &mut live {
                    live.push(run[index]);
                }
            };
            // Ids of a pool that was destroyed are stale as well.
            self.pools.with_pool(run[0].pool_key(), |pool| {
                pool.free_many(run, &mut all.releases, &mut freed);
                Some(())
            });
            start += run.len();
        }
        all.names = names;
        if let Some(live) = live.filter(|it| !it.is_empty()) {
            self.recorder().tell_of_many(live.len(), &Told::FreeMany(&live));
        }
        all
    }
}
