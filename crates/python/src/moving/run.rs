//! A run of defragmentation whose moves the library makes by itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vkmem_engine::{
    Allocation, AllocationId, Defragmentation, DefragmentationInfo, DefragmentationStatistics,
    Error, Move, MoveKind, PoolId, PoolKey,
};

use super::mover::{FreedCounts, Mover};
use super::obstacle::Obstacle;
use super::scratch::Scratch;
use super::slide;
use super::step::{self, Moved, Planned, Step};
use crate::errors::IntoPyResult;
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Background};
use crate::package::DEFRAGMENTATION_STATISTICS;

/// A run and what is known of it so far.
pub struct Run {
    plan: Defragmentation,
    obstacles: HashMap<AllocationId, Obstacle>,
    freed: Arc<FreedCounts>,
    scratch: Scratch,
    /// The pool whose resources may move; `None`: all of the plan.
    only: Option<PoolKey>,
}

/// What a run has done so far.
#[derive(Default)]
pub struct Figures {
    /// Moves, and blocks that were given back to the device.
    pub done: DefragmentationStatistics,
    /// How many resources stayed, by the reason.
    pub stayed: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// What was done since then. What stays is counted as it is.
    pub fn since(mut self, before: &Self) -> Self {
        let done = &mut self.done;
        done.bytes_moved -= before.done.bytes_moved;
        done.bytes_freed -= before.done.bytes_freed;
        done.allocations_moved -= before.done.allocations_moved;
        done.device_memory_blocks_freed -= before.done.device_memory_blocks_freed;
        self
    }
}

/// What one pass has done.
pub struct Pass {
    /// What has moved.
    pub moved: Vec<Moved>,
    /// Whether there is nothing left to do.
    pub is_done: bool,
    /// Why the other moves were not made, which can be repeated.
    pub failure: Option<PyErr>,
}

impl Run {
    /// Begins a run, without a move.
    pub fn begin(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        info: &DefragmentationInfo,
    ) -> PyResult<Self> {
        let plan = allocator.engine().begin_defragmentation(info).or_raise(py)?;
        let (obstacles, freed) = (HashMap::new(), Arc::default());
        Ok(Self { plan, obstacles, freed, scratch: Scratch::new(allocator.clone()), only: None })
    }

    /// Leaves what is not in some pool where it is.
    pub fn only(self, only: Option<PoolKey>) -> Self {
        Self { only, ..self }
    }

    /// Changes the limits of the passes to come.
    pub fn limit(&mut self, max_bytes: u64, max_moves: u32) {
        self.plan.set_limits(max_bytes, max_moves);
    }

    /// Makes the moves of the next pass. After an error none of them was made, and the pass can be repeated; it can
    /// be too after a failure of a part of them.
    pub fn pass(&mut self, py: Python<'_>, allocator: &Arc<AllocatorState>) -> PyResult<Pass> {
        Mover::of(allocator).retire(py, allocator);
        let turn = allocator.moving.enter(py)?;
        let (plan, obstacles, only) = (&mut self.plan, &mut self.obstacles, self.only);
        let moves = detach(py, || {
            let noted = RefCell::new(obstacles);
            allocator.engine().next_pass(plan, &|id| {
                only.is_none_or(|only| id.pool_key() == only)
                    && may_move(allocator, id, &mut noted.borrow_mut())
            })
        });
        let is_done = moves.is_empty() && self.plan.is_done();
        let mut pass = Pass { moved: Vec::new(), is_done, failure: None };
        let by_destination: HashMap<AllocationId, Move> =
            moves.iter().map(|it| (it.destination.id, *it)).collect();
        let (mut apart, mut slides) = (Vec::new(), Vec::new());
        for it in &moves {
            match allocator.movable_at(it.source.id) {
                Some(resource) => {
                    let those = if it.kind == MoveKind::Slide { &mut slides } else { &mut apart };
                    those.push(Planned { resource, destination: it.destination });
                }
                None => self.cancel(py, allocator, it),
            }
        }
        let engine = allocator.engine();
        let (plan, scratch) = (&mut self.plan, &mut self.scratch);
        let mut commit = |it: &Planned| -> Result<Allocation, Error> {
            let of_plan = by_destination.get(&it.destination.id).ok_or(Error::UseAfterFree)?;
            engine.commit_move(plan, of_plan)
        };
        let mut step = Step::default();
        let mut made = step::run(py, allocator, &turn, apart, &self.freed, &mut commit);
        if let Ok(apart) = &mut made
            && apart.failure.is_none()
        {
            step.add(std::mem::take(apart));
            made = slide::run(py, allocator, &turn, slides, &self.freed, scratch, &mut commit);
        }
        let made = made.and_then(|made| {
            step.add(made);
            step.failure.take().map_or(Ok(()), Err)
        });
        drop(turn);
        if let Err(why) = made {
            // Those that were made have ended.
            moves.iter().for_each(|it| self.cancel(py, allocator, it));
            pass.failure = Some(why);
        }
        for (it, why) in &step.stayed {
            self.obstacles.insert(it.resource.allocation().id, *why);
            if let Some(of_plan) = by_destination.get(&it.destination.id) {
                self.cancel(py, allocator, of_plan);
            }
        }
        for it in &step.moved {
            self.obstacles.remove(&it.before.allocation.id);
        }
        pass.moved = step.moved;
        allocator.tell_device_memory(py);
        Ok(pass)
    }

    /// Gives up a move that has not ended; nothing if it has.
    fn cancel(&mut self, py: Python<'_>, allocator: &AllocatorState, it: &Move) {
        if let Ok(release) = allocator.engine().cancel_move(&mut self.plan, it) {
            detach(py, || drop(release));
        }
    }

    /// What was done so far.
    pub fn figures(&self) -> Figures {
        let mut done = self.plan.statistics();
        done.bytes_freed += self.freed.bytes.load(Ordering::Relaxed);
        done.device_memory_blocks_freed += self.freed.objects.load(Ordering::Relaxed);
        let mut stayed = BTreeMap::new();
        for it in self.obstacles.values() {
            *stayed.entry(it.name()).or_insert(0) += 1;
        }
        Figures { done, stayed }
    }

    /// Counts what is mapped, which the plan passes over: of a pool, or of all default pools. The caller holds no
    /// lock.
    pub fn count_mapped(&mut self, allocator: &AllocatorState, pool: Option<PoolId>) {
        // Unlocked before they are dropped: one may be the last reference.
        let live = allocator.live.lock().all();
        for it in live.iter().filter(|it| it.movable().is_some()) {
            let id = it.allocation().id;
            let is_there = match id.pool_key() {
                PoolKey::Custom(of) => pool == Some(of),
                PoolKey::Default(_) => pool.is_none() && !id.is_dedicated(),
            };
            if is_there && Obstacle::of_use(it) == Some(Obstacle::Mapped) {
                self.obstacles.insert(id, Obstacle::Mapped);
            }
        }
    }

    /// Ends it.
    pub fn end(self, allocator: &AllocatorState) {
        allocator.engine().end_defragmentation(self.plan);
    }
}

/// Whether the resource of some memory can move; notes why not.
fn may_move(
    allocator: &AllocatorState,
    id: AllocationId,
    noted: &mut HashMap<AllocationId, Obstacle>,
) -> bool {
    let resource = allocator.movable_at(id);
    let why = match resource.as_deref() {
        Some(resource) => Obstacle::of(resource),
        None if allocator.engine().keeps(id) => Some(Obstacle::Quarantine),
        None => Some(Obstacle::NotMovable),
    };
    if let Some(why) = why
        && noted.try_reserve(1).is_ok()
    {
        noted.insert(id, why);
    }
    why.is_none()
}

/// As `DefragmentationStatistics` of Python.
pub fn statistics<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyAny>> {
    let stayed = PyDict::new(py);
    for (reason, count) in &figures.stayed {
        stayed.set_item(reason, count)?;
    }
    let done = &figures.done;
    DEFRAGMENTATION_STATISTICS.get(py)?.call1((
        done.bytes_moved,
        done.bytes_freed,
        done.allocations_moved,
        done.device_memory_blocks_freed,
        stayed,
    ))
}
