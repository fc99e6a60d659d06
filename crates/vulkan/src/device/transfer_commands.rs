//! Writes fills, copies and their barriers into a command buffer.

use std::collections::HashSet;
use std::ptr;

use ash::vk;

use crate::device::logical::LogicalDevice;
use crate::driver::submission::{LayoutChange, TransferCommand};

/// The layouts in which images are copied.
const AS_TARGET: vk::ImageLayout = vk::ImageLayout::TRANSFER_DST_OPTIMAL;
const AS_SOURCE: vk::ImageLayout = vk::ImageLayout::TRANSFER_SRC_OPTIMAL;

/// What waits for a barrier.
#[derive(Clone, Copy)]
enum Reach {
    /// The commands behind it.
    Device,
    /// Them and the host, once the submission has ended.
    DeviceAndHost,
}

/// A command buffer that is recording.
pub(crate) struct Recorder<'a> {
    pub(crate) device: &'a LogicalDevice,
    pub(crate) buffer: vk::CommandBuffer,
}

impl Recorder<'_> {
    /// The commands, between a barrier against all that was submitted before and one that lets the host
    /// read.
    ///
    /// # Safety
    /// The command buffer is recording, and no other thread uses its pool; the resources are live, the
    /// ranges lie inside them, and the images are in the layouts that are said.
    pub(crate) unsafe fn record(&self, commands: &[TransferCommand]) {
        // Layouts that the images of the commands so far are still to be put into.
        let mut after: Vec<vk::ImageMemoryBarrier<'static>> = Vec::new();
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for group in commands.split(is_barrier) {
            let (before, next) = transitions(group);
            // One barrier does not change the layout of an image twice.
            if !after.is_empty() && !before.is_empty() {
                self.barrier(Reach::Device, &after);
                after.clear();
            }
            after.extend(before);
            self.barrier(Reach::Device, &after);
            // SAFETY: the caller vouches for all of it.
            unsafe { self.copies(group) };
            after = next;
        }
        self.barrier(Reach::DeviceAndHost, &after);
    }

    /// Commands that do not depend on each other.
    ///
    /// # Safety
    /// As in `record`; the images are in the layouts of copies.
    unsafe fn copies(&self, group: &[TransferCommand]) {
        let functions = &self.device.functions;
        let mut rest = group;
        while let Some(first) = rest.first() {
            let alike = 1 + rest[1..].iter().take_while(|it| is_one_call(first, it)).count();
            let (run, others) = rest.split_at(alike);
            rest = others;
            let count = u32::try_from(alike).expect("fewer commands than memory holds");
            match *first {
                TransferCommand::FillBuffer { buffer, offset, size, value } => {
                    // SAFETY: the caller vouches for the resources.
                    unsafe {
                        (functions.cmd_fill_buffer)(self.buffer, buffer, offset, size, value);
                    }
                }
                TransferCommand::CopyBuffer { source, target, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(buffer_region).collect();
                    let copy = functions.cmd_copy_buffer;
                    // SAFETY: as above.
                    unsafe { copy(self.buffer, source, target, count, regions.as_ptr()) };
                }
                TransferCommand::CopyBufferToImage { buffer, image, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(image_region).collect();
                    let copy = functions.cmd_copy_buffer_to_image;
                    // SAFETY: as above.
                    unsafe {
                        copy(self.buffer, buffer, image, AS_TARGET, count, regions.as_ptr());
                    }
                }
                TransferCommand::CopyImageToBuffer { image, buffer, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(image_region).collect();
                    let copy = functions.cmd_copy_image_to_buffer;
                    // SAFETY: as above.
                    unsafe {
                        copy(self.buffer, image, AS_SOURCE, buffer, count, regions.as_ptr());
                    }
                }
                TransferCommand::Barrier => {}
            }
        }
    }

    /// Everything before is done and visible to everything after. Images change their layouts in between.
    fn barrier(&self, reach: Reach, images: &[vk::ImageMemoryBarrier<'_>]) {
        let mut stages = vk::PipelineStageFlags::ALL_COMMANDS;
        let mut access = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        if let Reach::DeviceAndHost = reach {
            // What is submitted next needs no barrier of its own for the layouts.
            stages |= vk::PipelineStageFlags::HOST;
            access |= vk::AccessFlags::HOST_READ | vk::AccessFlags::HOST_WRITE;
        }
        let memory = vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(access);
        let image_count = u32::try_from(images.len()).expect("fewer images than memory holds");
        // SAFETY: the command buffer is recording; images are live, as `record` asks.
        unsafe {
            (self.device.functions.cmd_pipeline_barrier)(
                self.buffer,
                vk::PipelineStageFlags::ALL_COMMANDS,
                stages,
                vk::DependencyFlags::empty(),
                1,
                &memory,
                0,
                ptr::null(),
                image_count,
                images.as_ptr(),
            );
        }
    }
}

/// Whether one call of Vulkan does both.
fn is_one_call(one: &TransferCommand, other: &TransferCommand) -> bool {
    use TransferCommand as T;
    match (*one, *other) {
        (
            T::CopyBuffer { source, target, .. },
            T::CopyBuffer { source: other_source, target: other_target, .. },
        ) => (source, target) == (other_source, other_target),
        (
            T::CopyBufferToImage { buffer, image, .. },
            T::CopyBufferToImage { buffer: other_buffer, image: other_image, .. },
        )
        | (
            T::CopyImageToBuffer { buffer, image, .. },
            T::CopyImageToBuffer { buffer: other_buffer, image: other_image, .. },
        ) => (buffer, image) == (other_buffer, other_image),
        _ => false,
    }
}

fn buffer_region(command: &TransferCommand) -> Option<vk::BufferCopy> {
    match *command {
        TransferCommand::CopyBuffer { source_offset, target_offset, size, .. } => {
            Some(vk::BufferCopy { src_offset: source_offset, dst_offset: target_offset, size })
        }
        _ => None,
    }
}

fn image_region(command: &TransferCommand) -> Option<vk::BufferImageCopy> {
    match *command {
        TransferCommand::CopyBufferToImage { region, .. }
        | TransferCommand::CopyImageToBuffer { region, .. } => Some(region),
        _ => None,
    }
}

type Barriers = Vec<vk::ImageMemoryBarrier<'static>>;

/// What puts the images of a group into the layouts of its copies, and what puts them into those that
/// they are left in; each range once, however many regions of it are copied.
fn transitions(group: &[TransferCommand]) -> (Barriers, Barriers) {
    let (mut before, mut after) = (Barriers::new(), Barriers::new());
    let mut seen = HashSet::new();
    for command in group {
        let (image, during, layouts) = match *command {
            TransferCommand::CopyBufferToImage { image, layouts, .. } => {
                (image, AS_TARGET, layouts)
            }
            TransferCommand::CopyImageToBuffer { image, layouts, .. } => {
                (image, AS_SOURCE, layouts)
            }
            _ => continue,
        };
        let LayoutChange { range, old, new } = layouts;
        let key = (image, range.aspect_mask, range.base_mip_level, range.base_array_layer);
        if !seen.insert(key) {
            continue;
        }
        before.push(transition(image, range, old, during));
        if layouts.is_final() {
            after.push(transition(image, range, during, new));
        }
    }
    (before, after)
}

fn transition(
    image: vk::Image,
    range: vk::ImageSubresourceRange,
    from: vk::ImageLayout,
    to: vk::ImageLayout,
) -> vk::ImageMemoryBarrier<'static> {
    vk::ImageMemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
        .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)
        .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .old_layout(from)
        .new_layout(to)
        .image(image)
        .subresource_range(range)
}
