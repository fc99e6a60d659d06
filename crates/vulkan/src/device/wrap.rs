//! Wraps handles that a program has made itself.

use std::sync::Arc;

use ash::vk::{self, Handle};

use crate::device::callbacks::AllocationCallbacks;
use crate::device::logical::LogicalDevice;
use crate::device::vulkan_device::{Parts, VulkanDevice};
use crate::driver::submission::QueueLock;
use crate::instance::capabilities::Capabilities;
use crate::instance::extensions::{
    BUFFER_DEVICE_ADDRESS, DEVICE_COHERENT_MEMORY, TIMELINE_SEMAPHORE,
};
use crate::instance::info::summarise;
use crate::instance::loader::Loader;
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::{Instance, checked_version};

/// A caller's device. What is not said to be enabled is not used.
#[derive(Clone, Debug, Default)]
pub struct WrapOptions {
    /// `VkInstance`
    pub instance: u64,
    /// `VkPhysicalDevice`
    pub physical_device: u64,
    /// `VkDevice`
    pub device: u64,
    /// The `apiVersion` that the instance was created with (`VK_MAKE_API_VERSION`), or less.
    /// Versions that are newer than this library are as good as those it knows.
    pub api_version: u32,
    /// Names of the extensions that are enabled, those of the device and those of the instance.
    pub extensions: Vec<String>,
    /// `VkQueue` for transfers, with graphics, compute or transfer; 0 for none. The owner does not
    /// submit to it during a submission of this library.
    pub queue: u64,
    /// Of that queue.
    pub queue_family_index: u32,
    /// Held around each submission, where the owner submits to the queue from other threads.
    pub queue_lock: Option<Arc<dyn QueueLock>>,
    /// Address of the `vkGetInstanceProcAddr` that the instance comes from; 0 for the one of the
    /// system's loader.
    pub get_instance_proc_addr: u64,
    /// The feature `bufferDeviceAddress` is enabled. Also follows from
    /// `VK_KHR_buffer_device_address` in the list.
    pub buffer_device_address: bool,
    /// The feature `deviceCoherentMemory` is enabled. Also follows from
    /// `VK_AMD_device_coherent_memory` in the list.
    pub amd_device_coherent: bool,
    /// For what is made from the device.
    pub allocation_callbacks: Option<AllocationCallbacks>,
}

impl VulkanDevice {
    /// Wraps a caller's device, which stays the caller's.
    ///
    /// # Safety
    /// The handles are null or live, belong together and outlive the result; the version, the
    /// extensions and the features are those they were created with; the address is zero or that
    /// of their `vkGetInstanceProcAddr`.
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
        // SAFETY: the caller vouches for the address.
        let loader = unsafe { Loader::of_caller(options.get_instance_proc_addr) }?;
        let handle = vk::Instance::from_raw(options.instance);
        let physical_device = vk::PhysicalDevice::from_raw(options.physical_device);
        // SAFETY: the caller vouches for the instance, its version and its extensions.
        let instance =
            unsafe { Instance::load(loader, handle, api_version, options.extensions.clone()) }?;
        // SAFETY: the caller vouches that the device is of this instance.
        let info = unsafe { summarise(&instance, physical_device) }?.info;
        // SAFETY: as above.
        let logical = unsafe {
            let device = vk::Device::from_raw(options.device);
            LogicalDevice::load(&instance, device, false, options.allocation_callbacks)
        }?;
        let capabilities = Capabilities::new(
            info.api_version,
            &options.extensions,
            options.buffer_device_address,
            options.amd_device_coherent,
        );
        let mut features = Vec::new();
        for (is_on, name) in [
            (capabilities.device_address, BUFFER_DEVICE_ADDRESS),
            (capabilities.timeline_semaphore, TIMELINE_SEMAPHORE),
            (capabilities.amd_device_coherent, DEVICE_COHERENT_MEMORY),
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
        };
        // SAFETY: the caller vouches for all of them.
        unsafe { Self::assemble(parts) }
    }
}
