//! Defragmentation where a request finds no room in its memory type or pool, although the free bytes of the blocks
//! suffice.

use pyo3::prelude::*;
use vkmem_engine::{
    Allocation, AllocationCreateInfo, AllocationRequest, DefragmentationAlgorithm,
    DefragmentationInfo, Error, PoolId, PoolKey,
};

use super::Allocator;
use super::handlers::Failure;
use super::steps::InVain;
use crate::errors::is_ours;
use crate::interpreter::detach;
use crate::moving::mover::Mover;
use crate::moving::run::Run;
use crate::moving::slide;

/// The most that is moved for one request.
const MOST_BYTES: u64 = 256 << 20;
const MOST_MOVES: u32 = 1024;

impl Allocator {
    /// As [`attempt`](Self::attempt), for a request that may make room: the attempt gets its create info, which
    /// is changed for a search step by step.
    pub(super) fn attempt_in<T>(
        &self,
        py: Python<'_>,
        create: &AllocationCreateInfo,
        mut attempt: impl FnMut(&AllocationCreateInfo) -> Result<T, Error>,
    ) -> PyResult<T> {
        self.attempt(py, || self.or_make_room(py, create, &mut attempt))
    }

    /// Makes an attempt, and others after resources were moved together.
    pub(super) fn or_make_room<T, F: Failure>(
        &self,
        py: Python<'_>,
        create: &AllocationCreateInfo,
        attempt: &mut impl FnMut(&AllocationCreateInfo) -> Result<T, F>,
    ) -> Result<T, F> {
        match self.steps.when_full {
            true => self.type_by_type(py, create, attempt),
            false => attempt(create),
        }
    }

    /// Makes room in each memory type before the next one, which is worse, is tried: a resource that went there
    /// would stay there for its whole life.
    fn type_by_type<T, F: Failure>(
        &self,
        py: Python<'_>,
        create: &AllocationCreateInfo,
        attempt: &mut impl FnMut(&AllocationCreateInfo) -> Result<T, F>,
    ) -> Result<T, F> {
        let mut attempt = |create: &AllocationCreateInfo| {
            // An attempt that fails takes the call site of the recording with it.
            self.state.note_call_site(py);
            attempt(create)
        };
        let mut choice = AllocationCreateInfo { first_choice_only: true, ..*create };
        loop {
            let failure = match attempt(&choice) {
                Ok(made) => return Ok(made),
                Err(failure) => failure,
            };
            let error = failure.error();
            if !error.is_shortage() {
                break;
            }
            if self.make_room(py, error, choice.pool)
                && let Ok(made) = attempt(&choice)
            {
                return Ok(made);
            }
            let Some(failed) = error.figures().and_then(|it| it.memory_type_index) else { break };
            let left =
                if choice.memory_type_bits == 0 { u32::MAX } else { choice.memory_type_bits };
            choice.memory_type_bits = left & !(1 << failed);
            if choice.pool.is_some() || choice.memory_type_bits == 0 || left >> failed & 1 == 0 {
                break;
            }
        }
        // All of them, with the error of the first.
        attempt(create)
    }

    /// Allocates for the first attempt of a call whose create info is a constant: that of `attempt_in` follows.
    #[cold]
    pub(super) fn allocate_first_choice(
        &self,
        py: Python<'_>,
        request: &AllocationRequest,
    ) -> Result<Allocation, Error> {
        let mut request = *request;
        request.create_info.first_choice_only = self.steps.when_full;
        detach(py, || self.state.engine().allocate_slow(&request))
    }

    /// Moves resources together after a failure; returns whether any has moved. A foreign exception is printed, as
    /// the failure is the one to raise; errors of the moves are of no interest beside it.
    #[cold]
    fn make_room(&self, py: Python<'_>, error: &Error, pool: Option<PoolId>) -> bool {
        if self.state.moving.is_mine() {
            return false;
        }
        let Some(now) = self.could_fit(error, pool) else { return false };
        let before = *self.steps.in_vain.lock();
        if before.is_some_and(|before| before.says_no(&now)) {
            return false;
        }
        // What the callbacks of these moves create is not a reason for more of them.
        let Some(_inside) = self.handlers.begin_handling() else { return false };
        let moved = self.move_together(py, pool, now.from);
        *self.steps.in_vain.lock() = matches!(moved, Ok(false)).then_some(now);
        moved.unwrap_or_else(|error| {
            if !is_ours(py, &error) {
                error.write_unraisable(py, None);
            }
            false
        })
    }

    /// The state of the heap, if its blocks have as many free bytes as a request needs.
    fn could_fit(&self, error: &Error, pool: Option<PoolId>) -> Option<InVain> {
        let figures = error.figures()?;
        let from = pool.map_or(PoolKey::Default(figures.memory_type_index?), PoolKey::Custom);
        let budgets = self.state.engine().heap_budgets();
        let heap = budgets.get(figures.heap_index? as usize)?;
        let free = heap.block_bytes.saturating_sub(heap.allocation_bytes);
        let size = figures.size;
        (free >= size).then_some(InVain { from, size, held: heap.block_bytes, free })
    }

    fn move_together(&self, py: Python<'_>, pool: Option<PoolId>, only: PoolKey) -> PyResult<bool> {
        let info = DefragmentationInfo {
            pool,
            algorithm: DefragmentationAlgorithm::Full,
            slides: slide::is_possible(&self.state),
            ..DefragmentationInfo::default()
        };
        let mover = Mover::of(&self.state);
        mover.settle_now(py, &self.state);
        let mut run = Run::begin(py, &self.state, &info)?.only(Some(only));
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
