//! [`Driver`]: the functions of a device that the allocator uses beyond memory: buffers, images, binding,
//! copies.
//!
//! Implemented by [`VulkanDevice`](crate::VulkanDevice), and by [`SimulatedDriver`](crate::SimulatedDriver),
//! which needs no Vulkan driver.

use std::ops::Range;

use ash::vk;
use vkmem_engine::{
    CallError, DeviceError, DeviceMemory, MemoryHandle, MemoryRange, MemoryRequirements,
};

use crate::driver::binding_log::BindingLog;
use crate::driver::external::ExternalMemory;
use crate::driver::faults::FaultInfo;
use crate::driver::host_image_copy::HostImageCopy;
use crate::driver::image_format::{ImageFormatInfo, ImageSupport};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{Submission, TransferCommand};
use crate::driver::transfer_queue::TransferQueue;

/// `VK_API_VERSION_1_4`, which ash does not define.
pub(crate) const API_VERSION_1_4: u32 = vk::make_api_version(0, 1, 4, 0);

/// The handles of a device, as numbers. All zero for a simulated one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceHandles {
    /// `VkInstance`
    pub instance: u64,
    /// `VkPhysicalDevice`
    pub physical_device: u64,
    /// `VkDevice`
    pub device: u64,
    /// `VkQueue`; 0 for a wrapped device without one.
    pub queue: u64,
    /// Family of the queue.
    pub queue_family_index: u32,
    /// `VkQueue` of [`Driver::transfer_queue`]; 0 without one.
    pub transfer_queue: u64,
}

/// The target of host writes, which may be unflushed.
#[derive(Clone, Copy, Debug)]
pub enum HostSide {
    /// A range of a buffer, in bytes.
    Buffer {
        /// A buffer that is bound to memory.
        buffer: vk::Buffer,
        /// Offset in the buffer, in bytes.
        offset: u64,
        /// Size in bytes.
        size: u64,
    },
    /// An image, whatever its layout.
    Image(vk::Image),
    /// A range of a memory object.
    Memory(MemoryRange),
}

/// A device that the allocator can be used with.
///
/// # Safety of the calls
/// Each unsafe call has the requirements of the Vulkan command of its name: live handles of this device,
/// and create infos whose pointers (`p_next` and arrays) are valid for the call.
pub trait Driver: DeviceMemory {
    /// Returns the handles, for programs that call Vulkan themselves.
    fn handles(&self) -> DeviceHandles;

    /// Returns the names of the enabled device extensions.
    fn extensions(&self) -> &[String];

    /// Returns `VkPhysicalDeviceProperties::driverVersion`, which each vendor encodes differently; `None` if there is no
    /// driver.
    fn driver_version(&self) -> Option<u32> {
        None
    }

    /// Returns the names of the features that are known to be enabled.
    fn features(&self) -> &[String];

    /// Returns what the queue of [`submit`](Self::submit) can do; empty without a queue. One that has
    /// `GRAPHICS` or `COMPUTE` has `TRANSFER`.
    fn queue_flags(&self) -> vk::QueueFlags;

    /// Returns how many bytes a copy to new host memory moves in the time that one more region of it takes. An NVIDIA
    /// H200 needs 1.65 us for a region, as long as for 6.6 KB.
    fn bytes_of_a_region(&self) -> u64 {
        4096
    }

    /// Returns what the last call did that broke a rule of Vulkan, on a driver that looks for that.
    fn last_violation(&self) -> Option<String> {
        None
    }

    /// Returns `minImageTransferGranularity` of that queue's family, in texel blocks: offsets of copies of images
    /// are multiples of it, and so are extents that do not reach the edge of the level. 1 in each direction on a
    /// queue with `GRAPHICS` or `COMPUTE`; 0 where only whole levels are copied.
    fn image_granularity(&self) -> vk::Extent3D {
        vk::Extent3D { width: 1, height: 1, depth: 1 }
    }

    /// Returns the functions for export and import of memory.
    fn external(&self) -> &dyn ExternalMemory;

    /// Returns the copies of images by the host; `None` without the feature `hostImageCopy`.
    fn host_image_copy(&self) -> Option<&dyn HostImageCopy> {
        None
    }

    /// Returns whether a buffer's usage may have more than 32 bits (`VkBufferUsageFlags2CreateInfo`).
    fn has_wide_buffer_usage(&self) -> bool {
        self.info().api_version >= API_VERSION_1_4
            || self.extensions().iter().any(|it| it == "VK_KHR_maintenance5")
    }

    /// Returns the messages of the validation layer so far (`Device.open(validation=True)`).
    fn validation_messages(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns whether the device is lost: a call said so, or the driver does when asked. A driver may lose a
    /// device and tell that only to the program, in a later call.
    ///
    /// # Errors
    /// A driver call failed for another reason.
    fn is_lost(&self) -> Result<bool, CallError> {
        Ok(false)
    }

    /// Returns whether a call said that the device is lost, without asking the driver.
    fn is_known_lost(&self) -> bool {
        false
    }

    /// Leaves the addresses of an object that this library made for itself out of the
    /// [`binding_log`](Self::binding_log). To be called when it is bound.
    fn hide_bindings(&self, object_type: vk::ObjectType, object: u64) {
        if let Some(log) = self.binding_log() {
            log.hide(object_type, object);
        }
    }

    /// Returns what the device tells about the faults that it was lost by (`vkGetDeviceFaultInfoEXT`); `None`
    /// without the feature `deviceFault`.
    ///
    /// # Errors
    /// The driver call failed.
    ///
    /// # Safety
    /// The device is lost.
    unsafe fn fault_info(&self) -> Result<Option<FaultInfo>, CallError> {
        Ok(None)
    }

    /// Returns whether what is needed to explain faults is to be kept, as the device was opened or wrapped
    /// with `fault_reports`.
    fn has_fault_reports(&self) -> bool {
        false
    }

    /// Begins to note in the [`binding_log`](Self::binding_log) what addresses are bound to, unless that has begun.
    /// Ends with the device, or when [`end_binding_reports`](Self::end_binding_reports) was called as often as this,
    /// failed calls among them.
    ///
    /// # Errors
    /// The driver call failed; nothing is noted.
    fn begin_binding_reports(&self) -> Result<(), CallError> {
        Ok(())
    }

    /// Ends what one call of [`begin_binding_reports`](Self::begin_binding_reports) began. The log stays.
    ///
    /// # Safety
    /// The instance is live.
    unsafe fn end_binding_reports(&self) {}

    /// Returns which objects addresses are and were bound to; `None` without `fault_reports`, or without the
    /// feature `reportAddressBinding`.
    fn binding_log(&self) -> Option<&BindingLog> {
        None
    }

    /// Returns the smallest range that contains all unflushed host writes to a place, in bytes from the
    /// start of the buffer, the image or the range. `None` if there are none. Only simulated devices can
    /// detect them; others return `None`.
    fn unflushed(&self, _place: HostSide) -> Option<Range<u64>> {
        None
    }

    /// Forgets the unflushed host writes to a range.
    fn forget_unflushed(&self, _range: MemoryRange) {}

    /// Returns whether [`host_access`](Self::host_access) does anything.
    fn sees_host_access(&self) -> bool {
        false
    }

    /// Tells that the host reads or writes mapped memory now. A simulated device looks whether something
    /// that was submitted and has not ended uses it, and whether an invalidate is missing before a read. May wait.
    fn host_access(&self, _range: MemoryRange, _writes: bool) {}

    /// Tells that the library itself writes ranges, by the host, until [`end_own_writes`](Self::end_own_writes):
    /// nothing need be bound to them. Only called if [`sees_host_access`](Self::sees_host_access).
    fn begin_own_writes(&self, _ranges: &[MemoryRange]) {}

    /// Tells that it has written them.
    fn end_own_writes(&self, _ranges: &[MemoryRange]) {}

    /// Sets whether memory that is not mapped reads as a pattern through its old address
    /// ([`SimulatedDevice::set_poison_unmapped`](vkmem_engine::SimulatedDevice::set_poison_unmapped)). Returns
    /// false where that is impossible, as on real devices, whose drivers may take the address away.
    fn set_poison_unmapped(&self, _on: bool) -> bool {
        false
    }

    /// Tells that resources have moved: the handles that each had and has. What is submitted from now on with
    /// an old one comes too late, which a simulated device reports.
    fn moved(&self, _moves: &[(ResourceHandle, ResourceHandle)]) {}

    /// `vkCreateBuffer`
    ///
    /// # Safety
    /// See the trait.
    unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<vk::Buffer, DeviceError>;

    /// `vkDestroyBuffer`
    ///
    /// # Safety
    /// See the trait; the device no longer uses the buffer.
    unsafe fn destroy_buffer(&self, buffer: vk::Buffer);

    /// `vkGetBufferMemoryRequirements2`
    ///
    /// # Safety
    /// See the trait.
    unsafe fn buffer_requirements(&self, buffer: vk::Buffer) -> MemoryRequirements;

    /// `vkGetDeviceBufferMemoryRequirements`, or the same through a buffer that lives for the call.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn buffer_requirements_of_info(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError>;

    /// `vkBindBufferMemory`
    ///
    /// # Safety
    /// See the trait.
    unsafe fn bind_buffer(
        &self,
        buffer: vk::Buffer,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError>;

    /// `vkBindBufferMemory2` with the address of a `pNext` chain; `FeatureNotPresent` without that function.
    ///
    /// # Safety
    /// See the trait; the chain is valid.
    unsafe fn bind_buffer_with(
        &self,
        buffer: vk::Buffer,
        memory: MemoryHandle,
        offset: u64,
        next: usize,
    ) -> Result<(), DeviceError>;

    /// `vkGetPhysicalDeviceImageFormatProperties2`, or before Vulkan 1.1 that without the 2.
    fn image_format_properties(&self, kind: &ImageFormatInfo) -> ImageSupport;

    /// `vkGetPhysicalDeviceFormatProperties`: what images of a format and a tiling, optimal or linear, can be used
    /// for. Empty if they are not supported.
    fn format_features(
        &self,
        format: vk::Format,
        tiling: vk::ImageTiling,
    ) -> vk::FormatFeatureFlags;

    /// `vkCreateImage`
    ///
    /// # Safety
    /// See the trait.
    unsafe fn create_image(&self, info: &vk::ImageCreateInfo<'_>)
    -> Result<vk::Image, DeviceError>;

    /// `vkDestroyImage`
    ///
    /// # Safety
    /// See the trait; the device no longer uses the image.
    unsafe fn destroy_image(&self, image: vk::Image);

    /// `vkGetImageMemoryRequirements2`; of a disjoint image that was created here what its planes need
    /// together.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn image_requirements(&self, image: vk::Image) -> MemoryRequirements;

    /// `vkGetImageMemoryRequirements2` of one plane of a disjoint image.
    ///
    /// # Safety
    /// See the trait; the image has the plane.
    unsafe fn plane_requirements(
        &self,
        image: vk::Image,
        plane: u32,
    ) -> Result<MemoryRequirements, DeviceError>;

    /// `vkGetImageSubresourceLayout`
    ///
    /// # Safety
    /// See the trait; the image is linearly tiled and has the subresource, which names one aspect.
    unsafe fn subresource_layout(
        &self,
        image: vk::Image,
        subresource: vk::ImageSubresource,
    ) -> vk::SubresourceLayout;

    /// `vkGetDeviceImageMemoryRequirements`, or the same through an image that lives for the call.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn image_requirements_of_info(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError>;

    /// `vkBindImageMemory`; all planes of a disjoint image that was created here.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn bind_image(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError>;

    /// `vkBindImageMemory2` with the address of a `pNext` chain; `FeatureNotPresent` without that function.
    ///
    /// # Safety
    /// See the trait; the chain is valid.
    unsafe fn bind_image_with(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        offset: u64,
        next: usize,
    ) -> Result<(), DeviceError>;

    /// `vkBindImageMemory2` of planes of a disjoint image, each with its offset into the memory.
    ///
    /// # Safety
    /// See the trait; the image has the planes.
    unsafe fn bind_planes(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        planes: &[(u32, u64)],
    ) -> Result<(), DeviceError>;

    /// `vkGetBufferDeviceAddress`; `None` without the feature.
    ///
    /// # Safety
    /// See the trait; the buffer was created with `SHADER_DEVICE_ADDRESS` and is bound.
    unsafe fn buffer_device_address(&self, _buffer: vk::Buffer) -> Option<u64> {
        None
    }

    /// `vkSetDeviceMemoryPriorityEXT`; false without the extension.
    ///
    /// # Safety
    /// See the trait; the priority is from 0 to 1.
    unsafe fn set_memory_priority(&self, _memory: MemoryHandle, _priority: f32) -> bool {
        false
    }

    /// Records commands and submits them to the device's own queue, without waiting for them. Several threads
    /// may submit and wait at the same time.
    ///
    /// The commands run after all earlier submissions, and their writes are visible to the host once they have
    /// ended. If a wrapped device has a [`QueueLock`](crate::QueueLock), this runs foreign code, so the caller
    /// must not hold a lock that such code may need.
    ///
    /// # Errors
    /// `FeatureNotPresent` for a device without a queue; those of the driver calls. After an error, nothing was
    /// submitted, or the submission has ended: after one of [`QUEUE_UNLOCK`](crate::QUEUE_UNLOCK) its commands
    /// have run ([`has_run`](crate::has_run)).
    ///
    /// # Safety
    /// See the trait; ranges lie inside their resources, which are live and not used by anything else until
    /// [`wait`](Self::wait) has returned true or an error for the submission.
    unsafe fn submit(&self, commands: &[TransferCommand]) -> Result<Submission, CallError>;

    /// Writes commands into a command buffer of the caller, between a barrier against all that comes before them on
    /// its queue and one that makes their results visible to all that comes after, and to the host once they have
    /// ended. Makes no call that waits.
    ///
    /// # Errors
    /// A simulated device knows which command buffers are being recorded.
    ///
    /// # Safety
    /// See the trait; the command buffer is of this device and in the recording state, outside of a render pass,
    /// its family can carry out the commands and owns the resources, and no other thread uses its pool. When it
    /// runs, the resources are live, and the images in the layouts that the commands name.
    unsafe fn record(
        &self,
        command_buffer: vk::CommandBuffer,
        commands: &[TransferCommand],
    ) -> Result<(), CallError>;

    /// Returns the second queue, if there is one, for copies beside the work of the main one.
    fn transfer_queue(&self) -> Option<TransferQueue> {
        None
    }

    /// Returns whether the second queue can carry out a command; false without one.
    fn can_go_to_transfer_queue(&self, command: &TransferCommand) -> bool {
        self.transfer_queue().is_some_and(|queue| queue.can_do(command))
    }

    /// Submits commands like [`submit`](Self::submit), to run on the second queue. They run after all earlier
    /// submissions, and all later ones after them, as if they ran on the main queue. Without a second queue,
    /// and if that cannot carry out all of them ([`TransferQueue::can_do_all`]), they do.
    ///
    /// `exclusive` are the resources of the commands with `SHARING_MODE_EXCLUSIVE`: the main queue's family owns
    /// them before and after. All others are shared by both families.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit). If `vkQueueSubmit` fails twice in a row for a part of one submission,
    /// Vulkan leaves the contents of the exclusive resources undefined.
    ///
    /// # Safety
    /// The requirements of [`submit`](Self::submit), and the list is right.
    unsafe fn submit_to_transfer_queue(
        &self,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, CallError> {
        let _ = exclusive;
        // SAFETY: the caller guarantees the requirements.
        unsafe { self.submit(commands) }
    }

    /// Waits for a submission of this device, at most `timeout_ns` nanoseconds; returns whether it has ended.
    ///
    /// # Errors
    /// The wait failed, or the device is lost. Then no earlier submission runs any more, as far as Vulkan can
    /// tell, and their resources may be destroyed.
    fn wait(&self, submission: Submission, timeout_ns: u64) -> Result<bool, CallError>;

    /// Returns whether a submission of this device has ended, without waiting.
    ///
    /// # Errors
    /// The query failed. The submission may still run; call [`wait`](Self::wait).
    fn is_done(&self, submission: Submission) -> Result<bool, CallError>;

    /// Returns whether submissions end by themselves. Those of a simulated device may wait for a call of
    /// [`wait`](Self::wait), or for the test: to ask again and again whether they have ended is in vain.
    fn ends_by_itself(&self) -> bool {
        true
    }

    /// Submits commands and waits for them.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) and [`wait`](Self::wait). The commands do not run any more.
    ///
    /// # Safety
    /// The requirements of [`submit`](Self::submit), for the duration of the call.
    unsafe fn run(&self, commands: &[TransferCommand]) -> Result<(), CallError> {
        // SAFETY: the caller guarantees the resources for the call, which ends after the submission.
        let submission = unsafe { self.submit(commands) }?;
        while !self.wait(submission, u64::MAX)? {}
        Ok(())
    }

    /// Waits for all submissions, and destroys their command pools, fences and semaphores. A later call creates them
    /// again.
    ///
    /// On a wrapped device only this call destroys them: at any other time the owner may have destroyed the
    /// device. Objects that another thread uses meanwhile, to submit or to wait, are kept.
    ///
    /// # Safety
    /// The device is live.
    unsafe fn release_submissions(&self) {}
}
