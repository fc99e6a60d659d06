//! [`Pass`]: the moves that were found so far, and the limits of a pass.

use super::info::DefragmentationInfo;
use crate::handle::AllocationId;
use crate::pools::moves::Move;

/// The moves of one pass while they are being found.
pub(super) struct Pass<'a> {
    pub moves: Vec<Move>,
    bytes: u64,
    max_bytes: u64,
    max_moves: usize,
    /// The caller's veto; called without any lock.
    may_move: &'a dyn Fn(AllocationId) -> bool,
    is_full: bool,
    /// Regions that may still be looked at.
    work_left: usize,
}

impl<'a> Pass<'a> {
    /// Begins a pass; a limit of 0 is none.
    pub fn new(info: &DefragmentationInfo, may_move: &'a dyn Fn(AllocationId) -> bool) -> Self {
        let or_none = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
        Self {
            moves: Vec::new(),
            bytes: 0,
            max_bytes: if info.max_bytes_per_pass == 0 {
                u64::MAX
            } else {
                info.max_bytes_per_pass
            },
            max_moves: or_none(info.max_moves_per_pass),
            may_move,
            is_full: false,
            work_left: or_none(info.max_regions_per_pass),
        }
    }

    /// Returns whether no further move is to be looked for.
    pub fn is_full(&self) -> bool {
        self.is_full || self.work_left == 0 || self.moves.len() >= self.max_moves
    }

    /// Returns whether an allocation of some bytes still belongs to this pass. The first one always does; one
    /// that does not ends the pass and comes first in the next, so sizes never stop a run.
    pub fn has_room_for(&mut self, size: u64) -> bool {
        let fits = self.moves.is_empty() || self.bytes.saturating_add(size) <= self.max_bytes;
        // Room for it is made here, before a place is reserved.
        self.is_full |= !fits || self.moves.try_reserve(1).is_err();
        !self.is_full()
    }

    /// Counts regions that were looked at.
    pub fn note_work(&mut self, regions: usize) {
        self.work_left = self.work_left.saturating_sub(regions);
    }

    /// Asks the caller whether an allocation may move.
    pub fn may_move(&self, id: AllocationId) -> bool {
        (self.may_move)(id)
    }

    /// Adds a move.
    pub fn push(&mut self, it: Move) {
        self.bytes = self.bytes.saturating_add(it.source.size);
        self.moves.push(it);
    }
}
