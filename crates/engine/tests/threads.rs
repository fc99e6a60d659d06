//! Many threads at once: the bookkeeping stays consistent, and no thread waits for another's driver call.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{KIB, MIB, Random, Told, World, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationRequest, AllocatorOptions, Call,
    DeviceError, Error, profile_info,
};

/// Serialises the tests that measure time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blocks_of(size: u64, info: vkmem_engine::DeviceInfo) -> World {
    World::with(info, &common::blocks_of(size))
}

fn random_request(random: &mut Random, types: u32) -> AllocationRequest {
    let mut request = match random.below(3) {
        0 => mapped(random.size(14)),
        1 => flagged(random.size(14), Create::HOST_ACCESS_RANDOM),
        _ => buffer(random.size(16)),
    };
    request.requirements.memory_type_bits = types;
    request.requirements.alignment = 1 << random.below(10);
    request.requirements.prefers_dedicated = random.one_in(30);
    request
}

/// Allocates, maps, flushes, names and frees; returns the allocations that are left.
fn work(world: &World, seed: u64, types: u32) -> Vec<Allocation> {
    let (allocator, mut random) = (&world.allocator, Random(seed));
    let mut live = Vec::new();
    for _ in 0..1500 {
        if live.is_empty() || random.one_in(2) {
            let request = random_request(&mut random, types);
            let made = match random.one_in(2) {
                true => allocator.try_allocate(&request),
                false => None,
            };
            let made = made.map_or_else(|| allocator.allocate(&request), Ok);
            live.push(made.expect("there is room"));
            continue;
        }
        let at = random.below(live.len() as u64) as usize;
        let it: Allocation = live[at];
        assert_eq!(allocator.info(it.id), Ok(it));
        match random.below(4) {
            0 => {
                if let Ok(address) = allocator.map(it.id) {
                    assert!(it.mapped.is_none_or(|mapped| mapped == address));
                    allocator.flush(it.id, 0, u64::MAX).unwrap();
                    allocator.invalidate(it.id, it.size / 2, u64::MAX).unwrap();
                    // Half of them are freed while they are mapped.
                    if random.one_in(2) {
                        allocator.unmap(it.id).unwrap();
                    }
                }
            }
            1 => {
                allocator.set_name(it.id, Some("worker")).unwrap();
                assert_eq!(allocator.name(it.id).unwrap().as_deref(), Some("worker"));
            }
            _ => {
                live.swap_remove(at);
                // Must not happen before the resource in it is destroyed.
                let there = || assert!(world.device.memory(it.memory).is_some());
                let release = match random.one_in(2) {
                    true => allocator.free_around(it.id, there),
                    false => allocator.free(it.id),
                };
                let release = release.unwrap();
                if random.one_in(3) {
                    thread::yield_now();
                }
                drop(release);
                assert_eq!(allocator.info(it.id), Err(Error::UseAfterFree));
            }
        }
    }
    live
}

fn check_whole(world: &World, live: &[Allocation]) {
    world.device.assert_no_violations();
    world.allocator.validate().unwrap();
    let mut taken = BTreeMap::new();
    for it in live {
        assert!(taken.insert((it.memory.0, it.offset), it.size).is_none(), "one place, two owners");
        assert_eq!(world.allocator.info(it.id), Ok(*it));
    }
    for ((one, size), (other, _)) in taken.iter().zip(taken.iter().skip(1)) {
        assert!(one.0 != other.0 || one.1 + size <= other.1, "overlap");
    }
    let total = world.allocator.statistics();
    let bytes: u64 = live.iter().map(|it| it.size).sum();
    assert_eq!((total.allocation_count, total.allocation_bytes), (live.len() as u64, bytes));
    assert_eq!(total.block_count, world.device.live_memory_objects() as u64);
    for (heap, budget) in world.allocator.heap_budgets().into_iter().enumerate() {
        assert_eq!(budget.block_bytes, world.device.live_bytes(heap as u32));
    }
}

#[test]
fn eight_threads_over_shared_types_and_their_own() {
    for profile in ["nvidia-h200", "non-coherent", "raspberry-pi"] {
        let info = profile_info(profile).unwrap();
        let types = info.types.len() as u64;
        let world = blocks_of(256 * KIB, info);
        let wakes = Arc::new(AtomicU64::new(0));
        let woken = wakes.clone();
        world.allocator.watch_memory(Some(Arc::new(move || {
            woken.fetch_add(1, SeqCst);
        })));
        let mut told = Told::default();
        let live: Vec<Allocation> = thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|worker| {
                    let world = &world;
                    // Even workers use all types; the host-visible types are the later ones.
                    let own =
                        if worker % 2 == 0 { u32::MAX } else { !0 << (worker % types.min(3)) };
                    scope.spawn(move || work(world, worker, own))
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        check_whole(&world, &live);
        assert_eq!(wakes.load(SeqCst), 1, "woken up once, as nobody took anything");
        told.hear(&world.allocator);
        told.agree_with(&world.device);
        // Freed by other threads than those that allocated.
        thread::scope(|scope| {
            for part in live.chunks(live.len() / 3 + 1) {
                let allocator = &world.allocator;
                scope
                    .spawn(move || part.iter().for_each(|it| drop(allocator.free(it.id).unwrap())));
            }
        });
        world.assert_empty();
        told.hear(&world.allocator);
        told.agree_with(&world.device);
    }
}

#[test]
fn of_two_frees_of_one_allocation_one_is_refused() {
    let world = blocks_of(64 * KIB, one_heap(64 * MIB));
    for round in 0..200 {
        let flags = if round % 2 == 0 { Create::DEDICATED_MEMORY } else { Create::empty() };
        let it = world.allocator.allocate(&flagged(1000, flags)).unwrap();
        let (barrier, freed) = (Barrier::new(2), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    freed.fetch_add(u64::from(world.allocator.free(it.id).is_ok()), SeqCst);
                });
            }
        });
        assert_eq!(freed.into_inner(), 1);
    }
    world.assert_empty();
}

/// Maps, unmaps, names and flushes one allocation while another thread frees it: each call either works
/// or finds a stale handle, and the counts of the block stay right.
#[test]
fn uses_that_race_with_a_free_fail_or_work() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let world = blocks_of(64 * KIB, one_heap(64 * MIB));
        let neighbour = world.allocator.allocate(&buffer(1000)).unwrap();
        for round in 0..300 {
            let it = world.allocator.allocate(&flagged(1000, flags)).unwrap();
            let barrier = Barrier::new(3);
            thread::scope(|scope| {
                for user in 0..2 {
                    let (allocator, barrier) = (&world.allocator, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        for _ in 0..3 {
                            if allocator.map(it.id).is_ok() && user == 0 {
                                let unmapped = allocator.unmap(it.id);
                                assert!(matches!(unmapped, Ok(()) | Err(Error::UseAfterFree)));
                            }
                            let _ = allocator.set_name(it.id, Some("raced"));
                        }
                    });
                }
                barrier.wait();
                (0..round % 20).for_each(|_| thread::yield_now());
                drop(world.allocator.free(it.id).unwrap());
            });
            world.device.assert_no_violations();
        }
        drop(world.allocator.free(neighbour.id).unwrap());
        world.assert_empty();
    }
}

#[test]
fn a_free_during_a_map_that_fails_is_no_accident() {
    let _alone = alone();
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let world = World::new(one_heap(64 * MIB));
        let neighbour = world.allocator.allocate(&buffer(1000)).unwrap();
        let it = world.allocator.allocate(&flagged(1000, flags)).unwrap();
        world.device.set_latency(Call::Map, Duration::from_millis(100));
        world.device.fail_next(Call::Map, 1, DeviceError::MemoryMapFailed);
        thread::scope(|scope| {
            let mapping = scope.spawn(|| world.allocator.map(it.id));
            while world.device.call_count(Call::Map) == 0 {
                thread::yield_now();
            }
            drop(world.allocator.free(it.id).expect("it lives"));
            let error = mapping.join().expect("no panic").unwrap_err();
            assert!(matches!(error, Error::MemoryMap(_)), "{error:?}");
        });
        world.device.set_latency_of_all(Duration::ZERO);
        drop(world.allocator.free(neighbour.id).unwrap());
        world.assert_empty();
    }
}

/// Measures small allocations in place while `busy` runs on another thread; returns the slowest
/// hundredth.
fn small_ones_meanwhile(world: &World, busy: impl FnOnce() + Send) -> (Duration, Duration, usize) {
    let done = AtomicBool::new(false);
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let small: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while !done.load(SeqCst) {
                        let began = Instant::now();
                        let it = world.allocator.allocate(&buffer(256)).unwrap();
                        let release = world.allocator.free(it.id).unwrap();
                        times.push(began.elapsed());
                        // An empty block is freed in the driver here; by which iteration depends on where
                        // the small allocations were placed.
                        drop(release);
                        thread::sleep(Duration::from_micros(200));
                    }
                    times
                })
            })
            .collect();
        busy();
        done.store(true, SeqCst);
        small.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    times.sort();
    (times[times.len() * 99 / 100], times[times.len() - 1], times.len())
}

#[test]
fn small_allocations_do_not_wait_for_the_driver() {
    let _alone = alone();
    const SLOW: Duration = Duration::from_millis(200);
    let world = blocks_of(MIB, one_heap(256 * MIB));
    // A block with room for the small allocations, but not for the one that makes the arena grow.
    let filler = world.allocator.allocate(&buffer(500 * KIB)).unwrap();
    let (allocator, device) = (&world.allocator, &world.device);
    let slow_allocations = || {
        // Slow to free as well.
        let grown: Vec<_> =
            (0..3).map(|_| allocator.allocate(&buffer(512 * KIB)).unwrap()).collect();
        let own = allocator.allocate(&flagged(1000, Create::DEDICATED_MEMORY)).unwrap();
        let mapped = allocator.allocate(&mapped(512 * KIB)).unwrap();
        for it in grown.into_iter().chain([own, mapped]) {
            drop(allocator.free(it.id).unwrap());
        }
    };
    device.set_latency_of_all(SLOW);
    let began = Instant::now();
    let (hundredth, slowest, count) = small_ones_meanwhile(&world, slow_allocations);
    assert!(began.elapsed() > 4 * SLOW, "the driver was slow: {:?}", began.elapsed());
    device.set_latency_of_all(Duration::ZERO);
    assert!(count > 500, "{count} small ones");
    assert!(hundredth < Duration::from_millis(5), "{hundredth:?} of {count}");
    assert!(slowest < SLOW / 2, "none has waited for the driver: {slowest:?}");
    drop(allocator.free(filler.id).unwrap());
    world.assert_empty();
}

#[test]
fn threads_that_need_a_block_at_once_share_it() {
    let _alone = alone();
    const THREADS: usize = 12;
    let world = blocks_of(MIB, one_heap(256 * MIB));
    world.device.set_latency(Call::Allocate, Duration::from_millis(100));
    let barrier = Barrier::new(THREADS);
    let began = Instant::now();
    let live: Vec<Allocation> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    world.allocator.allocate(&buffer(64 * KIB)).unwrap()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(world.allocate_calls(), 1, "{THREADS} times 64 KiB fit into one block");
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    world.device.set_latency_of_all(Duration::ZERO);
    check_whole(&world, &live);
    live.into_iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
    world.assert_empty();
}

#[test]
fn threads_that_wait_for_a_block_that_is_refused_are_all_answered() {
    let _alone = alone();
    let world = blocks_of(MIB, one_heap(64 * MIB));
    world.device.set_latency(Call::Allocate, Duration::from_millis(60));
    world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::OutOfDeviceMemory);
    let world = Arc::new(world);
    let began = Instant::now();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || world.allocator.allocate(&buffer(64 * KIB)).is_err())
        })
        .collect();
    assert!(workers.into_iter().all(|worker| worker.join().unwrap()));
    // One after the other would take eight times as long as one of them.
    assert!(began.elapsed() < Duration::from_millis(360), "{:?}", began.elapsed());
    world.device.clear_failures();
    world.assert_empty();
}

#[test]
fn limits_hold_when_many_ask_at_once() {
    let mut info = one_heap(64 * MIB);
    info.limits.max_memory_allocation_count = 10;
    let options =
        AllocatorOptions { heap_size_limits: vec![8 * MIB], ..AllocatorOptions::default() };
    let world = World::with(info, &options);
    for size in [1000, 3 * MIB] {
        let live: Vec<Allocation> = thread::scope(|scope| {
            let request = flagged(size, Create::DEDICATED_MEMORY);
            let world = &world;
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(move || {
                        let made = (0..4).filter_map(|_| world.allocator.allocate(&request).ok());
                        made.collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(live.len(), if size == 1000 { 10 } else { 2 });
        check_whole(&world, &live);
        live.into_iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
        world.assert_empty();
    }
}
