//! Copies, and the views of memory of the host and the device.

use std::thread;

use ash::vk::{self, Handle};
use vkmem_engine::{Call, DeviceMemory, MemoryRange, VALIDATION_FAILED};
use vkmem_vulkan::{Driver, LayoutChange, TransferCommand, first_texels};

use super::{
    KIB, assert_one_violation, bound_buffer, buffer_info, copied, create_buffer, driver,
    image_info, of_type, read, write,
};

#[test]
fn host_writes_reach_the_device_through_coherent_memory() {
    let driver = driver("nvidia-h200");
    // SAFETY: live handles; the host writes what it mapped, and not during a copy.
    unsafe {
        let (staging, staging_memory) = bound_buffer(&driver, 2, 4096);
        let (target, target_memory) = bound_buffer(&driver, 1, 4096);
        let address = driver.map(staging_memory).unwrap();
        write(address, b"vertices");
        let copy = TransferCommand::CopyBuffer {
            source: staging,
            source_offset: 0,
            target,
            target_offset: 100,
            size: 8,
        };
        let fill = TransferCommand::FillBuffer {
            buffer: staging,
            offset: 8,
            size: 8,
            value: u32::from_ne_bytes(*b"abcd"),
        };
        driver.run(&[copy, fill]).unwrap();
        assert_eq!(driver.device().device_read(target_memory, 100, 8), b"vertices");
        assert_eq!(read(address.at(6), 10), b"esabcdabcd");
        // Contents are kept while the memory is not mapped.
        driver.unmap(staging_memory);
        assert_eq!(read(driver.map(staging_memory).unwrap(), 8), b"vertices");
        for (buffer, memory) in [(staging, staging_memory), (target, target_memory)] {
            driver.destroy_buffer(buffer);
            driver.free(memory);
        }
    }
    driver.assert_clean();
}

#[test]
fn a_missing_flush_or_invalidate_shows() {
    let driver = driver("non-coherent");
    // SAFETY: live handles; the host writes what it mapped, and not during a copy.
    unsafe {
        let (buffer, memory) = bound_buffer(&driver, 2, 1024);
        let address = driver.map(memory).unwrap();
        let range = MemoryRange { memory, offset: 0, size: 256 };
        write(address, b"from the host");
        assert_eq!(driver.device().device_read(memory, 0, 4), [0; 4], "not flushed yet");
        driver.flush(&[range]).unwrap();
        assert_eq!(driver.device().device_read(memory, 0, 13), b"from the host");
        let fill = TransferCommand::FillBuffer {
            buffer,
            offset: 0,
            size: 4,
            value: u32::from_ne_bytes(*b"FROM"),
        };
        driver.run(&[fill]).unwrap();
        assert_eq!(read(address, 4), b"from", "not invalidated yet");
        driver.invalidate(&[range]).unwrap();
        assert_eq!(read(address, 13), b"FROM the host");
        driver.destroy_buffer(buffer);
        driver.free(memory);
    }
    driver.assert_clean();
}

#[test]
fn images_take_and_give_back_what_a_buffer_holds() {
    let driver = driver("nvidia-h200");
    let extent = vk::Extent3D { width: 30, height: 20, depth: 1 };
    let texels: Vec<u8> = (0..30 * 20 * 4).map(|byte| (byte % 251) as u8).collect();
    // SAFETY: live handles; the host writes what it mapped, and not during a copy.
    unsafe {
        let (buffer, memory) = bound_buffer(&driver, 3, 8192);
        let info = image_info(vk::Format::R8G8B8A8_UNORM, 30, 20).mip_levels(2);
        let image = driver.create_image(&info).unwrap();
        let needs = driver.image_requirements(image);
        let image_memory = driver.allocate(&of_type(1, 4 * KIB + needs.size)).unwrap();
        driver.bind_image(image, image_memory, 4 * KIB).unwrap();
        let address = driver.map(memory).unwrap();
        write(address, &texels);
        let layout = vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL;
        let upload = |offset, extent, layout| TransferCommand::CopyBufferToImage {
            buffer,
            image,
            region: first_texels(offset, extent),
            layouts: LayoutChange::of_new_image(layout),
        };
        let download = |offset, layout| {
            let region = first_texels(offset, extent);
            let layouts = LayoutChange::kept(&region, layout);
            TransferCommand::CopyImageToBuffer { image, buffer, region, layouts }
        };
        let (there, back) = (upload(0, extent, layout), download(4096, layout));
        driver.run(&[there, TransferCommand::Barrier, back]).unwrap();
        assert_eq!(read(address.at(4096), texels.len()), texels);
        assert_eq!(driver.device().device_read(image_memory, 4 * KIB, 4), texels[..4]);

        let refuse = |command, word| {
            assert_eq!(driver.run(&[command]), Err(VALIDATION_FAILED.of("vkQueueSubmit")));
            assert_one_violation(&driver, word);
        };
        refuse(download(0, vk::ImageLayout::GENERAL), "not in GENERAL");
        refuse(upload(0, extent, vk::ImageLayout::UNDEFINED), "not left in UNDEFINED");
        refuse(upload(2, extent, layout), "texel block");
        let wider = vk::Extent3D { width: 31, ..extent };
        refuse(upload(0, wider, layout), "lies outside its Extent3D");
        driver.destroy_image(image);
        driver.destroy_buffer(buffer);
        driver.free(memory);
        driver.free(image_memory);
    }
    driver.assert_clean();
}

#[test]
fn copies_are_checked() {
    let driver = driver("lavapipe");
    // SAFETY: handles of this driver, some unbound or stale on purpose.
    unsafe {
        let (buffer, memory) = bound_buffer(&driver, 0, 256);
        let refuse = |command, word| {
            assert_eq!(driver.run(&[command]), Err(VALIDATION_FAILED.of("vkQueueSubmit")));
            assert_one_violation(&driver, word);
        };
        let fill =
            |buffer, offset, size| TransferCommand::FillBuffer { buffer, offset, size, value: 1 };
        refuse(fill(buffer, 2, 4), "multiples of 4");
        refuse(fill(buffer, 0, 6), "multiples of 4");
        refuse(fill(buffer, 0, 0), "nothing");
        refuse(fill(buffer, 256, 4), "outside");
        refuse(fill(vk::Buffer::from_raw(3), 0, 4), "never created");
        let unbound = create_buffer(&driver, &buffer_info(256, copied()));
        refuse(fill(unbound, 0, 4), "not bound");
        let vertices =
            create_buffer(&driver, &buffer_info(64, vk::BufferUsageFlags::VERTEX_BUFFER));
        refuse(fill(vertices, 0, 4), "without TRANSFER_DST");
        let copy = TransferCommand::CopyBuffer {
            source: vertices,
            source_offset: 0,
            target: buffer,
            target_offset: 0,
            size: 4,
        };
        refuse(copy, "without TRANSFER_SRC");
        driver.free(memory);
        refuse(fill(buffer, 0, 4), "was freed");
        for buffer in [buffer, unbound, vertices] {
            driver.destroy_buffer(buffer);
        }
    }
    driver.assert_clean();
}

#[test]
fn many_threads_at_once() {
    let driver = driver("non-coherent");
    thread::scope(|scope| {
        for worker in 0..8_u8 {
            let driver = &driver;
            scope.spawn(move || {
                for round in 0..100_u8 {
                    // SAFETY: each thread has its own handles and mapping.
                    unsafe {
                        let (buffer, memory) = bound_buffer(driver, 1, 4096);
                        let (target, target_memory) = bound_buffer(driver, 0, 4096);
                        let address = driver.map(memory).unwrap();
                        let value = [worker.wrapping_mul(31).wrapping_add(round); 64];
                        write(address.at(512), &value);
                        driver.flush(&[MemoryRange { memory, offset: 512, size: 256 }]).unwrap();
                        let copy = TransferCommand::CopyBuffer {
                            source: buffer,
                            source_offset: 512,
                            target,
                            target_offset: 0,
                            size: 64,
                        };
                        driver.run(&[copy]).unwrap();
                        assert_eq!(driver.device().device_read(target_memory, 0, 64), value);
                        for (buffer, memory) in [(buffer, memory), (target, target_memory)] {
                            driver.destroy_buffer(buffer);
                            driver.free(memory);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(driver.device().call_count(Call::BindBuffer), 1600);
    driver.assert_clean();
}
