//! Memory objects for a request in exchange for others, while the driver refuses calls or other threads want the
//! memory as well: a request that fails costs nobody.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{KIB, MIB, World, blocks_of, buffer, one_heap};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationRequest, AllocatorOptions,
    Call, DeviceError, Error, Evictable, MemoryPropertyFlags as Property, MemoryUsage,
    PoolCreateInfo, profile_info, profile_names,
};

type Resource = (Allocation, Evictable);

const ERRORS: [DeviceError; 3] =
    [DeviceError::OutOfDeviceMemory, DeviceError::OutOfHostMemory, DeviceError::DeviceLost];

/// A heap limited to 4 MiB, full of dedicated allocations of 1 MiB, the first one used first.
struct Full {
    world: World,
    memory_type: u32,
    all: Vec<Resource>,
}

impl Full {
    /// `None` if no memory of the device is visible to the host.
    fn new(profile: &str) -> Option<Self> {
        let info = profile_info(profile).unwrap();
        let memory_type = (0..info.types.len() as u32).find(|&at| {
            let flags = info.flags_of(at);
            flags.contains(Property::HOST_VISIBLE)
                && !flags.intersects(Property::PROTECTED | Property::DEVICE_COHERENT_AMD)
                && !info.has_no_memory(at)
        })?;
        let limits = vec![4 * MIB; info.heaps.len()];
        let options = AllocatorOptions { heap_size_limits: limits, ..blocks_of(MIB) };
        let world = World::with(info, &options);
        let mut full = Self { world, memory_type, all: Vec::new() };
        for frame in 1..=4 {
            full.world.allocator.set_frame(frame);
            let made = full.world.allocator.allocate(&full.request(MIB, Create::empty())).unwrap();
            let evictable = full.world.allocator.make_evictable(&made, 0.5).unwrap();
            full.all.push((made, evictable));
        }
        full.world.allocator.set_frame(10);
        Some(full)
    }

    fn request(&self, size: u64, flags: Create) -> AllocationRequest {
        let mut request = buffer(size);
        request.requirements.memory_type_bits = 1 << self.memory_type;
        request.create_info.usage = MemoryUsage::Unknown;
        request.create_info.flags = flags | Create::DEDICATED_MEMORY | Create::CAN_MAKE_OTHER_LOST;
        request
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&at| self.all[at].1.is_lost()).collect()
    }

    fn end(self, made: impl IntoIterator<Item = Allocation>) {
        let allocator = &self.world.allocator;
        allocator.validate().unwrap();
        self.world.device.clear_failures();
        made.into_iter().for_each(|it| drop(allocator.free(it.id).unwrap()));
        for (made, evictable) in self.all {
            assert_eq!(evictable.end(), allocator.free(made.id).is_err());
        }
        self.world.assert_empty();
    }
}

fn each_profile(mut run: impl FnMut(&str, Full)) {
    let mut count = 0;
    for profile in profile_names() {
        if let Some(full) = Full::new(profile) {
            run(profile, full);
            count += 1;
        }
    }
    assert!(count > 5, "{count} profiles have memory that is visible to the host");
}

#[test]
fn a_driver_that_refuses_what_a_limit_allows_costs_nobody_unless_it_has_no_memory() {
    for error in ERRORS {
        each_profile(|profile, full| {
            full.world.device.fail_next(Call::Allocate, u64::MAX, error);
            let made = full.world.allocator.allocate(&full.request(3 * MIB / 4, Create::empty()));
            assert!(made.is_err(), "{profile}");
            // What remains: one exchange, for a driver that says it has no memory, before and after it.
            let most = usize::from(error == DeviceError::OutOfDeviceMemory);
            assert!(full.lost().len() <= most, "{profile}, {error:?}: {:?}", full.lost());
            full.end(None);
        });
    }
}

#[test]
fn each_failure_of_a_call_costs_nobody_if_the_request_fails() {
    for flags in [Create::empty(), Create::MAPPED] {
        for error in ERRORS {
            for call in 0..6 {
                each_profile(|profile, full| {
                    full.world.device.fail_call(call, error);
                    let request = full.request(3 * MIB / 4, flags);
                    let made = full.world.allocator.allocate(&request);
                    let expected: &[usize] = if made.is_ok() { &[0] } else { &[] };
                    assert_eq!(full.lost(), expected, "{profile}, {error:?} of call {call}");
                    let after = full
                        .world
                        .device
                        .live_bytes(full.world.allocator.device().info().heap_of(full.memory_type));
                    assert!(after <= 4 * MIB, "{profile}");
                    full.end(made.ok());
                });
            }
        }
    }
}

#[test]
fn a_mapping_that_the_driver_always_refuses_costs_nobody() {
    // A size of its own, and that of the others.
    for size in [3 * MIB / 4, MIB] {
        each_profile(|profile, full| {
            full.world.device.fail_next(Call::Map, u64::MAX, DeviceError::MemoryMapFailed);
            let made = full.world.allocator.allocate(&full.request(size, Create::MAPPED));
            assert!(made.is_err(), "{profile}");
            assert_eq!(full.lost(), [], "{profile}");
            full.end(None);
        });
    }
}

#[test]
fn memory_of_the_same_kind_changes_hands_without_the_driver() {
    each_profile(|profile, full| {
        full.world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::OutOfDeviceMemory);
        let calls = full.world.device.call_count(Call::Free);
        let made = full.world.allocator.allocate(&full.request(MIB, Create::MAPPED)).unwrap();
        assert_eq!(full.lost(), [0], "{profile}");
        assert_eq!((made.memory, made.mapped.is_some()), (full.all[0].0.memory, true));
        assert_eq!(full.world.device.call_count(Call::Free), calls);
        // Named memory may only be that of its resource.
        let mut named = full.request(MIB, Create::empty());
        named.dedicated = Some(vkmem_engine::DedicatedTarget::Buffer(7));
        full.world.device.fail_next(Call::Allocate, u64::MAX, DeviceError::OutOfHostMemory);
        assert!(full.world.allocator.allocate(&named).is_err());
        full.end([made]);
    });
}

#[test]
fn a_full_heap_of_the_driver_is_freed_for_a_request() {
    for too_many in [false, true] {
        let mut info = one_heap(64 * MIB);
        if too_many {
            info.limits.max_memory_allocation_count = 16;
        }
        let world = World::with(info, &blocks_of(MIB));
        let allocator = &world.allocator;
        let mut request = buffer(MIB);
        request.create_info.flags = Create::DEDICATED_MEMORY | Create::CAN_MAKE_OTHER_LOST;
        let mut all = Vec::new();
        for frame in 1..=16 {
            allocator.set_frame(frame);
            let made = allocator.allocate(&request).unwrap();
            all.push((made, allocator.make_evictable(&made, 0.5).unwrap()));
        }
        world.device.occupy(0, 48 * MIB);
        allocator.set_frame(100);
        request.requirements.size = 3 * MIB;
        let made = allocator.allocate(&request);
        let lost = all.iter().filter(|it| it.1.is_lost()).count();
        assert!(all[..lost].iter().all(|it| it.1.is_lost()), "the oldest");
        if too_many {
            // One object is enough for their number, not for the bytes that others hold.
            world.device.occupy(0, 0);
        }
        match made {
            Ok(made) => {
                assert_eq!(lost, 3);
                drop(allocator.free(made.id).unwrap());
            }
            Err(_) => assert!(too_many && lost <= 1, "{lost}"),
        }
        for (made, evictable) in all {
            assert_eq!(evictable.end(), allocator.free(made.id).is_err());
        }
        world.assert_empty();
    }
}

#[test]
fn too_many_objects_cost_one_of_them() {
    for profile in profile_names() {
        let mut info = profile_info(profile).unwrap();
        info.limits.max_memory_allocation_count = 6;
        let world = World::with(info, &blocks_of(MIB));
        let allocator = &world.allocator;
        let mut request = buffer(MIB);
        request.create_info.flags = Create::DEDICATED_MEMORY | Create::CAN_MAKE_OTHER_LOST;
        let mut all = Vec::new();
        for frame in 1..=6 {
            allocator.set_frame(frame);
            let made = allocator.allocate(&request).unwrap();
            all.push((made, allocator.make_evictable(&made, 0.5).unwrap()));
        }
        allocator.set_frame(100);
        request.requirements.size = 3 * MIB;
        let made = allocator.allocate(&request).unwrap();
        let lost: Vec<bool> = all.iter().map(|it| it.1.is_lost()).collect();
        assert_eq!(lost, [true, false, false, false, false, false], "{profile}");
        world.device.assert_no_violations();
        drop(allocator.free(made.id).unwrap());
        for (made, evictable) in all {
            assert_eq!(evictable.end(), allocator.free(made.id).is_err());
        }
        world.assert_empty();
    }
}

#[test]
fn a_block_of_the_pool_is_emptied_for_a_request_as_large_as_it() {
    for algorithm in Algorithm::ALL {
        for profile in profile_names() {
            let world = World::new(profile_info(profile).unwrap());
            let allocator = &world.allocator;
            let rules = PoolCreateInfo {
                block_size: Some(256 * KIB),
                // More than one linear block is a stack.
                max_block_count: if algorithm == Algorithm::Linear { 1 } else { 3 },
                memory_type_index: allocator
                    .find_memory_type_index(u32::MAX, &Default::default(), Default::default())
                    .unwrap(),
                algorithm,
                ..PoolCreateInfo::default()
            };
            let pool = allocator.create_pool(&rules).unwrap();
            let mut request = buffer(32 * KIB);
            request.create_info.pool = Some(pool);
            let mut all: Vec<Resource> = Vec::new();
            for frame in 1.. {
                allocator.set_frame(frame);
                let Ok(made) = allocator.allocate(&request) else { break };
                all.push((made, allocator.make_evictable(&made, 0.5).unwrap()));
            }
            allocator.set_frame(1000);
            request.requirements.size = 256 * KIB;
            request.create_info.flags = Create::CAN_MAKE_OTHER_LOST;
            let calls = world.calls();
            let made = allocator.allocate(&request).unwrap();
            assert_eq!(world.calls(), calls, "{profile} {algorithm:?}: no driver call");
            let lost = all.iter().filter(|it| it.1.is_lost()).count();
            assert_eq!(lost, 8, "{profile} {algorithm:?}");
            assert!(all[..8].iter().all(|it| it.1.is_lost()), "the oldest");
            allocator.validate().unwrap();
            drop(allocator.free(made.id).unwrap());
            for (made, evictable) in all {
                assert_eq!(evictable.end(), allocator.free(made.id).is_err());
            }
            allocator.destroy_pool(pool).unwrap();
            world.assert_empty();
        }
    }
}

/// Each request needs less than one of those it may take: nobody may lose more, whatever other threads do.
#[test]
fn nobody_else_gets_what_was_freed_for_a_request() {
    const VICTIMS: usize = 64;
    let options =
        AllocatorOptions { heap_size_limits: vec![VICTIMS as u64 * MIB], ..blocks_of(MIB) };
    let world = World::with(one_heap(1 << 30), &options);
    let allocator = &world.allocator;
    let mut request = buffer(MIB);
    request.create_info.flags = Create::DEDICATED_MEMORY;
    let all: Vec<Resource> = (0..VICTIMS)
        .map(|_| {
            let made = allocator.allocate(&request).unwrap();
            (made, allocator.make_evictable(&made, 0.5).unwrap())
        })
        .collect();
    allocator.set_frame(9);
    world.device.set_latency(Call::Free, std::time::Duration::from_micros(200));
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let made = &made;
            scope.spawn(move || {
                let mut request = buffer(MIB - 16);
                request.create_info.flags = Create::DEDICATED_MEMORY | Create::CAN_MAKE_OTHER_LOST;
                if thread % 4 == 3 {
                    // A thief, who makes nobody lose anything.
                    request.create_info.flags = Create::DEDICATED_MEMORY;
                }
                for _ in 0..VICTIMS / 8 {
                    match allocator.allocate(&request) {
                        Ok(_) => drop(made.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            assert!(matches!(error, Error::OutOfDeviceMemory { .. }));
                            assert_eq!(thread % 4, 3, "there is enough for all others");
                        }
                    }
                }
            });
        }
    });
    let lost = all.iter().filter(|it| it.1.is_lost()).count();
    assert_eq!(lost, made.load(Ordering::Relaxed), "one for each");
    assert_eq!(lost, 6 * VICTIMS / 8);
    assert_eq!(world.device.live_memory_objects(), VICTIMS);
    let budget = allocator.heap_budgets()[0];
    assert!(budget.block_bytes <= VICTIMS as u64 * MIB, "{budget:?}");
    allocator.validate().unwrap();
}
