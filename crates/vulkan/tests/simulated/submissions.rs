//! Submissions that are executed at once, by a wait, or on request; image regions.

use std::thread;
use std::time::Duration;

use ash::vk;
use vkmem_engine::{Call, DeviceError, DeviceMemory};
use vkmem_vulkan::{
    Completion, Driver, LayoutChange, SimulatedDriver, Submission, TransferCommand, first_texels,
};

use crate::{MIB, assert_one_violation, bound_buffer, driver, image_info, of_type, read, write};

const LOST: DeviceError = DeviceError::DeviceLost;
const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;

fn fill(buffer: vk::Buffer, value: u32) -> TransferCommand {
    TransferCommand::FillBuffer { buffer, offset: 0, size: 64, value }
}

/// Calls a function with a buffer of 64 bytes and a function that reads its first word.
fn with_buffer(run: impl FnOnce(&SimulatedDriver, vk::Buffer, &dyn Fn() -> u32)) {
    let driver = driver("lavapipe");
    let (buffer, memory) = bound_buffer(&driver, 0, 64);
    run(&driver, buffer, &|| {
        let bytes = driver.device().device_read(memory, 0, 4);
        u32::from_ne_bytes(bytes.try_into().unwrap())
    });
    // SAFETY: live handles of this driver.
    unsafe { driver.destroy_buffer(buffer) };
    driver.free(memory);
    driver.assert_clean();
}

#[test]
fn submissions_end_at_once_unless_told_otherwise() {
    with_buffer(|driver, buffer, word| {
        // SAFETY: the range lies inside the buffer.
        let first = unsafe { driver.submit(&[fill(buffer, 1)]) }.unwrap();
        assert_eq!((word(), driver.is_done(first)), (1, Ok(true)));
        assert!(first > Submission::NONE);
        driver.set_completion(Completion::WhenWaited);
        // SAFETY: the range lies inside the buffer.
        let [second, third] =
            [2, 3].map(|value| unsafe { driver.submit(&[fill(buffer, value)]) }.unwrap());
        assert!(first < second && second < third);
        assert_eq!((word(), driver.is_done(second)), (1, Ok(false)));
        assert_eq!(driver.wait(second, 0), Ok(true));
        assert_eq!((word(), driver.is_done(third)), (2, Ok(false)));
        driver.set_completion(Completion::AtOnce);
        assert_eq!((word(), driver.is_done(third)), (3, Ok(true)));
    });
}

#[test]
fn what_is_recorded_runs_when_the_command_buffer_is_submitted() {
    with_buffer(|driver, buffer, word| {
        let commands = driver.begin_command_buffer();
        // SAFETY: the range lies inside the buffer.
        unsafe {
            driver.record(commands, &[fill(buffer, 1)]).unwrap();
            driver.record(commands, &[fill(buffer, 2)]).unwrap();
        }
        assert_eq!(word(), 0);
        driver.set_completion(Completion::Held);
        let submission = driver.submit_command_buffer(commands).unwrap();
        assert_eq!((word(), driver.is_done(submission)), (0, Ok(false)));
        assert_eq!(driver.complete_submissions(1), 1);
        assert_eq!((word(), driver.is_done(submission)), (2, Ok(true)));
        assert_ne!(driver.begin_command_buffer(), commands, "handles are not reused");
    });
}

#[test]
fn a_held_submission_ends_when_told() {
    with_buffer(|driver, buffer, word| {
        driver.set_completion(Completion::Held);
        // SAFETY: the range lies inside the buffer.
        let held = [1, 2, 3].map(|value| unsafe { driver.submit(&[fill(buffer, value)]) }.unwrap());
        assert_eq!(driver.pending_submissions(), 3);
        assert_eq!(driver.wait(held[0], 1_000_000), Ok(false));
        assert_eq!(driver.complete_submissions(1), 1);
        assert_eq!((word(), driver.wait(held[0], 0)), (1, Ok(true)));
        assert_eq!(driver.is_done(held[1]), Ok(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                assert_eq!(driver.complete_submissions(9), 2);
            });
            assert_eq!(driver.wait(held[2], u64::MAX), Ok(true));
        });
        assert_eq!((word(), driver.pending_submissions()), (3, 0));
    });
}

#[test]
fn failures_of_submissions_and_of_waits() {
    with_buffer(|driver, buffer, word| {
        let device = driver.device();
        for error in [LOST, DeviceError::OutOfHostMemory, DeviceError::OutOfDeviceMemory] {
            driver.set_completion(Completion::AtOnce);
            // SAFETY: the range lies inside the buffer.
            unsafe { driver.run(&[fill(buffer, 1)]) }.unwrap();
            driver.set_completion(Completion::Held);
            device.fail_next(Call::Submit, 1, error);
            // SAFETY: the range lies inside the buffer.
            let submitted = unsafe { driver.submit(&[fill(buffer, 2)]) };
            assert_eq!(submitted, Err(error.of("vkQueueSubmit")));
            assert_eq!(driver.pending_submissions(), 0);
            device.fail_next(Call::WaitSemaphores, 1, error);
            // SAFETY: the range lies inside the buffer.
            let ran = unsafe { driver.run(&[fill(buffer, 3)]) };
            assert_eq!(ran, Err(error.of("vkWaitSemaphores")));
            // Nothing runs any more: the wait failed after the execution, or the device was lost before.
            assert_eq!(driver.pending_submissions(), 0);
            assert_eq!(word(), if error == LOST { 1 } else { 3 });
        }
    });
}

#[test]
fn what_is_destroyed_too_early_is_a_violation() {
    let driver = driver("lavapipe");
    let (buffer, memory) = bound_buffer(&driver, 0, 64);
    driver.set_completion(Completion::Held);
    // SAFETY: the buffer is destroyed too early on purpose: the driver has to report that.
    unsafe {
        let submission = driver.submit(&[fill(buffer, 1)]).unwrap();
        driver.destroy_buffer(buffer);
        driver.complete_submissions(1);
        assert_eq!(driver.wait(submission, 0), Ok(true));
    }
    assert_one_violation(&driver, "was destroyed");
    driver.free(memory);
    driver.assert_clean();
}

/// Calls a function with an image of 8 x 4 texels, two mip levels and three layers, and 4096 bytes on either
/// side.
fn with_image(
    format: vk::Format,
    bytes: &[u8],
    run: impl FnOnce(&SimulatedDriver, vk::Buffer, vk::Image, vk::Buffer),
) -> Vec<u8> {
    let driver = driver("lavapipe");
    let (source, source_memory) = bound_buffer(&driver, 0, 4096);
    let (target, target_memory) = bound_buffer(&driver, 0, 4096);
    // SAFETY: live handles of this driver.
    unsafe {
        write(driver.map(source_memory).unwrap(), bytes);
        let info = image_info(format, 8, 4).mip_levels(2).array_layers(3);
        let image = driver.create_image(&info).unwrap();
        let memory = driver.allocate(&of_type(0, MIB)).unwrap();
        driver.bind_image(image, memory, 0).unwrap();
        run(&driver, source, image, target);
        let found = read(driver.map(target_memory).unwrap(), 4096);
        driver.destroy_image(image);
        driver.destroy_buffer(source);
        driver.destroy_buffer(target);
        for memory in [memory, source_memory, target_memory] {
            driver.free(memory);
        }
        driver.assert_clean();
        found
    }
}

#[test]
fn every_level_and_layer_has_a_place_and_a_layout_of_its_own() {
    let bytes: Vec<u8> = (0..480).map(|at| (at % 251) as u8).collect();
    let found = with_image(vk::Format::R8G8B8A8_UNORM, &bytes, |driver, source, image, target| {
        let whole = vk::Extent3D { width: 8, height: 4, depth: 1 };
        let half = vk::Extent3D { width: 4, height: 2, depth: 1 };
        // All layers of the first level, then all of the second one.
        let mut regions = [first_texels(0, whole), first_texels(384, half)];
        regions[0].image_subresource.layer_count = 3;
        regions[1].image_subresource.layer_count = 3;
        regions[1].image_subresource.mip_level = 1;
        let upload = |region: vk::BufferImageCopy| {
            let mut layouts = LayoutChange::kept(&region, GENERAL);
            layouts.old = vk::ImageLayout::UNDEFINED;
            TransferCommand::CopyBufferToImage { buffer: source, image, region, layouts }
        };
        let download = |region: vk::BufferImageCopy, layout| TransferCommand::CopyImageToBuffer {
            image,
            buffer: target,
            region,
            layouts: LayoutChange::of_layers(
                vk::Format::R8G8B8A8_UNORM,
                region.image_subresource,
                layout,
                layout,
            ),
        };
        let refuse = |command, word| {
            // SAFETY: handles of this driver.
            let ran = unsafe { driver.run(&[command]) };
            assert!(ran.is_err());
            assert_one_violation(driver, word);
        };
        // SAFETY: the regions lie inside the image and the buffers.
        unsafe { driver.run(&[upload(regions[0])]) }.unwrap();
        refuse(download(regions[1], GENERAL), "is in UNDEFINED, not in GENERAL");
        // SAFETY: the regions lie inside the image and the buffers.
        unsafe {
            driver.run(&regions.map(upload)).unwrap();
            driver.run(&regions.map(|region| download(region, GENERAL))).unwrap();
        }
        // A part of the last layer's first level, with gaps between its rows.
        let mut part = first_texels(1024, vk::Extent3D { width: 2, height: 2, depth: 1 });
        part.image_subresource.base_array_layer = 2;
        part.image_offset = vk::Offset3D { x: 6, y: 2, z: 0 };
        part.buffer_row_length = 5;
        // SAFETY: the region lies inside the image and the buffers.
        unsafe { driver.run(&[download(part, GENERAL)]) }.unwrap();
        let wrong = |change: &dyn Fn(&mut vk::BufferImageCopy), word| {
            let mut region = part;
            change(&mut region);
            refuse(download(region, GENERAL), word);
        };
        wrong(&|it| it.image_offset.x = 7, "lies outside its");
        wrong(&|it| it.image_offset.y = -1, "lies outside its");
        wrong(&|it| it.image_extent.depth = 0, "lies outside its");
        wrong(&|it| it.image_subresource.mip_level = 2, "no mip level 2");
        wrong(&|it| it.image_subresource.layer_count = 2, "layers 2 + 2 lie outside");
        wrong(&|it| it.image_subresource.layer_count = 0, "layers 2 + 0 lie outside");
        wrong(&|it| it.image_subresource.aspect_mask = vk::ImageAspectFlags::DEPTH, "no aspect");
        wrong(&|it| it.buffer_row_length = 1, "do not hold");
        wrong(&|it| it.buffer_image_height = 1, "do not hold");
        wrong(&|it| it.buffer_offset = 4092, "outside");
        let layouts = LayoutChange::kept(&regions[1], GENERAL);
        let command =
            TransferCommand::CopyImageToBuffer { image, buffer: target, region: part, layouts };
        refuse(command, "level 0 of layer 2 is put into no layout");
    });
    assert_eq!(found[..480], bytes);
    let texel = |column: usize, row: usize| {
        let at = 2 * 128 + 4 * (8 * row + column);
        bytes[at..at + 4].to_vec()
    };
    assert_eq!(found[1024..1032], [texel(6, 2), texel(7, 2)].concat());
    assert_eq!(found[1044..1052], [texel(6, 3), texel(7, 3)].concat());
    assert_eq!(found[1032..1044], [0; 12]);
}

#[test]
fn depth_and_stencil_lie_side_by_side() {
    for (format, depth_bytes, seen) in [
        (vk::Format::D16_UNORM_S8_UINT, 2, [0xff, 0xff, 0xff, 0xff]),
        (vk::Format::D32_SFLOAT_S8_UINT, 4, [0xff, 0xff, 0xff, 0xff]),
        // The upper 8 bits of its depths are undefined.
        (vk::Format::D24_UNORM_S8_UINT, 4, [0xff, 0xff, 0xff, 0]),
    ] {
        let bytes: Vec<u8> = (0..160).map(|at| (at + 1) as u8).collect();
        let found = with_image(format, &bytes, |driver, source, image, target| {
            let extent = vk::Extent3D { width: 8, height: 4, depth: 1 };
            let (depth, stencil) = (vk::ImageAspectFlags::DEPTH, vk::ImageAspectFlags::STENCIL);
            let copies = [(depth, 0), (stencil, 128)].map(|(aspect, offset)| {
                let mut region = first_texels(offset, extent);
                region.image_subresource.aspect_mask = aspect;
                let part = region.image_subresource;
                (region, LayoutChange::of_layers(format, part, GENERAL, GENERAL))
            });
            let there = copies.map(|(region, mut layouts)| {
                layouts.old = vk::ImageLayout::UNDEFINED;
                TransferCommand::CopyBufferToImage { buffer: source, image, region, layouts }
            });
            let back = copies.map(|(region, layouts)| TransferCommand::CopyImageToBuffer {
                image,
                buffer: target,
                region,
                layouts,
            });
            // SAFETY: the regions lie inside the image and the buffers.
            unsafe {
                driver.run(&there).unwrap();
                driver.run(&back).unwrap();
            }
        });
        let depths = 32 * depth_bytes;
        for (at, (found, given)) in found.iter().zip(&bytes[..depths]).enumerate() {
            assert_eq!(*found, given & seen[at % 4], "{format:?}, byte {at}");
        }
        assert_eq!(found[128..160], bytes[128..160], "{format:?}");
    }
}
