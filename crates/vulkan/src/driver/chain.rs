//! Reading `pNext` chains, which are passed to Vulkan unchanged.

use ash::vk;

/// Returns all usage bits of a buffer: those of `usage`, or of a `VkBufferUsageFlags2CreateInfo` (Vulkan
/// 1.4, `VK_KHR_maintenance5`) in the `pNext` chain, which replaces `usage`.
///
/// # Safety
/// The `pNext` chain is valid.
pub unsafe fn buffer_usage(info: &vk::BufferCreateInfo<'_>) -> u64 {
    // SAFETY: the caller guarantees a valid chain.
    let found = unsafe {
        find(info.p_next.cast(), vk::StructureType::BUFFER_USAGE_FLAGS_2_CREATE_INFO_KHR)
    };
    match found {
        // SAFETY: `s_type` identifies the structure.
        Some(found) => unsafe {
            (*found.cast::<vk::BufferUsageFlags2CreateInfoKHR<'_>>()).usage.as_raw()
        },
        None => u64::from(info.usage.as_raw()),
    }
}

/// Returns whether an image has a `VkImageDrmFormatModifierExplicitCreateInfoEXT`.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn has_explicit_drm_modifier(info: &vk::ImageCreateInfo<'_>) -> bool {
    let wanted = vk::StructureType::IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT;
    // SAFETY: the caller guarantees a valid chain.
    unsafe { find(info.p_next.cast(), wanted) }.is_some()
}

/// Returns the handle types of a `VkExternalMemoryBufferCreateInfo` in the chain.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn external_types_of_buffer(info: &vk::BufferCreateInfo<'_>) -> Option<u32> {
    let wanted = vk::StructureType::EXTERNAL_MEMORY_BUFFER_CREATE_INFO;
    // SAFETY: the caller guarantees a valid chain, and `s_type` identifies the structure.
    unsafe {
        let found = find(info.p_next.cast(), wanted)?;
        Some((*found.cast::<vk::ExternalMemoryBufferCreateInfo<'_>>()).handle_types.as_raw())
    }
}

/// Returns the handle types of a `VkExternalMemoryImageCreateInfo` in the chain.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn external_types_of_image(info: &vk::ImageCreateInfo<'_>) -> Option<u32> {
    let wanted = vk::StructureType::EXTERNAL_MEMORY_IMAGE_CREATE_INFO;
    // SAFETY: the caller guarantees a valid chain, and `s_type` identifies the structure.
    unsafe {
        let found = find(info.p_next.cast(), wanted)?;
        Some((*found.cast::<vk::ExternalMemoryImageCreateInfo<'_>>()).handle_types.as_raw())
    }
}

/// The known structures in the chain of a `VkBufferCreateInfo`.
#[derive(Debug, Default)]
pub(crate) struct OfBuffer {
    /// Usage of a `VkBufferUsageFlags2CreateInfo`, which replaces that of the create info.
    pub(crate) wide_usage: Option<u64>,
    /// Handle types of a `VkExternalMemoryBufferCreateInfo`.
    pub(crate) handle_types: u32,
    /// Whether a `VkBufferOpaqueCaptureAddressCreateInfo` or `VkBufferDeviceAddressCreateInfoEXT` asks for an
    /// address.
    pub(crate) has_capture_address: bool,
    /// Whether there are other structures.
    pub(crate) has_others: bool,
}

/// Reads the chain of a buffer.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn of_buffer(info: &vk::BufferCreateInfo<'_>) -> OfBuffer {
    let mut read = OfBuffer::default();
    let mut next = info.p_next.cast::<vk::BaseInStructure<'static>>();
    while !next.is_null() {
        // SAFETY: not null, and the caller guarantees a valid chain.
        let structure = unsafe { &*next };
        match structure.s_type {
            vk::StructureType::BUFFER_USAGE_FLAGS_2_CREATE_INFO_KHR => {
                let found = next.cast::<vk::BufferUsageFlags2CreateInfoKHR<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.wide_usage = Some(unsafe { *found }.usage.as_raw());
            }
            vk::StructureType::EXTERNAL_MEMORY_BUFFER_CREATE_INFO => {
                let found = next.cast::<vk::ExternalMemoryBufferCreateInfo<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.handle_types = unsafe { *found }.handle_types.as_raw();
            }
            vk::StructureType::BUFFER_OPAQUE_CAPTURE_ADDRESS_CREATE_INFO => {
                let found = next.cast::<vk::BufferOpaqueCaptureAddressCreateInfo<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.has_capture_address |= unsafe { *found }.opaque_capture_address != 0;
            }
            vk::StructureType::BUFFER_DEVICE_ADDRESS_CREATE_INFO_EXT => {
                let found = next.cast::<vk::BufferDeviceAddressCreateInfoEXT<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.has_capture_address |= unsafe { *found }.device_address != 0;
            }
            _ => read.has_others = true,
        }
        next = structure.p_next;
    }
    read
}

/// The known structures in the chain of a `VkImageCreateInfo`.
#[derive(Debug, Default)]
pub(crate) struct OfImage {
    /// Usage of the stencil aspect (`VkImageStencilUsageCreateInfo`).
    pub(crate) stencil_usage: Option<u32>,
    /// Formats of a `VkImageFormatListCreateInfo`.
    pub(crate) view_formats: Box<[i32]>,
    /// Handle types of a `VkExternalMemoryImageCreateInfo`.
    pub(crate) handle_types: u32,
    /// Whether there are other structures.
    pub(crate) has_others: bool,
}

/// Reads the chain of an image.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn of_image(info: &vk::ImageCreateInfo<'_>) -> OfImage {
    let mut read = OfImage::default();
    let mut next = info.p_next.cast::<vk::BaseInStructure<'static>>();
    while !next.is_null() {
        // SAFETY: not null, and the caller guarantees a valid chain.
        let structure = unsafe { &*next };
        match structure.s_type {
            vk::StructureType::IMAGE_STENCIL_USAGE_CREATE_INFO => {
                let found = next.cast::<vk::ImageStencilUsageCreateInfo<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.stencil_usage = Some(unsafe { *found }.stencil_usage.as_raw());
            }
            vk::StructureType::IMAGE_FORMAT_LIST_CREATE_INFO => {
                // SAFETY: `s_type` identifies the structure.
                let found = unsafe { &*next.cast::<vk::ImageFormatListCreateInfo<'_>>() };
                if found.view_format_count > 0 && !found.p_view_formats.is_null() {
                    let count = found.view_format_count as usize;
                    // SAFETY: the caller guarantees that the pointers in the structure are valid.
                    let formats =
                        unsafe { std::slice::from_raw_parts(found.p_view_formats, count) };
                    read.view_formats = formats.iter().map(|it| it.as_raw()).collect();
                }
            }
            vk::StructureType::EXTERNAL_MEMORY_IMAGE_CREATE_INFO => {
                let found = next.cast::<vk::ExternalMemoryImageCreateInfo<'_>>();
                // SAFETY: `s_type` identifies the structure.
                read.handle_types = unsafe { *found }.handle_types.as_raw();
            }
            _ => read.has_others = true,
        }
        next = structure.p_next;
    }
    read
}

/// Returns all usage bits of an image: those of `usage`, and those of its stencil aspect in a
/// `VkImageStencilUsageCreateInfo`.
///
/// # Safety
/// The `pNext` chain is valid.
pub unsafe fn image_usage(info: &vk::ImageCreateInfo<'_>) -> vk::ImageUsageFlags {
    // SAFETY: the caller guarantees a valid chain.
    let found =
        unsafe { find(info.p_next.cast(), vk::StructureType::IMAGE_STENCIL_USAGE_CREATE_INFO) };
    let stencil = found.map_or(vk::ImageUsageFlags::empty(), |found| {
        // SAFETY: `s_type` identifies the structure.
        unsafe { *found.cast::<vk::ImageStencilUsageCreateInfo<'_>>() }.stencil_usage
    });
    info.usage | stencil
}

/// Returns the handle types of a `VkExportMemoryAllocateInfo` in a caller's chain for `vkAllocateMemory`,
/// if it has one.
///
/// # Safety
/// The address is 0 or that of a valid chain.
pub unsafe fn export_types(address: usize) -> Option<u32> {
    let first = address as *const vk::BaseInStructure<'static>;
    // SAFETY: the caller guarantees a valid chain, and `s_type` identifies the structure.
    unsafe {
        let found = find(first, vk::StructureType::EXPORT_MEMORY_ALLOCATE_INFO)?;
        Some((*found.cast::<vk::ExportMemoryAllocateInfo<'_>>()).handle_types.as_raw())
    }
}

/// Returns whether a caller's chain for `vkAllocateMemory` has a structure of this type.
///
/// # Safety
/// The address is 0 or that of a valid chain.
pub(crate) unsafe fn has(address: usize, wanted: vk::StructureType) -> bool {
    // SAFETY: the caller guarantees a valid chain.
    unsafe { find(address as *const vk::BaseInStructure<'static>, wanted) }.is_some()
}

/// Appends `tail` to a chain of this crate.
///
/// # Safety
/// `first` starts a valid chain of structures that are not used elsewhere; `tail` is a valid chain.
pub(crate) unsafe fn append(
    first: *mut vk::BaseOutStructure<'static>,
    tail: *mut std::ffi::c_void,
) {
    let mut last = first;
    // SAFETY: the caller guarantees a valid chain.
    unsafe {
        while !(*last).p_next.is_null() {
            last = (*last).p_next;
        }
        (*last).p_next = tail.cast();
    }
}

/// Returns the first structure of a type in a chain.
///
/// # Safety
/// The chain is valid: null, or structures that each start with `sType` and `pNext`.
unsafe fn find(
    mut next: *const vk::BaseInStructure<'static>,
    wanted: vk::StructureType,
) -> Option<*const vk::BaseInStructure<'static>> {
    while !next.is_null() {
        // SAFETY: not null, and the caller guarantees a valid chain.
        let structure = unsafe { &*next };
        if structure.s_type == wanted {
            return Some(next);
        }
        next = structure.p_next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_of_a_chain_takes_the_place_of_the_plain_one() {
        let plain = vk::BufferCreateInfo::default().usage(vk::BufferUsageFlags::TRANSFER_SRC);
        // SAFETY: no chain.
        assert_eq!(unsafe { buffer_usage(&plain) }, 1);

        let mut wide = vk::BufferUsageFlags2CreateInfoKHR::default()
            .usage(vk::BufferUsageFlags2KHR::from_raw(1 << 40));
        let mut external = vk::ExternalMemoryBufferCreateInfo::default();
        let info = plain.push_next(&mut wide).push_next(&mut external);
        // SAFETY: both structures live.
        assert_eq!(unsafe { buffer_usage(&info) }, 1 << 40);
    }

    #[test]
    fn what_a_chain_exports_is_found_behind_others() {
        let mut export = vk::ExportMemoryAllocateInfo::default()
            .handle_types(vk::ExternalMemoryHandleTypeFlags::from_raw(0x201));
        let mut priority = vk::MemoryPriorityAllocateInfoEXT::default();
        let address = |info: &vk::MemoryAllocateInfo<'_>| info.p_next as usize;
        let plain = vk::MemoryAllocateInfo::default().push_next(&mut priority);
        // SAFETY: the structure lives, and 0 is no chain.
        assert_eq!(unsafe { (export_types(address(&plain)), export_types(0)) }, (None, None));
        let info = plain.push_next(&mut export);
        // SAFETY: both structures live.
        assert_eq!(unsafe { export_types(address(&info)) }, Some(0x201));
    }
}
