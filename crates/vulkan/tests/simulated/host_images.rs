//! Copies by the host between its memory and images.

use ash::vk;
use vkmem_engine::{Call, DeviceError, SimulatedDevice, VALIDATION_FAILED};
use vkmem_vulkan::image_format::ImageFormatInfo;
use vkmem_vulkan::{
    Completion, Driver, HostImageCopy, HostRegion, LayoutChange, SimulatedDriver, first_texels,
    format, texel,
};

use crate::image_copies::{Buffers, GENERAL, TestImage, aspects_of, bytes, run};
use crate::{assert_one_violation, driver, image_info};

const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;
const HOST: vk::ImageUsageFlags = vk::ImageUsageFlags::HOST_TRANSFER_EXT;
const RGBA: vk::Format = vk::Format::R8G8B8A8_UNORM;

fn copies(driver: &SimulatedDriver) -> &dyn HostImageCopy {
    driver.host_image_copy().expect("the profile has it")
}

fn region(bytes: &[u8], extent: vk::Extent3D) -> HostRegion {
    let subresource = first_texels(0, extent).image_subresource;
    HostRegion {
        address: bytes.as_ptr().expose_provenance(),
        row_length: 0,
        image_height: 0,
        subresource,
        offset: vk::Offset3D::default(),
        extent,
    }
}

/// The memory is writable.
fn region_mut(bytes: &mut [u8], extent: vk::Extent3D) -> HostRegion {
    HostRegion { address: bytes.as_mut_ptr().expose_provenance(), ..region(&[], extent) }
}

fn made_general(driver: &SimulatedDriver, image: &TestImage<'_>, format: vk::Format) {
    let layouts = LayoutChange::of_whole(format, UNDEFINED, GENERAL);
    // SAFETY: a live image that nothing uses.
    unsafe { copies(driver).transition_image_layout(image.image, layouts) }.unwrap();
}

#[test]
fn profiles_tell_whether_they_have_it() {
    for name in SimulatedDevice::profile_names() {
        let driver = driver(name);
        let is_listed = driver.extensions().iter().any(|it| it == "VK_EXT_host_image_copy");
        let is_enabled = driver.features().iter().any(|it| it == "hostImageCopy");
        assert_eq!(is_listed, driver.host_image_copy().is_some(), "{name}");
        assert_eq!(is_listed, is_enabled, "{name}");
        if let Some(copies) = driver.host_image_copy() {
            assert!(copies.source_layouts().contains(&GENERAL));
            assert!(copies.target_layouts().contains(&GENERAL));
        }
    }
    assert!(driver("nvidia-h200").host_image_copy().is_some());
    assert!(driver("lavapipe").host_image_copy().is_none());
}

#[test]
fn texels_go_to_images_and_back() {
    for profile in ["nvidia-h200", "integrated"] {
        let driver = driver(profile);
        let copied = vk::ImageUsageFlags::TRANSFER_SRC | HOST;
        for format in [RGBA, vk::Format::BC1_RGB_UNORM_BLOCK, vk::Format::D24_UNORM_S8_UINT] {
            for tiling in [vk::ImageTiling::OPTIMAL, vk::ImageTiling::LINEAR] {
                let info = image_info(format, 18, 10).usage(copied).tiling(tiling);
                let image = TestImage::new(&driver, &info);
                made_general(&driver, &image, format);
                for aspect in aspects_of(format) {
                    let texels = texel::copied(format, aspect).unwrap();
                    let size = texels.size_of(info.extent).unwrap() as usize;
                    let given = bytes(size, 6);
                    let mut found = vec![0; size];
                    let mut there = region(&given, info.extent);
                    let mut back = region_mut(&mut found, info.extent);
                    there.subresource.aspect_mask = aspect;
                    back.subresource.aspect_mask = aspect;
                    // SAFETY: regions of live memory of their size.
                    unsafe {
                        let copies = copies(&driver);
                        copies.copy_memory_to_image(image.image, GENERAL, &[there]).unwrap();
                        copies.copy_image_to_memory(image.image, GENERAL, &[back]).unwrap();
                    }
                    for (at, (one, two)) in given.iter().zip(&found).enumerate() {
                        let is_used = (at as u32 % texels.block.bytes) < texels.used;
                        assert_eq!(if is_used { *one } else { 0 }, *two, "{format:?}, {at}");
                    }
                }
            }
        }
        driver.assert_clean();
    }
}

#[test]
fn the_device_sees_what_the_host_wrote() {
    let driver = driver("nvidia-h200");
    let buffers = Buffers::new(&driver);
    let usage = vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST | HOST;
    let info = image_info(RGBA, 8, 8).usage(usage);
    let image = TestImage::new(&driver, &info);
    made_general(&driver, &image, RGBA);
    // Rows of 12 texels, of which a part of 3 x 2 goes to the middle.
    let given = bytes(12 * 2 * 4, 2);
    let mut there = region(&given, vk::Extent3D { width: 3, height: 2, depth: 1 });
    there.row_length = 12;
    there.offset = vk::Offset3D { x: 2, y: 5, z: 0 };
    // SAFETY: a region of live memory.
    unsafe { copies(&driver).copy_memory_to_image(image.image, GENERAL, &[there]) }.unwrap();
    let down = buffers.download(&image, RGBA, first_texels(0, info.extent));
    run(&driver, &[down]);
    let found = buffers.read(256);
    for row in 0..2 {
        let at = ((5 + row) * 8 + 2) * 4;
        assert_eq!(found[at..at + 12], given[row * 48..row * 48 + 12]);
    }
    assert!(found[..5 * 32].iter().all(|it| *it == 0));
    // The device must not use it meanwhile.
    driver.set_completion(Completion::Held);
    // SAFETY: live handles.
    let submission = unsafe { driver.submit(&[down]) }.unwrap();
    // SAFETY: a region of live memory; the driver has to report that the device uses the image.
    let copied = unsafe { copies(&driver).copy_memory_to_image(image.image, GENERAL, &[there]) };
    assert_eq!(copied, Err(VALIDATION_FAILED.of("vkCopyMemoryToImage")));
    assert_one_violation(&driver, "is used by submission");
    driver.complete_submissions(1);
    assert_eq!(driver.wait(submission, 0), Ok(true));
    drop((image, buffers));
    driver.assert_clean();
}

#[test]
fn what_vulkan_forbids_about_copies_by_the_host() {
    let driver = driver("integrated");
    let info = image_info(RGBA, 8, 8).usage(HOST);
    let image = TestImage::new(&driver, &info);
    let plain = TestImage::new(&driver, &image_info(RGBA, 8, 8));
    let given = bytes(256, 1);
    let copy = |image: &TestImage<'_>, layout, region| {
        // SAFETY: live memory; the driver has to refuse it before it writes.
        let copied =
            unsafe { copies(&driver).copy_memory_to_image(image.image, layout, &[region]) };
        assert_eq!(copied, Err(VALIDATION_FAILED.of("vkCopyMemoryToImage")));
    };
    let whole = region(&given, info.extent);
    copy(&image, GENERAL, whole);
    assert_one_violation(&driver, "is in UNDEFINED, not in GENERAL");
    made_general(&driver, &image, RGBA);
    copy(&image, vk::ImageLayout::TRANSFER_SRC_OPTIMAL, whole);
    assert_one_violation(&driver, "is none of the layouts");
    copy(&image, GENERAL, HostRegion { extent: vk::Extent3D { width: 9, ..info.extent }, ..whole });
    assert_one_violation(&driver, "lies outside");
    copy(&image, GENERAL, HostRegion { row_length: 7, ..whole });
    assert_one_violation(&driver, "do not hold");
    copy(&plain, GENERAL, whole);
    assert_one_violation(&driver, "without HOST_TRANSFER");
    let to = |image: &TestImage<'_>, old, new| {
        let layouts = LayoutChange::of_whole(RGBA, old, new);
        // SAFETY: a live image that nothing uses.
        unsafe { copies(&driver).transition_image_layout(image.image, layouts) }
    };
    let refused = Err(VALIDATION_FAILED.of("vkTransitionImageLayout"));
    assert_eq!(to(&image, UNDEFINED, vk::ImageLayout::COLOR_ATTACHMENT_OPTIMAL), refused);
    assert_one_violation(&driver, "is none of the layouts");
    assert_eq!(to(&image, vk::ImageLayout::TRANSFER_SRC_OPTIMAL, GENERAL), refused);
    assert_one_violation(&driver, "is in GENERAL, not in TRANSFER_SRC_OPTIMAL");
    assert_eq!(to(&plain, UNDEFINED, GENERAL), refused);
    assert_one_violation(&driver, "without HOST_TRANSFER");
    drop((image, plain));
    driver.assert_clean();
    // A device without the feature has no such images.
    let without = crate::driver("lavapipe");
    // SAFETY: the info has no pointers.
    assert!(unsafe { without.create_image(&info) }.is_err());
    assert_one_violation(&without, "which is not supported");
}

#[test]
fn each_call_may_fail() {
    let driver = driver("nvidia-h200");
    let info = image_info(RGBA, 8, 8).usage(HOST);
    let image = TestImage::new(&driver, &info);
    let mut given = bytes(256, 1);
    let one = region_mut(&mut given, info.extent);
    let layouts = LayoutChange::of_whole(RGBA, UNDEFINED, GENERAL);
    let copies = copies(&driver);
    for error in [DeviceError::OutOfHostMemory, DeviceError::DeviceLost] {
        for call in [Call::TransitionImageLayout, Call::CopyMemoryToImage, Call::CopyImageToMemory]
        {
            driver.device().fail_next(call, 1, error);
        }
        // SAFETY: live memory and a live image.
        unsafe {
            let failed = copies.transition_image_layout(image.image, layouts);
            assert_eq!(failed, Err(error.of("vkTransitionImageLayout")));
            copies.transition_image_layout(image.image, layouts).unwrap();
            let failed = copies.copy_memory_to_image(image.image, GENERAL, &[one]);
            assert_eq!(failed, Err(error.of("vkCopyMemoryToImage")));
            let failed = copies.copy_image_to_memory(image.image, GENERAL, &[one]);
            assert_eq!(failed, Err(error.of("vkCopyImageToMemory")));
        }
    }
    // No bytes were copied.
    assert!(driver.device().device_read(image.memory, 0, 256).iter().all(|it| *it == 0));
    drop(image);
    driver.assert_clean();
}

#[test]
fn the_cost_of_the_usage_is_told() {
    let driver = driver("nvidia-h200");
    let kind = |format: vk::Format, usage: vk::ImageUsageFlags| ImageFormatInfo {
        format: format.as_raw(),
        image_type: vk::ImageType::TYPE_2D.as_raw(),
        tiling: vk::ImageTiling::OPTIMAL.as_raw(),
        usage: usage.as_raw(),
        flags: 0,
        stencil_usage: None,
        view_formats: Box::default(),
        handle_type: 0,
    };
    let sampled = vk::ImageUsageFlags::SAMPLED | HOST;
    let of = |format, usage| copies(&driver).performance(&kind(format, usage));
    assert!(of(RGBA, sampled).unwrap().optimal_device_access);
    let drawn = sampled | vk::ImageUsageFlags::COLOR_ATTACHMENT;
    assert!(!of(RGBA, drawn).unwrap().optimal_device_access);
    assert_eq!(of(RGBA, vk::ImageUsageFlags::SAMPLED), None);
    let nv12 = vk::Format::G8_B8R8_2PLANE_420_UNORM;
    assert!(format::block(nv12).is_none());
    assert_eq!(of(nv12, sampled), None);
}
