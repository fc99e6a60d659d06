//! [`Defragmentation`]: one run, from its begin to its end.

use std::cell::RefCell;
use std::sync::Arc;

use super::info::{DefragmentationInfo, DefragmentationStatistics, MoveEnd, MoveOutcome, PassEnd};
use super::pass::Pass;
use super::plan::{PoolPlan, Step};
use crate::allocator::Allocator;
use crate::error::Error;
use crate::handle::{Allocation, AllocationId, PoolKey};
use crate::pools::memory_object::Release;
use crate::pools::moves::{Move, MoveKind};
use crate::pools::registry::Pools;
use crate::recording::{Told, ToldEnd, is_active, order};
use crate::request::Algorithm;

/// A run of defragmentation: `VmaDefragmentationContext`. It holds no lock and no pool; dropping it frees
/// the destinations of moves that have not ended.
pub struct Defragmentation {
    pools: Arc<Pools>,
    info: DefragmentationInfo,
    /// Its number in recordings, if the allocator was recorded when it began.
    number: Option<u32>,
    /// All pools of the run.
    pool_keys: Vec<PoolKey>,
    /// The pools that are not done yet, the next one last.
    plans: Vec<PoolPlan>,
    /// Moves that have not ended yet.
    pending: Vec<Move>,
    statistics: DefragmentationStatistics,
}

impl Defragmentation {
    /// Returns what the run has done so far.
    pub fn statistics(&self) -> DefragmentationStatistics {
        self.statistics
    }

    /// Returns whether there is nothing left to look at.
    pub fn is_done(&self) -> bool {
        self.plans.is_empty()
    }

    /// Returns the moves that have not ended yet.
    pub fn pending(&self) -> &[Move] {
        &self.pending
    }

    /// Changes the limits of the passes to come; 0 for no limit.
    pub fn set_limits(&mut self, max_bytes_per_pass: u64, max_moves_per_pass: u32) {
        self.info.max_bytes_per_pass = max_bytes_per_pass;
        self.info.max_moves_per_pass = max_moves_per_pass;
    }

    /// Counts the memory objects that a free of a source gives back to the driver, for callers that free
    /// sources later than their moves end.
    pub fn count_release(&mut self, release: &Release) {
        self.statistics.count_release(release);
    }

    fn take_pending(&mut self, it: &Move) -> Result<Move, Error> {
        let at =
            self.pending.iter().position(|pending| pending.destination.id == it.destination.id);
        at.map(|at| self.pending.swap_remove(at)).ok_or(Error::UseAfterFree)
    }

    fn plan_of(&mut self, pool_key: PoolKey) -> Option<&mut PoolPlan> {
        self.plans.iter_mut().find(|plan| plan.pool_key == pool_key)
    }

    /// Tells the plan that a move ended with the allocation at another key, or gone.
    fn note_progress(&mut self, it: &Move, arrived: Option<AllocationId>) {
        if let Some(plan) = self.plan_of(it.source.id.pool_key()) {
            plan.state.progress += 1;
            if let (MoveKind::Slide, Some(arrived)) = (it.kind, arrived) {
                plan.state.slid.insert(it.source.id.key, arrived.key);
            }
        }
    }

    fn note_kept(&mut self, it: &Move) {
        if let Some(plan) = self.plan_of(it.source.id.pool_key()) {
            plan.state.ignored.insert(it.source.id);
            if it.kind == MoveKind::Slide {
                plan.state.slid.insert(it.source.id.key, it.source.id.key);
            }
        }
    }

    /// Frees an allocation and counts what that gives back to the driver; `None` if it was freed before.
    fn free(&mut self, allocator: &Allocator, id: AllocationId) -> Option<Release> {
        let release = allocator.free_untold(id).ok()?;
        self.statistics.count_release(&release);
        Some(release)
    }
}

impl Drop for Defragmentation {
    fn drop(&mut self) {
        for it in std::mem::take(&mut self.pending) {
            let mut release = Release::default();
            self.pools.with_pool(it.source.id.pool_key(), |pool| {
                pool.forget_move(&it);
                pool.free(it.destination.id, &mut release)
            });
        }
        for &key in &self.pool_keys {
            self.pools.with_pool(key, |pool| {
                pool.arena().end_moves();
                Some(())
            });
        }
    }
}

impl Allocator {
    /// Begins to defragment a pool, or all default pools: `vmaBeginDefragmentation`. Looks at nothing yet.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] for a pool with the linear algorithm, whose order is the caller's;
    /// [`Error::UseAfterFree`] if the id of the pool is stale.
    pub fn begin_defragmentation(
        &self,
        info: &DefragmentationInfo,
    ) -> Result<Defragmentation, Error> {
        let keys: Vec<PoolKey> = match info.pool {
            None => (0..self.pools.defaults.len() as u32).rev().map(PoolKey::Default).collect(),
            Some(id) => {
                if self.pools.get(id)?.rules().algorithm == Algorithm::Linear {
                    let reason = "a pool with the linear algorithm cannot be defragmented";
                    return Err(Error::FeatureNotPresent(reason.into()));
                }
                vec![PoolKey::Custom(id)]
            }
        };
        let plan = |key: PoolKey| PoolPlan::new(key, info);
        let number = is_active().then(order::next_run);
        self.tell_run(number, |run| Told::BeginDefragmentation {
            run,
            pool: info.pool,
            algorithm: info.algorithm,
            max_bytes: info.max_bytes_per_pass,
            max_moves: info.max_moves_per_pass,
            max_regions: info.max_regions_per_pass,
            slides: info.slides,
        });
        Ok(Defragmentation {
            pools: self.pools.clone(),
            info: *info,
            number,
            plans: keys.iter().copied().map(plan).collect(),
            pool_keys: keys,
            pending: Vec::new(),
            statistics: DefragmentationStatistics::default(),
        })
    }

    /// Finds the moves of the next pass and reserves their destinations: `vmaBeginDefragmentationPass`. None
    /// are left if the result is empty. `may_move` is asked about each allocation, without any lock; dedicated
    /// allocations, those mapped by [`map`](Self::map) and those with a move that has not ended are never
    /// proposed. May map memory, for allocations that are persistently mapped.
    pub fn next_pass(
        &self,
        run: &mut Defragmentation,
        may_move: &dyn Fn(AllocationId) -> bool,
    ) -> Vec<Move> {
        if !is_active() {
            return self.find_moves(run, may_move);
        }
        let refused = RefCell::new(Vec::new());
        let moves = self.find_moves(run, &|id| {
            let may = may_move(id);
            if !may {
                refused.borrow_mut().push(id);
            }
            may
        });
        let refused = refused.into_inner();
        self.tell_run(run.number, |number| Told::BeginPass {
            run: number,
            limits: (run.info.max_bytes_per_pass, run.info.max_moves_per_pass),
            moves: moves.len() as u32,
            refused: &refused,
        });
        for it in &moves {
            self.tell_run(run.number, |run| Told::ProposeMove {
                run,
                source: it.source.id,
                destination: &it.destination,
                slides: it.kind == MoveKind::Slide,
            });
        }
        moves
    }

    fn find_moves(
        &self,
        run: &mut Defragmentation,
        may_move: &dyn Fn(AllocationId) -> bool,
    ) -> Vec<Move> {
        let mut pass = Pass::new(&run.info, may_move);
        while !pass.is_full()
            && let Some(plan) = run.plans.last_mut()
        {
            let step =
                self.pools.with_pool(plan.pool_key, |pool| Some(plan.advance(pool, &mut pass)));
            match step {
                Some(Step::Next) => {}
                Some(Step::Wait) if pass.moves.is_empty() => {}
                Some(Step::Wait) => break,
                // A pool that was destroyed meanwhile is done as well.
                Some(Step::Done) | None => drop(run.plans.pop()),
            }
        }
        let moves = pass.moves;
        if run.pending.try_reserve(moves.len()).is_err() {
            moves.iter().for_each(|it| self.give_up(it));
            return Vec::new();
        }
        run.pending.extend(&moves);
        moves
    }

    /// Ends a pass: `vmaEndDefragmentationPass`. The outcomes are those of its moves, in their order; moves
    /// beyond them stay where they are. Sources of copied allocations are freed.
    pub fn end_pass(
        &self,
        run: &mut Defragmentation,
        moves: &[Move],
        outcomes: &[MoveOutcome],
    ) -> PassEnd {
        let mut end = PassEnd::default();
        let mut outcomes = outcomes.iter().copied();
        for it in moves {
            let outcome = outcomes.next().unwrap_or(MoveOutcome::Ignore);
            let (ended, releases) = self.end_move(run, it, outcome);
            self.tell_end(
                run,
                it,
                match (&ended, outcome) {
                    (MoveEnd::Moved(moved), _) => ToldEnd::Moved(moved),
                    (MoveEnd::Kept, MoveOutcome::Ignore) => ToldEnd::Ignored,
                    (MoveEnd::Kept, _) => ToldEnd::Kept,
                    (MoveEnd::Gone, MoveOutcome::Destroy) => ToldEnd::Destroyed,
                    (MoveEnd::Gone, _) => ToldEnd::Gone,
                },
            );
            end.progressed |= !matches!(ended, MoveEnd::Kept) || outcome == MoveOutcome::Destroy;
            end.ends.push(ended);
            end.releases.extend(releases.into_iter().flatten());
        }
        self.tell_run(run.number, |run| Told::EndPass(run, end.progressed));
        end
    }

    fn end_move(
        &self,
        run: &mut Defragmentation,
        it: &Move,
        outcome: MoveOutcome,
    ) -> (MoveEnd, [Option<Release>; 2]) {
        match outcome {
            MoveOutcome::Copy => match self.settle(run, it, true) {
                Ok(moved) => {
                    let source = match it.kind {
                        MoveKind::Apart => self.free_source(run, it),
                        MoveKind::Slide => None,
                    };
                    (MoveEnd::Moved(moved), [source, None])
                }
                Err(_) => {
                    let cancelled = self.cancel_untold(run, it).ok();
                    let is_live = self.info(it.source.id).is_ok();
                    let ended = if is_live { MoveEnd::Kept } else { MoveEnd::Gone };
                    (ended, [cancelled, None])
                }
            },
            MoveOutcome::Ignore => (MoveEnd::Kept, [self.cancel_untold(run, it).ok(), None]),
            MoveOutcome::Destroy => {
                let cancelled = self.cancel_untold(run, it).ok();
                let freed = run.free(self, it.source.id);
                run.note_progress(it, None);
                (MoveEnd::Gone, [cancelled, freed])
            }
        }
    }

    /// Frees what a move has left behind.
    fn free_source(&self, run: &mut Defragmentation, it: &Move) -> Option<Release> {
        let freed = run.free(self, it.source.id);
        self.pools.with_pool(it.source.id.pool_key(), |pool| {
            pool.forget_source(it);
            Some(())
        });
        freed
    }

    /// Ends one move with the allocation at its destination, and returns it as it is from now on: its name
    /// is handed over. The source of a move [apart](MoveKind::Apart) stays live, without a name, until the
    /// caller frees it, at any time. A [slide](MoveKind::Slide) leaves no source.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the allocation was freed meanwhile or the move has ended;
    /// [`Error::InvalidArgument`] if it was mapped meanwhile. The move is then to be
    /// [cancelled](Self::cancel_move).
    pub fn commit_move(&self, run: &mut Defragmentation, it: &Move) -> Result<Allocation, Error> {
        let moved = self.settle(run, it, false)?;
        self.tell_end(
            run,
            it,
            match it.kind {
                MoveKind::Apart => ToldEnd::MovedFrom(&moved),
                MoveKind::Slide => ToldEnd::Moved(&moved),
            },
        );
        Ok(moved)
    }

    fn settle(
        &self,
        run: &mut Defragmentation,
        it: &Move,
        frees_source: bool,
    ) -> Result<Allocation, Error> {
        let it = run.take_pending(it)?;
        let key = it.source.id.pool_key();
        let settled = self.pools.with_pool(key, |pool| pool.settle_move(&it, frees_source));
        let Some(moved) = settled else {
            // To be cancelled.
            run.pending.push(it);
            self.info(it.source.id)?;
            return Err(Error::InvalidArgument("mapped while it was to move".into()));
        };
        if self.names.hand_over(it.source.id, moved.id) {
            let _ = self.update_tag(moved.id, |tag| tag.named = true);
            let _ = self.update_tag(it.source.id, |tag| tag.named = false);
        }
        run.statistics.bytes_moved += moved.size;
        run.statistics.allocations_moved += 1;
        run.note_progress(&it, Some(moved.id));
        Ok(moved)
    }

    /// Ends one move with the allocation where it was, and frees its destination. It is not proposed again
    /// in this run.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the move has ended.
    pub fn cancel_move(&self, run: &mut Defragmentation, it: &Move) -> Result<Release, Error> {
        let release = self.cancel_untold(run, it)?;
        self.tell_end(run, it, ToldEnd::Ignored);
        Ok(release)
    }

    fn cancel_untold(&self, run: &mut Defragmentation, it: &Move) -> Result<Release, Error> {
        let it = run.take_pending(it)?;
        self.pools.with_pool(it.source.id.pool_key(), |pool| {
            pool.forget_move(&it);
            Some(())
        });
        run.note_kept(&it);
        let release = run.free(self, it.destination.id);
        Ok(release.unwrap_or_default())
    }

    /// Tells who records the allocator something of a run that was told when it began.
    fn tell_run<'a>(&self, number: Option<u32>, told: impl FnOnce(u32) -> Told<'a>) {
        if let Some(number) = number.filter(|_| is_active()) {
            self.recorder().tell_now(&told(number));
        }
    }

    fn tell_end(&self, run: &Defragmentation, it: &Move, end: ToldEnd<'_>) {
        let source = it.source.id;
        self.tell_run(run.number, |run| Told::EndMove { run, source, end });
    }

    fn give_up(&self, it: &Move) {
        let mut release = Release::default();
        self.pools.with_pool(it.source.id.pool_key(), |pool| {
            pool.forget_move(it);
            pool.free(it.destination.id, &mut release)
        });
    }

    /// Ends a run, also in the middle: frees the destinations of moves that have not ended, and returns what
    /// was done: `vmaEndDefragmentation`.
    pub fn end_defragmentation(&self, mut run: Defragmentation) -> DefragmentationStatistics {
        for it in std::mem::take(&mut run.pending) {
            run.pending.push(it);
            drop(self.cancel_untold(&mut run, &it));
        }
        let done = run.statistics;
        self.tell_run(run.number, |run| Told::EndDefragmentation {
            run,
            bytes_moved: done.bytes_moved,
            bytes_freed: done.bytes_freed,
            allocations_moved: done.allocations_moved,
            blocks_freed: done.device_memory_blocks_freed,
        });
        done
    }
}
