//! Block sizes, growth, retention of empty blocks, and the choice of dedicated memory.

mod common;

use common::{GIB, KIB, LOCAL, MIB, VISIBLE, World, blocks_of, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest,
    AllocatorOptions, Call, DedicatedTarget, DeviceError, DeviceInfo, Error, MemoryHeapFlags,
    PoolCreateInfo, simulated_info,
};

fn limited(limits: &[u64]) -> AllocatorOptions {
    AllocatorOptions { heap_size_limits: limits.to_vec(), ..Default::default() }
}

fn free(world: &World, allocation: Allocation) {
    drop(world.allocator.free(allocation.id).unwrap());
}

/// Returns the sizes of the memory objects that were requested, in order.
fn asked(world: &World) -> Vec<u64> {
    let log = world.device.log();
    log.iter().filter(|it| it.call == Call::Allocate).map(|it| it.ranges[0].size).collect()
}

fn size_of_block(world: &World, allocation: &Allocation) -> u64 {
    world.device.memory(allocation.memory).unwrap().size
}

fn block_count(world: &World) -> u64 {
    world.allocator.statistics().block_count
}

#[test]
fn default_sizes_follow_the_heap() {
    let preferred = |heap| World::new(one_heap(heap)).allocator.preferred_block_size(0);
    assert_eq!(preferred(140 * GIB), 256 * MIB);
    assert_eq!(preferred(GIB + 1), 256 * MIB);
    assert_eq!(preferred(GIB), 128 * MIB, "an eighth, up to and including 1 GiB");
    assert_eq!(preferred(256 * MIB), 32 * MIB);
    assert_eq!(preferred(1_000_000), 125_024, "rounded up to 32 bytes");
    assert_eq!(preferred(100), 32);
    assert_eq!(preferred(10), 10, "not above the heap");
    let limited = World::with(one_heap(8 * GIB), &limited(&[800 * MIB]));
    assert_eq!(limited.allocator.preferred_block_size(0), 100 * MIB, "a limit counts as the heap");
    let mut info = one_heap(8 * GIB);
    info.limits.max_memory_allocation_size = 100 * MIB;
    assert_eq!(World::new(info).allocator.preferred_block_size(0), 100 * MIB);
}

#[test]
fn a_named_size_is_the_size_of_every_block() {
    let world = World::with(one_heap(GIB), &blocks_of(1000));
    assert_eq!(world.allocator.preferred_block_size(0), 1024);
    let made: Vec<_> = (0..8).map(|_| world.allocator.allocate(&buffer(500)).unwrap()).collect();
    assert!(made.iter().all(|it| !it.is_dedicated() && size_of_block(&world, it) == 1024));
    assert_eq!(block_count(&world), 4);
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}

#[test]
fn sizes_beyond_every_heap_are_cut_to_it() {
    for size in [u64::MAX, u64::MAX - 31, 1 << 63, 1 << 61, 2 * GIB] {
        let world = World::with(one_heap(GIB), &blocks_of(size));
        assert_eq!(world.allocator.preferred_block_size(0), GIB);
        let made = world.allocator.allocate(&buffer(100)).unwrap();
        free(&world, made);
        world.assert_empty();
    }
    // A heap of `u64::MAX` bytes, which some drivers report.
    let world = World::with(one_heap(u64::MAX), &blocks_of(u64::MAX));
    let made = world.allocator.allocate(&buffer(100)).unwrap();
    free(&world, made);
    world.assert_empty();
}

#[test]
fn the_first_blocks_are_smaller() {
    let world = World::new(one_heap(8 * GIB));
    world.device.record_log(true);
    let request = buffer(4 * MIB);
    // 32 + 64 + 128 + 256 + 256 MiB.
    let made: Vec<_> = (0..184).map(|_| world.allocator.allocate(&request).unwrap()).collect();
    assert_eq!(asked(&world), [32 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, 256 * MIB]);
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}

#[test]
fn the_ramp_leaves_room_for_two_of_the_request() {
    for (size, block) in [(16, 32), (17, 64), (32, 64), (33, 128), (64, 128), (65, 256), (128, 256)]
    {
        let world = World::new(one_heap(8 * GIB));
        let made = world.allocator.allocate(&buffer(size * MIB)).unwrap();
        assert!(!made.is_dedicated());
        assert_eq!(size_of_block(&world, &made), block * MIB, "for {size} MiB");
    }
}

#[test]
fn halves_are_rounded() {
    let world = World::new(one_heap(1_000_000));
    world.device.record_log(true);
    let made: Vec<_> = (0..64).map(|_| world.allocator.allocate(&buffer(7_000)).unwrap()).collect();
    let sizes = asked(&world);
    assert_eq!(sizes[..4], [15_648, 31_264, 62_528, 125_024]);
    assert!(sizes.iter().all(|size| size % 32 == 0));
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}

#[test]
fn one_empty_block_stays_and_the_second_goes() {
    let world = World::with(one_heap(GIB), &blocks_of(MIB));
    let made: Vec<_> =
        (0..6).map(|_| world.allocator.allocate(&buffer(MIB / 2)).unwrap()).collect();
    assert_eq!(block_count(&world), 3);
    let blocks = |expected| assert_eq!(block_count(&world), expected);
    free(&world, made[0]);
    blocks(3);
    free(&world, made[1]);
    blocks(3);
    free(&world, made[2]);
    free(&world, made[3]);
    blocks(2);
    free(&world, made[4]);
    free(&world, made[5]);
    blocks(1);
    let frees = world.device.call_count(Call::Free);
    let again = world.allocator.allocate(&buffer(MIB / 2)).unwrap();
    free(&world, again);
    let calls = (world.allocate_calls(), world.device.call_count(Call::Free));
    assert_eq!(calls, (3, frees), "the block that stayed is used again");
    assert!(world.allocator.release_empty_blocks());
    blocks(0);
    assert!(!world.allocator.release_empty_blocks());
    world.assert_empty();
}

#[test]
fn of_two_empty_blocks_the_larger_stays() {
    let world = World::new(one_heap(8 * GIB));
    let small = world.allocator.allocate(&buffer(16 * MIB)).unwrap();
    let large = world.allocator.allocate(&buffer(32 * MIB)).unwrap();
    assert_eq!(
        (size_of_block(&world, &small), size_of_block(&world, &large)),
        (32 * MIB, 64 * MIB)
    );
    free(&world, small);
    free(&world, large);
    assert_eq!(world.device.live_bytes(0), 64 * MIB);
    world.assert_empty();
}

#[test]
fn over_budget_an_empty_block_goes_at_once() {
    // Budget: 80 of 100 MiB; blocks of 12.5 MiB.
    let world = World::new(one_heap(100 * MIB));
    let small = world.allocator.allocate(&buffer(MIB)).unwrap();
    let large: Vec<_> =
        (0..4).map(|_| world.allocator.allocate(&buffer(20 * MIB)).unwrap()).collect();
    let budget = world.allocator.heap_budgets()[0];
    assert!(budget.usage > budget.budget, "{budget:?}");
    free(&world, small);
    assert_eq!(world.device.live_memory_objects(), 4, "nothing is kept");
    large.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}

#[test]
fn an_attempt_in_place_never_calls_the_driver() {
    // An empty, unmapped block, of a pool that retains it, while the heap exceeds its budget.
    let world = World::new(one_heap(100 * MIB));
    let block_size = Some(MIB);
    let rules = PoolCreateInfo { block_size, min_block_count: 1, ..Default::default() };
    let pool = world.allocator.create_pool(&rules).unwrap();
    let from_pool = |request: AllocationRequest| {
        let create_info = AllocationCreateInfo { pool: Some(pool), ..request.create_info };
        AllocationRequest { create_info, ..request }
    };
    let large: Vec<_> =
        (0..4).map(|_| world.allocator.allocate(&buffer(20 * MIB)).unwrap()).collect();
    let budget = world.allocator.heap_budgets()[0];
    assert!(budget.usage > budget.budget, "{budget:?}");
    let (calls, before) = (world.calls(), world.allocator.statistics());
    assert_eq!(world.allocator.try_allocate(&from_pool(mapped(1000))), None, "mapping is a call");
    assert_eq!((world.calls(), world.allocator.statistics()), (calls, before));
    let placed = world.allocator.try_allocate(&from_pool(buffer(1000))).unwrap();
    assert_eq!(world.calls(), calls);
    large.into_iter().chain([placed]).for_each(|it| free(&world, it));
    world.allocator.destroy_pool(pool).unwrap();
    world.assert_empty();
}

#[test]
fn what_is_missing_is_taken_from_empty_blocks_of_other_types() {
    let heap = (32 * MIB, MemoryHeapFlags::DEVICE_LOCAL);
    let world = World::with(
        simulated_info(&[heap], &[(0, LOCAL), (0, LOCAL | VISIBLE)]),
        &blocks_of(24 * MIB),
    );
    let first = world.allocator.allocate(&buffer(MIB)).unwrap();
    free(&world, first);
    assert_eq!(world.device.live_bytes(0), 24 * MIB);
    let mut request = flagged(10 * MIB, Create::HOST_ACCESS_SEQUENTIAL_WRITE);
    request.requirements.memory_type_bits = 0b10;
    let second = world.allocator.allocate(&request).unwrap();
    assert_eq!(second.memory_type_index, 1);
    free(&world, second);
    world.assert_empty();
}

#[test]
fn limits_on_heaps_hold() {
    let world = World::with(one_heap(GIB), &limited(&[64 * MIB]));
    let mut made = Vec::new();
    let error = loop {
        match world.allocator.allocate(&buffer(3 * MIB)) {
            Ok(it) => made.push(it),
            Err(error) => break error,
        }
    };
    assert!(world.device.live_bytes(0) <= 64 * MIB);
    assert_eq!(made.len(), 16, "two to each of eight blocks");
    assert!(error.to_string().contains("limit set on heap 0"), "{error}");
    assert_eq!(error.figures().unwrap().heap_budget, 64 * MIB / 100 * 80);
    let calls = world.allocate_calls();
    assert!(world.allocator.allocate(&buffer(65 * MIB)).is_err());
    assert_eq!(world.allocate_calls(), calls, "the driver is not asked");
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
    let nothing = World::with(one_heap(GIB), &limited(&[0]));
    assert!(nothing.allocator.allocate(&buffer(1)).is_err());
    assert_eq!(nothing.calls(), 0);
}

#[test]
fn more_than_a_memory_object_may_have_is_refused_with_the_reason() {
    let mut info = one_heap(8 * GIB);
    info.limits.max_memory_allocation_size = GIB;
    let world = World::new(info);
    let error = world.allocator.allocate(&buffer(GIB + 1)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1073741824 bytes (maxMemoryAllocationSize)"), "{text}");
    assert!(text.contains("asked for 1073741825 bytes (1.0 GiB) of memory type 0"), "{text}");
    assert_eq!(world.calls(), 0);
    free(&world, world.allocator.allocate(&buffer(GIB)).unwrap());
    let text = world.allocator.allocate(&buffer(9 * GIB)).unwrap_err().to_string();
    assert!(!text.contains("larger than a block"), "a caller knows no blocks: {text}");
    world.assert_empty();
}

#[test]
fn the_number_of_memory_objects_is_kept_before_the_driver_has_to() {
    let mut info = one_heap(8 * GIB);
    info.limits.max_memory_allocation_count = 4;
    let world = World::with(info, &blocks_of(MIB));
    let request = flagged(1000, Create::DEDICATED_MEMORY);
    let made: Vec<_> = (0..4).map(|_| world.allocator.allocate(&request).unwrap()).collect();
    let calls = world.calls();
    for request in [request, buffer(1000), buffer(2 * MIB)] {
        let error = world.allocator.allocate(&request).unwrap_err();
        let Error::TooManyObjects { limit: 4, figures } = &error else { panic!("{error:?}") };
        assert_eq!((figures.size > 0, figures.memory_type_index), (true, Some(0)));
        assert_eq!(figures.heap_usage, 4000);
        assert!(error.to_string().contains("the device allows 4"), "{error}");
        assert_eq!(error.vk_result(), Some(-10));
    }
    assert_eq!(world.calls(), calls);
    free(&world, made[0]);
    // A retained empty block counts towards the budget and is freed when memory is needed.
    let small = world.allocator.allocate(&buffer(1000)).unwrap();
    free(&world, small);
    assert_eq!(world.device.live_memory_objects(), 4);
    let last = world.allocator.allocate(&request).unwrap();
    made[1..].iter().chain([&last]).for_each(|it| free(&world, *it));
    world.assert_empty();
}

#[test]
fn objects_that_the_driver_alone_counts_are_its_to_refuse() {
    let world = World::new(one_heap(GIB));
    world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::TooManyObjects);
    let error = world.allocator.allocate(&buffer(1000)).unwrap_err();
    let result = DeviceError::TooManyObjects;
    assert!(matches!(error, Error::Refused { result: it, .. } if it == result), "{error:?}");
    assert_eq!(error.vk_result(), Some(-10));
    world.assert_empty();
}

#[test]
fn a_driver_that_gives_more_objects_than_it_says_may_be_asked_for_them() {
    for prefetch in [false, true] {
        let mut info = one_heap(8 * GIB);
        info.limits.max_memory_allocation_count = 4;
        let options = AllocatorOptions {
            exceed_allocation_count: true,
            prefetch,
            ..AllocatorOptions::default()
        };
        let world = World::with(info, &options);
        world.device.enforce_allocation_count(false);
        let request = flagged(1000, Create::DEDICATED_MEMORY);
        let mut made: Vec<_> =
            (0..4).map(|_| world.allocator.allocate(&request).unwrap()).collect();
        assert_eq!(world.allocator.take_pressed(), 0);
        made.extend((0..6).map(|_| world.allocator.allocate(&request).unwrap()));
        assert_eq!(world.device.live_memory_objects(), 10);
        // Reported once, whatever else is watched.
        world.allocator.set_pressure_threshold(Some(0.9));
        assert_eq!(world.allocator.take_pressed(), vkmem_engine::PAST_ALLOCATION_COUNT);
        made.push(world.allocator.allocate(&request).unwrap());
        assert_eq!(world.allocator.take_pressed(), 0);
        // More objects are allowed as long as the driver allocates them.
        world.device.enforce_allocation_count(true);
        let error = world.allocator.allocate(&request).unwrap_err();
        assert_eq!(error.vk_result(), Some(-10));
        assert!(error.to_string().contains("VK_ERROR_TOO_MANY_OBJECTS (-10)"), "{error}");
        made.into_iter().for_each(|it| free(&world, it));
        world.assert_empty();
    }
}

fn is_dedicated(
    info: DeviceInfo,
    change: impl FnOnce(&mut vkmem_engine::AllocationRequest),
) -> bool {
    let world = World::new(info);
    let mut request = buffer(1000);
    change(&mut request);
    let made = world.allocator.allocate(&request).unwrap();
    assert_eq!(made.size, request.requirements.size);
    if made.is_dedicated() {
        assert_eq!((size_of_block(&world, &made), made.offset), (made.size, 0));
    }
    free(&world, made);
    world.assert_empty();
    made.is_dedicated()
}

#[test]
fn who_gets_memory_of_its_own() {
    let heap = || one_heap(8 * GIB);
    assert!(!is_dedicated(heap(), |_| {}));
    assert!(is_dedicated(heap(), |it| it.create_info.flags = Create::DEDICATED_MEMORY));
    assert!(is_dedicated(heap(), |it| it.requirements.requires_dedicated = true));
    assert!(is_dedicated(heap(), |it| it.requirements.prefers_dedicated = true));
    assert!(!is_dedicated(heap(), |it| it.requirements.size = 128 * MIB), "half a block is small");
    assert!(is_dedicated(heap(), |it| it.requirements.size = 128 * MIB + 1));
    assert!(!is_dedicated(heap(), |it| it.requirements.alignment = 1 << 40));
}

#[test]
fn many_objects_make_the_rest_share_blocks() {
    let mut info = one_heap(8 * GIB);
    info.limits.max_memory_allocation_count = 8;
    let world = World::new(info);
    let mut wanted = buffer(100 * KIB);
    wanted.requirements.prefers_dedicated = true;
    let made: Vec<_> = (0..20).map(|_| world.allocator.allocate(&wanted).unwrap()).collect();
    let dedicated = made.iter().filter(|it| it.is_dedicated()).count();
    assert_eq!(dedicated, 7, "the last one while six, three quarters of eight, are not exceeded");
    assert!(made[..7].iter().all(Allocation::is_dedicated));
    // The flag and the driver's requirement still apply, but no memory object is left for them.
    for change in [0, 1] {
        let mut forced = buffer(100);
        match change {
            0 => forced.create_info.flags = Create::DEDICATED_MEMORY,
            _ => forced.requirements.requires_dedicated = true,
        }
        let error = world.allocator.allocate(&forced).unwrap_err();
        assert!(matches!(error, Error::TooManyObjects { limit: 8, .. }), "{error:?}");
    }
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
    // The largest possible count does not overflow.
    let mut info = one_heap(GIB);
    info.limits.max_memory_allocation_count = u32::MAX;
    assert!(is_dedicated(info, |it| it.requirements.prefers_dedicated = true));
}

#[test]
fn a_preferred_memory_object_that_is_refused_becomes_a_place_in_a_block() {
    let world = World::new(one_heap(8 * GIB));
    world.device.fail_next(Call::Allocate, 1, DeviceError::OutOfDeviceMemory);
    let mut wanted = buffer(1000);
    wanted.requirements.prefers_dedicated = true;
    let made = world.allocator.allocate(&wanted).unwrap();
    assert!(!made.is_dedicated());
    world.device.fail_next(Call::Allocate, 1, DeviceError::OutOfDeviceMemory);
    wanted.requirements.requires_dedicated = true;
    assert!(world.allocator.allocate(&wanted).is_err(), "required is required");
    free(&world, made);
    world.assert_empty();
}

#[test]
fn the_last_resort_is_a_memory_object_of_its_own() {
    // No block of the explicit size fits any more, and a smaller one is not allowed.
    let world = World::with(one_heap(10 * MIB), &blocks_of(8 * MIB));
    let first = world.allocator.allocate(&buffer(3 * MIB)).unwrap();
    let second = world.allocator.allocate(&buffer(4 * MIB)).unwrap();
    let third = world.allocator.allocate(&buffer(2 * MIB)).unwrap();
    assert_eq!([first, second, third].map(|it| it.is_dedicated()), [false, false, true]);
    [first, second, third].into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}

#[test]
fn a_heap_that_is_nearly_full_serves_tiny_ones_from_a_small_block() {
    for heap in [8 * GIB, 100 * MIB] {
        let world = World::new(one_heap(heap));
        world.device.occupy(0, heap - MIB);
        let made: Vec<_> =
            (0..1000).map(|_| world.allocator.allocate(&buffer(1000)).unwrap()).collect();
        let objects = world.device.live_memory_objects();
        assert_eq!(objects, 1, "of a heap of {heap} bytes");
        made.into_iter().for_each(|it| free(&world, it));
        world.assert_empty();
    }
}

#[test]
fn blocks_shrink_to_what_the_driver_has() {
    let world = World::new(one_heap(8 * GIB));
    world.device.record_log(true);
    world.device.occupy(0, 8 * GIB - 5 * MIB);
    let made = world.allocator.allocate(&buffer(1000)).unwrap();
    assert_eq!(asked(&world), [32, 16, 8, 4].map(|it| it * MIB));
    free(&world, made);
    world.assert_empty();
}

#[test]
fn aliasing_drops_the_preferred_target_and_keeps_the_required_one() {
    let target = DedicatedTarget::Image(77);
    for (flags, requires, expected) in [
        (Create::DEDICATED_MEMORY, false, Some(target)),
        (Create::DEDICATED_MEMORY | Create::CAN_ALIAS, false, None),
        (Create::CAN_ALIAS, false, None),
        (Create::CAN_ALIAS, true, Some(target)),
        (Create::empty(), true, Some(target)),
    ] {
        let world = World::new(one_heap(GIB));
        let mut request = flagged(1000, flags);
        request.dedicated = Some(target);
        request.requirements.prefers_dedicated = true;
        request.requirements.requires_dedicated = requires;
        let made = world.allocator.allocate(&request).unwrap();
        assert!(made.is_dedicated());
        let given = world.device.memory(made.memory).unwrap().dedicated;
        assert_eq!(given, expected, "{flags:?}, required: {requires}");
        free(&world, made);
        world.assert_empty();
    }
    let world = World::new(one_heap(GIB));
    let mut request = buffer(1000);
    request.dedicated = Some(target);
    let shared = world.allocator.allocate(&request).unwrap();
    assert_eq!(world.device.memory(shared.memory).unwrap().dedicated, None, "of a block");
}

#[test]
fn budgets_hold_back_those_who_ask() {
    // Budget: 80 MiB.
    let world = World::new(one_heap(100 * MIB));
    let careful = |size| flagged(size, Create::WITHIN_BUDGET);
    let mut made = Vec::new();
    while let Ok(it) = world.allocator.allocate(&careful(5 * MIB)) {
        made.push(it);
        let budget = world.allocator.heap_budgets()[0];
        assert!(budget.usage <= budget.budget, "{budget:?}");
    }
    assert!(made.len() >= 12, "{}", made.len());
    let error = world.allocator.allocate(&careful(20 * MIB)).unwrap_err();
    assert!(error.to_string().contains("over the budget of heap 0 (WITHIN_BUDGET)"), "{error}");
    made.push(world.allocator.allocate(&buffer(20 * MIB)).unwrap());
    // Allocating in an existing block takes nothing from the budget.
    let calls = world.allocate_calls();
    made.push(world.allocator.allocate(&careful(1000)).unwrap());
    assert_eq!(world.allocate_calls(), calls);
    made.into_iter().for_each(|it| free(&world, it));
    world.assert_empty();
}
