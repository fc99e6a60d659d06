//! The simulated device and the contract of `DeviceMemory`.
//!
//! Host writes need a raw pointer, so they are tested where unsafe code is allowed: with the simulated
//! Vulkan driver. Here the device's side is used for both.

mod contents;
mod contract;
mod control;
mod profiles;
mod unmapped;
mod violations;

use vkmem_engine::{
    DeviceInfo, MemoryAllocateInfo, MemoryHandle, MemoryHeapFlags, MemoryPropertyFlags,
    MemoryRange, SimulatedDevice, simulated_info,
};

const MIB: u64 = 1 << 20;

fn device(name: &str) -> SimulatedDevice {
    SimulatedDevice::profile(name).expect("a known profile")
}

fn of_type(memory_type_index: u32, size: u64) -> MemoryAllocateInfo {
    MemoryAllocateInfo::of_type(memory_type_index, size)
}

fn range(memory: MemoryHandle, offset: u64, size: u64) -> MemoryRange {
    MemoryRange { memory, offset, size }
}

/// Describes a device with one heap of 1 MiB and one coherent, host-visible type.
fn small_info() -> DeviceInfo {
    simulated_info(
        &[(MIB, MemoryHeapFlags::DEVICE_LOCAL)],
        &[(
            0,
            MemoryPropertyFlags::DEVICE_LOCAL
                | MemoryPropertyFlags::HOST_VISIBLE
                | MemoryPropertyFlags::HOST_COHERENT,
        )],
    )
}

#[track_caller]
fn assert_one_violation(device: &SimulatedDevice, expected: &str) {
    let violations = device.take_violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(violations[0].contains(expected), "{violations:?}");
}
