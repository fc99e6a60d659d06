//! Memory requirements of buffers and images.

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    DeviceMemory, MemoryPropertyFlags, SimulatedDevice, VALIDATION_FAILED, profile_info,
};
use vkmem_vulkan::{DeviceHandles, Driver, SimulatedDriver};

use super::{
    KIB, MIB, assert_one_violation, buffer_info, buffer_needs, copied, driver, image_info,
    image_needs, of_type,
};

#[test]
fn every_profile_gives_requirements_that_can_be_met() {
    for name in SimulatedDevice::profile_names() {
        let driver = driver(name);
        let buffer = buffer_needs(&driver, &buffer_info(1000, copied()));
        let optimal = image_needs(&driver, &image_info(vk::Format::R8G8B8A8_UNORM, 100, 100));
        let linear = image_info(vk::Format::R8G8B8A8_UNORM, 100, 100);
        let linear = image_needs(&driver, &linear.tiling(vk::ImageTiling::LINEAR));
        for needs in [buffer, optimal, linear] {
            assert!(needs.alignment.is_power_of_two(), "{name}");
            assert_eq!(needs.size % needs.alignment, 0, "{name}");
            assert!(needs.memory_type_bits != 0, "{name}");
            for (index, kind) in driver.info().types.iter().enumerate() {
                let special =
                    MemoryPropertyFlags::LAZILY_ALLOCATED | MemoryPropertyFlags::PROTECTED;
                let allowed = needs.memory_type_bits & (1 << index) != 0;
                assert!(!(allowed && kind.flags.intersects(special)), "{name}");
            }
        }
        assert_eq!(driver.handles(), DeviceHandles::default());
        driver.assert_clean();
    }
    assert!(SimulatedDriver::profile("abacus").is_none());
}

#[test]
fn buffers_are_aligned_for_their_usage() {
    let driver = driver("non-coherent");
    let alignment = |usage| buffer_needs(&driver, &buffer_info(1000, usage)).alignment;
    assert_eq!(alignment(vk::BufferUsageFlags::VERTEX_BUFFER), 16);
    assert_eq!(alignment(vk::BufferUsageFlags::STORAGE_BUFFER), 64);
    assert_eq!(alignment(vk::BufferUsageFlags::UNIFORM_TEXEL_BUFFER), 64);
    let both = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::UNIFORM_BUFFER;
    assert_eq!(alignment(both), 256);
    assert_eq!(buffer_needs(&driver, &buffer_info(1000, both)).size, 1024);
}

#[test]
fn usage_in_the_chain_counts() {
    let driver = driver("non-coherent");
    let mut wide = vk::BufferUsageFlags2CreateInfoKHR::default()
        .usage(vk::BufferUsageFlags2KHR::UNIFORM_BUFFER);
    let info = vk::BufferCreateInfo::default().size(10).push_next(&mut wide);
    assert_eq!(buffer_needs(&driver, &info).alignment, 256);
    driver.device().assert_no_violations();
}

#[test]
fn the_measured_devices_answer_as_measured() {
    let h200 = driver("nvidia-h200");
    let storage = buffer_info(1000, vk::BufferUsageFlags::STORAGE_BUFFER);
    let needs = buffer_needs(&h200, &storage);
    assert_eq!((needs.alignment, needs.memory_type_bits), (16, 0b1_1111));
    let image = image_needs(&h200, &image_info(vk::Format::R8G8B8A8_UNORM, 64, 64));
    assert_eq!((image.size, image.alignment, image.memory_type_bits), (16 * KIB, 1024, 0b11));
    let image = image_needs(&h200, &image_info(vk::Format::R8G8B8A8_UNORM, 256, 256));
    assert_eq!(image.alignment, 64 * KIB);
    assert!(h200.extensions().iter().any(|name| name == "VK_EXT_memory_budget"));
    let memory = h200.allocate(&of_type(1, MIB)).unwrap();
    let budget = h200.budget().unwrap();
    assert_eq!((budget[0].usage, budget[0].budget), (MIB, 150_092_709_888));
    h200.free(memory);
    let lavapipe = driver("lavapipe");
    let needs = buffer_needs(&lavapipe, &storage);
    assert_eq!((needs.alignment, needs.memory_type_bits), (64, 1));
    assert_eq!(lavapipe.budget(), None);
}

#[test]
fn images_count_levels_layers_samples_and_blocks() {
    let driver = driver("lavapipe");
    let size = |info: &vk::ImageCreateInfo<'_>| image_needs(&driver, info).size;
    let rgba = image_info(vk::Format::R8G8B8A8_UNORM, 64, 64);
    assert_eq!(size(&rgba), 16 * KIB);
    // Mip levels of 64², 32² ... 1² texels.
    assert_eq!(size(&rgba.mip_levels(7)), (16 * KIB * 4 / 3).next_multiple_of(64));
    assert_eq!(size(&rgba.array_layers(6)), 96 * KIB);
    assert_eq!(size(&rgba.samples(vk::SampleCountFlags::TYPE_4)), 64 * KIB);
    let deep = rgba.image_type(vk::ImageType::TYPE_3D);
    assert_eq!(size(&deep.extent(vk::Extent3D { width: 64, height: 64, depth: 5 })), 80 * KIB);
    assert_eq!(size(&image_info(vk::Format::BC1_RGB_UNORM_BLOCK, 64, 64)), 2 * KIB);
    assert_eq!(size(&image_info(vk::Format::G8_B8R8_2PLANE_420_UNORM, 64, 64)), 64 * KIB);
}

#[test]
fn lazily_allocated_types_are_for_transient_images() {
    let driver = driver("moltenvk");
    let info = image_info(vk::Format::D32_SFLOAT, 64, 64);
    assert_eq!(image_needs(&driver, &info).memory_type_bits, 0b011);
    let transient =
        vk::ImageUsageFlags::TRANSIENT_ATTACHMENT | vk::ImageUsageFlags::DEPTH_STENCIL_ATTACHMENT;
    assert_eq!(image_needs(&driver, &info.usage(transient)).memory_type_bits, 0b111);
    let linear = info.tiling(vk::ImageTiling::LINEAR);
    assert_eq!(image_needs(&driver, &linear).memory_type_bits, 0b010);
}

#[test]
fn protected_resources_and_types_belong_together() {
    let mut info = profile_info("lavapipe").unwrap();
    let mut protected = info.types[0];
    protected.flags = MemoryPropertyFlags::PROTECTED;
    info.types.push(protected);
    let driver = SimulatedDriver::new(Arc::new(SimulatedDevice::new(info)));
    let buffer = buffer_info(64, copied());
    assert_eq!(buffer_needs(&driver, &buffer).memory_type_bits, 0b01);
    let buffer = buffer.flags(vk::BufferCreateFlags::PROTECTED);
    assert_eq!(buffer_needs(&driver, &buffer).memory_type_bits, 0b10);
    let image = image_info(vk::Format::R8_UNORM, 8, 8).flags(vk::ImageCreateFlags::PROTECTED);
    assert_eq!(image_needs(&driver, &image).memory_type_bits, 0b10);
}

#[test]
fn large_images_of_cards_prefer_memory_of_their_own() {
    let large = image_info(vk::Format::R32G32B32A32_SFLOAT, 8192, 4096);
    for (name, prefers) in [("discrete-8gib", true), ("integrated", false)] {
        let driver = driver(name);
        let needs = image_needs(&driver, &large);
        assert_eq!((needs.prefers_dedicated, needs.requires_dedicated), (prefers, false));
        let small = image_info(vk::Format::R8_UNORM, 64, 64);
        assert!(!image_needs(&driver, &small).prefers_dedicated);
    }
}

#[test]
fn impossible_create_infos_are_violations() {
    let driver = driver("lavapipe");
    let refuse_buffer = |info: vk::BufferCreateInfo<'_>, word| {
        // SAFETY: no chain.
        assert_eq!(unsafe { driver.create_buffer(&info) }, Err(VALIDATION_FAILED));
        assert_one_violation(&driver, word);
    };
    refuse_buffer(buffer_info(0, copied()), "size zero");
    refuse_buffer(buffer_info(1, vk::BufferUsageFlags::empty()), "without usage");
    refuse_buffer(buffer_info(u64::MAX, copied()), "more than any memory");
    let refuse = |info: vk::ImageCreateInfo<'_>, word| {
        // SAFETY: no chain.
        assert_eq!(unsafe { driver.create_image(&info) }, Err(VALIDATION_FAILED));
        assert_one_violation(&driver, word);
    };
    let good = image_info(vk::Format::R8_UNORM, 16, 16);
    refuse(good.extent(vk::Extent3D { width: 0, height: 1, depth: 1 }), "without extent");
    refuse(good.extent(vk::Extent3D { width: 1, height: 1, depth: 2 }), "dimensions");
    refuse(good.mip_levels(6), "mip level");
    refuse(good.array_layers(0), "array layers");
    refuse(good.samples(vk::SampleCountFlags::empty()), "sample count");
    refuse(good.usage(vk::ImageUsageFlags::empty()), "without usage");
    refuse(good.format(vk::Format::UNDEFINED), "without a format");
    refuse(good.initial_layout(vk::ImageLayout::GENERAL), "initial layout");
    driver.assert_clean();
}

#[test]
fn rows_of_linear_images_are_padded() {
    let driver = driver("lavapipe");
    let of =
        |aspect_mask, mip_level| vk::ImageSubresource { aspect_mask, mip_level, array_layer: 0 };
    let layout = |format, subresource| {
        let info = image_info(format, 5, 3).tiling(vk::ImageTiling::LINEAR);
        let needs = image_needs(&driver, &info);
        // SAFETY: a valid create info; the image is live until it is destroyed, once.
        let layout = unsafe {
            let image = driver.create_image(&info).unwrap();
            let layout = driver.subresource_layout(image, subresource);
            driver.destroy_image(image);
            layout
        };
        assert!(layout.offset + layout.size <= needs.size, "{format:?}");
        (layout.offset, layout.size, layout.row_pitch)
    };
    let colour = vk::ImageAspectFlags::COLOR;
    assert_eq!(layout(vk::Format::R8G8B8A8_UNORM, of(colour, 0)), (0, 96, 32));
    assert_eq!(layout(vk::Format::R32G32B32A32_SFLOAT, of(colour, 0)), (0, 288, 96));
    // One row of two blocks of 4 x 4.
    assert_eq!(layout(vk::Format::BC1_RGB_UNORM_BLOCK, of(colour, 0)), (0, 32, 32));
    let planes = vk::Format::G8_B8R8_2PLANE_420_UNORM;
    assert_eq!(layout(planes, of(vk::ImageAspectFlags::PLANE_0, 0)), (0, 96, 32));
    assert_eq!(layout(planes, of(vk::ImageAspectFlags::PLANE_1, 0)), (96, 64, 32));
    let both = vk::Format::D32_SFLOAT_S8_UINT;
    assert_eq!(layout(both, of(vk::ImageAspectFlags::DEPTH, 0)), (0, 96, 32));
    assert_eq!(layout(both, of(vk::ImageAspectFlags::STENCIL, 0)), (96, 96, 32));
    driver.assert_clean();
    for (format, wrong) in [
        (vk::Format::R8_UNORM, of(vk::ImageAspectFlags::DEPTH, 0)),
        (vk::Format::R8_UNORM, of(colour, 1)),
        (both, of(vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL, 0)),
    ] {
        let info = image_info(format, 5, 3).tiling(vk::ImageTiling::LINEAR);
        // SAFETY: as above; a simulated driver checks the subresource.
        unsafe {
            let image = driver.create_image(&info).unwrap();
            let _ = driver.subresource_layout(image, wrong);
            driver.destroy_image(image);
        }
    }
    assert_eq!(driver.device().violations().len(), 3);
}
