//! [`Prepared`]: a memory object for one request, in exchange for others that are about to be freed.
//!
//! It is booked, allocated and mapped, as far as possible, before anything is taken away: each of these steps may
//! fail. What follows then makes no driver call.

use std::sync::Arc;

use super::{DedicatedNeed, Pool};
use crate::device::{DeviceError, HostAddress, MemoryAllocateInfo};
use crate::handle::{Allocation, AllocationId};
use crate::heap::ledger::{Debt, Offer};
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::setup::Booking;
use crate::request::{AllocationCreateFlags as Create, AllocationRequest};
use crate::suballocator::RegionTag;

/// A memory object that could serve a request.
struct Candidate {
    info: MemoryAllocateInfo,
    is_dedicated: bool,
}

/// A booked memory object for a request.
pub(crate) struct Booked {
    booking: Booking,
    is_dedicated: bool,
}

impl Booked {
    /// Lets its debt end when what was offered is freed.
    pub fn pay(&mut self, releases: &[Release]) {
        let mut debt = self.booking.debt();
        releases.iter().for_each(|release| release.pay(&mut debt));
    }
}

/// A memory object for a request, allocated and mapped if the request is to be mapped. Dropping it frees it, without
/// any lock held.
pub(crate) struct Prepared<'a> {
    pool: &'a Pool,
    request: &'a AllocationRequest,
    memory: Option<MemoryObject>,
    is_dedicated: bool,
    address: Option<HostAddress>,
    debt: Option<Debt>,
    unused: Release,
}

impl Prepared<'_> {
    /// Places the request in the memory object; `None` if that is not possible any more. Takes short locks only, and
    /// makes no driver call.
    pub fn install(&mut self) -> Option<PlacedRegion> {
        let (pool, memory) = (self.pool, self.memory.take()?);
        if !self.is_dedicated {
            let region = pool.region_request(self.request);
            let placed = pool.arena.add_with(memory, &pool.margins.widen(region));
            let placed = placed.map_err(|unused| self.unused = unused).ok()?;
            return Some(pool.payload_of(placed, &region));
        }
        if pool.dedicated.try_reserve().is_err() {
            self.memory = Some(memory);
            return None;
        }
        let margins @ [offset, back] = pool.dedicated_margins(self.request, false);
        let (size, target) = (memory.size - offset - back, memory.info.dedicated);
        let (kind, memory) = (self.request.kind, Arc::new(memory));
        let key = pool.dedicated.insert(memory.clone(), kind, target, offset, size, margins);
        Some(PlacedRegion { key, memory, offset })
    }

    /// Lets the debt end when what was offered is freed, and returns the allocation of the request.
    pub fn finish(mut self, placed: &PlacedRegion, releases: &[Release]) -> Allocation {
        if let Some(mut debt) = self.debt.take() {
            releases.iter().for_each(|release| release.pay(&mut debt));
        }
        if self.address.is_some() {
            self.pool.mark_mapped(self.is_dedicated, placed);
        }
        let mapped = self.address.map(|address| address.at(placed.offset));
        self.pool.finished(self.is_dedicated, placed, self.request, mapped)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            drop(Lease::new(Arc::new(memory)));
        }
    }
}

impl Pool {
    /// Calls `try_one` with the memory objects that could serve a request, the preferred one first, until it returns
    /// something. Blocks have at most `most` bytes, if that is possible.
    fn first_candidate<R>(
        &self,
        request: &AllocationRequest,
        most: u64,
        mut try_one: impl FnMut(&Candidate) -> Option<R>,
    ) -> Option<R> {
        let (wish, least) = (self.dedicated_need(request), self.region_size(request));
        let dedicated =
            || Candidate { info: self.dedicated_info(request, None), is_dedicated: true };
        if wish != DedicatedNeed::No {
            let found = try_one(&dedicated());
            if found.is_some() || wish == DedicatedNeed::Required {
                return found;
            }
        }
        if least <= self.sizes().preferred {
            let first = self.sizes().first(least, self.arena.largest_block(), most);
            let sizes =
                std::iter::successors(Some(first), |&size| self.sizes().smaller(size, least));
            for size in sizes {
                let info = self.arena.block_info(size);
                let found = try_one(&Candidate { info, is_dedicated: false });
                if found.is_some() {
                    return found;
                }
            }
        }
        if wish == DedicatedNeed::No && self.allows_dedicated() {
            return try_one(&dedicated());
        }
        None
    }

    fn book_candidate(
        &self,
        request: &AllocationRequest,
        candidate: &Candidate,
        offer: Offer,
    ) -> Option<Booked> {
        let within_budget = request.create_info.flags.contains(Create::WITHIN_BUDGET);
        let booking = Booking::new(&self.setup, &candidate.info, within_budget, offer).ok()?;
        Some(Booked { booking, is_dedicated: candidate.is_dedicated })
    }

    /// Books a memory object of up to `most` bytes for a request in exchange for what is offered. Makes no driver
    /// call.
    pub(crate) fn book(
        &self,
        request: &AllocationRequest,
        offer: Offer,
        most: u64,
    ) -> Option<Booked> {
        self.first_candidate(request, most, |candidate| {
            let fits = candidate.info.size <= most;
            fits.then(|| self.book_candidate(request, candidate, offer)).flatten()
        })
    }

    /// Allocates what was booked from the driver, and maps it if the request is to be mapped; `None` if the driver
    /// refuses.
    pub(crate) fn take_booked<'a>(
        &'a self,
        request: &'a AllocationRequest,
        booked: Booked,
    ) -> Option<Prepared<'a>> {
        self.try_take_booked(request, booked).ok()
    }

    fn try_take_booked<'a>(
        &'a self,
        request: &'a AllocationRequest,
        mut booked: Booked,
    ) -> Result<Prepared<'a>, DeviceError> {
        let (debt, is_dedicated) = (Some(booked.booking.debt()), booked.is_dedicated);
        let memory = booked.booking.take(!is_dedicated)?;
        let (memory, unused) = (Some(memory), Release::default());
        let mut prepared =
            Prepared { pool: self, request, memory, is_dedicated, address: None, debt, unused };
        if self.is_to_be_mapped(request) {
            let mapped = prepared.memory.as_ref().map(MemoryObject::map);
            prepared.address = mapped.transpose().map_err(|_| DeviceError::MemoryMapFailed)?;
        }
        Ok(prepared)
    }

    /// Allocates and maps a memory object for a request before `bytes` of its heap are freed, by the limits and
    /// budgets that hold afterwards. For a moment the heap holds both.
    ///
    /// # Errors
    /// Whether free memory could help: they refuse it, or the driver has none.
    pub(crate) fn prepare<'a>(
        &'a self,
        request: &'a AllocationRequest,
        bytes: u64,
    ) -> Result<Prepared<'a>, bool> {
        let ledger = &self.setup.ledger;
        ledger.refresh_if_old();
        let offer = Offer { bytes, objects: 0 };
        let most = ledger.headroom(self.rules.memory_type_index).saturating_add(bytes);
        let mut is_out_of_memory = true;
        let prepared = self.first_candidate(request, most, |candidate| {
            if !is_out_of_memory {
                // A smaller one would not help either.
                return None;
            }
            let booked = self.book_candidate(request, candidate, offer)?;
            let prepared = self.try_take_booked(request, booked);
            let note = |error| is_out_of_memory = error == DeviceError::OutOfDeviceMemory;
            prepared.map_err(note).ok()
        });
        prepared.ok_or(is_out_of_memory)
    }

    /// Returns whether a dedicated allocation's memory object could become that of a request, as it was allocated with
    /// the same parameters and is known to nobody else.
    pub(crate) fn could_reuse(&self, request: &AllocationRequest, id: AllocationId) -> bool {
        let Some((memory, _)) = self.memory_of(id) else { return false };
        let info = self.dedicated_info(request, None);
        memory.info == info
            && info.dedicated.is_none()
            && info.export_handle_types == 0
            && info.next == self.rules.memory_allocate_next
    }

    /// Replaces a dedicated allocation by a request that gets its memory object.
    pub(crate) fn reuse(
        &self,
        request: &AllocationRequest,
        id: AllocationId,
        freed: &mut dyn FnMut(RegionTag),
    ) -> Option<PlacedRegion> {
        let margins @ [offset, _] = self.dedicated_margins(request, false);
        let (key, memory) = self.dedicated.replace(id.key, request.kind, margins, freed)?;
        Some(PlacedRegion { key, memory, offset })
    }
}
