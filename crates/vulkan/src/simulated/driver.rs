//! [`SimulatedDriver`]: a Vulkan driver without a GPU. Buffers and images with realistic requirements,
//! over the memory of a [`SimulatedDevice`].
//!
//! It behaves like a strict driver with all validation layers enabled: what Vulkan forbids is recorded in
//! [`SimulatedDevice::violations`], and the call fails if it can.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ash::vk::{self, Handle};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{
    Call, CallError, DedicatedTarget, DeviceError, DeviceInfo, DeviceMemory, DriverBudget, Error,
    HostAddress, KeyMap, MemoryAllocateInfo, MemoryHandle, MemoryRange, MemoryRequirements,
    SimulatedDevice, VALIDATION_FAILED,
};

use crate::driver::binding_log::BindingLog;
use crate::driver::chain;
use crate::driver::contract::{DeviceHandles, Driver, HostSide};
use crate::driver::disjoint::combined_requirements;
use crate::driver::external::ExternalMemory;
use crate::driver::faults::FaultInfo;
use crate::driver::format;
use crate::driver::host_image_copy::HostImageCopy;
use crate::driver::image_format::{ImageFormatInfo, ImageSupport};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{QueueLock, Submission, TransferCommand};
use crate::driver::transfer_queue::TransferQueue;
use crate::instance::extensions;
use crate::simulated::fault_state::{Faults, address_of};
use crate::simulated::features::features;
use crate::simulated::pending::{CommandBuffers, Completion, Submissions};
use crate::simulated::registry;
use crate::simulated::resources::{Resource, Resources};
use crate::simulated::rules::{BufferShape, ImageShape, RequirementRules};
use crate::simulated::seen::Watch;
use vkmem_engine::words::bytes;

/// Buffer handles spell "BUF" in their upper bytes, image handles "IMG".
const BUFFER_TAG: u64 = 0x4255_4600_0000_0000;
const IMAGE_TAG: u64 = 0x494D_4700_0000_0000;

/// Requirements of a resource that does not exist: no memory fulfils them.
const NO_REQUIREMENTS: MemoryRequirements = MemoryRequirements {
    size: 1,
    alignment: 1,
    memory_type_bits: 0,
    prefers_dedicated: false,
    requires_dedicated: false,
};

/// What the queue can do, unless told otherwise.
const ALL_FLAGS: vk::QueueFlags = vk::QueueFlags::from_raw(
    vk::QueueFlags::GRAPHICS.as_raw()
        | vk::QueueFlags::COMPUTE.as_raw()
        | vk::QueueFlags::TRANSFER.as_raw(),
);

/// Resources of one kind.
type Table<S> = Mutex<Resources<S>, rank::SimulatedResources>;

/// A driver without a GPU: buffers, images, binding and copies.
#[derive(Debug)]
pub struct SimulatedDriver {
    pub(super) device: Arc<SimulatedDevice>,
    rules: RequirementRules,
    pub(super) extensions: Vec<String>,
    pub(super) features: Vec<String>,
    requires_dedicated: AtomicBool,
    /// `VkQueueFlags`
    queue_flags: AtomicU32,
    /// `minImageTransferGranularity`
    granularity: [AtomicU32; 3],
    pub(super) buffers: Table<BufferShape>,
    pub(super) images: Table<ImageShape>,
    pub(super) submissions: Submissions,
    pub(super) second_queue: Option<TransferQueue>,
    pub(super) owners_lock: Option<Arc<dyn QueueLock>>,
    pub(super) command_buffers: Mutex<CommandBuffers, rank::SimulatedResources>,
    pub(super) watch: Watch,
    pub(super) faults: Faults,
}

impl SimulatedDriver {
    /// Creates a driver for a device outside of the profiles: plain rules, no extensions.
    pub fn new(device: Arc<SimulatedDevice>) -> Self {
        let rules = RequirementRules::of_device(device.info());
        Self::with_rules(device, rules, Vec::new())
    }

    /// Creates a driver with given rules and enabled extensions.
    pub fn with_rules(
        device: Arc<SimulatedDevice>,
        rules: RequirementRules,
        extensions: Vec<String>,
    ) -> Self {
        Self {
            device,
            rules,
            features: extensions::features_of(&extensions),
            extensions,
            requires_dedicated: AtomicBool::new(false),
            queue_flags: AtomicU32::new(ALL_FLAGS.as_raw()),
            granularity: [1, 1, 1].map(AtomicU32::new),
            buffers: Mutex::new(Resources::new(BUFFER_TAG)),
            images: Mutex::new(Resources::new(IMAGE_TAG)),
            submissions: Submissions::default(),
            second_queue: None,
            owners_lock: None,
            command_buffers: Mutex::default(),
            watch: Watch::default(),
            faults: Faults::default(),
        }
    }

    /// Creates a driver like an existing one; `name` is one of [`SimulatedDevice::profile_names`].
    /// `nvidia-h200` has `VK_EXT_memory_budget`, with the budgets of the idle device.
    pub fn profile(name: &str) -> Option<Self> {
        Some(Self::like_profile(name, Arc::new(SimulatedDevice::profile(name)?)))
    }

    /// Creates a driver for a description, with the rules and extensions of a profile, if the description is one
    /// that was changed.
    ///
    /// # Errors
    /// The errors of [`SimulatedDevice::try_new`].
    pub fn of_info(info: DeviceInfo, profile: Option<&str>) -> Result<Self, Error> {
        let device = Arc::new(SimulatedDevice::try_new(info)?);
        Ok(match profile {
            Some(name) => Self::like_profile(name, device),
            None => Self::new(device),
        })
    }

    fn like_profile(name: &str, device: Arc<SimulatedDevice>) -> Self {
        let rules = RequirementRules::of_profile(name, device.info());
        let mut extensions = vec![
            "VK_KHR_bind_memory2",
            "VK_KHR_dedicated_allocation",
            "VK_KHR_get_memory_requirements2",
            "VK_KHR_maintenance3",
            "VK_KHR_maintenance4",
        ];
        if name == "nvidia-h200" {
            extensions.extend([
                "VK_EXT_device_fault",
                "VK_EXT_memory_budget",
                "VK_EXT_memory_priority",
                "VK_EXT_pageable_device_local_memory",
                "VK_KHR_buffer_device_address",
                "VK_KHR_maintenance5",
            ]);
            device.set_live_budget(vec![150_092_709_888, 101_361_423_360]);
        }
        if name != "moltenvk" {
            extensions.extend(["VK_KHR_external_memory_fd", "VK_EXT_external_memory_host"]);
        }
        if matches!(name, "nvidia-h200" | "integrated") {
            extensions.push("VK_EXT_host_image_copy");
        }
        if matches!(name, "nvidia-h200" | "discrete-8gib" | "integrated" | "raspberry-pi") {
            extensions.push("VK_EXT_external_memory_dma_buf");
        }
        let extensions = extensions.into_iter().map(String::from).collect();
        Self::with_rules(device, rules, extensions)
            .with_transfer_queue(Self::transfer_queue_of_profile(name))
    }

    /// Returns the simulated device: its failures, latencies, records and violations.
    pub fn device(&self) -> &Arc<SimulatedDevice> {
        &self.device
    }

    /// Returns the rules for requirements.
    pub fn rules(&self) -> &RequirementRules {
        &self.rules
    }

    /// Sets whether every resource that is created from now on requires dedicated memory.
    pub fn set_requires_dedicated(&self, requires: bool) {
        self.requires_dedicated.store(requires, Ordering::Relaxed);
    }

    /// Sets what the queue can do, for tests of queues without `GRAPHICS`.
    pub fn set_queue_flags(&self, flags: vk::QueueFlags) {
        self.queue_flags.store(flags.as_raw(), Ordering::Relaxed);
    }

    /// Sets the granularity of copies of images, for tests of queues for transfers only.
    pub fn set_image_granularity(&self, granularity: vk::Extent3D) {
        let vk::Extent3D { width, height, depth } = granularity;
        for (to, from) in self.granularity.iter().zip([width, height, depth]) {
            to.store(from, Ordering::Relaxed);
        }
    }

    /// Returns the number of buffers that were created and not destroyed.
    pub fn live_buffers(&self) -> usize {
        self.buffers.lock().len()
    }

    /// Returns the number of images that were created and not destroyed.
    pub fn live_images(&self) -> usize {
        self.images.lock().len()
    }

    /// Asserts that no rule of Vulkan was broken and no buffer, image or memory object is live.
    ///
    /// # Panics
    /// If a rule was broken, or if one is live.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.device.assert_clean();
        assert_eq!(self.live_buffers(), 0, "buffers that were never destroyed");
        assert_eq!(self.live_images(), 0, "images that were never destroyed");
    }

    /// Returns what the queue can do.
    pub(super) fn flags_of_queue(&self) -> vk::QueueFlags {
        vk::QueueFlags::from_raw(self.queue_flags.load(Ordering::Relaxed))
    }

    /// Returns what images like this one can be used for.
    pub(super) fn features_of_shape(&self, shape: &ImageShape) -> vk::FormatFeatureFlags {
        features(shape.format, shape.tiling, self.rules.has_desktop_formats)
    }

    /// Returns the limits of a kind of image.
    pub(super) fn image_support(&self, kind: &ImageFormatInfo) -> ImageSupport {
        let by_host = vk::ImageUsageFlags::HOST_TRANSFER_EXT.as_raw();
        if kind.usage & by_host != 0 && !self.can_copy_by_host(vk::Format::from_raw(kind.format)) {
            return ImageSupport::None;
        }
        self.rules.image_format(kind)
    }

    /// Applies the test hook to requirements from the rules; an invalid create info is a violation.
    fn checked(
        &self,
        call: Call,
        requirements: Result<MemoryRequirements, String>,
    ) -> Result<MemoryRequirements, DeviceError> {
        let requirements = requirements.map_err(|what| {
            self.device.report_violation(call, what);
            VALIDATION_FAILED
        })?;
        let requires = self.requires_dedicated.load(Ordering::Relaxed);
        Ok(MemoryRequirements {
            prefers_dedicated: requirements.prefers_dedicated || requires,
            requires_dedicated: requires,
            ..requirements
        })
    }

    /// Returns shape and requirements of a buffer.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    unsafe fn buffer_shape(
        &self,
        call: Call,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<(BufferShape, MemoryRequirements), DeviceError> {
        // SAFETY: the caller guarantees a valid chain.
        let usage = unsafe { chain::buffer_usage(info) };
        let shape = BufferShape { size: info.size, usage, flags: info.flags };
        let requirements = self.rules.buffer(self.device.info(), &shape);
        Ok((shape, self.checked(call, requirements)?))
    }

    fn image_shape(
        &self,
        call: Call,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<(ImageShape, MemoryRequirements), DeviceError> {
        let shape = ImageShape::of(info);
        let by_host = vk::ImageUsageFlags::HOST_TRANSFER_EXT;
        let requirements = if info.usage.contains(by_host) && !self.can_copy_by_host(info.format) {
            let format = info.format;
            Err(format!("an image of {format:?} with {by_host:?}, which is not supported"))
        } else {
            self.rules.image(self.device.info(), &shape)
        };
        Ok((shape, self.checked(call, requirements)?))
    }

    /// Binds a resource, after all checks that Vulkan leaves to the caller.
    fn bind<S>(
        &self,
        call: Call,
        resources: &Table<S>,
        handle: u64,
        target: DedicatedTarget,
        (memory, offset): (MemoryHandle, u64),
    ) -> Result<(), DeviceError> {
        let size = resources.lock().get(handle).map_or(0, |found| found.requirements.size);
        self.device.enter_about(call, &[MemoryRange { memory, offset, size }])?;
        let mut resources = resources.lock();
        let wrong = match resources.get(handle) {
            Ok(resource) => self.wrong_binding(resource, target, memory, offset),
            Err(what) => Some(what),
        };
        if let Some(what) = wrong {
            self.device.report_violation(call, format!("{handle:#x}: {what}"));
            return Err(VALIDATION_FAILED);
        }
        if let Ok(resource) = resources.get_mut(handle) {
            resource.bound = Some((memory, offset));
        }
        drop(resources);
        self.note_binding(target, (memory, offset), size, true);
        Ok(())
    }

    /// Binds planes of a disjoint image, each after all checks that Vulkan leaves to the caller.
    fn bind_planes_of(
        &self,
        resource: &mut Resource<ImageShape>,
        memory: MemoryHandle,
        planes: &[(u32, u64)],
    ) -> Result<(), String> {
        for (plane, offset) in planes {
            let shape = resource.shape;
            let of_plane = Resource {
                shape,
                requirements: self.rules.plane(self.device.info(), &shape, *plane)?,
                external: resource.external,
                families: Vec::new(),
                bound: None,
                layouts: KeyMap::default(),
                planes: Vec::new(),
            };
            // Memory cannot be dedicated to an image whose planes are bound separately.
            let nobody = DedicatedTarget::Image(0);
            if resource.planes.iter().any(|(bound, ..)| bound == plane) {
                return Err(format!("plane {plane} is bound already"));
            }
            if let Some(what) = self.wrong_binding(&of_plane, nobody, memory, *offset) {
                return Err(format!("plane {plane}: {what}"));
            }
            resource.planes.push((*plane, memory, *offset));
        }
        let count = format::planes(resource.shape.format).len();
        let first = resource.planes.iter().find(|(plane, ..)| *plane == 0);
        if let (true, Some((_, memory, offset))) = (resource.planes.len() == count, first) {
            resource.bound = Some((*memory, *offset));
        }
        Ok(())
    }

    /// Returns what Vulkan forbids about a binding.
    fn wrong_binding<S>(
        &self,
        resource: &Resource<S>,
        target: DedicatedTarget,
        memory: MemoryHandle,
        offset: u64,
    ) -> Option<String> {
        let MemoryRequirements { size, alignment, memory_type_bits, requires_dedicated, .. } =
            resource.requirements;
        if resource.bound.is_some() {
            return Some("is bound already".into());
        }
        let Some(object) = self.device.memory(memory) else {
            return Some(format!("memory {:#x} is not allocated", memory.0));
        };
        if !offset.is_multiple_of(alignment) {
            return Some(format!("offset {offset} is not aligned to {alignment}"));
        }
        if offset.checked_add(size).is_none_or(|end| end > object.size) {
            let whole = object.size;
            return Some(format!("{offset} + {size} lies outside memory of {}", bytes(whole)));
        }
        if memory_type_bits & (1 << object.memory_type_index) == 0 {
            return Some(format!(
                "memory type {} is not among {memory_type_bits:#b}",
                object.memory_type_index
            ));
        }
        let (exported, imported) = (object.export_handle_types, object.import_handle_type);
        if exported != 0 && exported & resource.external == 0 {
            return Some(format!(
                "was created for external memory of types {:#x}, its memory for {exported:#x}",
                resource.external
            ));
        }
        if imported & !resource.external != 0 {
            return Some(format!(
                "was created for external memory of types {:#x}, its memory is imported as {imported:#x}",
                resource.external
            ));
        }
        match object.dedicated {
            None if requires_dedicated => Some("requires dedicated memory".into()),
            Some(other) if other != target => {
                Some(format!("the memory is dedicated to another resource, {other:?}"))
            }
            Some(_) if offset != 0 || object.size != size => Some(format!(
                "dedicated memory of {} at {offset}, not of exactly {size} at 0",
                bytes(object.size)
            )),
            _ => None,
        }
    }

    fn requirements<S>(&self, call: Call, resources: &Table<S>, handle: u64) -> MemoryRequirements {
        // Cannot fail: it is only counted.
        let _ = self.device.enter(call);
        let found = resources.lock().get(handle).map(|resource| resource.requirements);
        found.unwrap_or_else(|what| {
            self.device.report_violation(call, format!("{handle:#x}: {what}"));
            NO_REQUIREMENTS
        })
    }

    fn destroy<S>(&self, call: Call, resources: &Table<S>, target: DedicatedTarget) {
        let (DedicatedTarget::Buffer(handle) | DedicatedTarget::Image(handle)) = target;
        // Cannot fail: it is only counted.
        let _ = self.device.enter(call);
        // Vulkan allows destroying null handles.
        if handle == 0 {
            return;
        }
        let removed = resources.lock().remove(handle);
        match removed {
            Ok(resource) => {
                if let Some(place) = resource.bound {
                    self.note_binding(target, place, resource.requirements.size, false);
                }
                // What it leaves is nobody's write.
                if self.watches() {
                    self.see_again(&resource.used());
                }
            }
            Err(what) => self.device.report_violation(call, format!("{handle:#x}: {what}")),
        }
    }
}

/// Returns the queue families that share a resource; none for an exclusive one.
///
/// # Safety
/// If the mode is `CONCURRENT`, there are as many indices as `count` says.
unsafe fn shared_by(mode: vk::SharingMode, indices: *const u32, count: u32) -> Vec<u32> {
    if mode != vk::SharingMode::CONCURRENT || indices.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller guarantees the indices.
    unsafe { std::slice::from_raw_parts(indices, count as usize) }.to_vec()
}

impl DeviceMemory for SimulatedDriver {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        let allocated = self.device.allocate_on(info, || self.imported(info));
        allocated.inspect_err(|error| self.faults.told(*error))
    }

    fn free(&self, memory: MemoryHandle) {
        self.end_watch(Call::Free, memory);
        self.device.free(memory);
        registry::forget_closed();
    }

    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError> {
        self.device.map(memory).inspect(|_| self.begin_watch(memory))
    }

    fn unmap(&self, memory: MemoryHandle) {
        self.end_watch(Call::Unmap, memory);
        self.device.unmap(memory);
    }

    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.check_unbound_of(Call::Flush, ranges);
        self.device.flush(ranges)
    }

    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.check_unbound_of(Call::Invalidate, ranges);
        self.device.invalidate(ranges).inspect(|()| self.see_again(ranges))
    }

    fn may_stay_mapped(&self) -> bool {
        self.device.may_stay_mapped()
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        self.device.budget()
    }
}

impl Driver for SimulatedDriver {
    fn handles(&self) -> DeviceHandles {
        DeviceHandles::default()
    }

    fn extensions(&self) -> &[String] {
        &self.extensions
    }

    fn features(&self) -> &[String] {
        &self.features
    }

    fn bytes_of_a_region(&self) -> u64 {
        // A region takes 0.25 us, and a byte 0.64 ns: host memory is new to the process, too.
        256
    }

    fn queue_flags(&self) -> vk::QueueFlags {
        self.flags_of_queue()
    }

    fn image_granularity(&self) -> vk::Extent3D {
        let [width, height, depth] =
            [0, 1, 2].map(|at| self.granularity[at].load(Ordering::Relaxed));
        vk::Extent3D { width, height, depth }
    }

    fn external(&self) -> &dyn ExternalMemory {
        self
    }

    fn host_image_copy(&self) -> Option<&dyn HostImageCopy> {
        self.has_host_image_copy().then_some(self as &dyn HostImageCopy)
    }

    fn unflushed(&self, place: HostSide) -> Option<Range<u64>> {
        self.unflushed_at(place)
    }

    fn forget_unflushed(&self, range: MemoryRange) {
        self.device.forget_unflushed(range);
    }

    fn is_known_lost(&self) -> bool {
        self.faults.is_lost()
    }

    fn is_lost(&self) -> Result<bool, CallError> {
        Ok(self.is_lost_or_said_so())
    }

    unsafe fn fault_info(&self) -> Result<Option<FaultInfo>, CallError> {
        self.told_faults()
    }

    fn has_fault_reports(&self) -> bool {
        self.faults.log.is_some()
    }

    fn begin_binding_reports(&self) -> Result<(), CallError> {
        self.begin_reports();
        Ok(())
    }

    fn binding_log(&self) -> Option<&BindingLog> {
        self.faults.log.as_ref()
    }

    unsafe fn end_binding_reports(&self) {
        self.end_reports();
    }

    fn last_violation(&self) -> Option<String> {
        self.device.violations().pop()
    }

    fn sees_host_access(&self) -> bool {
        true
    }

    fn host_access(&self, range: MemoryRange, writes: bool) {
        self.check_host_access(range, writes);
    }

    fn begin_own_writes(&self, ranges: &[MemoryRange]) {
        self.begin_unwatched(ranges);
    }

    fn end_own_writes(&self, ranges: &[MemoryRange]) {
        self.end_unwatched(ranges);
    }

    fn set_poison_unmapped(&self, on: bool) -> bool {
        self.device.set_poison_unmapped(on);
        true
    }

    fn moved(&self, moves: &[(ResourceHandle, ResourceHandle)]) {
        self.note_moved(moves);
    }

    unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<vk::Buffer, DeviceError> {
        self.device.enter(Call::CreateBuffer)?;
        // SAFETY: the caller guarantees a valid chain.
        let (shape, requirements) = unsafe { self.buffer_shape(Call::CreateBuffer, info) }?;
        // SAFETY: the caller guarantees a valid chain.
        let external = unsafe { chain::external_types_of_buffer(info) }.unwrap_or(0);
        // SAFETY: the caller guarantees a valid create info.
        let families = unsafe {
            shared_by(info.sharing_mode, info.p_queue_family_indices, info.queue_family_index_count)
        };
        let handle = self.buffers.lock().insert(shape, requirements, external, families)?;
        Ok(vk::Buffer::from_raw(handle))
    }

    unsafe fn destroy_buffer(&self, buffer: vk::Buffer) {
        let target = DedicatedTarget::Buffer(buffer.as_raw());
        self.destroy(Call::DestroyBuffer, &self.buffers, target);
    }

    unsafe fn buffer_requirements(&self, buffer: vk::Buffer) -> MemoryRequirements {
        self.requirements(Call::BufferRequirements, &self.buffers, buffer.as_raw())
    }

    unsafe fn buffer_requirements_of_info(
        &self,
        info: &vk::BufferCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError> {
        let call = Call::BufferRequirementsOfInfo;
        self.device.enter(call)?;
        // SAFETY: the caller guarantees a valid chain.
        unsafe { self.buffer_shape(call, info) }.map(|(_, requirements)| requirements)
    }

    unsafe fn bind_buffer(
        &self,
        buffer: vk::Buffer,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        let handle = buffer.as_raw();
        let target = DedicatedTarget::Buffer(handle);
        self.bind(Call::BindBuffer, &self.buffers, handle, target, (memory, offset))
    }

    unsafe fn bind_buffer_with(
        &self,
        buffer: vk::Buffer,
        memory: MemoryHandle,
        offset: u64,
        _next: usize,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller fulfils the contract of this method, which includes that of the called one.
        unsafe { self.bind_buffer(buffer, memory, offset) }
    }

    fn image_format_properties(&self, kind: &ImageFormatInfo) -> ImageSupport {
        // Cannot fail: it is only counted.
        let _ = self.device.enter(Call::ImageFormatProperties);
        self.image_support(kind)
    }

    fn format_features(
        &self,
        format: vk::Format,
        tiling: vk::ImageTiling,
    ) -> vk::FormatFeatureFlags {
        features(format, tiling, self.rules.has_desktop_formats)
    }

    unsafe fn create_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<vk::Image, DeviceError> {
        self.device.enter(Call::CreateImage)?;
        let (shape, mut requirements) = self.image_shape(Call::CreateImage, info)?;
        // SAFETY: the caller guarantees a valid chain.
        let external = unsafe { chain::external_types_of_image(info) }.unwrap_or(0);
        requirements.requires_dedicated |= self.shares_images_alone(info, external);
        // SAFETY: the caller guarantees a valid create info.
        let families = unsafe {
            shared_by(info.sharing_mode, info.p_queue_family_indices, info.queue_family_index_count)
        };
        let handle = self.images.lock().insert(shape, requirements, external, families)?;
        Ok(vk::Image::from_raw(handle))
    }

    unsafe fn destroy_image(&self, image: vk::Image) {
        let target = DedicatedTarget::Image(image.as_raw());
        self.destroy(Call::DestroyImage, &self.images, target);
    }

    unsafe fn image_requirements(&self, image: vk::Image) -> MemoryRequirements {
        self.requirements(Call::ImageRequirements, &self.images, image.as_raw())
    }

    unsafe fn subresource_layout(
        &self,
        image: vk::Image,
        subresource: vk::ImageSubresource,
    ) -> vk::SubresourceLayout {
        self.layout_of(image, &subresource)
    }

    unsafe fn image_requirements_of_info(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<MemoryRequirements, DeviceError> {
        let call = Call::ImageRequirementsOfInfo;
        self.device.enter(call)?;
        self.image_shape(call, info).map(|(_, requirements)| requirements)
    }

    unsafe fn plane_requirements(
        &self,
        image: vk::Image,
        plane: u32,
    ) -> Result<MemoryRequirements, DeviceError> {
        let call = Call::ImageRequirements;
        // Cannot fail: it is only counted.
        let _ = self.device.enter(call);
        let shape = self.images.lock().get(image.as_raw()).map(|found| found.shape);
        let found = shape.and_then(|shape| self.rules.plane(self.device.info(), &shape, plane));
        found.map_err(|what| {
            self.device.report_violation(call, format!("{:#x}: {what}", image.as_raw()));
            VALIDATION_FAILED
        })
    }

    unsafe fn bind_planes(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        planes: &[(u32, u64)],
    ) -> Result<(), DeviceError> {
        let call = Call::BindImage;
        let ranges: Vec<_> = planes
            .iter()
            .map(|(_, offset)| MemoryRange { memory, offset: *offset, size: 0 })
            .collect();
        self.device.enter_about(call, &ranges)?;
        let mut images = self.images.lock();
        let bound = images.get_mut(image.as_raw()).and_then(|resource| {
            self.bind_planes_of(resource, memory, planes)?;
            Ok(resource.bound.map(|place| (place, resource.requirements.size)))
        });
        drop(images);
        let whole = bound.map_err(|what| {
            self.device.report_violation(call, format!("{:#x}: {what}", image.as_raw()));
            VALIDATION_FAILED
        })?;
        if let Some((place, size)) = whole {
            self.note_binding(DedicatedTarget::Image(image.as_raw()), place, size, true);
        }
        Ok(())
    }

    unsafe fn bind_image(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        offset: u64,
    ) -> Result<(), DeviceError> {
        let handle = image.as_raw();
        let shape = self.images.lock().get(handle).ok().map(|found| found.shape);
        let disjoint = shape.filter(|it| it.flags.contains(vk::ImageCreateFlags::DISJOINT));
        if let Some(shape) = disjoint {
            let count = format::planes(shape.format).len() as u32;
            let info = self.device.info();
            let planes: Result<Vec<_>, _> =
                (0..count).map(|plane| self.rules.plane(info, &shape, plane)).collect();
            let offsets = combined_requirements(&planes.unwrap_or_default()).1;
            let places: Vec<_> = (0..count).zip(offsets.iter().map(|it| offset + it)).collect();
            // SAFETY: the caller fulfils the contract of this method, which includes that of the called
            // one.
            return unsafe { self.bind_planes(image, memory, &places) };
        }
        let target = DedicatedTarget::Image(handle);
        self.bind(Call::BindImage, &self.images, handle, target, (memory, offset))
    }

    unsafe fn bind_image_with(
        &self,
        image: vk::Image,
        memory: MemoryHandle,
        offset: u64,
        _next: usize,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller fulfils the contract of this method, which includes that of the called one.
        unsafe { self.bind_image(image, memory, offset) }
    }

    unsafe fn buffer_device_address(&self, buffer: vk::Buffer) -> Option<u64> {
        let enabled = self.extensions.iter().any(|it| it == "VK_KHR_buffer_device_address");
        let buffers = self.buffers.lock();
        let (memory, offset) = buffers.get(buffer.as_raw()).ok()?.bound?;
        enabled.then_some(address_of(memory) + offset)
    }

    unsafe fn set_memory_priority(&self, memory: MemoryHandle, _priority: f32) -> bool {
        let known = self.device.memory(memory).is_some();
        known && self.extensions.iter().any(|it| it == "VK_EXT_pageable_device_local_memory")
    }

    unsafe fn submit(&self, commands: &[TransferCommand]) -> Result<Submission, CallError> {
        self.under_owners_lock(|| self.submit_commands(commands))
    }

    unsafe fn record(
        &self,
        command_buffer: vk::CommandBuffer,
        commands: &[TransferCommand],
    ) -> Result<(), CallError> {
        self.record_into(command_buffer, commands)
    }

    fn transfer_queue(&self) -> Option<TransferQueue> {
        self.second_queue
    }

    unsafe fn submit_to_transfer_queue(
        &self,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, CallError> {
        self.under_owners_lock(|| match self.second_queue {
            Some(queue) if queue.can_do_all(commands) => self.submit_to_second(commands, exclusive),
            _ => self.submit_commands(commands),
        })
    }

    fn wait(&self, submission: Submission, timeout_ns: u64) -> Result<bool, CallError> {
        self.wait_for(submission, timeout_ns)
    }

    fn is_done(&self, submission: Submission) -> Result<bool, CallError> {
        if submission != Submission::NONE {
            self.check_not_lost("vkGetSemaphoreCounterValue")?;
        }
        Ok(self.has_ended(submission))
    }

    fn ends_by_itself(&self) -> bool {
        self.submissions.state.lock().completion == Completion::AtOnce
    }
}
