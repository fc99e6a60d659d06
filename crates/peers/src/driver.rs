//! Peers on a real driver: Mesa's CPU driver, or a device that the caller opened.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use ash::vk::{self, Handle};
use vkmem_vulkan::{DeviceHandles, DeviceSelector, OpenOptions, VulkanDevice};

use crate::vma;

/// Returns the loader's own entry, which stays loaded until the process ends: driver objects may outlive
/// the first caller.
pub fn get_instance_proc_addr() -> Result<vk::PFN_vkGetInstanceProcAddr, String> {
    // SAFETY: loading the Vulkan loader runs no code but its own.
    let entry = unsafe { ash::Entry::load() }.map_err(|error| error.to_string())?;
    Ok(ManuallyDrop::new(entry).static_fn().get_instance_proc_addr)
}

/// Opens the CPU driver; `Err` says why there is none.
pub fn open_cpu_driver() -> Result<Arc<VulkanDevice>, String> {
    let selector = DeviceSelector::Name("llvmpipe".into());
    let options = OpenOptions { selector, ..OpenOptions::default() };
    VulkanDevice::open(&options).map(Arc::new).map_err(|error| error.to_string())
}

/// Opens VMA on the handles of an open device.
///
/// # Safety
/// The handles are live, belong together, and outlive the allocator.
pub unsafe fn open_vma(
    handles: &DeviceHandles,
    api_version: u32,
) -> Result<vma::Allocator, String> {
    let handles = vma::Handles {
        instance: vk::Instance::from_raw(handles.instance),
        physical_device: vk::PhysicalDevice::from_raw(handles.physical_device),
        device: vk::Device::from_raw(handles.device),
        api_version,
    };
    // SAFETY: the caller guarantees valid handles; the functions are the loader's.
    unsafe { vma::Allocator::open(get_instance_proc_addr()?, handles, &vma::Options::default()) }
        .map_err(|error| error.to_string())
}

/// Returns the function tables for users of `ash`.
///
/// # Safety
/// The handles are live, belong together, and outlive the tables.
pub unsafe fn ash_tables(handles: &DeviceHandles) -> Result<(ash::Instance, ash::Device), String> {
    let static_fn = ash::StaticFn { get_instance_proc_addr: get_instance_proc_addr()? };
    // SAFETY: the caller guarantees valid handles.
    unsafe {
        let instance = ash::Instance::load(&static_fn, vk::Instance::from_raw(handles.instance));
        let device = ash::Device::load(instance.fp_v1_0(), vk::Device::from_raw(handles.device));
        Ok((instance, device))
    }
}
