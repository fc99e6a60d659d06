//! The owner of evictable allocations, failures, threads, and random programs.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{KIB, MIB, Random, World, blocks_of, buffer, one_heap};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationId, AllocationRequest,
    AllocatorOptions, Call, DeviceError, Error, Evictable, EvictionOwner, PoolCreateInfo, PoolId,
    profile_info, profile_names,
};

type Resource = (Allocation, Evictable);

const BOTH: Create = Create::CAN_BECOME_LOST.union(Create::CAN_MAKE_OTHER_LOST);

fn make(world: &World, request: &AllocationRequest) -> Result<Resource, Error> {
    let made = world.allocator.allocate(request)?;
    Ok((made, world.allocator.make_evictable(&made, 0.5)?))
}

fn destroy(world: &World, (made, evictable): Resource) -> bool {
    let lost = world.allocator.end_evictable(evictable);
    assert_eq!(world.allocator.free(made.id).is_err(), lost);
    lost
}

fn pool(world: &World, block_size: u64, blocks: u32, algorithm: Algorithm) -> PoolId {
    let rules = PoolCreateInfo {
        block_size: Some(block_size),
        max_block_count: blocks,
        algorithm,
        ..PoolCreateInfo::default()
    };
    world.allocator.create_pool(&rules).unwrap()
}

fn in_pool(pool: PoolId, size: u64) -> AllocationRequest {
    let mut request = buffer(size);
    (request.create_info.pool, request.create_info.flags) = (Some(pool), BOTH);
    request
}

/// Refuses some, and notes what it has lost.
#[derive(Default)]
struct Owner {
    in_use: Mutex<Vec<AllocationId>>,
    lost: Mutex<Vec<AllocationId>>,
    calls: AtomicU64,
}

impl EvictionOwner for Owner {
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let in_use = self.in_use.lock().unwrap();
        let refused: Vec<_> = victims.iter().copied().filter(|it| in_use.contains(it)).collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        let done = commit();
        if done {
            self.lost.lock().unwrap().extend(victims);
        }
        Ok(done)
    }
}

#[test]
fn the_owner_keeps_what_is_in_use() {
    let world = World::new(one_heap(64 * MIB));
    let owner = Arc::new(Owner::default());
    world.allocator.set_eviction_owner(Some(owner.clone()));
    let pool = pool(&world, MIB, 1, Algorithm::Tlsf);
    let all: Vec<_> = (0..16)
        .map(|frame| {
            world.allocator.set_frame(frame);
            make(&world, &in_pool(pool, MIB / 16)).unwrap()
        })
        .collect();
    world.allocator.set_frame(100);
    owner.in_use.lock().unwrap().extend([all[0].0.id, all[2].0.id]);
    world.allocator.set_name(all[1].0.id, Some("gone")).unwrap();
    let made = make(&world, &in_pool(pool, MIB / 16)).unwrap();
    assert_eq!(*owner.lost.lock().unwrap(), [all[1].0.id]);
    assert!(all[1].1.is_lost() && !all[0].1.is_lost());
    assert_eq!(world.allocator.name(made.0.id), Ok(None));
    // All of the block is needed, and some of it is in use.
    assert!(make(&world, &in_pool(pool, MIB)).is_err());
    assert_eq!(owner.lost.lock().unwrap().len(), 1);
    assert_eq!(world.allocator.make_allocations_lost(Some(pool)).unwrap(), 13);
    assert_eq!(owner.lost.lock().unwrap().len(), 14);
    assert!(!all[0].1.is_lost() && !all[2].1.is_lost());
    world.allocator.set_eviction_owner(None);
    all.into_iter().for_each(|it| {
        destroy(&world, it);
    });
    destroy(&world, made);
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn what_the_driver_refuses_costs_nobody_but_what_was_to_be_freed() {
    for profile in profile_names() {
        let info = profile_info(profile).unwrap();
        let limits = vec![4 * MIB; info.heaps.len()];
        let options = AllocatorOptions { heap_size_limits: limits, ..blocks_of(MIB) };
        let world = World::with(info, &options);
        let mut request = buffer(MIB);
        request.requirements.memory_type_bits = 1;
        request.create_info.usage = vkmem_engine::MemoryUsage::Unknown;
        request.create_info.flags = BOTH;
        let all: Vec<_> = (0..4).map(|_| make(&world, &request).unwrap()).collect();
        for (frame, error) in
            (10..).zip([DeviceError::OutOfDeviceMemory, DeviceError::OutOfHostMemory])
        {
            // In the frame of the others: nothing may go, whatever the driver says.
            world.device.fail_next(Call::Allocate, 1000, error);
            assert!(make(&world, &request).is_err(), "{profile}");
            assert!(all.iter().all(|it| it.1.touch()), "{profile}");
            world.device.clear_failures();
            world.allocator.set_frame(frame);
            assert!(all.iter().all(|it| it.1.touch()), "{profile}");
        }
        world.allocator.set_frame(100);
        let made = make(&world, &request).unwrap();
        let lost = all.iter().filter(|it| it.1.is_lost()).count();
        assert_eq!(lost, 1, "{profile}");
        world.allocator.validate().unwrap();
        all.into_iter().chain([made]).for_each(|it| {
            destroy(&world, it);
        });
        world.assert_empty();
    }
}

#[test]
fn a_mapping_that_fails_costs_nobody() {
    let world = World::new(one_heap(64 * MIB));
    let pool = pool(&world, MIB, 1, Algorithm::Tlsf);
    let all: Vec<_> = (0..16).map(|_| make(&world, &in_pool(pool, MIB / 16)).unwrap()).collect();
    world.allocator.set_frame(9);
    let mut request = in_pool(pool, MIB / 16);
    request.create_info.flags =
        Create::CAN_MAKE_OTHER_LOST | Create::MAPPED | Create::HOST_ACCESS_SEQUENTIAL_WRITE;
    world.device.fail_next(Call::Map, 1000, DeviceError::MemoryMapFailed);
    assert!(world.allocator.allocate(&request).is_err());
    assert!(all.iter().all(|it| !it.1.is_lost()));
    world.device.clear_failures();
    let made = world.allocator.allocate(&request).unwrap();
    assert!(made.mapped.is_some());
    assert_eq!(all.iter().filter(|it| it.1.is_lost()).count(), 1);
    drop(world.allocator.free(made.id).unwrap());
    all.into_iter().for_each(|it| {
        destroy(&world, it);
    });
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn what_is_in_use_is_never_lost_on_eight_threads() {
    touch_on_eight_threads(50_000);
}

/// Takes seconds in a release build.
#[test]
#[ignore = "long: the one above does the same with fewer touches"]
fn ten_million_touches_on_eight_threads() {
    touch_on_eight_threads(10_000_000);
}

/// Each thread touches its own and makes again what is lost; the frame goes on with the touches, few in one, so
/// that much is not touched for a while.
fn touch_on_eight_threads(touches: u64) {
    const IN_USE: u64 = 2;
    const THREADS: u64 = 8;
    // More than the pool holds, so that a thread that runs alone loses some as well.
    const OWN: u64 = 80;
    const OF_FRAME: u64 = 16;
    let options = AllocatorOptions { frames_in_use: IN_USE, ..AllocatorOptions::default() };
    let world = World::with(one_heap(64 * MIB), &options);
    let pool = pool(&world, MIB, 2, Algorithm::Tlsf);
    let (done, losses) = (AtomicU64::new(0), AtomicU64::new(0));
    let run = |seed: u64| {
        let mut random = Random(seed);
        let mut mine: Vec<Option<(Resource, u64)>> = (0..OWN).map(|_| None).collect();
        let mut count = 0;
        while count < touches / THREADS {
            let index = random.below(OWN);
            let slot = &mut mine[index as usize];
            match slot {
                Some((it, touched)) => {
                    count += 1;
                    let all = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if all.is_multiple_of(OF_FRAME) {
                        world.allocator.set_frame(all / OF_FRAME);
                    }
                    let before = world.allocator.frame();
                    if it.1.touch() {
                        *touched = before;
                    } else {
                        // The frame in which it went is not later than now.
                        let now = world.allocator.frame();
                        assert!(*touched + IN_USE < now, "used in {touched}, lost by {now}");
                        losses.fetch_add(1, Ordering::Relaxed);
                        let (gone, _) = slot.take().unwrap();
                        assert!(destroy(&world, gone));
                    }
                }
                None => {
                    let before = world.allocator.frame();
                    let size = 16 * KIB * (1 + index % 3);
                    *slot = make(&world, &in_pool(pool, size)).ok().map(|it| (it, before));
                }
            }
        }
        mine.into_iter().flatten().for_each(|(it, _)| {
            destroy(&world, it);
        });
    };
    std::thread::scope(|scope| {
        let run = &run;
        (0..THREADS).for_each(|seed| drop(scope.spawn(move || run(seed))));
    });
    assert_eq!(done.into_inner(), touches);
    let losses = losses.into_inner();
    eprintln!("{touches} touches, {losses} losses");
    assert!(losses > touches / 100, "{losses} losses");
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

/// Random calls against a model that knows the last use of each.
#[test]
fn random_programs_lose_only_what_is_old_enough() {
    for profile in profile_names() {
        for algorithm in Algorithm::ALL {
            let losses: u64 = (0..4).map(|seed| random_program(profile, algorithm, seed)).sum();
            assert!(losses > 0, "{profile} {algorithm:?}");
        }
    }
}

fn random_program(profile: &str, algorithm: Algorithm, seed: u64) -> u64 {
    let mut random = Random(seed);
    let info = profile_info(profile).unwrap();
    let in_use = random.below(3);
    let limits = vec![12 * MIB; info.heaps.len()];
    let options =
        AllocatorOptions { frames_in_use: in_use, heap_size_limits: limits, ..blocks_of(2 * MIB) };
    let world = World::with(info, &options);
    let blocks = if algorithm == Algorithm::Linear { 1 } else { 3 };
    let pool = pool(&world, MIB / 4, blocks, algorithm);
    let mut live: Vec<(Resource, u64)> = Vec::new();
    let (mut frame, mut losses) = (1, 0);
    world.allocator.set_frame(frame);
    for _ in 0..400 {
        match random.below(12) {
            0 | 1 => {
                frame += 1;
                world.allocator.set_frame(frame);
            }
            2 | 3 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                if live[at].0.1.touch() {
                    live[at].1 = frame;
                }
            }
            4 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                destroy(&world, live.remove(at).0);
            }
            _ => {
                let mut request = in_pool(pool, 16 + random.size(17));
                if random.one_in(3) {
                    request.create_info.pool = None;
                    request.requirements.memory_type_bits = 1;
                    request.create_info.usage = vkmem_engine::MemoryUsage::Unknown;
                    request.requirements.size *= 8;
                }
                request.requirements.alignment = 1 << random.below(9);
                request.kind = random.pick(&[
                    vkmem_engine::ResourceKind::Buffer,
                    vkmem_engine::ResourceKind::ImageOptimal,
                ]);
                let before: Vec<bool> = live.iter().map(|it| it.0.1.is_lost()).collect();
                match make(&world, &request) {
                    Ok(made) => live.push((made, frame)),
                    Err(_) => {
                        let after: Vec<bool> = live.iter().map(|it| it.0.1.is_lost()).collect();
                        assert_eq!(before, after, "a request that fails costs nobody");
                    }
                }
                for (it, last) in live
                    .iter()
                    .zip(&before)
                    .filter(|(it, was)| it.0.1.is_lost() && !**was)
                    .map(|(it, _)| (it, it.1))
                {
                    losses += 1;
                    assert!(last + in_use < frame, "{profile} {algorithm:?} {seed}: {:?}", it.0.0);
                }
            }
        }
        world.allocator.validate().unwrap();
        world.device.assert_no_violations();
        let (mut count, mut bytes) = (0, 0);
        for ((made, evictable), _) in live.iter().filter(|it| !it.0.1.is_lost()) {
            assert_eq!(world.allocator.info(made.id).unwrap().offset, made.offset);
            assert!(!evictable.is_lost());
            count += 1;
            bytes += made.size;
        }
        let statistics = world.allocator.statistics();
        assert_eq!((statistics.allocation_count, statistics.allocation_bytes), (count, bytes));
        let types = 0..world.allocator.device().info().types.len() as u32;
        let evictable: u64 =
            types.map(|it| world.allocator.eviction_statistics(it).evictable_count).sum();
        assert_eq!(evictable, count);
    }
    live.into_iter().for_each(|it| {
        destroy(&world, it.0);
    });
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
    losses
}
