//! Two runs over one pool: each allocation moves in one of them, and what one has freed is gone for the other.

mod common;
#[path = "defragmentation/movers.rs"]
mod movers;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;

use common::{GIB, KIB, World, one_heap};
use movers::{Movers, in_pool, over, pool};
use vkmem_engine::{
    AllocationId, Allocator, DefragmentationAlgorithm as Way, DefragmentationInfo, MoveEnd,
    MoveOutcome, PoolCreateInfo, PoolId,
};

/// Blocks of which half is free, in pieces.
fn half_empty(count: usize) -> (Movers, PoolId) {
    let world = World::new(one_heap(8 * GIB));
    let rules = PoolCreateInfo { block_size: Some(64 * KIB), ..PoolCreateInfo::default() };
    let id = pool(&world, &rules);
    let mut movers = Movers::new(world);
    for _ in 0..count {
        movers.allocate(&in_pool(2 * KIB, id));
    }
    movers.free_if(|at| at % 2 == 0);
    (movers, id)
}

#[test]
fn what_one_run_moves_the_other_does_not_propose() {
    let (mut movers, id) = half_empty(256);
    let allocator = movers.allocator();
    let mut first = allocator.begin_defragmentation(&over(id, Way::Full)).unwrap();
    let moves = allocator.next_pass(&mut first, &|_| true);
    let taken: HashSet<AllocationId> = moves.iter().map(|it| it.source.id).collect();
    assert!(!taken.is_empty());
    let mut second = allocator.begin_defragmentation(&over(id, Way::Full)).unwrap();
    let others = allocator.next_pass(&mut second, &|_| true);
    assert!(others.iter().all(|it| !taken.contains(&it.source.id)));
    for (run, moves) in [(&mut first, &moves), (&mut second, &others)] {
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        movers.copy(moves, &outcomes);
        let end = movers.world.allocator.end_pass(run, moves, &outcomes);
        for (it, &ended) in moves.iter().zip(&end.ends) {
            assert!(matches!(ended, MoveEnd::Moved(_)));
            movers.note(it, ended);
        }
    }
    movers.allocator().end_defragmentation(first);
    movers.allocator().end_defragmentation(second);
    movers.check();
    movers.end();
}

#[test]
fn what_one_run_destroys_is_gone_for_the_other() {
    let (mut movers, id) = half_empty(256);
    let allocator = &movers.world.allocator;
    let mut first = allocator.begin_defragmentation(&over(id, Way::Full)).unwrap();
    let moves = allocator.next_pass(&mut first, &|_| true);
    let mut second = allocator.begin_defragmentation(&over(id, Way::Full)).unwrap();
    // The two steps of a move that destroys. In between the other run may propose what is about to end.
    for it in &moves {
        drop(allocator.cancel_move(&mut first, it).unwrap());
    }
    let others = allocator.next_pass(&mut second, &|_| true);
    let gone: Vec<AllocationId> = moves.iter().map(|it| it.source.id).collect();
    assert!(others.iter().any(|it| gone.contains(&it.source.id)));
    for &it in &gone {
        movers.live.remove(&it);
        drop(allocator.free(it).unwrap());
    }
    let outcomes = vec![MoveOutcome::Copy; others.len()];
    movers.copy(&others, &outcomes);
    let end = movers.world.allocator.end_pass(&mut second, &others, &outcomes);
    for (it, &ended) in others.iter().zip(&end.ends) {
        assert_eq!(ended == MoveEnd::Gone, gone.contains(&it.source.id), "{it:?}");
        movers.note(it, ended);
    }
    drop(end);
    movers.allocator().end_defragmentation(first);
    movers.allocator().end_defragmentation(second);
    movers.check();
    movers.end();
}

/// Moves everything, and notes the source of each move; none may move twice.
fn move_all(
    allocator: &Allocator,
    info: &DefragmentationInfo,
    moved: &Mutex<HashSet<AllocationId>>,
) {
    let mut run = allocator.begin_defragmentation(info).unwrap();
    loop {
        let moves = allocator.next_pass(&mut run, &|_| true);
        if moves.is_empty() {
            break;
        }
        let end = allocator.end_pass(&mut run, &moves, &vec![MoveOutcome::Copy; moves.len()]);
        let mut moved = moved.lock().unwrap();
        for (it, ended) in moves.iter().zip(&end.ends) {
            let is_first = !matches!(ended, MoveEnd::Moved(_)) || moved.insert(it.source.id);
            assert!(is_first, "{it:?} moved twice");
        }
    }
    allocator.end_defragmentation(run);
}

#[test]
fn two_threads_move_each_allocation_once() {
    for round in 0..if cfg!(debug_assertions) { 20 } else { 400 } {
        let (movers, id) = half_empty(512);
        let live = movers.live.len() as u64;
        let World { allocator, .. } = &movers.world;
        let moved = Arc::new(Mutex::new(HashSet::new()));
        let info = DefragmentationInfo {
            max_moves_per_pass: 1 + round % 7,
            ..over(id, if round % 2 == 0 { Way::Full } else { Way::Fast })
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| move_all(allocator, &info, &moved));
            }
        });
        allocator.validate().unwrap();
        let left = allocator.statistics_of_pool(id).unwrap();
        assert_eq!((left.allocation_count, left.allocation_bytes), (live, live * 2 * KIB));
    }
}
