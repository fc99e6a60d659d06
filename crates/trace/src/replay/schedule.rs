//! The order in which events are played: one after the other, or as many threads as recorded.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::samples::Samples;
use super::tally::Tally;
use super::worker::{Worker, members};
use super::world::World;
use crate::event::{Call, Kind};
use crate::numbering::{Numbering, makes_allocation};

/// The most threads of a replay: a file cannot ask for more.
const THREADS: usize = 64;
/// Rounds in which a thread looks again at once, before it gives way to others.
const SPINS: u32 = 64;
const NONE: u32 = u32::MAX;

/// Returns whether the clock lets an event be played.
fn is_due(world: &World, index: usize) -> bool {
    let Some(clock) = &world.settings.clock else { return true };
    matches!(clock.before(index, world.trace.columns().times()[index]), ControlFlow::Continue(()))
}

/// Plays all events before `end` one after the other; returns the event at which it stopped.
pub(super) fn play_in_order(
    world: &World,
    worker: &mut Worker<'_>,
    samples: &mut Samples,
    end: usize,
) -> usize {
    let mut index = 0;
    while index < end {
        if !is_due(world, index) {
            return index;
        }
        samples.before(worker, index);
        index += worker.play(index);
    }
    index
}

/// The events of the recorded threads, and which of them wait for which.
struct Plan {
    /// Events of each thread that only wait for earlier ones for the same object.
    threads: Vec<Vec<u32>>,
    /// Events that wait for all earlier ones, and for which all later ones wait; the number of those of
    /// `threads` before each.
    alone: Vec<(u32, usize)>,
    /// For each event the last one of another thread for the same object.
    waits: Vec<u32>,
}

fn is_alone(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Allocate
            | Kind::AllocateFailed
            | Kind::Free
            | Kind::Map
            | Kind::Unmap
            | Kind::Flush
            | Kind::Invalidate
            | Kind::Query
            | Kind::RequestFree
            | Kind::AllocateMemory
            | Kind::FreeMemory
            | Kind::Failed
            | Kind::Mark
    )
}

impl Plan {
    fn new(world: &World, end: usize) -> Self {
        let columns = world.trace.columns();
        let places = Numbering::of_objects(&world.trace, makes_allocation);
        let mut last = vec![(NONE, 0_usize); places.len()];
        let mut numbers: HashMap<u32, usize> = HashMap::new();
        let mut plan = Self { threads: Vec::new(), alone: Vec::new(), waits: vec![NONE; end] };
        let (mut index, mut count) = (0, 0);
        while index < end {
            let kind = columns.kind(index);
            if is_alone(kind) {
                plan.alone.push((index as u32, count));
                index += 1;
                if kind == Kind::Group
                    && let Call::Group { kind, count } = world.trace.event(index - 1).call
                {
                    // They are played with it.
                    index += members(&world.trace, index - 1, kind, count);
                }
                continue;
            }
            let next = numbers.len() % THREADS;
            let thread = *numbers.entry(columns.threads()[index]).or_insert(next);
            if thread >= plan.threads.len() {
                plan.threads.push(Vec::new());
            }
            plan.threads[thread].push(index as u32);
            count += 1;
            if let Some(place) = places.place(columns.objects()[index]) {
                let (before, of) = last[place];
                if of != thread {
                    plan.waits[index] = before;
                } else if before != NONE {
                    // That one waited for those before it.
                    plan.waits[index] = NONE;
                }
                last[place] = (index as u32, thread);
            }
            index += 1;
        }
        plan
    }
}

/// Waits until something is so, or the replay ends; returns whether it is so.
fn wait(stop: &AtomicBool, is_so: impl Fn() -> bool) -> bool {
    let mut rounds = 0;
    while !is_so() {
        if stop.load(Relaxed) {
            return false;
        }
        rounds += 1;
        if rounds < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    true
}

/// Ends the replay when its thread ends, however that happens.
struct StopsAll<'a>(&'a AtomicBool, bool);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Relaxed);
        }
    }
}

/// Plays all events before `end` on as many threads as recorded; returns the event at which it stopped.
pub(super) fn play_on_threads(
    world: &World,
    worker: &mut Worker<'_>,
    samples: &mut Samples,
    end: usize,
) -> usize {
    let plan = Plan::new(world, end);
    let done: Vec<AtomicBool> = (0..end).map(|_| AtomicBool::new(false)).collect();
    let (completed, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    // Events of threads are played up to here.
    let limit = AtomicUsize::new(plan.alone.first().map_or(end, |it| it.0 as usize));
    let play_list = |list: &[u32]| -> Tally {
        let mut worker = Worker::new(world, None);
        let mut guard = StopsAll(&stop, false);
        for &index in list {
            let (index, before) = (index as usize, plan.waits[index as usize]);
            if !wait(&stop, || index < limit.load(Acquire)) {
                break;
            }
            if before != NONE && !wait(&stop, || done[before as usize].load(Acquire)) {
                break;
            }
            if !is_due(world, index) {
                stop.store(true, Relaxed);
                break;
            }
            worker.play(index);
            done[index].store(true, Release);
            completed.fetch_add(1, Release);
        }
        guard.1 = true;
        worker.tally
    };
    std::thread::scope(|scope| {
        let play_list = &play_list;
        let threads: Vec<_> =
            plan.threads.iter().map(|list| scope.spawn(move || play_list(list))).collect();
        let mut guard = StopsAll(&stop, false);
        for (at, &(index, before)) in plan.alone.iter().enumerate() {
            let index = index as usize;
            if !wait(&stop, || completed.load(Acquire) == before) {
                break;
            }
            if !is_due(world, index) {
                stop.store(true, Relaxed);
                break;
            }
            samples.before(worker, index);
            worker.play(index);
            let following = plan.alone.get(at + 1).map_or(end, |it| it.0 as usize);
            limit.store(following, Release);
        }
        guard.1 = true;
        for thread in threads {
            if let Ok(tally) = thread.join() {
                worker.tally.merge(tally);
            }
        }
    });
    if stop.load(Relaxed) { completed.load(Relaxed) } else { end }
}
