//! [`Capabilities`]: what the version and extensions of a device allow.

use ash::vk;

use crate::instance::extensions::{ADDRESS_BINDING_REPORT, DEVICE_FAULT};
use crate::instance::functions::Provider;

/// The optional functions and structures that a device supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Dedicated requirements and allocations, with the provider of their functions.
    pub(crate) dedicated: Option<&'static str>,
    /// `vkBindBufferMemory2`, with the provider of its functions.
    pub(crate) bind2: Option<&'static str>,
    /// Requirements of a create info, with the provider of their functions.
    pub(crate) maintenance4: Option<&'static str>,
    pub(crate) memory_budget: bool,
    pub(crate) memory_priority: bool,
    pub(crate) pageable: bool,
    pub(crate) device_address: bool,
    pub(crate) timeline_semaphore: bool,
    pub(crate) amd_device_coherent: bool,
    pub(crate) host_image_copy: bool,
    /// `vkGetDeviceFaultInfoEXT`
    pub(crate) device_fault: bool,
    /// Reports of bindings to a messenger; needs `VK_EXT_debug_utils`.
    pub(crate) address_binding_report: bool,
}

const REQUIREMENTS2: &str = "VK_KHR_get_memory_requirements2";
const BIND2: &str = "VK_KHR_bind_memory2";
/// `vkSetDeviceMemoryPriorityEXT`
pub(crate) const PAGEABLE: &str = "VK_EXT_pageable_device_local_memory";
const HOST_IMAGES: &str = "VK_EXT_host_image_copy";
const MAINTENANCE4: &str = "VK_KHR_maintenance4";

impl Capabilities {
    /// Derives the capabilities. The two features may be enabled with or without an extension in the
    /// list. Timeline semaphores, host image copies and what explains faults are only known to be enabled if their extension is in
    /// the list: nothing says so of the features of Vulkan 1.2 and 1.4.
    pub(crate) fn new(
        api_version: u32,
        extensions: &[String],
        device_address: bool,
        amd_device_coherent: bool,
    ) -> Self {
        let has = |name: &str| extensions.iter().any(|enabled| enabled == name);
        let core = |version: u32| api_version >= version;
        Self {
            dedicated: if core(vk::API_VERSION_1_1) {
                Some(Provider::VULKAN_1_1.name)
            } else {
                (has(REQUIREMENTS2) && has("VK_KHR_dedicated_allocation")).then_some(REQUIREMENTS2)
            },
            bind2: if core(vk::API_VERSION_1_1) {
                Some(Provider::VULKAN_1_1.name)
            } else {
                has(BIND2).then_some(BIND2)
            },
            maintenance4: if core(vk::API_VERSION_1_3) {
                Some(Provider::VULKAN_1_3.name)
            } else {
                (core(vk::API_VERSION_1_1) && has(MAINTENANCE4)).then_some(MAINTENANCE4)
            },
            memory_budget: has("VK_EXT_memory_budget"),
            memory_priority: has("VK_EXT_memory_priority"),
            pageable: has(PAGEABLE),
            // Not VK_EXT_buffer_device_address: its memory needs no flag.
            device_address: device_address || has("VK_KHR_buffer_device_address"),
            timeline_semaphore: has("VK_KHR_timeline_semaphore"),
            amd_device_coherent: amd_device_coherent || has("VK_AMD_device_coherent_memory"),
            host_image_copy: has(HOST_IMAGES),
            device_fault: has(DEVICE_FAULT),
            address_binding_report: has(ADDRESS_BINDING_REPORT),
        }
    }

    /// Removes capabilities without a feature whose extension the caller excludes.
    pub(crate) fn leave_out(&mut self, is_left_out: impl Fn(&str) -> bool) {
        if is_left_out(MAINTENANCE4) {
            self.maintenance4 = None;
        }
        if is_left_out(REQUIREMENTS2) || is_left_out("VK_KHR_dedicated_allocation") {
            self.dedicated = None;
        }
    }
}

/// Returns the provider of `vkGetBufferDeviceAddress`.
pub(crate) fn device_address_provider(api_version: u32) -> Provider {
    if api_version >= vk::API_VERSION_1_2 {
        Provider::VULKAN_1_2
    } else {
        Provider::khr("VK_KHR_buffer_device_address")
    }
}

/// Returns the provider of `vkWaitSemaphores`.
pub(crate) fn timeline_provider(api_version: u32) -> Provider {
    if api_version >= vk::API_VERSION_1_2 {
        Provider::VULKAN_1_2
    } else {
        Provider::khr("VK_KHR_timeline_semaphore")
    }
}

/// Returns the provider of `vkCopyMemoryToImage` on a device with the feature `hostImageCopy`.
pub(crate) fn host_image_copy_provider(extensions: &[String]) -> Provider {
    let is_extension = extensions.iter().any(|enabled| enabled == HOST_IMAGES);
    if is_extension { Provider::ext(HOST_IMAGES) } else { Provider::VULKAN_1_4 }
}

/// Returns the provider of the functions of a name in [`Capabilities`].
pub(crate) fn provider(name: &'static str) -> Provider {
    if name.starts_with("VK_KHR_") { Provider::khr(name) } else { Provider::extension(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_assumed_that_is_not_enabled() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |version, list: &[&str]| Capabilities::new(version, &names(list), false, false);
        assert_eq!(of(vk::API_VERSION_1_0, &[]), Capabilities::default());
        assert_eq!(of(vk::API_VERSION_1_0, &[REQUIREMENTS2]), Capabilities::default());
        assert_eq!(
            of(vk::API_VERSION_1_0, &[REQUIREMENTS2, "VK_KHR_dedicated_allocation"]).dedicated,
            Some(REQUIREMENTS2)
        );
        assert_eq!(of(vk::API_VERSION_1_0, &[MAINTENANCE4]).maintenance4, None);
        assert_eq!(of(vk::API_VERSION_1_1, &[MAINTENANCE4]).maintenance4, Some(MAINTENANCE4));
        let future = of(vk::make_api_version(0, 1, 9, 0), &[]);
        assert_eq!(
            (future.dedicated, future.maintenance4),
            (Some("Vulkan 1.1"), Some("Vulkan 1.3"))
        );
        assert!(!future.memory_budget && !future.device_address && !future.amd_device_coherent);
        assert!(!of(vk::API_VERSION_1_0, &["VK_EXT_buffer_device_address"]).device_address);
    }
}
