//! What commands of the simulated queue do with memory, after all checks.

use vkmem_engine::{MemoryHandle, MemoryRange};

use crate::simulated::blit::Blit;
use crate::simulated::hazards::Access;
use crate::simulated::resources::MemoryOffset;

/// The direction of a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToImage,
    ToBuffer,
}

/// Bytes that are copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) from: MemoryOffset,
    pub(super) to: MemoryOffset,
    pub(super) size: u64,
}

/// Texels that become equal.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) range: MemoryRange,
    /// The bytes of one of them, with all its samples.
    pub(super) texel: Vec<u8>,
}

/// What a command does, after all checks.
#[derive(Debug)]
pub(super) enum Work {
    Nothing,
    Fill { memory: MemoryHandle, offset: u64, size: u64, value: u32 },
    Copy(Vec<Piece>),
    Clear(Vec<Row>),
    Blit(Vec<Blit>),
}

/// A command after all checks.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) work: Work,
    pub(super) accesses: Vec<Access>,
}
