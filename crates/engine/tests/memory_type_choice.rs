//! The choice of the memory type, on every profile.

mod common;

use common::{COHERENT, GIB, LOCAL, MIB, VISIBLE, World, buffer, flagged};
use std::sync::Arc;

use vkmem_engine::{
    AllocationCreateFlags as Create, AllocationCreateInfo, Allocator, AllocatorOptions, Call,
    DeviceError, DeviceInfo, DeviceMemory, DeviceType, DriverBudget, Error, MemoryHeapFlags,
    MemoryPropertyFlags as Property, MemoryUsage, PoolCreateInfo, Preferences, ResourceUse,
    SimulatedDevice, profile_info, simulated_info,
};

const SEQUENTIAL: Create = Create::HOST_ACCESS_SEQUENTIAL_WRITE;
const RANDOM: Create = Create::HOST_ACCESS_RANDOM;
const TRANSFER: Create = Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD;
const SEQUENTIAL_OR_TRANSFER: Create = SEQUENTIAL.union(TRANSFER);
const RANDOM_OR_TRANSFER: Create = RANDOM.union(TRANSFER);
const NO: Create = Create::empty();

/// The columns of the table. Types that matter, L = device-local, V = host-visible, C = cached:
///
/// | profile | 0 | 1 | 2 | 3 | 4 |
/// | --- | --- | --- | --- | --- | --- |
/// | nvidia-h200 | - | L | V | VC | LV |
/// | lavapipe | LVC |
/// | discrete-8gib | L | V | VC |
/// | discrete-8gib-bar | L | V | LV | VC | AMD's, locked |
/// | integrated | L | LV | LVC |
/// | raspberry-pi | LV |
/// | moltenvk | L | LVC | lazily allocated |
/// | non-coherent | L | V | VC | LV | V and coherent |
const PROFILES: [&str; 8] = [
    "nvidia-h200",
    "lavapipe",
    "discrete-8gib",
    "discrete-8gib-bar",
    "integrated",
    "raspberry-pi",
    "moltenvk",
    "non-coherent",
];

/// No type is possible.
const X: u32 = u32::MAX;

struct Row {
    usages: &'static [MemoryUsage],
    access: Create,
    uses: &'static [ResourceUse],
    expected: [u32; 8],
    reason: &'static str,
}

const fn row(
    usages: &'static [MemoryUsage],
    access: Create,
    uses: &'static [ResourceUse],
    expected: [u32; 8],
    reason: &'static str,
) -> Row {
    Row { usages, access, uses, expected, reason }
}

use MemoryUsage::{
    Auto, AutoPreferDevice, AutoPreferHost, CpuCopy, CpuOnly, CpuToGpu, GpuLazilyAllocated,
    GpuOnly, GpuToCpu, Unknown,
};

const ANY_USE: &[ResourceUse] =
    &[ResourceUse::Unknown, ResourceUse::Device, ResourceUse::TransferOnly];
/// Memory without a resource counts as used by the device.
const DEVICE: &[ResourceUse] = &[ResourceUse::Unknown, ResourceUse::Device];
const COPIES: &[ResourceUse] = &[ResourceUse::TransferOnly];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(&[Unknown], NO, ANY_USE, [0, 0, 0, 0, 0, 0, 0, 0], "all cost nothing: the lowest index"),
    row(&[GpuOnly], NO, ANY_USE, [1, 0, 0, 0, 0, 0, 0, 0], "prefers DEVICE_LOCAL"),
    row(&[CpuOnly], NO, ANY_USE, [2, 0, 1, 1, 1, 0, 1, 4], "requires HOST_VISIBLE and HOST_COHERENT"),
    row(&[CpuToGpu], NO, ANY_USE, [4, 0, 1, 2, 1, 0, 1, 3], "requires HOST_VISIBLE, prefers DEVICE_LOCAL"),
    row(&[GpuToCpu], NO, ANY_USE, [3, 0, 2, 3, 2, 0, 1, 2], "requires HOST_VISIBLE, prefers HOST_CACHED"),
    row(&[CpuCopy], NO, ANY_USE, [0, 0, 1, 1, 0, 0, 0, 1], "avoids DEVICE_LOCAL"),
    row(&[GpuLazilyAllocated], NO, ANY_USE, [X, X, X, X, X, X, 2, X], "requires LAZILY_ALLOCATED"),
    row(&[Unknown], RANDOM, ANY_USE, [0, 0, 0, 0, 0, 0, 0, 0], "host access is for AUTO"),
    row(&[GpuOnly], SEQUENTIAL, ANY_USE, [1, 0, 0, 0, 0, 0, 0, 0], "host access is for AUTO"),

    row(&[Auto, AutoPreferDevice], NO, ANY_USE, [1, 0, 0, 0, 0, 0, 0, 0], "no host: prefers DEVICE_LOCAL"),
    row(&[AutoPreferHost], NO, ANY_USE, [0, 0, 1, 1, 0, 0, 0, 1], "PREFER_HOST: avoids DEVICE_LOCAL"),

    row(&[Auto, AutoPreferDevice], SEQUENTIAL, DEVICE, [4, 0, 1, 2, 1, 0, 1, 3],
        "requires HOST_VISIBLE, avoids HOST_CACHED; the GPU reads it: prefers DEVICE_LOCAL"),
    row(&[Auto], SEQUENTIAL, COPIES, [2, 0, 1, 1, 1, 0, 1, 1], "staging: avoids DEVICE_LOCAL"),
    row(&[AutoPreferDevice], SEQUENTIAL, COPIES, [4, 0, 1, 2, 1, 0, 1, 3], "PREFER_DEVICE overrides"),
    row(&[AutoPreferHost], SEQUENTIAL, ANY_USE, [2, 0, 1, 1, 1, 0, 1, 1], "PREFER_HOST overrides"),

    row(&[Auto, AutoPreferDevice, AutoPreferHost], RANDOM, ANY_USE, [3, 0, 2, 3, 2, 0, 1, 2],
        "requires HOST_VISIBLE, prefers HOST_CACHED and can do without (Raspberry Pi)"),

    row(&[Auto], SEQUENTIAL_OR_TRANSFER, DEVICE, [4, 0, 0, 2, 1, 0, 0, 3],
        "HOST_VISIBLE and DEVICE_LOCAL are both preferred, HOST_CACHED is avoided"),
    row(&[AutoPreferDevice], SEQUENTIAL_OR_TRANSFER, ANY_USE, [4, 0, 0, 2, 1, 0, 0, 3],
        "HOST_VISIBLE and DEVICE_LOCAL are both preferred, HOST_CACHED is avoided"),
    row(&[AutoPreferHost], SEQUENTIAL_OR_TRANSFER, ANY_USE, [2, 0, 1, 1, 1, 0, 0, 1],
        "prefers HOST_VISIBLE, avoids DEVICE_LOCAL and HOST_CACHED"),
    row(&[Auto], SEQUENTIAL_OR_TRANSFER, COPIES, [2, 0, 1, 1, 1, 0, 0, 1],
        "staging: prefers HOST_VISIBLE, avoids DEVICE_LOCAL and HOST_CACHED"),

    row(&[Auto, AutoPreferDevice], RANDOM_OR_TRANSFER, DEVICE, [1, 0, 0, 0, 2, 0, 1, 0],
        "prefers HOST_CACHED and DEVICE_LOCAL, and leaves HOST_VISIBLE out but on integrated GPUs"),
    row(&[AutoPreferHost], RANDOM_OR_TRANSFER, ANY_USE, [3, 0, 2, 3, 2, 0, 1, 2],
        "prefers HOST_VISIBLE and HOST_CACHED"),
    row(&[Auto, AutoPreferDevice], RANDOM_OR_TRANSFER, COPIES, [3, 0, 2, 3, 2, 0, 1, 2],
        "what is only copied needs no second copy"),
];

#[test]
fn every_usage_on_every_profile() {
    let mut count = 0;
    for (column, profile) in PROFILES.into_iter().enumerate() {
        let world = World::new(profile_info(profile).unwrap());
        for row in TABLE {
            for (&usage, &resource_use) in
                row.usages.iter().flat_map(|usage| row.uses.iter().map(move |it| (usage, it)))
            {
                let case = format!(
                    "{profile}: {usage:?}, {:?}, {resource_use:?}: {}",
                    row.access, row.reason
                );
                let create_info =
                    AllocationCreateInfo { usage, flags: row.access, ..Default::default() };
                if usage == GpuLazilyAllocated {
                    assert!(row.access.is_empty(), "lazily allocated memory is not mapped");
                }
                let found =
                    world.allocator.find_memory_type_index(u32::MAX, &create_info, resource_use);
                let request = {
                    let mut request = buffer(1000);
                    (request.create_info, request.resource_use) = (create_info, resource_use);
                    request
                };
                let made = world.allocator.allocate(&request);
                match row.expected[column] {
                    X => {
                        assert!(matches!(found, Err(Error::FeatureNotPresent(_))), "{case}");
                        assert!(matches!(made, Err(Error::FeatureNotPresent(_))), "{case}");
                    }
                    expected => {
                        assert_eq!(found, Ok(expected), "{case}");
                        let made = made.unwrap_or_else(|error| panic!("{case}: {error}"));
                        assert_eq!(made.memory_type_index, expected, "{case}");
                        drop(world.allocator.free(made.id).unwrap());
                    }
                }
                count += 1;
            }
        }
        world.assert_empty();
    }
    assert!(count > 400, "{count} cases");
    assert_eq!(PROFILES, vkmem_engine::profile_names(), "each profile has a column");
}

#[test]
fn who_allows_a_transfer_gets_memory_that_cannot_be_mapped_rather_than_none() {
    // A device that reports itself as integrated and has the heaps of a discrete GPU.
    let mut info = profile_info("discrete-8gib").unwrap();
    for device_type in [DeviceType::IntegratedGpu, DeviceType::DiscreteGpu] {
        info.device_type = device_type;
        for usage in [Auto, AutoPreferDevice, AutoPreferHost] {
            for access in [SEQUENTIAL, RANDOM] {
                let wish = |flags| AllocationCreateInfo { usage, flags, ..Default::default() };
                let of_image = 0b001;
                assert!(choose(&info, of_image, wish(access)).is_err());
                assert_eq!(choose(&info, of_image, wish(access | TRANSFER)), Ok(0));
            }
        }
    }
}

#[test]
fn a_heap_of_no_bytes_is_never_used() {
    let own = MemoryHeapFlags::DEVICE_LOCAL;
    let heaps = [(0, own), (GIB, MemoryHeapFlags::empty()), (2 * GIB, own)];
    let types = [(0, LOCAL), (1, COHERENT), (2, LOCAL), (0, LOCAL | COHERENT)];
    let info = simulated_info(&heaps, &types);
    for limits in [vec![], vec![4 * GIB, 4 * GIB, 4 * GIB], vec![0, u64::MAX, MIB]] {
        for budget in [None, Some(GIB), Some(0)] {
            let options =
                AllocatorOptions { heap_size_limits: limits.clone(), ..Default::default() };
            let device = Arc::new(SimulatedDevice::new(info.clone()));
            device.set_budget(budget.map(|budget| vec![DriverBudget { usage: 0, budget }; 3]));
            let allocator = Allocator::new(device.clone(), &options).unwrap();
            let world = World { device, allocator };
            let wish = |flags| AllocationCreateInfo { flags, ..Default::default() };
            let find = |bits, flags| {
                world.allocator.find_memory_type_index(bits, &wish(flags), ResourceUse::Device)
            };
            assert_eq!(find(u32::MAX, NO), Ok(2));
            assert_eq!(find(u32::MAX, SEQUENTIAL), Ok(1));
            let error = find(0b1001, NO).unwrap_err();
            assert!(matches!(error, Error::FeatureNotPresent(_)));
            assert!(error.to_string().contains("0 = DEVICE_LOCAL (a heap of 0 bytes)"), "{error}");
            // Neither is tried when all others refuse.
            world.device.record_log(true);
            world.device.fail_next(Call::Allocate, 99, DeviceError::OutOfDeviceMemory);
            assert!(world.allocator.allocate(&buffer(1000)).is_err());
            world.device.clear_failures();
            let asked = world.device.log().into_iter().filter_map(|it| it.memory_type_index);
            assert!(asked.into_iter().all(|it| it == 1 || it == 2));
            let pool = PoolCreateInfo::default();
            assert!(matches!(
                world.allocator.create_pool(&pool),
                Err(Error::OutOfDeviceMemory { figures, .. }) if figures.can_never_succeed
            ));
            assert_eq!(world.allocator.preferred_block_size(0), 0);
            world.allocator.set_pressure_threshold(Some(0.9));
            let made = world.allocator.allocate(&buffer(1000)).unwrap();
            world.allocator.refresh_budget();
            let empty = world.allocator.heap_budgets()[0];
            assert_eq!((empty.block_bytes, empty.budget), (0, 0));
            assert_eq!(world.allocator.statistics_of_type(0), Default::default());
            drop(world.allocator.free(made.id).unwrap());
            drop(world.allocator);
            world.device.assert_clean();
        }
    }
    assert!(SimulatedDevice::try_new(simulated_info(&heaps[..1], &types[..1])).is_err());
}

#[test]
fn limits_of_zero_are_unknown() {
    let mut info = profile_info("lavapipe").unwrap();
    info.limits.max_memory_allocation_count = 0;
    info.limits.max_memory_allocation_size = 0;
    info.limits.buffer_image_granularity = 0;
    info.limits.non_coherent_atom_size = 0;
    let world = World::new(info);
    let limits = world.device.info().limits;
    assert_eq!(limits.max_memory_allocation_count, u32::MAX);
    assert_eq!(limits.max_memory_allocation_size, u64::MAX);
    assert_eq!((limits.buffer_image_granularity, limits.non_coherent_atom_size), (1, 1));
    for flags in [NO, Create::DEDICATED_MEMORY] {
        let made = world.allocator.allocate(&flagged(5 * MIB, flags)).unwrap();
        drop(world.allocator.free(made.id).unwrap());
    }
    world.assert_empty();
}

/// Returns the types that are tried in turn while the device refuses every memory object.
fn order(profile: &str, create_info: AllocationCreateInfo) -> Vec<u32> {
    let world = World::new(profile_info(profile).unwrap());
    world.device.record_log(true);
    world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::OutOfDeviceMemory);
    let mut request = buffer(1000);
    request.create_info = create_info;
    let error = world.allocator.allocate(&request).unwrap_err();
    assert!(matches!(error, Error::OutOfDeviceMemory { .. }), "{error}");
    let mut order: Vec<u32> =
        world.device.log().iter().filter_map(|record| record.memory_type_index).collect();
    assert_eq!(error.figures().unwrap().memory_type_index, order.first().copied());
    order.dedup();
    world.assert_empty();
    order
}

#[test]
fn on_failure_the_next_cheapest_type_is_tried_each_once() {
    let of = |usage, flags| AllocationCreateInfo { usage, flags, ..Default::default() };
    assert_eq!(order("nvidia-h200", of(Auto, NO)), [1, 4, 0, 2, 3]);
    assert_eq!(order("nvidia-h200", of(Auto, SEQUENTIAL)), [4, 2, 3]);
    assert_eq!(order("nvidia-h200", of(Auto, RANDOM)), [3, 2, 4]);
    assert_eq!(order("discrete-8gib-bar", of(Auto, SEQUENTIAL)), [2, 1, 3]);
    assert_eq!(order("discrete-8gib-bar", of(Auto, NO)), [0, 2, 1, 3]);
    assert_eq!(order("discrete-8gib", of(AutoPreferHost, NO)), [1, 2, 0]);
    assert_eq!(order("raspberry-pi", of(Auto, RANDOM)), [0]);
    assert_eq!(order("moltenvk", of(GpuLazilyAllocated, NO)), [2]);
    assert_eq!(order("moltenvk", of(Auto, NO)), [0, 1], "never falls back to lazy memory");
    let bits = AllocationCreateInfo { memory_type_bits: 0b0100_1010, ..of(Auto, NO) };
    assert_eq!(order("discrete-8gib-bar", bits), [1, 3], "and never to AMD's");
}

#[test]
fn a_full_first_heap_hands_over_to_the_second() {
    let world = World::new(profile_info("discrete-8gib").unwrap());
    world.device.occupy(0, 8 * GIB);
    let moved = world.allocator.allocate(&buffer(4096)).unwrap();
    assert_eq!(moved.memory_type_index, 1);
    world.device.occupy(0, 0);
    let back = world.allocator.allocate(&buffer(4096)).unwrap();
    assert_eq!(back.memory_type_index, 0, "once there is room again");
    for made in [moved, back] {
        drop(world.allocator.free(made.id).unwrap());
    }
    world.assert_empty();
}

#[test]
fn a_full_window_of_256_mib_hands_over_to_host_memory() {
    let world = World::new(profile_info("discrete-8gib-bar").unwrap());
    let request = flagged(8 * MIB, SEQUENTIAL);
    let made: Vec<_> = (0..64).map(|_| world.allocator.allocate(&request).unwrap()).collect();
    let in_window = made.iter().filter(|it| it.memory_type_index == 2).count();
    assert_eq!(in_window, 32, "all of the window is used");
    assert!(made.iter().all(|it| matches!(it.memory_type_index, 1 | 2)));
    made.into_iter().for_each(|it| drop(world.allocator.free(it.id).unwrap()));
    world.assert_empty();
}

fn choose(info: &DeviceInfo, bits: u32, create_info: AllocationCreateInfo) -> Result<u32, Error> {
    let world = World::new(info.clone());
    world.allocator.find_memory_type_index(bits, &create_info, ResourceUse::Device)
}

#[test]
fn required_preferred_and_not_preferred_flags_count() {
    let info = profile_info("nvidia-h200").unwrap();
    let unknown = AllocationCreateInfo { usage: Unknown, ..Default::default() };
    let with = |required: Property, preferred: Property, not_preferred: Property| {
        let (required_flags, preferred_flags) = (required, preferred);
        let not_preferred_flags = not_preferred;
        let wish = AllocationCreateInfo {
            required_flags,
            preferred_flags,
            not_preferred_flags,
            ..unknown
        };
        choose(&info, u32::MAX, wish)
    };
    let none = Property::empty();
    assert_eq!(with(VISIBLE, none, none), Ok(2));
    assert_eq!(with(VISIBLE | LOCAL, none, none), Ok(4));
    assert_eq!(with(none, VISIBLE | LOCAL, none), Ok(4));
    assert_eq!(with(none, LOCAL, VISIBLE), Ok(1));
    assert_eq!(with(VISIBLE, LOCAL, LOCAL), Ok(2), "one each, so all cost one");
    assert_eq!(with(VISIBLE, Property::HOST_CACHED, none), Ok(3));
    assert_eq!(with(VISIBLE, none, COHERENT | LOCAL), Ok(2));
    assert!(with(LOCAL | Property::HOST_CACHED, none, none).is_err());
    // The preferences of an `AUTO` usage and those of the caller are added.
    let wish = AllocationCreateInfo { not_preferred_flags: LOCAL, ..Default::default() };
    assert_eq!(choose(&info, u32::MAX, wish), Ok(0), "one each: a tie, to the lowest");
}

#[test]
fn both_masks_of_types_hold() {
    let info = profile_info("nvidia-h200").unwrap();
    let only = |bits| AllocationCreateInfo { memory_type_bits: bits, ..Default::default() };
    assert_eq!(choose(&info, 0b11101, only(0)), Ok(4), "0 allows all");
    assert_eq!(choose(&info, u32::MAX, only(0b01100)), Ok(2));
    assert_eq!(choose(&info, 0b01000, only(0b01100)), Ok(3));
    assert_eq!(choose(&info, 0b10000, only(u32::MAX)), Ok(4));
    assert!(choose(&info, 0b10000, only(0b01111)).is_err());
    assert!(choose(&info, 0, only(0)).is_err());
    assert!(choose(&info, 1 << 31, only(0)).is_err(), "a type that the device does not have");
}

/// Describes a device with its ordinary types last, so that a tie would select a special one.
fn with_special_types() -> DeviceInfo {
    let heap = (GIB, MemoryHeapFlags::DEVICE_LOCAL);
    let amd = Property::DEVICE_COHERENT_AMD | Property::DEVICE_UNCACHED_AMD;
    let types = [
        (0, LOCAL | Property::PROTECTED),
        (0, LOCAL | Property::LAZILY_ALLOCATED),
        (0, LOCAL | COHERENT | amd),
        (0, LOCAL | Property::DEVICE_UNCACHED_AMD),
        (0, LOCAL | COHERENT | Property::RDMA_CAPABLE_NV),
        (0, LOCAL),
    ];
    simulated_info(&[heap], &types)
}

#[test]
fn special_types_are_left_to_those_who_ask() {
    let mut info = with_special_types();
    let plain = AllocationCreateInfo { usage: Unknown, ..Default::default() };
    let asking = |flags| AllocationCreateInfo { required_flags: flags, ..plain };
    let preferring = |flags| AllocationCreateInfo { preferred_flags: flags, ..plain };
    assert_eq!(choose(&info, u32::MAX, plain), Ok(4));
    assert_eq!(choose(&info, u32::MAX, asking(Property::PROTECTED)), Ok(0));
    assert_eq!(choose(&info, u32::MAX, preferring(Property::PROTECTED)), Ok(0));
    assert_eq!(choose(&info, u32::MAX, asking(Property::LAZILY_ALLOCATED)), Ok(1));
    assert_eq!(choose(&info, u32::MAX, asking(Property::RDMA_CAPABLE_NV)), Ok(4));
    assert_eq!(choose(&info, u32::MAX, asking(Property::DEVICE_UNCACHED_AMD)), Ok(3));
    assert!(choose(&info, 0b111, plain).is_err(), "locked, also where nothing else is left");
    assert!(choose(&info, u32::MAX, asking(Property::DEVICE_COHERENT_AMD)).is_err());
    assert_eq!(choose(&info, 0b1000, plain), Ok(3), "uncached alone is slow, not forbidden");
    info.amd_device_coherent = true;
    assert_eq!(choose(&info, u32::MAX, asking(Property::DEVICE_COHERENT_AMD)), Ok(2));
    assert_eq!(choose(&info, u32::MAX, plain), Ok(4), "enabled, and avoided all the same");
    assert_eq!(choose(&info, 0b111, plain), Ok(2));
}

#[test]
fn lazily_allocated_memory_is_dedicated() {
    let world = World::new(profile_info("moltenvk").unwrap());
    let mut request = buffer(1000);
    request.create_info.usage = GpuLazilyAllocated;
    let lazy = world.allocator.allocate(&request).unwrap();
    assert!(lazy.is_dedicated() && lazy.memory_type_index == 2);
    assert_eq!(world.allocator.try_allocate(&request), None);
    drop(world.allocator.free(lazy.id).unwrap());
    world.assert_empty();
}

#[test]
fn cost_is_what_is_missing_and_what_is_unwanted() {
    let wish = Preferences {
        required: VISIBLE,
        preferred: LOCAL | Property::HOST_CACHED,
        not_preferred: Property::HOST_COHERENT | Property::DEVICE_UNCACHED_AMD,
    };
    assert_eq!(wish.cost(LOCAL), None);
    assert_eq!(wish.cost(VISIBLE), Some(2));
    assert_eq!(wish.cost(COHERENT), Some(3));
    assert_eq!(wish.cost(VISIBLE | LOCAL | Property::HOST_CACHED), Some(0));
    assert_eq!(wish.cost(Property::all()), Some(2));
}

#[test]
fn the_error_lists_what_was_asked_and_what_there_is() {
    let info = profile_info("discrete-8gib").unwrap();
    let wish = AllocationCreateInfo {
        required_flags: LOCAL | VISIBLE,
        memory_type_bits: 0b101,
        ..Default::default()
    };
    assert_eq!(
        choose(&info, 0b111, wish).unwrap_err().to_string(),
        "no memory type serves: required DEVICE_LOCAL|HOST_VISIBLE, the resource allows types \
         0 1 2, memory_type_bits allows types 0 2; the device has 0 = DEVICE_LOCAL, \
         1 = HOST_VISIBLE|HOST_COHERENT, 2 = HOST_VISIBLE|HOST_COHERENT|HOST_CACHED"
    );
    let error = choose(&info, 0, AllocationCreateInfo::default()).unwrap_err();
    assert_eq!(error.vk_result(), Some(-8));
    let text = error.to_string();
    assert!(text.contains("required nothing, the resource allows no type;"), "{text}");
}
