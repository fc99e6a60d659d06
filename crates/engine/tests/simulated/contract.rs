//! Limits and violations of the contract.

use vkmem_engine::{
    DeviceError, DeviceMemory, MemoryHandle, SimulatedDevice, VALIDATION_FAILED, profile_info,
};

use super::{MIB, assert_one_violation, device, of_type, range, small_info};

#[test]
fn a_full_heap_is_out_of_memory_until_something_is_freed() {
    let device = SimulatedDevice::new(small_info());
    let first = device.allocate(&of_type(0, MIB / 2)).unwrap();
    let second = device.allocate(&of_type(0, MIB / 2)).unwrap();
    assert_ne!(first, second);
    assert_eq!(device.allocate(&of_type(0, 1)), Err(DeviceError::OutOfDeviceMemory));
    assert_eq!((device.live_memory_objects(), device.live_bytes(0)), (2, MIB));
    device.free(first);
    assert_eq!(device.live_bytes(0), MIB / 2);
    let third = device.allocate(&of_type(0, MIB / 2)).unwrap();
    assert_ne!(third, first, "handles are not reused");
    device.free(second);
    device.free(third);
    device.assert_clean();
}

#[test]
fn memory_of_others_is_missing() {
    let device = SimulatedDevice::new(small_info());
    device.occupy(0, MIB - 10);
    assert_eq!(device.allocate(&of_type(0, 11)), Err(DeviceError::OutOfDeviceMemory));
    let memory = device.allocate(&of_type(0, 10)).unwrap();
    device.free(memory);
    device.assert_clean();
}

#[test]
fn the_number_of_objects_is_limited() {
    let mut info = small_info();
    info.limits.max_memory_allocation_count = 3;
    let device = SimulatedDevice::new(info);
    let live: Vec<_> = (0..3).map(|_| device.allocate(&of_type(0, 64)).unwrap()).collect();
    assert_eq!(device.allocate(&of_type(0, 64)), Err(DeviceError::TooManyObjects));
    live.into_iter().for_each(|memory| device.free(memory));
    device.assert_clean();
}

#[test]
fn requests_that_no_device_could_serve_are_violations() {
    let mut info = small_info();
    info.limits.max_memory_allocation_size = MIB / 2;
    let device = SimulatedDevice::new(info);
    let refuse = |request, error, word| {
        assert_eq!(device.allocate(&request), Err(error));
        assert_one_violation(&device, word);
    };
    refuse(of_type(0, MIB / 2 + 1), DeviceError::OutOfDeviceMemory, "maxMemoryAllocationSize");
    refuse(of_type(0, MIB + 1), DeviceError::OutOfDeviceMemory, "heap");
    refuse(of_type(0, u64::MAX), DeviceError::OutOfDeviceMemory, "heap");
    refuse(of_type(0, 0), VALIDATION_FAILED, "zero");
    refuse(of_type(1, 64), VALIDATION_FAILED, "does not exist");
    assert_eq!(device.live_memory_objects(), 0);
}

#[test]
fn amd_twin_types_need_their_extension() {
    let mut info = profile_info("discrete-8gib-bar").unwrap();
    let device = SimulatedDevice::new(info.clone());
    assert_eq!(device.allocate(&of_type(4, 64)), Err(VALIDATION_FAILED));
    assert_one_violation(&device, "VK_AMD_device_coherent_memory");
    info.amd_device_coherent = true;
    assert!(SimulatedDevice::new(info).allocate(&of_type(4, 64)).is_ok());
}

#[test]
fn double_free_and_unknown_handles_are_violations() {
    let device = SimulatedDevice::new(small_info());
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    device.free(memory);
    device.free(memory);
    assert_one_violation(&device, "vkFreeMemory: memory 0x4d454d0000000001 was freed already");
    device.free(MemoryHandle(7));
    assert_one_violation(&device, "memory 0x7 was never allocated");
    assert!(device.map(memory).is_err());
    assert_one_violation(&device, "freed already");
    device.unmap(memory);
    assert_one_violation(&device, "freed already");
    assert_eq!(device.live_bytes(0), 0);
}

#[test]
#[should_panic(expected = "freed already")]
fn the_assertion_shows_the_violations() {
    let device = SimulatedDevice::new(small_info());
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    device.free(memory);
    device.free(memory);
    device.assert_no_violations();
}

#[test]
#[should_panic(expected = "never freed")]
fn the_assertion_shows_leaks() {
    let device = SimulatedDevice::new(small_info());
    device.allocate(&of_type(0, 64)).unwrap();
    device.assert_clean();
}

#[test]
fn map_and_unmap_alternate() {
    let device = SimulatedDevice::new(small_info());
    let memory = device.allocate(&of_type(0, 100)).unwrap();
    device.unmap(memory);
    assert_one_violation(&device, "is not mapped");
    let address = device.map(memory).unwrap();
    assert!(device.memory(memory).unwrap().mapped);
    assert_eq!(device.map(memory), Err(DeviceError::MemoryMapFailed));
    assert_one_violation(&device, "is mapped already");
    device.unmap(memory);
    assert_eq!(device.map(memory), Ok(address), "the same memory again");
    // Mapped memory may be freed.
    device.free(memory);
    device.assert_clean();
}

#[test]
fn memory_that_is_not_host_visible_is_not_mapped() {
    let device = device("discrete-8gib");
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    assert_eq!(device.map(memory), Err(DeviceError::MemoryMapFailed));
    assert_one_violation(&device, "not host-visible");
    device.free(memory);
    device.assert_clean();
}

#[test]
fn addresses_are_aligned_as_the_device_says() {
    for (name, memory_type, alignment) in
        [("lavapipe", 0, 4096), ("moltenvk", 1, 16_384), ("non-coherent", 1, 4096)]
    {
        let device = device(name);
        for size in [1, 100, 5000, 3 * MIB + 1] {
            let memory = device.allocate(&of_type(memory_type, size)).unwrap();
            assert_eq!(device.map(memory).unwrap().0.get() % alignment, 0, "{name}");
            device.free(memory);
        }
        device.assert_clean();
    }
}

#[test]
fn ranges_to_flush_are_checked() {
    let device = device("non-coherent");
    let memory = device.allocate(&of_type(1, 1000)).unwrap();
    let refuse = |offset, size, word| {
        assert_eq!(device.flush(&[range(memory, offset, size)]), Err(VALIDATION_FAILED));
        assert_one_violation(&device, word);
        assert_eq!(device.invalidate(&[range(memory, offset, size)]), Err(VALIDATION_FAILED));
        assert_one_violation(&device, word);
    };
    refuse(0, 256, "is not mapped");
    device.map(memory).unwrap();
    refuse(0, 255, "nonCoherentAtomSize");
    refuse(1, 256, "nonCoherentAtomSize");
    refuse(0, 1024, "outside");
    refuse(256, u64::MAX, "outside");
    refuse(256, 0, "empty");
    // The last atom may be truncated by the end of the memory.
    for (offset, size) in [(0, 256), (768, 232), (0, 1000), (256, 512)] {
        device.flush(&[range(memory, offset, size)]).unwrap();
        device.invalidate(&[range(memory, offset, size)]).unwrap();
    }
    assert_eq!(device.flush(&[]), Err(VALIDATION_FAILED));
    assert_one_violation(&device, "no ranges");
    device.free(memory);
    assert_eq!(device.flush(&[range(memory, 0, 256)]), Err(VALIDATION_FAILED));
    assert_one_violation(&device, "freed already");

    let coherent = device.allocate(&of_type(4, 1024)).unwrap();
    device.map(coherent).unwrap();
    assert_eq!(device.flush(&[range(coherent, 0, 256)]), Err(VALIDATION_FAILED));
    assert_one_violation(&device, "needs no flush");
}
