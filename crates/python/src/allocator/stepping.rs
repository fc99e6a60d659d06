//! One step of a defragmentation, asked for or at the beginning of a frame.

use pyo3::prelude::*;
use vkmem_engine::{DefragmentationAlgorithm, DefragmentationInfo, PoolId};

use super::Allocator;
use super::steps::{Asker, Begun, STEP_REGIONS, Tidy, Track};
use crate::lifetime::ownership::Background;
use crate::moving::mover::Mover;
use crate::moving::run::{Figures, Run};

impl Allocator {
    /// Makes the moves of one step in a pool, or in the default pools. A run that has ended begins anew when something
    /// has changed.
    pub(super) fn step(
        &self,
        py: Python<'_>,
        asker: Asker,
        pool: Option<PoolId>,
        algorithm: DefragmentationAlgorithm,
        max_bytes: u64,
        max_moves: u32,
    ) -> PyResult<Figures> {
        // 0 is no limit for a run.
        if max_bytes == 0 || max_moves == 0 {
            Mover::of(&self.state).retire(py, &self.state);
            return Ok(Figures::default());
        }
        let mut track = self.steps.take(pool);
        let made = self.step_of(py, &mut track, asker, algorithm, max_bytes, max_moves);
        let engine = self.state.engine();
        self.steps.put(track, |pool| engine.pool_info(pool).is_ok());
        made
    }

    fn step_of(
        &self,
        py: Python<'_>,
        track: &mut Track,
        asker: Asker,
        algorithm: DefragmentationAlgorithm,
        max_bytes: u64,
        max_moves: u32,
    ) -> PyResult<Figures> {
        let (mut begun, is_new) = match track.run.take() {
            Some(begun) if begun.serves(asker, algorithm) => (begun, false),
            other => {
                if let Some(other) = other {
                    other.run.end(&self.state);
                }
                let usage = self.state.engine().heap_usage();
                if track.tidy.as_ref().is_some_and(|it| it.covers(algorithm, &usage)) {
                    Mover::of(&self.state).retire(py, &self.state);
                    return Ok(Figures::default());
                }
                let info = DefragmentationInfo {
                    pool: track.pool,
                    algorithm,
                    max_regions_per_pass: STEP_REGIONS,
                    ..DefragmentationInfo::default()
                };
                let run = Run::begin(py, &self.state, &info)?;
                (Begun { asker, algorithm, run, usage }, true)
            }
        };
        let (run, algorithm) = (&mut begun.run, begun.algorithm);
        let before = if is_new { Figures::default() } else { run.figures() };
        run.limit(max_bytes, max_moves);
        let pass = self.pass(py, run)?;
        let figures = run.figures();
        if !pass.is_done {
            track.run = Some(begun);
        } else {
            begun.run.end(&self.state);
            let usage = self.state.engine().heap_usage();
            let has_moved = figures.done.allocations_moved > 0;
            track.tidy = Some(Tidy { algorithm, usage, has_moved });
        }
        Ok(figures.since(&before))
    }

    /// Makes a step at the beginning of a frame, if one is due. Exceptions are printed: the frame has begun.
    pub(super) fn step_by_itself(&self, py: Python<'_>) {
        let Some(policy) = &self.steps.auto else { return };
        let fast = DefragmentationAlgorithm::Fast;
        let known = self.steps.look(None, |track| {
            let going = track.run.as_ref().map(|it| (it.asker, it.algorithm, it.usage.clone()));
            (going, track.tidy.as_ref().is_some_and(|it| it.algorithm == fast && !it.has_moved))
        });
        let (going, is_emptied) = known.unwrap_or_default();
        let (is_own, next) = match going {
            // The program's run is continued, and ended by the program alone.
            Some((Asker::Program, algorithm, _)) => {
                (false, policy.is_due_now(&self.state).then_some(algorithm))
            }
            Some((Asker::Frame, algorithm, usage)) => {
                (true, policy.next(&self.state, Some((algorithm, usage)), is_emptied))
            }
            None => (false, policy.next(&self.state, None, is_emptied)),
        };
        let Some(algorithm) = next else {
            if is_own {
                // Its purpose is fulfilled.
                let mut track = self.steps.take(None);
                if let Some(ended) = track.run.take() {
                    ended.run.end(&self.state);
                }
                self.steps.put(track, |_| true);
            }
            return;
        };
        let (bytes, moves) = (policy.max_bytes, policy.max_moves);
        if let Err(error) = self.step(py, Asker::Frame, None, algorithm, bytes, moves) {
            error.write_unraisable(py, None);
        }
    }
}
