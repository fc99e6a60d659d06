//! Room for a request at the cost of allocations that may be lost.

use std::sync::Arc;

use super::{DedicatedNeed, Pool};
use crate::error::Error;
use crate::handle::{Allocation, AllocationId, SlotKey};
use crate::pools::arena::evicting::Hole;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::request::{AllocationCreateFlags as Create, AllocationRequest};
use crate::suballocator::{RegionRequest, RegionTag};

impl Pool {
    /// Returns the request for a region; `None` if it has to be dedicated.
    pub(crate) fn region_in_blocks(&self, request: &AllocationRequest) -> Option<RegionRequest> {
        let is_required = self.dedicated_need(request) == DedicatedNeed::Required;
        let region = self.margins.widen(self.region_request(request));
        (!is_required && region.size <= self.sizes().preferred).then_some(region)
    }

    /// Returns whether a memory object may be allocated for a request, once there is memory for it. If not, only room
    /// in the pool's own blocks helps: the pool allows no further block and no dedicated memory, or `NEVER_ALLOCATE`
    /// or `UPPER_ADDRESS` is set.
    pub(crate) fn may_allocate_memory(&self, request: &AllocationRequest) -> bool {
        // The upper end of a pool is that of its only block.
        let never =
            request.create_info.flags.intersects(Create::NEVER_ALLOCATE | Create::UPPER_ADDRESS);
        let blocks = self.arena.block_count();
        let is_full = self.rules.max_block_count != 0 && blocks >= self.rules.max_block_count;
        !never && (!is_full || self.allows_dedicated())
    }

    /// Replaces regions by the place of a request, both or neither; see
    /// [`Arena::replace`](crate::pools::arena::Arena::replace).
    pub(crate) fn replace(
        &self,
        hole: &Hole,
        victims: &[SlotKey],
        region: &RegionRequest,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> Option<PlacedRegion> {
        self.arena.replace(hole, victims, region, freed)
    }

    /// Returns whether a request is to be mapped as long as it lives.
    pub(crate) fn maps(&self, request: &AllocationRequest) -> bool {
        self.is_to_be_mapped(request)
    }

    /// Returns the allocation of a request that was placed, mapped if it is to be.
    ///
    /// # Errors
    /// [`Error::MemoryMap`] if its block is not mapped yet and the driver refuses to map it; the region is free
    /// then.
    pub(crate) fn placed(
        &self,
        placed: PlacedRegion,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let placed = self.payload_of(placed, &self.region_request(request));
        self.map_if_asked(false, placed, request)
    }

    /// Returns the allocation of a request that got dedicated memory like [`placed`](Self::placed).
    pub(crate) fn placed_in_dedicated(
        &self,
        placed: PlacedRegion,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        self.map_if_asked(true, placed, request)
    }

    /// Returns the memory object of an allocation and its tag; `None` if the id is stale.
    pub(crate) fn memory_of(&self, id: AllocationId) -> Option<(Arc<MemoryObject>, RegionTag)> {
        let (tag, memory, ..) = self.update_tag(id, |tag| *tag)?;
        Some((memory, tag))
    }

    /// Returns whether an allocation is live and could be taken away: it is neither mapped nor takes part in a
    /// move.
    pub(crate) fn is_loose(&self, id: AllocationId) -> bool {
        match id.is_dedicated() {
            true => self.dedicated.is_loose(id.key),
            false => self.arena.is_loose(id.key),
        }
    }

    /// Frees allocations that are all dedicated, or all in blocks; false and nothing changed if one of them was
    /// freed, mapped or moved meanwhile.
    pub(crate) fn lose(
        &self,
        dedicated: bool,
        victims: &[SlotKey],
        release: &mut Release,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> bool {
        match dedicated {
            true => self.dedicated.lose(victims, release, freed),
            false => self.arena.lose(victims, release, freed),
        }
    }

    /// Returns how many memory objects may become free with `count` allocations, at most.
    pub(crate) fn objects_at_most(&self, count: usize) -> usize {
        let dedicated = self.dedicated.live().0.try_into().unwrap_or(usize::MAX);
        count.min((self.arena.block_count() as usize).max(dedicated))
    }

    /// Returns the heap of its memory type.
    pub(crate) fn heap(&self) -> u32 {
        self.setup.device.info().heap_of(self.rules.memory_type_index)
    }

    /// Returns the size in bytes of the smallest memory object that could hold a request with its margins, and the
    /// bytes that its heap lacks for that.
    pub(crate) fn missing_bytes(
        &self,
        request: &AllocationRequest,
        within_budget: bool,
    ) -> (u64, u64) {
        let object = if self.allows_dedicated() {
            let around = self.dedicated_margins(request, false).iter().sum();
            request.requirements.size.saturating_add(around)
        } else {
            let region = self.margins.widen(self.region_request(request));
            self.sizes().least_for(region.size)
        };
        let of_type = self.rules.memory_type_index;
        (object, self.setup.ledger.missing(of_type, object, within_budget))
    }
}
