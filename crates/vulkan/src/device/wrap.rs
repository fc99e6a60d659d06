//! Wrapping a device that the program created itself.

use std::sync::Arc;

use ash::vk::{self, Handle};

use crate::device::callbacks::AllocationCallbacks;
use crate::device::logical::LogicalDevice;
use crate::device::vulkan_device::{Parts, TransferQueueParts, VulkanDevice};
use crate::driver::submission::QueueLock;
use crate::instance::capabilities::Capabilities;
use crate::instance::extensions::{
    BUFFER_DEVICE_ADDRESS, DEBUG_UTILS, DEVICE_COHERENT_MEMORY, DEVICE_FAULT_FEATURE,
    HOST_IMAGE_COPY, REPORT_ADDRESS_BINDING, TIMELINE_SEMAPHORE, has,
};
use crate::instance::info::{all_flags, queue_families, summarise};
use crate::instance::loader::Loader;
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::{Instance, checked_version};

/// A caller's device. Only what is listed here as enabled is used.
#[derive(Clone, Debug, Default)]
pub struct WrapOptions {
    /// `VkInstance`
    pub instance: u64,
    /// `VkPhysicalDevice`
    pub physical_device: u64,
    /// `VkDevice`
    pub device: u64,
    /// The `apiVersion` that the instance was created with (`VK_MAKE_API_VERSION`), or less. Versions
    /// newer than this library are accepted.
    pub api_version: u32,
    /// Names of the enabled extensions of device and instance.
    pub extensions: Vec<String>,
    /// A `VkQueue` with graphics, compute or transfer, for transfers; 0 for none. The owner must not
    /// submit to it during a submission of this library.
    pub queue: u64,
    /// Family of that queue.
    pub queue_family_index: u32,
    /// Lock that is held around each submission, if the owner submits to the queue from other threads.
    pub queue_lock: Option<Arc<dyn QueueLock>>,
    /// A second queue with transfer, for copies beside the work of the first one; `None` for none.
    pub transfer_queue: Option<WrappedTransferQueue>,
    /// Address of the `vkGetInstanceProcAddr` that the instance comes from; 0 for that of the system's
    /// loader.
    pub get_instance_proc_addr: u64,
    /// Whether the feature `bufferDeviceAddress` is enabled. Implied by `VK_KHR_buffer_device_address` in
    /// the list.
    pub buffer_device_address: bool,
    /// Whether the feature `deviceCoherentMemory` is enabled. Implied by `VK_AMD_device_coherent_memory`
    /// in the list.
    pub amd_device_coherent: bool,
    /// Host memory callbacks for objects of the device.
    pub allocation_callbacks: Option<AllocationCallbacks>,
    /// Whether to keep what is needed to explain faults, as in [`OpenOptions`](crate::OpenOptions). Bindings of
    /// addresses are noted if `VK_EXT_device_address_binding_report` and `VK_EXT_debug_utils` are in the list.
    pub fault_reports: bool,
}

/// The second queue of a caller's device.
#[derive(Clone, Debug)]
pub struct WrappedTransferQueue {
    /// A `VkQueue` other than the first one. The owner must not submit to it during a submission of this
    /// library.
    pub queue: u64,
    /// Its family.
    pub family_index: u32,
    /// Lock that is held around submissions to it, if the owner submits to it from other threads. It may be the
    /// lock of the first queue; otherwise that one is taken first, and both are held.
    pub lock: Option<Arc<dyn QueueLock>>,
}

impl WrappedTransferQueue {
    /// Returns the parts for a device that has these families.
    ///
    /// # Errors
    /// [`OpenError::TransferQueue`]
    fn checked(
        self,
        queue: u64,
        families: &[vk::QueueFamilyProperties],
    ) -> Result<TransferQueueParts, OpenError> {
        let refused = |why: String| Err(OpenError::TransferQueue { why });
        let index = self.family_index;
        let Some(family) = families.get(index as usize) else {
            let count = families.len();
            return refused(format!(
                "the device has {count} queue families, so none of index {index}"
            ));
        };
        if !all_flags(family).contains(vk::QueueFlags::TRANSFER) {
            let flags = family.queue_flags;
            return refused(format!("queue family {index} cannot copy: it has {flags:?}"));
        }
        if queue == 0 {
            return refused("it stands beside the main queue, which is missing".to_owned());
        }
        if self.queue == 0 || self.queue == queue {
            let what = if self.queue == 0 { "null" } else { "the main queue itself" };
            return refused(format!("it is {what}"));
        }
        Ok(TransferQueueParts {
            queue: vk::Queue::from_raw(self.queue),
            family_index: index,
            family: *family,
            lock: self.lock,
        })
    }
}

impl VulkanDevice {
    /// Wraps a caller's device, which stays the caller's.
    ///
    /// # Errors
    /// An [`OpenError`] if a handle is null or a function is missing.
    ///
    /// # Safety
    /// The handles are null or live, belong together and outlive the result; the version, the extensions
    /// and the features are those they were created with; the address is 0 or that of their
    /// `vkGetInstanceProcAddr`.
    pub unsafe fn wrap(options: WrapOptions) -> Result<Self, OpenError> {
        for (handle, what) in [
            (options.instance, "the instance"),
            (options.physical_device, "the physical device"),
            (options.device, "the device"),
        ] {
            if handle == 0 {
                return Err(OpenError::NullHandle { what });
            }
        }
        let api_version = checked_version(options.api_version)?;
        // SAFETY: the caller guarantees a valid address.
        let loader = unsafe { Loader::of_caller(options.get_instance_proc_addr) }?;
        let handle = vk::Instance::from_raw(options.instance);
        let physical_device = vk::PhysicalDevice::from_raw(options.physical_device);
        // SAFETY: the caller guarantees a valid instance, its version and its extensions.
        let instance =
            unsafe { Instance::load(loader, handle, api_version, options.extensions.clone()) }?;
        // SAFETY: the caller guarantees that the device belongs to this instance.
        let info = unsafe { summarise(&instance, physical_device) }?.info;
        let mut transfer_queue = None;
        if let Some(wrapped) = options.transfer_queue {
            // SAFETY: the caller guarantees that the device belongs to this instance.
            let families = unsafe { queue_families(&instance, physical_device) };
            transfer_queue = Some(wrapped.checked(options.queue, &families)?);
        }
        // SAFETY: the caller guarantees that the device belongs to this instance.
        let logical = unsafe {
            let device = vk::Device::from_raw(options.device);
            LogicalDevice::load(&instance, device, false, options.allocation_callbacks)
        }?;
        let mut capabilities = Capabilities::new(
            info.api_version,
            &options.extensions,
            options.buffer_device_address,
            options.amd_device_coherent,
        );
        capabilities.address_binding_report &= has(&options.extensions, DEBUG_UTILS);
        let mut features = Vec::new();
        for (is_on, name) in [
            (capabilities.device_address, BUFFER_DEVICE_ADDRESS),
            (capabilities.timeline_semaphore, TIMELINE_SEMAPHORE),
            (capabilities.amd_device_coherent, DEVICE_COHERENT_MEMORY),
            (capabilities.host_image_copy, HOST_IMAGE_COPY),
            (capabilities.device_fault, DEVICE_FAULT_FEATURE),
            (capabilities.address_binding_report, REPORT_ADDRESS_BINDING),
        ] {
            if is_on {
                features.push(name.to_owned());
            }
        }
        let parts = Parts {
            instance,
            logical,
            physical_device,
            info,
            extensions: options.extensions,
            features,
            capabilities,
            queue: vk::Queue::from_raw(options.queue),
            queue_family_index: options.queue_family_index,
            queue_lock: options.queue_lock,
            transfer_queue,
            fault_reports: options.fault_reports,
        };
        // SAFETY: the caller guarantees that all parts are valid and belong together.
        unsafe { Self::assemble(parts) }
    }
}
