//! `free_around`: a region is free before its buffer is destroyed, and its memory is freed only after
//! that.

mod common;

use std::cell::Cell;
use std::thread;

use common::{KIB, MIB, World, blocks_of, buffer, one_heap};
use vkmem_engine::{
    Allocation, AllocatorOptions, Call, EmptyBlockRetention, Error, PoolCreateInfo, Release,
};

/// Creates blocks of 1 MiB, of which no empty one is retained.
fn world() -> World {
    let empty_block_retention = EmptyBlockRetention { count: Some(0), bytes: None, share: None };
    let options = AllocatorOptions { empty_block_retention, ..blocks_of(MIB) };
    World::with(one_heap(64 * MIB), &options)
}

fn is_there(world: &World, allocation: &Allocation) -> bool {
    world.device.memory(allocation.memory).is_some()
}

/// Asserts that dropping the release frees the memory object, and nothing before does.
fn assert_gives_back(world: &World, allocation: &Allocation, release: Release) {
    assert!(release.frees_memory());
    assert!(is_there(world, allocation));
    drop(release);
    assert!(!is_there(world, allocation));
}

#[test]
fn memory_that_others_empty_meanwhile_stays_until_the_resource_is_gone() {
    let world = world();
    let [mine, other] = [0; 2].map(|_| world.allocator.allocate(&buffer(KIB)).unwrap());
    assert_eq!(mine.memory, other.memory);
    let release = world.allocator.free_around(mine.id, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                let release = world.allocator.free(other.id).unwrap();
                assert!(release.frees_memory(), "it was the last one, and none is kept");
                drop(release);
            });
        });
        assert_eq!(world.allocator.statistics().block_count, 0);
        assert!(is_there(&world, &mine));
    });
    let release = release.unwrap();
    assert_eq!(release.bytes(), MIB);
    assert_gives_back(&world, &mine, release);
    world.assert_empty();
}

#[test]
fn the_place_is_free_at_once() {
    let world = world();
    let mine = world.allocator.allocate(&buffer(MIB / 2)).unwrap();
    let keeps = world.allocator.allocate(&buffer(MIB / 2)).unwrap();
    let release = world.allocator.free_around(mine.id, || {
        let next = world.allocator.try_allocate(&buffer(MIB / 2)).expect("there is room");
        assert_eq!((next.memory, next.offset), (mine.memory, mine.offset));
        drop(world.allocator.free(next.id).unwrap());
    });
    assert!(!release.unwrap().calls_driver());
    drop(world.allocator.free(keeps.id).unwrap());
    assert_eq!(world.device.call_count(Call::Free), 1);
    world.assert_empty();
}

#[test]
fn memory_that_the_free_itself_empties_stays_until_the_release() {
    let world = world();
    let mut alone = buffer(KIB);
    alone.requirements.requires_dedicated = true;
    for request in [buffer(KIB), alone] {
        let mine = world.allocator.allocate(&request).unwrap();
        let destroyed = || assert!(is_there(&world, &mine));
        let release = world.allocator.free_around(mine.id, destroyed).unwrap();
        assert_gives_back(&world, &mine, release);
    }
    world.assert_empty();
}

#[test]
fn a_pool_may_go_meanwhile() {
    let world = world();
    let pool = world.allocator.create_pool(&PoolCreateInfo::default()).unwrap();
    let mut request = buffer(KIB);
    request.create_info.pool = Some(pool);
    let mine = world.allocator.allocate(&request).unwrap();
    let release = world.allocator.free_around(mine.id, || {
        world.allocator.destroy_pool(pool).unwrap();
        assert!(is_there(&world, &mine));
    });
    assert_gives_back(&world, &mine, release.unwrap());
    world.assert_empty();
}

#[test]
fn a_resource_without_memory_is_destroyed_all_the_same() {
    let world = world();
    let mine = world.allocator.allocate(&buffer(KIB)).unwrap();
    drop(world.allocator.free(mine.id).unwrap());
    let destroyed = Cell::new(false);
    let result = world.allocator.free_around(mine.id, || destroyed.set(true));
    assert_eq!(result.err(), Some(Error::UseAfterFree));
    assert!(destroyed.get());
}
