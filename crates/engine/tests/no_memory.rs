//! Without host memory: each call returns an error, nothing aborts, and frees still work.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{KIB, MIB, Random, World, blocks_of, buffer, flagged, one_heap};
use vkmem_engine::suballocator::{
    Algorithm, BlockIndex, Buddy, Linear, RegionRequest, SlotKey, Suballocator, Tlsf,
};
use vkmem_engine::{
    AllocationCreateFlags as Create, AllocatorOptions, DebugOptions, Describe, Description, Error,
    PoolCreateInfo, PoolId, QuarantineLimit, ResourceKind, Strategy, VirtualBlock, VirtualRequest,
};

/// A global allocator that refuses requests of this thread above a limit.
struct Limited;

thread_local! {
    /// The limit in bytes.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

// SAFETY: all calls are forwarded to the system's allocator or return null, which an allocator may.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LIMIT.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller fulfils the contract of `alloc`, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller fulfils the contract of `dealloc`, which is that of the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LIMIT.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller fulfils the contract of `realloc`, which is that of the system's allocator.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Calls `run` while requests of more than `most` bytes are refused.
fn limited<R>(most: usize, run: impl FnOnce() -> R) -> R {
    LIMIT.set(most);
    let result = run();
    LIMIT.set(usize::MAX);
    result
}

fn region(size: u64, alignment: u64) -> RegionRequest {
    let (kind, strategy) = (ResourceKind::Buffer, Strategy::Balanced);
    RegionRequest { size, alignment, kind, upper: false, strategy }
}

/// Runs random calls on one block, half of them without any host memory; returns the failed requests.
fn run_without_memory(mut subject: impl Suballocator, seed: u64) -> u64 {
    const SIZE: u64 = 1 << 22;
    let mut random = Random(seed);
    let block = subject.add_block(SIZE);
    let mut live: Vec<(SlotKey, u64, u64)> = Vec::new();
    let mut failures = 0;
    for step in 0u64..6000 {
        let most = if step / 200 % 2 == 0 { usize::MAX } else { 0 };
        let grows = step / 1000 % 2 == 0;
        if live.is_empty() || random.below(10) < if grows { 8 } else { 2 } {
            let request = region(random.size(10), 1 << random.below(5));
            let placed = limited(most, || subject.allocate(&request));
            match placed {
                Some(it) => live.push((it.key, it.offset, request.size)),
                None => failures += u64::from(subject.take_host_memory_failure()),
            }
        } else {
            let (key, _, size) = live.swap_remove(random.below(live.len() as u64) as usize);
            if random.one_in(2) {
                let freed = limited(most, || subject.free(key)).expect("it lives");
                assert_eq!(freed.info.size, size);
            } else {
                limited(most, || subject.release(key)).expect("it lives");
            }
            assert!(limited(most, || subject.free(key)).is_none(), "freed twice");
        }
        if step % 16 == 0 {
            subject.validate().unwrap();
            let mut places: Vec<_> = live.iter().map(|it| (it.1, it.2)).collect();
            places.sort_unstable();
            assert!(places.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
        }
    }
    for (key, ..) in live {
        limited(0, || subject.free(key)).expect("it lives");
    }
    subject.validate().unwrap();
    assert!(subject.is_block_empty(block));
    if seed.is_multiple_of(2) {
        limited(0, || subject.remove_block(block));
        subject.validate().unwrap();
        subject.add_block(SIZE);
    }
    // Everything is merged again once there is memory.
    let whole = subject.allocate(&region(SIZE, 1)).expect("an empty block");
    assert_eq!((whole.block, whole.offset), (BlockIndex(0), 0));
    subject.validate().unwrap();
    failures
}

#[test]
fn suballocators_place_nothing_and_free_everything() {
    let mut failures = [0; 5];
    for seed in 0..6 {
        failures[0] += run_without_memory(Tlsf::new(16, 1), seed);
        failures[1] += run_without_memory(Tlsf::new(1, 1).deferring_from(0), seed);
        failures[2] +=
            run_without_memory(Tlsf::new(1, 1).deferring_from(0).with_generations_apart(), seed);
        failures[3] += run_without_memory(Linear::new(1, 1), seed);
        failures[4] += run_without_memory(Buddy::new(16, 1), seed);
    }
    assert!(failures.iter().all(|&it| it > 0), "{failures:?}");
}

#[test]
fn virtual_blocks_say_so() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(1 << 40, algorithm).unwrap();
        let request =
            VirtualRequest { size: 100, alignment: 1, upper: false, strategy: Strategy::Balanced };
        let mut keys = Vec::with_capacity(100_000);
        let error = limited(0, || {
            loop {
                match block.allocate(&request) {
                    Ok(made) => keys.push(made.key),
                    Err(error) => break error,
                }
            }
        });
        assert_eq!(error, Error::NoHostMemory("a virtual allocation"), "{algorithm:?}");
        assert_eq!(error.vk_result(), Some(-1));
        let many = std::iter::repeat_n(request, 1000);
        assert_eq!(limited(0, || block.allocate_many(many.clone(), |_| ())), Err(error));
        limited(0, || keys.iter().for_each(|&key| block.free(key).unwrap()));
        block.validate().unwrap();
        block.clear();
        limited(4096, || block.reserve(1 << 20));
        let mut placed = Vec::new();
        block.allocate_many(many, |it| placed.push(it.key)).unwrap();
        let mut freed = placed.iter().copied();
        assert_eq!(limited(0, || block.free_many(freed.clone())), Err(Error::TooManyItems(0)));
        assert_eq!(block.live().0, 1000);
        let text = limited(1024, || block.build_stats_string(true, &|_| None));
        assert!(matches!(text, Err(Error::NoHostMemory(_))), "{text:?}");
        assert!(block.build_stats_string(true, &|_| None).is_ok());
        assert!(freed.all(|key| block.free(key).is_ok()));
        block.validate().unwrap();
    }
}

struct Nothing;

impl Describe for Nothing {
    fn allocation(&self, _: vkmem_engine::AllocationId) -> Description<'_> {
        Description::default()
    }

    fn pool(&self, _: PoolId) -> Option<&str> {
        None
    }
}

/// More bytes than a call needs by itself, fewer than thousands of items take.
const MOST: usize = 16 << 10;

#[test]
fn the_allocator_says_so() {
    let world = World::with(one_heap(64 * MIB), &blocks_of(4 * MIB));
    let allocator = &world.allocator;
    let made: Vec<_> = (0..3000).map(|_| allocator.allocate(&buffer(1000)).unwrap()).collect();
    let name = "long ".repeat(1 << 18);
    let named = made[7].id;
    allocator.set_name(named, Some("short")).unwrap();
    let error = limited(MOST, || allocator.set_name(named, Some(&name))).unwrap_err();
    assert_eq!(error, Error::NoHostMemory("a name"));
    assert_eq!(allocator.name(named), Ok(Some("short".into())), "nothing was changed");
    allocator.set_name(named, Some(&name)).unwrap();
    assert_eq!(limited(MOST, || allocator.name(named)), Err(error));
    for detailed in [true, false] {
        let text = limited(MOST, || allocator.build_stats_string(detailed, &Nothing));
        assert_eq!(text.is_err(), detailed, "{text:?}");
    }
    let requests = vec![buffer(16); 10_000];
    let failed = limited(MOST, || allocator.allocate_many(&requests)).unwrap_err();
    assert_eq!(failed.error, Error::TooManyItems(10_000));
    let rules = PoolCreateInfo {
        block_size: Some(4 * KIB),
        min_block_count: 1 << 28,
        ..PoolCreateInfo::default()
    };
    let error = limited(MOST, || allocator.create_pool(&rules)).unwrap_err();
    assert!(matches!(error, Error::NoHostMemory(_)), "{error:?}");
    // Freeing works with almost no memory.
    let ids: Vec<_> = made.iter().map(|it| it.id).collect();
    let freed = limited(512, || allocator.free_many(&ids));
    assert_eq!(freed.names.len(), 1);
    drop(freed);
    world.assert_empty();
}

#[test]
fn an_arena_without_memory_for_its_regions_takes_no_blocks_instead() {
    let world = World::with(one_heap(64 * MIB), &blocks_of(4 * MIB));
    let first = world.allocator.allocate(&buffer(100)).unwrap();
    let calls = world.allocate_calls();
    let mut made = Vec::with_capacity(100_000);
    // A table of 4096 regions is larger.
    let error = limited(64 << 10, || {
        loop {
            match world.allocator.allocate(&buffer(16)) {
                Ok(it) => made.push(it),
                Err(error) => break error,
            }
        }
    });
    assert_eq!(error, Error::NoHostMemory("an allocation"));
    assert!(made.len() > 1000, "{}", made.len());
    assert_eq!(world.allocate_calls(), calls);
    world.allocator.validate().unwrap();
    limited(512, || made.iter().for_each(|it| drop(world.allocator.free(it.id).unwrap())));
    made.clear();
    // Dedicated memory has a table, too; its lack of memory is detected before the driver is called.
    let dedicated = flagged(16, Create::DEDICATED_MEMORY);
    let calls = world.allocate_calls();
    assert!(limited(0, || world.allocator.allocate(&dedicated)).is_err());
    assert_eq!(world.allocate_calls(), calls);
    drop(world.allocator.free(first.id).unwrap());
    world.assert_empty();
}

/// Without room for it in the tables of the quarantine, memory is free at once.
#[test]
fn a_quarantine_without_host_memory_holds_nothing_back() {
    let debug = DebugOptions {
        margin: 16,
        quarantine: Some(QuarantineLimit::Bytes(MIB)),
        ..DebugOptions::default()
    };
    let options = AllocatorOptions { debug, ..blocks_of(MIB) };
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let world = World::with(one_heap(64 * MIB), &options);
        let all: Vec<_> =
            (0..500).map(|_| world.allocator.allocate(&flagged(100, flags)).unwrap()).collect();
        for it in &all {
            // Small enough for what a free itself takes, not for a table of some hundreds.
            limited(2000, || drop(world.allocator.free(it.id).unwrap()));
        }
        let held = world.allocator.statistics().quarantined_count;
        assert!(held > 0 && held < 200, "{held}");
        world.allocator.validate().unwrap();
        let made = world.allocator.allocate(&flagged(100, flags)).unwrap();
        if !made.is_dedicated() {
            let marked = limited(0, || world.allocator.note_filled(made.id, 0));
            assert_eq!(marked, Err(Error::NoHostMemory("a margin")));
            world.allocator.note_filled(made.id, 0).unwrap();
        }
        let listed = limited(0, || world.allocator.guarded_ranges(!0, None, false).map(drop));
        assert!(matches!(listed, Err(Error::NoHostMemory(_))));
        world.allocator.end_quarantines();
        drop(world.allocator.free(made.id).unwrap());
        world.allocator.end_quarantines();
        world.assert_empty();
    }
}
/// Requests that take others away, in every way, without host memory for lists of more than some sizes.
#[test]
fn a_search_for_whom_to_take_away_without_memory_costs_nobody() {
    let dedicated = Create::DEDICATED_MEMORY;
    for (algorithm, flags) in [
        (Algorithm::Tlsf, Create::empty()),
        (Algorithm::Buddy, Create::empty()),
        (Algorithm::Linear, Create::empty()),
        (Algorithm::Tlsf, dedicated),
    ] {
        let mut failures = 0;
        for most in (9..19).map(|bits| 1 << bits) {
            let world = World::with(
                one_heap(64 * MIB),
                &AllocatorOptions { heap_size_limits: vec![8 * MIB], ..blocks_of(MIB) },
            );
            let allocator = &world.allocator;
            let rules = PoolCreateInfo {
                block_size: Some(4 * MIB),
                max_block_count: 1,
                algorithm,
                ..PoolCreateInfo::default()
            };
            let pool = (flags != dedicated).then(|| allocator.create_pool(&rules).unwrap());
            let size = if flags == dedicated { 8 * KIB } else { 4 * KIB };
            let request = |size| {
                let mut request = flagged(size, flags | Create::CAN_MAKE_OTHER_LOST);
                request.create_info.pool = pool;
                request
            };
            let mut all = Vec::new();
            for frame in 1..=1024 {
                allocator.set_frame(frame);
                let made = allocator.allocate(&request(size)).unwrap();
                all.push((made, allocator.make_evictable(&made, 0.5).unwrap()));
            }
            allocator.set_frame(9999);
            for at in [0, 1] {
                allocator.set_name(all[at].0.id, Some("a name")).unwrap();
            }
            let lost = || all.iter().filter(|it| it.1.is_lost()).count();
            let made = limited(most, || allocator.allocate(&request(MIB)));
            match &made {
                Ok(_) => assert_eq!(lost() as u64, MIB / size, "{algorithm:?}"),
                Err(_) => assert_eq!(lost(), 0, "{algorithm:?} with {most} bytes"),
            }
            failures += u64::from(made.is_err());
            allocator.validate().unwrap();
            // What could not be found without memory is found with it.
            let made = made.or_else(|_| allocator.allocate(&request(MIB))).unwrap();
            assert_eq!(lost() as u64, MIB / size, "{algorithm:?}");
            let before = lost();
            let taken = limited(most, || allocator.make_allocations_lost(None)).unwrap();
            assert_eq!(lost() - before, taken);
            assert_eq!(allocator.make_allocations_lost(None), Ok(all.len() - before - taken));
            allocator.validate().unwrap();
            drop(allocator.free(made.id).unwrap());
            all.into_iter().for_each(|it| assert!(it.1.end()));
            pool.into_iter().for_each(|it| allocator.destroy_pool(it).unwrap());
            world.assert_empty();
        }
        assert!((1..10).contains(&failures), "{algorithm:?}: {failures}");
    }
}

#[test]
fn what_cannot_be_made_evictable_without_memory_is_not() {
    let world = World::new(one_heap(64 * MIB));
    let made: Vec<_> = (0..300).map(|_| world.allocator.allocate(&buffer(64)).unwrap()).collect();
    for most in [512, 2048, 4096, 64 << 10] {
        let error = limited(most, || {
            let all = made.iter().map(|it| world.allocator.make_evictable(it, 0.5).map(drop));
            all.filter_map(Result::err).next()
        });
        assert!(matches!(error, None | Some(Error::NoHostMemory(_))), "{error:?}");
        assert_eq!(error.is_some(), most <= 4096, "{most}");
    }
    made.iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
    world.assert_empty();
}
