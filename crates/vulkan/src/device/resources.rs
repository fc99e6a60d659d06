//! Buffers, images, binding and copies of a real device.

use std::ffi::c_void;

use ash::vk::{self, Handle};
use vkmem_engine::{CallError, DeviceError, MemoryHandle, MemoryRequirements};

use crate::device::logical::{check, memory};
use crate::device::transfer_commands::Recorder;
use crate::device::vulkan_device::VulkanDevice;
use crate::driver::binding_log::BindingLog;
use crate::driver::chain::has_explicit_drm_modifier;
use crate::driver::contract::{DeviceHandles, Driver};
use crate::driver::disjoint::{aspect, combined_requirements, plane_count};
use crate::driver::external::ExternalMemory;
use crate::driver::faults::FaultInfo;
use crate::driver::host_image_copy::HostImageCopy;
use crate::driver::image_format::{ImageFormatInfo, ImageSupport};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{Submission, TransferCommand};
use crate::driver::transfer_queue::TransferQueue;

/// Calls a function that fills a `VkMemoryRequirements2` with chained dedicated requirements.
fn requirements2(call: impl FnOnce(&mut vk::MemoryRequirements2<'_>)) -> MemoryRequirements {
    let mut dedicated = vk::MemoryDedicatedRequirements::default();
    let mut requirements = vk::MemoryRequirements2::default().push_next(&mut dedicated);
    call(&mut requirements);
    let plain = requirements.memory_requirements;
    MemoryRequirements {
        prefers_dedicated: dedicated.prefers_dedicated_allocation == vk::TRUE,
        requires_dedicated: dedicated.requires_dedicated_allocation == vk::TRUE,
        ..without_dedicated(&plain)
    }
}

fn without_dedicated(requirements: &vk::MemoryRequirements) -> MemoryRequirements {
    MemoryRequirements {
        size: requirements.size,
        alignment: requirements.alignment,
        memory_type_bits: requirements.memory_type_bits,
        prefers_dedicated: false,
        requires_dedicated: false,
    }
}

impl Driver for VulkanDevice {
    fn handles(&self) -> DeviceHandles {
        DeviceHandles {
            instance: self.instance.handle.as_raw(),
            physical_device: self.physical_device.as_raw(),
            device: self.logical.handle.as_raw(),
            queue: self.submissions.queue().as_raw(),
            queue_family_index: self.submissions.family_index(),
            transfer_queue: self.second_queue.as_ref().map_or(0, |second| second.queue.as_raw()),
        }
    }

    fn extensions(&self) -> &[String] {
        &self.extensions
    }

    fn driver_version(&self) -> Option<u32> {
        let mut properties = vk::PhysicalDeviceProperties::default();
        // SAFETY: the instance and its device are alive as long as this; the pointer is valid for the call.
        unsafe {
            (self.instance.functions.get_physical_device_properties)(
                self.physical_device,
                &mut properties,
            );
        }
        Some(properties.driver_version)
    }

    fn features(&self) -> &[String] {
        &self.features
    }

    fn queue_flags(&self) -> vk::QueueFlags {
        self.queue_abilities.0
    }

    fn image_granularity(&self) -> vk::Extent3D {
        self.queue_abilities.1
    }

    fn external(&self) -> &dyn ExternalMemory {
        self
    }

    fn host_image_copy(&self) -> Option<&dyn HostImageCopy> {
        self.host_images.as_ref().map(|_| self as &dyn HostImageCopy)
    }

    fn is_known_lost(&self) -> bool {
        self.faults.is_known_lost()
    }

    fn is_lost(&self) -> Result<bool, CallError> {
        self.faults.is_lost(&self.logical)
    }

    unsafe fn fault_info(&self) -> Result<Option<FaultInfo>, CallError> {
        // SAFETY: the caller guarantees a lost device.
        unsafe { self.faults.info(&self.logical) }
    }

    fn has_fault_reports(&self) -> bool {
        self.faults.are_kept
    }

    fn begin_binding_reports(&self) -> Result<(), CallError> {
        // SAFETY: the instance is live; `end_binding_reports` or the drop of the device ends them.
        unsafe { self.faults.begin(self.instance.handle) }
    }

    unsafe fn end_binding_reports(&self) {
        // SAFETY: the caller guarantees a live instance.
        unsafe { self.faults.end(self.instance.handle) };
    }

    fn binding_log(&self) -> Option<&BindingLog> {
        self.faults.log()
    }

    fn validation_messages(&self) -> Vec<String> {
        self.instance.validation.as_ref().map(|log| log.messages()).unwrap_or_default()
    }

    unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<vk::Buffer, DeviceError> {
        let mut buffer = vk::Buffer::null();
        let create = self.logical.functions.create_buffer;
        // SAFETY: the caller guarantees a valid create info and its chain.
        check(unsafe { create(self.logical.handle, info, self.logical.callbacks(), &mut buffer) })?;
        Ok(buffer)
    }

    unsafe fn destroy_buffer(&self, buffer: vk::Buffer) {
        // SAFETY: the caller guarantees that the buffer is live and no longer used.
        unsafe {
            (self.logical.functions.destroy_buffer)(
                self.logical.handle,
                buffer,
                self.logical.callbacks(),
            );
        }
    }

    unsafe fn buffer_requirements(&self, buffer: vk::Buffer) -> MemoryRequirements {
        let device = self.logical.handle;
        if let Some(functions) = &self.requirements2 {
            let info = vk::BufferMemoryRequirementsInfo2::default().buffer(buffer);
            // SAFETY: the caller guarantees a valid buffer; the structures live for the call.
            return requirements2(|requirements| unsafe {
                (functions.get_buffer_memory_requirements2)(device, &info, requirements);
            });
        }
        let mut requirements = vk::MemoryRequirements::default();
        let get = self.logical.functions.get_buffer_memory_requirements;
        // SAFETY: the caller guarantees a valid buffer.
        unsafe { get(device, buffer, &mut requirements) };
        without_dedicated(&requirements)
    }

    unsafe fn buffer_requirements_of_info(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError> {
        if let Some(functions) = &self.maintenance4 {
            let info = vk::DeviceBufferMemoryRequirements::default().create_info(info);
            let device = self.logical.handle;
            // SAFETY: the caller guarantees a valid create info; the structures live for the call.
            return Ok(requirements2(|requirements| unsafe {
                (functions.get_device_buffer_memory_requirements)(device, &info, requirements);
            }));
        }
        // SAFETY: the caller guarantees a valid create info; the buffer is used only here.
        unsafe {
            let buffer = self.create_buffer(info)?;
            let requirements = self.buffer_requirements(buffer);
            self.destroy_buffer(buffer);
            Ok(requirements)
        }
    }

    unsafe fn bind_buffer(
        &self,
        buffer: vk::Buffer,
        handle: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        let bind = self.logical.functions.bind_buffer_memory;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller guarantees that buffer, memory and offset are valid.
        check(unsafe { bind(self.logical.handle, buffer, memory(handle), offset) })
    }

    unsafe fn bind_buffer_with(
        &self,
        buffer: vk::Buffer,
        handle: MemoryHandle,
        offset: u64,
        next: usize,
    ) -> Result<(), DeviceError> {
        let functions = self.bind2.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut info = vk::BindBufferMemoryInfo::default()
            .buffer(buffer)
            .memory(memory(handle))
            .memory_offset(offset);
        info.p_next = next as *const c_void;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller guarantees that buffer, memory, offset and chain are valid.
        check(unsafe { (functions.bind_buffer_memory2)(self.logical.handle, 1, &info) })
    }

    fn image_format_properties(&self, kind: &ImageFormatInfo) -> ImageSupport {
        self.instance.image_format_properties(self.physical_device, self.info.api_version, kind)
    }

    fn format_features(
        &self,
        format: vk::Format,
        tiling: vk::ImageTiling,
    ) -> vk::FormatFeatureFlags {
        self.instance.format_features(self.physical_device, format, tiling)
    }

    unsafe fn create_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<vk::Image, DeviceError> {
        let mut image = vk::Image::null();
        let planes = plane_count(info);
        let create = self.logical.functions.create_image;
        // SAFETY: the caller guarantees a valid create info and its chain.
        check(unsafe { create(self.logical.handle, info, self.logical.callbacks(), &mut image) })?;
        self.disjoint.insert(image, planes);
        Ok(image)
    }

    unsafe fn destroy_image(&self, image: vk::Image) {
        self.disjoint.remove(image);
        // SAFETY: the caller guarantees that the image is live and no longer used.
        unsafe {
            (self.logical.functions.destroy_image)(
                self.logical.handle,
                image,
                self.logical.callbacks(),
            );
        }
    }

    unsafe fn image_requirements(&self, image: vk::Image) -> MemoryRequirements {
        let device = self.logical.handle;
        let planes = self.disjoint.planes_of(image);
        if planes > 0 {
            // SAFETY: the caller guarantees a valid image, which has these planes.
            let all = (0..planes).map(|plane| unsafe { self.plane_requirements(image, plane) });
            // Without that function no disjoint image was created.
            return combined_requirements(&all.filter_map(Result::ok).collect::<Vec<_>>()).0;
        }
        if let Some(functions) = &self.requirements2 {
            let info = vk::ImageMemoryRequirementsInfo2::default().image(image);
            // SAFETY: the caller guarantees a valid image; the structures live for the call.
            return requirements2(|requirements| unsafe {
                (functions.get_image_memory_requirements2)(device, &info, requirements);
            });
        }
        let mut requirements = vk::MemoryRequirements::default();
        let get = self.logical.functions.get_image_memory_requirements;
        // SAFETY: the caller guarantees a valid image.
        unsafe { get(device, image, &mut requirements) };
        without_dedicated(&requirements)
    }

    unsafe fn subresource_layout(
        &self,
        image: vk::Image,
        subresource: vk::ImageSubresource,
    ) -> vk::SubresourceLayout {
        let mut layout = vk::SubresourceLayout::default();
        let get = self.logical.functions.get_image_subresource_layout;
        // SAFETY: the caller guarantees a valid image and subresource; the structures live for the call.
        unsafe { get(self.logical.handle, image, &subresource, &mut layout) };
        layout
    }

    unsafe fn image_requirements_of_info(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError> {
        // `vkGetDeviceImageMemoryRequirements` does not accept an explicit DRM format modifier.
        // SAFETY: the caller guarantees a valid chain.
        let needs_an_image = unsafe { has_explicit_drm_modifier(info) } || plane_count(info) > 0;
        if let (Some(functions), false) = (&self.maintenance4, needs_an_image) {
            let info = vk::DeviceImageMemoryRequirements::default().create_info(info);
            let device = self.logical.handle;
            // SAFETY: the caller guarantees a valid create info; the structures live for the call.
            return Ok(requirements2(|requirements| unsafe {
                (functions.get_device_image_memory_requirements)(device, &info, requirements);
            }));
        }
        // SAFETY: the caller guarantees a valid create info; the image is used only here.
        unsafe {
            let image = self.create_image(info)?;
            let requirements = self.image_requirements(image);
            self.destroy_image(image);
            Ok(requirements)
        }
    }

    unsafe fn plane_requirements(
        &self,
        image: vk::Image,
        plane: u32,
    ) -> Result<MemoryRequirements, DeviceError> {
        let functions = self.requirements2.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut of_plane =
            vk::ImagePlaneMemoryRequirementsInfo::default().plane_aspect(aspect(plane));
        let info =
            vk::ImageMemoryRequirementsInfo2::default().image(image).push_next(&mut of_plane);
        let device = self.logical.handle;
        // SAFETY: the caller guarantees a valid image; the structures live for the call.
        Ok(requirements2(|requirements| unsafe {
            (functions.get_image_memory_requirements2)(device, &info, requirements);
        }))
    }

    unsafe fn bind_planes(
        &self,
        image: vk::Image,
        handle: MemoryHandle,
        planes: &[(u32, u64)],
    ) -> Result<(), DeviceError> {
        let functions = self.bind2.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut of_planes: Vec<_> = planes
            .iter()
            .map(|(plane, _)| vk::BindImagePlaneMemoryInfo::default().plane_aspect(aspect(*plane)))
            .collect();
        let infos: Vec<_> = of_planes
            .iter_mut()
            .zip(planes)
            .map(|(of_plane, (_, offset))| {
                vk::BindImageMemoryInfo::default()
                    .image(image)
                    .memory(memory(handle))
                    .memory_offset(*offset)
                    .push_next(of_plane)
            })
            .collect();
        let _lock = self.memory_locks.shared(handle);
        let count = infos.len() as u32;
        let bind = functions.bind_image_memory2;
        // SAFETY: the caller guarantees that image, memory and planes are valid; the structures live for
        // the call.
        check(unsafe { bind(self.logical.handle, count, infos.as_ptr()) })
    }

    unsafe fn bind_image(
        &self,
        image: vk::Image,
        handle: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        let planes = self.disjoint.planes_of(image);
        if planes > 0 {
            let mut needs = Vec::with_capacity(planes as usize);
            for plane in 0..planes {
                // SAFETY: the caller guarantees a valid image, which has these planes.
                needs.push(unsafe { self.plane_requirements(image, plane) }?);
            }
            let offsets = combined_requirements(&needs).1.into_iter().map(|it| offset + it);
            let places: Vec<_> = (0..planes).zip(offsets).collect();
            // SAFETY: the caller guarantees live handles and a valid place.
            return unsafe { self.bind_planes(image, handle, &places) };
        }
        let bind = self.logical.functions.bind_image_memory;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller guarantees that image, memory and offset are valid.
        check(unsafe { bind(self.logical.handle, image, memory(handle), offset) })
    }

    unsafe fn bind_image_with(
        &self,
        image: vk::Image,
        handle: MemoryHandle,
        offset: u64,
        next: usize,
    ) -> Result<(), DeviceError> {
        let functions = self.bind2.as_ref().ok_or(DeviceError::FeatureNotPresent)?;
        let mut info = vk::BindImageMemoryInfo::default()
            .image(image)
            .memory(memory(handle))
            .memory_offset(offset);
        info.p_next = next as *const c_void;
        let _lock = self.memory_locks.shared(handle);
        // SAFETY: the caller guarantees that image, memory, offset and chain are valid.
        check(unsafe { (functions.bind_image_memory2)(self.logical.handle, 1, &info) })
    }

    unsafe fn buffer_device_address(&self, buffer: vk::Buffer) -> Option<u64> {
        let functions = self.device_address.as_ref()?;
        let info = vk::BufferDeviceAddressInfo::default().buffer(buffer);
        // SAFETY: the caller guarantees a valid buffer; the feature is enabled.
        Some(unsafe { (functions.get_buffer_device_address)(self.logical.handle, &info) })
    }

    unsafe fn set_memory_priority(&self, memory: MemoryHandle, priority: f32) -> bool {
        let Some(functions) = &self.pageable else { return false };
        let _lock = self.memory_locks.shared(memory);
        let memory = vk::DeviceMemory::from_raw(memory.0);
        // SAFETY: the caller guarantees live memory and a valid priority; the extension is enabled.
        unsafe { (functions.set_device_memory_priority)(self.logical.handle, memory, priority) };
        true
    }

    unsafe fn submit(&self, commands: &[TransferCommand]) -> Result<Submission, CallError> {
        // SAFETY: the caller guarantees valid resources, and that the owner of a wrapped queue does not
        // use it meanwhile.
        self.faults.watch(unsafe { self.submissions.submit(&self.logical, commands) })
    }

    unsafe fn record(
        &self,
        command_buffer: vk::CommandBuffer,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        let recorder = Recorder { device: &self.logical, buffer: command_buffer };
        // SAFETY: the caller guarantees a recording command buffer, valid resources and their layouts.
        unsafe { recorder.record(commands) };
        Ok(())
    }

    fn transfer_queue(&self) -> Option<TransferQueue> {
        self.second_queue.as_ref().map(|second| second.of)
    }

    unsafe fn submit_to_transfer_queue(
        &self,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, CallError> {
        let Some(second) = self.second_queue.as_ref().filter(|it| it.of.can_do_all(commands))
        else {
            // SAFETY: the caller guarantees the requirements of both calls.
            return unsafe { self.submit(commands) };
        };
        // SAFETY: the caller guarantees valid resources, and that the owners of wrapped queues do not use them
        // meanwhile.
        let submitted = unsafe {
            self.submissions.submit_to_second(&self.logical, second, commands, exclusive)
        };
        self.faults.watch(submitted)
    }

    fn wait(&self, submission: Submission, timeout_ns: u64) -> Result<bool, CallError> {
        self.faults.watch(self.submissions.wait(&self.logical, submission, timeout_ns))
    }

    fn is_done(&self, submission: Submission) -> Result<bool, CallError> {
        self.faults.watch(self.submissions.is_done(&self.logical, submission))
    }

    unsafe fn release_submissions(&self) {
        // SAFETY: the caller guarantees a live device.
        unsafe { self.submissions.release(&self.logical) };
    }
}
