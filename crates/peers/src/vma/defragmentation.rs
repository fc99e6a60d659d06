//! VMA's defragmentation, pass by pass.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::time::Duration;

use ash::vk;

use super::allocator::{Allocator, Pool};
use super::ffi::{self, DefragmentationStatistics};
use crate::measure::thread_time;

/// `VmaDefragmentationFlagBits`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefragmentationAlgorithm {
    /// `ALGORITHM_FAST`
    Fast = 1,
    /// `ALGORITHM_BALANCED`
    Balanced = 2,
    /// `ALGORITHM_FULL`
    Full = 4,
    /// `ALGORITHM_EXTENSIVE`
    Extensive = 8,
}

/// Limits of one pass; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassLimits {
    /// Maximum number of bytes to move.
    pub max_bytes: u64,
    /// Maximum number of allocations to move.
    pub max_moves: u32,
}

/// A `VmaDefragmentationContext`, between passes.
pub struct Defragmentation<'a> {
    allocator: &'a Allocator,
    context: *mut c_void,
}

impl Allocator {
    /// `vmaBeginDefragmentation` of a pool, or of the default pools.
    pub fn begin_defragmentation(
        &self,
        pool: Option<Pool>,
        algorithm: DefragmentationAlgorithm,
        limits: PassLimits,
    ) -> Result<Defragmentation<'_>, vk::Result> {
        let info = ffi::DefragmentationInfo {
            flags: algorithm as u32,
            pool: pool.map_or(null_mut(), Pool::raw),
            max_bytes_per_pass: limits.max_bytes,
            max_allocations_per_pass: limits.max_moves,
            break_callback: null(),
            break_callback_user_data: null_mut(),
        };
        let mut context = null_mut();
        // SAFETY: the allocator lives, and the structure is that of the header.
        match unsafe { ffi::vmaBeginDefragmentation(self.raw(), &info, &mut context) } {
            vk::Result::SUCCESS => Ok(Defragmentation { allocator: self, context }),
            error => Err(error),
        }
    }
}

impl Defragmentation<'_> {
    /// Plans one pass and accepts all of its moves, as if they had been copied. Returns the number of moves
    /// and the CPU time of planning them; none if no more moves are possible.
    pub fn pass(&mut self) -> Option<(u32, Duration)> {
        let mut pass = ffi::DefragmentationPassMoveInfo { move_count: 0, moves: null_mut() };
        let (allocator, began) = (self.allocator.raw(), thread_time());
        // SAFETY: allocator and context live, and the structure is that of the header.
        let result =
            unsafe { ffi::vmaBeginDefragmentationPass(allocator, self.context, &mut pass) };
        let planned = thread_time() - began;
        if result != vk::Result::INCOMPLETE {
            return None;
        }
        // VMA clears the count when it ends the pass.
        let moves = pass.move_count;
        // SAFETY: the pass is the one that has begun; each move has the operation 0, which accepts it.
        let ended = unsafe { ffi::vmaEndDefragmentationPass(allocator, self.context, &mut pass) };
        assert!(matches!(ended, vk::Result::SUCCESS | vk::Result::INCOMPLETE));
        Some((moves, planned))
    }

    /// Runs all passes, and ends.
    pub fn run(mut self) -> DefragmentationStatistics {
        while self.pass().is_some() {}
        self.end()
    }

    /// `vmaEndDefragmentation`
    pub fn end(self) -> DefragmentationStatistics {
        let mut statistics = DefragmentationStatistics::default();
        // SAFETY: allocator and context live; the context is not used afterwards.
        unsafe {
            ffi::vmaEndDefragmentation(self.allocator.raw(), self.context, &mut statistics);
        }
        statistics
    }
}
