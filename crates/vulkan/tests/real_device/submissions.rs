//! Submissions and their end, with timeline semaphores and with fences.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ash::vk;
use vkmem_engine::{CallError, DeviceError, DeviceMemory, MemoryPropertyFlags};
use vkmem_vulkan::{
    Driver, LayoutChange, OpenOptions, QUEUE_LOCK, QUEUE_UNLOCK, QueueLock, Submission,
    TransferCommand, VulkanDevice, first_texels, has_run,
};

use crate::{HostBuffer, allocate, fill_and_copy, pattern, validated, with_device, wrap};
use crate::{V1_0, V1_1, V1_2, wrap_options};

const TIMELINE: &str = "timelineSemaphore";
const EXTENSION: &str = "VK_KHR_timeline_semaphore";

/// Calls a function with timeline semaphores of core Vulkan, with those of the extension, and with fences.
fn by_every_means(run: impl Fn(&VulkanDevice)) {
    let without = vec![EXTENSION.to_owned()];
    for (api_version, without_extensions, is_on) in [
        (None, vec![], true),
        (Some(V1_1), vec![], true),
        (None, without.clone(), false),
        (Some(V1_0), without, false),
    ] {
        let options = OpenOptions { api_version, without_extensions, ..validated() };
        with_device(&options, |device| {
            let features = device.features();
            assert_eq!(features.iter().any(|it| it == TIMELINE), is_on, "{features:?}");
            run(device);
        });
    }
}

fn fill(buffer: &HostBuffer<'_>, offset: u64, size: u64, value: u32) -> TransferCommand {
    TransferCommand::FillBuffer { buffer: buffer.buffer, offset, size, value }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_ne_bytes(bytes[4 * index..4 * index + 4].try_into().expect("four bytes"))
}

#[test]
fn many_are_in_flight_and_end_in_their_order() {
    by_every_means(|device| {
        let buffer = HostBuffer::new(device, 64 * 4);
        // SAFETY: the ranges lie inside the buffer, and each belongs to one submission.
        let submitted: Vec<Submission> = (0..64)
            .map(|at| unsafe { device.submit(&[fill(&buffer, 4 * at, 4, at as u32 + 1)]) })
            .collect::<Result<_, _>>()
            .expect("submitted");
        assert!(submitted.is_sorted_by(|one, next| one < next));
        assert_eq!(device.wait(submitted[40], u64::MAX), Ok(true));
        let bytes = buffer.read();
        for (at, submission) in submitted.iter().enumerate().take(41) {
            assert_eq!(device.is_done(*submission), Ok(true), "{at}");
            assert_eq!(device.wait(*submission, 0), Ok(true), "{at}");
            assert_eq!(word(&bytes, at), at as u32 + 1);
        }
        while !device.is_done(submitted[63]).expect("known") {
            std::thread::yield_now();
        }
        assert_eq!(word(&buffer.read(), 63), 64);
        assert_eq!(device.wait(Submission::NONE, 0), Ok(true));
        assert_eq!(device.is_done(Submission::NONE), Ok(true));
    });
}

#[test]
fn a_wait_ends_after_its_time() {
    by_every_means(|device| {
        let size = 32 << 20;
        let (buffer, target) = (HostBuffer::new(device, size), HostBuffer::new(device, size));
        let mut commands = vec![fill(&buffer, 0, size as u64, 7), TransferCommand::Barrier];
        commands.push(TransferCommand::CopyBuffer {
            source: buffer.buffer,
            source_offset: 0,
            target: target.buffer,
            target_offset: 0,
            size: size as u64,
        });
        // 64 MiB take longer than 0 ns, unless this thread is preempted meanwhile.
        let is_early = (0..20).any(|_| {
            // SAFETY: the ranges lie inside the buffers.
            let submission = unsafe { device.submit(&commands) }.expect("submitted");
            let early = device.wait(submission, 0).expect("waited");
            assert_eq!(device.wait(submission, u64::MAX), Ok(true));
            !early
        });
        assert!(is_early);
        assert_eq!(word(&target.read(), size / 4 - 1), 7);
    });
}

#[test]
fn threads_submit_while_others_wait() {
    by_every_means(|device| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| fill_and_copy(device)));
            }
            let all: Vec<_> = (0..4_u32)
                .map(|_| {
                    let buffer = HostBuffer::new(device, 4096);
                    // SAFETY: the range lies inside the buffer.
                    let submission = unsafe { device.submit(&[fill(&buffer, 0, 4096, 5)]) };
                    (buffer, submission.expect("submitted"))
                })
                .collect();
            let last = all[3].1;
            for _ in 0..3 {
                scope.spawn(move || assert_eq!(device.wait(last, u64::MAX), Ok(true)));
            }
            for (buffer, submission) in &all {
                assert_eq!(device.wait(*submission, u64::MAX), Ok(true));
                assert_eq!(word(&buffer.read(), 1023), 5);
            }
        });
    });
}

#[test]
fn what_was_released_is_made_again() {
    by_every_means(|device| {
        let buffer = HostBuffer::new(device, 4096);
        for value in 1..4 {
            // SAFETY: the range lies inside the buffer; releasing waits.
            unsafe {
                device.submit(&[fill(&buffer, 0, 4096, value)]).expect("submitted");
                device.release_submissions();
                device.release_submissions();
            }
            assert_eq!(word(&buffer.read(), 1023), value);
        }
    });
}

#[test]
fn copies_without_barriers_between_them_are_one_batch() {
    by_every_means(|device| {
        let (source, target) = (HostBuffer::new(device, 4096), HostBuffer::new(device, 4096));
        source.write(&pattern(4096));
        // In reverse order, in pieces of 16 bytes; after a barrier, zeros over the first half.
        let mut commands: Vec<_> = (0..256)
            .map(|at| TransferCommand::CopyBuffer {
                source: source.buffer,
                source_offset: 16 * at,
                target: target.buffer,
                target_offset: 4096 - 16 * (at + 1),
                size: 16,
            })
            .collect();
        commands.extend([TransferCommand::Barrier, fill(&target, 0, 2048, 0)]);
        // SAFETY: the ranges lie inside the buffers.
        unsafe { device.run(&commands) }.expect("done");
        let pieces = pattern(4096);
        let mut expected: Vec<u8> = pieces.chunks(16).rev().flatten().copied().collect();
        expected[..2048].fill(0);
        assert_eq!(target.read(), expected);
    });
}

/// Calls a function with an image of 40 x 24 texels, two mip levels and three layers, bound to dedicated
/// memory.
fn with_image(device: &VulkanDevice, format: vk::Format, run: impl FnOnce(vk::Image)) {
    let info = vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width: 40, height: 24, depth: 1 })
        .mip_levels(2)
        .array_layers(3)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(vk::ImageTiling::OPTIMAL)
        .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
        .initial_layout(vk::ImageLayout::UNDEFINED);
    // SAFETY: the info has no pointers; the image is used only here.
    unsafe {
        let image = device.create_image(&info).expect("an image");
        let requirements = device.image_requirements(image);
        let memory = allocate(device, &requirements, MemoryPropertyFlags::empty(), None);
        device.bind_image(image, memory, 0).expect("bound");
        run(image);
        device.destroy_image(image);
        device.free(memory);
    }
}

const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;

#[test]
fn regions_of_levels_and_layers() {
    by_every_means(|device| {
        let bytes = 20 * 12 * 4;
        let (source, target) = (HostBuffer::new(device, 4096), HostBuffer::new(device, 4096));
        source.write(&pattern(2 * bytes));
        with_image(device, vk::Format::R8G8B8A8_UNORM, |image| {
            // The second level of the last two layers; then a part of it, with gaps between its rows.
            let mut region = first_texels(0, vk::Extent3D { width: 20, height: 12, depth: 1 });
            region.image_subresource.mip_level = 1;
            region.image_subresource.base_array_layer = 1;
            region.image_subresource.layer_count = 2;
            let mut layouts = LayoutChange::kept(&region, GENERAL);
            layouts.old = vk::ImageLayout::UNDEFINED;
            let mut part = region;
            part.image_subresource.base_array_layer = 2;
            part.image_subresource.layer_count = 1;
            part.image_offset = vk::Offset3D { x: 4, y: 2, z: 0 };
            part.image_extent = vk::Extent3D { width: 3, height: 2, depth: 1 };
            part.buffer_row_length = 8;
            part.buffer_offset = 64;
            let commands = [
                TransferCommand::CopyBufferToImage {
                    buffer: source.buffer,
                    image,
                    region,
                    layouts,
                },
                TransferCommand::Barrier,
                TransferCommand::CopyImageToBuffer {
                    image,
                    buffer: target.buffer,
                    region: part,
                    layouts: LayoutChange::kept(&part, GENERAL),
                },
            ];
            target.write(&[0xee; 4096]);
            // SAFETY: the regions lie inside the image and the buffers.
            unsafe { device.run(&commands) }.expect("done");
        });
        let texel = |column: usize, row: usize| {
            let at = bytes + 4 * (row * 20 + column);
            pattern(2 * bytes)[at..at + 4].to_vec()
        };
        let mut expected = vec![0xee; 4096];
        for (row, column) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let at = 64 + 4 * (8 * row + column);
            expected[at..at + 4].copy_from_slice(&texel(4 + column, 2 + row));
        }
        assert_eq!(target.read(), expected);
    });
}

#[test]
fn regions_of_one_range_change_its_layout_once() {
    by_every_means(|device| {
        let (source, target) = (HostBuffer::new(device, 8192), HostBuffer::new(device, 8192));
        source.write(&pattern(40 * 24 * 4));
        with_image(device, vk::Format::R8G8B8A8_UNORM, |image| {
            let half = vk::Extent3D { width: 40, height: 12, depth: 1 };
            let halves = [0, 1].map(|at: i32| {
                let mut region = first_texels(1920 * at.unsigned_abs() as u64, half);
                region.image_offset.y = 12 * at;
                region
            });
            let upload = |region| TransferCommand::CopyBufferToImage {
                buffer: source.buffer,
                image,
                region,
                layouts: LayoutChange::of_new_image(GENERAL),
            };
            let download = |region: vk::BufferImageCopy| TransferCommand::CopyImageToBuffer {
                image,
                buffer: target.buffer,
                region,
                layouts: LayoutChange::kept(&region, GENERAL),
            };
            let [upper, lower] = halves;
            let commands = [
                upload(upper),
                upload(lower),
                TransferCommand::Barrier,
                download(lower),
                download(upper),
            ];
            // SAFETY: the regions lie inside the image and the buffers.
            unsafe { device.run(&commands) }.expect("done");
        });
        assert_eq!(target.read()[..3840], pattern(3840));
    });
}

#[test]
fn depth_and_stencil_are_copied_by_themselves() {
    by_every_means(|device| {
        let (source, target) = (HostBuffer::new(device, 8192), HostBuffer::new(device, 8192));
        // Depths from 0 to 1, then stencil values.
        let depths = (0..960).flat_map(|at| (at as f32 / 960.0).to_ne_bytes());
        let bytes: Vec<u8> = depths.chain((0..960).map(|at| (at % 251) as u8)).collect();
        source.write(&bytes);
        with_image(device, vk::Format::D32_SFLOAT_S8_UINT, |image| {
            let extent = vk::Extent3D { width: 40, height: 24, depth: 1 };
            let (depth, stencil) = (vk::ImageAspectFlags::DEPTH, vk::ImageAspectFlags::STENCIL);
            let copies = [(depth, 0), (stencil, 3840)].map(|(aspect, offset)| {
                let mut region = first_texels(offset, extent);
                region.image_subresource.aspect_mask = aspect;
                let mut layouts = LayoutChange::kept(&region, GENERAL);
                layouts.range.aspect_mask = depth | stencil;
                (region, layouts)
            });
            let mut commands = Vec::new();
            for (region, mut layouts) in copies {
                layouts.old = vk::ImageLayout::UNDEFINED;
                commands.push(TransferCommand::CopyBufferToImage {
                    buffer: source.buffer,
                    image,
                    region,
                    layouts,
                });
            }
            commands.push(TransferCommand::Barrier);
            for (region, layouts) in copies {
                commands.push(TransferCommand::CopyImageToBuffer {
                    image,
                    buffer: target.buffer,
                    region,
                    layouts,
                });
            }
            // SAFETY: the regions lie inside the image and the buffers.
            unsafe { device.run(&commands) }.expect("done");
        });
        assert_eq!(target.read()[..bytes.len()], bytes);
    });
}

// ---- the lock of a queue's owner ----

/// A queue lock that counts its calls, and fails on request.
#[derive(Debug, Default)]
struct CountingLock {
    locked: AtomicU32,
    unlocked: AtomicU32,
    refuses: AtomicBool,
    stays_locked: AtomicBool,
}

const NOT_UNLOCKED: CallError = CallError { call: QUEUE_UNLOCK, result: DeviceError::Other(-13) };
const REFUSED: CallError = CallError { call: QUEUE_LOCK, result: DeviceError::Other(-13) };

impl QueueLock for CountingLock {
    fn lock(&self) -> Result<(), CallError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(REFUSED);
        }
        self.locked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn unlock(&self) -> Result<(), CallError> {
        self.unlocked.fetch_add(1, Ordering::Relaxed);
        if self.stays_locked.load(Ordering::Relaxed) { Err(NOT_UNLOCKED) } else { Ok(()) }
    }
}

#[test]
fn the_owners_lock_is_held_around_each_submission() {
    for extensions in [true, false] {
        let options = OpenOptions { api_version: Some(V1_1), ..validated() };
        with_device(&options, |opened| {
            let lock = Arc::new(CountingLock::default());
            let mut options = wrap_options(opened, V1_1, extensions);
            options.queue_lock = Some(lock.clone());
            let wrapped = wrap(options).expect("wrapped");
            let is_on = wrapped.features().iter().any(|it| it == TIMELINE);
            assert_eq!(is_on, extensions);
            fill_and_copy(&wrapped);
            fill_and_copy(&wrapped);
            let counts =
                || (lock.locked.load(Ordering::Relaxed), lock.unlocked.load(Ordering::Relaxed));
            assert_eq!(counts(), (2, 2));
            lock.refuses.store(true, Ordering::Relaxed);
            let buffer = HostBuffer::new(&wrapped, 4096);
            buffer.write(&[1; 4096]);
            // SAFETY: the range lies inside the buffer.
            let refused = unsafe { wrapped.submit(&[fill(&buffer, 0, 4096, 7)]) };
            assert_eq!((refused, counts()), (Err(REFUSED), (2, 2)));
            assert_eq!(buffer.read(), [1; 4096]);
            lock.refuses.store(false, Ordering::Relaxed);
            lock.stays_locked.store(true, Ordering::Relaxed);
            // SAFETY: the range lies inside the buffer.
            let ended = unsafe { wrapped.submit(&[fill(&buffer, 0, 4096, 7)]) };
            assert_eq!((ended, counts()), (Err(NOT_UNLOCKED), (3, 3)));
            assert_eq!(has_run(ended), Ok((Submission::NONE, Some(NOT_UNLOCKED))));
            assert_eq!(has_run(refused), Err(REFUSED));
            assert_eq!(buffer.read()[..4], 7u32.to_ne_bytes(), "the fill has run");
            lock.stays_locked.store(false, Ordering::Relaxed);
            fill_and_copy(&wrapped);
            assert_eq!(counts(), (4, 4));
            drop(buffer);
            // SAFETY: the device is live.
            unsafe { wrapped.release_submissions() };
        });
    }
}

#[test]
fn what_a_wrapped_device_is_not_told_of_is_not_used() {
    with_device(&OpenOptions { api_version: Some(V1_2), ..validated() }, |opened| {
        let wrapped = wrap(wrap_options(opened, V1_2, true)).expect("wrapped");
        // Core feature in this version: no extension tells whether it is enabled.
        assert!(!wrapped.features().iter().any(|it| it == TIMELINE));
        fill_and_copy(&wrapped);
        // SAFETY: the device is live.
        unsafe { wrapped.release_submissions() };
    });
}
