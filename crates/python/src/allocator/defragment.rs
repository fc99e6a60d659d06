//! Defragmentation: moves of resources to places that leave less unused memory.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use vkmem_engine::DefragmentationInfo;

use super::Allocator;
use super::steps::{Asker, STEP_BYTES, STEP_MOVES};
use crate::arguments::callback::callable;
use crate::arguments::iterables::{MOST_ITEMS, read};
use crate::arguments::numbers::{quantity, real};
use crate::arguments::options::thoroughness;
use crate::arguments::text::Text;
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::detach;
use crate::lifetime::enter::enter_pool;
use crate::moving::callbacks;
use crate::moving::mover::Mover;
use crate::moving::passes::Defragmentation;
use crate::moving::protocol::ProtocolRun;
use crate::moving::run::{Pass, Run, statistics};
use crate::moving::slide;
use crate::objects::pool::Pool;
use crate::objects::resource::ResourceObject;
use crate::process::forks::in_one_process;

/// Limits of one pass of `defragment`: so much that the wait at its end is short beside it, and little enough to
/// look for signals in between.
const PASS_BYTES: u64 = 1 << 30;
/// The limit of a pass in bytes if the time is limited, too.
const TIMED_PASS_BYTES: u64 = 256 << 20;
/// See [`PASS_BYTES`].
const PASS_MOVES: u32 = 1024;

/// Reads the keyword `max_seconds`.
fn seconds_at_most(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = real(value, "max_seconds")?;
    if seconds.is_nan() || seconds < 0.0 {
        let shown = if seconds.is_nan() { "no number" } else { "negative" };
        let why = format!("max_seconds is {shown}; it is a time in seconds, 0 or more");
        return Err(invalid(value.py(), why));
    }
    // What is longer than a lifetime is no limit.
    Ok(Duration::from_secs_f64(seconds.min(1e10)))
}

impl Allocator {
    /// Makes the moves of a pass, and tells of them. Raises why others were not made.
    pub(super) fn pass(&self, py: Python<'_>, run: &mut Run) -> PyResult<Pass> {
        let mut pass = run.pass(py, &self.state)?;
        callbacks::tell(&self.state, &pass.moved);
        callbacks::call(py, &self.handlers.moved, &pass.moved);
        pass.failure.take().map_or(Ok(pass), Err)
    }
}

#[pymethods]
impl Allocator {
    /// Moves movable buffers and images together, so that blocks become empty and are given back to the device;
    /// returns `DefragmentationStatistics`.
    ///
    /// What was created with `movable=True`, or in a pool with that, gets a new handle at a better place; the
    /// device copies its contents, and `on_move` tells of it. With frames (`set_current_frame_index`) old handles
    /// and their memory are released when no frame in flight can use them; without, when the copies have ended,
    /// so no command that was recorded with an old handle may be submitted after this call. The copies run on
    /// the device's own queue, after everything that was submitted to that.
    ///
    /// A thread of the allocator gives the blocks that become empty back to the device (`vkFreeMemory`) while others
    /// move; the call waits for that in the end. Those of `defragment_step` may be given back some milliseconds after
    /// the step: until then `heap_budgets` counts them, and a call that would otherwise find no memory waits for them.
    ///
    /// Without frames, and with `frames_in_flight=0`, resources also slide down by less than their own size (except
    /// with "fast"), which overwrites the old place: all that was submitted elsewhere and uses them has to have
    /// ended.
    ///
    /// On a device without a queue the host copies: buffers in host-visible memory alone, and only without frames or
    /// with `frames_in_flight=0`. All that was submitted and uses them has to have ended. The rest stays as "queue".
    ///
    /// `pool` is the pool to tidy, by default all default pools. `algorithm` is "fast", "balanced", "full" or
    /// "extensive" (`VmaDefragmentationFlagBits`). It ends after `max_bytes` bytes or `max_seconds`, if they are
    /// given; the last move may exceed them. `progress(statistics)` is called after each step; an exception in
    /// it ends the call, and what has moved has moved.
    ///
    /// An image in layout UNDEFINED (`Image.layout`) is created anew without its texels: set the layout after
    /// commands of your own. What is mapped, viewed, aliased, or whose device address was asked for stays, and is
    /// counted in `not_moved`.
    ///
    /// Raises `FeatureNotPresentError` for a pool with the linear algorithm, `InvalidArgumentError`, and the
    /// errors of creating buffers and images: then the resources of that step are where they were.
    #[pyo3(
        signature = (
            *, pool = None, algorithm = None, max_bytes = None, max_seconds = None, progress = None
        ),
        text_signature = "($self, *, pool=None, algorithm='balanced', max_bytes=None, max_seconds=None, progress=None)"
    )]
    fn defragment<'py>(
        &self,
        py: Python<'py>,
        pool: Option<&Bound<'py, Pool>>,
        algorithm: Option<Text>,
        max_bytes: Option<&Bound<'py, PyAny>>,
        max_seconds: Option<&Bound<'py, PyAny>>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let algorithm = thoroughness(py, algorithm)?;
            let from = pool.map(|pool| pool.get().state.clone());
            let _pool = enter_pool(py, from.as_ref(), &self.state)?;
            let most = max_bytes.map_or(Ok(u64::MAX), |it| quantity(it, "max_bytes"))?;
            let time = max_seconds.map(seconds_at_most).transpose()?;
            let progress = progress.map(callable).transpose()?.flatten();
            let until = time.and_then(|time| Instant::now().checked_add(time));
            let info = DefragmentationInfo {
                pool: from.as_ref().map(|pool| pool.id),
                algorithm,
                slides: slide::is_possible(&self.state),
                ..DefragmentationInfo::default()
            };
            let mut run = Run::begin(py, &self.state, &info)?;
            let most_of_pass = if until.is_some() { TIMED_PASS_BYTES } else { PASS_BYTES };
            loop {
                let left = most.saturating_sub(run.figures().done.bytes_moved);
                if left == 0 || until.is_some_and(|until| Instant::now() >= until) {
                    break;
                }
                run.limit(left.min(most_of_pass), PASS_MOVES);
                let pass = self.pass(py, &mut run)?;
                if pass.is_done {
                    break;
                }
                // The room that this frees is used by the next pass.
                let mover = Mover::of(&self.state);
                mover.settle_all(py, &self.state)?;
                if let Some(progress) = &progress {
                    let figures = statistics(py, &run.figures())?;
                    in_one_process(py, || progress.call1(py, (figures,)))??;
                }
                py.check_signals()?;
            }
            run.count_mapped(&self.state, info.pool);
            let figures = run.figures();
            run.end(&self.state);
            detach(py, || self.state.engine().wait_for_releases());
            self.handlers.call_pending(py, &self.state);
            self.state.raise_found(py)?;
            statistics(py, &figures)
        })
    }

    /// Makes a few of the moves that `defragment` would make, to be called once a frame; returns the
    /// `DefragmentationStatistics` of the step.
    ///
    /// It moves at most `max_bytes` bytes and `max_moves` resources; a resource that is larger moves alone, and with
    /// 0 nothing moves. It does not wait for the device: what the copies leave behind is released by a later step or
    /// `set_current_frame_index`. Once there is nothing more to move, a step costs little until something is
    /// created or destroyed. `pool` and `algorithm` are those of `defragment`. With
    /// `auto_defragment` frames and this method continue one run of the default pools, the more thorough of both.
    ///
    /// Raises what `defragment` raises.
    #[pyo3(
        signature = (max_bytes = None, max_moves = None, *, pool = None, algorithm = None),
        text_signature = "($self, max_bytes=16777216, max_moves=128, *, pool=None, algorithm='balanced')"
    )]
    fn defragment_step<'py>(
        &self,
        py: Python<'py>,
        max_bytes: Option<&Bound<'py, PyAny>>,
        max_moves: Option<&Bound<'py, PyAny>>,
        pool: Option<&Bound<'py, Pool>>,
        algorithm: Option<Text>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let algorithm = thoroughness(py, algorithm)?;
            let from = pool.map(|pool| pool.get().state.clone());
            let _pool = enter_pool(py, from.as_ref(), &self.state)?;
            let max_bytes = max_bytes.map_or(Ok(STEP_BYTES), |it| quantity(it, "max_bytes"))?;
            let max_moves =
                max_moves.map_or(Ok(STEP_MOVES.into()), |it| quantity(it, "max_moves"))?;
            let pool = from.as_ref().map(|pool| pool.id);
            let max_moves = u32::try_from(max_moves).unwrap_or(u32::MAX);
            let figures = self.step(py, Asker::Program, pool, algorithm, max_bytes, max_moves)?;
            self.handlers.call_pending(py, &self.state);
            self.state.raise_found(py)?;
            statistics(py, &figures)
        })
    }

    /// Begins a defragmentation whose copies the caller makes (`vmaBeginDefragmentation`), for programs that
    /// record them into command buffers of their own; returns a `Defragmentation`, to be used as a context manager
    /// and iterated over. Each `DefragmentationPass` has `moves`, whose `create_buffer()` and `create_image()` make
    /// the new handles. The caller copies, or lets `record` write the copies into its command buffer. It waits for
    /// them, and for all that uses the old handles, before it goes on to the next pass: then the resources have
    /// their new handles, and the old ones are destroyed.
    ///
    /// Movable resources take part, and any `Buffer`, `Image` or `Allocation` in `resources`. What was mapped,
    /// viewed or destroyed by the end of a pass stays. `pool` and `algorithm` are those of `defragment`; a pass
    /// moves at most `max_bytes_per_pass` bytes and `max_allocations_per_pass` resources (0: no limit). Before each
    /// pass `break_callback()` is called, and a true result ends the iteration.
    ///
    /// Raises `FeatureNotPresentError` for a pool with the linear algorithm.
    #[pyo3(
        signature = (
            resources = None, *, pool = None, algorithm = None, max_bytes_per_pass = None,
            max_allocations_per_pass = None, break_callback = None
        ),
        text_signature = "($self, resources=(), *, pool=None, algorithm='balanced', max_bytes_per_pass=0, max_allocations_per_pass=0, break_callback=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn begin_defragmentation(
        &self,
        py: Python<'_>,
        resources: Option<&Bound<'_, PyAny>>,
        pool: Option<&Bound<'_, Pool>>,
        algorithm: Option<Text>,
        max_bytes_per_pass: Option<&Bound<'_, PyAny>>,
        max_allocations_per_pass: Option<&Bound<'_, PyAny>>,
        break_callback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Defragmentation> {
        let _inside = self.state.enter(py)?;
        let algorithm = thoroughness(py, algorithm)?;
        let from = pool.map(|pool| pool.get().state.clone());
        let _pool = enter_pool(py, from.as_ref(), &self.state)?;
        let limit = |value: Option<&Bound<'_, PyAny>>, name| {
            value.map_or(Ok(0), |value| quantity(value, name))
        };
        let most = limit(max_allocations_per_pass, "max_allocations_per_pass")?;
        let one = |object: &Bound<'_, PyAny>| {
            let resource = self.check_here(object, "Buffer, Image or Allocation")?;
            resource.resource.check_live(py)?;
            Ok(object.cast::<ResourceObject>()?.clone().unbind())
        };
        let given = resources.map(|it| read(it, "resources", MOST_ITEMS, one)).transpose()?;
        let info = DefragmentationInfo {
            pool: from.as_ref().map(|pool| pool.id),
            algorithm,
            max_bytes_per_pass: limit(max_bytes_per_pass, "max_bytes_per_pass")?,
            max_moves_per_pass: u32::try_from(most).unwrap_or(u32::MAX),
            ..DefragmentationInfo::default()
        };
        let interrupt = break_callback.map(callable).transpose()?.flatten();
        let run = ProtocolRun::begin(&self.state, &info).or_raise(py)?;
        Ok(Defragmentation::new(self.state.clone(), run, given.unwrap_or_default(), interrupt))
    }

    /// Calls `callback(moves)` with a list of `Move`, once for each step of a defragmentation in which resources
    /// moved: after the copies were submitted, and before the old handles are retired. Views, descriptors and
    /// recorded commands of these are to be made anew then. `Resource.on_move` is for single resources.
    ///
    /// The callback runs without locks in the call that moves, and may use the allocator. An exception in it is
    /// printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes it. Returns the
    /// callback, so it can be used as a decorator.
    fn on_move<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            self.handlers.set_moved(&callback)?;
            Ok(callback)
        })
    }
}
