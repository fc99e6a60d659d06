//! What a run of defragmentation is asked for and what it answers.

use crate::handle::{Allocation, PoolId};
use crate::pools::memory_object::Release;
use crate::request::DefragmentationAlgorithm;

/// The parameters of a run: `VmaDefragmentationInfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragmentationInfo {
    /// The pool; `None`: all default pools, each by itself.
    pub pool: Option<PoolId>,
    /// How far it goes.
    pub algorithm: DefragmentationAlgorithm,
    /// The most bytes that a pass moves; 0 for no limit. An allocation that is larger moves alone.
    pub max_bytes_per_pass: u64,
    /// The most allocations that a pass moves; 0 for no limit.
    pub max_moves_per_pass: u32,
    /// The most regions that a pass looks at, by about a hundred; 0 for no limit. With a limit a pass may end
    /// without a move although there are more:
    /// [`Defragmentation::is_done`](crate::Defragmentation::is_done).
    pub max_regions_per_pass: u32,
    /// Whether allocations may move by less than their size, to a place that overlaps their own
    /// ([`MoveKind::Slide`](crate::MoveKind::Slide)).
    pub slides: bool,
}

/// What a run has done: `VmaDefragmentationStats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragmentationStatistics {
    /// Bytes of the allocations that were moved.
    pub bytes_moved: u64,
    /// Bytes of the memory objects that were given back to the driver.
    pub bytes_freed: u64,
    /// Number of allocations that were moved.
    pub allocations_moved: u64,
    /// Number of memory objects that were given back to the driver.
    pub device_memory_blocks_freed: u64,
}

impl DefragmentationStatistics {
    /// Counts the memory objects that a free gives back to the driver.
    pub fn count_release(&mut self, release: &Release) {
        self.bytes_freed += release.bytes();
        self.device_memory_blocks_freed += release.object_count();
    }
}

/// What the caller did about a move: `VmaDefragmentationMoveOperation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoveOutcome {
    /// It was copied: the allocation is now at the destination, and its old place is freed.
    #[default]
    Copy,
    /// It stays where it is, and is not proposed again in this run.
    Ignore,
    /// It was given up: both places are freed.
    Destroy,
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveEnd {
    /// The allocation is at its new place, with the id that is in here.
    Moved(Allocation),
    /// The allocation is where it was: the caller said so, or it was mapped meanwhile.
    Kept,
    /// The allocation is gone: the caller said so, or it was freed meanwhile.
    Gone,
}

/// The result of a pass.
#[derive(Default)]
#[must_use = "dropping it calls the driver"]
pub struct PassEnd {
    /// How each move ended, in the order of the pass.
    pub ends: Vec<MoveEnd>,
    /// Whether anything was moved or destroyed, so that another pass may find more.
    pub progressed: bool,
    /// Pending driver calls, made when these are dropped.
    pub releases: Vec<Release>,
}
