//! Failures: each leaves the state unchanged and is reported in one line with figures.

mod common;

use common::{KIB, MIB, World, blocks_of, buffer, flagged, mapped, one_heap};
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationId, AllocationRequest, Call,
    DeviceError, Error, HeapBudget, HostRange, MemoryUsage, PoolId, PoolKey, Statistics,
    profile_info,
};

/// Returns everything observable of an allocator. Retained empty blocks are freed first: whether there is
/// one more of them makes no difference to a caller.
fn state(world: &World) -> (Statistics, Vec<HeapBudget>, usize) {
    world.allocator.release_empty_blocks();
    world.allocator.validate().expect("valid");
    world.device.assert_no_violations();
    let live = world.device.live_memory_objects();
    (world.allocator.statistics(), world.allocator.heap_budgets(), live)
}

/// `VK_ERROR_UNKNOWN`, `VK_ERROR_VALIDATION_FAILED` and a vendor's own code.
const UNKNOWN: DeviceError = DeviceError::Other(-13);
const INVALID: DeviceError = DeviceError::Other(-1_000_011_001);
const NAMELESS: DeviceError = DeviceError::Other(-1_000_999_123);

const INJECTED: [DeviceError; 9] = [
    DeviceError::OutOfDeviceMemory,
    DeviceError::OutOfHostMemory,
    DeviceError::TooManyObjects,
    DeviceError::DeviceLost,
    DeviceError::MemoryMapFailed,
    DeviceError::InvalidExternalHandle,
    UNKNOWN,
    INVALID,
    NAMELESS,
];

/// Returns whether an operation's error is the right one for the driver's result.
fn is_right(error: &Error, call: Call, injected: DeviceError) -> bool {
    use DeviceError as Driver;
    match (injected, call) {
        (Driver::DeviceLost, _) => *error == Error::DeviceLost(call.name()),
        (Driver::OutOfHostMemory, Call::Map) => {
            matches!(error, Error::OutOfHostMemory { figures, .. } if figures.size > 0)
        }
        (_, Call::Map) => matches!(error, Error::MemoryMap(_)),
        (Driver::OutOfDeviceMemory, Call::Allocate) => {
            matches!(error, Error::OutOfDeviceMemory { .. })
        }
        (other, Call::Allocate) => {
            matches!(error, Error::Refused { result, figures } if *result == other && figures.size > 0)
        }
        (other, _) => *error == Error::Device(other.of(call.name())),
    }
}

/// Runs `operation` with each of its driver calls failing in turn, with every result a driver can return.
/// Returns for each failure whether the operation succeeded by other means.
fn inject<T>(
    prepare: impl Fn() -> (World, T),
    operation: impl Fn(&World, &T) -> Result<(), Error>,
) -> Vec<(Call, DeviceError, bool)> {
    let mut seen = Vec::new();
    for injected in INJECTED {
        for n in 0.. {
            assert!(n < 50, "an operation of a bounded number of calls");
            let (world, prepared) = prepare();
            let before = state(&world);
            world.device.record_log(true);
            world.device.fail_call(n, injected);
            let result = operation(&world, &prepared);
            let log = world.device.log();
            let failed = log.iter().find(|record| record.result == Err(injected));
            world.device.clear_failures();
            let Some(failed) = failed else {
                assert_eq!(result, Ok(()), "nothing failed");
                break;
            };
            if let Err(error) = &result {
                assert!(is_right(error, failed.call, injected), "{injected:?}: {error:?}");
                let text = error.to_string();
                assert!(!text.is_empty() && !text.contains('\n'), "{text}");
                assert_eq!(state(&world), before, "after {injected:?} in call {n}");
                operation(&world, &prepared).expect("a second time, without a failure");
            }
            seen.push((failed.call, injected, result.is_ok()));
            world.allocator.validate().expect("valid");
            drop(world.allocator);
            world.device.assert_clean();
        }
    }
    assert!(!seen.is_empty(), "the operation makes no call");
    seen
}

fn small_blocks(info: vkmem_engine::DeviceInfo) -> World {
    World::with(info, &blocks_of(MIB))
}

fn allocate(world: &World, request: &vkmem_engine::AllocationRequest) -> Result<(), Error> {
    let allocation = world.allocator.allocate(request)?;
    assert_eq!(world.allocator.info(allocation.id), Ok(allocation));
    Ok(())
}

#[test]
fn growth() {
    let seen =
        inject(|| (small_blocks(one_heap(64 * MIB)), ()), |it, ()| allocate(it, &buffer(1000)));
    // A refused block, with whatever result, is replaced by dedicated memory.
    for (call, injected, succeeded) in seen {
        assert_eq!(call, Call::Allocate);
        assert_eq!(succeeded, injected != DeviceError::DeviceLost, "{injected:?}");
    }
}

#[test]
fn growth_with_other_types_to_go_to() {
    let prepare = || {
        let world = World::new(profile_info("nvidia-h200").unwrap());
        let kept = world.allocator.allocate(&buffer(5 * MIB)).unwrap();
        (world, kept)
    };
    let seen = inject(prepare, |world, _| allocate(world, &buffer(100 * MIB)));
    let lost = |injected: &DeviceError| *injected == DeviceError::DeviceLost;
    assert!(seen.iter().all(|(_, injected, succeeded)| lost(injected) != *succeeded));
}

#[test]
fn dedicated() {
    let request = flagged(1000, Create::DEDICATED_MEMORY);
    let seen = inject(|| (World::new(one_heap(MIB)), ()), |world, ()| allocate(world, &request));
    assert!(seen.iter().all(|(.., succeeded)| !succeeded));
    assert_eq!(seen.len(), INJECTED.len());
}

#[test]
fn mapped_from_the_start_in_a_new_block_and_dedicated() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let mut request = mapped(1000);
        request.create_info.flags |= flags;
        let seen =
            inject(|| (small_blocks(one_heap(64 * MIB)), ()), |it, ()| allocate(it, &request));
        let of_map = seen.iter().filter(|(call, ..)| *call == Call::Map);
        assert_eq!(of_map.clone().count(), INJECTED.len());
        assert!(of_map.clone().all(|(.., succeeded)| !succeeded));
    }
}

#[test]
fn mapped_from_the_start_in_a_block_that_exists() {
    let prepare = || {
        let world = small_blocks(one_heap(64 * MIB));
        let neighbour = world.allocator.allocate(&buffer(1000)).unwrap();
        (world, neighbour)
    };
    let seen = inject(prepare, |world, _| allocate(world, &mapped(1000)));
    assert!(seen.iter().all(|(call, ..)| *call == Call::Map));
    assert_eq!(seen.len(), INJECTED.len());
}

fn buffer_for_host(size: u64, flags: Create) -> AllocationRequest {
    let mut request = flagged(size, Create::HOST_ACCESS_RANDOM | flags);
    request.requirements.memory_type_bits = 0b110;
    request
}

fn non_coherent(flags: Create) -> (World, Allocation) {
    let world = World::new(profile_info("non-coherent").unwrap());
    let allocation = world.allocator.allocate(&buffer_for_host(1000, flags)).unwrap();
    (world, allocation)
}

#[test]
fn map_flush_and_invalidate() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let seen = inject(
            || non_coherent(flags),
            |world, it| {
                world.allocator.map(it.id)?;
                let flushed = (world.allocator.flush(it.id, 0, 100))
                    .and_then(|()| world.allocator.invalidate(it.id, 0, u64::MAX));
                world.allocator.unmap(it.id)?;
                flushed
            },
        );
        let calls = |call| seen.iter().filter(|(it, ..)| *it == call).count();
        let each = INJECTED.len();
        assert_eq!([Call::Map, Call::Flush, Call::Invalidate].map(calls), [each; 3]);
        assert!(seen.iter().all(|(.., succeeded)| !succeeded));
    }
}

#[test]
fn freeing_makes_no_call_that_fails() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY, Create::MAPPED] {
        let (world, it) = non_coherent(flags);
        let calls = world.device.fallible_call_count();
        world.device.fail_call(0, DeviceError::DeviceLost);
        drop(world.allocator.free(it.id).unwrap());
        assert_eq!(world.device.fallible_call_count(), calls);
        world.assert_empty();
    }
}

#[test]
fn maps_that_failed_do_not_count() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let (world, it) = non_coherent(flags);
        world.device.fail_next(Call::Map, 9, DeviceError::MemoryMapFailed);
        for _ in 0..9 {
            let error = world.allocator.map(it.id).unwrap_err();
            assert!(matches!(error, Error::MemoryMap(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains("VK_ERROR_MEMORY_MAP_FAILED"), "{text}");
            assert!(matches!(world.allocator.unmap(it.id), Err(Error::InvalidArgument(_))));
            assert_eq!(world.allocator.flush(it.id, 0, 1), Ok(()), "nothing to flush");
        }
        assert_eq!(world.device.call_count(Call::Flush), 0);
        assert!(!world.device.memory(it.memory).unwrap().mapped);
        world.allocator.map(it.id).unwrap();
        world.allocator.unmap(it.id).unwrap();
        assert!(!world.device.memory(it.memory).unwrap().mapped, "two events, not eleven");
        drop(world.allocator.free(it.id).unwrap());
        world.assert_empty();
    }
}

#[test]
fn a_block_that_is_mapped_again_and_again_stays_mapped() {
    let (world, it) = non_coherent(Create::empty());
    for _ in 0..100 {
        world.allocator.map(it.id).unwrap();
        world.allocator.unmap(it.id).unwrap();
    }
    assert!(world.device.call_count(Call::Map) <= 4);
    drop(world.allocator.free(it.id).unwrap());
    world.assert_empty();
}

#[track_caller]
fn refused(world: &World, request: &vkmem_engine::AllocationRequest, text: &str) {
    let (before, calls) = (state(world), world.calls());
    let error = world.allocator.allocate(request).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert_eq!(error.to_string(), text);
    assert_eq!(world.allocator.try_allocate(request), None);
    assert_eq!((state(world), world.calls()), (before, calls));
}

#[test]
fn requests_that_are_wrong() {
    let world = World::new(one_heap(64 * MIB));
    refused(&world, &buffer(0), "size is 0");
    let mut request = buffer(1);
    for alignment in [0, 3, 48, u64::MAX] {
        request.requirements.alignment = alignment;
        refused(&world, &request, &format!("alignment is {alignment}, not a power of two"));
    }
    request = buffer(1);
    request.create_info.min_alignment = 24;
    refused(&world, &request, "min_alignment is 24, not a power of two");
    for (flags, text) in [
        (
            Create::DEDICATED_MEMORY | Create::NEVER_ALLOCATE,
            "DEDICATED_MEMORY and NEVER_ALLOCATE contradict each other",
        ),
        (
            Create::HOST_ACCESS_MASK,
            "HOST_ACCESS_SEQUENTIAL_WRITE and HOST_ACCESS_RANDOM contradict each other: choose \
             RANDOM if the host reads",
        ),
        (Create::STRATEGY_MIN_MEMORY | Create::STRATEGY_MIN_TIME, "more than one STRATEGY flag"),
        (Create::STRATEGY_MIN_OFFSET | Create::STRATEGY_MIN_TIME, "more than one STRATEGY flag"),
        (
            Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD,
            "HOST_ACCESS_ALLOW_TRANSFER_INSTEAD needs HOST_ACCESS_SEQUENTIAL_WRITE or \
             HOST_ACCESS_RANDOM",
        ),
        (
            Create::MAPPED,
            "MAPPED with MemoryUsage.AUTO needs HOST_ACCESS_SEQUENTIAL_WRITE or HOST_ACCESS_RANDOM, or \
             required_flags=HOST_VISIBLE; HOST_COHERENT among the required_flags is memory that needs no \
             flush",
        ),
        (Create::from_bits_retain(0x4080_0000), "AllocationCreateFlags has no bits 0x40800000"),
    ] {
        refused(&world, &flagged(1, flags), text);
    }
    for flags in [Create::MAPPED, Create::NEVER_ALLOCATE, Create::HOST_ACCESS_RANDOM] {
        request = flagged(1, flags);
        request.create_info.usage = MemoryUsage::GpuLazilyAllocated;
        refused(
            &world,
            &request,
            "GPU_LAZILY_ALLOCATED memory is dedicated and cannot be mapped: MAPPED, HOST_ACCESS \
             and NEVER_ALLOCATE contradict it",
        );
    }
}

#[test]
fn requests_that_no_memory_can_hold() {
    for profile in vkmem_engine::profile_names() {
        let world = World::new(profile_info(profile).unwrap());
        for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 60) - 1, 1 << 45] {
            for flags in [Create::empty(), Create::DEDICATED_MEMORY, Create::NEVER_ALLOCATE] {
                let error = world.allocator.allocate(&flagged(size, flags)).unwrap_err();
                assert!(matches!(error, Error::OutOfDeviceMemory { .. }), "{error:?}");
                assert_eq!(error.figures().unwrap().size, size);
                assert!(error.to_string().contains(&format!("{size} bytes")), "{error}");
            }
        }
        let mut request = buffer(100);
        request.requirements.memory_type_bits = 0;
        let error = world.allocator.allocate(&request).unwrap_err();
        assert!(matches!(error, Error::FeatureNotPresent(_)), "{error:?}");
        assert_eq!(world.calls(), 0, "the driver was not asked");
        // The largest possible alignment: only offset 0 has it.
        request = buffer(100);
        request.requirements.alignment = 1 << 63;
        let made = world.allocator.allocate(&request).unwrap();
        assert_eq!(made.offset, 0);
        drop(world.allocator.free(made.id).unwrap());
        world.assert_empty();
    }
}

#[test]
fn the_figures_are_about_what_was_asked_for() {
    // Blocks of 1 MiB are refused, and so is dedicated memory.
    let world = small_blocks(one_heap(64 * MIB));
    for (injected, size) in [
        (DeviceError::OutOfHostMemory, 1234),
        (DeviceError::TooManyObjects, 1234),
        (DeviceError::OutOfDeviceMemory, 1234),
        (DeviceError::OutOfDeviceMemory, 600 * KIB),
        (DeviceError::TooManyObjects, 2 * MIB),
    ] {
        world.device.fail_next(Call::Allocate, u64::MAX, injected);
        let error = world.allocator.allocate(&buffer(size)).unwrap_err();
        world.device.clear_failures();
        let figures = error.figures().unwrap();
        assert_eq!((figures.size, figures.memory_type_index), (size, Some(0)), "{error}");
        assert_eq!(figures.heap_budget, 64 * MIB / 100 * 80);
        assert!(!error.to_string().contains("block"), "a caller knows no blocks: {error}");
    }
    world.assert_empty();
}

#[test]
fn whatever_the_driver_says_of_memory_leads_on_and_is_named_in_the_end() {
    let others = INJECTED.into_iter().filter(|it| *it != DeviceError::DeviceLost);
    for injected in others {
        let world = World::new(profile_info("nvidia-h200").unwrap());
        world.device.record_log(true);
        world.device.fail_next(Call::Allocate, u64::MAX, injected);
        let error = world.allocator.allocate(&buffer(5000)).unwrap_err();
        let log = world.device.log();
        // All types, and in each smaller blocks before dedicated memory.
        let mut types: Vec<_> = log.iter().filter_map(|it| it.memory_type_index).collect();
        types.dedup();
        assert_eq!(types, [1, 4, 0, 2, 3], "{injected:?}");
        let first = log.iter().take_while(|it| it.memory_type_index == Some(1));
        let sizes: Vec<u64> = first.map(|it| it.ranges[0].size).collect();
        let steps = [32 * MIB, 16 * MIB, 8 * MIB, 4 * MIB, 2 * MIB, MIB, 5000];
        assert_eq!(sizes, steps, "{injected:?}");
        assert_eq!(error.vk_result(), Some(injected.vk_result()));
        let text = error.to_string();
        let named = match injected {
            DeviceError::OutOfDeviceMemory => "VK_ERROR_OUT_OF_DEVICE_MEMORY (-2)",
            DeviceError::OutOfHostMemory => "VK_ERROR_OUT_OF_HOST_MEMORY (-1)",
            DeviceError::TooManyObjects => "VK_ERROR_TOO_MANY_OBJECTS (-10)",
            DeviceError::MemoryMapFailed => "VK_ERROR_MEMORY_MAP_FAILED (-5)",
            DeviceError::InvalidExternalHandle => "VK_ERROR_INVALID_EXTERNAL_HANDLE (-1000072003)",
            UNKNOWN => "VK_ERROR_UNKNOWN (-13)",
            INVALID => "VK_ERROR_VALIDATION_FAILED (-1000011001)",
            _ => "VkResult -1000999123",
        };
        for part in ["vkAllocateMemory", named, "5000 bytes", "memory type 1"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        world.device.clear_failures();
        // Only the first requests are refused.
        world.device.fail_next(Call::Allocate, 7, injected);
        let made = world.allocator.allocate(&buffer(5000)).unwrap();
        assert_eq!(made.memory_type_index, 4);
        drop(world.allocator.free(made.id).unwrap());
        world.assert_empty();
    }
    let world = World::new(profile_info("nvidia-h200").unwrap());
    world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::DeviceLost);
    assert_eq!(world.allocator.allocate(&buffer(5000)), Err(Error::DeviceLost("vkAllocateMemory")));
    assert_eq!(world.allocate_calls(), 1);
}

#[test]
fn empty_blocks_that_are_kept_make_room_whatever_the_driver_says() {
    for injected in [DeviceError::OutOfHostMemory, UNKNOWN, NAMELESS] {
        let world = small_blocks(one_heap(64 * MIB));
        let small = world.allocator.allocate(&buffer(1000)).unwrap();
        drop(world.allocator.free(small.id).unwrap());
        assert_eq!(world.device.live_memory_objects(), 1, "kept");
        world.device.fail_next(Call::Allocate, 1, injected);
        let large = world.allocator.allocate(&buffer(2 * MIB)).unwrap();
        assert_eq!(world.device.live_memory_objects(), 1, "the kept one went");
        drop(world.allocator.free(large.id).unwrap());
        world.assert_empty();
    }
}

#[test]
fn stale_handles() {
    let world = World::new(one_heap(64 * MIB));
    for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
        let stale = world.allocator.allocate(&flagged(100, flags)).unwrap();
        drop(world.allocator.free(stale.id).unwrap());
        // The slot is reused with another key.
        let fresh = world.allocator.allocate(&flagged(100, flags)).unwrap();
        assert_eq!(fresh.id.key.index(), stale.id.key.index());
        assert_ne!(fresh.id, stale.id);
        assert!(matches!(world.allocator.free(stale.id), Err(Error::UseAfterFree)));
        assert_eq!(world.allocator.info(stale.id), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.map(stale.id), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.unmap(stale.id), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.flush(stale.id, 0, 0), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.invalidate(stale.id, 0, 0), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.set_name(stale.id, Some("x")), Err(Error::UseAfterFree));
        assert_eq!(world.allocator.name(fresh.id), Ok(None));
        assert_eq!(world.allocator.info(fresh.id), Ok(fresh));
        drop(world.allocator.free(fresh.id).unwrap());
    }
    let nowhere = |pool_key, dedicated| {
        let id = world.allocator.allocate(&buffer(1)).unwrap().id;
        let elsewhere = AllocationId::new(pool_key, dedicated, id.key);
        assert_eq!((elsewhere.pool_key(), elsewhere.is_dedicated()), (pool_key, dedicated));
        elsewhere
    };
    let no_pool = PoolKey::Custom(PoolId(world.allocator.allocate(&buffer(1)).unwrap().id.key));
    for id in [
        nowhere(PoolKey::Default(7), false),
        nowhere(PoolKey::Default(u32::MAX >> 1), true),
        nowhere(PoolKey::Default(0), true),
        nowhere(no_pool, false),
    ] {
        assert_eq!(world.allocator.info(id), Err(Error::UseAfterFree));
        assert!(world.allocator.free(id).is_err());
    }
}

#[test]
fn maps_are_counted_however_many_are_open() {
    for flags in [Create::empty(), Create::DEDICATED_MEMORY, Create::MAPPED] {
        let (world, it) = non_coherent(flags);
        let error = world.allocator.unmap(it.id).unwrap_err();
        assert_eq!(error, Error::InvalidArgument("not mapped".into()));
        let address = world.allocator.map(it.id).unwrap();
        let maps = world.device.call_count(Call::Map);
        for _ in 1..1000 {
            assert_eq!(world.allocator.map(it.id), Ok(address));
        }
        assert_eq!(world.device.call_count(Call::Map), maps, "the driver maps once");
        // Below and above the count that a region stores itself.
        for _ in 0..900 {
            world.allocator.unmap(it.id).unwrap();
        }
        for _ in 0..500 {
            assert_eq!(world.allocator.map(it.id), Ok(address));
        }
        for _ in 0..600 {
            world.allocator.unmap(it.id).unwrap();
        }
        assert!(world.allocator.unmap(it.id).is_err());
        let still = flags.contains(Create::MAPPED) || flags.is_empty();
        assert_eq!(world.device.memory(it.memory).unwrap().mapped, still);
        drop(world.allocator.free(it.id).unwrap());
        world.assert_empty();
    }
}

#[test]
fn what_is_freed_while_mapped_hundreds_of_times_leaves_its_block_unmapped() {
    for many in [false, true] {
        let world = small_blocks(one_heap(64 * MIB));
        let kept = world.allocator.allocate(&mapped(100)).unwrap();
        drop(world.allocator.free(kept.id).unwrap());
        let other = world.allocator.allocate(&buffer(100)).unwrap();
        let it = world.allocator.allocate(&buffer(100)).unwrap();
        for _ in 0..700 {
            world.allocator.map(it.id).unwrap();
        }
        if many {
            drop(world.allocator.free_many(&[it.id]));
        } else {
            drop(world.allocator.free(it.id).unwrap());
        }
        // No count is left from the slot's previous life.
        let again = world.allocator.allocate(&buffer(100)).unwrap();
        assert!(world.allocator.unmap(again.id).is_err());
        let address = world.allocator.map(other.id).unwrap();
        assert!(world.allocator.map(again.id).unwrap().0.get() > address.0.get());
        for id in [other.id, again.id] {
            world.allocator.unmap(id).unwrap();
            drop(world.allocator.free(id).unwrap());
        }
        world.assert_empty();
    }
}

#[test]
fn what_cannot_be_mapped_says_what_to_do() {
    let world = World::new(profile_info("discrete-8gib").unwrap());
    let it = world.allocator.allocate(&buffer(100)).unwrap();
    let error = world.allocator.map(it.id).unwrap_err();
    assert!(matches!(error, Error::MemoryMap(_)));
    let text = error.to_string();
    assert!(text.starts_with("memory type 0 cannot be mapped: it is not HOST_VISIBLE;"), "{text}");
    assert!(text.contains("HOST_ACCESS_SEQUENTIAL_WRITE"), "{text}");
    assert_eq!(world.device.call_count(Call::Map), 0);
}

#[test]
fn ranges_to_flush_lie_inside_and_are_mapped() {
    let (world, it) = non_coherent(Create::empty());
    for mapped in [false, true] {
        if mapped {
            world.allocator.map(it.id).unwrap();
        }
        flush_outside(&world, it.id);
    }
    for (offset, size) in [(0, 0), (0, 1), (999, 1), (1000, 0), (0, 1000), (17, u64::MAX)] {
        world.allocator.flush(it.id, offset, size).unwrap();
    }
    assert_eq!(world.device.call_count(Call::Flush), 4, "the two of no bytes need no call");
    drop(world.allocator.free(it.id).unwrap());
    world.assert_empty();
}

fn flush_outside(world: &World, id: AllocationId) {
    for (offset, size) in
        [(0, 1001), (1000, 1), (1001, 0), (1001, u64::MAX), (u64::MAX, 1), (1, u64::MAX - 1)]
    {
        for done in
            [world.allocator.flush(id, offset, size), world.allocator.invalidate(id, offset, size)]
        {
            let Err(Error::InvalidArgument(text)) = done else { panic!("{done:?}") };
            assert!(text.contains(&format!("from offset {offset} ")), "{text}");
            assert!(text.contains("outside of the allocation's 1000 bytes"), "{text}");
        }
    }
    assert_eq!(world.device.call_count(Call::Flush), 0);
    assert_eq!(world.device.call_count(Call::Invalidate), 0);
}

#[test]
fn what_is_not_mapped_has_nothing_to_flush() {
    // Its block is mapped: a flush would replace the device's writes by what the host saw last.
    let (world, neighbour) = non_coherent(Create::MAPPED);
    let it = world.allocator.allocate(&buffer_for_host(1000, Create::empty())).unwrap();
    assert_eq!(it.memory, neighbour.memory);
    world.device.device_fill(it.memory, it.offset, 1000, &[7]);
    world.allocator.flush(it.id, 0, u64::MAX).unwrap();
    world.allocator.invalidate(it.id, 0, u64::MAX).unwrap();
    assert_eq!(world.device.device_read(it.memory, it.offset, 1000), [7; 1000]);
    assert_eq!(world.device.call_count(Call::Flush), 0);
    for id in [it.id, neighbour.id] {
        drop(world.allocator.free(id).unwrap());
    }
    world.assert_empty();
}

#[test]
fn many_ranges_take_one_call_and_are_checked_first() {
    let (world, mapped) = non_coherent(Create::MAPPED);
    let dedicated =
        world.allocator.allocate(&buffer_for_host(5000, Create::DEDICATED_MEMORY)).unwrap();
    let range = |it: &Allocation, offset, size| HostRange { id: it.id, offset, size };
    world.allocator.map(dedicated.id).unwrap();
    let ranges =
        [range(&mapped, 0, 10), range(&dedicated, 300, u64::MAX), range(&mapped, 900, 100)];
    world.allocator.flush_many(&ranges).unwrap();
    world.allocator.invalidate_many(&ranges).unwrap();
    let calls = |call| world.device.call_count(call);
    assert_eq!((calls(Call::Flush), calls(Call::Invalidate)), (1, 1));
    let wrong = [ranges[0], range(&dedicated, 4999, 2), range(&mapped, 1001, 0)];
    let failed = world.allocator.flush_many(&wrong).unwrap_err();
    assert_eq!(failed.index, 1);
    assert_eq!(world.allocator.flush_many(&[]), Ok(()));
    assert_eq!(calls(Call::Flush), 1, "nothing is flushed of those where one is wrong");
    world.allocator.unmap(dedicated.id).unwrap();
    assert!(!world.device.memory(dedicated.memory).unwrap().mapped, "a flush leaves no map behind");
    for id in [mapped.id, dedicated.id] {
        drop(world.allocator.free(id).unwrap());
    }
    world.assert_empty();
}
