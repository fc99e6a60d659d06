//! `release_later`: another thread gives memory back to the driver.

mod common;

use std::time::{Duration, Instant};

use common::{KIB, MIB, World, blocks_of, buffer, one_heap};
use vkmem_engine::{AllocationId, AllocatorOptions, Call, EmptyBlockRetention, HeapUsage};

/// The time that each `vkFreeMemory` takes.
const SLOW: Duration = Duration::from_millis(300);

/// Blocks of 1 MiB, of which no empty one is retained, in a heap for which `limit` bytes are allowed.
fn world(limit: u64) -> World {
    let empty_block_retention = EmptyBlockRetention { count: Some(0), bytes: None, share: None };
    let heap_size_limits = vec![limit];
    let options = AllocatorOptions { empty_block_retention, heap_size_limits, ..blocks_of(MIB) };
    World::with(one_heap(64 * MIB), &options)
}

/// Allocates `count` blocks and frees all that is in them, later.
fn empty_later(world: &World, count: u64) {
    let ids: Vec<AllocationId> = (0..count)
        .map(|_| world.allocator.allocate(&buffer(MIB)).expect("there is room").id)
        .collect();
    world.device.set_latency(Call::Free, SLOW);
    let freed = world.allocator.free_many(&ids);
    let objects: u64 = freed.releases.iter().map(|it| it.object_count()).sum();
    assert_eq!(objects, count);
    world.allocator.release_later(freed.releases);
}

#[test]
fn the_caller_does_not_wait_for_the_driver() {
    let world = world(64 * MIB);
    let begun = Instant::now();
    empty_later(&world, 4);
    assert_eq!(world.allocator.statistics().block_count, 0);
    assert_eq!(world.allocator.heap_usage()[0], HeapUsage::default(), "they are in no pool");
    let other = world.allocator.allocate(&buffer(KIB)).expect("there is room");
    assert!(begun.elapsed() < SLOW, "none of the four was waited for");
    // The first one may just have begun.
    assert!(world.allocator.heap_budgets()[0].block_count >= 4, "they are held until then");
    assert_eq!(world.allocator.trim(), 0);
    assert_eq!(world.device.call_count(Call::Free), 4);
    assert_eq!(world.allocator.heap_budgets()[0].block_count, 1);
    let usage = world.allocator.heap_usage()[0];
    assert_eq!((usage.block_count, usage.block_bytes), (1, MIB));
    assert_eq!((usage.allocation_count, usage.allocation_bytes), (1, KIB));
    world.device.set_latency(Call::Free, Duration::ZERO);
    drop(world.allocator.free(other.id).expect("it is live"));
    world.assert_empty();
}

#[test]
fn a_request_waits_for_memory_that_is_being_given_back() {
    let world = world(4 * MIB);
    empty_later(&world, 4);
    let made: Vec<_> = (0..4).map(|_| world.allocator.allocate(&buffer(MIB))).collect();
    assert!(made.iter().all(Result::is_ok), "the limit is for what is live: {made:?}");
    assert_eq!(world.device.call_count(Call::Free), 4);
    assert!(world.allocator.allocate(&buffer(MIB)).is_err(), "and it is a limit");
    world.device.set_latency(Call::Free, Duration::ZERO);
    for it in made.into_iter().flatten() {
        drop(world.allocator.free(it.id).expect("it is live"));
    }
    world.assert_empty();
}

#[test]
fn the_end_gives_all_of_it_back() {
    let world = world(64 * MIB);
    empty_later(&world, 3);
    world.allocator.close();
    assert_eq!(world.device.call_count(Call::Free), 3);
    world.device.assert_clean();
}

#[test]
fn a_device_that_may_be_gone_is_left_alone() {
    let world = world(64 * MIB);
    empty_later(&world, 3);
    world.allocator.stop_threads();
    let calls = world.calls();
    assert!(world.device.call_count(Call::Free) <= 1, "at most the one that had begun");
    std::mem::forget(world.allocator);
    assert_eq!(world.device.live_memory_objects() as u64, 3 - world.device.call_count(Call::Free));
    assert_eq!(Call::ALL.iter().map(|&it| world.device.call_count(it)).sum::<u64>(), calls);
}
