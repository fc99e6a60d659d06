//! Tables of the Vulkan functions that this crate calls.
//!
//! Every function is looked up once and must exist: a missing one is an [`OpenError`] that names it,
//! never a call through a null pointer. Functions of newer versions and of extensions have tables of
//! their own, which are loaded only if the device supports them.

use std::ffi::{CStr, CString};

use ash::vk;

use crate::instance::open_error::OpenError;

/// The version or extension that provides a table's functions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provider {
    /// Name for the error message.
    pub(crate) name: &'static str,
    /// Suffix of the function names: `KHR` if the functions were not core yet.
    pub(crate) suffix: &'static str,
}

impl Provider {
    /// Functions of every version.
    pub(crate) const VULKAN_1_0: Self = Self { name: "Vulkan 1.0", suffix: "" };
    /// Functions of Vulkan 1.1.
    pub(crate) const VULKAN_1_1: Self = Self { name: "Vulkan 1.1", suffix: "" };
    /// Functions of Vulkan 1.2.
    pub(crate) const VULKAN_1_2: Self = Self { name: "Vulkan 1.2", suffix: "" };
    /// Functions of Vulkan 1.3.
    pub(crate) const VULKAN_1_3: Self = Self { name: "Vulkan 1.3", suffix: "" };
    /// Functions of Vulkan 1.4.
    pub(crate) const VULKAN_1_4: Self = Self { name: "Vulkan 1.4", suffix: "" };

    /// Returns the provider for a `KHR` extension whose functions became core later.
    pub(crate) const fn khr(name: &'static str) -> Self {
        Self { name, suffix: "KHR" }
    }

    /// Returns the provider for an `EXT` extension whose functions became core later.
    pub(crate) const fn ext(name: &'static str) -> Self {
        Self { name, suffix: "EXT" }
    }

    /// Returns the provider for an extension whose function names in the tables have their suffix
    /// already.
    pub(crate) const fn extension(name: &'static str) -> Self {
        Self { name, suffix: "" }
    }
}

macro_rules! function_table {
    ($(#[$meta:meta])* $table:ident { $($field:ident: $pfn:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $table {
            $(pub(crate) $field: vk::$pfn,)*
        }

        impl $table {
            /// Looks up every function with `find`.
            ///
            /// # Errors
            /// [`OpenError::FunctionMissing`]
            ///
            /// # Safety
            /// `find` returns the Vulkan function of the given name.
            pub(crate) unsafe fn load(
                provider: Provider,
                find: &dyn Fn(&CStr) -> vk::PFN_vkVoidFunction,
            ) -> Result<Self, OpenError> {
                Ok(Self {
                    $($field: {
                        let function = look_up(concat!("vk", $name), provider, find)?;
                        // SAFETY: the caller guarantees the function of this name, and the type is the
                        // one that Vulkan defines.
                        unsafe {
                            std::mem::transmute::<unsafe extern "system" fn(), vk::$pfn>(function)
                        }
                    },)*
                })
            }
        }
    };
}

fn look_up(
    name: &str,
    provider: Provider,
    find: &dyn Fn(&CStr) -> vk::PFN_vkVoidFunction,
) -> Result<unsafe extern "system" fn(), OpenError> {
    let name = format!("{name}{}", provider.suffix);
    let c_name = CString::new(name.as_str()).expect("a function's name has no NUL");
    find(&c_name).ok_or(OpenError::FunctionMissing { function: name, provider: provider.name })
}

function_table! {
    /// Functions without an instance.
    GlobalFunctions {
        create_instance: PFN_vkCreateInstance = "CreateInstance",
        enumerate_instance_extension_properties: PFN_vkEnumerateInstanceExtensionProperties
            = "EnumerateInstanceExtensionProperties",
        enumerate_instance_layer_properties: PFN_vkEnumerateInstanceLayerProperties
            = "EnumerateInstanceLayerProperties",
    }
}

function_table! {
    /// `vkEnumerateInstanceVersion`: missing in a loader of Vulkan 1.0.
    InstanceVersionFunctions {
        enumerate_instance_version: PFN_vkEnumerateInstanceVersion = "EnumerateInstanceVersion",
    }
}

function_table! {
    /// Functions of an instance, core 1.0.
    InstanceFunctions {
        destroy_instance: PFN_vkDestroyInstance = "DestroyInstance",
        enumerate_physical_devices: PFN_vkEnumeratePhysicalDevices = "EnumeratePhysicalDevices",
        get_physical_device_properties: PFN_vkGetPhysicalDeviceProperties
            = "GetPhysicalDeviceProperties",
        get_physical_device_memory_properties: PFN_vkGetPhysicalDeviceMemoryProperties
            = "GetPhysicalDeviceMemoryProperties",
        get_physical_device_queue_family_properties: PFN_vkGetPhysicalDeviceQueueFamilyProperties
            = "GetPhysicalDeviceQueueFamilyProperties",
        get_physical_device_features: PFN_vkGetPhysicalDeviceFeatures = "GetPhysicalDeviceFeatures",
        get_physical_device_format_properties: PFN_vkGetPhysicalDeviceFormatProperties
            = "GetPhysicalDeviceFormatProperties",
        get_physical_device_image_format_properties: PFN_vkGetPhysicalDeviceImageFormatProperties
            = "GetPhysicalDeviceImageFormatProperties",
        enumerate_device_extension_properties: PFN_vkEnumerateDeviceExtensionProperties
            = "EnumerateDeviceExtensionProperties",
        create_device: PFN_vkCreateDevice = "CreateDevice",
        get_device_proc_addr: PFN_vkGetDeviceProcAddr = "GetDeviceProcAddr",
    }
}

function_table! {
    /// Core 1.1, or `VK_KHR_get_physical_device_properties2`.
    Properties2Functions {
        get_physical_device_properties2: PFN_vkGetPhysicalDeviceProperties2
            = "GetPhysicalDeviceProperties2",
        get_physical_device_memory_properties2: PFN_vkGetPhysicalDeviceMemoryProperties2
            = "GetPhysicalDeviceMemoryProperties2",
        get_physical_device_features2: PFN_vkGetPhysicalDeviceFeatures2
            = "GetPhysicalDeviceFeatures2",
        get_physical_device_image_format_properties2: PFN_vkGetPhysicalDeviceImageFormatProperties2
            = "GetPhysicalDeviceImageFormatProperties2",
    }
}

function_table! {
    /// Core 1.1, or `VK_KHR_external_memory_capabilities`.
    ExternalCapabilitiesFunctions {
        get_physical_device_external_buffer_properties:
            PFN_vkGetPhysicalDeviceExternalBufferProperties
            = "GetPhysicalDeviceExternalBufferProperties",
    }
}

function_table! {
    /// `VK_EXT_debug_utils`.
    DebugUtilsFunctions {
        create_debug_utils_messenger: PFN_vkCreateDebugUtilsMessengerEXT
            = "CreateDebugUtilsMessengerEXT",
        destroy_debug_utils_messenger: PFN_vkDestroyDebugUtilsMessengerEXT
            = "DestroyDebugUtilsMessengerEXT",
    }
}

function_table! {
    /// `VK_EXT_device_fault`.
    FaultFunctions {
        get_device_fault_info: PFN_vkGetDeviceFaultInfoEXT = "GetDeviceFaultInfoEXT",
    }
}

function_table! {
    /// Functions of a device, core 1.0.
    DeviceFunctions {
        destroy_device: PFN_vkDestroyDevice = "DestroyDevice",
        get_device_queue: PFN_vkGetDeviceQueue = "GetDeviceQueue",
        allocate_memory: PFN_vkAllocateMemory = "AllocateMemory",
        free_memory: PFN_vkFreeMemory = "FreeMemory",
        map_memory: PFN_vkMapMemory = "MapMemory",
        unmap_memory: PFN_vkUnmapMemory = "UnmapMemory",
        flush_mapped_memory_ranges: PFN_vkFlushMappedMemoryRanges = "FlushMappedMemoryRanges",
        invalidate_mapped_memory_ranges: PFN_vkInvalidateMappedMemoryRanges
            = "InvalidateMappedMemoryRanges",
        create_buffer: PFN_vkCreateBuffer = "CreateBuffer",
        destroy_buffer: PFN_vkDestroyBuffer = "DestroyBuffer",
        get_buffer_memory_requirements: PFN_vkGetBufferMemoryRequirements
            = "GetBufferMemoryRequirements",
        bind_buffer_memory: PFN_vkBindBufferMemory = "BindBufferMemory",
        create_image: PFN_vkCreateImage = "CreateImage",
        destroy_image: PFN_vkDestroyImage = "DestroyImage",
        get_image_memory_requirements: PFN_vkGetImageMemoryRequirements
            = "GetImageMemoryRequirements",
        bind_image_memory: PFN_vkBindImageMemory = "BindImageMemory",
        get_image_subresource_layout: PFN_vkGetImageSubresourceLayout
            = "GetImageSubresourceLayout",
        create_command_pool: PFN_vkCreateCommandPool = "CreateCommandPool",
        destroy_command_pool: PFN_vkDestroyCommandPool = "DestroyCommandPool",
        allocate_command_buffers: PFN_vkAllocateCommandBuffers = "AllocateCommandBuffers",
        reset_command_pool: PFN_vkResetCommandPool = "ResetCommandPool",
        begin_command_buffer: PFN_vkBeginCommandBuffer = "BeginCommandBuffer",
        end_command_buffer: PFN_vkEndCommandBuffer = "EndCommandBuffer",
        cmd_pipeline_barrier: PFN_vkCmdPipelineBarrier = "CmdPipelineBarrier",
        cmd_fill_buffer: PFN_vkCmdFillBuffer = "CmdFillBuffer",
        cmd_copy_buffer: PFN_vkCmdCopyBuffer = "CmdCopyBuffer",
        cmd_copy_buffer_to_image: PFN_vkCmdCopyBufferToImage = "CmdCopyBufferToImage",
        cmd_copy_image_to_buffer: PFN_vkCmdCopyImageToBuffer = "CmdCopyImageToBuffer",
        cmd_copy_image: PFN_vkCmdCopyImage = "CmdCopyImage",
        cmd_blit_image: PFN_vkCmdBlitImage = "CmdBlitImage",
        cmd_clear_color_image: PFN_vkCmdClearColorImage = "CmdClearColorImage",
        cmd_clear_depth_stencil_image: PFN_vkCmdClearDepthStencilImage = "CmdClearDepthStencilImage",
        create_fence: PFN_vkCreateFence = "CreateFence",
        destroy_fence: PFN_vkDestroyFence = "DestroyFence",
        reset_fences: PFN_vkResetFences = "ResetFences",
        get_fence_status: PFN_vkGetFenceStatus = "GetFenceStatus",
        wait_for_fences: PFN_vkWaitForFences = "WaitForFences",
        queue_submit: PFN_vkQueueSubmit = "QueueSubmit",
        queue_wait_idle: PFN_vkQueueWaitIdle = "QueueWaitIdle",
    }
}

function_table! {
    /// Core 1.1, or `VK_KHR_get_memory_requirements2`.
    Requirements2Functions {
        get_buffer_memory_requirements2: PFN_vkGetBufferMemoryRequirements2
            = "GetBufferMemoryRequirements2",
        get_image_memory_requirements2: PFN_vkGetImageMemoryRequirements2
            = "GetImageMemoryRequirements2",
    }
}

function_table! {
    /// Core 1.1, or `VK_KHR_bind_memory2`.
    Bind2Functions {
        bind_buffer_memory2: PFN_vkBindBufferMemory2 = "BindBufferMemory2",
        bind_image_memory2: PFN_vkBindImageMemory2 = "BindImageMemory2",
    }
}

function_table! {
    /// Core 1.3, or `VK_KHR_maintenance4`.
    Maintenance4Functions {
        get_device_buffer_memory_requirements: PFN_vkGetDeviceBufferMemoryRequirements
            = "GetDeviceBufferMemoryRequirements",
        get_device_image_memory_requirements: PFN_vkGetDeviceImageMemoryRequirements
            = "GetDeviceImageMemoryRequirements",
    }
}

function_table! {
    /// Core 1.2, or `VK_KHR_buffer_device_address`.
    DeviceAddressFunctions {
        get_buffer_device_address: PFN_vkGetBufferDeviceAddress = "GetBufferDeviceAddress",
    }
}

function_table! {
    /// Core 1.0; of use with timelines only.
    SemaphoreFunctions {
        create_semaphore: PFN_vkCreateSemaphore = "CreateSemaphore",
        destroy_semaphore: PFN_vkDestroySemaphore = "DestroySemaphore",
    }
}

function_table! {
    /// Core 1.2, or `VK_KHR_timeline_semaphore`.
    TimelineWaits {
        wait_semaphores: PFN_vkWaitSemaphores = "WaitSemaphores",
        get_semaphore_counter_value: PFN_vkGetSemaphoreCounterValue = "GetSemaphoreCounterValue",
    }
}

/// All that a timeline semaphore needs.
#[derive(Clone, Copy)]
pub(crate) struct TimelineFunctions {
    pub(crate) semaphores: SemaphoreFunctions,
    pub(crate) waits: TimelineWaits,
}

function_table! {
    /// Core 1.4, or `VK_EXT_host_image_copy`.
    HostImageCopyFunctions {
        copy_memory_to_image: PFN_vkCopyMemoryToImageEXT = "CopyMemoryToImage",
        copy_image_to_memory: PFN_vkCopyImageToMemoryEXT = "CopyImageToMemory",
        transition_image_layout: PFN_vkTransitionImageLayoutEXT = "TransitionImageLayout",
    }
}

function_table! {
    /// `VK_EXT_pageable_device_local_memory`.
    PageableFunctions {
        set_device_memory_priority: PFN_vkSetDeviceMemoryPriorityEXT
            = "SetDeviceMemoryPriorityEXT",
    }
}

function_table! {
    /// `VK_KHR_external_memory_fd`.
    ExternalFdFunctions {
        get_memory_fd: PFN_vkGetMemoryFdKHR = "GetMemoryFdKHR",
        get_memory_fd_properties: PFN_vkGetMemoryFdPropertiesKHR = "GetMemoryFdPropertiesKHR",
    }
}

function_table! {
    /// `VK_KHR_external_memory_win32`. Its types are numbers, so it compiles everywhere.
    ExternalWin32Functions {
        get_memory_win32_handle: PFN_vkGetMemoryWin32HandleKHR = "GetMemoryWin32HandleKHR",
        get_memory_win32_handle_properties: PFN_vkGetMemoryWin32HandlePropertiesKHR
            = "GetMemoryWin32HandlePropertiesKHR",
    }
}

function_table! {
    /// `VK_EXT_external_memory_host`.
    ExternalHostFunctions {
        get_memory_host_pointer_properties: PFN_vkGetMemoryHostPointerPropertiesEXT
            = "GetMemoryHostPointerPropertiesEXT",
    }
}
