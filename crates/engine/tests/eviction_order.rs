//! Who goes, in which order, and how far a request may go.

mod common;

use common::{GIB, MIB, World, blocks_of, buffer, one_heap};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationRequest, AllocatorOptions,
    Error, Evict, Evictable, PoolCreateInfo, PoolId, ResourceKind, profile_info, profile_names,
};

type Resource = (Allocation, Evictable);

const SIZE: u64 = 64 << 10;

/// A pool of one full block of 16 allocations.
struct Full {
    world: World,
    pool: PoolId,
    all: Vec<Resource>,
}

impl Full {
    /// Makes them with these priorities; each is used in a frame of its own, in this order.
    fn new(algorithm: Algorithm, priorities: impl Fn(usize) -> f32) -> Self {
        let world = World::new(one_heap(GIB));
        let rules = PoolCreateInfo {
            block_size: Some(16 * SIZE),
            max_block_count: 1,
            algorithm,
            ..PoolCreateInfo::default()
        };
        let pool = world.allocator.create_pool(&rules).unwrap();
        let mut full = Self { world, pool, all: Vec::new() };
        for at in 0..16 {
            full.frame(at as u64 + 1);
            let made = full.world.allocator.allocate(&full.request(SIZE)).unwrap();
            let evictable = full.world.allocator.make_evictable(&made, priorities(at)).unwrap();
            full.all.push((made, evictable));
        }
        full
    }

    fn frame(&self, frame: u64) {
        self.world.allocator.set_frame(frame);
    }

    fn request(&self, size: u64) -> AllocationRequest {
        let mut request = buffer(size);
        request.create_info.pool = Some(self.pool);
        request.create_info.flags = Create::CAN_MAKE_OTHER_LOST;
        request
    }

    fn try_make(&self, request: &AllocationRequest) -> Option<Allocation> {
        let before = (self.world.allocator.statistics(), self.lost());
        let made = self.world.allocator.allocate(request);
        if let Err(error) = &made {
            assert_eq!(error.vk_result(), Some(-2));
            assert_eq!((self.world.allocator.statistics(), self.lost()), before, "it cost nobody");
        }
        self.world.allocator.validate().unwrap();
        made.ok()
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&at| self.all[at].1.is_lost()).collect()
    }
}

#[test]
fn the_least_recently_used_goes_first() {
    for algorithm in [Algorithm::Tlsf, Algorithm::Buddy] {
        let full = Full::new(algorithm, |_| 0.5);
        full.frame(100);
        full.all[0].1.touch();
        full.all[2].1.touch();
        full.frame(101);
        for (count, next) in [1, 3, 4, 5].into_iter().enumerate() {
            full.try_make(&full.request(SIZE)).unwrap();
            assert!(full.all[next].1.is_lost(), "{algorithm:?}: {:?}", full.lost());
            assert_eq!(full.lost().len(), count + 1);
        }
    }
}

#[test]
fn the_lowest_priority_goes_before_the_oldest() {
    let full = Full::new(Algorithm::Tlsf, |at| if at % 4 == 3 { 0.1 } else { 0.9 });
    full.frame(100);
    for expected in [3, 7, 11, 15, 0, 1] {
        full.try_make(&full.request(SIZE)).unwrap();
        assert!(full.all[expected].1.is_lost());
    }
    assert_eq!(full.lost(), [0, 1, 3, 7, 11, 15]);
}

#[test]
fn a_request_says_how_far_it_may_go() {
    let full = Full::new(Algorithm::Tlsf, |at| if at == 5 { 0.25 } else { 0.5 });
    full.frame(100);
    let with = |evict, priority| {
        let mut request = full.request(SIZE);
        (request.create_info.evict, request.create_info.priority) = (evict, priority);
        request
    };
    assert!(full.try_make(&with(Evict::Never, None)).is_none());
    assert!(full.try_make(&with(Evict::LowerPriority, Some(0.25))).is_none());
    full.try_make(&with(Evict::LowerPriority, None)).unwrap();
    assert_eq!(full.lost(), [5]);
    assert!(full.try_make(&with(Evict::LowerPriority, None)).is_none());
    assert!(full.try_make(&with(Evict::Frames(100), None)).is_none());
    full.try_make(&with(Evict::Frames(99), None)).unwrap();
    assert_eq!(full.lost(), [0, 5]);
    assert!(full.try_make(&with(Evict::Frames(99), None)).is_none(), "the next one is 98 old");
    let mut without = with(Evict::Idle, None);
    without.create_info.flags = Create::CAN_BECOME_LOST;
    assert!(full.try_make(&without).is_none());
    full.try_make(&with(Evict::Idle, None)).unwrap();
    assert_eq!(full.lost(), [0, 1, 5]);
}

#[test]
fn a_larger_request_takes_neighbours_and_no_more_than_it_needs() {
    for algorithm in [Algorithm::Tlsf, Algorithm::Buddy] {
        let full = Full::new(algorithm, |_| 0.5);
        full.frame(100);
        full.try_make(&full.request(4 * SIZE)).unwrap();
        assert_eq!(full.lost(), [0, 1, 2, 3], "{algorithm:?}");
        // The next oldest is kept from going by its neighbours, which are used again.
        [5, 6, 9, 10].iter().for_each(|&at| assert!(full.all[at].1.touch()));
        full.frame(101);
        let made = full.try_make(&full.request(4 * SIZE)).unwrap();
        let at = (made.offset / SIZE) as usize;
        let expected: Vec<usize> = (0..4).chain(at..at + 4).collect();
        assert_eq!(full.lost(), expected, "{algorithm:?}");
        assert_eq!(at, 11 + usize::from(algorithm == Algorithm::Buddy), "{algorithm:?}");
    }
}

#[test]
fn what_is_mapped_stays() {
    let full = Full::new(Algorithm::Tlsf, |_| 0.5);
    full.frame(100);
    full.world.allocator.map(full.all[0].0.id).unwrap();
    full.try_make(&full.request(SIZE)).unwrap();
    assert_eq!(full.lost(), [1]);
    assert!(full.try_make(&full.request(16 * SIZE)).is_none());
    assert_eq!(full.world.allocator.make_allocations_lost(Some(full.pool)).unwrap(), 14);
    assert!(!full.all[0].1.is_lost());
    full.world.allocator.unmap(full.all[0].0.id).unwrap();
    assert_eq!(full.world.allocator.make_allocations_lost(None).unwrap(), 1);
}

#[test]
fn what_moves_stays_and_is_found_where_it_has_moved() {
    use vkmem_engine::{DefragmentationInfo, MoveEnd, MoveOutcome};
    let full = Full::new(Algorithm::Tlsf, |_| 0.5);
    let allocator = &full.world.allocator;
    full.frame(100);
    for it in [0, 2, 4, 6] {
        drop(allocator.free(full.all[it].0.id).unwrap());
    }
    let info = DefragmentationInfo {
        pool: Some(full.pool),
        algorithm: vkmem_engine::DefragmentationAlgorithm::Full,
        ..DefragmentationInfo::default()
    };
    let mut run = allocator.begin_defragmentation(&info).unwrap();
    let moves = allocator.next_pass(&mut run, &|_| true);
    let source = moves[0].source;
    let at = full.all.iter().position(|it| it.0.id == source.id).unwrap();
    allocator.make_allocations_lost(None).unwrap();
    assert!(!full.all[at].1.is_lost(), "it moves");
    let end = allocator.end_pass(&mut run, &moves, &vec![MoveOutcome::Copy; moves.len()]);
    let MoveEnd::Moved(moved) = end.ends[0] else { panic!("{end:?}", end = end.ends) };
    assert_eq!(full.all[at].1.relocated(&moved), Ok(true));
    drop(end);
    allocator.end_defragmentation(run);
    assert_eq!(allocator.make_allocations_lost(None).unwrap(), 1);
    assert!(full.all[at].1.is_lost());
    assert_eq!(full.all[at].1.relocated(&moved), Ok(false));
    assert!(matches!(allocator.info(moved.id), Err(Error::UseAfterFree)));
}

#[test]
fn memory_of_the_heap_is_freed_when_no_block_has_room() {
    for profile in profile_names() {
        let info = profile_info(profile).unwrap();
        let limits = vec![8 * MIB; info.heaps.len()];
        let options = AllocatorOptions { heap_size_limits: limits, ..blocks_of(2 * MIB) };
        let world = World::with(info, &options);
        let allocator = &world.allocator;
        let one = |size, flags| {
            let mut request = buffer(size);
            request.requirements.memory_type_bits = 1;
            request.create_info.usage = vkmem_engine::MemoryUsage::Unknown;
            request.create_info.flags = flags;
            request
        };
        let mut all = Vec::new();
        for (frame, (size, flags)) in [
            (MIB, Create::empty()),
            (3 * MIB, Create::DEDICATED_MEMORY),
            (3 * MIB, Create::DEDICATED_MEMORY),
        ]
        .into_iter()
        .enumerate()
        {
            allocator.set_frame(frame as u64 + 1);
            let made = allocator.allocate(&one(size, flags)).unwrap();
            let evictable = allocator.make_evictable(&made, 0.5).unwrap();
            all.push((made, evictable));
        }
        let lost = || all.iter().map(|it| it.1.is_lost()).collect::<Vec<_>>();
        let evicting = |size| one(size, Create::CAN_MAKE_OTHER_LOST | Create::DEDICATED_MEMORY);
        // Too large: all of the heap would not do while the newest is in use.
        assert!(allocator.allocate(&evicting(7 * MIB)).is_err());
        assert_eq!(lost(), [false; 3], "{profile}");
        allocator.set_frame(10);
        assert!(all[2].1.touch());
        // The block alone is not enough, and with the dedicated memory it is not needed.
        let first = allocator.allocate(&evicting(3 * MIB)).unwrap();
        assert_eq!(lost(), [false, true, false], "{profile}");
        assert!(allocator.allocate(&evicting(5 * MIB)).is_err());
        assert_eq!(lost(), [false, true, false], "{profile}");
        let second = allocator.allocate(&evicting(2 * MIB)).unwrap();
        assert_eq!(lost(), [true, true, false], "{profile}");
        for it in [first, second] {
            drop(allocator.free(it.id).unwrap());
        }
        for (made, evictable) in all {
            assert_eq!(evictable.end(), allocator.free(made.id).is_err());
        }
        world.assert_empty();
    }
}

#[test]
fn a_budget_that_shrinks_is_kept() {
    let options = AllocatorOptions { frames_in_use: 2, ..blocks_of(MIB) };
    let world = World::with(one_heap(64 * MIB), &options);
    let allocator = &world.allocator;
    let mut all = Vec::new();
    for frame in 1..=40 {
        allocator.set_frame(frame);
        let made = allocator.allocate(&buffer(MIB / 2)).unwrap();
        all.push((made, allocator.make_evictable(&made, 0.5).unwrap()));
    }
    assert_eq!(allocator.evict_over_budget(), 0);
    // The budget is 80 % of what a heap may have.
    world.device.occupy(0, 40 * MIB);
    let budget = || allocator.heap_budgets()[0];
    allocator.refresh_budget();
    let before = budget();
    let freed = allocator.evict_over_budget();
    let after = budget();
    if before.usage > before.budget {
        assert!(freed > 0 && after.usage <= after.budget, "{before:?} {after:?}");
    }
    let lost = all.iter().filter(|it| it.1.is_lost()).count();
    assert!(all[..lost].iter().all(|it| it.1.is_lost()), "the oldest");
    let statistics = allocator.eviction_statistics(0);
    assert_eq!((statistics.lost_count, statistics.loss_count), (lost as u64, lost as u64));
    assert_eq!(statistics.evictable_bytes, (40 - lost as u64) * MIB / 2);
    for (made, evictable) in all {
        assert_eq!(allocator.end_evictable(evictable), allocator.free(made.id).is_err());
    }
    world.assert_empty();
}

#[test]
fn kinds_that_share_no_page_are_kept_apart() {
    let mut info = one_heap(GIB);
    info.limits.buffer_image_granularity = 4096;
    let world = World::new(info);
    let rules = PoolCreateInfo {
        block_size: Some(64 << 10),
        max_block_count: 1,
        ..PoolCreateInfo::default()
    };
    let pool = world.allocator.create_pool(&rules).unwrap();
    let request = |size, kind| {
        let mut request = buffer(size);
        request.kind = kind;
        request.create_info.pool = Some(pool);
        request.create_info.flags = Create::CAN_MAKE_OTHER_LOST;
        request
    };
    let mut all = Vec::new();
    for frame in 0..64 {
        world.allocator.set_frame(frame);
        let made = world.allocator.allocate(&request(1024, ResourceKind::Buffer)).unwrap();
        all.push((made, world.allocator.make_evictable(&made, 0.5).unwrap()));
    }
    world.allocator.set_frame(100);
    let image = request(1024, ResourceKind::ImageOptimal);
    let made = world.allocator.allocate(&image).unwrap();
    world.allocator.validate().unwrap();
    let page = made.offset / 4096;
    let lost: Vec<_> = all.iter().filter(|it| it.1.is_lost()).map(|it| it.0.offset).collect();
    assert_eq!(lost, [0, 1024, 2048, 3072], "all of its page, at {page}");
}
