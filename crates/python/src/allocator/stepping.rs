//! One step of a defragmentation, asked for or at the beginning of a frame.

use pyo3::prelude::*;
use vkmem_engine::{DefragmentationAlgorithm, DefragmentationInfo};

use super::Allocator;
use super::steps::{Begun, STEP_REGIONS, Tidy, Wanted, usage};
use crate::lifetime::ownership::Background;
use crate::moving::mover::Mover;
use crate::moving::run::{Figures, Run};

impl Allocator {
    /// Makes the moves of one step. A run that has ended begins anew when something has changed.
    pub(super) fn step(
        &self,
        py: Python<'_>,
        wanted: Wanted,
        max_bytes: u64,
        max_moves: u32,
    ) -> PyResult<Figures> {
        let (pool, algorithm) = wanted;
        let kept = self.steps.run.lock().take();
        let (mut begun, is_new) = match kept {
            Some(begun) if begun.wanted == wanted => (begun, false),
            other => {
                if let Some(other) = other {
                    other.run.end(&self.state);
                }
                let usage = usage(&self.state.engine().heap_budgets());
                if self.steps.tidy.lock().as_ref().is_some_and(|it| it.covers(wanted, &usage)) {
                    Mover::of(&self.state).retire(py, &self.state);
                    return Ok(Figures::default());
                }
                let info = DefragmentationInfo {
                    pool,
                    algorithm,
                    max_regions_per_pass: STEP_REGIONS,
                    ..DefragmentationInfo::default()
                };
                (Begun { wanted, run: Run::begin(py, &self.state, &info)?, usage }, true)
            }
        };
        let run = &mut begun.run;
        let before = if is_new { Figures::default() } else { run.figures() };
        // No limit of 0: that would be none.
        run.limit(max_bytes.max(1), max_moves.max(1));
        let pass = self.pass(py, run)?;
        let figures = run.figures();
        if !pass.is_done {
            *self.steps.run.lock() = Some(begun);
        } else {
            begun.run.end(&self.state);
            let usage = usage(&self.state.engine().heap_budgets());
            let has_moved = figures.done.allocations_moved > 0;
            *self.steps.tidy.lock() = Some(Tidy { wanted, usage, has_moved });
        }
        Ok(figures.since(&before))
    }

    /// Makes a step at the beginning of a frame, if one is due. Exceptions are printed: the frame has begun.
    pub(super) fn step_by_itself(&self, py: Python<'_>) {
        let Some(policy) = &self.steps.auto else { return };
        let going = {
            let run = self.steps.run.lock();
            let own = run.as_ref().filter(|it| it.wanted.0.is_none());
            own.map(|it| (it.wanted.1, it.usage.clone()))
        };
        let is_emptied = {
            let last = self.steps.tidy.lock();
            let fast = (None, DefragmentationAlgorithm::Fast);
            last.as_ref().is_some_and(|it| it.wanted == fast && !it.has_moved)
        };
        let is_going = going.is_some();
        let Some(algorithm) = policy.next(&self.state, going, is_emptied) else {
            // Its purpose is fulfilled.
            let ended = if is_going { self.steps.run.lock().take() } else { None };
            if let Some(ended) = ended {
                ended.run.end(&self.state);
            }
            return;
        };
        let wanted = (None, algorithm);
        if let Err(error) = self.step(py, wanted, policy.max_bytes, policy.max_moves) {
            error.write_unraisable(py, None);
        }
    }
}
