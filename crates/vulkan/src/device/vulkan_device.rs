//! [`VulkanDevice`]: a real Vulkan device and its memory.

use std::ffi::{CStr, c_void};
use std::num::NonZeroUsize;
use std::ptr;
use std::sync::Arc;

use ash::vk::{self, Handle};
use vkmem_engine::{
    DedicatedTarget, DeviceError, DeviceInfo, DeviceMemory, DriverBudget, HostAddress,
    MemoryAllocateInfo, MemoryHandle, MemoryRange,
};

use crate::device::external_functions::{ExternalFunctions, ImportChain};
use crate::device::faults::{BindingReports, Faults};
use crate::device::host_images::HostImages;
use crate::device::logical::{LogicalDevice, check, device_function, memory};
use crate::device::memory_locks::MemoryLocks;
use crate::device::submission::Submissions;
use crate::device::transfer_submission::SecondQueue;
use crate::driver::chain;
use crate::driver::disjoint::DisjointImages;
use crate::driver::submission::QueueLock;
use crate::driver::transfer_queue::TransferQueue;
use crate::instance::budget::read_budget;
use crate::instance::capabilities::{
    Capabilities, PAGEABLE, device_address_provider, provider, timeline_provider,
};
use crate::instance::extensions::DEVICE_FAULT;
use crate::instance::functions::{
    Bind2Functions, DeviceAddressFunctions, FaultFunctions, Maintenance4Functions,
    PageableFunctions, Provider, Requirements2Functions, SemaphoreFunctions, TimelineFunctions,
    TimelineWaits,
};
use crate::instance::info::queue_abilities;
use crate::instance::open_error::OpenError;
use crate::instance::validation::ValidationLog;
use crate::instance::vulkan_instance::Instance;

/// A Vulkan device: opened by this library, or wrapped around a caller's handles.
///
/// Uses only the functions of its API version and its enabled extensions.
///
/// Dropping an opened one destroys the device and the instance; everything created from them must be
/// destroyed before. Dropping a wrapped one leaves the caller's handles alone.
pub struct VulkanDevice {
    pub(crate) info: DeviceInfo,
    pub(crate) capabilities: Capabilities,
    /// `vkGetBufferMemoryRequirements2` and the like, with dedicated requirements.
    pub(crate) requirements2: Option<Requirements2Functions>,
    /// `vkBindImageMemory2`.
    pub(crate) bind2: Option<Bind2Functions>,
    /// `vkGetDeviceBufferMemoryRequirements` and the like.
    pub(crate) maintenance4: Option<Maintenance4Functions>,
    /// `vkGetBufferDeviceAddress`.
    pub(crate) device_address: Option<DeviceAddressFunctions>,
    /// `vkSetDeviceMemoryPriorityEXT`.
    pub(crate) pageable: Option<PageableFunctions>,
    /// `vkCopyMemoryToImage` and the like.
    pub(crate) host_images: Option<HostImages>,
    /// `vkGetMemoryFdKHR` and the like.
    pub(crate) external: ExternalFunctions,
    pub(crate) physical_device: vk::PhysicalDevice,
    pub(crate) extensions: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) submissions: Submissions,
    pub(crate) second_queue: Option<SecondQueue>,
    /// What the queue can do, and the granularity of its copies of images; nothing without a queue.
    pub(crate) queue_abilities: (vk::QueueFlags, vk::Extent3D),
    /// Why the device was lost.
    pub(crate) faults: Faults,
    pub(crate) memory_locks: MemoryLocks,
    pub(crate) disjoint: DisjointImages,
    // In this order: the device is dropped before its instance.
    pub(crate) logical: LogicalDevice,
    pub(crate) instance: Instance,
}

/// The parts of a device that `open` and `wrap` prepare.
pub(crate) struct Parts {
    // In this order, as in `VulkanDevice`.
    pub(crate) logical: LogicalDevice,
    pub(crate) instance: Instance,
    pub(crate) physical_device: vk::PhysicalDevice,
    pub(crate) info: DeviceInfo,
    pub(crate) extensions: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) capabilities: Capabilities,
    pub(crate) queue: vk::Queue,
    pub(crate) queue_family_index: u32,
    /// The lock of the other code that submits to the queue of a wrapped device.
    pub(crate) queue_lock: Option<Arc<dyn QueueLock>>,
    pub(crate) transfer_queue: Option<TransferQueueParts>,
    /// Whether what is needed to explain faults is kept.
    pub(crate) fault_reports: bool,
}

/// A second queue that `open` and `wrap` prepare.
pub(crate) struct TransferQueueParts {
    pub(crate) queue: vk::Queue,
    pub(crate) family_index: u32,
    pub(crate) family: vk::QueueFamilyProperties,
    /// The lock of the other code that submits to it.
    pub(crate) lock: Option<Arc<dyn QueueLock>>,
}

impl VulkanDevice {
    /// Loads the optional functions and combines the parts.
    ///
    /// # Safety
    /// The handles are live and belong together; the capabilities are those of the device.
    pub(crate) unsafe fn assemble(parts: Parts) -> Result<Self, OpenError> {
        let Parts { instance, logical, physical_device, mut info, extensions, features, .. } =
            parts;
        let capabilities = parts.capabilities;
        info.amd_device_coherent = capabilities.amd_device_coherent;
        // SAFETY: the caller guarantees a valid device.
        let find = |name: &CStr| unsafe { device_function(&instance, logical.handle, name) };
        let mut requirements2 = None;
        if let Some(name) = capabilities.dedicated {
            // SAFETY: `find` returns the function of the name.
            requirements2 = Some(unsafe { Requirements2Functions::load(provider(name), &find) }?);
        }
        let mut bind2 = None;
        if let Some(name) = capabilities.bind2 {
            // SAFETY: `find` returns the function of the name.
            bind2 = Some(unsafe { Bind2Functions::load(provider(name), &find) }?);
        }
        let mut maintenance4 = None;
        if let Some(name) = capabilities.maintenance4 {
            // SAFETY: `find` returns the function of the name.
            maintenance4 = Some(unsafe { Maintenance4Functions::load(provider(name), &find) }?);
        }
        let mut device_address = None;
        if capabilities.device_address {
            let provider = device_address_provider(info.api_version);
            // SAFETY: `find` returns the function of the name.
            device_address = Some(unsafe { DeviceAddressFunctions::load(provider, &find) }?);
        }
        let mut pageable = None;
        if capabilities.pageable {
            // SAFETY: `find` returns the function of the name.
            pageable = Some(unsafe { PageableFunctions::load(provider(PAGEABLE), &find) }?);
        }
        let mut faults = Faults::new(parts.fault_reports);
        if capabilities.device_fault {
            let provider = Provider::extension(DEVICE_FAULT);
            // SAFETY: `find` returns the function of the name.
            faults.functions = Some(unsafe { FaultFunctions::load(provider, &find) }?);
        }
        if capabilities.address_binding_report && parts.fault_reports {
            // SAFETY: the caller guarantees a valid instance, which has the extension.
            faults.bindings = Some(BindingReports::new(unsafe { instance.debug_utils() }?));
        }
        let mut timeline = None;
        if capabilities.timeline_semaphore {
            let provider = timeline_provider(info.api_version);
            // SAFETY: `find` returns the function of the name.
            let semaphores = unsafe { SemaphoreFunctions::load(Provider::VULKAN_1_0, &find) }?;
            // SAFETY: `find` returns the function of the name.
            let waits = unsafe { TimelineWaits::load(provider, &find) }?;
            timeline = Some(TimelineFunctions { semaphores, waits });
        }
        let mut host_images = None;
        if let (true, Some(properties)) =
            (capabilities.host_image_copy, instance.properties2(info.api_version))
        {
            // SAFETY: `find` returns the function of the name; the physical device belongs to this instance.
            host_images =
                Some(unsafe { HostImages::load(&extensions, properties, physical_device, &find) }?);
        }
        // SAFETY: `find` returns the function of the name; the physical device belongs to this instance.
        let external = unsafe {
            ExternalFunctions::load(&instance, physical_device, &info, &extensions, &find)
        }?;
        let queue_abilities = if parts.queue == vk::Queue::null() {
            (vk::QueueFlags::empty(), vk::Extent3D::default())
        } else {
            // SAFETY: the caller guarantees that the physical device belongs to this instance.
            unsafe { queue_abilities(&instance, physical_device, parts.queue_family_index) }
        };
        let mut second_queue = None;
        if let Some(TransferQueueParts { queue, family_index, family, lock }) = parts.transfer_queue
        {
            let is_listed = |name: &str| extensions.iter().any(|it| it == name);
            let of = TransferQueue {
                family_index,
                main_family_index: parts.queue_family_index,
                flags: family.queue_flags,
                granularity: family.min_image_transfer_granularity,
                fills: info.api_version >= vk::API_VERSION_1_1 || is_listed("VK_KHR_maintenance1"),
                buffers_have_no_owner: features.iter().any(|it| it == "maintenance9"),
            };
            // SAFETY: `find` returns the function of the name.
            let semaphores = unsafe { SemaphoreFunctions::load(Provider::VULKAN_1_0, &find) }?;
            second_queue = Some(SecondQueue { queue, of, owners_lock: lock, semaphores });
        }
        Ok(Self {
            info,
            capabilities,
            requirements2,
            bind2,
            maintenance4,
            device_address,
            pageable,
            host_images,
            external,
            physical_device,
            extensions,
            features,
            submissions: Submissions::new(
                parts.queue,
                parts.queue_family_index,
                timeline,
                parts.queue_lock,
            ),
            second_queue,
            queue_abilities,
            faults,
            memory_locks: MemoryLocks::default(),
            disjoint: DisjointImages::default(),
            logical,
            instance,
        })
    }

    /// Returns whether the device was opened here and is destroyed with this value.
    pub fn is_owned(&self) -> bool {
        self.logical.owned
    }

    /// Returns whether memory is addressable by shaders (`bufferDeviceAddress`).
    pub fn buffer_device_address(&self) -> bool {
        self.capabilities.device_address
    }

    /// Returns the names of the enabled instance extensions. For a wrapped device, all that its caller
    /// listed: instance and device extensions are one list there.
    pub fn instance_extensions(&self) -> &[String] {
        &self.instance.extensions
    }

    /// Returns the messages of the validation layer, if it is enabled.
    pub fn validation_log(&self) -> Option<ValidationLog> {
        self.instance.validation.clone()
    }

    fn mapped_ranges(ranges: &[MemoryRange]) -> Vec<vk::MappedMemoryRange<'static>> {
        ranges
            .iter()
            .map(|range| {
                vk::MappedMemoryRange::default()
                    .memory(memory(range.memory))
                    .offset(range.offset)
                    .size(range.size)
            })
            .collect()
    }
}

impl Drop for VulkanDevice {
    fn drop(&mut self) {
        // A wrapped device may be gone by now.
        if self.logical.owned {
            // SAFETY: the device and the instance are live until their fields are dropped, after this.
            unsafe {
                self.submissions.release(&self.logical);
                self.faults.end_all(self.instance.handle);
            }
        }
    }
}

impl DeviceMemory for VulkanDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn names_resources(&self) -> bool {
        self.capabilities.dedicated.is_some()
    }

    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        let mut allocate_info = vk::MemoryAllocateInfo::default()
            .allocation_size(info.size)
            .memory_type_index(info.memory_type_index);
        // A structure that the caller's chain has is not added again.
        // SAFETY: the engine passes the caller's chain on unchanged.
        let is_free = |of_type| info.next == 0 || !unsafe { chain::has(info.next, of_type) };
        let mut dedicated = vk::MemoryDedicatedAllocateInfo::default();
        if let (Some(target), Some(_)) = (info.dedicated, self.capabilities.dedicated)
            && is_free(vk::StructureType::MEMORY_DEDICATED_ALLOCATE_INFO)
        {
            dedicated = match target {
                DedicatedTarget::Buffer(buffer) => dedicated.buffer(vk::Buffer::from_raw(buffer)),
                DedicatedTarget::Image(image) => dedicated.image(vk::Image::from_raw(image)),
            };
            allocate_info = allocate_info.push_next(&mut dedicated);
        }
        // On all memory: which buffers will be bound to a block is not known yet.
        let mut flags =
            vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        if self.capabilities.device_address
            && is_free(vk::StructureType::MEMORY_ALLOCATE_FLAGS_INFO)
        {
            allocate_info = allocate_info.push_next(&mut flags);
        }
        let mut priority = vk::MemoryPriorityAllocateInfoEXT::default();
        if let (Some(value), true) = (info.priority, self.capabilities.memory_priority)
            && is_free(vk::StructureType::MEMORY_PRIORITY_ALLOCATE_INFO_EXT)
        {
            priority = priority.priority(value);
            allocate_info = allocate_info.push_next(&mut priority);
        }
        let mut export = vk::ExportMemoryAllocateInfo::default();
        // A structure in the caller's chain has all requested handle types.
        if info.export_handle_types != 0 && is_free(vk::StructureType::EXPORT_MEMORY_ALLOCATE_INFO)
        {
            let types = info.export_handle_types;
            export = export.handle_types(vk::ExternalMemoryHandleTypeFlags::from_raw(types));
            allocate_info = allocate_info.push_next(&mut export);
        }
        let mut import = ImportChain::new(info.import)?;
        allocate_info = import.link(allocate_info);
        // The caller's chain comes last, unchanged.
        let own = allocate_info.p_next;
        if own.is_null() {
            allocate_info.p_next = info.next as *const c_void;
        } else if info.next != 0 {
            // SAFETY: the structures of the chain so far are the local ones above.
            unsafe { chain::append(own.cast_mut().cast(), info.next as *mut c_void) };
        }
        let mut memory = vk::DeviceMemory::null();
        // SAFETY: the device is live; the chain lives for the call and has only structures of enabled
        // extensions, and those that the caller guarantees.
        check(unsafe {
            (self.logical.functions.allocate_memory)(
                self.logical.handle,
                &allocate_info,
                self.logical.callbacks(),
                &mut memory,
            )
        })
        .inspect_err(|error| self.faults.note(*error))?;
        import.taken();
        Ok(MemoryHandle(memory.as_raw()))
    }

    fn free(&self, handle: MemoryHandle) {
        // SAFETY: the engine frees each handle once and does not use it afterwards.
        unsafe {
            let (free, device) = (self.logical.functions.free_memory, self.logical.handle);
            free(device, memory(handle), self.logical.callbacks());
        }
    }

    fn map(&self, handle: MemoryHandle) -> Result<HostAddress, DeviceError> {
        let mut address: *mut c_void = ptr::null_mut();
        let _lock = self.memory_locks.alone(handle);
        // SAFETY: the engine maps only live, host-visible memory that is not mapped yet.
        check(unsafe {
            (self.logical.functions.map_memory)(
                self.logical.handle,
                memory(handle),
                0,
                vk::WHOLE_SIZE,
                vk::MemoryMapFlags::empty(),
                &mut address,
            )
        })?;
        // Exposed provenance: the number becomes a pointer again where the host reads and writes.
        NonZeroUsize::new(address.expose_provenance())
            .map(HostAddress)
            .ok_or(DeviceError::MemoryMapFailed)
    }

    fn unmap(&self, handle: MemoryHandle) {
        let _lock = self.memory_locks.alone(handle);
        // SAFETY: the engine unmaps only live memory that is mapped.
        unsafe { (self.logical.functions.unmap_memory)(self.logical.handle, memory(handle)) };
    }

    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        let ranges = Self::mapped_ranges(ranges);
        let Some(count) = range_count(&ranges) else { return Ok(()) };
        // SAFETY: the engine passes ranges of live, mapped memory that are rounded already.
        check(unsafe {
            (self.logical.functions.flush_mapped_memory_ranges)(
                self.logical.handle,
                count,
                ranges.as_ptr(),
            )
        })
    }

    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        let ranges = Self::mapped_ranges(ranges);
        let Some(count) = range_count(&ranges) else { return Ok(()) };
        // SAFETY: the engine passes ranges of live, mapped memory that are rounded already.
        check(unsafe {
            (self.logical.functions.invalidate_mapped_memory_ranges)(
                self.logical.handle,
                count,
                ranges.as_ptr(),
            )
        })
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        if !self.capabilities.memory_budget {
            return None;
        }
        let functions = self.instance.properties2(self.info.api_version)?;
        // SAFETY: the physical device is live, and the extension is enabled.
        Some(unsafe { read_budget(functions, self.physical_device, self.info.heaps.len()) })
    }
}

/// Returns the number of ranges; `None` for an empty list, which Vulkan does not allow.
fn range_count(ranges: &[vk::MappedMemoryRange<'_>]) -> Option<u32> {
    u32::try_from(ranges.len()).ok().filter(|count| *count > 0)
}
