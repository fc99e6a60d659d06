//! The bytes that the host and the device see.

use vkmem_engine::{DeviceMemory, MemoryHandle};

use super::{assert_one_violation, device, of_type, range};

#[test]
fn the_device_fills_copies_and_reads() {
    let device = device("discrete-8gib");
    let a = device.allocate(&of_type(0, 64)).unwrap();
    let b = device.allocate(&of_type(1, 64)).unwrap();
    assert_eq!(device.device_read(a, 0, 64), [0; 64]);
    device.device_fill(a, 4, 6, &[1, 2, 3, 4]);
    assert_eq!(device.device_read(a, 3, 8), [0, 1, 2, 3, 4, 1, 2, 0]);
    device.device_copy(a, 4, b, 60, 4);
    assert_eq!(device.device_read(b, 58, 6), [0, 0, 1, 2, 3, 4]);
    // Zeros of memory that was never written replace the target's bytes.
    let untouched = device.allocate(&of_type(0, 64)).unwrap();
    device.device_copy(untouched, 0, b, 0, 64);
    assert_eq!(device.device_read(b, 0, 64), [0; 64]);
    // Within one memory object, with disjoint ranges.
    device.device_copy(a, 4, a, 10, 6);
    assert_eq!(device.device_read(a, 10, 6), [1, 2, 3, 4, 1, 2]);
    device.assert_no_violations();
}

#[test]
fn device_accesses_are_checked() {
    let device = device("discrete-8gib");
    let memory = device.allocate(&of_type(0, 64)).unwrap();
    device.device_fill(memory, 60, 5, &[1]);
    assert_one_violation(&device, "outside");
    device.device_fill(memory, u64::MAX, 2, &[1]);
    assert_one_violation(&device, "outside");
    device.device_fill(memory, 0, 4, &[]);
    assert_one_violation(&device, "empty pattern");
    device.device_copy(memory, 0, memory, 8, 16);
    assert_one_violation(&device, "overlaps");
    device.device_copy(memory, 0, MemoryHandle(3), 8, 16);
    assert_one_violation(&device, "never allocated");
    device.free(memory);
    assert!(device.device_read(memory, 0, 4).is_empty());
    assert_one_violation(&device, "freed already");
}

#[test]
fn non_coherent_memory_has_two_sides() {
    let device = device("non-coherent");
    let memory = device.allocate(&of_type(1, 1024)).unwrap();
    device.map(memory).unwrap();
    device.device_fill(memory, 0, 1024, &[7]);
    // The host has not invalidated, so it sees zeros; flushing them overwrites the device's bytes.
    device.flush(&[range(memory, 0, 256)]).unwrap();
    assert_eq!(device.device_read(memory, 254, 4), [0, 0, 7, 7]);
    // After an invalidate the host has the device's bytes, so a flush changes nothing.
    device.invalidate(&[range(memory, 256, 256)]).unwrap();
    device.device_fill(memory, 256, 512, &[9]);
    device.flush(&[range(memory, 256, 256)]).unwrap();
    assert_eq!(device.device_read(memory, 510, 4), [7, 7, 9, 9]);
    device.assert_no_violations();
}

#[test]
fn coherent_memory_has_one_side() {
    let device = device("lavapipe");
    let memory = device.allocate(&of_type(0, 1024)).unwrap();
    device.device_fill(memory, 0, 4, &[5]);
    device.map(memory).unwrap();
    device.unmap(memory);
    assert_eq!(device.device_read(memory, 0, 5), [5, 5, 5, 5, 0]);
    device.assert_no_violations();
}

#[cfg(target_os = "linux")]
#[test]
fn large_memory_costs_nothing_until_it_is_touched() {
    use super::MIB;

    /// Returns the resident memory of this process in pages.
    fn resident_pages() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    }
    let device = device("lavapipe");
    let before = resident_pages();
    let live: Vec<_> = (0..4).map(|_| device.allocate(&of_type(0, 256 * MIB)).unwrap()).collect();
    assert!(live.iter().all(|memory| device.map(*memory).is_ok()));
    device.device_fill(live[1], 100 * MIB, 4096, &[1]);
    let grown = resident_pages().saturating_sub(before) * 4096;
    assert!(grown < 64 * MIB, "mapping 1 GiB committed {grown} bytes");
    live.into_iter().for_each(|memory| device.free(memory));
    device.assert_clean();
}
