//! Layouts, barriers between commands, queues, and what else Vulkan forbids about copies of images.

use ash::vk;
use vkmem_engine::{Call, DeviceError, MemoryRange};
use vkmem_vulkan::{
    Completion, Driver, LayoutChange, SimulatedDriver, TransferCommand, first_texels,
};

use crate::image_copies::{Buffers, GENERAL, TestImage, run};
use crate::{assert_one_violation, driver, image_info};

const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;
const READ_ONLY: vk::ImageLayout = vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL;
const RGBA: vk::Format = vk::Format::R8G8B8A8_UNORM;
const EXTENT: vk::Extent3D = vk::Extent3D { width: 8, height: 8, depth: 1 };

#[track_caller]
fn refuse(driver: &SimulatedDriver, commands: &[TransferCommand], word: &str) {
    // SAFETY: handles of this driver.
    assert!(unsafe { driver.run(commands) }.is_err());
    assert_one_violation(driver, word);
}

fn change(image: &TestImage<'_>, old: vk::ImageLayout, new: vk::ImageLayout) -> TransferCommand {
    let layouts = LayoutChange::of_whole(RGBA, old, new);
    TransferCommand::TransitionImage { image: image.image, layouts }
}

#[test]
fn the_layout_of_each_subresource_is_known() {
    let driver = driver("nvidia-h200");
    let buffers = Buffers::new(&driver);
    let image = TestImage::new(&driver, &image_info(RGBA, 8, 8).mip_levels(2).array_layers(2));
    refuse(&driver, &[change(&image, GENERAL, READ_ONLY)], "is in UNDEFINED, not in GENERAL");
    refuse(&driver, &[change(&image, UNDEFINED, UNDEFINED)], "not left in UNDEFINED");
    run(&driver, &[change(&image, UNDEFINED, READ_ONLY)]);
    // One level of one layer is put into another layout.
    let region = first_texels(0, EXTENT);
    run(&driver, &[buffers.upload(&image, RGBA, region, READ_ONLY)]);
    refuse(&driver, &[change(&image, READ_ONLY, GENERAL)], "is in GENERAL, not in");
    let part = |level, layer, old, new| {
        let layers = vk::ImageSubresourceLayers {
            aspect_mask: vk::ImageAspectFlags::COLOR,
            mip_level: level,
            base_array_layer: layer,
            layer_count: 1,
        };
        let layouts = LayoutChange::of_layers(RGBA, layers, old, new);
        TransferCommand::TransitionImage { image: image.image, layouts }
    };
    run(&driver, &[part(0, 0, GENERAL, READ_ONLY), part(1, 1, READ_ONLY, GENERAL)]);
    let both = [part(1, 1, GENERAL, READ_ONLY), part(1, 1, GENERAL, READ_ONLY)];
    // SAFETY: handles of this driver.
    assert!(unsafe { driver.run(&both) }.is_err());
    assert!(!driver.device().take_violations().is_empty());
    run(&driver, &[part(1, 1, GENERAL, READ_ONLY)]);
    run(&driver, &[change(&image, READ_ONLY, GENERAL)]);
    // Parts are equal or disjoint.
    let overlapping = [change(&image, GENERAL, READ_ONLY), part(0, 1, GENERAL, READ_ONLY)];
    refuse(&driver, &overlapping, "two ranges that differ");
    refuse(&driver, &[part(2, 0, GENERAL, READ_ONLY)], "none of the levels and layers");
    run(&driver, &[change(&image, UNDEFINED, GENERAL)]);
    // Two copies of one part agree about its layouts.
    let one = buffers.upload(
        &image,
        RGBA,
        first_texels(0, vk::Extent3D { height: 4, ..EXTENT }),
        GENERAL,
    );
    let mut lower = first_texels(0, vk::Extent3D { height: 4, ..EXTENT });
    lower.image_offset.y = 4;
    let two = buffers.upload(&image, RGBA, lower, UNDEFINED);
    refuse(&driver, &[one, two], "from UNDEFINED to GENERAL in another one");
    // A layout for what the image is not used for.
    let target = vk::ImageLayout::COLOR_ATTACHMENT_OPTIMAL;
    refuse(&driver, &[change(&image, UNDEFINED, target)], "without COLOR_ATTACHMENT");
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn aspects_change_their_layout_together() {
    let driver = driver("lavapipe");
    let image = TestImage::new(&driver, &image_info(vk::Format::D24_UNORM_S8_UINT, 8, 8));
    let of = |aspects| {
        let mut layouts = LayoutChange::of_new_image(GENERAL);
        layouts.range.aspect_mask = aspects;
        [TransferCommand::TransitionImage { image: image.image, layouts }]
    };
    let both = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    refuse(&driver, &of(vk::ImageAspectFlags::DEPTH), "changed alone");
    refuse(&driver, &of(vk::ImageAspectFlags::COLOR), "changed alone");
    run(&driver, &of(both));
    drop(image);
    let nv12 = vk::Format::G8_B8R8_2PLANE_420_UNORM;
    for flags in [vk::ImageCreateFlags::empty(), vk::ImageCreateFlags::DISJOINT] {
        let image = TestImage::new(&driver, &image_info(nv12, 8, 8).flags(flags));
        let of = |aspects, old| {
            let mut layouts = LayoutChange::of_new_image(GENERAL);
            layouts.range.aspect_mask = aspects;
            layouts.old = old;
            [TransferCommand::TransitionImage { image: image.image, layouts }]
        };
        let first = vk::ImageAspectFlags::PLANE_0;
        if flags.is_empty() {
            refuse(&driver, &of(first, UNDEFINED), "changed alone");
        } else {
            run(&driver, &of(first, UNDEFINED));
            refuse(&driver, &of(vk::ImageAspectFlags::COLOR, GENERAL), "is in UNDEFINED");
            run(&driver, &of(first, GENERAL));
        }
        run(&driver, &of(vk::ImageAspectFlags::COLOR, UNDEFINED));
    }
    driver.assert_clean();
}

#[test]
fn a_barrier_is_missing_between_commands_that_depend_on_each_other() {
    let driver = driver("discrete-8gib");
    let buffers = Buffers::new(&driver);
    let image = TestImage::new(&driver, &image_info(RGBA, 8, 8).mip_levels(2));
    let barrier = TransferCommand::Barrier;
    run(&driver, &[change(&image, UNDEFINED, GENERAL)]);
    let region = first_texels(0, EXTENT);
    let (up, down) =
        (buffers.upload(&image, RGBA, region, GENERAL), buffers.download(&image, RGBA, region));
    refuse(&driver, &[up, down], "no barrier between them");
    run(&driver, &[up, barrier, down]);
    refuse(&driver, &[down, up], "no barrier between them");
    refuse(&driver, &[up, up], "no barrier between them");
    refuse(&driver, &[down, down], "no barrier between them");
    // Other texels of the same level.
    let half = vk::Extent3D { height: 4, ..EXTENT };
    let mut lower = first_texels(4096, half);
    lower.image_offset.y = 4;
    run(
        &driver,
        &[
            buffers.upload(&image, RGBA, first_texels(0, half), GENERAL),
            buffers.download(&image, RGBA, lower),
        ],
    );
    // Buffers: a copy reads what a fill writes.
    let (source, target) = (buffers.source.0, buffers.target.0);
    let fill =
        |offset, size| TransferCommand::FillBuffer { buffer: source, offset, size, value: 1 };
    let copy = |source_offset, target_offset, size| TransferCommand::CopyBuffer {
        source,
        source_offset,
        target,
        target_offset,
        size,
    };
    refuse(&driver, &[fill(0, 64), copy(60, 0, 8)], "commands 0 and 1");
    refuse(&driver, &[copy(60, 0, 8), fill(0, 64)], "reads");
    refuse(&driver, &[copy(0, 0, 64), copy(64, 32, 64)], "writes");
    run(&driver, &[fill(0, 64), copy(64, 0, 64), copy(64, 64, 64), fill(128, 4)]);
    run(&driver, &[fill(0, 64), barrier, copy(0, 0, 64)]);
    // An upload from bytes that a fill writes.
    refuse(&driver, &[fill(0, 4), up], "no barrier between them");
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn what_a_queue_cannot_do() {
    let driver = driver("nvidia-h200");
    assert!(driver.queue_flags().contains(vk::QueueFlags::GRAPHICS | vk::QueueFlags::TRANSFER));
    let buffers = Buffers::new(&driver);
    let depth = vk::Format::D32_SFLOAT;
    let image = TestImage::new(&driver, &image_info(depth, 8, 8));
    let bytes = TestImage::new(&driver, &image_info(vk::Format::R8_UNORM, 8, 8));
    let mut region = first_texels(0, EXTENT);
    region.image_subresource.aspect_mask = vk::ImageAspectFlags::DEPTH;
    let of_depth = buffers.upload(&image, depth, region, UNDEFINED);
    let at = |offset| {
        buffers.upload(&bytes, vk::Format::R8_UNORM, first_texels(offset, EXTENT), UNDEFINED)
    };
    run(&driver, &[of_depth, at(2)]);
    driver.set_queue_flags(vk::QueueFlags::COMPUTE | vk::QueueFlags::TRANSFER);
    refuse(&driver, &[of_depth], "without GRAPHICS");
    run(&driver, &[at(2)]);
    driver.set_queue_flags(vk::QueueFlags::TRANSFER);
    refuse(&driver, &[at(2)], "multiple of 4 bytes");
    run(&driver, &[at(4)]);
    driver.set_queue_flags(vk::QueueFlags::SPARSE_BINDING);
    refuse(&driver, &[at(4)], "cannot copy");
    drop((image, bytes, buffers));
    driver.assert_clean();
}

#[test]
fn images_that_do_not_fit_each_other() {
    let driver = driver("discrete-8gib");
    let layers = vk::ImageSubresourceLayers {
        aspect_mask: vk::ImageAspectFlags::COLOR,
        mip_level: 0,
        base_array_layer: 0,
        layer_count: 1,
    };
    let refuse_copy = |one: &vk::ImageCreateInfo<'_>, two: &vk::ImageCreateInfo<'_>, word: &str| {
        let (source, target) = (TestImage::new(&driver, one), TestImage::new(&driver, two));
        let region = vk::ImageCopy {
            src_subresource: vk::ImageSubresourceLayers {
                aspect_mask: vkmem_vulkan::layout_aspects(one.format),
                ..layers
            },
            dst_subresource: vk::ImageSubresourceLayers {
                aspect_mask: vkmem_vulkan::layout_aspects(two.format),
                ..layers
            },
            extent: EXTENT,
            ..Default::default()
        };
        let command = TransferCommand::CopyImage {
            source: source.image,
            target: target.image,
            region,
            source_layouts: LayoutChange::of_whole(one.format, UNDEFINED, GENERAL),
            target_layouts: LayoutChange::of_whole(two.format, UNDEFINED, GENERAL),
        };
        refuse(&driver, &[command], word);
    };
    let of = |format| image_info(format, 8, 8);
    let plain = of(RGBA);
    refuse_copy(&plain, &of(vk::Format::R16_UNORM), "of 4 bytes, to R16_UNORM, of 2");
    let four = vk::SampleCountFlags::TYPE_4;
    refuse_copy(&plain, &plain.samples(four), "samples");
    refuse_copy(&of(vk::Format::D32_SFLOAT), &of(vk::Format::R32_SFLOAT), "from DEPTH to COLOR");
    refuse_copy(
        &of(vk::Format::D32_SFLOAT),
        &of(vk::Format::X8_D24_UNORM_PACK32),
        "a copy from D32",
    );
    let sampled = vk::ImageUsageFlags::SAMPLED;
    refuse_copy(&plain.usage(sampled), &plain, "without TRANSFER_SRC");
    refuse_copy(&plain, &plain.usage(sampled), "without TRANSFER_DST");
    refuse_copy(&plain, &image_info(RGBA, 8, 4), "lies outside its");
    refuse_copy(&of(vk::Format::G8_B8R8_2PLANE_420_UNORM), &plain, "that is copied by itself");
    let buffers = Buffers::new(&driver);
    let samples = TestImage::new(&driver, &plain.samples(four));
    let up = buffers.upload(&samples, RGBA, first_texels(0, EXTENT), UNDEFINED);
    refuse(&driver, &[up], "more than one sample");
    drop((samples, buffers));
    driver.assert_clean();
}

#[test]
fn what_a_transition_discards_is_gone() {
    let driver = driver("lavapipe");
    let buffers = Buffers::new(&driver);
    for format in [RGBA, vk::Format::D24_UNORM_S8_UINT] {
        let image = TestImage::new(&driver, &image_info(format, 8, 8).array_layers(2));
        let mut region = first_texels(0, EXTENT);
        region.image_subresource.layer_count = 2;
        let aspects = vkmem_vulkan::layout_aspects(format);
        if aspects.contains(vk::ImageAspectFlags::DEPTH) {
            region.image_subresource.aspect_mask = vk::ImageAspectFlags::DEPTH;
        }
        buffers.write(&[7; 512]);
        run(&driver, &[buffers.upload(&image, format, region, UNDEFINED)]);
        // The upper half of the second layer is written again, and nothing else of it is kept.
        let mut half = region;
        half.image_extent.height = 4;
        half.image_subresource.base_array_layer = 1;
        half.image_subresource.layer_count = 1;
        run(&driver, &[buffers.upload(&image, format, half, UNDEFINED)]);
        run(&driver, &[buffers.download(&image, format, region)]);
        let found = buffers.read(512);
        for (at, byte) in found.iter().enumerate() {
            let is_undefined = at % 4 == 3 && format != RGBA;
            let expected = if at < 256 + 128 { 7 } else { 0xDB };
            assert!(is_undefined || *byte == expected, "{format:?}, byte {at}: {byte}");
        }
        drop(image);
    }
    drop(buffers);
    driver.assert_clean();
}

#[test]
fn the_host_must_not_write_what_an_upload_reads() {
    let driver = driver("lavapipe");
    let buffers = Buffers::new(&driver);
    let linear = image_info(RGBA, 8, 8).tiling(vk::ImageTiling::LINEAR);
    let image = TestImage::new(&driver, &linear);
    let up = buffers.upload(&image, RGBA, first_texels(256, EXTENT), UNDEFINED);
    driver.set_completion(Completion::Held);
    // SAFETY: live handles.
    let submission = unsafe { driver.submit(&[up]) }.unwrap();
    let access = |memory, offset, writes, word: &str| {
        driver.host_access(MemoryRange { memory, offset, size: 16 }, writes);
        match word {
            "" => driver.device().assert_no_violations(),
            word => assert_one_violation(&driver, word),
        }
    };
    let source = buffers.source.1;
    access(source, 0, true, "");
    access(source, 512, true, "");
    access(source, 256, false, "");
    access(source, 496, true, "the host writes 16 bytes");
    access(image.memory, 240, false, "the host reads 16 bytes");
    driver.complete_submissions(1);
    assert_eq!(driver.wait(submission, 0), Ok(true));
    access(image.memory, 240, true, "");
    access(source, 496, true, "");
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn queues_with_large_units_copy_to_the_edges() {
    let driver = driver("discrete-8gib");
    let buffers = Buffers::new(&driver);
    let image = TestImage::new(&driver, &image_info(RGBA, 20, 20));
    let part = |x, width, height| {
        let mut region = first_texels(0, vk::Extent3D { width, height, depth: 1 });
        region.image_offset.x = x;
        buffers.upload(&image, RGBA, region, UNDEFINED)
    };
    let one = vk::Extent3D { width: 1, height: 1, depth: 1 };
    assert_eq!(driver.image_granularity(), one);
    run(&driver, &[part(3, 5, 7)]);
    driver.set_image_granularity(vk::Extent3D { width: 8, height: 8, depth: 1 });
    run(&driver, &[part(8, 8, 16)]);
    run(&driver, &[part(16, 4, 20)]);
    refuse(&driver, &[part(4, 8, 20)], "no multiples of the queue's 8");
    refuse(&driver, &[part(8, 4, 20)], "no multiples of the queue's 8");
    driver.set_image_granularity(vk::Extent3D::default());
    run(&driver, &[part(0, 20, 20)]);
    refuse(&driver, &[part(0, 16, 20)], "no multiples");
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn a_submission_that_fails_leaves_images_as_they_were() {
    let driver = driver("nvidia-h200");
    let buffers = Buffers::new(&driver);
    let image = TestImage::new(&driver, &image_info(RGBA, 8, 8).mip_levels(2));
    run(&driver, &[change(&image, UNDEFINED, GENERAL)]);
    let region = first_texels(0, EXTENT);
    let up = buffers.upload(&image, RGBA, region, GENERAL);
    let (device, lost) = (driver.device(), DeviceError::DeviceLost);
    buffers.write(&[9; 256]);
    for (call, error) in [
        (Call::Submit, DeviceError::OutOfHostMemory),
        (Call::Submit, DeviceError::OutOfDeviceMemory),
        (Call::Submit, lost),
        (Call::WaitSemaphores, lost),
    ] {
        driver.set_completion(Completion::WhenWaited);
        device.fail_next(call, 1, error);
        let commands = [up, TransferCommand::Barrier, change(&image, GENERAL, READ_ONLY)];
        // SAFETY: live handles.
        assert_eq!(unsafe { driver.run(&commands) }, Err(error.of(call.name())));
        driver.set_completion(Completion::AtOnce);
        assert!(device.device_read(image.memory, 0, 256).iter().all(|it| *it == 0));
        run(&driver, &[change(&image, GENERAL, GENERAL)]);
    }
    run(&driver, &[up]);
    assert!(device.device_read(image.memory, 0, 256).iter().all(|it| *it == 9));
    drop((image, buffers));
    driver.assert_clean();
}
