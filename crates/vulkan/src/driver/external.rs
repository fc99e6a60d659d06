//! The trait [`ExternalMemory`]: export and import of memory, and the handle types of
//! `VK_KHR_external_memory`.

use ash::vk;
use vkmem_engine::{DeviceError, MemoryHandle};

use vk::ExternalMemoryHandleTypeFlags as Type;

/// Handle types that are file descriptors.
pub const FD_TYPES: u32 = Type::OPAQUE_FD.as_raw() | Type::DMA_BUF_EXT.as_raw();
/// Handle types that are Win32 handles.
pub const WIN32_TYPES: u32 = Type::OPAQUE_WIN32.as_raw()
    | Type::OPAQUE_WIN32_KMT.as_raw()
    | Type::D3D11_TEXTURE.as_raw()
    | Type::D3D11_TEXTURE_KMT.as_raw()
    | Type::D3D12_HEAP.as_raw()
    | Type::D3D12_RESOURCE.as_raw();
/// Handle types that are host addresses; these can only be imported.
pub const HOST_TYPES: u32 =
    Type::HOST_ALLOCATION_EXT.as_raw() | Type::HOST_MAPPED_FOREIGN_MEMORY_EXT.as_raw();
/// What a handle of external memory is. A new kind of handle begins here; the compiler names the functions
/// that have to treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleKind {
    /// A file descriptor.
    Fd,
    /// A Win32 handle.
    Win32,
    /// An address of host memory.
    HostPointer,
}

impl HandleKind {
    /// Returns the kind of a handle type; `None` for a type that this library does not know.
    pub(crate) fn of(handle_type: u32) -> Option<Self> {
        let kinds =
            [(FD_TYPES, Self::Fd), (WIN32_TYPES, Self::Win32), (HOST_TYPES, Self::HostPointer)];
        kinds.into_iter().find(|(types, _)| handle_type & types != 0).map(|(_, kind)| kind)
    }
}

/// Handle types that cannot be queried for memory type and size.
pub const OPAQUE_TYPES: u32 =
    Type::OPAQUE_FD.as_raw() | Type::OPAQUE_WIN32.as_raw() | Type::OPAQUE_WIN32_KMT.as_raw();

/// Handle types and the extension that each needs.
pub(crate) const EXTENSIONS: [(u32, &str); 4] = [
    (Type::OPAQUE_FD.as_raw(), "VK_KHR_external_memory_fd"),
    (Type::DMA_BUF_EXT.as_raw(), "VK_EXT_external_memory_dma_buf"),
    (WIN32_TYPES, "VK_KHR_external_memory_win32"),
    (HOST_TYPES, "VK_EXT_external_memory_host"),
];

/// Returns the handle types of a list of enabled extensions.
pub(crate) fn types_of_extensions(extensions: &[String]) -> u32 {
    let has = |name: &str| extensions.iter().any(|enabled| enabled == name);
    let enabled = EXTENSIONS.iter().filter(|(_, name)| has(name));
    let types = enabled.fold(0, |types, (more, _)| types | more);
    // A dma-buf uses the functions of `VK_KHR_external_memory_fd`.
    if has("VK_KHR_external_memory_fd") { types } else { types & !FD_TYPES }
}

/// `VkExternalMemoryProperties` of a kind of buffer or image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalSupport {
    /// `VkExternalMemoryFeatureFlags`
    pub features: u32,
    /// Other handle types that one memory object can have together with this one.
    pub compatible_types: u32,
}

/// Export and import of device memory (`VK_KHR_external_memory`).
///
/// # Safety of the methods
/// Each unsafe method has the requirements of the Vulkan function of its name; the handle type is one of
/// [`handle_types`](Self::handle_types) and of the group that the function accepts.
pub trait ExternalMemory: Send + Sync {
    /// Returns the `VkExternalMemoryHandleTypeFlags` whose extension is enabled.
    fn handle_types(&self) -> u32;

    /// Calls `vkGetPhysicalDeviceExternalBufferProperties`; `None` if it is not available.
    fn buffer_support(
        &self,
        flags: vk::BufferCreateFlags,
        usage: u64,
        handle_type: u32,
    ) -> Option<ExternalSupport>;

    /// Calls `vkGetPhysicalDeviceImageFormatProperties2`; `None` if it is not available.
    fn image_support(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        handle_type: u32,
    ) -> Option<ExternalSupport>;

    /// Returns the kind of a file descriptor that the device cannot import; checked before the driver is
    /// called.
    fn why_not_memory(&self, _fd: i32) -> Option<&'static str> {
        None
    }

    /// Calls `vkGetMemoryFdKHR`.
    ///
    /// # Errors
    /// The result that the driver returned.
    ///
    /// # Safety
    /// See the trait; the memory was allocated for this handle type.
    unsafe fn export_fd(&self, memory: MemoryHandle, handle_type: u32) -> Result<i32, DeviceError>;

    /// Returns `memoryTypeBits` of `vkGetMemoryFdPropertiesKHR`; not for an opaque type.
    ///
    /// # Errors
    /// The result that the driver returned.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn types_of_fd(&self, fd: i32, handle_type: u32) -> Result<u32, DeviceError>;

    /// Calls `vkGetMemoryWin32HandleKHR`.
    ///
    /// # Errors
    /// The result that the driver returned.
    ///
    /// # Safety
    /// See the trait; the memory was allocated for this handle type.
    unsafe fn export_win32_handle(
        &self,
        _memory: MemoryHandle,
        _handle_type: u32,
    ) -> Result<u64, DeviceError> {
        Err(DeviceError::FeatureNotPresent)
    }

    /// Returns `memoryTypeBits` of `vkGetMemoryWin32HandlePropertiesKHR`; not for an opaque type.
    ///
    /// # Errors
    /// The result that the driver returned.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn types_of_win32_handle(
        &self,
        _handle: u64,
        _handle_type: u32,
    ) -> Result<u32, DeviceError> {
        Err(DeviceError::FeatureNotPresent)
    }

    /// Returns `memoryTypeBits` of `vkGetMemoryHostPointerPropertiesEXT`.
    ///
    /// # Errors
    /// The result that the driver returned.
    ///
    /// # Safety
    /// See the trait; the address is that of memory of this process.
    unsafe fn types_of_host_pointer(
        &self,
        address: u64,
        handle_type: u32,
    ) -> Result<u32, DeviceError>;

    /// Returns `minImportedHostPointerAlignment` in bytes; `None` without `VK_EXT_external_memory_host`.
    fn host_pointer_alignment(&self) -> Option<u64>;
}

/// Formats handle types as `OPAQUE_FD|DMA_BUF_EXT`; bits without a name as a number.
pub fn handle_type_names(types: u32) -> String {
    let bits = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| types & bit != 0);
    let names: Vec<String> = bits
        .map(|bit| {
            let name = format!("{:?}", Type::from_raw(bit));
            let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic());
            if is_name { name } else { format!("{bit:#x}") }
        })
        .collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_extensions_give_handle_types() {
        let of = |names: &[&str]| {
            types_of_extensions(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["VK_KHR_external_memory"]), 0);
        assert_eq!(of(&["VK_KHR_external_memory_fd"]), 0x1);
        // It needs the functions of `VK_KHR_external_memory_fd`.
        assert_eq!(of(&["VK_EXT_external_memory_dma_buf"]), 0);
        assert_eq!(of(&["VK_EXT_external_memory_dma_buf", "VK_KHR_external_memory_fd"]), 0x201);
        assert_eq!(of(&["VK_EXT_external_memory_host"]), 0x180);
        assert_eq!(of(&["VK_KHR_external_memory_win32"]), 0x7e);
    }

    #[test]
    fn handle_types_have_names() {
        assert_eq!(handle_type_names(0x1), "OPAQUE_FD");
        assert_eq!(handle_type_names(0x201), "OPAQUE_FD|DMA_BUF_EXT");
        assert_eq!(handle_type_names(0x4000_0001), "OPAQUE_FD|0x40000000");
        assert_eq!(handle_type_names(0), "0");
    }
}
