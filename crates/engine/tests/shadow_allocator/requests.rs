//! Random requests: most can be served, some contradict themselves.

use vkmem_engine::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest, DedicatedTarget,
    DeviceMemory, MemoryPropertyFlags as Property, MemoryRequirements, MemoryUsage, ResourceKind,
    ResourceUse,
};

use super::common::Random;

const KINDS: [ResourceKind; 5] = [
    ResourceKind::Unknown,
    ResourceKind::Buffer,
    ResourceKind::ImageUnknown,
    ResourceKind::ImageLinear,
    ResourceKind::ImageOptimal,
];

const FLAGS: [Create; 12] = [
    Create::DEDICATED_MEMORY,
    Create::NEVER_ALLOCATE,
    Create::MAPPED,
    Create::DONT_BIND,
    Create::WITHIN_BUDGET,
    Create::CAN_ALIAS,
    Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD,
    Create::STRATEGY_MIN_MEMORY,
    Create::STRATEGY_MIN_TIME,
    Create::STRATEGY_MIN_OFFSET,
    Create::CAN_BECOME_LOST,
    Create::CAN_MAKE_OTHER_LOST,
];

const PROPERTIES: [Property; 7] = [
    Property::DEVICE_LOCAL,
    Property::HOST_VISIBLE,
    Property::HOST_COHERENT,
    Property::HOST_CACHED,
    Property::LAZILY_ALLOCATED,
    Property::PROTECTED,
    Property::DEVICE_COHERENT_AMD,
];

pub fn random(random: &mut Random, device: &dyn DeviceMemory) -> AllocationRequest {
    let all_types = u32::MAX >> (32 - device.info().types.len());
    let mut flags = match random.below(4) {
        0 => Create::HOST_ACCESS_RANDOM,
        1 => Create::HOST_ACCESS_SEQUENTIAL_WRITE,
        _ => Create::empty(),
    };
    for flag in FLAGS {
        flags.set(flag, random.one_in(9));
    }
    // Lost allocations are common.
    if random.one_in(2) {
        flags |= Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
    }
    // Most requests should not contradict themselves.
    let host_access = flags.intersects(Create::HOST_ACCESS_MASK);
    if host_access && random.one_in(2) {
        flags |= Create::MAPPED;
    } else if !host_access && !random.one_in(10) {
        flags -= Create::MAPPED | Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD;
    }
    if flags.contains(Create::MAPPED) && !random.one_in(20) {
        flags -= Create::CAN_BECOME_LOST;
    }
    let mut property = |chances| match random.one_in(chances) {
        true => random.pick(&PROPERTIES),
        false => Property::empty(),
    };
    let (required_flags, preferred_flags) = (property(12), property(5));
    let not_preferred_flags = property(5);
    let create_info = AllocationCreateInfo {
        usage: match random.one_in(3) {
            true => MemoryUsage::from_raw(random.below(10) as u32).unwrap(),
            false => MemoryUsage::Auto,
        },
        flags,
        required_flags,
        preferred_flags,
        not_preferred_flags,
        memory_type_bits: if random.one_in(12) { random.next() as u32 } else { 0 },
        min_alignment: if random.one_in(8) { 1 << random.below(17) } else { 0 },
        // The simulated device does not read the chain.
        memory_allocate_next: if random.one_in(30) { 0x1000 } else { 0 },
        ..AllocationCreateInfo::default()
    };
    let size = match random.below(40) {
        0 => random.pick(&[u64::MAX, 1 << 60, u64::MAX / 2, 1 << 40]),
        1..4 => random.size(26),
        4..10 => random.size(20),
        _ => random.size(15),
    };
    AllocationRequest {
        requirements: MemoryRequirements {
            size,
            alignment: 1 << random.below(random.0 % 17 + 1),
            memory_type_bits: if random.one_in(10) {
                random.next() as u32 & all_types
            } else {
                all_types
            },
            prefers_dedicated: random.one_in(12),
            requires_dedicated: random.one_in(25),
        },
        create_info,
        kind: random.pick(&KINDS),
        resource_use: random.pick(&[
            ResourceUse::Unknown,
            ResourceUse::Device,
            ResourceUse::TransferOnly,
        ]),
        dedicated: random.one_in(2).then(|| DedicatedTarget::Buffer(random.next())),
    }
}
