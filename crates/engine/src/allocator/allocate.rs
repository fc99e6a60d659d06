//! The way of a request: to its pool, or from memory type to memory type.

use std::sync::Arc;

use super::Allocator;
use super::memory_type::Candidates;
use crate::check::{check_create_info, check_pool_allows, check_request};
use crate::device::MemoryPropertyFlags as Property;
use crate::error::Error;
use crate::handle::Allocation;
use crate::pools::pool::Pool;
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, PoolCreateInfo,
    ResourceUse,
};

impl Allocator {
    /// The memory type that a request would get first.
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

    /// Allocates without any call of the driver, or answers `None`: then
    /// [`allocate`](Self::allocate) has to. O(1); never waits but for a short lock.
    ///
    /// Inlined, as what it gives was stored in parts: to copy it as a whole at each return would wait for
    /// all stores before it.
    #[inline(always)]
    pub fn try_allocate(&self, request: &AllocationRequest) -> Option<Allocation> {
        if check_request(request).is_err() {
            return None;
        }
        self.first_pool(request, &mut None)?.try_allocate(request)
    }

    /// The pool that a request goes to first, if its resource may live there; kept in `custom` if it is one
    /// that the caller made.
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

    /// The cheapest memory type that a request may go to.
    fn best_memory_type(&self, request: &AllocationRequest) -> Option<u32> {
        self.candidates(request).best(&self.types)
    }

    /// The memory types that a request may go to.
    #[inline(always)]
    pub(crate) fn candidates(&self, request: &AllocationRequest) -> Candidates {
        let bits = request.requirements.memory_type_bits;
        Candidates::new(&self.types, bits, &request.create_info, request.resource_use)
    }

    /// Whether a pool that a request may go to could serve it if it were empty.
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

    /// Allocates: from its pool, or the cheapest memory type first and the next one if it fails.
    /// May call the driver, but first does as [`try_allocate`](Self::try_allocate).
    #[inline(always)]
    pub fn allocate(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        self.try_allocate(request).map_or_else(|| self.allocate_slow(request), Ok)
    }

    /// Allocates as `allocate` does, for a caller whose attempt in place has just failed.
    #[inline(never)]
    pub fn allocate_slow(&self, request: &AllocationRequest) -> Result<Allocation, Error> {
        check_request(request)?;
        let first = match self.allocate_anywhere(request) {
            Err(error) if error.is_shortage() => error,
            Err(hopeless @ Error::OutOfDeviceMemory { .. }) => return Err(hopeless),
            other => {
                // A new block may have taken what empty ones of the same heap are kept in.
                self.trim_over_budget();
                return other;
            }
        };
        // Empty blocks that are kept for comfort must not be what is missing now.
        if request.create_info.flags.contains(Create::NEVER_ALLOCATE) || !self.release_spares() {
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
        match pool.allocate(request) {
            // Also what this pool has not: memory objects of one allocation.
            Err(error)
                if pool.rules().fallback
                    && (error.leads_on() || matches!(error, Error::FeatureNotPresent(_))) =>
            {
                let made = self.fall_back(pool.rules(), request);
                made.map_err(|last| last.unless_hopeful(&error))
            }
            made => made,
        }
    }

    /// Allocates from the default pools what a custom one has no room for: from that of its own memory
    /// type first, whatever the request says, as the pool would have. Another type has to be of the
    /// kind that the caller sees of the pool's: host-visible and coherent where that is.
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
        create_info.export_handle_types |= rules.export_handle_types;
        create_info.flags -= Create::UPPER_ADDRESS;
        create_info.required_flags |= self.device().info().flags_of(own) & visible;
        match self.pools.defaults[own as usize].allocate(&request) {
            Err(error) if error.leads_on() => self.allocate_in_types(&request, Some((own, error))),
            made => made,
        }
    }

    /// From the cheapest memory type first; not from one that has `failed` before.
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
            match self.pools.defaults[memory_type as usize].allocate(request) {
                Err(error) if error.leads_on() => {
                    first_error = Some(match first_error {
                        None => error,
                        Some(first) => first.unless_hopeful(&error),
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
