//! Violations of Vulkan's rules for shared memory that the simulated driver reports.

use ash::vk;
use vkmem_engine::{DeviceMemory, MemoryAllocateInfo};
use vkmem_vulkan::{Driver, SimulatedDriver};

const OPAQUE_FD: u32 = 1;

fn buffer(driver: &SimulatedDriver, external: u32) -> vk::Buffer {
    let mut link = vk::ExternalMemoryBufferCreateInfo::default()
        .handle_types(vk::ExternalMemoryHandleTypeFlags::from_raw(external));
    let info = vk::BufferCreateInfo::default()
        .size(4096)
        .usage(vk::BufferUsageFlags::TRANSFER_SRC)
        .push_next(&mut link);
    // SAFETY: the chain lives for the call.
    unsafe { driver.create_buffer(&info) }.unwrap()
}

#[test]
fn exported_memory_takes_only_buffers_that_were_created_for_it() {
    let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
    let info = MemoryAllocateInfo {
        export_handle_types: OPAQUE_FD,
        ..MemoryAllocateInfo::of_type(0, 4096)
    };
    let memory = driver.allocate(&info).unwrap();
    let (plain, shared) = (buffer(&driver, 0), buffer(&driver, OPAQUE_FD));
    // SAFETY: all handles are live.
    unsafe {
        assert!(driver.bind_buffer(plain, memory, 0).is_err());
        assert!(driver.device().take_violations()[0].contains("external memory of types 0x0"));
        driver.bind_buffer(shared, memory, 0).unwrap();
        driver.destroy_buffer(plain);
        driver.destroy_buffer(shared);
    }
    driver.free(memory);
    driver.assert_clean();
}

#[test]
fn only_exportable_memory_is_exported() {
    let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
    let memory = driver.allocate(&MemoryAllocateInfo::of_type(0, 4096)).unwrap();
    // SAFETY: the memory is live; the handle type is what the test is about.
    unsafe { driver.external().export_fd(memory, OPAQUE_FD) }.unwrap_err();
    assert_eq!(driver.device().take_violations().len(), 1);
    driver.free(memory);
    driver.assert_clean();
}

#[cfg(unix)]
#[test]
fn a_descriptor_keeps_what_was_written() {
    use std::os::fd::{FromRawFd, OwnedFd};

    use vkmem_engine::{DeviceError, MemoryImport};

    let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
    let other = SimulatedDriver::profile("nvidia-h200").unwrap();
    let plain = MemoryAllocateInfo::of_type(0, 4096);
    let info = MemoryAllocateInfo { export_handle_types: OPAQUE_FD, ..plain };
    let memory = driver.allocate(&info).unwrap();
    driver.device().device_fill(memory, 0, 4096, &[1, 2, 3]);
    // SAFETY: live memory that was allocated for it.
    let fd = unsafe { driver.external().export_fd(memory, OPAQUE_FD) }.unwrap();
    driver.free(memory);
    let handle = u64::try_from(fd).unwrap();
    let import = Some(MemoryImport { handle_type: OPAQUE_FD, handle });
    let again = other.allocate(&MemoryAllocateInfo { import, ..plain }).unwrap();
    assert_eq!(other.device().device_read(again, 0, 4), [1, 2, 3, 1]);
    let larger = MemoryAllocateInfo { import, size: 8192, ..plain };
    assert_eq!(other.allocate(&larger), Err(DeviceError::InvalidExternalHandle));
    // SAFETY: the import duplicated the descriptor; this one is still owned here.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    other.free(again);
    driver.assert_clean();
    other.assert_clean();
}
