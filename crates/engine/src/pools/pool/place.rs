//! The place of an allocation, for resources that are to alias it.

use super::Pool;
use crate::device::DedicatedTarget;
use crate::handle::AllocationId;
use crate::request::ResourceKind;

/// The place of a live allocation in its memory object.
pub(crate) struct AllocationPlace {
    /// Size of the memory object in bytes.
    pub memory_size: u64,
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// The kind that its neighbours were checked against; `None` for dedicated memory, which has none.
    pub kind: Option<ResourceKind>,
    /// The resource that the memory object is dedicated to.
    pub target: Option<DedicatedTarget>,
    /// `bufferImageGranularity` in bytes; 1 if the pool ignores it.
    pub granularity: u64,
}

impl Pool {
    /// Returns `bufferImageGranularity` in bytes; 1 if the pool ignores it.
    pub(crate) fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Returns the place of an allocation; `None` if the id is stale.
    pub(crate) fn place(&self, id: AllocationId) -> Option<AllocationPlace> {
        let granularity = self.granularity();
        if id.is_dedicated() {
            let (memory, target) = self.dedicated.memory(id.key)?;
            return Some(AllocationPlace {
                memory_size: memory.size,
                offset: 0,
                size: memory.size,
                kind: None,
                target,
                granularity,
            });
        }
        let ((), memory, region) = self.arena.update_tag(id.key, |_| ())?;
        Some(AllocationPlace {
            memory_size: memory.size,
            offset: region.offset,
            size: region.size,
            kind: Some(region.kind),
            target: None,
            granularity,
        })
    }
}
