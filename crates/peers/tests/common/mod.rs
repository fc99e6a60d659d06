//! Random devices, and the number of rounds.

#![allow(dead_code)] // Each test uses a part of it.

pub mod trace;

use vkmem_engine::{
    DeviceInfo, DeviceType, MemoryHeap, MemoryHeapFlags, MemoryPropertyFlags as Property,
    MemoryType, simulated_info,
};
use vkmem_peers::random::Random;

/// Returns `count`, or fifty times as much with `VKMEM_DIFFERENTIAL=long` in the environment.
pub fn rounds(count: u64) -> u64 {
    match std::env::var("VKMEM_DIFFERENTIAL") {
        Ok(mode) if mode == "long" => 50 * count,
        Ok(mode) => panic!("VKMEM_DIFFERENTIAL is {mode:?}; it knows only \"long\""),
        Err(_) => count,
    }
}

/// Returns property flags that Vulkan allows together: coherent and cached memory is host-visible; lazily
/// allocated memory is device-local and not host-visible; protected memory is not host-visible.
fn flags(random: &mut Random) -> Property {
    let mut flags = Property::from_bits_retain(random.below(16) as u32);
    if !flags.contains(Property::HOST_VISIBLE) {
        flags -= Property::HOST_COHERENT | Property::HOST_CACHED;
        match random.below(8) {
            0 => flags |= Property::LAZILY_ALLOCATED | Property::DEVICE_LOCAL,
            1 => flags |= Property::PROTECTED,
            _ => {}
        }
    }
    match random.below(16) {
        0 => flags |= Property::DEVICE_COHERENT_AMD | Property::DEVICE_UNCACHED_AMD,
        1 => flags |= Property::DEVICE_COHERENT_AMD,
        2 => flags |= Property::RDMA_CAPABLE_NV,
        _ => {}
    }
    flags
}

/// Returns a device with random heaps, types, flags, kind of GPU and limits, within what Vulkan allows.
pub fn random_device(random: &mut Random) -> DeviceInfo {
    let heaps = 1 + random.below(4);
    let types = 1 + random.below(12);
    let heap = |random: &mut Random| MemoryHeap {
        size: random.log_uniform(64 << 20, 64 << 30),
        flags: MemoryHeapFlags::from_bits_retain(random.below(2) as u32),
    };
    let memory_type = |random: &mut Random| MemoryType {
        heap_index: random.below(heaps) as u32,
        flags: flags(random),
    };
    let kinds = [
        DeviceType::Other,
        DeviceType::IntegratedGpu,
        DeviceType::DiscreteGpu,
        DeviceType::VirtualGpu,
        DeviceType::Cpu,
    ];
    let plain = [(1 << 30, MemoryHeapFlags::DEVICE_LOCAL)];
    let mut info = simulated_info(&plain, &[(0, Property::DEVICE_LOCAL)]);
    info.heaps = (0..heaps).map(|_| heap(random)).collect();
    info.types = (0..types).map(|_| memory_type(random)).collect();
    info.device_type = random.pick(&kinds);
    // VK_MAKE_API_VERSION
    info.api_version = 1 << 22 | (random.below(5) as u32) << 12;
    info.amd_device_coherent = random.below(2) == 0;
    info.limits.buffer_image_granularity = 1 << random.below(17);
    info.limits.non_coherent_atom_size = 1 << random.below(9);
    info.limits.max_memory_allocation_count = 1 << (4 + random.below(20));
    info
}
