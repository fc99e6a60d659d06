//! Allocations with margins.

use super::Pool;
use crate::debugging::guarded::{GuardedRange, GuardedUse};
use crate::device::{HostAddress, MemoryPropertyFlags};
use crate::error::Error;
use crate::handle::AllocationId;
use crate::pools::blocks::{PlacedHandle, PlacedRegion};
use crate::pools::guarded_memory::{AllocationMemory, GuardedMemory};
use crate::request::{AllocationCreateFlags as Create, AllocationRequest};
use crate::suballocator::RegionRequest;

/// What memory objects with margins are multiples of, in bytes: buffers whose alignment divides this can lie over all
/// of one, by which the device reads its margins.
const OBJECT_GRANULE: u64 = 256;

/// Makes the part behind an allocation larger, so that its memory object is a multiple of the granule.
fn rounded(size: u64, [front, back]: [u64; 2]) -> [u64; 2] {
    let whole = size.checked_add(front + back);
    match whole.and_then(|whole| Some((whole, whole.checked_next_multiple_of(OBJECT_GRANULE)?))) {
        Some((whole, rounded)) if back != 0 => [front, back + (rounded - whole)],
        _ => [front, back],
    }
}

impl Pool {
    /// Returns the size in bytes of the region that a request needs in a block, with its margins.
    pub(crate) fn region_size(&self, request: &AllocationRequest) -> u64 {
        self.margins.widen(self.region_request(request)).size
    }

    /// Places a request, with its margins, in existing blocks and returns the place of its payload; `None` if there is
    /// no room. No driver call.
    #[cold]
    #[inline(never)]
    pub(super) fn place_guarded(&self, region: &RegionRequest) -> Option<PlacedHandle> {
        let whole = self.margins.widen(*region);
        let (placed, _) = self.arena.allocate_guarded_in_place(&whole, false)?;
        Some(self.payload_of(placed, region).handle())
    }

    /// Places a request like [`place_guarded`](Self::place_guarded), in a mapped block, of which one map is counted.
    #[cold]
    #[inline(never)]
    pub(super) fn place_guarded_and_mapped(
        &self,
        region: &RegionRequest,
    ) -> Option<(PlacedRegion, HostAddress)> {
        let whole = self.margins.widen(*region);
        let (placed, address) = self.arena.allocate_guarded_in_place(&whole, true)?;
        Some((self.payload_of(placed, region), address?))
    }

    /// Returns the place of the payload of a region that was asked for without its margins.
    pub(super) fn payload_of(&self, placed: PlacedRegion, region: &RegionRequest) -> PlacedRegion {
        let [front, _] = self.margins.around(region.alignment);
        PlacedRegion { offset: placed.offset + front, ..placed }
    }

    /// Returns the bytes before and behind the payload of memory of its own, of which the margins are those next to
    /// it: none where the resource, or another program, needs the exact size.
    pub(super) fn dedicated_margins(
        &self,
        request: &AllocationRequest,
        is_imported: bool,
    ) -> [u64; 2] {
        let create_info = &request.create_info;
        let is_exact = is_imported
            || request.requirements.requires_dedicated
            || self.rules.memory_allocate_next | create_info.memory_allocate_next != 0
            || self.rules.all_export_handle_types() | create_info.export_handle_types != 0
            || self.flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED);
        match is_exact {
            true => [0, 0],
            false => {
                let margins = self.margins.around(self.region_request(request).alignment);
                rounded(request.requirements.size, margins)
            }
        }
    }

    /// Notes that the margins of an allocation hold the pattern, also in its last `slack` bytes; `None` if the id is
    /// stale.
    pub(crate) fn note_filled(&self, id: AllocationId, slack: u64) -> Option<Result<(), Error>> {
        match id.is_dedicated() {
            true => self.dedicated.note_filled(id.key, slack).then_some(Ok(())),
            false => self.arena.note_filled(id.key, slack),
        }
    }

    /// Notes that the margins of an allocation need not hold the pattern any more; returns the slack that they had,
    /// `None` if they did not hold it.
    pub(crate) fn note_unfilled(&self, id: AllocationId) -> Option<u64> {
        match id.is_dedicated() {
            true => self.dedicated.note_unfilled(id.key),
            false => self.arena.note_unfilled(id.key),
        }
    }

    /// Notes that an alias of an allocation uses its memory up to an offset of the memory object: so much is no part of
    /// the margin behind it any more.
    pub(crate) fn end_slack_before(&self, id: AllocationId, end: u64) -> Option<()> {
        let place = self.hold_memory_of(id)?;
        let slack = (place.offset + place.size).saturating_sub(end);
        if place.is_filled && slack < place.bands.slack {
            // It has a mark, so there is host memory for it.
            self.note_filled(id, slack)?.ok()?;
        }
        Some(())
    }

    /// Returns whether a range of a margin or of the quarantine is still what it was. O(allocations in quarantine).
    pub(crate) fn is_guarded(&self, id: AllocationId, range: &GuardedRange) -> bool {
        let is_margin = range.is != GuardedUse::Quarantined
            && self
                .guarded_ranges_of(id, false)
                .and_then(Result::ok)
                .is_some_and(|memory| memory.ranges.iter().any(|it| it.is_same(range)));
        is_margin || self.is_quarantined(id)
    }

    /// Adds the ranges that nobody may write to `found`; returns false without host memory for it.
    pub(crate) fn guarded_ranges(&self, with_unused: bool, found: &mut Vec<GuardedMemory>) -> bool {
        if !self.margins.are_on() && !self.has_quarantine && !with_unused {
            return true;
        }
        self.arena.guarded(with_unused, found) && self.dedicated.guarded(found)
    }

    /// Returns the margins of an allocation; `None` if the id is stale.
    pub(crate) fn guarded_ranges_of(
        &self,
        id: AllocationId,
        with_neighbours: bool,
    ) -> Option<Result<GuardedMemory, Error>> {
        match id.is_dedicated() {
            true => Some(Ok(self.dedicated.guarded_of(id.key)?)),
            false => self.arena.guarded_of(id.key, with_neighbours),
        }
    }

    /// Returns where an allocation and its margins lie; `None` if the id is stale.
    pub(crate) fn hold_memory_of(&self, id: AllocationId) -> Option<AllocationMemory> {
        match id.is_dedicated() {
            true => self.dedicated.hold_memory_of(id.key),
            false => self.arena.hold_memory_of(id.key),
        }
    }

    /// Returns whether a region that a defragmentation meets is in quarantine. O(1).
    pub(crate) fn keeps(&self, id: AllocationId) -> bool {
        !id.is_dedicated() && self.arena.keeps(id.key)
    }

    /// Returns whether a freed allocation is in quarantine. O(allocations in quarantine).
    pub(crate) fn is_quarantined(&self, id: AllocationId) -> bool {
        match id.is_dedicated() {
            true => self.dedicated.is_quarantined(id.key),
            false => self.arena.is_quarantined(id.key),
        }
    }

    /// Returns whether a request gets memory of its own in a pool whose allocations do.
    #[cold]
    pub(super) fn must_dedicate(&self, request: &AllocationRequest) -> bool {
        let is_in_block = Create::NEVER_ALLOCATE | Create::UPPER_ADDRESS;
        self.flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED)
            || !request.create_info.flags.intersects(is_in_block)
    }
}
