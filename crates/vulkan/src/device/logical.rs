//! A `VkDevice` with its functions, and what its calls take and answer.

use std::ffi::CStr;
use std::ptr;

use ash::vk::{self, Handle};
use vkmem_engine::{DeviceError, MemoryHandle};

use crate::device::callbacks::AllocationCallbacks;
use crate::instance::functions::{DeviceFunctions, Provider};
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::Instance;

/// A `VkDevice` and its functions. Destroys the device if it was opened here.
pub(crate) struct LogicalDevice {
    pub(crate) handle: vk::Device,
    pub(crate) functions: DeviceFunctions,
    /// Opened here, so it lives as long as this. One that is wrapped may end at any time between
    /// two calls.
    pub(crate) owned: bool,
    /// For what is made from the device.
    callbacks: Option<AllocationCallbacks>,
}

impl LogicalDevice {
    /// What goes with each call that creates or destroys something of the device.
    #[inline]
    pub(crate) fn callbacks(&self) -> *const vk::AllocationCallbacks<'static> {
        self.callbacks.as_ref().map_or(ptr::null(), |callbacks| &raw const callbacks.0)
    }

    /// # Safety
    /// The device is live and of this instance; if owned, it is no one else's.
    pub(crate) unsafe fn load(
        instance: &Instance,
        handle: vk::Device,
        owned: bool,
        callbacks: Option<AllocationCallbacks>,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller vouches for the device, and `device_function` returns the function it
        // is asked for.
        let functions = unsafe {
            DeviceFunctions::load(Provider::VULKAN_1_0, &|name| {
                device_function(instance, handle, name)
            })
        };
        match functions {
            Ok(functions) => Ok(Self { handle, functions, owned, callbacks }),
            Err(error) => {
                if owned {
                    // SAFETY: as above; nothing was made from the device yet.
                    unsafe { Self::destroy_unloaded(instance, handle) };
                }
                Err(error)
            }
        }
    }

    /// Destroys a device whose functions are not all there.
    ///
    /// # Safety
    /// The device is live, of this instance, and no one else's.
    unsafe fn destroy_unloaded(instance: &Instance, handle: vk::Device) {
        // SAFETY: the caller vouches for the device.
        let function = unsafe { device_function(instance, handle, c"vkDestroyDevice") };
        if let Some(function) = function {
            // SAFETY: the type is that of the function of this name.
            let destroy = unsafe {
                std::mem::transmute::<unsafe extern "system" fn(), vk::PFN_vkDestroyDevice>(
                    function,
                )
            };
            // SAFETY: the caller vouches for the device.
            unsafe { destroy(handle, ptr::null()) };
        }
    }
}

impl Drop for LogicalDevice {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: ours, and this is its end.
            unsafe { (self.functions.destroy_device)(self.handle, ptr::null()) };
        }
    }
}

/// # Safety
/// The device is live and of this instance.
pub(crate) unsafe fn device_function(
    instance: &Instance,
    device: vk::Device,
    name: &CStr,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller vouches for the device; the name ends with NUL.
    unsafe { (instance.functions.get_device_proc_addr)(device, name.as_ptr()) }
}

/// A `VkResult` as the engine knows it.
pub(crate) fn check(result: vk::Result) -> Result<(), DeviceError> {
    result.result().map_err(|error| DeviceError::from_vk_result(error.as_raw()))
}

/// A handle of the engine as Vulkan knows it.
pub(crate) fn memory(handle: MemoryHandle) -> vk::DeviceMemory {
    vk::DeviceMemory::from_raw(handle.0)
}
