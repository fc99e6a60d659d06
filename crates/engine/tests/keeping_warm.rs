//! Retention of empty blocks, prefetching of blocks, and enforcement of budgets.

mod common;

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{GIB, LOCAL, MIB, VISIBLE, World, blocks_of, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, Allocator, AllocatorOptions, Call, DeviceError,
    EmptyBlockRetention, Error, MemoryHeapFlags, PoolCreateInfo, SimulatedDevice, simulated_info,
};

const NO_LIMIT: EmptyBlockRetention = EmptyBlockRetention { count: None, bytes: None, share: None };

/// Creates blocks of 1 MiB in a heap of 100 MiB, whose budget is 80 MiB.
fn keeping(empty_block_retention: EmptyBlockRetention) -> World {
    let options = AllocatorOptions { empty_block_retention, ..blocks_of(MIB) };
    World::with(one_heap(100 * MIB), &options)
}

fn fill(world: &World, blocks: usize) -> Vec<Allocation> {
    let half = buffer(MIB / 2);
    (0..2 * blocks).map(|_| world.allocator.allocate(&half).unwrap()).collect()
}

fn free_all(world: &World, made: Vec<Allocation>) {
    made.into_iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
}

/// Returns how many of ten blocks are retained when all become empty.
fn kept_of_ten(retention: EmptyBlockRetention) -> usize {
    let world = keeping(retention);
    let made = fill(&world, 10);
    free_all(&world, made);
    let kept = world.device.live_memory_objects();
    let calls = world.allocate_calls();
    free_all(&world, fill(&world, kept));
    assert_eq!(world.allocate_calls(), calls, "what was kept is used again");
    world.assert_empty();
    kept
}

#[test]
fn empty_blocks_are_kept_up_to_each_limit() {
    assert_eq!(kept_of_ten(EmptyBlockRetention::default()), 1);
    assert_eq!(kept_of_ten(EmptyBlockRetention { count: Some(0), ..NO_LIMIT }), 0);
    assert_eq!(kept_of_ten(EmptyBlockRetention { count: Some(4), ..NO_LIMIT }), 4);
    assert_eq!(kept_of_ten(NO_LIMIT), 10);
    assert_eq!(kept_of_ten(EmptyBlockRetention { bytes: Some(3 * MIB + 1), ..NO_LIMIT }), 3);
    assert_eq!(kept_of_ten(EmptyBlockRetention { share: Some(0.1), ..NO_LIMIT }), 8);
    let both = EmptyBlockRetention { count: Some(7), bytes: Some(5 * MIB), share: Some(0.5) };
    assert_eq!(kept_of_ten(both), 5, "the tightest counts");
}

#[test]
fn the_limit_in_bytes_spans_the_types_of_a_heap() {
    let retention = EmptyBlockRetention { bytes: Some(3 * MIB), ..NO_LIMIT };
    let info = simulated_info(
        &[(100 * MIB, MemoryHeapFlags::DEVICE_LOCAL)],
        &[(0, LOCAL), (0, LOCAL | VISIBLE)],
    );
    let options = AllocatorOptions { empty_block_retention: retention, ..blocks_of(MIB) };
    let world = World::with(info, &options);
    let mut visible = flagged(MIB / 2, Create::HOST_ACCESS_SEQUENTIAL_WRITE);
    visible.requirements.memory_type_bits = 0b10;
    let local = fill(&world, 2);
    let others: Vec<_> = (0..4).map(|_| world.allocator.allocate(&visible).unwrap()).collect();
    free_all(&world, local);
    free_all(&world, others);
    assert_eq!(world.device.live_memory_objects(), 3);
    world.assert_empty();
}

#[test]
fn kept_blocks_go_when_the_heap_is_over_its_budget() {
    let world = keeping(NO_LIMIT);
    free_all(&world, fill(&world, 10));
    assert_eq!(world.device.live_bytes(0), 10 * MIB);
    let mut large = Vec::new();
    for _ in 0..7 {
        large.push(world.allocator.allocate(&buffer(10 * MIB)).unwrap());
    }
    assert_eq!(world.device.live_bytes(0), 80 * MIB, "within the budget all may stay");
    large.push(world.allocator.allocate(&buffer(5 * MIB)).unwrap());
    assert_eq!(world.device.live_bytes(0), 75 * MIB, "the kept ones made room");
    free_all(&world, large);
    world.assert_empty();
}

#[test]
fn a_budget_that_shrinks_takes_the_kept_blocks_at_the_next_frame() {
    let device = Arc::new(SimulatedDevice::new(one_heap(100 * MIB)));
    device.set_live_budget(vec![50 * MIB]);
    let options = AllocatorOptions { empty_block_retention: NO_LIMIT, ..blocks_of(MIB) };
    let allocator = Allocator::new(device.clone(), &options).unwrap();
    let world = World { allocator, device };
    free_all(&world, fill(&world, 10));
    world.device.set_live_budget(vec![5 * MIB]);
    assert_eq!(world.device.live_memory_objects(), 10);
    world.allocator.refresh_budget();
    assert_eq!(world.device.live_memory_objects(), 0);
    world.assert_empty();
}

#[test]
fn trim_gives_back_what_no_pool_has_promised_to_keep() {
    let world = keeping(NO_LIMIT);
    let rules = PoolCreateInfo { block_size: Some(MIB), min_block_count: 2, ..Default::default() };
    let pool = world.allocator.create_pool(&rules).unwrap();
    free_all(&world, fill(&world, 3));
    assert_eq!(world.allocator.trim(), 3 * MIB);
    assert_eq!(world.allocator.trim(), 0);
    assert_eq!(world.device.live_memory_objects(), 2);
    world.allocator.close();
    assert_eq!(world.device.live_memory_objects(), 0, "at the end nothing stays");
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn two_threads_do_not_exceed_a_budget_together() {
    for _ in 0..20 {
        // Six of ten blocks fit.
        let world = keeping(EmptyBlockRetention::default());
        world.device.set_latency(Call::Allocate, Duration::from_micros(200));
        let request = flagged(13 * MIB, Create::WITHIN_BUDGET | Create::DEDICATED_MEMORY);
        let barrier = Barrier::new(10);
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        world.allocator.allocate(&request)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|it| it.join().unwrap().ok()).collect()
        });
        assert_eq!(made.len(), 6);
        free_all(&world, made);
        world.assert_empty();
    }
}

/// Waits until a condition is true, as the prefetch thread takes time.
#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

fn prefetching(options: AllocatorOptions) -> World {
    World::with(one_heap(8 * GIB), &AllocatorOptions { prefetch: true, ..options })
}

#[test]
fn the_next_block_is_there_before_it_is_needed() {
    let world = prefetching(AllocatorOptions::default());
    let mut made = vec![world.allocator.allocate(&buffer(MIB)).unwrap()];
    assert_eq!(world.device.live_memory_objects(), 1, "no more than needed at first");
    for blocks in 1..=5 {
        // Only `try_allocate`: blocks are allocated by the prefetch thread alone.
        while world.allocator.statistics().block_count == blocks {
            match world.allocator.try_allocate(&buffer(MIB)) {
                Some(placed) => made.push(placed),
                None => eventually("a block ahead", || {
                    world.allocator.statistics().block_count > blocks
                }),
            }
        }
        let sizes = [32, 64, 128, 256, 256, 256];
        let held: u64 = sizes[..blocks as usize + 1].iter().sum();
        assert_eq!(world.device.live_bytes(0), held * MIB);
    }
    free_all(&world, made);
    eventually("one block left", || world.device.live_memory_objects() == 1);
    world.assert_empty();
}

#[test]
fn a_block_ahead_is_mapped_where_others_are() {
    let world = prefetching(AllocatorOptions::default());
    let made: Vec<_> = (0..20).map(|_| world.allocator.allocate(&mapped(MIB)).unwrap()).collect();
    eventually("a block ahead", || world.device.live_memory_objects() == 2);
    eventually("its mapping", || world.device.call_count(Call::Map) == 2);
    // The rest of the first block and more; a request that fails in place would have called the driver.
    let more: Vec<_> = (0..40)
        .map(|_| {
            let mut attempt = world.allocator.try_allocate(&mapped(MIB));
            eventually("room", || {
                attempt.is_some() || world.allocator.statistics().block_count >= 2
            });
            if attempt.is_none() {
                attempt = world.allocator.try_allocate(&mapped(MIB));
            }
            attempt.expect("mapped room")
        })
        .collect();
    free_all(&world, made);
    free_all(&world, more);
    world.assert_empty();
}

#[test]
fn nothing_is_taken_ahead_beyond_the_budget_or_the_pool() {
    let world = prefetching(AllocatorOptions { heap_size_limits: vec![2 * MIB], ..blocks_of(MIB) });
    // The budget is 80 % of the limit: one block of 1 MiB fits, a second one would exceed it.
    let made: Vec<_> =
        (0..3).map(|_| world.allocator.allocate(&buffer(MIB / 4)).unwrap()).collect();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(world.device.live_memory_objects(), 1);
    free_all(&world, made);
    world.assert_empty();

    let world = prefetching(AllocatorOptions::default());
    let rules = PoolCreateInfo { block_size: Some(MIB), max_block_count: 1, ..Default::default() };
    let pool = world.allocator.create_pool(&rules).unwrap();
    let mut request = buffer(MIB / 4);
    request.create_info.pool = Some(pool);
    let made: Vec<_> = (0..4).map(|_| world.allocator.allocate(&request).unwrap()).collect();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(world.device.live_memory_objects(), 1);
    free_all(&world, made);
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn a_refused_block_ahead_harms_nobody_and_is_asked_for_again() {
    let world = prefetching(blocks_of(MIB));
    let mut made = vec![world.allocator.allocate(&buffer(MIB / 4)).unwrap()];
    world.device.fail_next(Call::Allocate, 1, DeviceError::OutOfDeviceMemory);
    made.extend((0..2).map(|_| world.allocator.allocate(&buffer(MIB / 4)).unwrap()));
    eventually("a call that failed", || world.allocate_calls() == 2);
    assert_eq!(world.allocator.statistics().block_count, 1);
    world.allocator.refresh_budget();
    made.push(world.allocator.allocate(&buffer(1000)).unwrap());
    eventually("a block ahead", || world.device.live_memory_objects() == 2);
    free_all(&world, made);
    world.assert_empty();
}

#[test]
fn the_end_waits_for_the_block_that_is_on_its_way() {
    let world = prefetching(blocks_of(MIB));
    let made = vec![world.allocator.allocate(&buffer(MIB / 4)).unwrap()];
    world.device.set_latency(Call::Allocate, Duration::from_millis(50));
    let more = vec![world.allocator.allocate(&buffer(MIB / 2)).unwrap()];
    eventually("a call on its way", || world.allocate_calls() == 2);
    free_all(&world, made);
    free_all(&world, more);
    world.allocator.close();
    let device = world.device;
    assert_eq!(device.live_memory_objects(), 0);
    drop(world.allocator);
    assert_eq!(device.call_count(Call::Allocate), device.call_count(Call::Free));
    device.assert_clean();
}

#[test]
fn threads_that_run_out_share_the_block_that_was_asked_for() {
    let world = prefetching(blocks_of(MIB));
    let first = world.allocator.allocate(&buffer(MIB / 4)).unwrap();
    world.device.set_latency(Call::Allocate, Duration::from_millis(30));
    let made: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| world.allocator.allocate(&buffer(MIB / 8)).unwrap()))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    eventually("the rest", || world.allocator.validate().is_ok());
    assert!(world.allocator.statistics().block_count <= 3);
    free_all(&world, made);
    free_all(&world, vec![first]);
    world.allocator.close();
    world.device.assert_clean();
}

#[test]
fn a_heap_that_fills_up_is_reported_once_each_time() {
    let world = keeping(EmptyBlockRetention::default());
    world.allocator.set_pressure_threshold(Some(0.5));
    let large: Vec<_> =
        (0..3).map(|_| world.allocator.allocate(&buffer(12 * MIB)).unwrap()).collect();
    assert_eq!(world.allocator.take_pressed(), 0);
    let one = world.allocator.allocate(&buffer(12 * MIB)).unwrap();
    assert_eq!(world.allocator.take_pressed(), 1);
    assert_eq!(world.allocator.take_pressed(), 0);
    free_all(&world, vec![one]);
    let one = world.allocator.allocate(&buffer(12 * MIB)).unwrap();
    assert_eq!(world.allocator.take_pressed(), 1);
    free_all(&world, large);
    free_all(&world, vec![one]);
    world.assert_empty();
}

#[test]
fn a_share_that_is_none_is_refused() {
    for share in [-0.1, 1.1, f64::NAN] {
        let device = Arc::new(SimulatedDevice::new(one_heap(GIB)));
        let empty_block_retention = EmptyBlockRetention { share: Some(share), ..NO_LIMIT };
        let options = AllocatorOptions { empty_block_retention, ..Default::default() };
        let made = Allocator::new(device, &options);
        assert!(matches!(made, Err(Error::InvalidArgument(_))), "{share}");
    }
}
