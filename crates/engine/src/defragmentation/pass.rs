//! [`Pass`]: the moves that were found so far, and the limits of a pass.

use super::info::DefragmentationInfo;
use crate::handle::AllocationId;
use crate::pools::moves::Move;

/// Regions that a pass looks at in any case, and for each move: so planning takes time by the moves, not by the
/// live allocations.
const REGIONS_PER_PASS: usize = 1024;
const REGIONS_PER_MOVE: usize = 16;

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
    /// Regions that are still in proportion to the moves of a pass; then it ends, if it has any moves.
    allowance: usize,
    /// `allowance` at the start.
    whole: usize,
}

impl<'a> Pass<'a> {
    /// Begins a pass; a limit of 0 is none.
    pub fn new(info: &DefragmentationInfo, may_move: &'a dyn Fn(AllocationId) -> bool) -> Self {
        let or_none = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
        let regions = or_none(info.max_moves_per_pass).saturating_mul(REGIONS_PER_MOVE);
        let allowance = REGIONS_PER_PASS.saturating_add(regions);
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
            allowance,
            whole: allowance,
        }
    }

    /// Returns whether no further move is to be looked for.
    pub fn is_full(&self) -> bool {
        let is_costly = self.allowance == 0 && !self.moves.is_empty();
        self.is_full || is_costly || self.work_left == 0 || self.moves.len() >= self.max_moves
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
        self.allowance = self.allowance.saturating_sub(regions);
    }

    /// Limits the regions that are looked at by the moves for which the bytes of the pass suffice, if
    /// allocations have `mean` bytes.
    pub fn limit_by_bytes(&mut self, mean: u64) {
        let moves = usize::try_from(self.max_bytes / mean.max(1)).unwrap_or(usize::MAX);
        let most = REGIONS_PER_PASS.saturating_add(moves.saturating_mul(REGIONS_PER_MOVE));
        if most < self.whole {
            self.allowance = most.saturating_sub(self.whole - self.allowance);
            self.whole = most;
        }
    }

    /// Returns whether a survey may go on before the first moves, although some are possible, if it is to count
    /// `pace` regions a pass; at most half of the pass is for that.
    pub fn may_survey(&self, pace: usize) -> bool {
        self.allowance > self.whole - pace.min(self.whole / 2)
    }

    /// Returns the number of regions that are in proportion to the moves of the pass.
    pub fn regions(&self) -> usize {
        self.whole
    }

    /// Returns the number of moves to which the regions of the pass are in proportion; `None` without a limit.
    pub fn expected_moves(&self) -> Option<usize> {
        let is_limited = self.whole < usize::MAX;
        is_limited.then(|| self.whole.saturating_sub(REGIONS_PER_PASS) / REGIONS_PER_MOVE)
    }

    /// Returns whether looking for a place is still in proportion.
    pub fn may_search(&self) -> bool {
        self.allowance > 0 || self.moves.is_empty()
    }

    /// Ends the pass: what comes next belongs to the next one.
    pub fn end(&mut self) {
        self.is_full = true;
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
