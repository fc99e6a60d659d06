//! Which optional extensions an opened instance and device get, and which features with them.

use std::ffi::c_void;

use ash::vk;

/// `VK_KHR_get_physical_device_properties2`
pub(crate) const PROPERTIES2: &str = "VK_KHR_get_physical_device_properties2";
/// `VK_KHR_external_memory_capabilities`
pub(crate) const EXTERNAL_CAPABILITIES: &str = "VK_KHR_external_memory_capabilities";
/// Must be enabled wherever a device has it.
pub(crate) const PORTABILITY_SUBSET: &str = "VK_KHR_portability_subset";
/// Without it, an instance hides devices that are not fully conformant, such as MoltenVK's.
pub(crate) const PORTABILITY_ENUMERATION: &str = "VK_KHR_portability_enumeration";
/// `VK_EXT_debug_utils`
pub(crate) const DEBUG_UTILS: &str = "VK_EXT_debug_utils";

const NEVER: u32 = u32::MAX;

/// A feature bit that must be enabled with an extension, or by itself once it is core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    BufferDeviceAddress,
    MemoryPriority,
    PageableDeviceLocalMemory,
    DeviceCoherentMemory,
    Maintenance4,
    Maintenance5,
}

/// An extension that helps an allocator.
struct Optional {
    name: &'static str,
    /// Enabled on devices of this version or newer.
    least: u32,
    /// Part of Vulkan from this version on, and then not enabled.
    core: u32,
    /// Extensions that it builds on.
    needs: &'static [&'static str],
    feature: Option<Feature>,
}

impl Optional {
    const fn new(name: &'static str, core: u32, needs: &'static [&'static str]) -> Self {
        Self { name, least: vk::API_VERSION_1_0, core, needs, feature: None }
    }

    const fn feature(mut self, feature: Feature, least: u32) -> Self {
        self.feature = Some(feature);
        self.least = least;
        self
    }
}

/// Younger than ash.
pub(crate) const API_VERSION_1_4: u32 = vk::make_api_version(0, 1, 4, 0);

/// Of instances. What others need stands before them, here and below.
const INSTANCE: &[Optional] = &[
    Optional::new(PROPERTIES2, vk::API_VERSION_1_1, &[]),
    Optional::new(EXTERNAL_CAPABILITIES, vk::API_VERSION_1_1, &[PROPERTIES2]),
];

/// Of devices.
const DEVICE: &[Optional] = &[
    Optional::new("VK_KHR_get_memory_requirements2", vk::API_VERSION_1_1, &[]),
    Optional::new(
        "VK_KHR_dedicated_allocation",
        vk::API_VERSION_1_1,
        &["VK_KHR_get_memory_requirements2"],
    ),
    Optional::new("VK_KHR_maintenance3", vk::API_VERSION_1_1, &[PROPERTIES2]),
    Optional::new(
        "VK_KHR_external_memory",
        vk::API_VERSION_1_1,
        &["VK_KHR_external_memory_capabilities"],
    ),
    Optional::new("VK_KHR_external_memory_fd", NEVER, &["VK_KHR_external_memory"]),
    Optional::new("VK_EXT_external_memory_dma_buf", NEVER, &["VK_KHR_external_memory_fd"]),
    Optional::new("VK_KHR_external_memory_win32", NEVER, &["VK_KHR_external_memory"]),
    Optional::new("VK_EXT_external_memory_host", NEVER, &["VK_KHR_external_memory"]),
    Optional::new("VK_EXT_memory_budget", NEVER, &[PROPERTIES2]),
    Optional::new("VK_EXT_memory_priority", NEVER, &[PROPERTIES2])
        .feature(Feature::MemoryPriority, vk::API_VERSION_1_0),
    Optional::new("VK_EXT_pageable_device_local_memory", NEVER, &["VK_EXT_memory_priority"])
        .feature(Feature::PageableDeviceLocalMemory, vk::API_VERSION_1_0),
    Optional::new("VK_AMD_device_coherent_memory", NEVER, &[PROPERTIES2])
        .feature(Feature::DeviceCoherentMemory, vk::API_VERSION_1_0),
    // On 1.0 it needs VK_KHR_device_group, which nothing else here has a use for.
    Optional::new("VK_KHR_buffer_device_address", vk::API_VERSION_1_2, &[PROPERTIES2])
        .feature(Feature::BufferDeviceAddress, vk::API_VERSION_1_1),
    Optional::new("VK_KHR_maintenance4", vk::API_VERSION_1_3, &[PROPERTIES2])
        .feature(Feature::Maintenance4, vk::API_VERSION_1_1),
    // Before 1.3 it needs VK_KHR_dynamic_rendering, which needs more.
    Optional::new("VK_KHR_maintenance5", API_VERSION_1_4, &[PROPERTIES2])
        .feature(Feature::Maintenance5, vk::API_VERSION_1_3),
];

/// Whether the caller's list, if there is one, has the extension or one that needs it.
fn is_wanted(name: &str, restriction: Option<&[String]>) -> bool {
    let Some(list) = restriction else { return true };
    list.iter().any(|listed| listed == name)
        || INSTANCE
            .iter()
            .chain(DEVICE)
            .any(|other| other.needs.contains(&name) && is_wanted(other.name, restriction))
}

fn is_core(name: &str, api_version: u32) -> bool {
    INSTANCE
        .iter()
        .chain(DEVICE)
        .any(|optional| optional.name == name && optional.core <= api_version)
}

fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|listed| listed == name)
}

/// The optional extensions to enable on an instance that has those in `present`.
///
/// Those that are core in the instance's version are not left out: its devices may be older.
pub(crate) fn choose_for_instance(
    present: &[String],
    restriction: Option<&[String]>,
) -> Vec<String> {
    INSTANCE
        .iter()
        .filter(|optional| has(present, optional.name) && is_wanted(optional.name, restriction))
        .map(|optional| optional.name.to_owned())
        .collect()
}

/// Those of the device's extensions that a validation layer of some version has heard of. Of those
/// that are used here only one is younger than the layers that systems ship.
pub(crate) fn known_to_layer(mut present: Vec<String>, layer_version: Option<u32>) -> Vec<String> {
    const SINCE: u32 = vk::make_api_version(0, 1, 3, 274);
    if layer_version.is_some_and(|version| version < SINCE) {
        present.retain(|name| name != "VK_KHR_maintenance5");
    }
    present
}

/// Features that a device of this version may be asked about.
pub(crate) fn features_to_query(present: &[String], api_version: u32) -> Vec<Feature> {
    DEVICE
        .iter()
        .filter(|optional| {
            optional.core <= api_version
                || (optional.least <= api_version && has(present, optional.name))
        })
        .filter_map(|optional| optional.feature)
        .collect()
}

/// The optional extensions and the features to enable on a device.
pub(crate) fn choose_for_device(
    present: &[String],
    restriction: Option<&[String]>,
    api_version: u32,
    instance_extensions: &[String],
    supported: &[Feature],
) -> (Vec<String>, Vec<Feature>) {
    let mut extensions: Vec<String> = Vec::new();
    let mut features = Vec::new();
    for optional in DEVICE {
        if optional.feature.is_some_and(|feature| !supported.contains(&feature)) {
            continue;
        }
        if optional.core <= api_version {
            features.extend(optional.feature);
            continue;
        }
        let needs_are_met = optional.needs.iter().all(|need| {
            is_core(need, api_version) || has(instance_extensions, need) || has(&extensions, need)
        });
        if optional.least <= api_version
            && has(present, optional.name)
            && is_wanted(optional.name, restriction)
            && needs_are_met
        {
            extensions.push(optional.name.to_owned());
            features.extend(optional.feature);
        }
    }
    if has(present, PORTABILITY_SUBSET) {
        extensions.push(PORTABILITY_SUBSET.to_owned());
    }
    (extensions, features)
}

/// Storage for the feature structures of a `pNext` chain.
#[derive(Default)]
pub(crate) struct FeatureChain {
    device_address: vk::PhysicalDeviceBufferDeviceAddressFeatures<'static>,
    priority: vk::PhysicalDeviceMemoryPriorityFeaturesEXT<'static>,
    pageable: vk::PhysicalDevicePageableDeviceLocalMemoryFeaturesEXT<'static>,
    coherent: vk::PhysicalDeviceCoherentMemoryFeaturesAMD<'static>,
    maintenance4: vk::PhysicalDeviceMaintenance4Features<'static>,
    maintenance5: vk::PhysicalDeviceMaintenance5FeaturesKHR<'static>,
}

impl FeatureChain {
    /// Chains the structures of `features` and returns the first, with all bits set to enable them,
    /// or with none set to ask for them. Valid until the storage is moved, dropped or linked again.
    pub(crate) fn link(&mut self, features: &[Feature], enable: bool) -> *mut c_void {
        let mut next: *mut c_void = std::ptr::null_mut();
        for feature in features {
            let (bit, p_next) = self.parts(*feature);
            *bit = vk::Bool32::from(enable);
            *p_next = next;
            next = self.structure(*feature);
        }
        next
    }

    /// Whether the bit of a feature is set.
    pub(crate) fn is_set(&mut self, feature: Feature) -> bool {
        *self.parts(feature).0 == vk::TRUE
    }

    fn parts(&mut self, feature: Feature) -> (&mut vk::Bool32, &mut *mut c_void) {
        macro_rules! parts {
            ($field:ident, $bit:ident) => {
                (&mut self.$field.$bit, &mut self.$field.p_next)
            };
        }
        match feature {
            Feature::BufferDeviceAddress => parts!(device_address, buffer_device_address),
            Feature::MemoryPriority => parts!(priority, memory_priority),
            Feature::PageableDeviceLocalMemory => parts!(pageable, pageable_device_local_memory),
            Feature::DeviceCoherentMemory => parts!(coherent, device_coherent_memory),
            Feature::Maintenance4 => parts!(maintenance4, maintenance4),
            Feature::Maintenance5 => parts!(maintenance5, maintenance5),
        }
    }

    fn structure(&mut self, feature: Feature) -> *mut c_void {
        match feature {
            Feature::BufferDeviceAddress => (&raw mut self.device_address).cast(),
            Feature::MemoryPriority => (&raw mut self.priority).cast(),
            Feature::PageableDeviceLocalMemory => (&raw mut self.pageable).cast(),
            Feature::DeviceCoherentMemory => (&raw mut self.coherent).cast(),
            Feature::Maintenance4 => (&raw mut self.maintenance4).cast(),
            Feature::Maintenance5 => (&raw mut self.maintenance5).cast(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn core_features_need_no_extension() {
        let present = names(&["VK_KHR_maintenance4"]);
        let supported = [Feature::Maintenance4];
        let (extensions, features) =
            choose_for_device(&present, None, vk::API_VERSION_1_3, &[], &supported);
        assert_eq!((extensions, features), (vec![], vec![Feature::Maintenance4]));
        let (extensions, features) =
            choose_for_device(&present, None, vk::API_VERSION_1_2, &[], &supported);
        assert_eq!((extensions, features), (present, vec![Feature::Maintenance4]));
    }

    #[test]
    fn an_extension_without_what_it_needs_is_left_out() {
        let present = names(&["VK_EXT_memory_budget", "VK_EXT_pageable_device_local_memory"]);
        let supported = [Feature::PageableDeviceLocalMemory];
        let choose = |instance: &[String]| {
            choose_for_device(&present, None, vk::API_VERSION_1_0, instance, &supported).0
        };
        assert_eq!(choose(&[]), names(&[]));
        assert_eq!(choose(&names(&[PROPERTIES2])), names(&["VK_EXT_memory_budget"]));
    }

    #[test]
    fn a_restriction_takes_what_its_extensions_need() {
        let present =
            names(&["VK_KHR_external_memory", "VK_KHR_external_memory_fd", "VK_EXT_memory_budget"]);
        let list = names(&["VK_KHR_external_memory_fd"]);
        let on_instance = choose_for_instance(
            &names(&[PROPERTIES2, "VK_KHR_external_memory_capabilities"]),
            Some(&list),
        );
        assert_eq!(on_instance.len(), 2);
        let (extensions, _) =
            choose_for_device(&present, Some(&list), vk::API_VERSION_1_0, &on_instance, &[]);
        assert_eq!(extensions, names(&["VK_KHR_external_memory", "VK_KHR_external_memory_fd"]));
        assert!(choose_for_instance(&names(&[PROPERTIES2]), Some(&[])).is_empty());
    }

    #[test]
    fn the_portability_subset_is_never_left_out() {
        let present = names(&[PORTABILITY_SUBSET]);
        let (extensions, _) = choose_for_device(&present, Some(&[]), vk::API_VERSION_1_0, &[], &[]);
        assert_eq!(extensions, present);
    }

    #[test]
    fn features_are_chained_with_their_bits() {
        let asked =
            [Feature::MemoryPriority, Feature::PageableDeviceLocalMemory, Feature::Maintenance5];
        let mut chain = FeatureChain::default();
        let mut next = chain.link(&asked, true).cast::<vk::BaseOutStructure<'_>>();
        let mut types = Vec::new();
        while !next.is_null() {
            // SAFETY: the chain's structures live in `chain`.
            types.push(unsafe { (*next).s_type });
            // SAFETY: as above.
            next = unsafe { (*next).p_next };
        }
        assert_eq!(
            types,
            [
                vk::StructureType::PHYSICAL_DEVICE_MAINTENANCE_5_FEATURES_KHR,
                vk::StructureType::PHYSICAL_DEVICE_PAGEABLE_DEVICE_LOCAL_MEMORY_FEATURES_EXT,
                vk::StructureType::PHYSICAL_DEVICE_MEMORY_PRIORITY_FEATURES_EXT,
            ]
        );
        assert!(asked.iter().all(|feature| chain.is_set(*feature)));
        assert!(!chain.is_set(Feature::Maintenance4));
        chain.link(&asked, false);
        assert!(!chain.is_set(Feature::MemoryPriority));
        assert!(chain.link(&[], true).is_null());
    }
}
