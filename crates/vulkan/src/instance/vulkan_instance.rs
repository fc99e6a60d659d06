//! [`Instance`]: a `VkInstance`, created without a window system, or a caller's.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use ash::vk;

use crate::driver::host_image_copy::HostCopyPerformance;
use crate::driver::image_format::{ImageFormatInfo, ImageFormatProperties, ImageSupport};
use crate::instance::extensions::{
    self, DEBUG_UTILS, EXTERNAL_CAPABILITIES, PORTABILITY_ENUMERATION, PROPERTIES2,
};
use crate::instance::functions::{
    DebugUtilsFunctions, ExternalCapabilitiesFunctions, GlobalFunctions, InstanceFunctions,
    Properties2Functions, Provider,
};
use crate::instance::loader::Loader;
use crate::instance::open_error::OpenError;
use crate::instance::validation::{LAYER, Messenger, ValidationLog};

/// An instance and its functions. Destroys on drop what it created.
pub(crate) struct Instance {
    pub(crate) handle: vk::Instance,
    pub(crate) functions: InstanceFunctions,
    loader: Loader,
    /// The newest version that its devices may use.
    pub(crate) api_version: u32,
    /// Enabled extensions; for a wrapped instance, also those of the device.
    pub(crate) extensions: Vec<String>,
    /// The validation layer's messages, if it is enabled.
    pub(crate) validation: Option<ValidationLog>,
    /// The Vulkan version that the validation layer supports, if it is enabled.
    pub(crate) layer_version: Option<u32>,
    /// Extensions that an instance could have, if it was created here.
    pub(crate) present: Vec<String>,
    core_properties2: Option<Properties2Functions>,
    khr_properties2: Option<Properties2Functions>,
    core_external: Option<ExternalCapabilitiesFunctions>,
    khr_external: Option<ExternalCapabilitiesFunctions>,
    messenger: Option<Messenger>,
    owned: bool,
}

/// Options of a new instance.
pub(crate) struct InstanceOptions<'a> {
    pub(crate) application_name: &'a str,
    /// The newest version to use.
    pub(crate) api_version: Option<u32>,
    /// Requested extensions of the instance or the device.
    pub(crate) extensions: &'a [String],
    /// Optional extensions that are not to be enabled.
    pub(crate) without: &'a [String],
    pub(crate) validation: bool,
    /// Whether to enable what reports of faults need, where it is present.
    pub(crate) fault_reports: bool,
}

impl Instance {
    /// Creates an instance without a window system.
    pub(crate) fn create(loader: Loader, options: &InstanceOptions<'_>) -> Result<Self, OpenError> {
        let global = loader.global_functions()?;
        let mut api_version = loader.version()?;
        if let Some(cap) = options.api_version {
            api_version = api_version.min(checked_version(cap)?);
        }
        let mut present = instance_extensions(&global, None)?;
        let mut layers: Vec<*const c_char> = Vec::new();
        let mut layer_version = None;
        if options.validation {
            let version = validation_layer_version(&global)?;
            let version = version.ok_or(OpenError::ValidationLayerMissing)?;
            // The layer reports newer structures as errors.
            api_version = api_version.min(version);
            layer_version = Some(version);
            layers.push(LAYER.as_ptr());
            present.extend(instance_extensions(&global, Some(LAYER))?);
        }

        let mut enabled =
            extensions::choose_for_instance(&present, options.extensions, options.without);
        let mut flags = vk::InstanceCreateFlags::empty();
        let mut enable = |name: &str| {
            if !extensions::has(&enabled, name) {
                enabled.push(name.to_owned());
            }
        };
        if extensions::has(&present, PORTABILITY_ENUMERATION) {
            enable(PORTABILITY_ENUMERATION);
            flags |= vk::InstanceCreateFlags::ENUMERATE_PORTABILITY_KHR;
        }
        let reports = options.fault_reports
            && extensions::has(&present, DEBUG_UTILS)
            && !extensions::has(options.without, DEBUG_UTILS);
        if options.validation || reports {
            enable(DEBUG_UTILS);
        }
        let c_extensions = c_names(&enabled);
        let extension_pointers: Vec<_> = c_extensions.iter().map(|name| name.as_ptr()).collect();
        let application_name = c_string(options.application_name);
        let application = vk::ApplicationInfo::default()
            .application_name(&application_name)
            .engine_name(c"vk-mem")
            .api_version(api_version);
        let validation = options.validation.then(ValidationLog::default);
        // A second messenger, for the creation and destruction of the instance itself.
        let mut messenger_info = validation.as_ref().map(ValidationLog::messenger_info);
        let mut info = vk::InstanceCreateInfo::default()
            .flags(flags)
            .application_info(&application)
            .enabled_layer_names(&layers)
            .enabled_extension_names(&extension_pointers);
        if let Some(messenger_info) = &mut messenger_info {
            info = info.push_next(messenger_info);
        }

        let mut handle = vk::Instance::null();
        // SAFETY: everything that `info` points to lives until the end of this function; the log lives as
        // long as the instance.
        match unsafe { (global.create_instance)(&info, ptr::null(), &mut handle) } {
            vk::Result::SUCCESS => {}
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => return Err(OpenError::NoDevice),
            result => return Err(OpenError::vulkan("vkCreateInstance")(result)),
        }
        // SAFETY: just created, by this loader, with these extensions.
        let loaded = unsafe { Self::load(loader, handle, api_version, enabled) };
        let mut instance = loaded.inspect_err(|_| {
            // SAFETY: the instance was just created by this loader; nothing was created from it yet.
            unsafe { destroy_unloaded(loader, handle) };
        })?;
        instance.owned = true;
        instance.validation = validation;
        instance.layer_version = layer_version;
        instance.present = present;
        if let Some(log) = &instance.validation {
            // SAFETY: the instance is live and has the extension.
            let functions = unsafe { instance.debug_utils() }?;
            // SAFETY: the instance has the extension, and keeps the log until both are destroyed.
            instance.messenger = Some(unsafe { Messenger::create(handle, functions, log) }?);
        }
        Ok(instance)
    }

    /// Loads the functions of an instance that stays the caller's.
    ///
    /// # Safety
    /// The instance is live, comes from this loader, and stays live as long as the result.
    pub(crate) unsafe fn load(
        loader: Loader,
        handle: vk::Instance,
        api_version: u32,
        extensions: Vec<String>,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller guarantees a valid instance.
        let find = |name: &CStr| unsafe { loader.find(handle, name) };
        // SAFETY: `find` returns the function of the name.
        let functions = unsafe { InstanceFunctions::load(Provider::VULKAN_1_0, &find) }?;
        let mut core_properties2 = None;
        if api_version >= vk::API_VERSION_1_1 {
            // SAFETY: `find` returns the function of the name.
            core_properties2 =
                Some(unsafe { Properties2Functions::load(Provider::VULKAN_1_1, &find) }?);
        }
        let mut khr_properties2 = None;
        if extensions.iter().any(|name| name == PROPERTIES2) {
            // SAFETY: `find` returns the function of the name.
            khr_properties2 =
                Some(unsafe { Properties2Functions::load(Provider::khr(PROPERTIES2), &find) }?);
        }
        let mut core_external = None;
        if api_version >= vk::API_VERSION_1_1 {
            // SAFETY: `find` returns the function of the name.
            core_external =
                Some(unsafe { ExternalCapabilitiesFunctions::load(Provider::VULKAN_1_1, &find) }?);
        }
        let mut khr_external = None;
        if extensions.iter().any(|name| name == EXTERNAL_CAPABILITIES) {
            let provider = Provider::khr(EXTERNAL_CAPABILITIES);
            // SAFETY: `find` returns the function of the name.
            khr_external = Some(unsafe { ExternalCapabilitiesFunctions::load(provider, &find) }?);
        }
        Ok(Self {
            handle,
            functions,
            loader,
            api_version,
            extensions,
            validation: None,
            layer_version: None,
            present: Vec::new(),
            core_properties2,
            khr_properties2,
            core_external,
            khr_external,
            messenger: None,
            owned: false,
        })
    }

    /// Returns the functions of `VK_EXT_debug_utils`.
    ///
    /// # Safety
    /// The instance is live and has the extension.
    pub(crate) unsafe fn debug_utils(&self) -> Result<DebugUtilsFunctions, OpenError> {
        // SAFETY: the caller guarantees a live instance.
        let find = |name: &CStr| unsafe { self.loader.find(self.handle, name) };
        // SAFETY: `find` returns the function of the name.
        unsafe { DebugUtilsFunctions::load(Provider::extension(DEBUG_UTILS), &find) }
    }

    /// Returns `vkGetPhysicalDeviceProperties2` and the like, for devices of a version.
    ///
    /// The core functions need both the instance and the device to support 1.1.
    pub(crate) fn properties2(&self, device_version: u32) -> Option<&Properties2Functions> {
        if device_version >= vk::API_VERSION_1_1 && self.core_properties2.is_some() {
            self.core_properties2.as_ref()
        } else {
            self.khr_properties2.as_ref()
        }
    }

    /// Returns `vkGetPhysicalDeviceExternalBufferProperties`, for devices of a version.
    pub(crate) fn external_capabilities(
        &self,
        device_version: u32,
    ) -> Option<&ExternalCapabilitiesFunctions> {
        if device_version >= vk::API_VERSION_1_1 && self.core_external.is_some() {
            self.core_external.as_ref()
        } else {
            self.khr_external.as_ref()
        }
    }

    /// Returns the limits of a kind of image on a device of a version.
    pub(crate) fn image_format_properties(
        &self,
        device: vk::PhysicalDevice,
        device_version: u32,
        kind: &ImageFormatInfo,
    ) -> ImageSupport {
        self.image_format_properties_with(device, device_version, kind, None)
    }

    /// Returns what `HOST_TRANSFER` usage costs images of a kind, on a device with the feature `hostImageCopy`.
    pub(crate) fn host_copy_performance(
        &self,
        device: vk::PhysicalDevice,
        device_version: u32,
        kind: &ImageFormatInfo,
    ) -> Option<HostCopyPerformance> {
        let mut query = vk::HostImageCopyDevicePerformanceQueryEXT::default();
        let found =
            self.image_format_properties_with(device, device_version, kind, Some(&mut query));
        matches!(found, ImageSupport::UpTo(_)).then_some(HostCopyPerformance {
            optimal_device_access: query.optimal_device_access == vk::TRUE,
            identical_memory_layout: query.identical_memory_layout == vk::TRUE,
        })
    }

    /// Returns the limits of a kind of image, and fills a query of the performance of copies by the host.
    fn image_format_properties_with(
        &self,
        device: vk::PhysicalDevice,
        device_version: u32,
        kind: &ImageFormatInfo,
        performance: Option<&mut vk::HostImageCopyDevicePerformanceQueryEXT<'_>>,
    ) -> ImageSupport {
        let (format, image_type) =
            (vk::Format::from_raw(kind.format), vk::ImageType::from_raw(kind.image_type));
        let tiling = vk::ImageTiling::from_raw(kind.tiling);
        let usage = vk::ImageUsageFlags::from_raw(kind.usage);
        let flags = vk::ImageCreateFlags::from_raw(kind.flags);
        // `vkGetPhysicalDeviceImageFormatProperties` does not say whether planes can be bound separately.
        if flags.contains(vk::ImageCreateFlags::DISJOINT)
            && !self
                .format_features(device, format, tiling)
                .contains(vk::FormatFeatureFlags::DISJOINT)
        {
            return ImageSupport::None;
        }
        let Some(functions) = self.properties2(device_version) else {
            if kind.stencil_usage.is_some() || kind.handle_type != 0 || performance.is_some() {
                return ImageSupport::Unknown;
            }
            let get = self.functions.get_physical_device_image_format_properties;
            let mut found = vk::ImageFormatProperties::default();
            // SAFETY: the physical device belongs to this instance; the pointer is valid for the call.
            let result =
                unsafe { get(device, format, image_type, tiling, usage, flags, &mut found) };
            return image_support(result, &found);
        };
        let mut info = vk::PhysicalDeviceImageFormatInfo2::default()
            .format(format)
            .ty(image_type)
            .tiling(tiling)
            .usage(usage)
            .flags(flags);
        let mut stencil = vk::ImageStencilUsageCreateInfo::default();
        if let Some(usage) = kind.stencil_usage {
            stencil = stencil.stencil_usage(vk::ImageUsageFlags::from_raw(usage));
            info = info.push_next(&mut stencil);
        }
        let formats: Vec<_> =
            kind.view_formats.iter().map(|it| vk::Format::from_raw(*it)).collect();
        let mut list = vk::ImageFormatListCreateInfo::default();
        if !formats.is_empty() {
            list = list.view_formats(&formats);
            info = info.push_next(&mut list);
        }
        let mut external = vk::PhysicalDeviceExternalImageFormatInfo::default();
        if kind.handle_type != 0 {
            if self.external_capabilities(device_version).is_none() {
                return ImageSupport::Unknown;
            }
            let handle_type = vk::ExternalMemoryHandleTypeFlags::from_raw(kind.handle_type);
            external = external.handle_type(handle_type);
            info = info.push_next(&mut external);
        }
        let mut found = vk::ImageFormatProperties2::default();
        // Some drivers write to it only if it is chained, others always.
        let mut shared = vk::ExternalImageFormatProperties::default();
        if kind.handle_type != 0 {
            found = found.push_next(&mut shared);
        }
        if let Some(query) = performance {
            found = found.push_next(query);
        }
        let get = functions.get_physical_device_image_format_properties2;
        // SAFETY: the physical device belongs to this instance; the structures live for the call.
        let result = unsafe { get(device, &info, &mut found) };
        image_support(result, &found.image_format_properties)
    }

    /// Returns what images of a format can be used for.
    pub(crate) fn format_features(
        &self,
        device: vk::PhysicalDevice,
        format: vk::Format,
        tiling: vk::ImageTiling,
    ) -> vk::FormatFeatureFlags {
        let mut found = vk::FormatProperties::default();
        let get = self.functions.get_physical_device_format_properties;
        // SAFETY: the physical device belongs to this instance; the pointer is valid for the call.
        unsafe { get(device, format, &mut found) };
        match tiling {
            vk::ImageTiling::OPTIMAL => found.optimal_tiling_features,
            vk::ImageTiling::LINEAR => found.linear_tiling_features,
            _ => vk::FormatFeatureFlags::empty(),
        }
    }

    /// Returns all physical devices, in the driver's order.
    pub(crate) fn physical_devices(&self) -> Result<Vec<vk::PhysicalDevice>, OpenError> {
        // SAFETY: the instance is live; `read_all` passes a pointer to `count` items.
        let devices = read_all(|count, items| unsafe {
            (self.functions.enumerate_physical_devices)(self.handle, count, items)
        })
        .map_err(OpenError::vulkan("vkEnumeratePhysicalDevices"))?;
        if devices.is_empty() { Err(OpenError::NoDevice) } else { Ok(devices) }
    }

    /// Returns the names of the extensions that a device supports, enabled or not.
    ///
    /// # Safety
    /// The device belongs to this instance.
    pub(crate) unsafe fn device_extensions(
        &self,
        device: vk::PhysicalDevice,
    ) -> Result<Vec<String>, OpenError> {
        // SAFETY: the caller guarantees a valid device; no layer is named; `read_all` passes a pointer to
        // `count` items.
        read_all(|count, items| unsafe {
            let function = self.functions.enumerate_device_extension_properties;
            function(device, ptr::null(), count, items)
        })
        .map(|properties| extension_names(&properties))
        .map_err(OpenError::vulkan("vkEnumerateDeviceExtensionProperties"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(messenger) = &self.messenger {
            // SAFETY: created with this instance, and dropped once.
            unsafe { messenger.destroy(self.handle) };
        }
        if self.owned {
            // SAFETY: created here; its device is dropped before it.
            unsafe { (self.functions.destroy_instance)(self.handle, ptr::null()) };
        }
    }
}

/// Destroys an instance of which some functions are missing.
///
/// # Safety
/// The instance is live, comes from this loader, and is not owned elsewhere.
unsafe fn destroy_unloaded(loader: Loader, handle: vk::Instance) {
    // SAFETY: the caller guarantees a valid instance.
    if let Some(function) = unsafe { loader.find(handle, c"vkDestroyInstance") } {
        // SAFETY: the type is that of the function of this name.
        let destroy = unsafe {
            std::mem::transmute::<unsafe extern "system" fn(), vk::PFN_vkDestroyInstance>(function)
        };
        // SAFETY: the caller guarantees a valid instance.
        unsafe { destroy(handle, ptr::null()) };
    }
}

fn image_support(result: vk::Result, found: &vk::ImageFormatProperties) -> ImageSupport {
    match result {
        vk::Result::SUCCESS => {
            let vk::Extent3D { width, height, depth } = found.max_extent;
            ImageSupport::UpTo(ImageFormatProperties {
                max_extent: (width, height, depth),
                max_mip_levels: found.max_mip_levels,
                max_array_layers: found.max_array_layers,
                sample_counts: found.sample_counts.as_raw(),
            })
        }
        vk::Result::ERROR_FORMAT_NOT_SUPPORTED => ImageSupport::None,
        // Out of memory, or not reported by the driver.
        _ => ImageSupport::Unknown,
    }
}

fn instance_extensions(
    global: &GlobalFunctions,
    layer: Option<&CStr>,
) -> Result<Vec<String>, OpenError> {
    let layer = layer.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the layer's name lives for the call; `read_all` passes a pointer to `count` items.
    read_all(|count, items| unsafe {
        (global.enumerate_instance_extension_properties)(layer, count, items)
    })
    .map(|properties| extension_names(&properties))
    .map_err(OpenError::vulkan("vkEnumerateInstanceExtensionProperties"))
}

/// Returns the Vulkan version that the validation layer was written for; `None` if the layer is not
/// installed.
fn validation_layer_version(global: &GlobalFunctions) -> Result<Option<u32>, OpenError> {
    // SAFETY: `read_all` passes a pointer to `count` items.
    let layers: Vec<vk::LayerProperties> = read_all(|count, items| unsafe {
        (global.enumerate_instance_layer_properties)(count, items)
    })
    .map_err(OpenError::vulkan("vkEnumerateInstanceLayerProperties"))?;
    let layer = layers.iter().find(|layer| layer.layer_name_as_c_str() == Ok(LAYER));
    Ok(layer.map(|layer| layer.spec_version))
}

fn extension_names(properties: &[vk::ExtensionProperties]) -> Vec<String> {
    properties
        .iter()
        .filter_map(|extension| extension.extension_name_as_c_str().ok())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Reads a list the way Vulkan returns it: once for the count, once for the items, again if it grew.
fn read_all<T: Copy + Default>(
    mut call: impl FnMut(&mut u32, *mut T) -> vk::Result,
) -> Result<Vec<T>, vk::Result> {
    loop {
        let mut count = 0;
        call(&mut count, ptr::null_mut()).result()?;
        let mut items = vec![T::default(); count as usize];
        match call(&mut count, items.as_mut_ptr()) {
            vk::Result::INCOMPLETE => {}
            result => {
                result.result()?;
                items.truncate(count as usize);
                return Ok(items);
            }
        }
    }
}

/// Converts names for Vulkan. They contain no NUL, or come from Vulkan.
pub(crate) fn c_names(names: &[String]) -> Vec<CString> {
    names.iter().map(|name| c_string(name)).collect()
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("NULs were taken out")
}

/// Rejects versions below 1.0: small numbers instead of a `VK_MAKE_API_VERSION`.
pub(crate) fn checked_version(version: u32) -> Result<u32, OpenError> {
    if vk::api_version_major(version) < 1 {
        return Err(OpenError::ApiVersionTooLow { version });
    }
    Ok(version)
}
