//! One step of a defragmentation, asked for or at the beginning of a frame.

use pyo3::prelude::*;
use vkmem_engine::DefragmentationInfo;

use super::Allocator;
use super::steps::{STEP_REGIONS, Wanted, usage};
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
        let (mut run, is_new) = match kept {
            Some((of, run)) if of == wanted => (run, false),
            other => {
                if let Some((_, run)) = other {
                    run.end(&self.state);
                }
                let now = usage(&self.state.engine().heap_budgets());
                if self.steps.tidy.lock().as_ref() == Some(&(wanted, now)) {
                    Mover::of(&self.state).retire(py, &self.state);
                    return Ok(Figures::default());
                }
                let info = DefragmentationInfo {
                    pool,
                    algorithm,
                    max_regions_per_pass: STEP_REGIONS,
                    ..DefragmentationInfo::default()
                };
                (Run::begin(py, &self.state, &info)?, true)
            }
        };
        let before = if is_new { Figures::default() } else { run.figures() };
        // No limit of 0: that would be none.
        run.limit(max_bytes.max(1), max_moves.max(1));
        let pass = self.pass(py, &mut run)?;
        let figures = run.figures();
        if !pass.is_done {
            *self.steps.run.lock() = Some((wanted, run));
        } else {
            run.end(&self.state);
            let now = usage(&self.state.engine().heap_budgets());
            *self.steps.tidy.lock() = Some((wanted, now));
        }
        Ok(figures.since(&before))
    }

    /// Makes a step at the beginning of a frame, if one is due. Exceptions are printed: the frame has begun.
    pub(super) fn step_by_itself(&self, py: Python<'_>) {
        let Some(policy) = &self.steps.auto else { return };
        let goes_on = self.steps.run.lock().is_some();
        if !goes_on && !policy.is_due(&self.state, &self.state.engine().heap_budgets()) {
            return;
        }
        let wanted = (None, policy.algorithm);
        if let Err(error) = self.step(py, wanted, policy.max_bytes, policy.max_moves) {
            error.write_unraisable(py, None);
        }
    }
}
