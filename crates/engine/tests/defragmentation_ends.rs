//! Dead ends of other defragmenters, each as a test, and what slides, maps and names need.

mod common;
#[path = "defragmentation/movers.rs"]
mod movers;

use common::{GIB, KIB, MIB, Random, World, mapped, one_heap};
use movers::{Movers, copy, in_pool, over, percent, pool};
use vkmem_engine::{
    Algorithm, AllocationCreateFlags as Create, AllocationId, DefragmentationAlgorithm as Way,
    DefragmentationInfo, DefragmentationStatistics, DeviceInfo, Error, MoveKind, MoveOutcome,
    PoolCreateInfo, PoolId, ResourceKind,
};

fn pool_with(rules: PoolCreateInfo) -> (Movers, PoolId) {
    let world = World::new(one_heap(8 * GIB));
    let id = pool(&world, &rules);
    (Movers::new(world), id)
}

fn pool_of_blocks(size: u64) -> (Movers, PoolId) {
    pool_with(PoolCreateInfo { block_size: Some(size), ..PoolCreateInfo::default() })
}

fn block_count(movers: &Movers, id: PoolId) -> u64 {
    movers.allocator().trim();
    movers.allocator().statistics_of_pool(id).unwrap().block_count
}

/// Fills a pool with allocations of these sizes in turn, and frees those of size `gone`.
fn filled(
    movers: &mut Movers,
    id: PoolId,
    sizes: &[u64],
    gone: impl Fn(usize) -> bool,
) -> Vec<AllocationId> {
    let ids: Vec<_> = sizes.iter().map(|&size| movers.allocate(&in_pool(size, id))).collect();
    movers.free_if(&gone);
    let kept = ids.into_iter().enumerate().filter(|it| !gone(it.0));
    kept.map(|it| it.1).collect()
}

#[test]
fn a_lone_allocation_above_a_smaller_gap_slides_to_the_start() {
    for size in [65 * MIB, 200 * MIB] {
        for (slides, offset) in [(false, MIB), (true, 0)] {
            let (mut movers, id) = pool_of_blocks(size);
            filled(&mut movers, id, &[MIB, 64 * MIB], |at| at == 0);
            let done = movers.run(&DefragmentationInfo { slides, ..over(id, Way::Full) });
            let (it, _) = (movers.live.values().next().unwrap().allocation, done);
            if size == 65 * MIB {
                assert_eq!(it.offset, offset);
            }
            assert!(!slides || it.offset == 0, "{it:?}");
            movers.end();
        }
    }
}

#[test]
fn a_slide_counts_and_keeps_name_and_mapping() {
    let (mut movers, id) = pool_of_blocks(8 * 64 * KIB);
    let gap = movers.allocate(&in_pool(64 * KIB, id));
    let mut request = in_pool(64 * KIB + 256, id);
    request.create_info.flags = Create::MAPPED | Create::HOST_ACCESS_SEQUENTIAL_WRITE;
    let moved = movers.allocate(&request);
    movers.allocator().set_name(moved, Some("slides")).unwrap();
    movers.free(gap);
    let info = DefragmentationInfo { slides: true, ..over(id, Way::Balanced) };
    let mut run = movers.allocator().begin_defragmentation(&info).unwrap();
    let moves = movers.allocator().next_pass(&mut run, &|_| true);
    assert_eq!(moves.len(), 1);
    assert_eq!((moves[0].kind, moves[0].destination.offset), (MoveKind::Slide, 0));
    // The gap is held meanwhile, as an allocation.
    let held = movers.allocator().statistics_of_pool(id).unwrap();
    assert_eq!((held.allocation_count, held.allocation_bytes), (2, 128 * KIB + 256));
    movers.copy(&moves, &[MoveOutcome::Copy]);
    let end = movers.world.allocator.end_pass(&mut run, &moves, &[MoveOutcome::Copy]);
    assert!(end.progressed);
    movers.note(&moves[0], end.ends[0]);
    movers.check();
    assert!(!movers.pass(&mut run, &|_| true, &mut copy));
    let done = movers.allocator().end_defragmentation(run);
    assert_eq!((done.allocations_moved, done.bytes_moved), (1, 64 * KIB + 256));
    let it = movers.live.values().next().unwrap().allocation;
    assert_eq!(it.offset, 0);
    assert!(it.mapped.is_some());
    assert_eq!(movers.allocator().name(it.id).unwrap().as_deref(), Some("slides"));
    assert_eq!(movers.allocator().info(moved), Err(Error::UseAfterFree));
    movers.end();
}

#[test]
fn slides_go_past_each_other_once_each() {
    let (mut movers, id) = pool_of_blocks(MIB);
    // Gaps of 4 KiB below allocations of 20 KiB.
    let sizes: Vec<u64> = (0..80).map(|at| if at % 2 == 0 { 4 * KIB } else { 20 * KIB }).collect();
    filled(&mut movers, id, &sizes, |at| at % 2 == 0);
    let done = movers.run(&DefragmentationInfo { slides: true, ..over(id, Way::Full) });
    assert_eq!(done.allocations_moved, 40);
    let ends: Vec<u64> = movers.live.values().map(|it| it.allocation.offset).collect();
    assert_eq!(ends.iter().max(), Some(&(39 * 20 * KIB)));
    assert_eq!(movers.allocator().statistics_of_pool(id).unwrap().unused_range_count, 1);
    movers.end();
}

#[test]
fn the_first_block_is_tidied_too() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    // Two blocks of small gaps, too full to be emptied.
    let sizes: Vec<u64> = (0..64).map(|_| 2 * KIB).collect();
    filled(&mut movers, id, &sizes, |at| at % 5 == 1);
    assert_eq!(block_count(&movers, id), 2);
    movers.run(&over(id, Way::Full));
    let after = movers.allocator().statistics_of_pool(id).unwrap();
    // One free range is left of the many in each block.
    assert_eq!((after.block_count, after.unused_range_count), (2, 2), "{after:?}");
    movers.end();
}

#[test]
fn an_allocation_above_the_limit_moves_alone() {
    for way in Way::ALL {
        let (mut movers, id) = pool_of_blocks(MIB);
        // Twenty that are larger than a pass may move, at the end of the last blocks.
        let sizes: Vec<u64> = (0..48).map(|_| 250 * KIB).collect();
        filled(&mut movers, id, &sizes, |at| at % 2 == 0);
        let info = DefragmentationInfo { max_bytes_per_pass: 100 * KIB, ..over(id, way) };
        let done = movers.run(&info);
        assert_eq!(done.allocations_moved, movers.passes);
        assert_eq!(block_count(&movers, id), 6, "{way:?}");
        movers.end();
    }
}

#[test]
fn the_destination_is_the_best_fitting_one() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    // Block 0: gaps of 16, 4 and 8 KiB; block 1: one of 4 KiB.
    let sizes = [16, 8, 4, 8, 8, 20, 4].map(|kib| kib * KIB);
    let kept = filled(&mut movers, id, &sizes, |at| [0, 2, 4].contains(&at));
    let small = *kept.last().unwrap();
    let there = movers.live[&small].allocation;
    movers.run(&over(id, Way::Fast));
    let contents = 7;
    let it = movers.live.values().find(|it| it.contents == contents).unwrap().allocation;
    assert_eq!((there.offset, it.offset), (0, 24 * KIB));
    movers.end();
}

#[test]
fn room_that_a_pass_frees_is_used_in_the_next() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    // 28 of 32 KiB in the second block fit only once small ones above have left the first's middle.
    let sizes = [16, 4, 16, 4, 20, 4, 28].map(|kib| kib * KIB);
    filled(&mut movers, id, &sizes, |at| at == 0 || at == 4);
    let info = DefragmentationInfo { max_moves_per_pass: 1, ..over(id, Way::Full) };
    movers.run(&info);
    assert_eq!(block_count(&movers, id), 1);
    assert!(movers.passes > 1);
    movers.end();
}

#[test]
fn empty_blocks_are_no_trouble() {
    for way in Way::ALL {
        let rules = PoolCreateInfo {
            block_size: Some(64 * KIB),
            min_block_count: 3,
            ..PoolCreateInfo::default()
        };
        let (mut movers, id) = pool_with(rules);
        assert_eq!(movers.run(&over(id, way)), DefragmentationStatistics::default());
        filled(&mut movers, id, &[KIB, KIB, KIB], |at| at == 0);
        movers.run(&over(id, way));
        // Those of `min_block_count` stay.
        assert_eq!(block_count(&movers, id), 3);
        movers.free_if(|_| true);
        movers.allocator().destroy_pool(id).unwrap();
        movers.end();
    }
}

#[test]
fn what_is_ignored_in_one_block_stops_no_other() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    let sizes: Vec<u64> = (0..256).map(|_| 2 * KIB).collect();
    filled(&mut movers, id, &sizes, |at| at % 4 != 0);
    assert_eq!(movers.allocator().statistics_of_pool(id).unwrap().block_count, 8);
    let mut first = None;
    let done = movers.run_with(&over(id, Way::Fast), &mut |it| {
        let memory = *first.get_or_insert(it.source.memory);
        if it.source.memory == memory { MoveOutcome::Ignore } else { MoveOutcome::Copy }
    });
    movers.check();
    assert!(done.allocations_moved > 0);
    assert!(block_count(&movers, id) <= 3);
    movers.end();
}

#[test]
fn ignoring_everything_ends_and_changes_nothing() {
    for way in Way::ALL {
        for slides in [false, true] {
            let (mut movers, id) = pool_of_blocks(64 * KIB);
            let mut random = Random(3);
            let sizes: Vec<u64> = (0..200).map(|_| 16 + random.below(4000)).collect();
            filled(&mut movers, id, &sizes, |at| at % 3 != 0);
            let before: Vec<_> = movers.ids();
            let info = DefragmentationInfo { slides, max_moves_per_pass: 3, ..over(id, way) };
            let done = movers.run_with(&info, &mut |_| MoveOutcome::Ignore);
            movers.restore();
            movers.check();
            assert_eq!((done.allocations_moved, done.bytes_moved), (0, 0));
            assert_eq!(movers.ids(), before);
            movers.end();
        }
    }
}

#[test]
fn destroying_everything_ends() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    let sizes: Vec<u64> = (0..256).map(|_| 2 * KIB).collect();
    filled(&mut movers, id, &sizes, |at| at % 2 == 0);
    let done = movers.run_with(&over(id, Way::Full), &mut |_| MoveOutcome::Destroy);
    movers.check();
    assert_eq!((done.allocations_moved, done.bytes_moved), (0, 0));
    assert!(done.device_memory_blocks_freed > 0, "{done:?}");
    movers.end();
}

#[test]
fn a_run_that_is_dropped_frees_its_destinations() {
    for ends in [false, true] {
        let (mut movers, id) = pool_of_blocks(64 * KIB);
        let sizes: Vec<u64> = (0..64).map(|_| 2 * KIB).collect();
        filled(&mut movers, id, &sizes, |at| at % 2 == 0);
        let mut run = movers.allocator().begin_defragmentation(&over(id, Way::Full)).unwrap();
        let moves = movers.allocator().next_pass(&mut run, &|_| true);
        assert!(!moves.is_empty());
        let during = movers.allocator().statistics_of_pool(id).unwrap();
        assert_eq!(during.allocation_count, (movers.live.len() + moves.len()) as u64);
        match ends {
            true => drop(movers.allocator().end_defragmentation(run)),
            false => drop(run),
        }
        movers.check();
        // And they can move in another run.
        assert!(movers.run(&over(id, Way::Full)).allocations_moved > 0);
        movers.end();
    }
}

#[test]
fn what_is_mapped_by_hand_stays_and_what_is_mapped_for_good_stays_mapped() {
    let (mut movers, id) = pool_of_blocks(MIB);
    let mut random = Random(5);
    for _ in 0..160 {
        let mut request = in_pool(64 * KIB, id);
        if random.one_in(2) {
            request.create_info.flags = mapped(1).create_info.flags;
        }
        movers.allocate(&request);
    }
    movers.free_if(|_| !random.one_in(3));
    let mut maps = Vec::new();
    for id in movers.ids() {
        let count = if random.one_in(4) { 1 + random.below(3) } else { 0 };
        for _ in 0..count {
            movers.allocator().map(id).unwrap();
        }
        maps.push((movers.live[&id].contents, id, count));
    }
    let done =
        movers.run_with(&over(id, Way::Extensive), &mut |_| match percent(&mut random, 20) {
            true => MoveOutcome::Ignore,
            false => MoveOutcome::Copy,
        });
    movers.check();
    assert!(done.allocations_moved > 0 && done.bytes_moved > 0);
    assert!(done.device_memory_blocks_freed > 0 && done.bytes_freed > 0);
    for (contents, id, count) in maps {
        let it = movers.live.values().find(|it| it.contents == contents).unwrap().allocation;
        assert!(count == 0 || it.id == id, "what is mapped stays");
        for _ in 0..count {
            movers.allocator().unmap(it.id).unwrap();
        }
        assert!(movers.allocator().unmap(it.id).is_err());
    }
    movers.end();
}

#[test]
fn what_is_mapped_or_freed_within_a_pass_is_passed_over() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    let sizes: Vec<u64> = (0..64).map(|_| 2 * KIB).collect();
    filled(&mut movers, id, &sizes, |at| at % 2 == 0);
    let mut run = movers.allocator().begin_defragmentation(&over(id, Way::Full)).unwrap();
    let moves = movers.allocator().next_pass(&mut run, &|_| true);
    assert!(moves.len() >= 3);
    movers.allocator().map(moves[0].source.id).unwrap();
    movers.free(moves[1].source.id);
    let outcomes: Vec<_> = moves.iter().map(|_| MoveOutcome::Copy).collect();
    movers.copy(&moves, &outcomes);
    let end = movers.world.allocator.end_pass(&mut run, &moves, &outcomes);
    use vkmem_engine::MoveEnd::{Gone, Kept, Moved};
    assert_eq!((end.ends[0], end.ends[1]), (Kept, Gone));
    assert!(end.ends[2..].iter().all(|it| matches!(it, Moved(_))));
    for (it, &ended) in moves.iter().zip(&end.ends) {
        movers.note(it, ended);
    }
    // A move ends once.
    assert!(movers.world.allocator.commit_move(&mut run, &moves[2]).is_err());
    assert!(movers.world.allocator.cancel_move(&mut run, &moves[2]).is_err());
    movers.check();
    while movers.pass(&mut run, &|_| true, &mut copy) {}
    movers.check();
    movers.allocator().unmap(moves[0].source.id).unwrap();
    movers.end();
}

#[test]
fn names_move_along() {
    let (mut movers, id) = pool_of_blocks(64 * KIB);
    let sizes: Vec<u64> = (0..64).map(|_| 2 * KIB).collect();
    filled(&mut movers, id, &sizes, |at| at % 2 == 0);
    for live in movers.live.values() {
        let name = format!("number {}", live.contents);
        movers.allocator().set_name(live.allocation.id, Some(&name)).unwrap();
    }
    assert!(movers.run(&over(id, Way::Full)).allocations_moved > 0);
    for live in movers.live.values() {
        let name = format!("number {}", live.contents);
        assert_eq!(movers.allocator().name(live.allocation.id), Ok(Some(name)));
    }
    movers.end();
}

#[test]
fn buddy_pools_are_emptied_too() {
    for way in Way::ALL {
        let rules = PoolCreateInfo {
            block_size: Some(MIB),
            algorithm: Algorithm::Buddy,
            ..PoolCreateInfo::default()
        };
        let (mut movers, id) = pool_with(rules);
        let mut random = Random(9);
        let sizes: Vec<u64> = (0..600).map(|_| 1 + random.size(15)).collect();
        filled(&mut movers, id, &sizes, |at| at % 2 == 0);
        movers.run(&over(id, way));
        let footprints: u64 =
            movers.live.values().map(|it| it.allocation.size.next_power_of_two().max(32)).sum();
        let left = block_count(&movers, id);
        assert!(left <= footprints.div_ceil(MIB) + 1, "{way:?}: {left} blocks for {footprints} B");
        movers.end();
    }
}

/// Images and buffers in turn, where they must not share a page.
fn mixed(info: DeviceInfo) -> (Movers, PoolId) {
    let world = World::new(info);
    let rules = PoolCreateInfo { block_size: Some(256 * KIB), ..PoolCreateInfo::default() };
    let id = pool(&world, &rules);
    let mut movers = Movers::new(world);
    let mut random = Random(11);
    for at in 0..400 {
        let mut request = in_pool(16 + random.below(6000), id);
        if at % 3 == 0 {
            request.kind = ResourceKind::ImageOptimal;
        }
        movers.allocate(&request);
    }
    movers.free_if(|at| at % 2 == 0);
    (movers, id)
}

#[test]
fn pages_are_respected_and_extensive_sorts_by_kind() {
    for way in Way::ALL {
        for slides in [false, true] {
            let mut info = one_heap(GIB);
            info.limits.buffer_image_granularity = 4096;
            let (mut movers, id) = mixed(info);
            // `validate` checks that no page is shared.
            movers.run(&DefragmentationInfo { slides, ..over(id, way) });
            movers.end();
        }
    }
}

#[test]
fn default_pools_are_each_defragmented() {
    let mut movers = Movers::new(World::new(vkmem_engine::profile_info("nvidia-h200").unwrap()));
    let mut random = Random(2);
    for _ in 0..153 {
        movers.allocate(&common::buffer(5 * MIB + 16 * random.below(5 * MIB / 16)));
    }
    movers.free_if(|_| percent(&mut random, 70));
    let info = DefragmentationInfo::default();
    let done = movers.run_with(&info, &mut |_| match percent(&mut random, 3) {
        true => MoveOutcome::Ignore,
        false => MoveOutcome::Copy,
    });
    movers.check();
    assert!(done.bytes_moved > 0 && done.allocations_moved > 0, "{done:?}");
    assert!(done.bytes_freed > 0 && done.device_memory_blocks_freed > 0, "{done:?}");
    movers.end();
}
