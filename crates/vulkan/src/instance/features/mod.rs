//! Features by their Vulkan names: their structures, and chains of these.

use std::ffi::c_void;
use std::sync::OnceLock;

use ash::vk;

use crate::instance::nearest::nearest;

/// A structure of features: `sType`, `pNext`, and one `VkBool32` per feature.
#[derive(Debug)]
struct Structure {
    /// 0 for `VkPhysicalDeviceFeatures`, which cannot be chained.
    s_type: i32,
    /// The version from which on it may be chained without an extension.
    core: Option<u32>,
    extensions: Vec<&'static str>,
    names: Vec<&'static str>,
}

/// Returns all structures of the table that `tools/features.py` writes.
/// `VkPhysicalDeviceVulkan11Features` and the like come before the structures whose features they
/// contain: a chain must not have both.
fn structures() -> &'static [Structure] {
    static TABLE: OnceLock<Vec<Structure>> = OnceLock::new();
    TABLE.get_or_init(|| include_str!("table.txt").lines().filter_map(parse).collect())
}

fn parse(line: &'static str) -> Option<Structure> {
    let mut words = line.split(' ');
    let s_type = words.next()?.parse().ok()?;
    let core = words.next()?.split_once('.').and_then(|(major, minor)| {
        Some(vk::make_api_version(0, major.parse().ok()?, minor.parse().ok()?, 0))
    });
    let extensions = words.next()?.split(',').filter(|it| *it != "-").collect();
    Some(Structure { s_type, core, extensions, names: words.collect() })
}

/// The place of a feature: a structure of the table and the index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeatureBit {
    structure: usize,
    index: usize,
}

/// The reason why a feature cannot be enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Vulkan has no feature of this name; the most similar names.
    Unknown(Vec<String>),
    /// It needs one of these extensions or versions, and the device has none of them.
    Needs(Vec<String>),
}

/// Returns the place of a feature on a device with this version and these extensions, and the extension
/// that has to be enabled with it. Of several extensions, those in `wanted` are preferred.
pub(crate) fn place_of(
    name: &str,
    api_version: u32,
    present: &[String],
    wanted: &[String],
) -> Result<(FeatureBit, Option<&'static str>), NoPlace> {
    let found = structures().iter().enumerate().filter_map(|(structure, it)| {
        let index = it.names.iter().position(|known| *known == name)?;
        Some((it, FeatureBit { structure, index }))
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        let known = structures().iter().flat_map(|it| &it.names).copied();
        return Err(NoPlace::Unknown(nearest(name, known)));
    }
    let is_core = |it: &Structure| it.core.is_some_and(|core| core <= api_version);
    if let Some((_, place)) = found.iter().find(|(it, _)| is_core(it)) {
        return Ok((*place, None));
    }
    let has = |list: &[String], name: &str| list.iter().any(|it| it == name);
    for wanted_only in [true, false] {
        for (structure, place) in &found {
            let mut extensions = structure.extensions.iter().copied();
            let fits = |it: &&str| has(present, it) && (!wanted_only || has(wanted, it));
            if let Some(extension) = extensions.find(fits) {
                return Ok((*place, Some(extension)));
            }
        }
    }
    let versions = found.iter().filter_map(|(it, _)| it.core).min();
    let mut needs: Vec<String> = Vec::new();
    for extension in found.iter().flat_map(|(it, _)| &it.extensions) {
        if !needs.iter().any(|it| it == extension) {
            needs.push((*extension).to_owned());
        }
    }
    needs.extend(versions.map(|version| {
        format!("Vulkan {}.{}", vk::api_version_major(version), vk::api_version_minor(version))
    }));
    Err(NoPlace::Needs(needs))
}

/// Number of features of Vulkan 1.0.
const CORE_FEATURES: usize = size_of::<vk::PhysicalDeviceFeatures>() / size_of::<vk::Bool32>();

/// Storage of the features and of their chained structures.
#[derive(Debug, Default)]
pub(crate) struct FeatureChain {
    core: vk::PhysicalDeviceFeatures,
    /// The structures by their index in the table. Each has Vulkan's layout in units of an address:
    /// `sType` in the first, `pNext` in the second, then the features.
    chained: Vec<(usize, Box<[usize]>)>,
}

/// Index of the unit in which the features of a structure start.
const FIRST_FEATURE_UNIT: usize = 2;
/// Features per unit.
const FEATURES_PER_UNIT: usize = size_of::<usize>() / size_of::<vk::Bool32>();

impl FeatureChain {
    /// Makes room for a feature, which is not set.
    pub(crate) fn add(&mut self, place: FeatureBit) {
        let structure = &structures()[place.structure];
        let is_there = self.chained.iter().any(|(number, _)| *number == place.structure);
        if structure.s_type == 0 || is_there {
            return;
        }
        let units = FIRST_FEATURE_UNIT + structure.names.len().div_ceil(FEATURES_PER_UNIT);
        let mut units = vec![0; units].into_boxed_slice();
        let mut first = [0; size_of::<usize>()];
        first[..4].copy_from_slice(&structure.s_type.to_ne_bytes());
        units[0] = usize::from_ne_bytes(first);
        self.chained.push((place.structure, units));
    }

    /// Sets a feature.
    pub(crate) fn set(&mut self, place: FeatureBit) {
        self.add(place);
        if let Some(bit) = self.bit(place) {
            *bit = vk::TRUE;
        }
    }

    /// Returns whether a feature is set.
    pub(crate) fn is_set(&mut self, place: FeatureBit) -> bool {
        self.bit(place).is_some_and(|bit| *bit != vk::FALSE)
    }

    fn bit(&mut self, place: FeatureBit) -> Option<&mut vk::Bool32> {
        if structures()[place.structure].s_type == 0 {
            // SAFETY: the structure consists of exactly this many `VkBool32`, in C's layout.
            let bits = unsafe { &mut *(&raw mut self.core).cast::<[vk::Bool32; CORE_FEATURES]>() };
            return bits.get_mut(place.index);
        }
        let (_, units) = self.chained.iter_mut().find(|(number, _)| *number == place.structure)?;
        let unit = units.get_mut(FIRST_FEATURE_UNIT + place.index / FEATURES_PER_UNIT)?;
        // SAFETY: a unit is this many `u32`, in the order of their addresses.
        let bits = unsafe { &mut *(&raw mut *unit).cast::<[vk::Bool32; FEATURES_PER_UNIT]>() };
        Some(&mut bits[place.index % FEATURES_PER_UNIT])
    }

    /// Links the structures and returns the first; null if there are none. Valid while this lives and
    /// nothing is added.
    pub(crate) fn link(&mut self) -> *mut c_void {
        let mut next: *mut c_void = std::ptr::null_mut();
        for (_, units) in &mut self.chained {
            units[1] = next.expose_provenance();
            next = units.as_mut_ptr().cast();
        }
        next
    }

    /// Returns the features of Vulkan 1.0.
    pub(crate) fn core(&mut self) -> &mut vk::PhysicalDeviceFeatures {
        &mut self.core
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(
        name: &str,
        version: u32,
        present: &[&str],
    ) -> Result<(FeatureBit, Option<&'static str>), NoPlace> {
        let present: Vec<_> = present.iter().map(|it| (*it).to_owned()).collect();
        place_of(name, version, &present, &[])
    }

    fn s_type(place: FeatureBit) -> vk::StructureType {
        vk::StructureType::from_raw(structures()[place.structure].s_type)
    }

    #[test]
    fn the_table_says_what_ash_says() {
        let core = &structures()[0];
        assert_eq!((core.s_type, core.names.len()), (0, CORE_FEATURES));
        // The structures of ash have the size that the table implies.
        for (s_type, size) in [
            (
                vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                size_of::<vk::PhysicalDeviceVulkan11Features<'_>>(),
            ),
            (
                vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                size_of::<vk::PhysicalDeviceVulkan12Features<'_>>(),
            ),
            (
                vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
                size_of::<vk::PhysicalDeviceVulkan13Features<'_>>(),
            ),
            (
                vk::StructureType::PHYSICAL_DEVICE_MAINTENANCE_5_FEATURES_KHR,
                size_of::<vk::PhysicalDeviceMaintenance5FeaturesKHR<'_>>(),
            ),
            (
                vk::StructureType::PHYSICAL_DEVICE_MESH_SHADER_FEATURES_EXT,
                size_of::<vk::PhysicalDeviceMeshShaderFeaturesEXT<'_>>(),
            ),
            (
                vk::StructureType::PHYSICAL_DEVICE_COHERENT_MEMORY_FEATURES_AMD,
                size_of::<vk::PhysicalDeviceCoherentMemoryFeaturesAMD<'_>>(),
            ),
        ] {
            let found =
                structures().iter().find(|it| it.s_type == s_type.as_raw()).expect("listed");
            assert_eq!(
                (FIRST_FEATURE_UNIT + found.names.len().div_ceil(FEATURES_PER_UNIT))
                    * size_of::<usize>(),
                size,
                "{s_type:?}"
            );
        }
        for structure in &structures()[1..] {
            assert!(structure.core.is_some() || !structure.extensions.is_empty());
            assert!(structure.s_type > 0 && !structure.names.is_empty());
        }
    }

    #[test]
    fn a_feature_is_in_one_structure_of_a_device() {
        let timeline = |version, present: &[&str]| {
            let found = place("timelineSemaphore", version, present);
            found.map(|(place, extension)| (s_type(place), extension))
        };
        let alone = vk::StructureType::PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES;
        let summary = vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
        let extension = "VK_KHR_timeline_semaphore";
        assert_eq!(timeline(vk::API_VERSION_1_3, &[extension]), Ok((summary, None)));
        assert_eq!(timeline(vk::API_VERSION_1_2, &[]), Ok((summary, None)));
        assert_eq!(timeline(vk::API_VERSION_1_1, &[extension]), Ok((alone, Some(extension))));
        let needs = vec![extension.to_owned(), "Vulkan 1.2".to_owned()];
        assert_eq!(timeline(vk::API_VERSION_1_1, &[]), Err(NoPlace::Needs(needs)));
        // In a structure of Vulkan 1.1, for which that version has no combined structure yet.
        let (found, extension) = place("multiview", vk::API_VERSION_1_1, &[]).expect("core");
        assert_eq!(s_type(found), vk::StructureType::PHYSICAL_DEVICE_MULTIVIEW_FEATURES);
        assert_eq!(extension, None);
    }

    #[test]
    fn of_several_extensions_the_wanted_one_is_taken() {
        let both: Vec<_> =
            ["VK_EXT_mesh_shader", "VK_NV_mesh_shader"].map(String::from).into_iter().collect();
        let taken = |wanted: &[String]| {
            place_of("meshShader", vk::API_VERSION_1_3, &both, wanted).expect("there").1
        };
        assert_eq!(taken(&[]), Some("VK_EXT_mesh_shader"));
        assert_eq!(taken(&both[1..]), Some("VK_NV_mesh_shader"));
    }

    #[test]
    fn a_name_that_is_no_feature_has_neighbours() {
        let near = |name: &str| match place(name, vk::API_VERSION_1_3, &[]) {
            Err(NoPlace::Unknown(near)) => near,
            found => panic!("{found:?}"),
        };
        assert!(near("shaderInt46").contains(&"shaderInt64".to_owned()));
        assert!(near("timelinesemaphore").contains(&"timelineSemaphore".to_owned()));
        assert!(near("xyzzy").is_empty());
    }

    #[test]
    fn structures_are_chained_with_their_bits() {
        let of = |name| place(name, vk::API_VERSION_1_3, &[]).expect("core").0;
        let mut chain = FeatureChain::default();
        assert!(chain.link().is_null());
        let (int64, timeline, address) =
            (of("shaderInt64"), of("timelineSemaphore"), of("bufferDeviceAddress"));
        let sync = of("synchronization2");
        for it in [int64, timeline, address] {
            chain.set(it);
            assert!(chain.is_set(it));
        }
        chain.add(sync);
        assert!(!chain.is_set(sync));
        assert_eq!(chain.core().shader_int64, vk::TRUE);
        let first = chain.link().cast::<vk::PhysicalDeviceVulkan13Features<'_>>();
        // SAFETY: the chain lives, and its first structure is the one that was added last.
        unsafe {
            assert_eq!((*first).s_type, vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_3_FEATURES);
            assert_eq!((*first).synchronization2, vk::FALSE);
            let second = (*first).p_next.cast::<vk::PhysicalDeviceVulkan12Features<'_>>();
            assert_eq!((*second).s_type, vk::StructureType::PHYSICAL_DEVICE_VULKAN_1_2_FEATURES);
            assert_eq!(((*second).timeline_semaphore, (*second).buffer_device_address), (1, 1));
            assert_eq!(
                ((*second).shader_output_layer, (*second).sampler_mirror_clamp_to_edge),
                (0, 0)
            );
            assert!((*second).p_next.is_null());
        }
    }
}
