//! Records fills, copies and their barriers in a command buffer.

use std::ptr;

use ash::vk;

use crate::device::logical::LogicalDevice;
use crate::driver::image_layouts::ImageParts;
use crate::driver::submission::{ClearValue, LayoutChange, TransferCommand};

/// The second scope of a barrier.
#[derive(Clone, Copy)]
enum Reach {
    /// The following commands.
    Device,
    /// The following commands, and the host after the submission has ended.
    DeviceAndHost,
}

/// A command buffer in the recording state.
pub(crate) struct Recorder<'a> {
    pub(crate) device: &'a LogicalDevice,
    pub(crate) buffer: vk::CommandBuffer,
}

impl Recorder<'_> {
    /// Records commands, between a barrier against all earlier submissions and one that makes the results
    /// visible to the host.
    ///
    /// # Safety
    /// The command buffer is recording, and no other thread uses its pool; the resources are live, the ranges
    /// lie inside them, and the images are in the layouts that the commands name.
    pub(crate) unsafe fn record(&self, commands: &[TransferCommand]) {
        // Layout transitions after the commands so far, which are not recorded yet.
        let mut after: Vec<vk::ImageMemoryBarrier<'static>> = Vec::new();
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for group in commands.split(is_barrier) {
            let images = ImageParts::of(group);
            let (before, next) = transitions(&images);
            // One barrier cannot change the layout of an image twice.
            if !after.is_empty() && !before.is_empty() {
                self.barrier(Reach::Device, &after);
                after.clear();
            }
            after.extend(before);
            self.barrier(Reach::Device, &after);
            // SAFETY: the caller guarantees resources, ranges and layouts.
            unsafe { self.copies(group, &images) };
            after = next;
        }
        self.barrier(Reach::DeviceAndHost, &after);
    }

    /// Records commands that are independent of each other.
    ///
    /// # Safety
    /// The requirements of [`record`](Self::record); the images are in the layouts for copies.
    unsafe fn copies(&self, group: &[TransferCommand], images: &ImageParts) {
        let functions = &self.device.functions;
        let layout = |image, layouts: &LayoutChange| images.during(image, &layouts.range);
        let mut rest = group;
        while let Some(first) = rest.first() {
            let alike =
                1 + rest[1..].iter().take_while(|it| is_one_call(first, it, &layout)).count();
            let (run, others) = rest.split_at(alike);
            rest = others;
            let count = u32::try_from(alike).expect("fewer commands than memory holds");
            match *first {
                TransferCommand::FillBuffer { buffer, offset, size, value } => {
                    // SAFETY: the caller guarantees the resources.
                    unsafe {
                        (functions.cmd_fill_buffer)(self.buffer, buffer, offset, size, value);
                    }
                }
                TransferCommand::CopyBuffer { source, target, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(buffer_region).collect();
                    let copy = functions.cmd_copy_buffer;
                    // SAFETY: the caller guarantees the resources.
                    unsafe { copy(self.buffer, source, target, count, regions.as_ptr()) };
                }
                TransferCommand::CopyBufferToImage { buffer, image, ref layouts, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(texel_region).collect();
                    let copy = functions.cmd_copy_buffer_to_image;
                    let to = layout(image, layouts);
                    // SAFETY: the caller guarantees the resources.
                    unsafe { copy(self.buffer, buffer, image, to, count, regions.as_ptr()) };
                }
                TransferCommand::CopyImageToBuffer { image, buffer, ref layouts, .. } => {
                    let regions: Vec<_> = run.iter().filter_map(texel_region).collect();
                    let copy = functions.cmd_copy_image_to_buffer;
                    let from = layout(image, layouts);
                    // SAFETY: the caller guarantees the resources.
                    unsafe { copy(self.buffer, image, from, buffer, count, regions.as_ptr()) };
                }
                TransferCommand::CopyImage {
                    source,
                    target,
                    ref source_layouts,
                    ref target_layouts,
                    ..
                } => {
                    let regions: Vec<_> = run.iter().filter_map(image_region).collect();
                    let (from, to) =
                        (layout(source, source_layouts), layout(target, target_layouts));
                    let (copy, regions) = (functions.cmd_copy_image, regions.as_ptr());
                    // SAFETY: the caller guarantees the resources.
                    unsafe { copy(self.buffer, source, from, target, to, count, regions) };
                }
                TransferCommand::BlitImage {
                    source,
                    target,
                    filter,
                    ref source_layouts,
                    ref target_layouts,
                    ..
                } => {
                    let regions: Vec<_> = run.iter().filter_map(blit_region).collect();
                    let (from, to) =
                        (layout(source, source_layouts), layout(target, target_layouts));
                    let (blit, regions) = (functions.cmd_blit_image, regions.as_ptr());
                    // SAFETY: the caller guarantees the resources.
                    unsafe { blit(self.buffer, source, from, target, to, count, regions, filter) };
                }
                TransferCommand::ClearImage { image, value, ref layouts } => {
                    // SAFETY: the caller guarantees the resources.
                    unsafe { self.clear(image, value, layouts, layout(image, layouts)) };
                }
                // Its barrier is recorded with those of the other commands.
                TransferCommand::TransitionImage { .. } | TransferCommand::Barrier => {}
            }
        }
    }

    /// Records the clear of a part of an image that is in a layout.
    ///
    /// # Safety
    /// The requirements of [`record`](Self::record).
    unsafe fn clear(
        &self,
        image: vk::Image,
        value: ClearValue,
        layouts: &LayoutChange,
        layout: vk::ImageLayout,
    ) {
        let (functions, range) = (&self.device.functions, &layouts.range);
        match value {
            ClearValue::Colour(uint32) => {
                let colour = vk::ClearColorValue { uint32 };
                let clear = functions.cmd_clear_color_image;
                // SAFETY: the caller guarantees the image.
                unsafe { clear(self.buffer, image, layout, &colour, 1, range) };
            }
            ClearValue::DepthStencil { depth, stencil } => {
                let value = vk::ClearDepthStencilValue { depth, stencil };
                let clear = functions.cmd_clear_depth_stencil_image;
                // SAFETY: the caller guarantees the image.
                unsafe { clear(self.buffer, image, layout, &value, 1, range) };
            }
        }
    }

    /// Records a full memory barrier, with the layout transitions of `images`.
    fn barrier(&self, reach: Reach, images: &[vk::ImageMemoryBarrier<'_>]) {
        let mut stages = vk::PipelineStageFlags::ALL_COMMANDS;
        let mut access = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        if let Reach::DeviceAndHost = reach {
            // Later submissions need no barrier of their own for the layouts.
            stages |= vk::PipelineStageFlags::HOST;
            access |= vk::AccessFlags::HOST_READ | vk::AccessFlags::HOST_WRITE;
        }
        let memory = vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(access);
        let image_count = u32::try_from(images.len()).expect("fewer images than memory holds");
        // SAFETY: the command buffer is recording; the images are live, as `record` requires.
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

/// Returns whether one Vulkan call can record both commands: they are of one kind, between the same resources in
/// the same layouts.
fn is_one_call(
    one: &TransferCommand,
    other: &TransferCommand,
    layout: &dyn Fn(vk::Image, &LayoutChange) -> vk::ImageLayout,
) -> bool {
    use TransferCommand as T;
    let alike = match (one, other) {
        (
            T::CopyBuffer { source, target, .. },
            T::CopyBuffer { source: other_source, target: other_target, .. },
        ) => return (source, target) == (other_source, other_target),
        (
            T::CopyBufferToImage { buffer, .. },
            T::CopyBufferToImage { buffer: other_buffer, .. },
        )
        | (
            T::CopyImageToBuffer { buffer, .. },
            T::CopyImageToBuffer { buffer: other_buffer, .. },
        ) => buffer == other_buffer,
        (T::CopyImage { .. }, T::CopyImage { .. }) => true,
        (T::BlitImage { filter, .. }, T::BlitImage { filter: other_filter, .. }) => {
            filter == other_filter
        }
        _ => false,
    };
    let images = |command: &TransferCommand| {
        command.images().map(|it| it.map(|(image, _, layouts)| (image, layout(image, &layouts))))
    };
    alike && images(one) == images(other)
}

fn buffer_region(command: &TransferCommand) -> Option<vk::BufferCopy> {
    match *command {
        TransferCommand::CopyBuffer { source_offset, target_offset, size, .. } => {
            Some(vk::BufferCopy { src_offset: source_offset, dst_offset: target_offset, size })
        }
        _ => None,
    }
}

fn texel_region(command: &TransferCommand) -> Option<vk::BufferImageCopy> {
    match *command {
        TransferCommand::CopyBufferToImage { region, .. }
        | TransferCommand::CopyImageToBuffer { region, .. } => Some(region),
        _ => None,
    }
}

fn image_region(command: &TransferCommand) -> Option<vk::ImageCopy> {
    match *command {
        TransferCommand::CopyImage { region, .. } => Some(region),
        _ => None,
    }
}

fn blit_region(command: &TransferCommand) -> Option<vk::ImageBlit> {
    match *command {
        TransferCommand::BlitImage { region, .. } => Some(region),
        _ => None,
    }
}

type Barriers = Vec<vk::ImageMemoryBarrier<'static>>;

/// Returns the layout transitions before and after the commands of a group: one for each part, and none where
/// it keeps its layout.
fn transitions(images: &ImageParts) -> (Barriers, Barriers) {
    let (mut before, mut after) = (Barriers::new(), Barriers::new());
    for part in &images.parts {
        if part.old != part.during {
            before.push(transition(part.image, part.range, part.old, part.during));
        }
        if part.after() != part.during {
            after.push(transition(part.image, part.range, part.during, part.after()));
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
