//! Memory is written and checked on a real driver, by the host and by the device, whose memory can be mapped.

use std::sync::Arc;

use ash::vk::{self, Format};
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationCreateInfo, AllocatorOptions,
    DebugOptions, Difference, GuardedUse, QuarantineLimit,
};
use vkmem_vulkan::{
    DeviceAllocator, Driver, FillTarget, ImageContents, LayoutChange, MemoryDebugger,
    ResourceHandle, TransferCommand, first_texels,
};

use crate::{HostBuffer, assert_clean, image_info, open, validated};

const MARGIN: u64 = 16;
const NEW: u8 = 0xDC;
const FREED: u8 = 0xEF;

/// Returns the host address of an offset of an allocation, while `run` runs.
fn with_mapped(
    allocator: &DeviceAllocator,
    allocation: &Allocation,
    offset: i64,
    run: impl FnOnce(*mut u8),
) {
    let all = allocator.engine().guarded_ranges(!0, None, false).unwrap();
    let memory = all.iter().find(|it| it.memory.handle() == allocation.memory).unwrap();
    let mapped = memory.memory.map().unwrap();
    let at = allocation.offset.checked_add_signed(offset).unwrap();
    run(std::ptr::with_exposed_provenance_mut(mapped.address.at(at).0.get()));
}

fn buffer(
    allocator: &DeviceAllocator,
    size: u64,
    usage: vk::BufferUsageFlags,
    flags: Create,
) -> (FillTarget, Allocation) {
    let info = vk::BufferCreateInfo::default().size(size).usage(usage);
    let create = AllocationCreateInfo { flags, ..Default::default() };
    // SAFETY: a plain create info.
    let (buffer, allocation) =
        unsafe { allocator.create_buffer(&info, &create, |on, it| on.allocate(it)) }.unwrap();
    let target = FillTarget {
        handle: ResourceHandle::Buffer(buffer),
        usage: usage.as_raw().into(),
        buffer_size: size,
        image: None,
        id: allocation.id,
    };
    (target, allocation)
}

fn image(
    allocator: &DeviceAllocator,
    info: &vk::ImageCreateInfo<'_>,
    flags: Create,
) -> (FillTarget, Allocation) {
    let create = AllocationCreateInfo { flags, ..Default::default() };
    // SAFETY: a plain create info.
    let (image, allocation) =
        unsafe { allocator.create_image(info, &create, |on, it| on.allocate(it)) }.unwrap();
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

#[test]
fn each_byte_is_found_by_the_host_and_by_the_device() {
    let device = Arc::new(open(&validated()));
    let log = device.validation_log().expect("validation is on");
    for by_device in [false, true] {
        let debug = DebugOptions {
            margin: MARGIN,
            quarantine: Some(QuarantineLimit::Bytes(1 << 20)),
            ..DebugOptions::default()
        };
        let options = AllocatorOptions { debug, ..AllocatorOptions::default() };
        let allocator = DeviceAllocator::new(device.clone(), &options).unwrap();
        let debugger = MemoryDebugger::new(77);
        let debugger = if by_device { debugger.by_device() } else { debugger };
        let check = || debugger.check(&allocator, (!0, None), &|_| Some(FREED), &|| false).unwrap();
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER;
        let mut made: Vec<_> =
            [(100, Create::empty()), (5001, Create::empty()), (777, Create::DEDICATED_MEMORY)]
                .into_iter()
                .map(|(size, flags)| buffer(&allocator, size, usage, flags))
                .collect();
        made.push(image(&allocator, &image_info(), Create::empty()));
        let targets: Vec<FillTarget> = made.iter().map(|it| it.0).collect();
        // SAFETY: live and not in use.
        let left_out = unsafe { debugger.prepare(&allocator, &targets, Some(NEW)) };
        assert_eq!(left_out, Ok(vec![]));
        for (target, it) in &made {
            let size = if target.image.is_some() { it.size } else { target.buffer_size };
            with_mapped(&allocator, it, 0, |at| {
                // SAFETY: mapped, and not in use.
                let found = unsafe { std::slice::from_raw_parts(at, size as usize) };
                assert!(found.iter().all(|byte| *byte == NEW), "{by_device}");
            });
        }
        let gone = made.remove(1);
        // SAFETY: live and not in use.
        unsafe {
            assert_eq!(debugger.fill_freed(&allocator, &[gone.0], FREED), Ok(vec![]));
            drop(allocator.destroy(gone.0.handle, Some(gone.0.id)));
        }
        let checked = check();
        assert_eq!((&checked.findings[..], &checked.unchecked[..]), (&[][..], &[][..]));
        assert_eq!((checked.ranges, checked.submissions), (9, if by_device { 2 } else { 0 }));
        let behind = |it: &Allocation| it.size.cast_signed();
        let mut places: Vec<_> = made
            .iter()
            .flat_map(|(_, it)| {
                [(*it, -1, GuardedUse::FrontMargin), (*it, behind(it), GuardedUse::BackMargin)]
            })
            .collect();
        places.push((gone.1, 2500, GuardedUse::Quarantined));
        for (allocation, offset, is) in places {
            // SAFETY: mapped, and not in use.
            let flip = |at: *mut u8| unsafe { *at ^= 1 };
            with_mapped(&allocator, &allocation, offset, flip);
            let findings = check().findings;
            let [found] = &findings[..] else { panic!("{by_device} {offset}: {findings:?}") };
            let offset_in_memory = allocation.offset.checked_add_signed(offset).unwrap();
            let difference = Difference { offset: offset_in_memory, length: 1, count: 1 };
            assert_eq!((found.difference, found.range.is), (difference, is));
            assert_eq!(found.range.id, Some(allocation.id));
            with_mapped(&allocator, &allocation, offset, flip);
        }
        assert_eq!(check().findings, []);
        for (target, _) in made {
            // SAFETY: live and not in use.
            drop(unsafe { allocator.destroy(target.handle, Some(target.id)) });
        }
        allocator.engine().close();
        assert_clean(&log);
    }
    drop(device);
    assert_clean(&log);
}

#[test]
fn resources_to_which_memory_is_dedicated_are_filled_through_themselves() {
    let device = Arc::new(open(&validated()));
    let log = device.validation_log().expect("validation is on");
    let allocator = DeviceAllocator::new(device.clone(), &AllocatorOptions::default()).unwrap();
    let debugger = MemoryDebugger::new(77).by_device();
    let usage = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
    let host = Create::DEDICATED_MEMORY | Create::HOST_ACCESS_RANDOM | Create::MAPPED;
    let (target, made) = buffer(&allocator, 1003, usage, host);
    // SAFETY: live and not in use.
    let left_out = unsafe { debugger.prepare(&allocator, &[target], Some(NEW)) };
    assert_eq!(left_out, Ok(vec![]));
    let at = std::ptr::with_exposed_provenance::<u8>(made.mapped.unwrap().0.get());
    // SAFETY: mapped, and not in use.
    assert!(unsafe { std::slice::from_raw_parts(at, 1003) }.iter().all(|it| *it == NEW));
    let mut targets = vec![target];
    for (format, bytes) in [
        (Format::R8G8B8A8_UNORM, 4),
        (Format::R8G8B8A8_SRGB, 4),
        (Format::R16G16_SFLOAT, 4),
        (Format::R32_UINT, 4),
        (Format::R32G32B32A32_SFLOAT, 16),
        (Format::R8_SINT, 1),
        (Format::D16_UNORM, 2),
        (Format::D32_SFLOAT, 4),
    ] {
        let (target, _) = image(&allocator, &image_info().format(format), Create::DEDICATED_MEMORY);
        // SAFETY: live and not in use.
        let left_out = unsafe { debugger.prepare(&allocator, &[target], Some(NEW)) };
        assert_eq!(left_out, Ok(vec![]), "{format:?}");
        let ResourceHandle::Image(handle) = target.handle else { panic!("an image") };
        let extent = image_info().extent;
        let size = (extent.width * extent.height) as usize * bytes;
        let host = HostBuffer::new(&device, size);
        let mut region = first_texels(0, extent);
        let old = vk::ImageLayout::TRANSFER_DST_OPTIMAL;
        let layouts = LayoutChange::of_whole(format, old, vk::ImageLayout::GENERAL);
        region.image_subresource.aspect_mask = layouts.range.aspect_mask;
        let buffer = host.buffer;
        let command = TransferCommand::CopyImageToBuffer { image: handle, buffer, region, layouts };
        // SAFETY: live and not in use.
        unsafe { device.run(&[command]) }.unwrap();
        let found = host.read();
        if format == Format::D32_SFLOAT {
            let depth = f32::from(NEW) / 255.0;
            assert!(found.chunks(4).all(|it| it == depth.to_le_bytes()));
        } else {
            assert!(found.iter().all(|it| *it == NEW), "{format:?}: {:x?}", &found[..16]);
        }
        targets.push(target);
    }
    for it in targets {
        // SAFETY: live and not in use.
        drop(unsafe { allocator.destroy(it.handle, Some(it.id)) });
    }
    allocator.engine().close();
    drop(allocator);
    assert_clean(&log);
    drop(device);
    assert_clean(&log);
}
