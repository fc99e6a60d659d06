//! Defragmentation: what VMA's tests check, packing, dead ends, and that it ends.

mod common;
#[path = "defragmentation/movers.rs"]
mod movers;

use common::{GIB, KIB, MIB, Random, World, one_heap};
use movers::{Movers, copy, in_pool, over, percent, pool};
use vkmem_engine::{
    Algorithm, DefragmentationAlgorithm as Way, DefragmentationInfo, DefragmentationStatistics,
    Error, MoveOutcome, PoolCreateInfo, PoolId,
};

const K64: u64 = 64 * KIB;

fn pool_of_blocks(size: u64) -> (Movers, PoolId) {
    let world = World::new(one_heap(8 * GIB));
    let rules = PoolCreateInfo { block_size: Some(size), ..PoolCreateInfo::default() };
    let id = pool(&world, &rules);
    (Movers::new(world), id)
}

/// Two full blocks of eight buffers each, of which every second is freed.
fn every_second_of_two_blocks() -> (Movers, PoolId) {
    let (mut movers, id) = pool_of_blocks(8 * K64);
    for _ in 0..16 {
        movers.allocate(&in_pool(K64, id));
    }
    movers.free_if(|at| at % 2 == 0);
    (movers, id)
}

#[test]
fn an_empty_pool_has_nothing_to_move() {
    for way in Way::ALL {
        let (mut movers, id) = pool_of_blocks(8 * K64);
        assert_eq!(movers.run(&over(id, way)), DefragmentationStatistics::default());
        assert_eq!(movers.passes, 0);
        movers.end();
    }
}

#[test]
fn every_second_buffer_of_two_blocks_leaves_one_block() {
    for way in Way::ALL {
        let (mut movers, id) = every_second_of_two_blocks();
        let done = movers.run(&over(id, way));
        assert_eq!((done.allocations_moved, done.bytes_moved), (4, 4 * K64), "{way:?}");
        movers.end();
    }
}

#[test]
fn limits_of_a_pass_are_kept() {
    let (mut movers, id) = every_second_of_two_blocks();
    let info = DefragmentationInfo {
        max_bytes_per_pass: K64,
        max_moves_per_pass: 1,
        ..over(id, Way::Fast)
    };
    let mut run = movers.allocator().begin_defragmentation(&info).unwrap();
    for _ in 0..4 {
        let before = movers.passes;
        assert!(movers.pass(&mut run, &|_| true, &mut copy));
        assert_eq!(movers.passes, before + 1);
        movers.check();
    }
    let done = movers.allocator().end_defragmentation(run);
    assert_eq!((done.allocations_moved, done.bytes_moved), (4, 4 * K64));
    movers.end();
}

#[test]
fn four_blocks_with_every_second_buffer_free_need_24_moves() {
    let (mut movers, id) = pool_of_blocks(25 * MIB);
    for _ in 0..100 {
        movers.allocate(&in_pool(MIB, id));
    }
    movers.free_if(|at| at % 2 == 1);
    let done = movers.run(&over(id, Way::Full));
    assert_eq!(done.allocations_moved, 24);
    assert_eq!(movers.allocator().statistics_of_pool(id).unwrap().block_count, 3);
    movers.allocator().trim();
    assert_eq!(movers.allocator().statistics_of_pool(id).unwrap().block_count, 2);
    movers.end();
}

#[test]
fn a_linear_pool_is_refused() {
    let world = World::new(one_heap(GIB));
    let rules = PoolCreateInfo { algorithm: Algorithm::Linear, ..PoolCreateInfo::default() };
    let id = pool(&world, &rules);
    let refused = world.allocator.begin_defragmentation(&over(id, Way::Full));
    assert!(matches!(refused.err(), Some(Error::FeatureNotPresent(_))));
    world.allocator.destroy_pool(id).unwrap();
    let refused = world.allocator.begin_defragmentation(&over(id, Way::Full));
    assert!(matches!(refused.err(), Some(Error::UseAfterFree)));
}

#[test]
fn random_buffers_and_some_that_are_ignored() {
    for (seed, way) in (0..12).zip(Way::ALL.into_iter().cycle()) {
        let mut random = Random(seed);
        let (mut movers, id) = pool_of_blocks(8 * K64);
        for _ in 0..100 {
            let size = 64 * (1 + random.below(4096));
            movers.allocate(&in_pool(size.min(256 * KIB), id));
        }
        movers.free_if(|_| percent(&mut random, 60));
        let mut kept = Vec::new();
        movers.run_with(&over(id, way), &mut |it| {
            if percent(&mut random, 20) {
                kept.push(it.source);
                return MoveOutcome::Ignore;
            }
            MoveOutcome::Copy
        });
        movers.check();
        for it in kept {
            assert_eq!(movers.allocator().info(it.id), Ok(it));
        }
        movers.end();
    }
}

#[test]
fn of_64_blocks_half_freed_at_random_one_more_than_needed_is_left() {
    for (seed, slides) in [(1, false), (2, true), (3, false)] {
        let mut random = Random(seed);
        let (mut movers, id) = pool_of_blocks(MIB);
        while movers.allocator().statistics_of_pool(id).unwrap().block_count < 64 {
            let size = 16 * (1 + random.below(if seed == 3 { 16384 } else { 4096 }));
            movers.allocate(&in_pool(size, id));
        }
        movers.free_if(|_| random.one_in(2));
        let live: u64 = movers.live.values().map(|it| it.allocation.size).sum();
        let done = movers.run(&DefragmentationInfo { slides, ..over(id, Way::Full) });
        movers.allocator().trim();
        let left = movers.allocator().statistics_of_pool(id).unwrap().block_count;
        eprintln!("{live} B live, {left} blocks, {done:?}, {} passes", movers.passes);
        assert!(left <= live.div_ceil(MIB) + 1, "{left} blocks for {live} B");
        movers.end();
    }
}
