//! Recording of an allocator: who is told, and what of calls that several files share.

use std::sync::Arc;

use super::Allocator;
use crate::allocator::alias::AliasRequest;
use crate::device::{MemoryAllocateInfo, MemoryHandle};
use crate::error::{Error, FailedItem};
use crate::handle::{Allocation, AllocationId, PoolId, PoolKey};
use crate::recording::{Recorder, RecorderSlot, Subject, Told, is_active, with_subjects};
use crate::request::{AllocationRequest, ImportRequest};

/// Returns the resource of a call that is about one.
fn first(subjects: &[Subject]) -> &Subject {
    subjects.first().unwrap_or(&Subject::None)
}

impl Allocator {
    pub(crate) fn recorder(&self) -> &RecorderSlot {
        &self.setup.ledger.recorder
    }

    /// Sets who is told all that the allocator does from now on, `None` for nobody; returns who was. That one is told
    /// nothing more once this has returned. What the driver has reported of heaps is told first.
    ///
    /// Recording costs nothing while nobody is told but one load for each call and lock.
    pub fn set_recorder(&self, recorder: Option<Arc<dyn Recorder>>) -> Option<Arc<dyn Recorder>> {
        let begins = recorder.is_some();
        let before = self.recorder().set(recorder);
        if begins && self.reports_budgets() {
            let heaps = 0..self.device().info().heaps.len() as u32;
            heaps.for_each(|heap| self.setup.ledger.tell_report(heap));
        }
        before
    }

    /// Returns whether the driver reports usage and budgets of heaps (`VK_EXT_memory_budget`).
    pub fn reports_budgets(&self) -> bool {
        self.setup.ledger.asks_driver()
    }

    /// Returns the custom pools, for a recording that begins in the middle.
    pub fn custom_pools(&self) -> Vec<PoolId> {
        let mut found = Vec::new();
        self.pools.each_custom(|pool| {
            if let PoolKey::Custom(id) = pool.pool_key() {
                found.push(id);
            }
        });
        found
    }

    /// Returns all memory objects with what they were allocated as, for a recording that begins in the middle.
    /// O(memory objects).
    pub fn memory_objects(&self) -> Vec<(MemoryHandle, MemoryAllocateInfo)> {
        let mut found = Vec::new();
        self.pools.each(|pool| {
            pool.each_memory(&mut |memory| found.push((memory.handle, memory.info)));
        });
        found
    }

    /// Allocates the next block of a pool if it runs low, as the thread of
    /// [`prefetch`](crate::AllocatorOptions::prefetch) does by itself.
    pub fn prefetch(&self, pool: PoolKey) {
        self.pools.prefetch(pool);
    }

    /// Merges freed regions of a pool, as counting them does.
    pub fn merge_freed(&self, pool: PoolKey) {
        let _ = self.pools.with_pool(pool, |pool| Some(pool.statistics()));
    }

    /// Tells those who record the allocator something that is not a call of it: see [`Told`].
    #[inline]
    pub fn tell_recorder<'a>(&self, told: impl FnOnce() -> Told<'a>) {
        if is_active() {
            self.recorder().tell_now(&told());
        }
    }

    /// Tells those who record the allocator that a Vulkan function failed, for an allocation if it has one.
    #[cold]
    #[inline(never)]
    pub fn tell_failed(&self, function: &'static str, id: Option<AllocationId>, error: &Error) {
        self.tell_recorder(|| Told::Failed(function, id, error));
    }

    #[cold]
    #[inline(never)]
    pub(super) fn tell_made(&self, request: &AllocationRequest, made: Allocation) {
        with_subjects(|subjects| {
            self.recorder().tell(&Told::Allocate(request, first(subjects), Ok(&made)));
        });
    }

    #[cold]
    pub(super) fn tell_refused(&self, request: &AllocationRequest, error: &Error) {
        with_subjects(|subjects| {
            self.recorder().tell_now(&Told::Allocate(request, first(subjects), Err(error)));
        });
    }

    #[cold]
    pub(super) fn tell_many(
        &self,
        requests: &[AllocationRequest],
        made: &Result<Vec<Allocation>, FailedItem>,
    ) {
        with_subjects(|subjects| {
            let subjects = if subjects.len() == requests.len() { subjects } else { &[] };
            let made = match made {
                Ok(made) if made.is_empty() => return,
                Ok(made) => Ok(made.as_slice()),
                Err(failed) => Err(failed),
            };
            let told = Told::AllocateMany(requests, subjects, made);
            self.recorder().tell_of_many(requests.len(), &told);
        });
    }

    #[cold]
    pub(super) fn tell_import(&self, request: &ImportRequest, made: &Result<Allocation, Error>) {
        with_subjects(|subjects| {
            let told = Told::Import(request, first(subjects), made.as_ref());
            match made {
                Ok(_) => self.recorder().tell(&told),
                Err(_) => self.recorder().tell_now(&told),
            }
        });
    }

    /// Tells those who record the allocator of a resource that was placed in the memory of another one; `handle` is its Vulkan handle and whether that is an image.
    #[inline]
    pub fn tell_alias(
        &self,
        base: &Allocation,
        request: &AliasRequest,
        made: &Allocation,
        handle: (u64, bool),
    ) {
        if is_active() {
            with_subjects(|subjects| {
                self.recorder().tell_now(&Told::Alias {
                    base,
                    requirements: &request.requirements,
                    kind: request.kind,
                    subject: first(subjects),
                    made,
                    handle,
                });
            });
        }
    }
}
