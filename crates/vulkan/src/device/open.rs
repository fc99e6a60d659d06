//! Opening a device without a window: instance, device and its queues.

use std::fmt;
use std::ptr;

use ash::vk;
use vkmem_engine::DeviceType;

use crate::device::callbacks::AllocationCallbacks;
use crate::device::logical::LogicalDevice;
use crate::device::vulkan_device::{Parts, TransferQueueParts, VulkanDevice};
use crate::instance::capabilities::Capabilities;
use crate::instance::extensions::{
    ADDRESS_BINDING_REPORT, BUFFER_DEVICE_ADDRESS, DEBUG_UTILS, DEVICE_COHERENT_MEMORY,
    DEVICE_FAULT_FEATURE, HOST_IMAGE_COPY, MEMORY_PRIORITY, PAGEABLE_DEVICE_LOCAL_MEMORY,
    REPORT_ADDRESS_BINDING, Request, TIMELINE_SEMAPHORE, choose_for_device, features_to_query, has,
    is_left_out, is_there, known_to_layer,
};
use crate::instance::features::{FeatureBit, FeatureChain, NoPlace, place_of};
use crate::instance::info::{
    PhysicalDeviceSummary, dedicated_transfer_family, queue_families, summarise,
    transfer_queue_family,
};
use crate::instance::loader::Loader;
use crate::instance::nearest::{meant, nearest};
use crate::instance::open_error::OpenError;
use crate::instance::vulkan_instance::{Instance, InstanceOptions, c_names};

/// The device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSelector {
    /// A discrete GPU before an integrated one, before a virtual one, before others, before a CPU driver.
    /// The first among equals.
    #[default]
    Best,
    /// The index in the order of [`enumerate`].
    Index(u32),
    /// The best device whose name contains this text, ignoring case.
    Name(String),
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("usable"),
            Self::Index(index) => write!(f, "number {index}"),
            Self::Name(name) => write!(f, "called {name:?}"),
        }
    }
}

/// Options of opening a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The device to open.
    pub selector: DeviceSelector,
    /// Whether to enable the validation layer and collect its messages.
    pub validation: bool,
    /// Application name for drivers and tools.
    pub application_name: String,
    /// The newest version to use (`VK_MAKE_API_VERSION`); `None` for the newest of loader and device.
    pub api_version: Option<u32>,
    /// Extensions of the instance or the device to enable besides those that an allocator uses.
    pub extensions: Vec<String>,
    /// Extensions that an allocator would use but that are not to be enabled; this includes extensions
    /// that need them, and their functions in the core version.
    pub without_extensions: Vec<String>,
    /// Features to enable, by their Vulkan names, with the extensions that they need.
    pub features: Vec<String>,
    /// `VkQueueFlags` that the queue family must have; 0 selects the family with the most.
    pub queue_flags: u32,
    /// Host memory callbacks for objects of the device.
    pub allocation_callbacks: Option<AllocationCallbacks>,
    /// Whether to keep what is needed to explain faults: which objects addresses are bound to
    /// (`VK_EXT_device_address_binding_report`, where the device has it), and what was freed.
    pub fault_reports: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            selector: DeviceSelector::Best,
            validation: false,
            application_name: "vk-mem".to_owned(),
            api_version: None,
            extensions: Vec::new(),
            without_extensions: Vec::new(),
            features: Vec::new(),
            queue_flags: 0,
            allocation_callbacks: None,
            fault_reports: false,
        }
    }
}

/// Returns all devices in the driver's order; creates an instance for the duration of the call.
///
/// # Errors
/// An [`OpenError`] if there is no loader or driver.
pub fn enumerate() -> Result<Vec<PhysicalDeviceSummary>, OpenError> {
    enumerate_all().map_err(OpenError::or_no_descriptors)
}

fn enumerate_all() -> Result<Vec<PhysicalDeviceSummary>, OpenError> {
    let options = InstanceOptions {
        application_name: "vk-mem",
        api_version: None,
        extensions: &[],
        without: &[],
        validation: false,
        fault_reports: false,
    };
    let instance = Instance::create(Loader::system()?, &options)?;
    let devices = instance.physical_devices()?;
    // SAFETY: the devices are of this instance.
    devices.into_iter().map(|device| unsafe { summarise(&instance, device) }).collect()
}

impl VulkanDevice {
    /// Opens a device without a window, for this library and for users of its handles.
    ///
    /// It gets one queue, a second one of a family for transfers where there is one, and of the optional extensions and features only those that an allocator uses.
    ///
    /// # Errors
    /// An [`OpenError`] that names what is missing.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        // SAFETY: the system's loader stays loaded.
        unsafe { Self::open_through(0, options) }
    }

    /// Opens a device like [`open`](Self::open), through the loader of a `vkGetInstanceProcAddr`; 0 for
    /// the system's loader.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    ///
    /// # Safety
    /// The address is 0 or that of a `vkGetInstanceProcAddr`; it and the functions that it returns stay
    /// loaded.
    pub unsafe fn open_through(
        get_instance_proc_addr: u64,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller guarantees a valid address.
        let loader = unsafe { Loader::of_caller(get_instance_proc_addr) };
        loader
            .and_then(|loader| Self::open_with(loader, options))
            .map_err(OpenError::or_no_descriptors)
    }

    fn open_with(loader: Loader, options: &OpenOptions) -> Result<Self, OpenError> {
        let mut wanted = options.extensions.clone();
        let without = &options.without_extensions;
        if let Some(name) = wanted.iter().find(|name| is_left_out(name, without)) {
            return Err(OpenError::LeftOut { what: name.clone() });
        }
        let instance = Instance::create(
            loader,
            &InstanceOptions {
                application_name: &options.application_name,
                api_version: options.api_version,
                extensions: &wanted,
                without,
                validation: options.validation,
                fault_reports: options.fault_reports,
            },
        )?;
        let (physical_device, summary) = select(&instance, &options.selector)?;
        let info = summary.info;
        let flags = vk::QueueFlags::from_raw(options.queue_flags);
        // SAFETY: the physical device belongs to this instance.
        let queue_family_index =
            unsafe { transfer_queue_family(&instance, physical_device, flags) }.map_err(
                |present| OpenError::NoQueue { name: info.name.clone(), flags, present },
            )?;
        // SAFETY: the physical device belongs to this instance.
        let families = unsafe { queue_families(&instance, physical_device) };
        let transfer_family = dedicated_transfer_family(&families, queue_family_index);
        let mut present = known_to_layer(summary.extensions, instance.layer_version, &wanted);
        // Reports of bindings cost something even if nobody listens.
        let reports = options.fault_reports
            || has(&wanted, ADDRESS_BINDING_REPORT)
            || has(&options.features, REPORT_ADDRESS_BINDING);
        present.retain(|name| reports || name != ADDRESS_BINDING_REPORT);
        let mut lacks = Vec::new();
        for name in &wanted {
            if !has(&instance.extensions, name) && !is_there(name, &present, info.api_version) {
                let known = present.iter().chain(&instance.present).map(String::as_str);
                lacks.push(format!("the extension {name}{}", meant(&nearest(name, known))));
            }
        }
        let mut asked = Features::default();
        for (name, extension) in features_to_query(&present, info.api_version) {
            let preferred: Vec<_> = wanted.iter().cloned().chain([extension.to_owned()]).collect();
            if let Ok((place, _)) = place_of(name, info.api_version, &present, &preferred) {
                asked.add(name, place);
            }
        }
        for name in &options.features {
            match place_of(name, info.api_version, &present, &options.extensions) {
                Ok((place, needed)) => {
                    asked.add(name, place);
                    if let Some(needed) = needed.filter(|it| !has(&wanted, it)) {
                        if is_left_out(needed, without) {
                            let what = format!("{needed}, which the feature {name} needs");
                            return Err(OpenError::LeftOut { what });
                        }
                        wanted.push(needed.to_owned());
                    }
                }
                Err(NoPlace::Unknown(near)) => {
                    return Err(OpenError::UnknownFeature { name: name.clone(), near });
                }
                Err(NoPlace::Needs(needs)) => {
                    lacks.push(format!("the feature {name}, which needs {}", needs.join(" or ")));
                }
            }
        }
        // SAFETY: the physical device belongs to this instance and supports the structures of the
        // features.
        unsafe { asked.query(&instance, physical_device, info.api_version) };
        let is_known = |name: &&String| asked.places.iter().any(|(known, _)| known == *name);
        for name in options.features.iter().filter(is_known) {
            if !asked.is_supported(name) {
                lacks.push(format!("the feature {name}"));
            }
        }
        if !lacks.is_empty() {
            return Err(OpenError::Lacks { device: info.name, lacks });
        }
        let (extensions, own) = choose_for_device(
            &present,
            Request { wanted: &wanted, without },
            info.api_version,
            &instance.extensions,
            &|name| asked.is_supported(name),
        );
        let mut features: Vec<String> = own.into_iter().map(String::from).collect();
        for name in &options.features {
            if !has(&features, name) {
                features.push(name.clone());
            }
        }
        let mut enabled = FeatureChain::default();
        for (_, place) in asked.places.iter().filter(|(name, _)| has(&features, name)) {
            enabled.set(*place);
        }
        // SAFETY: the physical device belongs to this instance, and has the family, the extensions and
        // the features.
        let logical = unsafe {
            let device = create_device(
                &instance,
                physical_device,
                &[Some(queue_family_index), transfer_family],
                &extensions,
                &mut enabled,
            );
            LogicalDevice::load(&instance, device?, true, options.allocation_callbacks)
        }?;
        let queue_of = |family_index: u32| {
            let (mut queue, get) = (vk::Queue::null(), logical.functions.get_device_queue);
            // SAFETY: the device was created with one queue of this family.
            unsafe { get(logical.handle, family_index, 0, &mut queue) };
            queue
        };
        let queue = queue_of(queue_family_index);
        let transfer_queue = transfer_family.map(|family_index| TransferQueueParts {
            queue: queue_of(family_index),
            family_index,
            family: families[family_index as usize],
            lock: None,
        });
        let is_on = |name: &str| has(&features, name);
        let mut capabilities = Capabilities::new(
            info.api_version,
            &extensions,
            is_on(BUFFER_DEVICE_ADDRESS),
            is_on(DEVICE_COHERENT_MEMORY),
        );
        // An extension that the caller requested may be enabled without its feature.
        capabilities.device_address &= is_on(BUFFER_DEVICE_ADDRESS);
        capabilities.timeline_semaphore = is_on(TIMELINE_SEMAPHORE);
        capabilities.host_image_copy = is_on(HOST_IMAGE_COPY);
        capabilities.amd_device_coherent &= is_on(DEVICE_COHERENT_MEMORY);
        capabilities.memory_priority &= is_on(MEMORY_PRIORITY);
        capabilities.pageable &= is_on(PAGEABLE_DEVICE_LOCAL_MEMORY);
        capabilities.device_fault &= is_on(DEVICE_FAULT_FEATURE);
        capabilities.address_binding_report &=
            is_on(REPORT_ADDRESS_BINDING) && has(&instance.extensions, DEBUG_UTILS);
        capabilities.leave_out(|name| is_left_out(name, without));
        let parts = Parts {
            instance,
            logical,
            physical_device,
            info,
            extensions,
            features,
            capabilities,
            queue,
            queue_family_index,
            queue_lock: None,
            transfer_queue,
            fault_reports: options.fault_reports,
        };
        // SAFETY: all parts were created above and belong together.
        unsafe { Self::assemble(parts) }
    }
}

/// Features to query and to enable.
#[derive(Default)]
struct Features {
    places: Vec<(String, FeatureBit)>,
    chain: FeatureChain,
    supported: Vec<String>,
}

impl Features {
    fn add(&mut self, name: &str, place: FeatureBit) {
        if !self.places.iter().any(|(known, _)| known == name) {
            self.places.push((name.to_owned(), place));
            self.chain.add(place);
        }
    }

    /// Queries which features the device supports.
    ///
    /// # Safety
    /// The device belongs to this instance and supports the structures of the features.
    unsafe fn query(&mut self, instance: &Instance, device: vk::PhysicalDevice, api_version: u32) {
        if let Some(functions) = instance.properties2(api_version) {
            let mut features =
                vk::PhysicalDeviceFeatures2 { p_next: self.chain.link(), ..Default::default() };
            // SAFETY: the caller guarantees a valid device; the chain lives for the call.
            unsafe { (functions.get_physical_device_features2)(device, &mut features) };
            *self.chain.core() = features.features;
        } else {
            let get = instance.functions.get_physical_device_features;
            // SAFETY: the caller guarantees a valid device; the structure lives for the call.
            unsafe { get(device, self.chain.core()) };
        }
        for (name, place) in &self.places {
            if self.chain.is_set(*place) {
                self.supported.push(name.clone());
            }
        }
    }

    fn is_supported(&self, name: &str) -> bool {
        has(&self.supported, name)
    }
}

fn select(
    instance: &Instance,
    selector: &DeviceSelector,
) -> Result<(vk::PhysicalDevice, PhysicalDeviceSummary), OpenError> {
    let devices = instance.physical_devices()?;
    let mut summaries = Vec::with_capacity(devices.len());
    for device in &devices {
        // SAFETY: the device belongs to this instance.
        summaries.push(unsafe { summarise(instance, *device) }?);
    }
    let described: Vec<_> = summaries
        .iter()
        .map(|summary| (summary.info.name.as_str(), summary.info.device_type))
        .collect();
    let index = select_index(&described, selector).ok_or_else(|| OpenError::NoSuchDevice {
        wanted: selector.to_string(),
        present: described.iter().map(|(name, _)| (*name).to_owned()).collect(),
    })?;
    Ok((devices[index], summaries.swap_remove(index)))
}

fn select_index(devices: &[(&str, DeviceType)], selector: &DeviceSelector) -> Option<usize> {
    let best = |part: &str| {
        (0..devices.len())
            .filter(|index| devices[*index].0.to_lowercase().contains(part))
            .min_by_key(|index| rank(devices[*index].1))
    };
    match selector {
        DeviceSelector::Best => best(""),
        DeviceSelector::Name(name) => best(&name.to_lowercase()),
        DeviceSelector::Index(index) => {
            usize::try_from(*index).ok().filter(|index| *index < devices.len())
        }
    }
}

fn rank(device_type: DeviceType) -> u32 {
    match device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// Creates a device with one queue of each family.
///
/// # Safety
/// The physical device belongs to this instance, and has the queue families, the extensions and the
/// features.
unsafe fn create_device(
    instance: &Instance,
    physical_device: vk::PhysicalDevice,
    families: &[Option<u32>],
    extensions: &[String],
    features: &mut FeatureChain,
) -> Result<vk::Device, OpenError> {
    let queues: Vec<_> = families
        .iter()
        .flatten()
        .map(|family_index| {
            vk::DeviceQueueCreateInfo::default()
                .queue_family_index(*family_index)
                .queue_priorities(&[1.0])
        })
        .collect();
    let c_extensions = c_names(extensions);
    let extension_pointers: Vec<_> = c_extensions.iter().map(|name| name.as_ptr()).collect();
    let mut info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_extension_names(&extension_pointers);
    info.p_next = features.link();
    info.p_enabled_features = features.core();
    let mut handle = vk::Device::null();
    let create = instance.functions.create_device;
    // SAFETY: the caller guarantees a valid device; all that `info` points to lives for the call.
    unsafe { create(physical_device, &info, ptr::null(), &mut handle) }
        .result()
        .map_err(OpenError::vulkan("vkCreateDevice"))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_device_is_a_discrete_gpu() {
        let devices = [
            ("llvmpipe", DeviceType::Cpu),
            ("Intel Iris", DeviceType::IntegratedGpu),
            ("NVIDIA A", DeviceType::DiscreteGpu),
            ("NVIDIA B", DeviceType::DiscreteGpu),
        ];
        let index = |selector| select_index(&devices, &selector);
        assert_eq!(index(DeviceSelector::Best), Some(2));
        assert_eq!(index(DeviceSelector::Name("nvidia b".to_owned())), Some(3));
        assert_eq!(index(DeviceSelector::Name("PIPE".to_owned())), Some(0));
        assert_eq!(index(DeviceSelector::Name("radeon".to_owned())), None);
        assert_eq!(index(DeviceSelector::Index(1)), Some(1));
        assert_eq!(index(DeviceSelector::Index(4)), None);
    }
}
