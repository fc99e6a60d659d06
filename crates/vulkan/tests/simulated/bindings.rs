//! Handles, bindings and failures of the simulated driver.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ash::vk::{self, Handle};
use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, Allocator, AllocatorOptions, Call,
    DedicatedTarget, DeviceError, DeviceMemory, MemoryAllocateInfo, MemoryHandle, MemoryRange,
    VALIDATION_FAILED,
};
use vkmem_vulkan::{DeviceAllocator, Driver, TransferCommand};

use super::{
    KIB, assert_one_violation, buffer_info, copied, create_buffer, driver, image_info, of_type,
};

#[test]
fn handles_are_recognised_and_never_reused() {
    let driver = driver("lavapipe");
    // SAFETY: handles of this driver, some stale on purpose: nothing is read through them.
    unsafe {
        let first = create_buffer(&driver, &buffer_info(64, copied()));
        assert_eq!(first.as_raw() >> 40, 0x42_5546);
        driver.destroy_buffer(first);
        let second = create_buffer(&driver, &buffer_info(64, copied()));
        assert_ne!(first, second);
        let image = driver.create_image(&image_info(vk::Format::R8_UNORM, 8, 8)).unwrap();
        assert_eq!(image.as_raw() >> 40, 0x49_4D47);
        assert_eq!((driver.live_buffers(), driver.live_images()), (1, 1));
        driver.destroy_buffer(first);
        assert_one_violation(&driver, "destroyed already");
        driver.destroy_image(vk::Image::from_raw(9));
        assert_one_violation(&driver, "never created");
        assert_eq!(driver.buffer_requirements(first).memory_type_bits, 0);
        assert_one_violation(&driver, "destroyed already");
        driver.destroy_buffer(vk::Buffer::null());
        driver.destroy_buffer(second);
        driver.destroy_image(image);
    }
    driver.assert_clean();
}

#[test]
fn bindings_are_checked() {
    let driver = driver("nvidia-h200");
    let info = image_info(vk::Format::R8G8B8A8_UNORM, 32, 32);
    // SAFETY: handles of this driver, some stale on purpose.
    unsafe {
        let image = driver.create_image(&info).unwrap();
        let memory = driver.allocate(&of_type(1, 8 * KIB)).unwrap();
        let refuse = |memory, offset, word| {
            assert_eq!(driver.bind_image(image, memory, offset), Err(VALIDATION_FAILED));
            assert_one_violation(&driver, word);
        };
        refuse(memory, 512, "not aligned");
        refuse(memory, 5 * KIB, "outside");
        refuse(memory, u64::MAX - 1023, "outside");
        refuse(MemoryHandle(1), 0, "not allocated");
        let visible = driver.allocate(&of_type(2, 8 * KIB)).unwrap();
        refuse(visible, 0, "memory type 2");
        driver.bind_image(image, memory, 4 * KIB).unwrap();
        refuse(memory, 0, "bound already");
        driver.free(visible);
        driver.free(memory);
        driver.destroy_image(image);
        refuse(memory, 0, "destroyed already");
    }
    driver.assert_clean();
}

#[test]
fn dedicated_memory_is_for_its_resource() {
    let driver = driver("lavapipe");
    driver.set_requires_dedicated(true);
    // SAFETY: live handles of this driver.
    unsafe {
        let buffer = create_buffer(&driver, &buffer_info(256, copied()));
        let needs = driver.buffer_requirements(buffer);
        assert!(needs.requires_dedicated && needs.prefers_dedicated);
        let target = DedicatedTarget::Buffer(buffer.as_raw());
        let dedicated = |target, size| {
            let info = MemoryAllocateInfo { dedicated: Some(target), ..of_type(0, size) };
            driver.allocate(&info).unwrap()
        };
        let refuse = |memory, offset, word| {
            assert_eq!(driver.bind_buffer(buffer, memory, offset), Err(VALIDATION_FAILED));
            assert_one_violation(&driver, word);
            driver.free(memory);
        };
        refuse(driver.allocate(&of_type(0, 256)).unwrap(), 0, "requires dedicated");
        refuse(dedicated(DedicatedTarget::Image(buffer.as_raw()), 256), 0, "another resource");
        refuse(dedicated(target, 512), 0, "exactly 256 at 0");
        refuse(dedicated(target, 512), 256, "exactly 256 at 0");
        let memory = dedicated(target, 256);
        driver.bind_buffer(buffer, memory, 0).unwrap();
        driver.set_requires_dedicated(false);
        let other = create_buffer(&driver, &buffer_info(256, copied()));
        assert_eq!(driver.bind_buffer(other, memory, 0), Err(VALIDATION_FAILED));
        assert_one_violation(&driver, "another resource");
        driver.destroy_buffer(other);
        driver.destroy_buffer(buffer);
        driver.free(memory);
    }
    driver.assert_clean();
}

#[test]
#[should_panic(expected = "buffers that were never destroyed")]
fn the_assertion_shows_leaks() {
    let driver = driver("lavapipe");
    create_buffer(&driver, &buffer_info(64, copied()));
    driver.assert_clean();
}

#[test]
fn every_call_shares_the_count_of_failures() {
    let driver = driver("lavapipe");
    let lost = DeviceError::DeviceLost;
    // Each step in turn fails once, changes nothing, and succeeds when repeated.
    // SAFETY: live handles of this driver.
    unsafe {
        let device = driver.device();
        device.record_log(true);
        let info = buffer_info(256, copied());
        device.fail_call(0, lost);
        assert_eq!(driver.create_buffer(&info), Err(lost));
        assert_eq!(driver.live_buffers(), 0);
        device.fail_call(2, lost);
        let buffer = driver.create_buffer(&info).unwrap();
        let memory = driver.allocate(&of_type(0, 256)).unwrap();
        driver.buffer_requirements(buffer);
        assert_eq!(driver.bind_buffer(buffer, memory, 0), Err(lost));
        driver.bind_buffer(buffer, memory, 0).unwrap();
        let fill = TransferCommand::FillBuffer { buffer, offset: 0, size: 256, value: 1 };
        device.fail_next(Call::Submit, 1, lost);
        assert_eq!(driver.run(&[fill]), Err(lost.of("vkQueueSubmit")));
        assert_eq!(device.device_read(memory, 0, 256), [0; 256]);
        driver.run(&[fill]).unwrap();
        device.fail_next(Call::CreateImage, 1, DeviceError::OutOfHostMemory);
        let image_info = image_info(vk::Format::R8_UNORM, 8, 8);
        assert_eq!(driver.create_image(&image_info), Err(DeviceError::OutOfHostMemory));
        device.fail_next(Call::ImageRequirementsOfInfo, 1, lost);
        assert_eq!(driver.image_requirements_of_info(&image_info), Err(lost));
        driver.destroy_buffer(buffer);
        driver.free(memory);
        let bound = device.log().into_iter().filter(|record| record.call == Call::BindBuffer);
        let bound: Vec<_> = bound.map(|record| (record.ranges, record.result)).collect();
        let range = vec![MemoryRange { memory, offset: 0, size: 256 }];
        assert_eq!(bound, [(range.clone(), Err(lost)), (range, Ok(()))]);
        let calls: Vec<_> = device.log().iter().map(|record| record.call.name()).collect();
        assert_eq!(calls[0], "vkCreateBuffer");
        assert_eq!(calls[calls.len() - 2..], ["vkDestroyBuffer", "vkFreeMemory"]);
    }
    driver.assert_clean();
}

#[test]
fn a_failed_bind_destroys_before_it_frees() {
    let driver = Arc::new(driver("lavapipe"));
    let allocator = DeviceAllocator::new(driver.clone(), &AllocatorOptions::default()).unwrap();
    let device = driver.device();
    let flags = AllocationCreateFlags::DEDICATED_MEMORY;
    let dedicated = AllocationCreateInfo { flags, ..AllocationCreateInfo::default() };
    device.record_log(true);
    device.fail_next(Call::BindBuffer, 1, DeviceError::DeviceLost);
    device.fail_next(Call::BindImage, 1, DeviceError::DeviceLost);
    // SAFETY: infos that are valid.
    unsafe {
        let (buffer, image) = (buffer_info(256, copied()), image_info(vk::Format::R8_UNORM, 8, 8));
        allocator.create_buffer(&buffer, &dedicated, Allocator::allocate).unwrap_err();
        allocator.create_image(&image, &dedicated, Allocator::allocate).unwrap_err();
    }
    let ends = [Call::DestroyBuffer, Call::DestroyImage, Call::Free];
    let calls = device.log().into_iter().map(|record| record.call);
    let calls: Vec<_> = calls.filter(|call| ends.contains(call)).collect();
    let [buffer, image, memory] = ends;
    assert_eq!(calls, [buffer, memory, image, memory]);
    drop(allocator);
    driver.assert_clean();
}

#[test]
fn a_slow_call_keeps_nobody_else_waiting() {
    let driver = driver("lavapipe");
    driver.device().set_latency(Call::CreateBuffer, Duration::from_secs(1));
    thread::scope(|scope| {
        let began = Instant::now();
        let slow = scope.spawn(|| create_buffer(&driver, &buffer_info(64, copied())));
        while driver.device().call_count(Call::CreateBuffer) == 0 {
            thread::yield_now();
        }
        // SAFETY: a live image.
        unsafe {
            let image = driver.create_image(&image_info(vk::Format::R8_UNORM, 8, 8)).unwrap();
            driver.destroy_image(image);
        }
        assert_eq!(driver.live_buffers(), 0);
        assert!(began.elapsed() < Duration::from_secs(1));
        let buffer = slow.join().unwrap();
        // SAFETY: a live buffer.
        unsafe { driver.destroy_buffer(buffer) };
    });
    driver.assert_clean();
}
