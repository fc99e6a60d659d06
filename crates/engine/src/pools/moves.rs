//! [`Move`]: one step of a defragmentation.

use std::collections::HashMap;

use crate::handle::{Allocation, SlotKey};

/// How the source and the destination of a move lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// Apart. Both are live until one of them is freed.
    Apart,
    /// The destination overlaps its own source, which lies directly above a gap smaller than itself. Until
    /// the move ends only the gap is held, by an allocation of its own.
    Slide,
}

/// A move of an allocation to a place that is reserved for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whether source and destination overlap.
    pub kind: MoveKind,
    /// The allocation as it is.
    pub source: Allocation,
    /// The allocation as it will be: of the same pool, size and alignment. Its id is that of the reserved
    /// place; after a slide the allocation gets another one.
    pub destination: Allocation,
}

/// Regions of an arena that take part in moves, and whether as a source.
#[derive(Debug, Default)]
pub(crate) struct MovingRegions(pub HashMap<SlotKey, bool>);
