//! What new resources hold, in each memory type, and what is left out.

use ash::vk::{self, Format};
use vkmem_engine::{
    AllocationCreateFlags as Create, AllocationCreateInfo, DebugOptions, DeviceMemory,
    MemoryPropertyFlags as Flags, MemoryUsage, profile_names,
};
use vkmem_vulkan::{FillTarget, ImageContents, LeftOutPart, ResourceHandle, first_texels};

use crate::{NEW, World, driver};

/// A device whose allocator has no margins, so that dedicated memory names its resource.
fn plain(profile: &str) -> World {
    World::with(driver(profile), DebugOptions::default())
}

impl World {
    fn image(
        &self,
        index: u32,
        info: &vk::ImageCreateInfo<'_>,
        flags: Create,
    ) -> (FillTarget, vkmem_engine::Allocation) {
        let usage = match self.flags(index).contains(Flags::LAZILY_ALLOCATED) {
            true => MemoryUsage::GpuLazilyAllocated,
            false => MemoryUsage::Unknown,
        };
        let memory_type_bits = 1 << index;
        let create = AllocationCreateInfo { flags, usage, memory_type_bits, ..Default::default() };
        // SAFETY: a plain create info.
        let (image, allocation) =
            unsafe { self.allocator.create_image(info, &create, |on, it| on.allocate(it)) }
                .unwrap();
        let target = FillTarget {
            handle: ResourceHandle::Image(image),
            usage: info.usage.as_raw().into(),
            buffer_size: 0,
            image: Some(ImageContents {
                format: info.format,
                tiling: info.tiling,
                initial_layout: info.initial_layout,
            }),
            id: allocation.id,
        };
        (target, allocation)
    }
}

fn image_info(format: Format, usage: vk::ImageUsageFlags) -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width: 20, height: 12, depth: 1 })
        .mip_levels(3)
        .array_layers(2)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(vk::ImageTiling::OPTIMAL)
        .usage(usage)
}

const USAGE: vk::ImageUsageFlags = vk::ImageUsageFlags::from_raw(
    vk::ImageUsageFlags::TRANSFER_DST.as_raw() | vk::ImageUsageFlags::SAMPLED.as_raw(),
);

#[test]
fn buffers_of_odd_sizes_are_filled_in_each_memory_type() {
    for profile in profile_names() {
        let world = plain(profile);
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
        let mut targets = Vec::new();
        for index in world.types() {
            for flags in [Create::empty(), Create::DEDICATED_MEMORY] {
                let made: Vec<_> = [1, 2, 3, 5, 1021, 70_003]
                    .into_iter()
                    .map(|size| world.buffer(index, size, usage, flags))
                    .collect();
                let all: Vec<_> = made.iter().map(|it| it.0).collect();
                assert_eq!(world.prepare(&all), [], "{profile} {index}");
                for (target, allocation) in &made {
                    let found = world.read(allocation, 0, target.buffer_size);
                    assert!(found.iter().all(|it| *it == NEW), "{profile} {index}: {found:x?}");
                }
                targets.extend(all);
            }
        }
        world.end(&targets);
    }
}

#[test]
fn images_in_blocks_are_filled_whatever_their_format() {
    for profile in ["nvidia-h200", "non-coherent", "discrete-8gib"] {
        let world = World::new(profile);
        let mut targets = Vec::new();
        for format in [Format::R8G8B8A8_UNORM, Format::BC1_RGBA_UNORM_BLOCK, Format::D32_SFLOAT] {
            let info = image_info(format, vk::ImageUsageFlags::SAMPLED);
            for index in world.types() {
                if world.driver.rules().optimal_image_types >> index & 1 == 0 {
                    continue;
                }
                let (target, made) = world.image(index, &info, Create::empty());
                assert_eq!(world.prepare(&[target]), [], "{profile} {index} {format:?}");
                assert!(world.contents(&made).iter().all(|it| *it == NEW));
                targets.push(target);
            }
        }
        world.assert_intact();
        world.end(&targets);
    }
}

#[test]
fn images_to_which_memory_is_dedicated_are_cleared() {
    let world = plain("nvidia-h200");
    let index = world.hidden_type();
    // The bytes of a texel in memory.
    let all = [0xDC; 16];
    for (format, texel) in [
        (Format::R8G8B8A8_UNORM, &all[..4]),
        (Format::R8G8B8A8_SRGB, &all[..4]),
        (Format::R8G8B8A8_SNORM, &all[..4]),
        (Format::B8G8R8A8_UNORM, &all[..4]),
        (Format::R16_UINT, &all[..2]),
        (Format::R16G16_SINT, &all[..4]),
        (Format::R16G16B16A16_SFLOAT, &all[..8]),
        (Format::R32G32B32A32_SFLOAT, &all[..16]),
        (Format::R32_UINT, &all[..4]),
        (Format::D16_UNORM, &all[..2]),
    ] {
        let (target, made) =
            world.image(index, &image_info(format, USAGE), Create::DEDICATED_MEMORY);
        assert_eq!(world.prepare(&[target]), [], "{format:?}");
        // All levels and layers, one behind the other.
        let texels = 2 * (20 * 12 + 10 * 6 + 5 * 3);
        let found = world.read(&made, 0, texels * texel.len() as u64);
        assert!(found.chunks(texel.len()).all(|it| it == texel), "{format:?}: {:x?}", &found[..16]);
        world.driver.device().assert_no_violations();
        // SAFETY: live and not in use.
        drop(unsafe { world.allocator.destroy(target.handle, Some(target.id)) });
    }
    world.end(&[]);
}

#[test]
fn what_cannot_be_filled_is_left_out_with_the_reason() {
    let world = plain("nvidia-h200");
    let index = world.hidden_type();
    let dedicated = Create::DEDICATED_MEMORY;
    let mut targets = Vec::new();
    let mut left_out = |target: FillTarget, reason: &str| {
        let found = world.prepare(&[target]);
        let [one] = &found[..] else { panic!("{reason}: {found:?}") };
        assert_eq!((one.id, one.part), (target.id, LeftOutPart::Contents));
        assert!(one.why.contains(reason), "{reason}: {}", one.why);
        targets.push(target);
    };
    let storage = vk::BufferUsageFlags::STORAGE_BUFFER;
    left_out(world.buffer(index, 100, storage, dedicated).0, "without TRANSFER_DST");
    let sampled = vk::ImageUsageFlags::SAMPLED;
    let rgba = Format::R8G8B8A8_UNORM;
    left_out(world.image(index, &image_info(rgba, sampled), dedicated).0, "without TRANSFER_DST");
    for format in [Format::BC1_RGBA_UNORM_BLOCK, Format::B10G11R11_UFLOAT_PACK32] {
        let info = image_info(format, USAGE);
        left_out(world.image(index, &info, dedicated).0, "its format cannot be cleared");
    }
    let unknown = world.image(index, &image_info(rgba, USAGE), dedicated).0;
    left_out(FillTarget { image: None, ..unknown }, "a resource that is not known");
    let no_queue = world.buffer(index, 100, storage, dedicated).0;
    let on_copies = world.image(index, &image_info(rgba, USAGE), dedicated).0;
    world.driver.set_queue_flags(vk::QueueFlags::TRANSFER);
    left_out(on_copies, "queue cannot clear");
    world.driver.set_queue_flags(vk::QueueFlags::empty());
    left_out(no_queue, "without a queue");
    world.end(&targets);
}

/// A chain of the caller's may dedicate memory to a resource.
#[test]
fn memory_with_a_chain_of_the_callers_is_written_through_its_resource_only() {
    let world = World::new("nvidia-h200");
    let chain = vk::MemoryPriorityAllocateInfoEXT::default();
    let info = vk::BufferCreateInfo::default().size(1003);
    let usage = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
    let create = AllocationCreateInfo {
        memory_type_bits: 1 << world.hidden_type(),
        memory_allocate_next: (&raw const chain).expose_provenance(),
        ..Default::default()
    };
    // SAFETY: a plain create info, and a chain that lives as long as the test.
    let (buffer, made) = unsafe {
        let info = info.usage(usage);
        world.allocator.create_buffer(&info, &create, |on, it| on.allocate(it))
    }
    .unwrap();
    let unknown = crate::bare(made.id);
    let found = world.prepare(&[unknown]);
    assert!(found.len() == 1 && found[0].why.contains("not known"), "{found:?}");
    let handle = ResourceHandle::Buffer(buffer);
    let usage = usage.as_raw().into();
    let target = FillTarget { handle, usage, buffer_size: 1003, image: None, id: made.id };
    assert_eq!(world.prepare(&[target]), []);
    assert!(world.read(&made, 0, 1003).iter().all(|it| *it == NEW));
    world.end(&[target]);
}

#[test]
fn lazily_allocated_memory_is_never_filled() {
    let mut count = 0;
    for profile in profile_names() {
        let world = World::new(profile);
        let types = world.driver.info().types.len() as u32;
        let mut targets = Vec::new();
        for index in (0..types).filter(|it| world.flags(*it).contains(Flags::LAZILY_ALLOCATED)) {
            let usage =
                vk::ImageUsageFlags::COLOR_ATTACHMENT | vk::ImageUsageFlags::TRANSIENT_ATTACHMENT;
            let info = image_info(Format::R8G8B8A8_UNORM, usage).mip_levels(1).array_layers(1);
            let (target, _) = world.image(index, &info, Create::empty());
            let found = world.prepare(&[target]);
            assert!(found.len() == 1 && found[0].why.contains("LAZILY_ALLOCATED"), "{found:?}");
            targets.push(target);
            count += 1;
        }
        world.end(&targets);
    }
    assert!(count > 0, "no profile has such memory");
}

#[test]
fn a_filled_image_is_uploaded_to_as_a_new_one() {
    let world = plain("nvidia-h200");
    let info = image_info(Format::R8G8B8A8_UNORM, USAGE);
    let (target, _) = world.image(world.hidden_type(), &info, Create::DEDICATED_MEMORY);
    world.prepare(&[target]);
    let ResourceHandle::Image(image) = target.handle else { panic!("an image") };
    let usage = vk::BufferUsageFlags::TRANSFER_SRC;
    let (source, _) = world.buffer(world.visible_type(), 4096, usage, Create::empty());
    let ResourceHandle::Buffer(buffer) = source.handle else { panic!("a buffer") };
    let layouts = vkmem_vulkan::LayoutChange::of_new_image(vk::ImageLayout::GENERAL);
    let command = vkmem_vulkan::TransferCommand::CopyBufferToImage {
        buffer,
        image,
        region: first_texels(0, info.extent),
        layouts,
    };
    // SAFETY: both live until the end.
    unsafe { vkmem_vulkan::Driver::run(world.driver.as_ref(), &[command]) }.unwrap();
    world.end(&[target, source]);
}
