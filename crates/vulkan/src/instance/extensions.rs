//! Choice of the extensions and features of an opened instance and device.

use ash::vk;

use crate::driver::contract::API_VERSION_1_4;

/// `VK_KHR_get_physical_device_properties2`
pub(crate) const PROPERTIES2: &str = "VK_KHR_get_physical_device_properties2";
/// `VK_KHR_external_memory_capabilities`
pub(crate) const EXTERNAL_CAPABILITIES: &str = "VK_KHR_external_memory_capabilities";
/// Must be enabled if a device has it.
pub(crate) const PORTABILITY_SUBSET: &str = "VK_KHR_portability_subset";
/// Without it, an instance hides devices that are not fully conformant, such as MoltenVK's.
pub(crate) const PORTABILITY_ENUMERATION: &str = "VK_KHR_portability_enumeration";
/// `VK_EXT_debug_utils`
pub(crate) const DEBUG_UTILS: &str = "VK_EXT_debug_utils";

/// Feature for buffer device addresses.
pub(crate) const BUFFER_DEVICE_ADDRESS: &str = "bufferDeviceAddress";
/// Feature of `VK_EXT_memory_priority`.
pub(crate) const MEMORY_PRIORITY: &str = "memoryPriority";
/// Feature of `VK_EXT_pageable_device_local_memory`.
pub(crate) const PAGEABLE_DEVICE_LOCAL_MEMORY: &str = "pageableDeviceLocalMemory";
/// Feature of `VK_AMD_device_coherent_memory`.
pub(crate) const DEVICE_COHERENT_MEMORY: &str = "deviceCoherentMemory";

/// Feature of `VK_EXT_device_fault`.
pub(crate) const DEVICE_FAULT_FEATURE: &str = "deviceFault";
/// `VK_EXT_device_fault`
pub(crate) const DEVICE_FAULT: &str = "VK_EXT_device_fault";
/// Feature of `VK_EXT_device_address_binding_report`.
pub(crate) const REPORT_ADDRESS_BINDING: &str = "reportAddressBinding";
/// `VK_EXT_device_address_binding_report`
pub(crate) const ADDRESS_BINDING_REPORT: &str = "VK_EXT_device_address_binding_report";

/// Feature of `VK_EXT_host_image_copy`.
pub(crate) const HOST_IMAGE_COPY: &str = "hostImageCopy";

/// That of `VK_KHR_timeline_semaphore`.
pub(crate) const TIMELINE_SEMAPHORE: &str = "timelineSemaphore";

const NEVER: u32 = u32::MAX;

/// An optional extension that an allocator uses.
struct Optional {
    name: &'static str,
    /// Enabled on devices of this version or newer.
    least: u32,
    /// The version in which it became core; from then on the extension is not enabled.
    core: u32,
    /// Extensions that it requires.
    needs: &'static [&'static str],
    /// Its feature, which is enabled together with it, or alone once it is core.
    feature: Option<&'static str>,
}

impl Optional {
    const fn new(name: &'static str, core: u32, needs: &'static [&'static str]) -> Self {
        Self { name, least: vk::API_VERSION_1_0, core, needs, feature: None }
    }

    const fn feature(mut self, feature: &'static str, least: u32) -> Self {
        self.feature = Some(feature);
        self.least = least;
        self
    }
}

/// Instance extensions. Each comes after those that it requires.
const INSTANCE: &[Optional] = &[
    Optional::new(PROPERTIES2, vk::API_VERSION_1_1, &[]),
    Optional::new(EXTERNAL_CAPABILITIES, vk::API_VERSION_1_1, &[PROPERTIES2]),
];

/// Device extensions. Each comes after those that it requires.
const DEVICE: &[Optional] = &[
    Optional::new("VK_KHR_get_memory_requirements2", vk::API_VERSION_1_1, &[]),
    Optional::new(
        "VK_KHR_dedicated_allocation",
        vk::API_VERSION_1_1,
        &["VK_KHR_get_memory_requirements2"],
    ),
    Optional::new("VK_KHR_bind_memory2", vk::API_VERSION_1_1, &[]),
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
        .feature(MEMORY_PRIORITY, vk::API_VERSION_1_0),
    Optional::new("VK_EXT_pageable_device_local_memory", NEVER, &["VK_EXT_memory_priority"])
        .feature(PAGEABLE_DEVICE_LOCAL_MEMORY, vk::API_VERSION_1_0),
    Optional::new("VK_AMD_device_coherent_memory", NEVER, &[PROPERTIES2])
        .feature(DEVICE_COHERENT_MEMORY, vk::API_VERSION_1_0),
    // On 1.0 it requires VK_KHR_device_group, which is not used otherwise.
    Optional::new("VK_KHR_buffer_device_address", vk::API_VERSION_1_2, &[PROPERTIES2])
        .feature(BUFFER_DEVICE_ADDRESS, vk::API_VERSION_1_1),
    Optional::new("VK_KHR_timeline_semaphore", vk::API_VERSION_1_2, &[PROPERTIES2])
        .feature(TIMELINE_SEMAPHORE, vk::API_VERSION_1_0),
    Optional::new("VK_KHR_maintenance4", vk::API_VERSION_1_3, &[PROPERTIES2])
        .feature("maintenance4", vk::API_VERSION_1_1),
    // Before 1.3 it requires VK_KHR_dynamic_rendering, which requires more.
    Optional::new("VK_KHR_maintenance5", API_VERSION_1_4, &[PROPERTIES2])
        .feature("maintenance5", vk::API_VERSION_1_3),
    // Before 1.3 it requires VK_KHR_copy_commands2 and VK_KHR_format_feature_flags2.
    Optional::new("VK_EXT_host_image_copy", API_VERSION_1_4, &[PROPERTIES2])
        .feature(HOST_IMAGE_COPY, vk::API_VERSION_1_3),
    Optional::new(DEVICE_FAULT, NEVER, &[PROPERTIES2])
        .feature(DEVICE_FAULT_FEATURE, vk::API_VERSION_1_0),
    // Its instance extension is enabled only where faults are to be reported.
    Optional::new(ADDRESS_BINDING_REPORT, NEVER, &[PROPERTIES2, DEBUG_UTILS])
        .feature(REPORT_ADDRESS_BINDING, vk::API_VERSION_1_0),
];

/// Optional extensions that are not enabled beside another one that the caller wants, with features of the same
/// names: Vulkan forbids both, or only one of the features would be enabled.
const REPLACED: [(&str, &str); 2] = [
    ("VK_KHR_buffer_device_address", "VK_EXT_buffer_device_address"),
    (DEVICE_FAULT, "VK_KHR_device_fault"),
];

/// Returns whether the caller excludes an extension, or one that it requires.
pub(crate) fn is_left_out(name: &str, without: &[String]) -> bool {
    if has(without, name) {
        return true;
    }
    let mut all = INSTANCE.iter().chain(DEVICE);
    let found = all.find(|optional| optional.name == name);
    found.is_some_and(|it| it.needs.iter().any(|need| is_left_out(need, without)))
}

fn is_core(name: &str, api_version: u32) -> bool {
    INSTANCE
        .iter()
        .chain(DEVICE)
        .any(|optional| optional.name == name && optional.core <= api_version)
}

pub(crate) fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|listed| listed == name)
}

/// Returns the extensions to enable on an instance that has those in `present`: the optional ones, and
/// those of `wanted` that it has. The rest of `wanted` is for the device.
///
/// Extensions that are core in the instance's version are included: its devices may be older.
pub(crate) fn choose_for_instance(
    present: &[String],
    wanted: &[String],
    without: &[String],
) -> Vec<String> {
    let optional = INSTANCE.iter().map(|optional| optional.name);
    let optional = optional.filter(|name| !is_left_out(name, without));
    let mut chosen: Vec<String> = Vec::new();
    for name in optional.chain(wanted.iter().map(String::as_str)) {
        if has(present, name) && !has(&chosen, name) {
            chosen.push(name.to_owned());
        }
    }
    chosen
}

/// Extensions used here that are newer than the validation layers that some systems ship, and a version of the
/// layer that knows each.
const YOUNG: [(&str, u32); 4] = [
    (DEVICE_FAULT, vk::make_api_version(0, 1, 3, 236)),
    (ADDRESS_BINDING_REPORT, vk::make_api_version(0, 1, 3, 236)),
    ("VK_KHR_maintenance5", vk::make_api_version(0, 1, 3, 274)),
    ("VK_EXT_host_image_copy", vk::make_api_version(0, 1, 3, 274)),
];

/// Removes extensions that a validation layer of some version does not support.
pub(crate) fn known_to_layer(
    mut present: Vec<String>,
    layer_version: Option<u32>,
    wanted: &[String],
) -> Vec<String> {
    let Some(version) = layer_version else { return present };
    let is_unknown =
        |name: &str| YOUNG.iter().any(|(young, since)| *young == name && version < *since);
    present.retain(|name| !is_unknown(name) || has(wanted, name));
    present
}

/// Returns the features that a device of this version may be queried for, each with its extension: another one
/// may have a feature of that name.
pub(crate) fn features_to_query(
    present: &[String],
    api_version: u32,
) -> Vec<(&'static str, &'static str)> {
    DEVICE
        .iter()
        .filter(|optional| {
            optional.core <= api_version
                || (optional.least <= api_version && has(present, optional.name))
        })
        .filter_map(|optional| Some((optional.feature?, optional.name)))
        .collect()
}

/// Returns the features that are enabled together with extensions of this list.
pub(crate) fn features_of(extensions: &[String]) -> Vec<String> {
    let enabled = DEVICE.iter().filter(|optional| has(extensions, optional.name));
    enabled.filter_map(|optional| optional.feature).map(String::from).collect()
}

/// The caller's choice of device extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request<'a> {
    /// Extensions to enable; all of them are present or core.
    pub(crate) wanted: &'a [String],
    pub(crate) without: &'a [String],
}

/// Returns the extensions and features to enable on a device: the requested and the optional ones.
pub(crate) fn choose_for_device(
    present: &[String],
    request: Request<'_>,
    api_version: u32,
    instance_extensions: &[String],
    is_supported: &dyn Fn(&str) -> bool,
) -> (Vec<String>, Vec<&'static str>) {
    let wanted = request.wanted.iter();
    let mut extensions: Vec<String> = Vec::new();
    for name in wanted.filter(|name| has(present, name)) {
        if !has(&extensions, name) {
            extensions.push(name.clone());
        }
    }
    let mut features = Vec::new();
    for optional in DEVICE {
        let is_replaced =
            REPLACED.iter().any(|(name, by)| optional.name == *name && has(request.wanted, by));
        if is_replaced
            || is_left_out(optional.name, request.without)
            || optional.feature.is_some_and(|feature| !is_supported(feature))
        {
            continue;
        }
        if optional.core <= api_version {
            features.extend(optional.feature);
            continue;
        }
        let needs_are_met = optional.needs.iter().all(|need| {
            is_core(need, api_version) || has(instance_extensions, need) || has(&extensions, need)
        });
        if optional.least <= api_version && has(present, optional.name) && needs_are_met {
            if !has(&extensions, optional.name) {
                extensions.push(optional.name.to_owned());
            }
            features.extend(optional.feature);
        }
    }
    if has(present, PORTABILITY_SUBSET) && !has(&extensions, PORTABILITY_SUBSET) {
        extensions.push(PORTABILITY_SUBSET.to_owned());
    }
    (extensions, features)
}

/// Returns whether a requested extension is present or core.
pub(crate) fn is_there(name: &str, present: &[String], api_version: u32) -> bool {
    has(present, name) || is_core(name, api_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn choose(
        present: &[String],
        request: Request<'_>,
        version: u32,
        instance: &[String],
        supported: &[&str],
    ) -> (Vec<String>, Vec<&'static str>) {
        choose_for_device(present, request, version, instance, &|it| supported.contains(&it))
    }

    #[test]
    fn core_features_need_no_extension() {
        let present = names(&["VK_KHR_maintenance4"]);
        let choose = |version, request| choose(&present, request, version, &[], &["maintenance4"]);
        let (plain, version) = (Request::default(), vk::API_VERSION_1_3);
        assert_eq!(choose(version, plain), (vec![], vec!["maintenance4"]));
        let found = choose(vk::API_VERSION_1_2, plain);
        assert_eq!(found, (present.clone(), vec!["maintenance4"]));
        // Excluding an extension also excludes its functions in the core version.
        let without = Request { without: &present, ..plain };
        assert_eq!(choose(version, without), (vec![], vec![]));
        // A requested extension is enabled even if it is core.
        let wanted = Request { wanted: &present, ..plain };
        assert_eq!(choose(version, wanted), (present.clone(), vec!["maintenance4"]));
    }

    #[test]
    fn an_extension_without_what_it_needs_is_left_out() {
        let present = names(&["VK_EXT_memory_budget", "VK_EXT_pageable_device_local_memory"]);
        let choose = |instance: &[String]| {
            let supported = [PAGEABLE_DEVICE_LOCAL_MEMORY];
            choose(&present, Request::default(), vk::API_VERSION_1_0, instance, &supported).0
        };
        assert_eq!(choose(&[]), names(&[]));
        assert_eq!(choose(&names(&[PROPERTIES2])), names(&["VK_EXT_memory_budget"]));
    }

    #[test]
    fn what_needs_an_unwanted_extension_goes_with_it() {
        let present =
            names(&["VK_KHR_external_memory", "VK_KHR_external_memory_fd", "VK_EXT_memory_budget"]);
        let capabilities = "VK_KHR_external_memory_capabilities";
        let on_instance = names(&[PROPERTIES2, capabilities]);
        for out in ["VK_KHR_external_memory", capabilities] {
            let without = names(&[out]);
            let request = Request { without: &without, ..Request::default() };
            let (found, _) = choose(&present, request, vk::API_VERSION_1_0, &on_instance, &[]);
            assert_eq!(found, names(&["VK_EXT_memory_budget"]));
        }
        let without = names(&[PROPERTIES2]);
        assert!(choose_for_instance(&on_instance, &[], &without).is_empty());
        assert_eq!(choose_for_instance(&on_instance, &[], &[]), on_instance);
    }

    #[test]
    fn what_is_asked_for_stands_beside_the_rest() {
        let present = names(&["VK_EXT_memory_budget", "VK_KHR_swapchain", "VK_NV_other"]);
        let wanted = names(&["VK_KHR_swapchain", "VK_KHR_swapchain", "VK_KHR_surface"]);
        let request = Request { wanted: &wanted, ..Request::default() };
        let (found, _) = choose(&present, request, vk::API_VERSION_1_1, &[], &[]);
        assert_eq!(found, names(&["VK_KHR_swapchain", "VK_EXT_memory_budget"]));
        let on_instance = names(&[PROPERTIES2, "VK_KHR_surface", "VK_KHR_display"]);
        let found = choose_for_instance(&on_instance, &wanted, &[]);
        assert_eq!(found, names(&[PROPERTIES2, "VK_KHR_surface"]));
    }

    #[test]
    fn one_kind_of_device_addresses_is_enabled() {
        let present = names(&["VK_EXT_buffer_device_address", "VK_KHR_buffer_device_address"]);
        let wanted = &present[..1];
        let request = Request { wanted, ..Request::default() };
        let instance = names(&[PROPERTIES2]);
        let supported = [BUFFER_DEVICE_ADDRESS];
        let found = choose(&present, request, vk::API_VERSION_1_1, &instance, &supported);
        assert_eq!(found, (wanted.to_vec(), vec![]));
    }

    #[test]
    fn reports_of_bindings_need_an_instance_with_messengers() {
        let present = names(&[DEVICE_FAULT, ADDRESS_BINDING_REPORT]);
        let supported = [DEVICE_FAULT_FEATURE, REPORT_ADDRESS_BINDING];
        let choose = |wanted: &[String], instance: &[String], supported: &[&str]| {
            let request = Request { wanted, ..Request::default() };
            choose(&present, request, vk::API_VERSION_1_1, instance, supported)
        };
        let without = choose(&[], &[], &supported);
        assert_eq!(without, (names(&[DEVICE_FAULT]), vec![DEVICE_FAULT_FEATURE]));
        let both = choose(&[], &names(&[DEBUG_UTILS]), &supported);
        assert_eq!(both, (present.clone(), supported.to_vec()));
        assert_eq!(choose(&[], &names(&[DEBUG_UTILS]), &[]), (vec![], vec![]));
    }

    #[test]
    fn one_kind_of_device_faults_is_enabled() {
        let present = names(&["VK_KHR_device_fault", DEVICE_FAULT]);
        let request = Request { wanted: &present[..1], ..Request::default() };
        let instance = names(&[PROPERTIES2]);
        let supported = [DEVICE_FAULT_FEATURE];
        let found = choose(&present, request, vk::API_VERSION_1_1, &instance, &supported);
        assert_eq!(found, (present[..1].to_vec(), vec![]));
        // Two structures may have the feature: that of the extension is queried.
        assert_eq!(
            features_to_query(&present, vk::API_VERSION_1_1)
                .iter()
                .find(|(feature, _)| *feature == DEVICE_FAULT_FEATURE),
            Some(&(DEVICE_FAULT_FEATURE, DEVICE_FAULT))
        );
    }

    #[test]
    fn the_portability_subset_is_never_left_out() {
        let present = names(&[PORTABILITY_SUBSET]);
        let request = Request { without: &present, ..Request::default() };
        let (extensions, _) = choose(&present, request, vk::API_VERSION_1_0, &[], &[]);
        assert_eq!(extensions, present);
    }
}
