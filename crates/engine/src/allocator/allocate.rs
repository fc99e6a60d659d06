//! Allocation: choice of the pool or memory type, and fallbacks.

use std::sync::Arc;

use super::Allocator;
use super::memory_type::Candidates;
use crate::check::{check_create_info, check_pool_allows, check_request};
use crate::device::MemoryPropertyFlags as Property;
use crate::error::Error;
use crate::handle::Allocation;
use crate::pools::pool::Pool;
use crate::recording::is_active;
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, PoolCreateInfo,
    ResourceUse,
};

/// Returns whether a request is not to be served by a memory type or pool of less choice.
fn ends_search(request: &AllocationRequest, error: &Error) -> bool {
    request.create_info.first_choice_only && error.is_shortage()
}

impl Allocator {
    /// Returns the memory type that a request would get first.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] if no memory type has the required properties;
    /// [`Error::InvalidArgument`].
    pub fn find_memory_type_index(
        &self,
        memory_type_bits: u32,
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
    ) -> Result<u32, Error> {
        check_create_info(create_info)?;
        let candidates = Candidates::new(&self.types, memory_type_bits, create_info, resource_use);
        let none = || candidates.none_found(self.device().info(), memory_type_bits, create_info);
        candidates.best(&self.types).ok_or_else(none)
    }

    /// Allocates without driver calls; `None` if that is not possible, then [`allocate`](Self::allocate)
    /// has to be called. Takes the time of
    /// [`Suballocator::allocate`](crate::suballocator::Suballocator::allocate) and waits only for a short
    /// lock.
    ///
    /// Inlined, because the result is stored in parts: copying it as a whole at each return would stall
    /// on store forwarding.
    #[inline(always)]
    pub fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        let made = self.try_allocate_untold(request)?;
        if is_active() {
            self.tell_made(request, made);
        }
        Some(made)
    }

    #[inline(always)]
    pub(super) fn try_allocate_untold(&self, request: &AllocationRequest) -> Option<Allocation> {
        if check_request(request).is_err() {
            return None;
        }
        self.first_pool(request, &mut None)?.try_allocate(request)
    }

    /// Returns the pool that a request tries first, if the resource may be placed there; a custom pool is
    /// kept alive in `custom`.
    #[inline(always)]
    pub(super) fn first_pool<'a>(
        &'a self,
        request: &AllocationRequest,
        custom: &'a mut Option<Arc<Pool>>,
    ) -> Option<&'a Pool> {
        let Some(id) = request.create_info.pool else {
            return Some(&self.pools.defaults[self.best_memory_type(request)? as usize]);
        };
        let pool = custom.insert(self.pools.get(id).ok()?);
        let bits = request.requirements.memory_type_bits;
        let serves = bits >> pool.rules().memory_type_index & 1 == 1
            && check_pool_allows(pool.rules(), &request.create_info).is_ok();
        serves.then_some(&**pool)
    }

    /// Returns the cheapest memory type that a request allows.
    fn best_memory_type(&self, request: &AllocationRequest) -> Option<u32> {
        self.candidates(request).best(&self.types)
    }

    /// Returns the memory types that a request allows.
    #[inline(always)]
    pub(crate) fn candidates(&self, request: &AllocationRequest) -> Candidates {
        let bits = request.requirements.memory_type_bits;
        Candidates::new(&self.types, bits, &request.create_info, request.resource_use)
    }

    /// Returns whether any pool that a request allows could serve it if it were empty.
    pub(super) fn could_serve(&self, request: &AllocationRequest) -> bool {
        if let Some(id) = request.create_info.pool {
            let pool = self.pools.get(id);
            return pool.is_ok_and(|pool| pool.rules().fallback || pool.could_serve(request));
        }
        let mut candidates = self.candidates(request);
        while let Some(memory_type) = candidates.best(&self.types) {
            if self.pools.defaults[memory_type as usize].could_serve(request) {
                return true;
            }
            candidates.strike(memory_type);
        }
        false
    }

    /// Allocates from the request's pool, or from the cheapest memory type first and the next one if
    /// that fails. Calls [`try_allocate`](Self::try_allocate) first; then it may call the driver.
    ///
    /// # Errors
    /// The first failure, if no memory type can serve the request.
    #[inline(always)]
    pub fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        self.try_allocate(request).map_or_else(|| self.allocate_slow(request), Ok)
    }

    /// Allocates with driver calls, if need be: for a caller whose [`try_allocate`](Self::try_allocate)
    /// has just failed.
    ///
    /// # Errors
    /// The errors of [`allocate`](Self::allocate).
    #[inline(never)]
    pub fn allocate_slow(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let made = self.allocate_slow_untold(request);
        if is_active() {
            match &made {
                Ok(made) => self.tell_made(request, *made),
                Err(error) => self.tell_refused(request, error),
            }
        }
        made
    }

    /// Allocates like [`allocate`](Self::allocate), as a part of another call.
    pub(super) fn allocate_untold(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        self.try_allocate_untold(request).map_or_else(|| self.allocate_slow_untold(request), Ok)
    }

    fn allocate_slow_untold(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        check_request(request)?;
        let made = match self.allocate_anywhere(request) {
            Err(error) if error.is_shortage() && self.end_all_quarantines() => {
                self.allocate_anywhere(request)
            }
            made => made,
        };
        let first = match made {
            Err(error) if error.is_shortage() => error,
            Err(hopeless @ Error::OutOfDeviceMemory { .. }) => return Err(hopeless),
            other => {
                // A new block may exceed the budget only because empty blocks are retained in the same
                // heap.
                self.trim_over_budget();
                return other;
            }
        };
        // Retained empty blocks must not be the reason of a failure.
        if request.create_info.flags.contains(Create::NEVER_ALLOCATE)
            || self.release_retained() == 0
        {
            return Err(first);
        }
        self.allocate_anywhere(request).map_err(|_| first)
    }

    fn allocate_anywhere(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        let Some(id) = request.create_info.pool else {
            return self.allocate_in_types(request, None);
        };
        let pool = self.pools.get(id)?;
        let memory_type = pool.rules().memory_type_index;
        check_pool_allows(pool.rules(), &request.create_info)?;
        if request.requirements.memory_type_bits >> memory_type & 1 == 0 {
            return Err(Error::FeatureNotPresent(format!(
                "the resource cannot live in memory type {memory_type}, which is the pool's \
                 (memoryTypeBits {:#x})",
                request.requirements.memory_type_bits
            )));
        }
        match self.allocate_in_pool(&pool, request) {
            // The pool also fails if the request needs dedicated memory, which this pool does not allow.
            Err(error)
                if pool.rules().fallback
                    && !ends_search(request, &error)
                    && (error.allows_fallback()
                        || matches!(error, Error::FeatureNotPresent(_))) =>
            {
                let made = self.fall_back(pool.rules(), request);
                made.map_err(|last| last.combined_with(&error))
            }
            made => made,
        }
    }

    /// Allocates from the default pools after a custom pool failed: first from that of the pool's memory
    /// type, as the pool itself would have. Another memory type must have the properties that the caller
    /// relies on: host-visible and coherent if the pool's is.
    fn fall_back(
        &self,
        rules: &PoolCreateInfo,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let own = rules.memory_type_index;
        let visible = Property::HOST_VISIBLE | Property::HOST_COHERENT | Property::PROTECTED;
        let mut request = *request;
        let create_info = &mut request.create_info;
        create_info.pool = None;
        create_info.export_handle_types |= rules.all_export_handle_types();
        create_info.flags -= Create::UPPER_ADDRESS;
        create_info.required_flags |= self.device().info().flags_of(own) & visible;
        match self.allocate_in_pool(&self.pools.defaults[own as usize], &request) {
            Err(error) if error.allows_fallback() => {
                self.allocate_in_types(&request, Some((own, error)))
            }
            made => made,
        }
    }

    /// Allocates from the cheapest memory type first, except from one that has `failed` before.
    fn allocate_in_types(
        &self,
        request: &AllocationRequest,
        failed: Option<(u32, Error)>,
    ) -> Result<Allocation, Error> {
        let mut candidates = self.candidates(request);
        let mut first_error = failed.map(|(memory_type, error)| {
            candidates.strike(memory_type);
            error
        });
        while let Some(memory_type) = candidates.best(&self.types) {
            let pool = &self.pools.defaults[memory_type as usize];
            match self.allocate_in_pool(pool, request) {
                Err(error) if error.allows_fallback() && !ends_search(request, &error) => {
                    first_error = Some(match first_error {
                        None => error,
                        Some(first) => first.combined_with(&error),
                    });
                    candidates.strike(memory_type);
                }
                other => return other,
            }
        }
        let bits = request.requirements.memory_type_bits;
        let none = || candidates.none_found(self.device().info(), bits, &request.create_info);
        Err(first_error.unwrap_or_else(none))
    }
}
