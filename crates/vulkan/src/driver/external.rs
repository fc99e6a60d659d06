//! What a device can share with other devices, APIs and processes, and what stands in the way.

use ash::vk;
use vkmem_engine::{
    AllocationCreateInfo, DeviceError, Error, MemoryHandle, MemoryImport, PoolCreateInfo,
};

use crate::allocator::DeviceAllocator;
use crate::driver::chain;

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
/// Handle types that are addresses of the host; imported only.
pub const HOST_TYPES: u32 =
    Type::HOST_ALLOCATION_EXT.as_raw() | Type::HOST_MAPPED_FOREIGN_MEMORY_EXT.as_raw();
/// Handle types whose memory type and size cannot be asked for.
pub const OPAQUE_TYPES: u32 =
    Type::OPAQUE_FD.as_raw() | Type::OPAQUE_WIN32.as_raw() | Type::OPAQUE_WIN32_KMT.as_raw();

/// Handle types, and the extension that they need.
pub(crate) const EXTENSIONS: [(u32, &str); 4] = [
    (Type::OPAQUE_FD.as_raw(), "VK_KHR_external_memory_fd"),
    (Type::DMA_BUF_EXT.as_raw(), "VK_EXT_external_memory_dma_buf"),
    (WIN32_TYPES, "VK_KHR_external_memory_win32"),
    (HOST_TYPES, "VK_EXT_external_memory_host"),
];

/// The handle types of a list of enabled extensions.
pub(crate) fn types_of_extensions(extensions: &[String]) -> u32 {
    let has = |name: &str| extensions.iter().any(|enabled| enabled == name);
    let enabled = EXTENSIONS.iter().filter(|(_, name)| has(name));
    let types = enabled.fold(0, |types, (more, _)| types | more);
    // The functions of a dma-buf are those of any file descriptor.
    if has("VK_KHR_external_memory_fd") { types } else { types & !FD_TYPES }
}

/// `VkExternalMemoryProperties` of a kind of buffer or image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalSupport {
    /// `VkExternalMemoryFeatureFlags`
    pub features: u32,
    /// The other handle types that one memory object can have beside this one.
    pub compatible_types: u32,
}

/// The way of a device's memory to others and back.
///
/// # Safety of the calls
/// Each unsafe call asks what the Vulkan command of its name asks; the handle type is one of
/// [`handle_types`](Self::handle_types) and of the kind that the command is about.
pub trait ExternalMemory: Send + Sync {
    /// `VkExternalMemoryHandleTypeFlags` whose extension is enabled.
    fn handle_types(&self) -> u32;

    /// `vkGetPhysicalDeviceExternalBufferProperties`; `None` where it cannot be asked.
    fn buffer_support(
        &self,
        flags: vk::BufferCreateFlags,
        usage: u64,
        handle_type: u32,
    ) -> Option<ExternalSupport>;

    /// `vkGetPhysicalDeviceImageFormatProperties2`; `None` where it cannot be asked.
    fn image_support(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        handle_type: u32,
    ) -> Option<ExternalSupport>;

    /// What a file descriptor is, where the device cannot import it; looked at before the device is
    /// asked.
    fn why_not_memory(&self, _fd: i32) -> Option<&'static str> {
        None
    }

    /// `vkGetMemoryFdKHR`
    ///
    /// # Safety
    /// See the trait; the memory was allocated for this handle type.
    unsafe fn export_fd(&self, memory: MemoryHandle, handle_type: u32) -> Result<i32, DeviceError>;

    /// `memoryTypeBits` of `vkGetMemoryFdPropertiesKHR`; not of an opaque type.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn types_of_fd(&self, fd: i32, handle_type: u32) -> Result<u32, DeviceError>;

    /// `vkGetMemoryWin32HandleKHR`
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

    /// `memoryTypeBits` of `vkGetMemoryWin32HandlePropertiesKHR`; not of an opaque type.
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

    /// `memoryTypeBits` of `vkGetMemoryHostPointerPropertiesEXT`.
    ///
    /// # Safety
    /// See the trait; the address is that of memory of this process.
    unsafe fn types_of_host_pointer(
        &self,
        address: u64,
        handle_type: u32,
    ) -> Result<u32, DeviceError>;

    /// `minImportedHostPointerAlignment`; `None` without `VK_EXT_external_memory_host`.
    fn host_pointer_alignment(&self) -> Option<u64>;
}

/// Which way memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Export,
    Import,
}

/// `OPAQUE_FD`, for people; bits without a name as a number.
pub fn names_of_types(types: u32) -> String {
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

impl DeviceAllocator {
    /// An error unless the extensions of all these handle types are enabled.
    pub fn check_handle_types(&self, handle_types: u32) -> Result<(), Error> {
        let missing = handle_types & !self.driver().external().handle_types();
        if missing == 0 {
            return Ok(());
        }
        let names = names_of_types(missing);
        let extension = EXTENSIONS.iter().find(|(types, _)| types & missing != 0);
        Err(match extension {
            Some((_, extension)) => Error::FeatureNotPresent(format!(
                "memory of type {names} needs {extension}, which is not enabled on this device"
            )),
            None => Error::FeatureNotPresent(format!("handles of type {names} are not known here")),
        })
    }

    /// Reads what the `memory_allocate_next` of a pool says itself of exports; an error where
    /// `export_handle_types` asks for more, as one memory object has one `VkExportMemoryAllocateInfo`.
    ///
    /// # Safety
    /// `memory_allocate_next` is 0 or the address of a valid chain.
    pub unsafe fn read_export_chain(&self, rules: &mut PoolCreateInfo) -> Result<(), Error> {
        // SAFETY: the caller vouches for the chain.
        rules.next_export_handle_types = unsafe { chain::export_types(rules.memory_allocate_next) };
        rules
            .next_export_handle_types
            .map_or(Ok(()), |said| check_export_chain(rules.export_handle_types, said))
    }

    /// An error for a file descriptor that can be no memory.
    pub(crate) fn check_import(&self, import: MemoryImport) -> Result<(), Error> {
        let MemoryImport { handle_type, handle } = import;
        self.check_handle_types(handle_type)?;
        if handle_type & FD_TYPES == 0 {
            return Ok(());
        }
        let fd = i32::try_from(handle).unwrap_or(-1);
        match self.driver().external().why_not_memory(fd) {
            None => Ok(()),
            Some(what) => {
                let name = names_of_types(handle_type);
                Err(Error::InvalidArgument(format!("fd {fd} is {what}, not memory ({name})")))
            }
        }
    }

    /// An error unless memory can be exported as all these handle types: host pointers only come in.
    pub fn check_export(&self, handle_types: u32) -> Result<(), Error> {
        if handle_types & HOST_TYPES != 0 {
            let names = names_of_types(handle_types & HOST_TYPES);
            return Err(Error::FeatureNotPresent(format!("{names} can only be imported")));
        }
        self.check_handle_types(handle_types)
    }

    /// Whether something can be shared so; answers whether it then needs memory of its own.
    pub(crate) fn check_support(
        &self,
        what: &str,
        handle_types: u32,
        direction: Direction,
        ask: impl Fn(u32) -> Option<ExternalSupport>,
    ) -> Result<bool, Error> {
        let (needed, verb) = match direction {
            Direction::Export => (vk::ExternalMemoryFeatureFlags::EXPORTABLE, "exported"),
            Direction::Import => (vk::ExternalMemoryFeatureFlags::IMPORTABLE, "imported"),
        };
        let mut dedicated_only = false;
        for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| handle_types & bit != 0) {
            let Some(support) = ask(bit) else { continue };
            let features = vk::ExternalMemoryFeatureFlags::from_raw(support.features);
            if !features.contains(needed) {
                let name = names_of_types(bit);
                return Err(Error::FeatureNotPresent(format!(
                    "this device has no {what} of this kind that can be {verb} as {name}"
                )));
            }
            let others = handle_types & !bit & !support.compatible_types;
            if others != 0 {
                let (name, others) = (names_of_types(bit), names_of_types(others));
                return Err(Error::FeatureNotPresent(format!(
                    "the memory of a {what} of this kind cannot be both {name} and {others}"
                )));
            }
            dedicated_only |= features.contains(vk::ExternalMemoryFeatureFlags::DEDICATED_ONLY);
        }
        Ok(dedicated_only)
    }

    /// Prepares a buffer whose memory is shared; `true` if it needs memory of its own.
    ///
    /// `link` is chained to `info`, unless the caller's chain says the same already.
    ///
    /// # Safety
    /// The chain of `info` is valid, and `link` lives as long as `info` is used.
    pub(crate) unsafe fn share_buffer(
        &self,
        info: &mut vk::BufferCreateInfo<'_>,
        link: &mut vk::ExternalMemoryBufferCreateInfo<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<bool, Error> {
        if handle_types == 0 {
            return Ok(false);
        }
        // SAFETY: the caller vouches for the chain.
        let (flags, usage) = (info.flags, unsafe { chain::buffer_usage(info) });
        let external = self.driver().external();
        let dedicated_only = self.check_support("buffer", handle_types, direction, |bit| {
            external.buffer_support(flags, usage, bit)
        })?;
        // SAFETY: the caller vouches for the chain.
        if unsafe { chain::external_types_of_buffer(info) }.is_none() {
            link.handle_types = Type::from_raw(handle_types);
            link.p_next = info.p_next;
            info.p_next = (&raw const *link).cast();
        }
        Ok(dedicated_only)
    }

    /// The same for an image.
    ///
    /// # Safety
    /// As of [`share_buffer`](Self::share_buffer).
    pub(crate) unsafe fn share_image(
        &self,
        info: &mut vk::ImageCreateInfo<'_>,
        link: &mut vk::ExternalMemoryImageCreateInfo<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<bool, Error> {
        if handle_types == 0 {
            return Ok(false);
        }
        let external = self.driver().external();
        let dedicated_only = self.check_support("image", handle_types, direction, |bit| {
            external.image_support(info, bit)
        })?;
        // SAFETY: the caller vouches for the chain.
        if unsafe { chain::external_types_of_image(info) }.is_none() {
            link.handle_types = Type::from_raw(handle_types);
            link.p_next = info.p_next;
            info.p_next = (&raw const *link).cast();
        }
        Ok(dedicated_only)
    }
}

/// An error where `export_handle_types` asks for more than a chain says.
fn check_export_chain(asked: u32, said: u32) -> Result<(), Error> {
    match asked & !said {
        0 => Ok(()),
        more => Err(Error::InvalidArgument(format!(
            "export_handle_types={} is more than the VkExportMemoryAllocateInfo in \
             memory_allocate_next says, which is {}: name all handle types in one of them",
            names_of_types(more),
            names_of_types(said)
        ))),
    }
}

/// Takes what the `memory_allocate_next` of one allocation says itself of exports into its
/// `export_handle_types`; an error where these ask for more.
///
/// # Safety
/// `memory_allocate_next` is 0 or the address of a valid chain.
pub unsafe fn read_allocation_chain(create_info: &mut AllocationCreateInfo) -> Result<(), Error> {
    // SAFETY: the caller vouches for the chain.
    let Some(said) = (unsafe { chain::export_types(create_info.memory_allocate_next) }) else {
        return Ok(());
    };
    check_export_chain(create_info.export_handle_types, said)?;
    create_info.export_handle_types = said;
    Ok(())
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
        // Without the functions of file descriptors it is of no use.
        assert_eq!(of(&["VK_EXT_external_memory_dma_buf"]), 0);
        assert_eq!(of(&["VK_EXT_external_memory_dma_buf", "VK_KHR_external_memory_fd"]), 0x201);
        assert_eq!(of(&["VK_EXT_external_memory_host"]), 0x180);
        assert_eq!(of(&["VK_KHR_external_memory_win32"]), 0x7e);
    }

    #[test]
    fn handle_types_have_names() {
        assert_eq!(names_of_types(0x1), "OPAQUE_FD");
        assert_eq!(names_of_types(0x201), "OPAQUE_FD|DMA_BUF_EXT");
        assert_eq!(names_of_types(0x4000_0001), "OPAQUE_FD|0x40000000");
        assert_eq!(names_of_types(0), "0");
    }
}
