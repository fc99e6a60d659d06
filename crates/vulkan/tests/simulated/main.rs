//! The simulated driver: requirements, binding, copies, and the host's access to its memory.

mod bindings;
mod blits;
mod contents;
mod external;
mod findings;
mod host_images;
mod image_copies;
mod image_rules;
mod requirements;
mod submissions;
mod transfer_queue;
mod transfers;
mod unbound;

use std::ptr;

use ash::vk;
use vkmem_engine::{
    DeviceMemory, HostAddress, MemoryAllocateInfo, MemoryHandle, MemoryRequirements,
};
use vkmem_vulkan::{Driver, SimulatedDriver};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn driver(profile: &str) -> SimulatedDriver {
    SimulatedDriver::profile(profile).expect("a known profile")
}

fn buffer_info(size: u64, usage: vk::BufferUsageFlags) -> vk::BufferCreateInfo<'static> {
    vk::BufferCreateInfo::default().size(size).usage(usage)
}

fn image_info(format: vk::Format, width: u32, height: u32) -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width, height, depth: 1 })
        .mip_levels(1)
        .array_layers(1)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(vk::ImageTiling::OPTIMAL)
        .usage(
            vk::ImageUsageFlags::TRANSFER_SRC
                | vk::ImageUsageFlags::TRANSFER_DST
                | vk::ImageUsageFlags::SAMPLED,
        )
}

/// Returns the usages of a copy's source and target.
fn copied() -> vk::BufferUsageFlags {
    vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST
}

fn of_type(memory_type_index: u32, size: u64) -> MemoryAllocateInfo {
    MemoryAllocateInfo::of_type(memory_type_index, size)
}

fn buffer_needs(driver: &SimulatedDriver, info: &vk::BufferCreateInfo<'_>) -> MemoryRequirements {
    // SAFETY: the chains of create infos in these tests are valid.
    unsafe { driver.buffer_requirements_of_info(info) }.unwrap()
}

fn image_needs(driver: &SimulatedDriver, info: &vk::ImageCreateInfo<'_>) -> MemoryRequirements {
    // SAFETY: the chains of create infos in these tests are valid.
    unsafe { driver.image_requirements_of_info(info) }.unwrap()
}

fn create_buffer(driver: &SimulatedDriver, info: &vk::BufferCreateInfo<'_>) -> vk::Buffer {
    // SAFETY: the chains of create infos in these tests are valid.
    unsafe { driver.create_buffer(info) }.unwrap()
}

/// Returns a buffer bound to memory of its size.
fn bound_buffer(
    driver: &SimulatedDriver,
    memory_type: u32,
    size: u64,
) -> (vk::Buffer, MemoryHandle) {
    let buffer = create_buffer(driver, &buffer_info(size, copied()));
    // SAFETY: a live buffer, live memory.
    unsafe {
        let needs = driver.buffer_requirements(buffer);
        let memory = driver.allocate(&of_type(memory_type, needs.size)).unwrap();
        driver.bind_buffer(buffer, memory, 0).unwrap();
        (buffer, memory)
    }
}

fn write(address: HostAddress, bytes: &[u8]) {
    let target = ptr::with_exposed_provenance_mut::<u8>(address.0.get());
    // SAFETY: the tests stay within what they mapped.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
}

fn read(address: HostAddress, size: usize) -> Vec<u8> {
    let source = ptr::with_exposed_provenance::<u8>(address.0.get());
    let mut bytes = vec![0; size];
    // SAFETY: the tests stay within what they mapped.
    unsafe { ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), size) };
    bytes
}

#[track_caller]
fn assert_one_violation(driver: &SimulatedDriver, expected: &str) {
    let violations = driver.device().take_violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(violations[0].contains(expected), "{violations:?}");
}
