//! Defragmentation: the programs of VMA's own tests, sources that are freed late, and driver calls that fail.

mod common;
#[path = "defragmentation/movers.rs"]
mod movers;

use std::collections::HashSet;

use common::{GIB, KIB, MIB, Random, World, buffer, mapped, one_heap};
use movers::{Movers, copy, in_pool, over, percent, pool};
use vkmem_engine::{
    AllocationId, AllocationRequest, Call, DefragmentationAlgorithm as Way, DefragmentationInfo,
    DefragmentationStatistics, DeviceError, Move, MoveOutcome, PoolCreateInfo, PoolId,
    ResourceKind, profile_info,
};

const K64: u64 = 64 * KIB;

fn pool_with(block_size: u64) -> (Movers, PoolId) {
    let world = World::new(one_heap(8 * GIB));
    let rules = PoolCreateInfo { block_size: Some(block_size), ..PoolCreateInfo::default() };
    let id = pool(&world, &rules);
    (Movers::new(world), id)
}

fn all_above_zero(done: &DefragmentationStatistics) -> bool {
    done.bytes_moved > 0
        && done.bytes_freed > 0
        && done.allocations_moved > 0
        && done.device_memory_blocks_freed > 0
}

/// `TestDefragmentationAlgorithms`
#[test]
fn all_algorithms_keep_buffers_and_linear_images_of_one_pool() {
    for (way, ignored) in Way::ALL.into_iter().flat_map(|way| [(way, 0), (way, 20)]) {
        let mut random = Random(way as u64 + ignored);
        let (mut movers, id) = pool_with(200 * K64 + 200 * 256);
        for at in 0..500 {
            let size = if at < 400 { KIB * (2 + random.below(255)) } else { 0 };
            let mut request = in_pool(size, id);
            if at >= 400 {
                let side = |random: &mut Random| 512 + random.below(513);
                request.requirements.size = side(&mut random) * side(&mut random);
                request.kind = ResourceKind::ImageLinear;
            }
            movers.allocate(&request);
        }
        movers.free_if(|_| percent(&mut random, 55));
        let before = movers.allocator().statistics_of_pool(id).unwrap();
        let mut stayed = HashSet::new();
        let done = movers.run_with(&over(id, way), &mut |it: &Move| {
            assert_eq!(it.source.id.pool_key(), it.destination.id.pool_key());
            if percent(&mut random, ignored) {
                stayed.insert(it.source.id);
                return MoveOutcome::Ignore;
            }
            MoveOutcome::Copy
        });
        movers.check();
        assert!(done.allocations_moved > 0, "{way:?}");
        assert!(stayed.iter().all(|id| movers.live.contains_key(id)));
        let after = movers.allocator().statistics_of_pool(id).unwrap();
        assert_eq!(after.allocation_bytes, before.allocation_bytes);
        assert!(after.unused_range_count <= before.unused_range_count, "{way:?}: {after:?}");
        movers.end();
    }
}

/// `TestDefragmentationFull`
#[test]
fn default_pools_of_every_profile_are_defragmented_to_the_end() {
    for &name in vkmem_engine::SimulatedDevice::profile_names() {
        let mut random = Random(4);
        let mut movers = Movers::new(World::new(profile_info(name).unwrap()));
        for _ in 0..400 {
            let size = match random.below(16) {
                0 => MIB + random.below(9 * MIB),
                _ => KIB + random.below(MIB - KIB),
            };
            if movers.try_allocate(&mapped(size)).is_err() {
                break;
            }
        }
        movers.free_if(|_| percent(&mut random, 80));
        let info = DefragmentationInfo { algorithm: Way::Full, ..DefragmentationInfo::default() };
        let done = movers.run(&info);
        assert!(done.allocations_moved > 0, "{name}: {done:?}");
        movers.end();
    }
}

/// Images of four bytes a texel, and buffers, of which 70 % are freed at random.
fn images_and_buffers(random: &mut Random) -> Movers {
    let mut movers = Movers::new(World::new(profile_info("nvidia-h200").unwrap()));
    for _ in 0..1536 {
        let mut side = || [256, 512, 1024][random.below(3) as usize];
        let mut request = buffer(4 * side() * side());
        request.requirements.alignment = 1024;
        request.kind = ResourceKind::ImageOptimal;
        movers.allocate(&request);
    }
    for _ in 0..76 {
        movers.allocate(&large(random));
    }
    movers.free_if(|_| percent(random, 70));
    movers
}

fn large(random: &mut Random) -> AllocationRequest {
    buffer(5 * MIB + 16 * random.below(5 * MIB / 16))
}

/// `TestDefragmentationIncrementalBasic`
#[test]
fn images_and_buffers_move_pass_by_pass_and_what_is_not_ours_stays() {
    let mut random = Random(6);
    let mut movers = images_and_buffers(&mut random);
    let other = movers.allocate(&buffer(3 * MIB));
    let info = DefragmentationInfo { max_moves_per_pass: 16, ..DefragmentationInfo::default() };
    let mut proposed = false;
    let done = movers.run_with(&info, &mut |it: &Move| {
        proposed |= it.source.id == other;
        if it.source.id == other { MoveOutcome::Ignore } else { MoveOutcome::Copy }
    });
    movers.check();
    assert!(all_above_zero(&done), "{done:?}");
    assert!(movers.live.contains_key(&other), "it is where it was, proposed or not: {proposed}");
    assert!(movers.passes >= done.allocations_moved / 16);
    movers.end();
}

/// `TestDefragmentationIncrementalComplex`
#[test]
fn what_is_allocated_between_and_within_passes_may_move_later() {
    let mut random = Random(7);
    let mut movers = images_and_buffers(&mut random);
    let info = DefragmentationInfo {
        algorithm: Way::Full,
        max_moves_per_pass: 64,
        ..DefragmentationInfo::default()
    };
    let mut run = movers.allocator().begin_defragmentation(&info).unwrap();
    let (mut left, mut added) = (100, HashSet::new());
    let mut more = |movers: &mut Movers, random: &mut Random| {
        for _ in 0..random.below(6).min(left) {
            added.insert(movers.allocate(&large(random)));
            left -= 1;
        }
    };
    more(&mut movers, &mut random);
    loop {
        let moves = movers.world.allocator.next_pass(&mut run, &|_| true);
        if moves.is_empty() {
            break;
        }
        movers.check_moves(&moves);
        more(&mut movers, &mut random);
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        movers.copy(&moves, &outcomes);
        more(&mut movers, &mut random);
        let end = movers.world.allocator.end_pass(&mut run, &moves, &outcomes);
        moves.iter().zip(&end.ends).for_each(|(it, &ended)| movers.note(it, ended));
        drop(end.releases);
        more(&mut movers, &mut random);
        movers.check();
    }
    let done = movers.allocator().end_defragmentation(run);
    assert!(all_above_zero(&done), "{done:?}");
    movers.end();
}

/// `TestDefragmentationWholePool`: VMA 2 could also be given a list of allocations; here the caller's veto
/// does that.
#[test]
fn a_pool_and_all_of_its_allocations_are_the_same_run() {
    let half_full = || {
        let (mut movers, id) = pool_with(8 * K64);
        for _ in 0..16 {
            movers.allocate(&in_pool(K64, id));
        }
        movers.free_if(|at| at % 2 == 1);
        (movers, id)
    };
    let mut done = Vec::new();
    for names_all in [false, true] {
        let (mut movers, id) = half_full();
        let mut named: HashSet<AllocationId> = movers.ids().into_iter().collect();
        let mut run = movers.allocator().begin_defragmentation(&over(id, Way::Fast)).unwrap();
        loop {
            let may_move = |id| !names_all || named.contains(&id);
            if !movers.pass(&mut run, &may_move, &mut copy) {
                break;
            }
            named.extend(movers.ids());
        }
        movers.check();
        done.push(movers.allocator().end_defragmentation(run));
        movers.end();
    }
    assert!(done[0].allocations_moved > 0 && done[0].bytes_moved > 0);
    assert_eq!(done[0], done[1]);
}

/// The lists of VMA 2: only what is in them moves.
#[test]
fn only_the_allocations_that_are_named_move() {
    let (mut movers, id) = pool_with(8 * K64);
    for _ in 0..24 {
        movers.allocate(&in_pool(K64, id));
    }
    movers.free_if(|at| at % 2 == 1);
    let ids = movers.ids();
    // Those of the second block.
    let named: HashSet<AllocationId> = ids[4..8].iter().copied().collect();
    let mut run = movers.allocator().begin_defragmentation(&over(id, Way::Full)).unwrap();
    let mut moved = 0;
    while movers.pass(&mut run, &|id| named.contains(&id), &mut |it: &Move| {
        assert!(named.contains(&it.source.id));
        moved += 1;
        MoveOutcome::Copy
    }) {}
    movers.check();
    assert!(moved > 0);
    assert_eq!(ids.iter().filter(|id| !movers.live.contains_key(id)).count(), moved);
    drop(run);
    movers.end();
}

/// The sources of moves that have ended wait for the frame that still reads them, as in the library's own moves.
#[test]
fn sources_that_are_freed_late_neither_count_nor_keep_their_block() {
    let mut random = Random(8);
    let (mut movers, id) = pool_with(MIB);
    while movers.allocator().statistics_of_pool(id).unwrap().block_count < 16 {
        movers.allocate(&in_pool(16 * (1 + random.below(2048)), id));
    }
    movers.free_if(|_| random.one_in(2));
    let bytes: u64 = movers.live.values().map(|it| it.allocation.size).sum();
    let info = DefragmentationInfo { max_moves_per_pass: 8, ..over(id, Way::Full) };
    let mut run = movers.allocator().begin_defragmentation(&info).unwrap();
    let (mut waiting, mut moved, mut twice) = (Vec::new(), 0, HashSet::new());
    loop {
        let moves = movers.world.allocator.next_pass(&mut run, &|_| true);
        if moves.is_empty() {
            break;
        }
        movers.check_moves(&moves);
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        movers.copy(&moves, &outcomes);
        for it in &moves {
            assert!(twice.insert(it.source.id), "a source that has moved is not proposed again");
            let ended = movers.world.allocator.commit_move(&mut run, it).unwrap();
            movers.note(it, vkmem_engine::MoveEnd::Moved(ended));
            waiting.push(it.source.id);
            moved += it.source.size;
        }
        // Three passes later.
        while waiting.len() > 24 {
            drop(movers.world.allocator.free(waiting.remove(0)).unwrap());
        }
    }
    for id in waiting {
        drop(movers.world.allocator.free(id).unwrap());
    }
    movers.check();
    assert_eq!(movers.allocator().end_defragmentation(run).bytes_moved, moved);
    movers.allocator().trim();
    let left = movers.allocator().statistics_of_pool(id).unwrap().block_count;
    assert!(left <= bytes.div_ceil(MIB) + 1, "{left} blocks for {bytes} B");
    movers.end();
}

/// Runs over mapped allocations in default pools, with one call failing, and once more without.
#[test]
fn each_driver_call_of_a_run_may_fail_and_nothing_is_lost() {
    let errors = [DeviceError::OutOfHostMemory, DeviceError::MemoryMapFailed];
    let mut seen = HashSet::new();
    for error in errors {
        for n in 0.. {
            let mut movers = Movers::new(World::with(one_heap(64 * MIB), &common::blocks_of(K64)));
            for at in 0..64 {
                movers.allocate(&if at < 32 { buffer(8 * KIB) } else { mapped(8 * KIB) });
            }
            // Mapped allocations move into blocks that are not mapped yet.
            movers.free_if(|at| if at < 32 { at % 4 == 0 } else { at % 4 != 0 });
            movers.world.device.record_log(true);
            movers.world.device.fail_call(n, error);
            let info =
                DefragmentationInfo { algorithm: Way::Full, ..DefragmentationInfo::default() };
            movers.run(&info);
            let log = movers.world.device.log();
            let failed = log.iter().find(|it| it.result == Err(error)).map(|it| it.call);
            movers.world.device.clear_failures();
            movers.run(&info);
            let blocks = movers.allocator().statistics().block_count;
            assert!(blocks <= 5, "{blocks} blocks for 32 allocations of 8 KiB");
            movers.end();
            let Some(call) = failed else { break };
            seen.insert(call);
        }
    }
    // Planning allocates nothing, and freeing cannot fail.
    assert_eq!(seen, HashSet::from([Call::Map]));
}

#[test]
fn few_sizes_of_which_most_bytes_are_in_the_largest_pack_well() {
    for seed in 1..=3 {
        let mut random = Random(seed);
        let (mut movers, id) = pool_with(8 * MIB);
        while movers.allocator().statistics_of_pool(id).unwrap().block_count < 64 {
            let size = [4 * KIB, K64, 192 * KIB, MIB][random.below(4) as usize];
            movers.allocate(&in_pool(size, id));
        }
        movers.free_if(|_| random.one_in(2));
        let bytes: u64 = movers.live.values().map(|it| it.allocation.size).sum();
        let done = movers.run(&over(id, Way::Full));
        movers.allocator().trim();
        let left = movers.allocator().statistics_of_pool(id).unwrap().block_count;
        eprintln!(
            "{bytes} B ({}) live, {left} blocks, {done:?}",
            bytes as f64 / (8.0 * MIB as f64)
        );
        assert!(left <= bytes.div_ceil(8 * MIB) + 1, "{left} blocks for {bytes} B");
        movers.end();
    }
}
