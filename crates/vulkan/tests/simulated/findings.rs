//! Violations with figures: which bytes, of which memory and resource, and who else uses them.

use ash::vk::{self, Handle};
use vkmem_engine::{
    DeviceMemory, Finding, MemoryHandle, MemoryPropertyFlags, MemoryRange, ViolationKind,
};
use vkmem_vulkan::{Completion, Driver, SimulatedDriver, Submission, TransferCommand};

use crate::{bound_buffer, buffer_info, copied, create_buffer, driver, of_type, write};

const BARRIER: TransferCommand = TransferCommand::Barrier;

fn fill(buffer: vk::Buffer, offset: u64, size: u64) -> TransferCommand {
    TransferCommand::FillBuffer { buffer, offset, size, value: 0x0707_0707 }
}

fn copy(source: vk::Buffer, target: vk::Buffer, size: u64) -> TransferCommand {
    TransferCommand::CopyBuffer { source, source_offset: 0, target, target_offset: 0, size }
}

fn range(memory: MemoryHandle, offset: u64, size: u64) -> MemoryRange {
    MemoryRange { memory, offset, size }
}

#[track_caller]
fn only(driver: &SimulatedDriver, kind: ViolationKind) -> Finding {
    let found = driver.device().take_violation_records();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].finding.kind, kind, "{found:#?}");
    if let Some(place) = found[0].finding.place {
        let memory = driver.device().memory(place.memory);
        assert_eq!(found[0].memory_type_index, memory.map(|it| it.memory_type_index));
    }
    found[0].finding.clone()
}

/// Calls a function with two buffers of 4096 bytes of each host-visible memory type of each profile, and the memory
/// of the first one.
fn for_each_type(run: impl Fn(&SimulatedDriver, [vk::Buffer; 2], MemoryHandle, bool)) {
    for profile in vkmem_engine::SimulatedDevice::profile_names() {
        let driver = driver(profile);
        for (index, memory_type) in driver.info().types.clone().iter().enumerate() {
            let flags = memory_type.flags;
            if !flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
                || flags.contains(MemoryPropertyFlags::DEVICE_COHERENT_AMD)
            {
                continue;
            }
            let index = index as u32;
            let (one, memory) = bound_buffer(&driver, index, 4096);
            let (other, other_memory) = bound_buffer(&driver, index, 4096);
            run(&driver, [one, other], memory, driver.info().is_non_coherent(index));
            // SAFETY: live handles that nothing uses.
            unsafe {
                driver.destroy_buffer(one);
                driver.destroy_buffer(other);
            }
            driver.free(memory);
            driver.free(other_memory);
        }
        driver.assert_clean();
    }
}

#[test]
fn a_missing_flush_is_named_where_memory_is_not_coherent() {
    for_each_type(|driver, [one, other], memory, non_coherent| {
        let address = driver.map(memory).unwrap();
        write(address.at(1000), &[1, 2, 3]);
        let submit = |commands: &[TransferCommand]| {
            // SAFETY: live buffers, ranges inside of them.
            unsafe { driver.run(commands) }.unwrap();
        };
        submit(&[copy(one, other, 500)]);
        driver.device().assert_no_violations();
        submit(&[fill(other, 0, 8), BARRIER, copy(one, other, 1001)]);
        if !non_coherent {
            driver.device().assert_no_violations();
            return;
        }
        let found = only(driver, ViolationKind::MissingFlush);
        assert_eq!(found.place, Some(range(memory, 1000, 1)));
        assert_eq!(found.resource, Some(one.as_raw()));
        let reader = found.other.unwrap_or_default();
        assert!(reader.starts_with("command 1 of submission "), "{reader}");
        submit(&[copy(one, other, 4096)]);
        let found = only(driver, ViolationKind::MissingFlush);
        assert_eq!(found.place, Some(range(memory, 1000, 3)));
        assert!(found.text.contains("wrote 3 bytes at offset 1000 of memory"), "{}", found.text);
        // A flush after the submission is too late.
        driver.set_completion(Completion::Held);
        // SAFETY: live buffers, ranges inside of them.
        unsafe { driver.submit(&[copy(one, other, 4096)]) }.unwrap();
        driver.flush(&[range(memory, 0, 4096)]).unwrap();
        driver.set_completion(Completion::AtOnce);
        only(driver, ViolationKind::MissingFlush);
        submit(&[copy(one, other, 4096)]);
        driver.device().assert_no_violations();
    });
}

#[test]
fn a_missing_invalidate_is_named_where_memory_is_not_coherent() {
    for_each_type(|driver, [one, _], memory, non_coherent| {
        driver.map(memory).unwrap();
        // SAFETY: a live buffer, a range inside of it.
        unsafe { driver.run(&[fill(one, 64, 8)]) }.unwrap();
        driver.host_access(range(memory, 0, 64), false);
        driver.host_access(range(memory, 0, 4096), true);
        driver.device().assert_no_violations();
        driver.host_access(range(memory, 60, 6), false);
        if !non_coherent {
            driver.device().assert_no_violations();
            return;
        }
        let found = only(driver, ViolationKind::MissingInvalidate);
        assert_eq!(found.place, Some(range(memory, 64, 2)));
        driver.host_access(range(memory, 0, 4096), false);
        let found = only(driver, ViolationKind::MissingInvalidate);
        assert_eq!(found.place, Some(range(memory, 64, 8)));
        driver.invalidate(&[range(memory, 0, 4096)]).unwrap();
        driver.host_access(range(memory, 0, 4096), false);
        driver.device().assert_no_violations();
    });
}

/// Submits a command buffer of the program.
fn submit(driver: &SimulatedDriver, commands: &[TransferCommand]) -> Option<Submission> {
    let buffer = driver.begin_command_buffer();
    driver.record_own(buffer, commands).unwrap();
    driver.submit_command_buffer(buffer).ok()
}

#[test]
fn submissions_of_the_program_need_barriers_as_well() {
    for_each_type(|driver, [one, other], memory, _| {
        driver.set_completion(Completion::WhenWaited);
        let wait = |submission: Option<Submission>| {
            assert_eq!(driver.wait(submission.unwrap(), u64::MAX), Ok(true));
        };
        submit(driver, &[fill(one, 128, 64)]);
        submit(driver, &[BARRIER, fill(other, 1024, 4), copy(one, other, 256)]);
        driver.device().assert_no_violations();
        // Reads do not conflict.
        submit(driver, &[copy(one, other, 4), BARRIER]);
        only(driver, ViolationKind::MissingBarrier);
        let last = submit(driver, &[fill(one, 160, 96)]);
        driver.device().assert_no_violations();
        wait(last);
        let first = submit(driver, &[fill(one, 128, 64)]);
        let second = submit(driver, &[fill(other, 2048, 4), copy(one, other, 160)]);
        let (first, second) = (first.unwrap(), second.unwrap());
        let found = only(driver, ViolationKind::MissingBarrier);
        assert_eq!(found.place, Some(range(memory, 128, 32)));
        assert_eq!(found.resource, Some(one.as_raw()));
        let name = format!("command 0 of submission {}", first.number());
        assert_eq!(found.other, Some(format!("{name}, which writes there")));
        let both =
            format!("{name} and command 1 of submission {} have no barrier", second.number());
        assert!(found.text.starts_with(&both), "{}", found.text);
        // A wait orders, and so does what the library submits.
        wait(Some(second));
        let fills = submit(driver, &[fill(one, 0, 4)]);
        wait(fills);
        submit(driver, &[fill(one, 0, 4)]);
        // SAFETY: a live buffer, a range inside of it.
        let ours = unsafe { driver.submit(&[fill(one, 0, 4)]) }.unwrap();
        submit(driver, &[fill(one, 0, 4)]);
        driver.device().assert_no_violations();
        // The end of the library's submission says nothing of the later one.
        wait(Some(ours));
        let last = submit(driver, &[fill(one, 0, 4)]);
        only(driver, ViolationKind::MissingBarrier);
        assert_eq!(driver.is_done(last.unwrap()), Ok(false));
        wait(last);
        assert_eq!(driver.is_done(last.unwrap()), Ok(true));
        // Within one submission, told when it is executed, and refused where that is at once.
        driver.set_completion(Completion::AtOnce);
        assert!(submit(driver, &[fill(one, 0, 64), copy(one, other, 32)]).is_none());
        let found = only(driver, ViolationKind::MissingBarrier);
        assert_eq!(found.place, Some(range(memory, 0, 32)));
        assert_eq!(found.other.as_deref(), Some("command 0, which writes there"));
        assert!(submit(driver, &[copy(one, other, 32)]).is_none());
        only(driver, ViolationKind::MissingBarrier);
    });
}

#[test]
fn two_queues_are_ordered_by_a_wait_only() {
    let driver = driver("discrete-8gib");
    let families = [0, 1];
    let shared = buffer_info(4096, copied())
        .sharing_mode(vk::SharingMode::CONCURRENT)
        .queue_family_indices(&families);
    let buffer = create_buffer(&driver, &shared);
    let memory = driver.allocate(&of_type(0, 4096)).unwrap();
    // SAFETY: a live buffer that is not bound.
    unsafe { driver.bind_buffer(buffer, memory, 0) }.unwrap();
    let record = |commands: &[TransferCommand]| {
        let buffer = driver.begin_command_buffer();
        driver.record_own(buffer, commands).unwrap();
        buffer
    };
    driver.set_completion(Completion::WhenWaited);
    let first = driver.submit_command_buffer(record(&[fill(buffer, 0, 64), BARRIER])).unwrap();
    let there = record(&[BARRIER, fill(buffer, 60, 64)]);
    let second = driver.submit_command_buffer_to_second(there).unwrap();
    let found = only(&driver, ViolationKind::MissingBarrier);
    assert_eq!(found.place, Some(range(memory, 60, 4)));
    let text = format!(
        "command 0 of submission {} and command 0 of submission {} have no wait between them",
        first.number(),
        second.number()
    );
    assert!(found.text.starts_with(&text), "{}", found.text);
    assert_eq!(driver.wait(second, u64::MAX), Ok(true));
    let here = driver.submit_command_buffer(record(&[fill(buffer, 0, 64)])).unwrap();
    assert_eq!(driver.wait(here, u64::MAX), Ok(true));
    driver.device().assert_no_violations();
    // What is exclusive needs a change of its owner.
    let (exclusive, exclusive_memory) = bound_buffer(&driver, 0, 64);
    let there = record(&[fill(exclusive, 0, 4)]);
    let last = driver.submit_command_buffer_to_second(there).unwrap();
    assert_eq!(driver.wait(last, u64::MAX), Ok(true));
    assert!(only(&driver, ViolationKind::Rule).text.contains("its owner is not changed"));
    // SAFETY: live buffers that nothing uses.
    unsafe {
        driver.destroy_buffer(buffer);
        driver.destroy_buffer(exclusive);
    }
    driver.free(memory);
    driver.free(exclusive_memory);
    let none = crate::driver("lavapipe");
    assert!(none.submit_command_buffer_to_second(none.begin_command_buffer()).is_err());
    driver.assert_clean();
    none.assert_clean();
}

#[test]
fn the_host_does_not_wait() {
    for_each_type(|driver, [one, other], memory, _| {
        driver.set_completion(Completion::WhenWaited);
        let submitted = submit(driver, &[copy(one, other, 100)]).unwrap();
        driver.host_access(range(memory, 90, 20), false);
        driver.device().assert_no_violations();
        driver.host_access(range(memory, 90, 20), true);
        let found = only(driver, ViolationKind::InUse);
        assert_eq!(found.place, Some(range(memory, 90, 10)));
        let who = format!("submission {}, which reads there", submitted.number());
        assert_eq!(found.other, Some(who));
        assert_eq!(driver.wait(submitted, u64::MAX), Ok(true));
        driver.host_access(range(memory, 90, 20), true);
        driver.device().assert_no_violations();
    });
}

#[test]
fn what_leaves_its_buffer_names_the_neighbour() {
    for profile in vkmem_engine::SimulatedDevice::profile_names() {
        let driver = driver(profile);
        let info = buffer_info(4096, copied());
        let [first, second] = [0, 1].map(|_| create_buffer(&driver, &info));
        // SAFETY: live buffers that are not bound, and memory of a type that they allow.
        let (memory, at) = unsafe {
            let needs = driver.buffer_requirements(first);
            let index = needs.memory_type_bits.trailing_zeros();
            let at = needs.size.next_multiple_of(needs.alignment);
            let memory = driver.allocate(&of_type(index, 3 * at)).unwrap();
            driver.bind_buffer(first, memory, 0).unwrap();
            driver.bind_buffer(second, memory, at).unwrap();
            (memory, at)
        };
        let refused = |command| {
            // SAFETY: handles of this driver; the range is wrong on purpose.
            assert!(unsafe { driver.run(&[command]) }.is_err());
        };
        refused(fill(first, 4092, 8));
        let found = only(&driver, ViolationKind::OutOfBounds);
        assert_eq!(found.place, Some(range(memory, 4096, 4)));
        assert_eq!(found.resource, Some(first.as_raw()));
        let neighbour = format!("buffer {:#x}", second.as_raw());
        let is_next = at == 4096;
        assert_eq!(found.other, is_next.then(|| neighbour.clone()));
        refused(copy(first, second, at + 8));
        let found = only(&driver, ViolationKind::OutOfBounds);
        assert_eq!(found.place, Some(range(memory, 4096, at + 8 - 4096)));
        assert_eq!(found.other, Some(neighbour.clone()));
        assert!(found.text.ends_with(&format!("; {neighbour} lies there")), "{}", found.text);
        // A buffer that was destroyed, whose place another one has.
        // SAFETY: live handles that nothing uses.
        let third = unsafe {
            driver.destroy_buffer(first);
            let third = create_buffer(&driver, &info);
            driver.bind_buffer(third, memory, 0).unwrap();
            third
        };
        refused(copy(second, first, 64));
        let found = only(&driver, ViolationKind::UseAfterFree);
        assert_eq!(found.place.map(|it| (it.memory, it.offset)), Some((memory, 0)));
        assert_eq!(found.resource, Some(first.as_raw()));
        assert_eq!(found.other, Some(format!("buffer {:#x}", third.as_raw())));
        assert!(found.text.contains("was destroyed already"));
        driver.free(memory);
        refused(fill(second, 0, 4));
        assert!(only(&driver, ViolationKind::UseAfterFree).text.contains("was freed"));
        // SAFETY: live handles that nothing uses.
        unsafe {
            driver.destroy_buffer(second);
            driver.destroy_buffer(third);
        }
        driver.assert_clean();
    }
}
