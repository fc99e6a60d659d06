//! Host writes to memory that nothing is bound to.

use ash::vk::{self, Handle};
use vkmem_engine::{
    Call, DeviceMemory, MemoryHandle, MemoryPropertyFlags, MemoryRange, SimulatedDevice,
    ViolationKind,
};
use vkmem_vulkan::{Driver, SimulatedDriver, TransferCommand};

use crate::{buffer_info, copied, create_buffer, driver, of_type, write};

/// Two buffers of 4096 bytes with a gap of 64 KiB and more between them, in memory of 256 KiB.
struct Setup {
    driver: SimulatedDriver,
    memory: MemoryHandle,
    buffers: [vk::Buffer; 2],
    /// Where the second one begins.
    second: u64,
    non_coherent: bool,
}

const SIZE: u64 = 256 << 10;

/// Calls a function for each host-visible memory type of each profile.
fn for_each_type(run: impl Fn(&Setup)) {
    for profile in SimulatedDevice::profile_names() {
        let types = driver(profile).info().types.clone();
        for (index, memory_type) in types.iter().enumerate() {
            let flags = memory_type.flags;
            if !flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
                || flags.contains(MemoryPropertyFlags::DEVICE_COHERENT_AMD)
            {
                continue;
            }
            let driver = driver(profile);
            driver.set_watch_unbound(true);
            let memory = driver.allocate(&of_type(index as u32, SIZE)).unwrap();
            let buffers = [0, 1].map(|_| create_buffer(&driver, &buffer_info(4096, copied())));
            let second = 128 << 10;
            for (buffer, offset) in buffers.into_iter().zip([0, second]) {
                // SAFETY: a live buffer that is not bound, live memory.
                unsafe { driver.bind_buffer(buffer, memory, offset) }.unwrap();
            }
            let non_coherent = driver.info().is_non_coherent(index as u32);
            let setup = Setup { driver, memory, buffers, second, non_coherent };
            run(&setup);
            // SAFETY: live buffers that nothing uses.
            unsafe {
                setup.driver.destroy_buffer(buffers[0]);
                setup.driver.destroy_buffer(buffers[1]);
            }
            setup.driver.free(memory);
            setup.driver.assert_clean();
        }
    }
}

impl Setup {
    fn range(&self, offset: u64, size: u64) -> MemoryRange {
        MemoryRange { memory: self.memory, offset, size }
    }

    /// The only violation: call, place, resource.
    #[track_caller]
    fn only(&self) -> (Call, Option<MemoryRange>, Option<u64>, String) {
        let found = self.driver.device().take_violation_records();
        assert_eq!(found.len(), 1, "{found:#?}");
        let found = found[0].clone();
        assert_eq!(found.finding.kind, ViolationKind::OutOfBounds);
        (found.call, found.finding.place, found.finding.resource, found.finding.text)
    }
}

#[test]
fn one_byte_before_or_behind_a_resource_is_found() {
    for_each_type(|setup| {
        let (driver, second) = (&setup.driver, setup.second);
        let [one, two] = setup.buffers;
        let address = driver.map(setup.memory).unwrap();
        // What is bound may be written.
        write(address.at(0), &[1; 4096]);
        write(address.at(second), &[1; 4096]);
        driver.check_unbound();
        driver.device().assert_no_violations();
        for (offset, size, handle, far) in [
            (second - 1, 1, two, "which begins 0 bytes behind"),
            (second - 70_000, 1, one, "which ends"),
            (second + 4096, 3, two, "which ends 0 bytes before"),
            (SIZE - 1, 1, two, "which ends"),
        ] {
            // The padding of a buffer, if it has some, belongs to it.
            write(address.at(offset), &vec![9; size as usize]);
            driver.check_unbound();
            let (call, place, resource, text) = setup.only();
            assert_eq!((call, place), (Call::Map, Some(setup.range(offset, size))));
            assert_eq!(resource, Some(handle.as_raw()));
            assert!(text.contains(far), "{text}");
            driver.check_unbound();
            driver.device().assert_no_violations();
        }
        write(address.at(second - 2), &[5]);
        if setup.non_coherent {
            driver.flush(&[setup.range(0, 4096)]).unwrap();
            assert_eq!(setup.only().0, Call::Flush);
            write(address.at(second - 2), &[6]);
            driver.invalidate(&[setup.range(0, SIZE)]).unwrap();
            assert_eq!(setup.only().0, Call::Invalidate);
            driver.check_unbound();
            driver.device().assert_no_violations();
            write(address.at(second - 2), &[7]);
        }
        driver.unmap(setup.memory);
        assert_eq!(setup.only().0, Call::Unmap);
        // A new map begins with what is there.
        driver.map(setup.memory).unwrap();
        driver.check_unbound();
        driver.device().assert_no_violations();
    });
}

#[test]
fn what_a_resource_leaves_is_nobodys_write() {
    for_each_type(|setup| {
        let (driver, second) = (&setup.driver, setup.second);
        let address = driver.map(setup.memory).unwrap();
        write(address.at(second), &[1; 100]);
        let buffer = create_buffer(driver, &buffer_info(4096, copied()));
        let there = second + (64 << 10);
        // SAFETY: live handles; the range lies inside of the buffer.
        unsafe {
            driver.bind_buffer(buffer, setup.memory, there).unwrap();
            write(address.at(there), &[2; 4096]);
            let value = 0x0303_0303;
            let fill = TransferCommand::FillBuffer { buffer, offset: 0, size: 64, value };
            driver.run(&[fill]).unwrap();
            driver.check_unbound();
            driver.destroy_buffer(buffer);
        }
        driver.check_unbound();
        driver.device().assert_no_violations();
        write(address.at(there), &[9; 2]);
        driver.check_unbound();
        assert_eq!(setup.only().1, Some(setup.range(there, 2)));
    });
}

#[test]
fn off_by_default_and_when_turned_off() {
    for_each_type(|setup| {
        let driver = &setup.driver;
        let address = driver.map(setup.memory).unwrap();
        driver.set_watch_unbound(false);
        write(address.at(setup.second - 1), &[5]);
        driver.check_unbound();
        driver.unmap(setup.memory);
        driver.device().assert_no_violations();
    });
}
