//! Profiles of simulated devices: heaps, memory types and limits like those of existing ones.
//!
//! `nvidia-h200` and `lavapipe` were read from these devices. The others have figures that are common for
//! their kind; together they cover every configuration that makes a difference to an allocator.

use crate::device::{DeviceInfo, DeviceType, Limits, MemoryHeapFlags, MemoryPropertyFlags};

use super::info::{PLAIN_LIMITS, api_version, simulated_info};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A device-local heap.
const OWN: MemoryHeapFlags = MemoryHeapFlags::DEVICE_LOCAL;
/// A heap that is not device-local.
const HOST: MemoryHeapFlags = MemoryHeapFlags::empty();

const NONE: MemoryPropertyFlags = MemoryPropertyFlags::empty();
const LOCAL: MemoryPropertyFlags = MemoryPropertyFlags::DEVICE_LOCAL;
const VISIBLE: MemoryPropertyFlags = MemoryPropertyFlags::HOST_VISIBLE;
const COHERENT: MemoryPropertyFlags = VISIBLE.union(MemoryPropertyFlags::HOST_COHERENT);
const CACHED: MemoryPropertyFlags = COHERENT.union(MemoryPropertyFlags::HOST_CACHED);
const LAZY: MemoryPropertyFlags = LOCAL.union(MemoryPropertyFlags::LAZILY_ALLOCATED);
/// The properties of the slow types that AMD's drivers list after the ordinary ones.
const AMD_TWIN: MemoryPropertyFlags =
    MemoryPropertyFlags::DEVICE_COHERENT_AMD.union(MemoryPropertyFlags::DEVICE_UNCACHED_AMD);

const NAMES: [&str; 8] = [
    "nvidia-h200",
    "lavapipe",
    "discrete-8gib",
    "discrete-8gib-bar",
    "integrated",
    "raspberry-pi",
    "moltenvk",
    "non-coherent",
];

/// Returns the names of all profiles.
pub fn profile_names() -> &'static [&'static str] {
    &NAMES
}

/// Returns the description of a profile, for [`SimulatedDevice::new`](super::SimulatedDevice::new).
///
///  name | shape |
///  --- | --- |
///  `nvidia-h200` | 140 GiB of its own, all of it host-visible through one type; granularity 1 KiB |
///  `lavapipe` | a processor: one heap, one type with every flag |
///  `discrete-8gib` | no memory is both device-local and host-visible; granularity 1 KiB |
///  `discrete-8gib-bar` | 256 MiB of device-local memory is host-visible; AMD's twin types |
///  `integrated` | one heap; device-local types without, with and with cached host access |
///  `raspberry-pi` | one heap, one type, not cached; everything aligned to 256 bytes and more |
///  `moltenvk` | unified, with a lazily allocated type; pages of 16 KiB |
///  `non-coherent` | host-visible types that need flushes come first; granularity 64 KiB |
pub fn profile_info(name: &str) -> Option<DeviceInfo> {
    Some(match name {
        "nvidia-h200" => nvidia_h200(),
        "lavapipe" => lavapipe(),
        "discrete-8gib" => discrete_8gib(),
        "discrete-8gib-bar" => discrete_8gib_bar(),
        "integrated" => integrated(),
        "raspberry-pi" => raspberry_pi(),
        "moltenvk" => moltenvk(),
        "non-coherent" => non_coherent(),
        _ => return None,
    })
}

fn nvidia_h200() -> DeviceInfo {
    DeviceInfo {
        name: "NVIDIA H200".into(),
        driver: "580.159.04".into(),
        vendor_id: 0x10DE,
        device_id: 9013,
        device_type: DeviceType::DiscreteGpu,
        api_version: api_version(1, 4, 312),
        limits: Limits {
            max_memory_allocation_count: u32::MAX,
            max_memory_allocation_size: 4_292_870_144,
            buffer_image_granularity: 1024,
            non_coherent_atom_size: 64,
            min_memory_map_alignment: 64,
            min_uniform_buffer_offset_alignment: 64,
            min_storage_buffer_offset_alignment: 16,
            min_texel_buffer_offset_alignment: 16,
            optimal_buffer_copy_offset_alignment: 1,
        },
        ..simulated_info(
            &[(150_754_820_096, OWN), (101_361_423_360, HOST)],
            &[(1, NONE), (0, LOCAL), (1, COHERENT), (1, CACHED), (0, LOCAL.union(COHERENT))],
        )
    }
}

fn lavapipe() -> DeviceInfo {
    DeviceInfo {
        name: "llvmpipe (LLVM 15.0.6, 256 bits)".into(),
        driver: "Mesa 22.3.6".into(),
        vendor_id: 0x1_0005,
        device_id: 0,
        device_type: DeviceType::Cpu,
        api_version: api_version(1, 3, 230),
        limits: Limits {
            max_memory_allocation_count: u32::MAX,
            max_memory_allocation_size: 2 * GIB,
            buffer_image_granularity: 64,
            non_coherent_atom_size: 64,
            min_memory_map_alignment: 64,
            min_uniform_buffer_offset_alignment: 16,
            min_storage_buffer_offset_alignment: 16,
            min_texel_buffer_offset_alignment: 16,
            optimal_buffer_copy_offset_alignment: 128,
        },
        ..simulated_info(&[(2 * GIB, OWN)], &[(0, LOCAL.union(CACHED))])
    }
}

/// Describes a desktop GPU without resizable BAR: the host accesses its memory only through copies.
fn discrete_8gib() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated discrete GPU, 8 GiB".into(),
        vendor_id: 0x10DE,
        limits: Limits {
            max_memory_allocation_size: 4 * GIB - 4096,
            buffer_image_granularity: 1024,
            min_uniform_buffer_offset_alignment: 256,
            min_storage_buffer_offset_alignment: 32,
            ..PLAIN_LIMITS
        },
        ..simulated_info(
            &[(8 * GIB, OWN), (16 * GIB, HOST)],
            &[(0, LOCAL), (1, COHERENT), (1, CACHED)],
        )
    }
}

/// Describes a desktop GPU with a BAR of 256 MiB, and the types that AMD's drivers list.
fn discrete_8gib_bar() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated discrete GPU, 8 GiB, 256 MiB of it host-visible".into(),
        vendor_id: 0x1002,
        limits: Limits {
            max_memory_allocation_size: 2 * GIB,
            non_coherent_atom_size: 128,
            min_uniform_buffer_offset_alignment: 16,
            min_storage_buffer_offset_alignment: 4,
            min_texel_buffer_offset_alignment: 4,
            ..PLAIN_LIMITS
        },
        ..simulated_info(
            &[(8 * GIB - 256 * MIB, OWN), (16 * GIB, HOST), (256 * MIB, OWN)],
            &[
                (0, LOCAL),
                (1, COHERENT),
                (2, LOCAL.union(COHERENT)),
                (1, CACHED),
                (0, LOCAL.union(AMD_TWIN)),
                (1, COHERENT.union(AMD_TWIN)),
                (2, LOCAL.union(COHERENT).union(AMD_TWIN)),
                (1, CACHED.union(AMD_TWIN)),
            ],
        )
    }
}

/// Describes an integrated GPU like Intel's: all memory is shared by host and device.
fn integrated() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated integrated GPU".into(),
        vendor_id: 0x8086,
        device_type: DeviceType::IntegratedGpu,
        limits: Limits {
            max_memory_allocation_size: 4 * GIB - 4096,
            min_memory_map_alignment: 4096,
            min_storage_buffer_offset_alignment: 4,
            optimal_buffer_copy_offset_alignment: 128,
            ..PLAIN_LIMITS
        },
        ..simulated_info(
            &[(12 * GIB, OWN)],
            &[(0, LOCAL), (0, LOCAL.union(COHERENT)), (0, LOCAL.union(CACHED))],
        )
    }
}

/// Describes a Raspberry Pi 4 with 4 GiB under V3DV: no memory is cached.
fn raspberry_pi() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated V3D 4.2".into(),
        vendor_id: 0x14E4,
        device_type: DeviceType::IntegratedGpu,
        limits: Limits {
            // One object per page, as V3DV reports.
            max_memory_allocation_count: 1 << 20,
            max_memory_allocation_size: GIB,
            buffer_image_granularity: 256,
            non_coherent_atom_size: 256,
            min_memory_map_alignment: 4096,
            min_uniform_buffer_offset_alignment: 32,
            min_storage_buffer_offset_alignment: 32,
            min_texel_buffer_offset_alignment: 64,
            optimal_buffer_copy_offset_alignment: 32,
        },
        ..simulated_info(&[(2 * GIB, OWN)], &[(0, LOCAL.union(COHERENT))])
    }
}

/// Describes Apple silicon with 16 GiB under MoltenVK.
fn moltenvk() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated Apple GPU".into(),
        vendor_id: 0x106B,
        device_type: DeviceType::IntegratedGpu,
        limits: Limits {
            max_memory_allocation_count: 1 << 30,
            max_memory_allocation_size: 9 * GIB,
            buffer_image_granularity: 16,
            non_coherent_atom_size: 16,
            min_memory_map_alignment: 16_384,
            min_uniform_buffer_offset_alignment: 16,
            min_storage_buffer_offset_alignment: 16,
            min_texel_buffer_offset_alignment: 16,
            optimal_buffer_copy_offset_alignment: 16,
        },
        ..simulated_info(&[(11 * GIB, OWN)], &[(0, LOCAL), (0, LOCAL.union(CACHED)), (0, LAZY)])
    }
}

/// Describes the strictest existing limits in one device: host-visible memory needs flushes, except the last type,
/// which Vulkan requires to exist.
fn non_coherent() -> DeviceInfo {
    DeviceInfo {
        name: "Simulated non-coherent GPU".into(),
        limits: Limits {
            max_memory_allocation_size: 2 * GIB,
            buffer_image_granularity: 64 << 10,
            non_coherent_atom_size: 256,
            min_uniform_buffer_offset_alignment: 256,
            min_storage_buffer_offset_alignment: 64,
            min_texel_buffer_offset_alignment: 64,
            optimal_buffer_copy_offset_alignment: 64,
            ..PLAIN_LIMITS
        },
        ..simulated_info(
            &[(4 * GIB, OWN), (4 * GIB, HOST)],
            &[
                (0, LOCAL),
                (1, VISIBLE),
                (1, VISIBLE.union(MemoryPropertyFlags::HOST_CACHED)),
                (0, LOCAL.union(VISIBLE)),
                (1, COHERENT),
            ],
        )
    }
}
