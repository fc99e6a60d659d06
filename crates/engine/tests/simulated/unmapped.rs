//! What is seen through the address of memory that was unmapped or freed.

use std::ptr;

use vkmem_engine::{DeviceMemory, HostAddress, MemoryHandle, MemoryPropertyFlags, SimulatedDevice};

use super::{device, of_type, range};

const POISON: u8 = SimulatedDevice::POISON;

fn peek(address: HostAddress, size: usize) -> Vec<u8> {
    let source = ptr::with_exposed_provenance::<u8>(address.0.get());
    // SAFETY: the device keeps the memory at its address.
    unsafe { std::slice::from_raw_parts(source, size) }.to_vec()
}

fn poke(address: HostAddress, byte: u8) {
    // SAFETY: the memory is mapped.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(address.0.get()).write(byte) };
}

/// Calls a function with memory of 4 KiB of each host-visible type of each profile.
fn for_each_type(run: impl Fn(&SimulatedDevice, MemoryHandle, bool)) {
    for profile in SimulatedDevice::profile_names() {
        let device = device(profile);
        device.set_poison_unmapped(true);
        for (index, memory_type) in device.info().types.clone().iter().enumerate() {
            let amd = MemoryPropertyFlags::DEVICE_COHERENT_AMD;
            let flags = memory_type.flags;
            if flags.contains(MemoryPropertyFlags::HOST_VISIBLE) && !flags.intersects(amd) {
                let memory = device.allocate(&of_type(index as u32, 4096)).unwrap();
                run(&device, memory, device.info().is_non_coherent(index as u32));
            }
        }
        device.assert_clean();
    }
}

#[test]
fn a_view_that_is_kept_reads_the_pattern_until_the_next_map() {
    for_each_type(|device, memory, non_coherent| {
        let address = device.map(memory).unwrap();
        poke(address, 1);
        if non_coherent {
            device.flush(&[range(memory, 0, 4096)]).unwrap();
        }
        device.unmap(memory);
        assert_eq!(peek(address, 4096), [POISON; 4096]);
        // The device sees the bytes, and writes among them.
        assert_eq!(device.device_read(memory, 0, 2), [1, 0]);
        device.device_fill(memory, 4095, 1, &[9]);
        device.device_copy(memory, 0, memory, 8, 4);
        assert_eq!(peek(address, 4096), [POISON; 4096]);
        assert_eq!(device.map(memory), Ok(address));
        if non_coherent {
            device.invalidate(&[range(memory, 0, 4096)]).unwrap();
        }
        let seen = peek(address, 4096);
        assert_eq!((seen[0], seen[8], seen[4095]), (1, 1, 9));
        assert_eq!(seen.iter().filter(|it| **it != 0).count(), 3);
        device.free(memory);
        assert_eq!(peek(address, 4096), [POISON; 4096], "freed while mapped");
    });
}

#[test]
fn what_a_stale_view_writes_changes_nothing() {
    for_each_type(|device, memory, non_coherent| {
        let address = device.map(memory).unwrap();
        device.unmap(memory);
        poke(address, 5);
        assert_eq!(device.device_read(memory, 0, 1), [0]);
        assert_eq!(peek(device.map(memory).unwrap(), 1), [0]);
        assert!(!non_coherent || device.unflushed(range(memory, 0, 4096)).is_none());
        device.unmap(memory);
        device.free(memory);
        assert_eq!(peek(address, 16), [POISON; 16]);
    });
}

#[test]
fn off_by_default() {
    let device = device("lavapipe");
    assert!(!device.poisons_unmapped() && device.may_stay_mapped());
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    let address = device.map(memory).unwrap();
    poke(address, 1);
    device.unmap(memory);
    assert_eq!(peek(address, 1), [1]);
    device.set_poison_unmapped(true);
    assert_eq!(peek(address, 1), [1], "it was unmapped before");
    assert!(!device.may_stay_mapped());
    device.map(memory).unwrap();
    device.unmap(memory);
    assert_eq!(peek(address, 1), [POISON]);
    // Turned off, the bytes come back with the next map.
    device.set_poison_unmapped(false);
    device.map(memory).unwrap();
    assert_eq!(peek(address, 1), [1]);
    device.free(memory);
    device.assert_clean();
}

#[test]
fn freed_memory_is_kept_up_to_a_limit() {
    let device = device("lavapipe");
    device.set_poison_unmapped(true);
    let size = 100 << 20;
    let addresses: Vec<_> = (0..4)
        .map(|_| {
            let memory = device.allocate(&of_type(0, size)).unwrap();
            let address = device.map(memory).unwrap();
            device.free(memory);
            address
        })
        .collect();
    for address in &addresses[2..] {
        assert_eq!(peek(*address, 64), [POISON; 64]);
    }
    device.assert_clean();
}
