//! Defragmentation where a request finds no room, although the free bytes of the blocks suffice.

use pyo3::prelude::*;
use vkmem_engine::{DefragmentationAlgorithm, DefragmentationInfo, Error, PoolId, PoolKey};

use super::Allocator;
use super::handlers::Failure;
use crate::errors::is_ours;
use crate::moving::mover::Mover;
use crate::moving::run::Run;
use crate::moving::slide;

/// The most that is moved for one request.
const MOST_BYTES: u64 = 256 << 20;
const MOST_MOVES: u32 = 1024;

impl Allocator {
    /// As [`attempt`](Self::attempt), for a request of a pool, or of the default ones.
    pub(super) fn attempt_in<T>(
        &self,
        py: Python<'_>,
        pool: Option<PoolId>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> PyResult<T> {
        self.attempt(py, || self.or_make_room(py, pool, &mut attempt))
    }

    /// Makes an attempt, and another one if resources could be moved together in between.
    pub(super) fn or_make_room<T, F: Failure>(
        &self,
        py: Python<'_>,
        pool: Option<PoolId>,
        attempt: &mut impl FnMut() -> Result<T, F>,
    ) -> Result<T, F> {
        match attempt() {
            Err(failure) if self.steps.when_full && self.make_room(py, failure.error(), pool) => {
                attempt()
            }
            made => made,
        }
    }

    /// Moves resources together after a failure; returns whether any has moved. A foreign exception is printed, as
    /// the failure is the one to raise; errors of the moves are of no interest beside it.
    #[cold]
    fn make_room(&self, py: Python<'_>, error: &Error, pool: Option<PoolId>) -> bool {
        if !error.is_shortage() || !self.could_fit(error) || self.state.moving.is_mine() {
            return false;
        }
        // What the callbacks of these moves create is not a reason for more of them.
        let Some(_inside) = self.handlers.begin_handling() else { return false };
        self.move_together(py, error, pool).unwrap_or_else(|error| {
            if !is_ours(py, &error) {
                error.write_unraisable(py, None);
            }
            false
        })
    }

    /// Whether the blocks of the heap have as many free bytes as a request needs.
    fn could_fit(&self, error: &Error) -> bool {
        let Some(figures) = error.figures() else { return false };
        let budgets = self.state.engine().heap_budgets();
        let heap = figures.heap_index.and_then(|heap| budgets.get(heap as usize));
        heap.is_some_and(|it| it.block_bytes.saturating_sub(it.allocation_bytes) >= figures.size)
    }

    fn move_together(&self, py: Python<'_>, error: &Error, pool: Option<PoolId>) -> PyResult<bool> {
        let info = DefragmentationInfo {
            pool,
            algorithm: DefragmentationAlgorithm::Full,
            slides: slide::is_possible(&self.state),
            ..DefragmentationInfo::default()
        };
        let memory_type = error.figures().and_then(|it| it.memory_type_index);
        let only = pool.map(PoolKey::Custom).or(memory_type.map(PoolKey::Default));
        let mover = Mover::of(&self.state);
        mover.settle_now(py, &self.state);
        let mut run = Run::begin(py, &self.state, &info)?.only(only);
        let ended = loop {
            let done = run.figures().done;
            let bytes = MOST_BYTES.saturating_sub(done.bytes_moved);
            let moves = u64::from(MOST_MOVES).saturating_sub(done.allocations_moved);
            if bytes == 0 || moves == 0 {
                break Ok(());
            }
            run.limit(bytes, moves as u32);
            let pass = self.pass(py, &mut run);
            mover.settle_now(py, &self.state);
            match pass {
                Ok(pass) if pass.is_done => break Ok(()),
                Ok(_) => {}
                Err(why) => break Err(why),
            }
        };
        let has_moved = run.figures().done.allocations_moved > 0;
        run.end(&self.state);
        // Memory that the moves themselves needed was not there: what was moved before may do.
        ended.map(|()| has_moved).or_else(|why| if has_moved { Ok(true) } else { Err(why) })
    }
}
