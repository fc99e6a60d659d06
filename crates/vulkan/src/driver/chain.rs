//! Reads `pNext` chains. They are passed to Vulkan as they are; nothing here changes one.

use ash::vk;

/// All bits of a buffer's usage: those of `usage`, or of a `VkBufferUsageFlags2CreateInfo`
/// (Vulkan 1.4, `VK_KHR_maintenance5`) in the `pNext` chain, which takes the place of `usage`.
///
/// # Safety
/// The `pNext` chain is valid.
pub unsafe fn buffer_usage(info: &vk::BufferCreateInfo<'_>) -> u64 {
    // SAFETY: the caller vouches for the chain.
    let found = unsafe {
        find(info.p_next.cast(), vk::StructureType::BUFFER_USAGE_FLAGS_2_CREATE_INFO_KHR)
    };
    match found {
        // SAFETY: the structure type says what it is.
        Some(found) => unsafe {
            (*found.cast::<vk::BufferUsageFlags2CreateInfoKHR<'_>>()).usage.as_raw()
        },
        None => u64::from(info.usage.as_raw()),
    }
}

/// Whether the layout of an image is given by its `VkImageDrmFormatModifierExplicitCreateInfoEXT`.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn has_explicit_drm_modifier(info: &vk::ImageCreateInfo<'_>) -> bool {
    let wanted = vk::StructureType::IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT;
    // SAFETY: the caller vouches for the chain.
    unsafe { find(info.p_next.cast(), wanted) }.is_some()
}

/// The `VkExternalMemoryHandleTypeFlags` of a `VkExternalMemoryBufferCreateInfo` in the chain.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn external_types_of_buffer(info: &vk::BufferCreateInfo<'_>) -> Option<u32> {
    let wanted = vk::StructureType::EXTERNAL_MEMORY_BUFFER_CREATE_INFO;
    // SAFETY: the caller vouches for the chain, and the structure type says what it is.
    unsafe {
        let found = find(info.p_next.cast(), wanted)?;
        Some((*found.cast::<vk::ExternalMemoryBufferCreateInfo<'_>>()).handle_types.as_raw())
    }
}

/// The same of a `VkExternalMemoryImageCreateInfo`.
///
/// # Safety
/// The `pNext` chain is valid.
pub(crate) unsafe fn external_types_of_image(info: &vk::ImageCreateInfo<'_>) -> Option<u32> {
    let wanted = vk::StructureType::EXTERNAL_MEMORY_IMAGE_CREATE_INFO;
    // SAFETY: the caller vouches for the chain, and the structure type says what it is.
    unsafe {
        let found = find(info.p_next.cast(), wanted)?;
        Some((*found.cast::<vk::ExternalMemoryImageCreateInfo<'_>>()).handle_types.as_raw())
    }
}

/// What is chained to a `VkImageCreateInfo`.
#[derive(Debug, Default)]
pub(crate) struct OfImage {
    /// Usage of the stencil aspect (`VkImageStencilUsageCreateInfo`).
    pub(crate) stencil_usage: Option<u32>,
    /// Of a `VkImageFormatListCreateInfo`.
    pub(crate) view_formats: Box<[i32]>,
    /// Of a `VkExternalMemoryImageCreateInfo`.
    pub(crate) handle_types: u32,
    /// There are other structures.
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
        // SAFETY: not null, and the caller vouches for the chain.
        let structure = unsafe { &*next };
        match structure.s_type {
            vk::StructureType::IMAGE_STENCIL_USAGE_CREATE_INFO => {
                let found = next.cast::<vk::ImageStencilUsageCreateInfo<'_>>();
                // SAFETY: the structure type says what it is; so it does below.
                read.stencil_usage = Some(unsafe { *found }.stencil_usage.as_raw());
            }
            vk::StructureType::IMAGE_FORMAT_LIST_CREATE_INFO => {
                // SAFETY: as above.
                let found = unsafe { &*next.cast::<vk::ImageFormatListCreateInfo<'_>>() };
                if found.view_format_count > 0 && !found.p_view_formats.is_null() {
                    let count = found.view_format_count as usize;
                    // SAFETY: the caller vouches for what the structure points to.
                    let formats =
                        unsafe { std::slice::from_raw_parts(found.p_view_formats, count) };
                    read.view_formats = formats.iter().map(|it| it.as_raw()).collect();
                }
            }
            vk::StructureType::EXTERNAL_MEMORY_IMAGE_CREATE_INFO => {
                let found = next.cast::<vk::ExternalMemoryImageCreateInfo<'_>>();
                // SAFETY: as above.
                read.handle_types = unsafe { *found }.handle_types.as_raw();
            }
            _ => read.has_others = true,
        }
        next = structure.p_next;
    }
    read
}

/// All bits of an image's usage: those of `usage`, and those of its stencil aspect where a
/// `VkImageStencilUsageCreateInfo` says other ones.
///
/// # Safety
/// The `pNext` chain is valid.
pub unsafe fn image_usage(info: &vk::ImageCreateInfo<'_>) -> vk::ImageUsageFlags {
    // SAFETY: the caller vouches for the chain.
    let found =
        unsafe { find(info.p_next.cast(), vk::StructureType::IMAGE_STENCIL_USAGE_CREATE_INFO) };
    let stencil = found.map_or(vk::ImageUsageFlags::empty(), |found| {
        // SAFETY: the structure type says what it is.
        unsafe { *found.cast::<vk::ImageStencilUsageCreateInfo<'_>>() }.stencil_usage
    });
    info.usage | stencil
}

/// What a caller's chain for `vkAllocateMemory` says itself that the memory can be exported as
/// (`VkExternalMemoryHandleTypeFlags`), if it has a `VkExportMemoryAllocateInfo`.
///
/// # Safety
/// The address is 0 or that of a valid chain.
pub unsafe fn export_types(address: usize) -> Option<u32> {
    let first = address as *const vk::BaseInStructure<'static>;
    // SAFETY: the caller vouches for the chain, and the structure type says what it is.
    unsafe {
        let found = find(first, vk::StructureType::EXPORT_MEMORY_ALLOCATE_INFO)?;
        Some((*found.cast::<vk::ExportMemoryAllocateInfo<'_>>()).handle_types.as_raw())
    }
}

/// Whether a caller's chain for `vkAllocateMemory` has a structure of a type already.
///
/// # Safety
/// The address is 0 or that of a valid chain.
pub(crate) unsafe fn has(address: usize, wanted: vk::StructureType) -> bool {
    // SAFETY: the caller vouches for the chain.
    unsafe { find(address as *const vk::BaseInStructure<'static>, wanted) }.is_some()
}

/// Appends `tail` to a chain that is ours.
///
/// # Safety
/// `first` starts a valid chain of structures that nobody else uses; `tail` is a valid chain.
pub(crate) unsafe fn append(
    first: *mut vk::BaseOutStructure<'static>,
    tail: *mut std::ffi::c_void,
) {
    let mut last = first;
    // SAFETY: the caller vouches for the chain.
    unsafe {
        while !(*last).p_next.is_null() {
            last = (*last).p_next;
        }
        (*last).p_next = tail.cast();
    }
}

/// # Safety
/// The chain is valid: null, or structures that each start with a type and the next.
unsafe fn find(
    mut next: *const vk::BaseInStructure<'static>,
    wanted: vk::StructureType,
) -> Option<*const vk::BaseInStructure<'static>> {
    while !next.is_null() {
        // SAFETY: not null, and the caller vouches for the chain.
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
