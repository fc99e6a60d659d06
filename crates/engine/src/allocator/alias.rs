//! Aliasing: several resources in the memory of one allocation.

use super::Allocator;
use crate::error::Error;
use crate::handle::Allocation;
use crate::pools::pool::place::AllocationPlace;
use crate::request::{MemoryRequirements, ResourceKind};
use crate::suballocator::granularity::{align_up, conflict};
use crate::words::bytes;

/// A resource that is to be bound to the memory of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasRequest {
    /// The driver's requirements of the resource.
    pub requirements: MemoryRequirements,
    /// Kind of resource, for `bufferImageGranularity`.
    pub kind: ResourceKind,
    /// Offset in the memory of the other resource, in bytes.
    pub local_offset: u64,
}

impl Allocator {
    /// Returns the place of a resource inside a live allocation, or inside an alias of one. Allocates
    /// nothing: the result has the id of the allocation, with offset and size of the new resource.
    ///
    /// Vulkan allows aliasing unless the memory object is dedicated to one resource. Beyond that the
    /// resource must fit in size, alignment and memory type, and must not bring another kind to a page
    /// that the allocation shares with a neighbour.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason; [`Error::UseAfterFree`] if the allocation was freed.
    pub fn alias(&self, base: &Allocation, request: &AliasRequest) -> Result<Allocation, Error> {
        let place = self.pools.with_pool(base.id.pool_key(), |pool| pool.place(base.id));
        let place = place.ok_or(Error::UseAfterFree)?;
        check_place(&place, base, request).map_err(Error::InvalidArgument)?;
        let made = Allocation {
            offset: base.offset + request.local_offset,
            size: request.requirements.size,
            mapped: base.mapped.map(|address| address.at(request.local_offset)),
            ..*base
        };
        Ok(made)
    }
}

fn check_place(
    place: &AllocationPlace,
    base: &Allocation,
    request: &AliasRequest,
) -> Result<(), String> {
    let needs = &request.requirements;
    let local = request.local_offset;
    if place.target.is_some() {
        return Err("the memory is dedicated to one resource \
                    (VkMemoryDedicatedAllocateInfo): create that with \
                    AllocationCreateFlags.CAN_ALIAS; where the driver requires dedicated memory \
                    it cannot be aliased"
            .into());
    }
    if needs.requires_dedicated {
        return Err("the driver requires a memory object of its own for such a resource: it \
                    cannot be an alias"
            .into());
    }
    let end = local.checked_add(needs.size);
    if end.is_none_or(|end| end > base.size) {
        return Err(format!(
            "the alias needs {} from offset {local} on, the memory has {}",
            bytes(needs.size),
            base.size
        ));
    }
    let start = base.offset + local;
    if !start.is_multiple_of(needs.alignment) {
        return Err(format!(
            "the alias needs an alignment of {}, which local_offset {local} in memory at {} has \
             not: allocate with min_alignment={}",
            needs.alignment, base.offset, needs.alignment
        ));
    }
    if needs.memory_type_bits >> base.memory_type_index & 1 == 0 {
        return Err(format!(
            "the alias cannot live in memory type {} (memoryTypeBits {:#x})",
            base.memory_type_index, needs.memory_type_bits
        ));
    }
    if shares_a_page(place, request, start) {
        return Err(format!(
            "the alias is of another kind than the resource that the memory was allocated for, \
             and would share a page of {} (bufferImageGranularity) with a neighbour: \
             allocate with allocate_memory(), which shares no page, or DEDICATED_MEMORY",
            bytes(place.granularity)
        ));
    }
    Ok(())
}

/// Returns whether the resource may share a page with a neighbour of the allocation that it conflicts
/// with: present and later neighbours are only checked against the allocation's own kind.
fn shares_a_page(place: &AllocationPlace, request: &AliasRequest, start: u64) -> bool {
    let Some(kind) = place.kind else { return false };
    if matches!(kind, ResourceKind::Unknown | ResourceKind::ImageUnknown)
        || !conflict(kind, request.kind)
    {
        return false;
    }
    let first_page = start & !(place.granularity - 1);
    let end = align_up(start + request.requirements.size, place.granularity);
    let end = end.map_or(place.memory_size, |end| end.min(place.memory_size));
    first_page < place.offset || end > place.offset + place.size
}
