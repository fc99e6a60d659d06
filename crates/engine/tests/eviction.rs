//! Lost allocations: the behaviour of VMA 2.3's tests, on each simulated device.

mod common;

use common::{KIB, MIB, Random, World, buffer};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationRequest, AllocatorOptions,
    Error, Evictable, PoolCreateInfo, PoolId, profile_info, profile_names,
};

const BOTH: Create = Create::CAN_BECOME_LOST.union(Create::CAN_MAKE_OTHER_LOST);

/// A resource as its owner keeps it.
struct Resource {
    allocation: Allocation,
    evictable: Evictable,
}

fn world(profile: &str) -> World {
    World::new(profile_info(profile).expect("a profile"))
}

/// Returns the first memory type that buffers may use.
fn memory_type(world: &World) -> u32 {
    world
        .allocator
        .find_memory_type_index(u32::MAX, &Default::default(), Default::default())
        .unwrap()
}

fn pool(world: &World, rules: PoolCreateInfo) -> PoolId {
    let memory_type_index = memory_type(world);
    world.allocator.create_pool(&PoolCreateInfo { memory_type_index, ..rules }).expect("a pool")
}

fn in_pool(pool: PoolId, size: u64, flags: Create) -> AllocationRequest {
    let mut request = buffer(size);
    (request.create_info.pool, request.create_info.flags) = (Some(pool), flags);
    request
}

fn make(world: &World, request: &AllocationRequest) -> Result<Resource, Error> {
    let allocation = world.allocator.allocate(request)?;
    let priority = request.create_info.priority.unwrap_or(0.5);
    let evictable = world.allocator.make_evictable(&allocation, priority)?;
    Ok(Resource { allocation, evictable })
}

/// Ends a resource; returns whether it was lost.
fn destroy(world: &World, it: Resource) -> bool {
    let lost = world.allocator.end_evictable(it.evictable);
    let freed = world.allocator.free(it.allocation.id);
    assert_eq!(freed.is_err(), lost, "what is lost has a stale id, and nothing else has");
    lost
}

fn lost(resources: &[Resource]) -> usize {
    resources.iter().filter(|it| it.evictable.is_lost()).count()
}

fn assert_out_of_memory<T>(made: Result<T, Error>) {
    assert_eq!(made.err().and_then(|error| error.vk_result()), Some(-2));
}

/// L1: `TestPool_SameSize`.
#[test]
fn a_pool_of_one_size() {
    for algorithm in [Algorithm::Tlsf, Algorithm::Buddy] {
        for profile in profile_names() {
            let world = world(profile);
            // A buddy block of 25 MiB would use 16 of them.
            let (block_size, most) = match algorithm {
                Algorithm::Buddy => (32 * MIB, 4 * 32),
                _ => (25 * MIB, 100),
            };
            let rules = PoolCreateInfo {
                block_size: Some(block_size),
                max_block_count: 4,
                frames_in_use: Some(0),
                algorithm,
                ..PoolCreateInfo::default()
            };
            let pool = pool(&world, rules);
            same_size(&world, pool, most, 4 * block_size);
            world.allocator.destroy_pool(pool).unwrap();
            world.assert_empty();
        }
    }
}

fn same_size(world: &World, pool: PoolId, most: usize, bytes: u64) {
    let (allocator, request) = (&world.allocator, in_pool(pool, MIB, BOTH));
    allocator.set_frame(1);
    let mut first: Vec<_> = (0..most).map(|_| make(world, &request).unwrap()).collect();
    assert_out_of_memory(make(world, &request));
    assert_eq!(lost(&first), 0);

    let mut random = Random(7);
    first.drain(..10).for_each(|it| assert!(!destroy(world, it)));
    for _ in 0..100 {
        if first.len() < most && random.one_in(2) {
            first.push(make(world, &request).unwrap());
        } else {
            let at = random.below(first.len() as u64) as usize;
            assert!(!destroy(world, first.swap_remove(at)));
        }
    }
    while first.len() < most {
        first.push(make(world, &request).unwrap());
    }
    assert_eq!(lost(&first), 0);

    allocator.set_frame(2);
    let mut second: Vec<_> = (0..most).map(|_| make(world, &request).unwrap()).collect();
    assert_eq!((lost(&first), lost(&second)), (most, 0));
    assert_out_of_memory(make(world, &request));
    first.into_iter().for_each(|it| assert!(destroy(world, it)));
    assert_eq!(lost(&second), 0);

    assert!(!destroy(world, second.pop().unwrap()));
    let statistics = allocator.statistics_of_pool(pool).unwrap();
    assert_eq!((statistics.allocation_count, statistics.block_bytes), (most as u64 - 1, bytes));
    assert_eq!(statistics.unused_range_count, 1);
    assert_eq!((statistics.unused_range_bytes, statistics.unused_range_size_max), (MIB, MIB));
    second.into_iter().for_each(|it| assert!(!destroy(world, it)));

    allocator.set_frame(10);
    let four: Vec<_> = (0..4).map(|_| make(world, &request).unwrap()).collect();
    allocator.set_frame(11);
    assert!(four[0].evictable.touch() && four[2].evictable.touch());
    assert_eq!(allocator.make_allocations_lost(Some(pool)).unwrap(), 2);
    let are_lost: Vec<_> = four.iter().map(|it| it.evictable.is_lost()).collect();
    assert_eq!(are_lost, [false, true, false, true]);
    assert_eq!(allocator.make_allocations_lost(Some(pool)).unwrap(), 0);
    assert!(!four[1].evictable.touch());
    four.into_iter().for_each(|it| {
        destroy(world, it);
    });
}

/// L2: `TestLinearAllocator`.
#[test]
fn a_ring_loses_its_oldest() {
    for profile in profile_names() {
        let world = world(profile);
        let rules = PoolCreateInfo {
            block_size: Some(300 * KIB),
            max_block_count: 1,
            frames_in_use: Some(0),
            algorithm: Algorithm::Linear,
            ..PoolCreateInfo::default()
        };
        let pool = pool(&world, rules);
        let mut random = Random(1);
        let mut frame = 0;
        let mut fill = |all: &mut Vec<Resource>| loop {
            frame += 1;
            world.allocator.set_frame(frame);
            let size = 64 + 16 * random.below(61);
            match make(&world, &in_pool(pool, size, Create::CAN_BECOME_LOST)) {
                Ok(made) => all.push(made),
                Err(error) => {
                    assert_eq!(error.vk_result(), Some(-2));
                    return frame;
                }
            }
        };
        let mut all = Vec::new();
        fill(&mut all);
        let half = all.len() / 2;
        all.drain(..half).for_each(|it| assert!(!destroy(&world, it)));
        let frame = fill(&mut all);
        assert_eq!(lost(&all), 0);

        world.allocator.set_frame(frame + 1);
        let made = make(&world, &in_pool(pool, 1024, Create::CAN_MAKE_OTHER_LOST)).unwrap();
        let count = lost(&all);
        assert!(count > 0 && all[..count].iter().all(|it| it.evictable.is_lost()), "the oldest");
        all.drain(..count).for_each(|it| assert!(destroy(&world, it)));
        all.push(made);

        world.allocator.set_frame(frame + 2);
        let taken = world.allocator.make_allocations_lost(Some(pool)).unwrap();
        assert!(taken > 0);
        assert_eq!(taken, lost(&all));
        all.into_iter().for_each(|it| {
            destroy(&world, it);
        });
        world.allocator.destroy_pool(pool).unwrap();
        world.assert_empty();
    }
}

/// L3: `TestPool_Benchmark`, on one thread for each profile.
#[test]
fn items_are_made_again_after_a_loss() {
    for profile in profile_names() {
        let world = world(profile);
        let rules = PoolCreateInfo {
            block_size: Some(7 * MIB),
            max_block_count: 1,
            frames_in_use: Some(1),
            ..PoolCreateInfo::default()
        };
        let pool = pool(&world, rules);
        let mut random = Random(3);
        let mut items: Vec<Option<Resource>> = (0..400).map(|_| None).collect();
        let mut used: Vec<usize> = (0..200).collect();
        let (mut made, mut losses, mut failures) = (0, 0, 0);
        for frame in 1..120 {
            world.allocator.set_frame(frame);
            for slot in &mut used {
                if random.one_in(50) {
                    *slot = random.below(400) as usize;
                }
            }
            for &slot in &used {
                let item = &mut items[slot];
                if let Some(it) = item.take_if(|it| !it.evictable.touch()) {
                    losses += 1;
                    assert!(destroy(&world, it));
                }
                if item.is_none() {
                    let size = 1024 * (1 + random.below(64));
                    match make(&world, &in_pool(pool, size, BOTH)) {
                        Ok(it) => *item = Some(it),
                        Err(_) => failures += 1,
                    }
                    made += 1;
                }
            }
            world.allocator.validate().unwrap();
        }
        assert!(losses > 20, "{made} made, {losses} lost, {failures} not made");
        items.into_iter().flatten().for_each(|it| {
            destroy(&world, it);
        });
        world.allocator.destroy_pool(pool).unwrap();
        world.assert_empty();
    }
}

#[test]
fn what_was_used_in_the_last_frames_stays() {
    let options = AllocatorOptions { frames_in_use: 2, ..common::blocks_of(MIB) };
    let world = World::with(common::one_heap(16 * MIB), &options);
    let mut request = buffer(MIB);
    request.create_info.flags = BOTH | Create::NEVER_ALLOCATE;
    let first = {
        let mut grows = request;
        grows.create_info.flags = BOTH;
        grows.requirements.size = MIB / 2;
        [make(&world, &grows).unwrap(), make(&world, &grows).unwrap()]
    };
    for frame in [0, 1, 2] {
        world.allocator.set_frame(frame);
        assert_out_of_memory(make(&world, &request));
    }
    assert_eq!((first[0].evictable.last_use(), lost(&first)), (0, 0));
    assert!(first[0].evictable.touch());
    world.allocator.set_frame(3);
    // The one that was touched keeps the other alive: without it there is no room.
    assert_out_of_memory(make(&world, &request));
    assert_eq!(lost(&first), 0);
    world.allocator.set_frame(5);
    let made = make(&world, &request).unwrap();
    assert_eq!(lost(&first), 2);
    for it in first {
        assert!(destroy(&world, it));
    }
    assert!(!destroy(&world, made));
    world.assert_empty();
}
