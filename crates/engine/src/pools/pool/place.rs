//! Where an allocation lies, for what is to lie there as well.

use super::Pool;
use crate::device::DedicatedTarget;
use crate::handle::AllocationId;
use crate::request::ResourceKind;

/// The place of a live allocation.
pub(crate) struct AllocationPlace {
    /// Bytes of the memory object it lies in.
    pub memory_size: u64,
    /// In that object, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// What the neighbours were checked against; `None` where there are none.
    pub kind: Option<ResourceKind>,
    /// The resource that the memory object names.
    pub target: Option<DedicatedTarget>,
    /// Bytes of a page that linear and optimal resources must not share.
    pub granularity: u64,
}

impl Pool {
    /// `None` if the handle is stale.
    pub(crate) fn place(&self, id: AllocationId) -> Option<AllocationPlace> {
        let granularity = if self.rules.ignore_buffer_image_granularity {
            1
        } else {
            self.setup.device.info().limits.buffer_image_granularity
        };
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
