//! Margins, quarantine, and limits that are stricter than the device's: one rule a test.

mod common;

use std::sync::{Arc, Mutex};

use common::{GIB, KIB, MIB, World, blocks_of, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationId, AllocatorOptions,
    DebugOptions, DedicatedTarget, Describe, Description, Error, GuardBands, GuardedUse,
    PoolCreateInfo, PoolId, QuarantineLimit, QuarantineOwner, Quarantined, ResourceKind,
    profile_info, profile_names,
};

const MARGIN: u64 = 16;

fn margins() -> DebugOptions {
    DebugOptions { margin: MARGIN, ..DebugOptions::default() }
}

fn quarantine(limit: QuarantineLimit) -> DebugOptions {
    DebugOptions { quarantine: Some(limit), ..margins() }
}

fn world(debug: DebugOptions) -> World {
    World::with(one_heap(GIB), &AllocatorOptions { debug, ..blocks_of(MIB) })
}

fn pool(world: &World, algorithm: Algorithm, block: u64, blocks: u32) -> PoolId {
    let rules = PoolCreateInfo {
        block_size: Some(block),
        max_block_count: blocks,
        algorithm,
        ..PoolCreateInfo::default()
    };
    world.allocator.create_pool(&rules).unwrap()
}

fn make(world: &World, pool: PoolId, size: u64) -> Result<Allocation, Error> {
    let mut request = buffer(size);
    request.create_info.pool = Some(pool);
    world.allocator.allocate(&request)
}

struct Nothing;

impl Describe for Nothing {
    fn allocation(&self, _: AllocationId) -> Description<'_> {
        Description::default()
    }

    fn pool(&self, _: PoolId) -> Option<&str> {
        None
    }
}

/// The margins of one allocation have the neighbours that a walk over all finds.
#[test]
fn neighbours_of_one_are_those_of_a_walk() {
    for algorithm in Algorithm::ALL {
        let world = world(quarantine(QuarantineLimit::Bytes(40 * KIB)));
        let pool = pool(&world, algorithm, MIB, 2);
        let allocator = &world.allocator;
        let mut live: Vec<Allocation> = Vec::new();
        for step in 0..600_usize {
            if step % 3 == 2 {
                let gone = live.swap_remove(step * 7 % live.len());
                drop(allocator.free(gone.id).unwrap());
            } else if let Ok(made) = make(&world, pool, 200 + (step as u64 * 37) % 3000) {
                allocator.note_filled(made.id, 0).unwrap();
                live.push(made);
            }
            if step % 50 != 49 {
                continue;
            }
            let all = allocator.guarded_ranges(!0, Some(pool), false).unwrap();
            let mut quarantined = 0;
            for range in all.iter().flat_map(|it| &it.ranges) {
                let id = range.id.unwrap();
                match allocator.guarded_ranges_of(id, true) {
                    Ok(one) => assert!(one.ranges.contains(range), "{algorithm:?} {step}"),
                    Err(_) => quarantined += 1,
                }
            }
            assert!(quarantined > 0, "{algorithm:?} {step}");
        }
    }
}

/// M1: `TestDebugMargin`.
#[test]
fn margins_lie_between_neighbours_on_each_device() {
    for profile in profile_names() {
        for algorithm in Algorithm::ALL {
            let options = AllocatorOptions { debug: margins(), ..AllocatorOptions::default() };
            let world = World::with(profile_info(profile).unwrap(), &options);
            let memory_type_index =
                world.allocator.find_memory_type_index(!0, &Default::default(), Default::default());
            let rules = PoolCreateInfo {
                memory_type_index: memory_type_index.unwrap(),
                block_size: Some(256 * KIB),
                algorithm,
                ..PoolCreateInfo::default()
            };
            let pool = world.allocator.create_pool(&rules).unwrap();
            let mut all: Vec<_> =
                (1..=10).map(|at| make(&world, pool, 256 * at).unwrap()).collect();
            all.sort_by_key(|it| it.offset);
            assert!(all[0].offset >= MARGIN);
            for two in all.windows(2) {
                assert!(two[1].offset >= two[0].offset + two[0].size + 2 * MARGIN);
            }
            let dump = world.allocator.build_stats_string(true, &Nothing).unwrap();
            assert!(dump.contains("\"Debug\":{\"MarginCount\":20,"), "{dump}");
            let unused = 256 * KIB - 256 * 55;
            assert!(dump.contains(&format!("\"UnusedBytes\":{unused}")), "{dump}");
            let statistics = world.allocator.statistics_of_pool(pool).unwrap();
            assert_eq!((statistics.allocation_bytes, statistics.margin_count), (256 * 55, 20));
            assert_eq!(
                statistics.block_bytes,
                statistics.allocation_bytes
                    + statistics.margin_bytes
                    + statistics.unused_range_bytes
            );
            all.iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
            world.allocator.destroy_pool(pool).unwrap();
            world.assert_empty();
        }
    }
}

#[test]
fn a_block_holds_what_fits_with_its_margins() {
    for algorithm in Algorithm::ALL {
        let world = world(margins());
        let pool = pool(&world, algorithm, MIB, 1);
        let most = MIB - 2 * MARGIN;
        let whole = make(&world, pool, most).unwrap();
        assert_eq!((whole.offset, whole.size), (MARGIN, most));
        drop(world.allocator.free(whole.id).unwrap());
        match make(&world, pool, most + 4).unwrap_err() {
            Error::OutOfDeviceMemory { figures, reason } => {
                assert!(figures.can_never_succeed, "{reason}");
                assert_eq!(
                    (figures.size, &*reason),
                    (most + 4, "larger than a block, with its margins")
                );
            }
            other => panic!("{other:?}"),
        }
        world.allocator.destroy_pool(pool).unwrap();
    }
}

#[test]
fn both_ends_of_a_double_stack_have_margins() {
    let world = world(margins());
    let pool = pool(&world, Algorithm::Linear, 64 * KIB, 1);
    let mut request = buffer(1000);
    request.create_info.pool = Some(pool);
    let low = world.allocator.allocate(&request).unwrap();
    request.create_info.flags = Create::UPPER_ADDRESS;
    let high = world.allocator.allocate(&request).unwrap();
    let next = world.allocator.allocate(&request).unwrap();
    assert_eq!(low.offset, MARGIN);
    assert!(high.offset + high.size + MARGIN <= 64 * KIB);
    assert!(next.offset + next.size + 2 * MARGIN <= high.offset);
}

#[test]
fn a_payload_keeps_its_alignment_and_its_map_address() {
    let world = world(margins());
    for alignment in [1, 16, 256, 64 * KIB] {
        let mut request = mapped(1000);
        request.requirements.alignment = alignment;
        let made = world.allocator.allocate(&request).unwrap();
        assert!(made.offset.is_multiple_of(alignment) && made.offset >= MARGIN);
        assert_eq!(world.allocator.info(made.id), Ok(made));
        assert_eq!(world.allocator.map(made.id).ok(), made.mapped);
        world.allocator.flush(made.id, 0, made.size).unwrap();
        assert!(world.allocator.flush(made.id, 0, made.size + 1).is_err());
    }
}

#[test]
fn memory_of_its_own_has_margins_where_the_size_is_free() {
    let world = world(margins());
    let target = Some(DedicatedTarget::Buffer(7));
    let mut request = flagged(5000, Create::DEDICATED_MEMORY);
    request.dedicated = target;
    let made = world.allocator.allocate(&request).unwrap();
    let memory = world.device.memory(made.memory).unwrap();
    // A multiple of 256 bytes, so that a buffer can lie over all of it.
    assert_eq!((made.offset, made.size, memory.size), (MARGIN, 5000, 5120));
    assert_eq!(memory.dedicated, None, "a resource to which memory is dedicated has all of it");

    let mut required = request;
    required.requirements.requires_dedicated = true;
    let mut chained = request;
    chained.create_info.memory_allocate_next = 0x1000;
    let mut exported = request;
    exported.create_info.export_handle_types = 1;
    for request in [required, chained, exported] {
        let made = world.allocator.allocate(&request).unwrap();
        let memory = world.device.memory(made.memory).unwrap();
        assert_eq!((made.offset, memory.size, memory.dedicated), (0, 5000, target));
    }
    let statistics = world.allocator.statistics();
    assert_eq!((statistics.margin_count, statistics.margin_bytes), (2, 120));
    assert_eq!(statistics.allocation_bytes, 20_000);
}

#[test]
fn memory_that_goes_to_quarantine_is_dedicated_to_nobody() {
    let quarantine = Some(QuarantineLimit::Bytes(MIB));
    let world = world(DebugOptions { quarantine, ..DebugOptions::default() });
    let mut request = flagged(5000, Create::DEDICATED_MEMORY);
    request.dedicated = Some(DedicatedTarget::Buffer(7));
    let made = world.allocator.allocate(&request).unwrap();
    assert_eq!(world.device.memory(made.memory).unwrap().dedicated, None);
    request.requirements.requires_dedicated = true;
    let made = world.allocator.allocate(&request).unwrap();
    assert_eq!(world.device.memory(made.memory).unwrap().dedicated, request.dedicated);
}

#[test]
fn the_memory_of_an_allocation_is_told_with_its_margins() {
    for debug in [margins(), DebugOptions::default()] {
        let world = world(debug);
        for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
            let made = world.allocator.allocate(&flagged(1000, flags)).unwrap();
            for is_filled in [false, true] {
                let found = world.allocator.hold_memory_of(made.id).unwrap();
                assert_eq!((found.id, found.memory.handle()), (made.id, made.memory));
                assert_eq!((found.offset, found.size), (made.offset, made.size));
                let has_margins = debug.margin != 0;
                // What the region, or the memory object, was rounded up by belongs to the margin.
                let granule = if made.is_dedicated() { 256 } else { 16 };
                let whole = 1000 + 2 * MARGIN;
                let rounding = whole.next_multiple_of(granule) - whole;
                let slack = if is_filled { 24 } else { 0 };
                let bands = GuardBands { front: MARGIN, slack, back: MARGIN + rounding };
                let expected = if has_margins { bands } else { GuardBands::default() };
                assert_eq!(found.bands, expected, "{flags:?}");
                assert_eq!(found.is_filled, is_filled && has_margins);
                world.allocator.note_filled(made.id, 24).unwrap();
            }
            drop(world.allocator.free(made.id).unwrap());
            assert!(world.allocator.hold_memory_of(made.id).is_err());
        }
    }
}

#[test]
fn a_pool_says_otherwise_than_its_allocator() {
    for (of_allocator, of_pool) in
        [(margins(), DebugOptions::default()), (Default::default(), margins())]
    {
        let world = world(of_allocator);
        let rules = PoolCreateInfo { debug: Some(of_pool), ..PoolCreateInfo::default() };
        let pool = world.allocator.create_pool(&rules).unwrap();
        let here = make(&world, pool, 100).unwrap();
        let there = world.allocator.allocate(&buffer(100)).unwrap();
        assert_eq!((here.offset, there.offset), (of_pool.margin, of_allocator.margin));
    }
}

#[test]
fn options_that_cannot_be_are_refused_in_one_line() {
    let refused = |debug: DebugOptions, reason: &str| {
        let world = World::new(one_heap(GIB));
        let options = AllocatorOptions { debug, ..AllocatorOptions::default() };
        let error = Error::InvalidArgument(reason.into());
        let of_allocator = vkmem_engine::Allocator::new(world.device.clone(), &options).err();
        assert_eq!(of_allocator.as_ref(), Some(&error));
        let rules = PoolCreateInfo { debug: Some(debug), ..PoolCreateInfo::default() };
        assert_eq!(world.allocator.create_pool(&rules), Err(error));
    };
    let margin = |margin| DebugOptions { margin, ..DebugOptions::default() };
    refused(margin(6), "margin is 6, not a multiple of 4 bytes");
    let huge = Error::InvalidArgument(String::new());
    let options = AllocatorOptions { debug: margin(u64::MAX - 3), ..AllocatorOptions::default() };
    let made = vkmem_engine::Allocator::new(World::new(one_heap(GIB)).device, &options).err();
    assert_eq!(made.map(|it| std::mem::discriminant(&it)), Some(std::mem::discriminant(&huge)));
    let granularity = |it| DebugOptions { min_granularity: Some(it), ..DebugOptions::default() };
    refused(granularity(0), "min_granularity is 0, not a power of two");
    refused(granularity(48), "min_granularity is 48, not a power of two");
    let held = |it| DebugOptions { quarantine: Some(it), ..DebugOptions::default() };
    refused(held(QuarantineLimit::Bytes(0)), "a quarantine of 0 bytes: leave it out for none");
    refused(held(QuarantineLimit::Frames(0)), "a quarantine of 0 frames: leave it out for none");

    let world = World::new(one_heap(GIB));
    let rules = PoolCreateInfo {
        block_size: Some(MIB),
        debug: Some(DebugOptions { always_dedicated: true, ..DebugOptions::default() }),
        ..PoolCreateInfo::default()
    };
    assert!(matches!(world.allocator.create_pool(&rules), Err(Error::InvalidArgument(_))));
}

#[test]
fn always_dedicated_leaves_no_allocation_in_a_block() {
    let world = world(DebugOptions { always_dedicated: true, ..margins() });
    assert!(world.allocator.allocate(&buffer(100)).unwrap().is_dedicated());
    let limited = pool(&world, Algorithm::Tlsf, MIB, 0);
    assert!(!make(&world, limited, 100).unwrap().is_dedicated());
    let never = world.allocator.allocate(&flagged(100, Create::NEVER_ALLOCATE));
    assert!(never.unwrap_err().is_shortage(), "there is no block");
}

#[test]
fn min_granularity_keeps_kinds_apart() {
    let page = 64 * KIB;
    let debug = DebugOptions { min_granularity: Some(page), ..DebugOptions::default() };
    for (algorithm, ignores) in Algorithm::ALL.into_iter().flat_map(|it| [(it, false), (it, true)])
    {
        let world = world(debug);
        let rules = PoolCreateInfo {
            block_size: Some(MIB),
            algorithm,
            ignore_buffer_image_granularity: ignores,
            ..PoolCreateInfo::default()
        };
        let pool = world.allocator.create_pool(&rules).unwrap();
        let first = make(&world, pool, 1000).unwrap();
        let mut image = buffer(1000);
        (image.kind, image.create_info.pool) = (ResourceKind::ImageOptimal, Some(pool));
        let second = world.allocator.allocate(&image).unwrap();
        assert_eq!(first.offset / page == second.offset / page, ignores, "{algorithm:?}");
    }
}

#[test]
fn ranges_name_their_allocation_and_its_neighbours() {
    for algorithm in Algorithm::ALL {
        let world = world(margins());
        let pool = pool(&world, algorithm, MIB, 1);
        let all: Vec<_> = (0..3).map(|_| make(&world, pool, 100).unwrap()).collect();
        let allocator = &world.allocator;
        assert!(allocator.guarded_ranges(!0, Some(pool), false).unwrap().is_empty());
        // The last byte of each is no part of its buffer.
        all.iter().for_each(|it| allocator.note_filled(it.id, 1).unwrap());
        let rounding = match algorithm {
            Algorithm::Tlsf | Algorithm::Linear => 144 - 132,
            Algorithm::Buddy => 256 - 132,
        };
        let mut order: Vec<_> = all.iter().map(|it| (it.offset, it.id)).collect();
        order.sort_unstable_by_key(|it| it.0);
        let id = |at: usize| Some(order.get(at)?.1);
        let listed = allocator.guarded_ranges(1, None, false).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].memory.handle(), listed[0].memory.size()), (all[0].memory, MIB));
        let mut expected = Vec::new();
        for (at, &(offset, it)) in order.iter().enumerate() {
            let neighbours = [at.checked_sub(1).and_then(id), id(at + 1)];
            let front = (offset - MARGIN, MARGIN, -MARGIN.cast_signed(), GuardedUse::FrontMargin);
            let back = (offset + 99, 1 + MARGIN + rounding, 99, GuardedUse::BackMargin);
            for (start, size, from_start, is) in [front, back] {
                expected.push((start, size, from_start, is, Some(it), neighbours));
            }
        }
        let plain = |it: &vkmem_engine::GuardedRange| {
            (it.offset, it.size, it.from_start, it.is, it.id, it.neighbours)
        };
        assert_eq!(listed[0].ranges.iter().map(plain).collect::<Vec<_>>(), expected);
        let one = allocator.guarded_ranges_of(order[1].1, true).unwrap();
        assert_eq!(one.ranges.iter().map(plain).collect::<Vec<_>>(), expected[2..4]);
        let one = allocator.guarded_ranges_of(order[1].1, false).unwrap();
        assert_eq!(one.ranges.len(), 2);
        assert!(one.ranges.iter().all(|it| it.neighbours == [None; 2] && allocator.is_guarded(it)));
        assert!(one.memory.map().is_ok(), "the test's memory is host-visible");

        // What is about to be overwritten is left out, until it is noted again.
        assert_eq!(allocator.note_unfilled(order[1].1), Some(1));
        assert_eq!(allocator.note_unfilled(order[1].1), None);
        assert!(one.ranges.iter().all(|it| !allocator.is_guarded(it)));
        assert_eq!(allocator.guarded_ranges(1, None, false).unwrap()[0].ranges.len(), 4);
        allocator.note_filled(order[1].1, 1).unwrap();
        assert!(one.ranges.iter().all(|it| allocator.is_guarded(it)));
        // So is what has become contents since.
        allocator.end_slack(order[1].1);
        assert_eq!(one.ranges.iter().filter(|it| allocator.is_guarded(it)).count(), 1);
        let back = allocator.guarded_ranges_of(order[1].1, false).unwrap().ranges[1];
        assert_eq!((back.from_start, back.size), (100, MARGIN + rounding));

        drop(allocator.free(order[1].1).unwrap());
        assert!(one.ranges.iter().all(|it| !allocator.is_guarded(it)));
        assert_eq!(allocator.note_filled(order[1].1, 0), Err(Error::UseAfterFree));
        assert!(allocator.guarded_ranges_of(order[1].1, false).is_err());
        let unused = allocator.guarded_ranges(!0, Some(pool), true).unwrap();
        let unused = unused[0].ranges.iter().filter(|it| it.is == GuardedUse::Unused);
        assert!(unused.clone().count() > 0 && unused.clone().all(|it| it.id.is_none()));
    }
}

/// Notes what leaves the quarantine.
#[derive(Default)]
struct Left(Mutex<Vec<Quarantined>>);

impl QuarantineOwner for Left {
    fn leaving(&self, allocations: &[Quarantined]) {
        self.0.lock().unwrap().extend_from_slice(allocations);
    }
}

impl Left {
    fn watch(world: &World) -> Arc<Self> {
        let left = Arc::new(Self::default());
        world.allocator.set_quarantine_owner(Some(left.clone()));
        left
    }

    fn ids(&self) -> Vec<AllocationId> {
        self.0.lock().unwrap().drain(..).map(|it| it.id).collect()
    }
}

#[test]
fn freed_memory_stays_until_as_many_bytes_were_freed() {
    for algorithm in Algorithm::ALL {
        let world = world(quarantine(QuarantineLimit::Bytes(3000)));
        let left = Left::watch(&world);
        let pool = pool(&world, algorithm, MIB, 1);
        let all: Vec<_> = (0..5).map(|_| make(&world, pool, 1000).unwrap()).collect();
        for (at, it) in all.iter().enumerate() {
            drop(world.allocator.free(it.id).unwrap());
            assert!(matches!(world.allocator.free(it.id), Err(Error::UseAfterFree)));
            assert_eq!(world.allocator.info(it.id), Err(Error::UseAfterFree));
            let expected = if at > 2 { vec![all[at - 3].id] } else { vec![] };
            assert_eq!(left.ids(), expected, "{algorithm:?}");
        }
        let statistics = world.allocator.statistics();
        assert_eq!((statistics.quarantined_count, statistics.quarantined_bytes), (3, 3000));
        assert_eq!((statistics.allocation_count, statistics.margin_count), (0, 6));
        let listed = world.allocator.guarded_ranges(!0, None, false).unwrap();
        let ranges: Vec<_> = listed.iter().flat_map(|it| &it.ranges).collect();
        let mut found: Vec<_> = ranges.iter().map(|it| (it.offset, it.id, it.size)).collect();
        found.sort_unstable_by_key(|it| it.0);
        let mut expected: Vec<_> =
            all[2..].iter().map(|it| (it.offset, Some(it.id), 1000)).collect();
        expected.sort_unstable_by_key(|it| it.0);
        assert_eq!(found, expected);
        assert!(ranges.iter().all(|it| world.allocator.is_guarded(it)));
        drop(listed);
        world.allocator.destroy_pool(pool).unwrap();
        assert_eq!(left.ids(), all[2..].iter().map(|it| it.id).collect::<Vec<_>>());
        world.assert_empty();
    }
}

#[test]
fn freed_memory_stays_for_as_many_frames() {
    let world = world(quarantine(QuarantineLimit::Frames(2)));
    let left = Left::watch(&world);
    let free = |flags: Create| {
        let made = world.allocator.allocate(&flagged(1000, flags)).unwrap();
        drop(world.allocator.free(made.id).unwrap());
        (made.id, left.ids())
    };
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let start = world.allocator.frame() + 10;
        world.allocator.set_frame(start);
        let (first, none) = free(flags);
        assert_eq!(none, []);
        world.allocator.set_frame(start + 1);
        let (second, none) = free(flags);
        assert_eq!(none, []);
        world.allocator.set_frame(start + 2);
        let (third, gone) = free(flags);
        assert_eq!(gone, [first]);
        world.allocator.set_frame(start + 9);
        let (fourth, gone) = free(flags);
        assert_eq!(gone, [second, third]);
        world.allocator.set_frame(start + 10);
        assert!(!world.allocator.end_overdue_quarantines());
        assert!(world.allocator.end_quarantines());
        assert_eq!(left.ids(), [fourth]);
        assert!(!world.allocator.end_quarantines());
    }
    world.assert_empty();
}

#[test]
fn a_request_without_room_ends_the_quarantine_before_it_fails() {
    for algorithm in Algorithm::ALL {
        let world = world(quarantine(QuarantineLimit::Bytes(GIB)));
        let left = Left::watch(&world);
        let pool = pool(&world, algorithm, MIB, 1);
        let most = MIB - 2 * MARGIN;
        let mut before = Vec::new();
        for _ in 0..3 {
            let made = make(&world, pool, most).unwrap();
            assert_eq!(left.ids(), before);
            let mut never = buffer(most);
            never.create_info.pool = Some(pool);
            never.create_info.flags = Create::NEVER_ALLOCATE;
            assert!(world.allocator.allocate(&never).is_err());
            drop(world.allocator.free(made.id).unwrap());
            before = vec![made.id];
        }
        world.allocator.close();
        assert_eq!(left.ids(), before);
    }
    // Memory of its own is freed for a request in another pool.
    let world = World::with(
        one_heap(4 * MIB),
        &AllocatorOptions { debug: quarantine(QuarantineLimit::Bytes(GIB)), ..blocks_of(MIB) },
    );
    let made = world.allocator.allocate(&flagged(3 * MIB, Create::DEDICATED_MEMORY)).unwrap();
    drop(world.allocator.free(made.id).unwrap());
    assert_eq!(world.device.live_memory_objects(), 1);
    let pool = pool(&world, Algorithm::Tlsf, 2 * MIB, 0);
    make(&world, pool, 1000).unwrap();
    assert_eq!(world.device.live_memory_objects(), 1);
}

#[test]
fn memory_that_is_looked_at_is_not_freed() {
    let world = world(margins());
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let made = world.allocator.allocate(&flagged(1000, flags)).unwrap();
        world.allocator.note_filled(made.id, 0).unwrap();
        let listed = world.allocator.guarded_ranges(!0, None, false).unwrap();
        assert_eq!(listed.iter().map(|it| it.ranges.len()).sum::<usize>(), 2);
        drop(world.allocator.free(made.id).unwrap());
        world.allocator.trim();
        let memory = world.device.memory(made.memory);
        assert!(memory.is_some(), "it is looked at");
        drop(listed);
        assert!(world.device.memory(made.memory).is_none());
    }
    world.assert_empty();
}

#[test]
fn memory_knows_that_a_handle_of_it_was_exported() {
    let world = world(margins());
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let [one, other] =
            [100, 200].map(|size| world.allocator.allocate(&flagged(size, flags)).unwrap());
        let is_exported =
            |it: AllocationId| world.allocator.hold_memory_of(it).unwrap().memory.is_exported();
        assert!(!is_exported(one.id));
        world.allocator.note_exported(one.id).unwrap();
        assert!(is_exported(one.id));
        // The handle is one of all that lies in the memory object.
        assert_eq!(is_exported(other.id), one.memory == other.memory);
        for it in [one, other] {
            drop(world.allocator.free(it.id).unwrap());
            assert_eq!(world.allocator.note_exported(it.id), Err(Error::UseAfterFree));
        }
    }
}
