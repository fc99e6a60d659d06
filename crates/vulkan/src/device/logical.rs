//! [`LogicalDevice`]: a `VkDevice` with its functions; conversions of results and handles.

use std::ffi::CStr;
use std::ptr;

use ash::vk::{self, Handle};
use vkmem_engine::{DeviceError, MemoryHandle};

use crate::device::callbacks::AllocationCallbacks;
use crate::instance::functions::{DeviceFunctions, Provider};
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::Instance;

/// A `VkDevice` and its functions. Destroys the device on drop if it was opened here.
pub(crate) struct LogicalDevice {
    pub(crate) handle: vk::Device,
    pub(crate) functions: DeviceFunctions,
    /// Whether the device was opened here and is destroyed with this value. A wrapped device may be
    /// destroyed by its owner between two calls.
    pub(crate) owned: bool,
    /// Host memory callbacks for objects of the device.
    callbacks: Option<AllocationCallbacks>,
}

impl LogicalDevice {
    /// Returns the callbacks for each Vulkan call that creates or destroys an object of the device; null
    /// if there are none.
    #[inline]
    pub(crate) fn callbacks(&self) -> *const vk::AllocationCallbacks<'static> {
        self.callbacks.as_ref().map_or(ptr::null(), |callbacks| &raw const callbacks.0)
    }

    /// Loads the functions of a device.
    ///
    /// # Safety
    /// The device is live and belongs to this instance; if `owned`, it is not owned elsewhere.
    pub(crate) unsafe fn load(
        instance: &Instance,
        handle: vk::Device,
        owned: bool,
        callbacks: Option<AllocationCallbacks>,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller guarantees a valid device, and `device_function` returns the function of the
        // name.
        let functions = unsafe {
            DeviceFunctions::load(Provider::VULKAN_1_0, &|name| {
                device_function(instance, handle, name)
            })
        };
        match functions {
            Ok(functions) => Ok(Self { handle, functions, owned, callbacks }),
            Err(error) => {
                if owned {
                    // SAFETY: the caller guarantees a valid device; nothing was created from it yet.
                    unsafe { Self::destroy_unloaded(instance, handle) };
                }
                Err(error)
            }
        }
    }

    /// Destroys a device of which some functions are missing.
    ///
    /// # Safety
    /// The device is live, belongs to this instance, and is not owned elsewhere.
    unsafe fn destroy_unloaded(instance: &Instance, handle: vk::Device) {
        // SAFETY: the caller guarantees a valid device.
        let function = unsafe { device_function(instance, handle, c"vkDestroyDevice") };
        if let Some(function) = function {
            // SAFETY: the type is that of the function of this name.
            let destroy = unsafe {
                std::mem::transmute::<unsafe extern "system" fn(), vk::PFN_vkDestroyDevice>(
                    function,
                )
            };
            // SAFETY: the caller guarantees a valid device.
            unsafe { destroy(handle, ptr::null()) };
        }
    }
}

impl Drop for LogicalDevice {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: this value owns the device, which is not used afterwards.
            unsafe { (self.functions.destroy_device)(self.handle, ptr::null()) };
        }
    }
}

/// Returns a function of the device.
///
/// # Safety
/// The device is live and belongs to this instance.
pub(crate) unsafe fn device_function(
    instance: &Instance,
    device: vk::Device,
    name: &CStr,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller guarantees a valid device; the name ends with NUL.
    unsafe { (instance.functions.get_device_proc_addr)(device, name.as_ptr()) }
}

/// Converts a `VkResult` into the engine's error.
pub(crate) fn check(result: vk::Result) -> Result<(), DeviceError> {
    result.result().map_err(|error| DeviceError::from_vk_result(error.as_raw()))
}

/// Converts a handle of the engine into Vulkan's.
pub(crate) fn memory(handle: MemoryHandle) -> vk::DeviceMemory {
    vk::DeviceMemory::from_raw(handle.0)
}
