//! [`RawSpace`]: what happened in a virtual block or a set, as it was told.

use vkmem_engine::{
    Algorithm, DefragmentationAlgorithm, SlotKey, VirtualAllocation, VirtualMove, VirtualRequest,
};

use super::raw_failure::RawFailure;

/// A virtual block or a set of them.
#[derive(Clone, Copy, Debug)]
pub struct SpaceInfo {
    /// Size of the block in units; `None` for a set.
    pub size: Option<u64>,
    /// The algorithm that divides it.
    pub algorithm: Algorithm,
    /// Minimum alignment of every offset in a set, in units.
    pub alignment: u64,
    /// Units before and behind each allocation that belong to none.
    pub margin: u64,
}

/// What happened in a virtual block or a set. A block that is in no set is block 0.
pub(super) enum RawSpace {
    Create(SpaceInfo),
    Destroy,
    Clear,
    Grow(u64),
    AddBlock(u32, u64),
    RemoveBlock(u32),
    Merge,
    Allocate(Option<u32>, VirtualRequest, VirtualAllocation),
    Refused(VirtualRequest, Option<Box<RawFailure>>),
    AllocateMany(Box<RawVirtualMany>),
    Free(u32, SlotKey),
    FreeMany(Box<[SlotKey]>),
    Data(SlotKey, Option<Box<str>>),
    Defragment(DefragmentationAlgorithm, Box<[VirtualMove]>),
}

/// Virtual allocations of one call, up to the one that failed.
pub(super) struct RawVirtualMany {
    pub made: Box<[(VirtualRequest, VirtualAllocation)]>,
    pub failed: Option<(VirtualRequest, Box<RawFailure>)>,
}
