//! Opens a device without a window: instance, device, one queue.

use std::fmt;
use std::ptr;

use ash::vk;
use vkmem_engine::DeviceType;

use crate::capabilities::Capabilities;
use crate::device::{LogicalDevice, Parts, VulkanDevice};
use crate::extensions::{
    Feature, FeatureChain, choose_for_device, features_to_query, known_to_layer,
};
use crate::info::{PhysicalDeviceSummary, summarise, transfer_queue_family};
use crate::instance::{Instance, InstanceOptions, c_names};
use crate::loader::Loader;
use crate::open_error::OpenError;

/// Which device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSelector {
    /// A discrete GPU before an integrated one, before a virtual one, before the rest; a driver
    /// that runs on the processor last. The first among equals.
    #[default]
    Best,
    /// In the order of [`enumerate`].
    Index(u32),
    /// The best whose name contains this, in upper or lower case.
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

/// How to open a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Which one.
    pub selector: DeviceSelector,
    /// Turns the validation layer on and collects its messages.
    pub validation: bool,
    /// For drivers and tools.
    pub application_name: String,
    /// The newest version to use (`VK_MAKE_API_VERSION`); `None` for what loader and device have.
    pub api_version: Option<u32>,
    /// Of the optional extensions, only these and those they need; `None` for all. Names that this
    /// library has no use for are passed over; so are those that the device does not have.
    pub extensions: Option<Vec<String>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            selector: DeviceSelector::Best,
            validation: false,
            application_name: "vk-mem".to_owned(),
            api_version: None,
            extensions: None,
        }
    }
}

/// All devices, in the driver's order, with an instance that lives for the call.
pub fn enumerate() -> Result<Vec<PhysicalDeviceSummary>, OpenError> {
    let options = InstanceOptions {
        application_name: "vk-mem",
        api_version: None,
        restriction: None,
        validation: false,
    };
    let instance = Instance::create(Loader::system()?, &options)?;
    let devices = instance.physical_devices()?;
    // SAFETY: the devices are of this instance.
    devices.into_iter().map(|device| unsafe { summarise(&instance, device) }).collect()
}

impl VulkanDevice {
    /// Opens a device without a window, for this library and whoever uses its handles.
    ///
    /// It gets one queue, and of the optional extensions and features only those that an allocator
    /// has a use for.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        Self::open_with(Loader::system()?, options)
    }

    /// The same through the loader behind the address of a `vkGetInstanceProcAddr`; 0 for the
    /// system's.
    ///
    /// # Safety
    /// The address is zero or that of a `vkGetInstanceProcAddr` that stays loaded, as does what it
    /// returns.
    pub unsafe fn open_through(
        get_instance_proc_addr: u64,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        // SAFETY: the caller vouches for the address.
        Self::open_with(unsafe { Loader::of_caller(get_instance_proc_addr) }?, options)
    }

    fn open_with(loader: Loader, options: &OpenOptions) -> Result<Self, OpenError> {
        let restriction = options.extensions.as_deref();
        let instance = Instance::create(
            loader,
            &InstanceOptions {
                application_name: &options.application_name,
                api_version: options.api_version,
                restriction,
                validation: options.validation,
            },
        )?;
        let (physical_device, summary) = select(&instance, &options.selector)?;
        let info = summary.info;
        // SAFETY: the physical device is of this instance.
        let queue_family_index = unsafe { transfer_queue_family(&instance, physical_device) }
            .ok_or_else(|| OpenError::NoQueue { name: info.name.clone() })?;
        let present = known_to_layer(summary.extensions, instance.layer_version);
        let asked = features_to_query(&present, info.api_version);
        // SAFETY: as above.
        let supported =
            unsafe { supported_features(&instance, physical_device, info.api_version, &asked) };
        let (extensions, features) = choose_for_device(
            &present,
            restriction,
            info.api_version,
            &instance.extensions,
            &supported,
        );
        // SAFETY: as above; the device has the family, the extensions and the features.
        let logical = unsafe {
            create_device(&instance, physical_device, queue_family_index, &extensions, &features)
        }?;
        let mut queue = vk::Queue::null();
        // SAFETY: the device was created with one queue of this family.
        unsafe {
            (logical.functions.get_device_queue)(logical.handle, queue_family_index, 0, &mut queue);
        }
        let capabilities = Capabilities::new(
            info.api_version,
            &extensions,
            features.contains(&Feature::BufferDeviceAddress),
            features.contains(&Feature::DeviceCoherentMemory),
        );
        let parts = Parts {
            instance,
            logical,
            physical_device,
            info,
            extensions,
            capabilities,
            queue,
            queue_family_index,
        };
        // SAFETY: all parts were made above.
        unsafe { Self::assemble(parts) }
    }
}

fn select(
    instance: &Instance,
    selector: &DeviceSelector,
) -> Result<(vk::PhysicalDevice, PhysicalDeviceSummary), OpenError> {
    let devices = instance.physical_devices()?;
    let mut summaries = Vec::with_capacity(devices.len());
    for device in &devices {
        // SAFETY: the device is of this instance.
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

/// # Safety
/// The device is one of this instance, and knows the structures of the features.
unsafe fn supported_features(
    instance: &Instance,
    device: vk::PhysicalDevice,
    api_version: u32,
    asked: &[Feature],
) -> Vec<Feature> {
    let Some(functions) = instance.properties2(api_version) else { return Vec::new() };
    let mut chain = FeatureChain::default();
    let mut features =
        vk::PhysicalDeviceFeatures2 { p_next: chain.link(asked, false), ..Default::default() };
    // SAFETY: the caller vouches for the device; the chain lives for the call.
    unsafe { (functions.get_physical_device_features2)(device, &mut features) };
    asked.iter().copied().filter(|feature| chain.is_set(*feature)).collect()
}

/// # Safety
/// The device is one of this instance, and has the queue family, the extensions and the features.
unsafe fn create_device(
    instance: &Instance,
    physical_device: vk::PhysicalDevice,
    queue_family_index: u32,
    extensions: &[String],
    features: &[Feature],
) -> Result<LogicalDevice, OpenError> {
    let queue = vk::DeviceQueueCreateInfo::default()
        .queue_family_index(queue_family_index)
        .queue_priorities(&[1.0]);
    let c_extensions = c_names(extensions);
    let extension_pointers: Vec<_> = c_extensions.iter().map(|name| name.as_ptr()).collect();
    let mut chain = FeatureChain::default();
    let mut info = vk::DeviceCreateInfo::default()
        .queue_create_infos(std::slice::from_ref(&queue))
        .enabled_extension_names(&extension_pointers);
    info.p_next = chain.link(features, true);
    let mut handle = vk::Device::null();
    let create = instance.functions.create_device;
    // SAFETY: the caller vouches for the device; all that `info` points to lives for the call.
    unsafe { create(physical_device, &info, ptr::null(), &mut handle) }
        .result()
        .map_err(OpenError::vulkan("vkCreateDevice"))?;
    // SAFETY: just created, for no one else.
    unsafe { LogicalDevice::load(instance, handle, true) }
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
