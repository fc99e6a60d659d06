//! Fills and copies on the device's queue, one command buffer at a time.

use std::ptr;
use std::slice;

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{CallError, DeviceError};

use crate::device::logical::{LogicalDevice, check};
use crate::driver::contract::TransferCommand;

/// The queue, and a command pool that is made when it is first used. On a wrapped device the pool
/// goes again after each transfer: the owner may destroy the device before this library lets go of
/// it, and nothing of ours may be left by then.
///
/// Vulkan wants one thread at a time on a queue. The lock sees to it among the calls of this
/// library; the owner of a wrapped queue must not submit to it meanwhile.
pub(crate) struct TransferQueue {
    queue: vk::Queue,
    family_index: u32,
    pool: Mutex<vk::CommandPool, rank::TransferQueue>,
}

impl TransferQueue {
    /// A null queue makes every transfer fail with `FeatureNotPresent`.
    pub(crate) fn new(queue: vk::Queue, family_index: u32) -> Self {
        Self { queue, family_index, pool: Mutex::new(vk::CommandPool::null()) }
    }

    pub(crate) fn queue(&self) -> vk::Queue {
        self.queue
    }

    pub(crate) fn family_index(&self) -> u32 {
        self.family_index
    }

    /// Records, submits and waits.
    ///
    /// # Safety
    /// The device is the queue's; the resources are live, ranges lie inside them, and nothing else
    /// uses them or the queue meanwhile.
    pub(crate) unsafe fn run(
        &self,
        device: &LogicalDevice,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        if self.queue == vk::Queue::null() {
            return Err(DeviceError::FeatureNotPresent.of("vkGetDeviceQueue"));
        }
        if commands.is_empty() {
            return Ok(());
        }
        let mut pool = self.pool.lock();
        if *pool == vk::CommandPool::null() {
            *pool = create_pool(device, self.family_index)?;
        }
        // SAFETY: the pool is live and locked; the caller vouches for the rest.
        let done = unsafe { self.run_once(device, *pool, commands) };
        if !device.owned {
            let pool = std::mem::take(&mut *pool);
            // SAFETY: the device is live for this call, and the transfer has ended.
            unsafe {
                (device.functions.destroy_command_pool)(device.handle, pool, device.callbacks())
            };
        }
        done
    }

    /// # Safety
    /// As in `run`; the pool is locked.
    unsafe fn run_once(
        &self,
        device: &LogicalDevice,
        pool: vk::CommandPool,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        let once = OneTime::new(device, pool)?;
        once.begin()?;
        // What was submitted before may still write.
        once.barrier(Reach::Device, &[]);
        for command in commands {
            // SAFETY: the caller vouches for the resources.
            unsafe { once.record(command) };
        }
        once.barrier(Reach::Host, &[]);
        once.submit_and_wait(self.queue)
    }

    /// # Safety
    /// The device is the queue's and, if opened here, live; no transfer runs.
    pub(crate) unsafe fn destroy(&self, device: &LogicalDevice) {
        let pool = std::mem::take(&mut *self.pool.lock());
        if pool == vk::CommandPool::null() {
            // Without a call: a wrapped device may be gone by now.
            return;
        }
        // SAFETY: the caller vouches for the device.
        unsafe { (device.functions.destroy_command_pool)(device.handle, pool, device.callbacks()) };
    }
}

/// The result of a call, with its name.
fn answered(call: &'static str, result: vk::Result) -> Result<(), CallError> {
    check(result).map_err(|error| error.of(call))
}

fn create_pool(device: &LogicalDevice, family_index: u32) -> Result<vk::CommandPool, CallError> {
    let info = vk::CommandPoolCreateInfo::default()
        .flags(vk::CommandPoolCreateFlags::TRANSIENT)
        .queue_family_index(family_index);
    let mut pool = vk::CommandPool::null();
    let create = device.functions.create_command_pool;
    // SAFETY: the device is live, and the family is the one of its queue.
    let created = unsafe { create(device.handle, &info, device.callbacks(), &mut pool) };
    answered("vkCreateCommandPool", created)?;
    Ok(pool)
}

/// What waits for a barrier.
#[derive(Clone, Copy)]
enum Reach {
    /// The next command.
    Device,
    /// The host, after the fence.
    Host,
}

/// A command buffer and a fence for one submission; both go when this goes.
struct OneTime<'a> {
    device: &'a LogicalDevice,
    pool: vk::CommandPool,
    buffer: vk::CommandBuffer,
    fence: vk::Fence,
}

impl<'a> OneTime<'a> {
    fn new(device: &'a LogicalDevice, pool: vk::CommandPool) -> Result<Self, CallError> {
        let mut once =
            Self { device, pool, buffer: vk::CommandBuffer::null(), fence: vk::Fence::null() };
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        let functions = &device.functions;
        // SAFETY: the device and the pool are live; the pool's lock is held while this lives.
        let allocated =
            unsafe { (functions.allocate_command_buffers)(device.handle, &info, &mut once.buffer) };
        answered("vkAllocateCommandBuffers", allocated)?;
        let info = vk::FenceCreateInfo::default();
        // SAFETY: the device is live.
        let created = unsafe {
            (functions.create_fence)(device.handle, &info, device.callbacks(), &mut once.fence)
        };
        answered("vkCreateFence", created)?;
        Ok(once)
    }

    fn begin(&self) -> Result<(), CallError> {
        let info = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the command buffer is new.
        let begun = unsafe { (self.device.functions.begin_command_buffer)(self.buffer, &info) };
        answered("vkBeginCommandBuffer", begun)
    }

    /// One command, and a full barrier after it.
    ///
    /// # Safety
    /// The resources are live, and the ranges lie inside them.
    unsafe fn record(&self, command: &TransferCommand) {
        let functions = &self.device.functions;
        match *command {
            TransferCommand::FillBuffer { buffer, offset, size, value } => {
                // SAFETY: the command buffer is recording; the caller vouches for the resources.
                unsafe { (functions.cmd_fill_buffer)(self.buffer, buffer, offset, size, value) };
                self.barrier(Reach::Device, &[]);
            }
            TransferCommand::CopyBuffer { source, source_offset, target, target_offset, size } => {
                let region =
                    vk::BufferCopy { src_offset: source_offset, dst_offset: target_offset, size };
                // SAFETY: as above.
                unsafe { (functions.cmd_copy_buffer)(self.buffer, source, target, 1, &region) };
                self.barrier(Reach::Device, &[]);
            }
            TransferCommand::CopyBufferToImage { buffer, buffer_offset, image, extent, layout } => {
                let during = vk::ImageLayout::TRANSFER_DST_OPTIMAL;
                // All of the image: it is left in one layout.
                let whole = vk::ImageSubresourceRange {
                    level_count: vk::REMAINING_MIP_LEVELS,
                    layer_count: vk::REMAINING_ARRAY_LAYERS,
                    ..first_subresource()
                };
                self.transition(image, whole, vk::ImageLayout::UNDEFINED, during);
                let region = buffer_image_copy(buffer_offset, extent);
                let copy = functions.cmd_copy_buffer_to_image;
                // SAFETY: as above; the image is in the layout.
                unsafe { copy(self.buffer, buffer, image, during, 1, &region) };
                self.transition(image, whole, during, layout);
            }
            TransferCommand::CopyImageToBuffer { image, extent, layout, buffer, buffer_offset } => {
                let during = vk::ImageLayout::TRANSFER_SRC_OPTIMAL;
                self.transition(image, first_subresource(), layout, during);
                let region = buffer_image_copy(buffer_offset, extent);
                let copy = functions.cmd_copy_image_to_buffer;
                // SAFETY: as above; the image is in the layout.
                unsafe { copy(self.buffer, image, during, buffer, 1, &region) };
                self.transition(image, first_subresource(), during, layout);
            }
        }
    }

    /// A full barrier that also changes an image's layout. An image cannot be put back into a
    /// layout that only new images have; it then stays where it is.
    fn transition(
        &self,
        image: vk::Image,
        range: vk::ImageSubresourceRange,
        from: vk::ImageLayout,
        to: vk::ImageLayout,
    ) {
        if matches!(to, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED) {
            self.barrier(Reach::Device, &[]);
            return;
        }
        let barrier = vk::ImageMemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)
            .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .old_layout(from)
            .new_layout(to)
            .image(image)
            .subresource_range(range);
        self.barrier(Reach::Device, slice::from_ref(&barrier));
    }

    /// Everything before is done and visible to everything after.
    fn barrier(&self, reach: Reach, images: &[vk::ImageMemoryBarrier<'_>]) {
        let (stages, access) = match reach {
            Reach::Device => (
                vk::PipelineStageFlags::ALL_COMMANDS,
                vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE,
            ),
            Reach::Host => (
                vk::PipelineStageFlags::HOST,
                vk::AccessFlags::HOST_READ | vk::AccessFlags::HOST_WRITE,
            ),
        };
        let memory = vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(access);
        let image_count = u32::try_from(images.len()).expect("one image at most");
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

    fn submit_and_wait(&self, queue: vk::Queue) -> Result<(), CallError> {
        let functions = &self.device.functions;
        // SAFETY: the command buffer is recording.
        let ended = unsafe { (functions.end_command_buffer)(self.buffer) };
        answered("vkEndCommandBuffer", ended)?;
        let submit = vk::SubmitInfo::default().command_buffers(slice::from_ref(&self.buffer));
        // SAFETY: the command buffer is executable, the fence new, and no one else is on the queue.
        let submitted = unsafe { (functions.queue_submit)(queue, 1, &submit, self.fence) };
        answered("vkQueueSubmit", submitted)?;
        let wait = functions.wait_for_fences;
        // SAFETY: the fence is live and submitted.
        let waited = unsafe { wait(self.device.handle, 1, &self.fence, vk::TRUE, u64::MAX) };
        answered("vkWaitForFences", waited).inspect_err(|_| {
            // The commands may still run, and what they use is about to go. Nothing more can be done
            // where this fails too: the device is lost, and then all may go.
            // SAFETY: no one else is on the queue.
            let _ = unsafe { (functions.queue_wait_idle)(queue) };
        })
    }
}

impl Drop for OneTime<'_> {
    fn drop(&mut self) {
        let functions = &self.device.functions;
        // SAFETY: the device is live; the fence is null or ours, and nothing waits for it.
        unsafe {
            (functions.destroy_fence)(self.device.handle, self.fence, self.device.callbacks())
        };
        if self.buffer != vk::CommandBuffer::null() {
            // SAFETY: the command buffer is ours and no longer runs; the pool's lock is held.
            unsafe {
                (functions.free_command_buffers)(self.device.handle, self.pool, 1, &self.buffer);
            }
        }
    }
}

/// The first mip level and array layer of a colour image.
fn first_subresource() -> vk::ImageSubresourceRange {
    vk::ImageSubresourceRange {
        aspect_mask: vk::ImageAspectFlags::COLOR,
        base_mip_level: 0,
        level_count: 1,
        base_array_layer: 0,
        layer_count: 1,
    }
}

fn buffer_image_copy(buffer_offset: u64, extent: vk::Extent3D) -> vk::BufferImageCopy {
    vk::BufferImageCopy {
        buffer_offset,
        // Zeros: rows and slices follow each other without gaps.
        buffer_row_length: 0,
        buffer_image_height: 0,
        image_subresource: vk::ImageSubresourceLayers {
            aspect_mask: vk::ImageAspectFlags::COLOR,
            mip_level: 0,
            base_array_layer: 0,
            layer_count: 1,
        },
        image_offset: vk::Offset3D::default(),
        image_extent: extent,
    }
}
