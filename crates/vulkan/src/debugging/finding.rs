//! What a check is told, and what it has found.

use vkmem_engine::{AllocationId, Difference, GuardedRange, MemoryHandle};

/// Returns the byte that the contents of a freed allocation in quarantine were filled with; `None` if they were not,
/// or if that is not known: then its contents are not checked.
pub type FreedContents<'a> = &'a dyn Fn(AllocationId) -> Option<u8>;

/// Memory that was written and must not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The margin, or the memory in quarantine, with its allocation and the neighbours.
    pub range: GuardedRange,
    /// The memory object.
    pub memory: MemoryHandle,
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Where it differs: first byte, bytes up to the last one, number of bytes that differ. The offset is that in
    /// the memory object.
    pub difference: Difference,
    /// The bytes found from the first one that differs to the last one, at most 64.
    pub found: Vec<u8>,
    /// The bytes expected there.
    pub expected: Vec<u8>,
}

/// Ranges that could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// The memory object.
    pub memory: MemoryHandle,
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Number of its ranges that were not checked.
    pub ranges: u64,
    /// Why not, to be read behind "it cannot be checked: ".
    pub why: &'static str,
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What must not have been written.
    pub findings: Vec<Finding>,
    /// Number of ranges that were checked.
    pub ranges: u64,
    /// Bit i: something of memory type i was checked.
    pub memory_type_bits: u32,
    /// Number of submissions to the device's queue.
    pub submissions: u64,
    /// What could not be checked.
    pub unchecked: Vec<Unchecked>,
}
