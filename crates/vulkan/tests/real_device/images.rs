//! Copies, blits and transitions of images.

use ash::vk;
use vkmem_engine::{DeviceMemory, MemoryHandle, MemoryPropertyFlags};
use vkmem_vulkan::image_format::{ImageFormatInfo, ImageSupport};
use vkmem_vulkan::{
    Driver, HostRegion, LayoutChange, OpenOptions, TransferCommand, VulkanDevice, first_texels,
    format, texel,
};

use crate::{HostBuffer, V1_0, allocate, pattern, validated, with_device};

const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
const UNDEFINED: vk::ImageLayout = vk::ImageLayout::UNDEFINED;
const BARRIER: TransferCommand = TransferCommand::Barrier;

/// Calls a function with a device of the newest version, and of the oldest one.
fn by_version(run: impl Fn(&VulkanDevice)) {
    for api_version in [None, Some(V1_0)] {
        with_device(&OpenOptions { api_version, ..validated() }, &run);
    }
}

/// An image bound to memory of its own.
struct TestImage<'a> {
    device: &'a VulkanDevice,
    image: vk::Image,
    memory: MemoryHandle,
}

impl<'a> TestImage<'a> {
    fn new(device: &'a VulkanDevice, info: &vk::ImageCreateInfo<'_>) -> Self {
        // SAFETY: the info has no pointers.
        unsafe {
            let image = device.create_image(info).expect("an image");
            let requirements = device.image_requirements(image);
            let memory = allocate(device, &requirements, MemoryPropertyFlags::empty(), None);
            device.bind_image(image, memory, 0).expect("bound");
            Self { device, image, memory }
        }
    }
}

impl Drop for TestImage<'_> {
    fn drop(&mut self) {
        // SAFETY: created here, and no transfer runs.
        unsafe { self.device.destroy_image(self.image) };
        self.device.free(self.memory);
    }
}

fn info_of(format: vk::Format, width: u32, height: u32) -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width, height, depth: 1 })
        .mip_levels(1)
        .array_layers(1)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(vk::ImageTiling::OPTIMAL)
        .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
}

fn kind_of(info: &vk::ImageCreateInfo<'_>) -> ImageFormatInfo {
    ImageFormatInfo {
        format: info.format.as_raw(),
        image_type: info.image_type.as_raw(),
        tiling: info.tiling.as_raw(),
        usage: info.usage.as_raw(),
        flags: 0,
        stencil_usage: None,
        view_formats: Box::default(),
        handle_type: 0,
    }
}

#[track_caller]
fn run(device: &VulkanDevice, commands: &[TransferCommand]) {
    // SAFETY: the resources of these tests live until the end.
    unsafe { device.run(commands) }.expect("done");
}

fn aspects_of(format: vk::Format) -> impl Iterator<Item = vk::ImageAspectFlags> {
    let all = texel::aspects(format).as_raw();
    (0..32)
        .map(move |bit| vk::ImageAspectFlags::from_raw(all & (1 << bit)))
        .filter(|it| !it.is_empty())
}

#[test]
fn every_supported_format_comes_back_as_it_went() {
    by_version(|device| {
        let size = 1 << 17;
        let (source, target) = (HostBuffer::new(device, size), HostBuffer::new(device, size));
        let copied = vk::FormatFeatureFlags::TRANSFER_SRC | vk::FormatFeatureFlags::TRANSFER_DST;
        let is_old = device.info().api_version < vk::API_VERSION_1_1;
        let ranges = [1..=184, 1_000_156_000..=1_000_156_033, 1_000_330_000..=1_000_330_003];
        let mut count = 0;
        for format in ranges.into_iter().flatten().map(vk::Format::from_raw) {
            let planes = format::planes(format).len();
            if (is_old && format.as_raw() > 184) || (planes == 0 && format::block(format).is_none())
            {
                continue;
            }
            // Features of copies are told since Vulkan 1.1 only.
            let features = device.format_features(format, vk::ImageTiling::OPTIMAL);
            if features.is_empty() || !(is_old || features.contains(copied)) {
                continue;
            }
            let levels = if planes > 0 { 1 } else { 3 };
            let layers = if planes > 0 { 1 } else { 2 };
            let info = info_of(format, 26, 18).mip_levels(levels).array_layers(layers);
            let kind = kind_of(&info);
            let ImageSupport::UpTo(limits) = device.image_format_properties(&kind) else {
                continue;
            };
            assert!(limits.max_mip_levels >= levels && limits.max_array_layers >= layers);
            count += 1;
            let image = TestImage::new(device, &info);
            let (mut regions, mut end) = (Vec::new(), 0);
            for aspect in aspects_of(format) {
                for level in 0..levels {
                    let texels = texel::copied(format, aspect).expect("a known format");
                    let of_level =
                        vk::Extent3D { width: 26 >> level, height: 18 >> level, depth: 1 };
                    let mut region =
                        first_texels(u64::next_multiple_of(end, 960), texels.extent(of_level));
                    region.image_subresource.aspect_mask = aspect;
                    region.image_subresource.mip_level = level;
                    region.image_subresource.layer_count = layers;
                    let bytes = texels.size_of(region.image_extent).expect("small");
                    end = region.buffer_offset + bytes * u64::from(layers);
                    regions.push((region, texels));
                }
            }
            // Depths of floats, all other bits as they come.
            let mut given = pattern(end as usize);
            if matches!(format, vk::Format::D32_SFLOAT | vk::Format::D32_SFLOAT_S8_UINT) {
                for (region, texels) in &regions {
                    if region.image_subresource.aspect_mask == vk::ImageAspectFlags::DEPTH {
                        let start = region.buffer_offset as usize;
                        let bytes = texels.size_of(region.image_extent).expect("small") * 2;
                        for (at, depth) in
                            given[start..start + bytes as usize].chunks_exact_mut(4).enumerate()
                        {
                            depth.copy_from_slice(&(at as f32 / 1024.0).to_ne_bytes());
                        }
                    }
                }
            }
            source.write(&given);
            let mut commands = Vec::new();
            for (region, _) in &regions {
                let part = region.image_subresource;
                commands.push(TransferCommand::CopyBufferToImage {
                    buffer: source.buffer,
                    image: image.image,
                    region: *region,
                    layouts: LayoutChange::of_layers(format, part, UNDEFINED, GENERAL),
                });
            }
            commands.push(BARRIER);
            for (region, _) in &regions {
                let part = region.image_subresource;
                commands.push(TransferCommand::CopyImageToBuffer {
                    image: image.image,
                    buffer: target.buffer,
                    region: *region,
                    layouts: LayoutChange::of_layers(format, part, GENERAL, GENERAL),
                });
            }
            run(device, &commands);
            let found = target.read();
            for (region, texels) in &regions {
                let start = region.buffer_offset as usize;
                let bytes = texels.size_of(region.image_extent).expect("small") * u64::from(layers);
                for at in start..start + bytes as usize {
                    if ((at - start) as u32 % texels.block.bytes) < texels.used {
                        assert_eq!(found[at], given[at], "{format:?}, byte {at}");
                    }
                }
            }
        }
        assert!(count > 80, "{count}");
    });
}

fn layers(level: u32) -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers {
        aspect_mask: vk::ImageAspectFlags::COLOR,
        mip_level: level,
        base_array_layer: 0,
        layer_count: 1,
    }
}

#[test]
fn a_mip_chain_is_blitted_in_one_image() {
    by_version(|device| {
        assert!(device.queue_flags().contains(vk::QueueFlags::GRAPHICS | vk::QueueFlags::TRANSFER));
        let one = vk::Extent3D { width: 1, height: 1, depth: 1 };
        assert_eq!(device.image_granularity(), one);
        let format = vk::Format::R8G8B8A8_UNORM;
        let needed = vk::FormatFeatureFlags::BLIT_SRC
            | vk::FormatFeatureFlags::BLIT_DST
            | vk::FormatFeatureFlags::SAMPLED_IMAGE_FILTER_LINEAR;
        assert!(device.format_features(format, vk::ImageTiling::OPTIMAL).contains(needed));
        let (source, target) = (HostBuffer::new(device, 4096), HostBuffer::new(device, 4096));
        let info = info_of(format, 16, 8).mip_levels(5);
        let image = TestImage::new(device, &info.usage(info.usage | vk::ImageUsageFlags::SAMPLED));
        // All 2 x 2 squares have the average of one of their rows.
        let texels: Vec<u8> =
            (0..8).flat_map(|_| (0..16).flat_map(|x| [x * 4, 200, 7, 255])).collect();
        source.write(&texels);
        let first = first_texels(0, vk::Extent3D { width: 16, height: 8, depth: 1 });
        let mut commands = vec![TransferCommand::CopyBufferToImage {
            buffer: source.buffer,
            image: image.image,
            region: first,
            layouts: LayoutChange::of_layers(format, layers(0), UNDEFINED, GENERAL),
        }];
        let side = |whole: u32, level: u32| (whole >> level).max(1);
        let corner = |level: u32| {
            let (x, y) = (side(16, level) as i32, side(8, level) as i32);
            [vk::Offset3D::default(), vk::Offset3D { x, y, z: 1 }]
        };
        for level in 1..5 {
            commands.push(BARRIER);
            commands.push(TransferCommand::BlitImage {
                source: image.image,
                target: image.image,
                region: vk::ImageBlit {
                    src_subresource: layers(level - 1),
                    src_offsets: corner(level - 1),
                    dst_subresource: layers(level),
                    dst_offsets: corner(level),
                },
                filter: vk::Filter::LINEAR,
                source_layouts: LayoutChange::of_layers(
                    format,
                    layers(level - 1),
                    GENERAL,
                    GENERAL,
                ),
                target_layouts: LayoutChange::of_layers(format, layers(level), UNDEFINED, GENERAL),
            });
        }
        let whole =
            LayoutChange::of_whole(format, GENERAL, vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL);
        let back =
            LayoutChange::of_whole(format, vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL, GENERAL);
        let transition = |layouts| TransferCommand::TransitionImage { image: image.image, layouts };
        commands.extend([BARRIER, transition(whole), BARRIER, transition(back), BARRIER]);
        for level in 1..5 {
            let extent = vk::Extent3D { width: side(16, level), height: side(8, level), depth: 1 };
            let mut region = first_texels(512 * u64::from(level), extent);
            region.image_subresource = layers(level);
            commands.push(TransferCommand::CopyImageToBuffer {
                image: image.image,
                buffer: target.buffer,
                region,
                layouts: LayoutChange::of_layers(format, layers(level), GENERAL, GENERAL),
            });
        }
        run(device, &commands);
        let found = target.read();
        for level in 1..5_u32 {
            for x in 0..side(16, level) {
                let start = (512 * level + 4 * x) as usize;
                let expected = f64::from(4 << level) * (f64::from(x) + 0.5) - 2.0;
                let texel = &found[start..start + 4];
                assert!((f64::from(texel[0]) - expected).abs() <= 1.5, "level {level}: {texel:?}");
                assert_eq!(texel[1..], [200, 7, 255], "level {level}");
            }
        }
    });
}

#[test]
fn images_are_copied_to_images() {
    by_version(|device| {
        let (blocks, words) = (vk::Format::BC1_RGB_UNORM_BLOCK, vk::Format::R32G32_UINT);
        let (source, target) = (HostBuffer::new(device, 4096), HostBuffer::new(device, 4096));
        let compressed = TestImage::new(device, &info_of(blocks, 18, 10));
        let plain = TestImage::new(device, &info_of(words, 7, 5));
        let given = pattern(5 * 3 * 8);
        source.write(&given);
        let extent = vk::Extent3D { width: 18, height: 10, depth: 1 };
        let mut part = first_texels(0, vk::Extent3D { width: 5, height: 3, depth: 1 });
        part.image_offset = vk::Offset3D { x: 2, y: 2, z: 0 };
        let commands = [
            TransferCommand::CopyBufferToImage {
                buffer: source.buffer,
                image: compressed.image,
                region: first_texels(0, extent),
                layouts: LayoutChange::of_layers(blocks, layers(0), UNDEFINED, GENERAL),
            },
            BARRIER,
            TransferCommand::CopyImage {
                source: compressed.image,
                target: plain.image,
                region: vk::ImageCopy {
                    src_subresource: layers(0),
                    dst_subresource: layers(0),
                    dst_offset: part.image_offset,
                    extent,
                    ..Default::default()
                },
                source_layouts: LayoutChange::of_layers(blocks, layers(0), GENERAL, GENERAL),
                target_layouts: LayoutChange::of_layers(words, layers(0), UNDEFINED, GENERAL),
            },
            BARRIER,
            // Within one level: it is in one layout for both sides.
            TransferCommand::CopyImage {
                source: plain.image,
                target: plain.image,
                region: vk::ImageCopy {
                    src_subresource: layers(0),
                    src_offset: part.image_offset,
                    dst_subresource: layers(0),
                    extent: vk::Extent3D { width: 2, height: 2, depth: 1 },
                    ..Default::default()
                },
                source_layouts: LayoutChange::of_layers(words, layers(0), GENERAL, GENERAL),
                target_layouts: LayoutChange::of_layers(words, layers(0), GENERAL, GENERAL),
            },
            BARRIER,
            TransferCommand::CopyImageToBuffer {
                image: plain.image,
                buffer: target.buffer,
                region: part,
                layouts: LayoutChange::of_layers(words, layers(0), GENERAL, GENERAL),
            },
            TransferCommand::CopyImageToBuffer {
                image: plain.image,
                buffer: target.buffer,
                region: first_texels(1024, vk::Extent3D { width: 2, height: 2, depth: 1 }),
                layouts: LayoutChange::of_layers(words, layers(0), GENERAL, GENERAL),
            },
        ];
        run(device, &commands);
        let found = target.read();
        assert_eq!(found[..120], given);
        assert_eq!(found[1024..1056], [&given[..16], &given[40..56]].concat());
    });
}

#[test]
fn the_host_copies_where_the_device_lets_it() {
    by_version(|device| {
        let is_enabled = device.features().iter().any(|it| it == "hostImageCopy");
        assert_eq!(device.host_image_copy().is_some(), is_enabled);
        let Some(copies) = device.host_image_copy() else { return };
        assert!(copies.source_layouts().contains(&GENERAL));
        assert!(copies.target_layouts().contains(&GENERAL));
        let format = vk::Format::R8G8B8A8_UNORM;
        let info = info_of(format, 37, 21);
        let info = info.usage(info.usage | vk::ImageUsageFlags::HOST_TRANSFER_EXT);
        let kind = kind_of(&info);
        assert!(copies.performance(&kind).is_some());
        let image = TestImage::new(device, &info);
        let given = pattern(37 * 21 * 4);
        let mut found = vec![0_u8; given.len()];
        let region = |address| HostRegion {
            address,
            row_length: 0,
            image_height: 0,
            subresource: layers(0),
            offset: vk::Offset3D::default(),
            extent: info.extent,
        };
        let there = region(given.as_ptr().expose_provenance());
        let back = region(found.as_mut_ptr().expose_provenance());
        let target = HostBuffer::new(device, 4096);
        // SAFETY: regions of live memory of their size, and an image that no submission uses.
        unsafe {
            let layouts = LayoutChange::of_whole(format, UNDEFINED, GENERAL);
            copies.transition_image_layout(image.image, layouts).expect("transitioned");
            copies.copy_memory_to_image(image.image, GENERAL, &[there]).expect("copied");
            copies.copy_image_to_memory(image.image, GENERAL, &[back]).expect("copied");
            copies.copy_image_to_memory(image.image, GENERAL, &[]).expect("nothing to copy");
        }
        assert_eq!(found, given);
        let download = TransferCommand::CopyImageToBuffer {
            image: image.image,
            buffer: target.buffer,
            region: first_texels(0, info.extent),
            layouts: LayoutChange::of_layers(format, layers(0), GENERAL, GENERAL),
        };
        run(device, &[download]);
        assert_eq!(target.read()[..given.len()], given);
    });
}
