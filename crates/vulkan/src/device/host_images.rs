//! The functions of `VK_EXT_host_image_copy`, and the layouts that the host can copy images in.

use std::ffi::CStr;

use ash::vk;

use crate::instance::capabilities::host_image_copy_provider;
use crate::instance::functions::{HostImageCopyFunctions, Properties2Functions};
use crate::instance::open_error::OpenError;

/// The functions of a device with the feature `hostImageCopy`, and what it can copy.
pub(crate) struct HostImages {
    pub(crate) functions: HostImageCopyFunctions,
    pub(crate) source_layouts: Vec<vk::ImageLayout>,
    pub(crate) target_layouts: Vec<vk::ImageLayout>,
}

impl HostImages {
    /// Loads the functions of a device, and reads its layouts.
    ///
    /// # Safety
    /// `find` returns the function of the name; the device is live, belongs to the instance of the functions, and
    /// has the feature.
    pub(crate) unsafe fn load(
        extensions: &[String],
        properties: &Properties2Functions,
        device: vk::PhysicalDevice,
        find: &dyn Fn(&CStr) -> vk::PFN_vkVoidFunction,
    ) -> Result<Self, OpenError> {
        let provider = host_image_copy_provider(extensions);
        // SAFETY: the caller guarantees that `find` returns the function of the name.
        let functions = unsafe { HostImageCopyFunctions::load(provider, find) }?;
        // SAFETY: the caller guarantees a valid device.
        let (source_layouts, target_layouts) = unsafe { read_layouts(properties, device) };
        Ok(Self { functions, source_layouts, target_layouts })
    }
}

/// Returns the layouts that images are copied from, and those that they are copied to.
///
/// # Safety
/// The device is live, belongs to the instance of the functions, and has the structure.
unsafe fn read_layouts(
    functions: &Properties2Functions,
    device: vk::PhysicalDevice,
) -> (Vec<vk::ImageLayout>, Vec<vk::ImageLayout>) {
    let read = |host: &mut vk::PhysicalDeviceHostImageCopyPropertiesEXT<'_>| {
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(host);
        // SAFETY: the caller guarantees a valid device; the chain lives for the call.
        unsafe { (functions.get_physical_device_properties2)(device, &mut properties) };
    };
    let mut counts = vk::PhysicalDeviceHostImageCopyPropertiesEXT::default();
    read(&mut counts);
    let list = |count: u32| vec![vk::ImageLayout::UNDEFINED; count as usize];
    let (mut sources, mut targets) =
        (list(counts.copy_src_layout_count), list(counts.copy_dst_layout_count));
    let mut layouts = vk::PhysicalDeviceHostImageCopyPropertiesEXT::default()
        .copy_src_layouts(&mut sources)
        .copy_dst_layouts(&mut targets);
    read(&mut layouts);
    let (source_count, target_count) =
        (layouts.copy_src_layout_count as usize, layouts.copy_dst_layout_count as usize);
    sources.truncate(source_count);
    targets.truncate(target_count);
    (sources, targets)
}

#[cfg(test)]
mod tests {
    use std::mem;

    use super::*;
    use crate::instance::functions::Provider;

    unsafe extern "system" fn properties2(
        _device: vk::PhysicalDevice,
        properties: *mut vk::PhysicalDeviceProperties2<'_>,
    ) {
        // SAFETY: the caller chains one structure, whose lists have room for as many layouts as it says.
        let found = unsafe {
            &mut *(*properties).p_next.cast::<vk::PhysicalDeviceHostImageCopyPropertiesEXT<'_>>()
        };
        assert_eq!(found.s_type, vk::StructureType::PHYSICAL_DEVICE_HOST_IMAGE_COPY_PROPERTIES_EXT);
        // SAFETY: as above.
        let answer = |count: &mut u32, list: *mut vk::ImageLayout, all: &[vk::ImageLayout]| unsafe {
            if !list.is_null() {
                assert!(*count as usize >= all.len());
                list.copy_from(all.as_ptr(), all.len());
            }
            *count = all.len() as u32;
        };
        use vk::ImageLayout as L;
        let sources = [L::GENERAL, L::TRANSFER_SRC_OPTIMAL];
        answer(&mut found.copy_src_layout_count, found.p_copy_src_layouts, &sources);
        answer(&mut found.copy_dst_layout_count, found.p_copy_dst_layouts, &[L::GENERAL]);
    }

    unsafe extern "system" fn unused() {}

    #[test]
    fn layouts_are_read_in_two_steps() {
        let find = |name: &CStr| -> vk::PFN_vkVoidFunction {
            if name != c"vkGetPhysicalDeviceProperties2" {
                return Some(unused);
            }
            // SAFETY: the table converts it back into the type of the function of this name.
            unsafe { mem::transmute(properties2 as vk::PFN_vkGetPhysicalDeviceProperties2) }
        };
        // SAFETY: `find` returns the one function that is called.
        let (sources, targets) = unsafe {
            let functions = Properties2Functions::load(Provider::VULKAN_1_1, &find).unwrap();
            read_layouts(&functions, vk::PhysicalDevice::null())
        };
        use vk::ImageLayout as L;
        assert_eq!(sources, [L::GENERAL, L::TRANSFER_SRC_OPTIMAL]);
        assert_eq!(targets, [L::GENERAL]);
    }

    #[test]
    fn the_extension_has_names_of_its_own() {
        let enabled = ["VK_EXT_host_image_copy".to_owned()];
        assert_eq!(host_image_copy_provider(&enabled).suffix, "EXT");
        assert_eq!(host_image_copy_provider(&[]).suffix, "");
    }
}
