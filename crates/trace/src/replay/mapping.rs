//! [`TypeMapping`]: memory types of the recorded device on another one.

use vkmem_engine::{DeviceInfo, MemoryHeapFlags};

use crate::values::Request;

/// The recorded memory types that are most like those of the device of the replay, and the reverse.
#[derive(Debug)]
pub(super) struct TypeMapping {
    /// For each type of the device the recorded one that it is most like.
    recorded: Vec<u32>,
    /// For each recorded type that of the device that is most like it.
    here: Vec<u32>,
}

/// Returns how unlike two memory types are: properties that only one has, those of the heap included.
fn distance(one: (&DeviceInfo, u32), other: (&DeviceInfo, u32)) -> u32 {
    let of = |(info, index): (&DeviceInfo, u32)| {
        let heap = info.heaps[info.heap_of(index) as usize];
        let is_local = heap.flags.contains(MemoryHeapFlags::DEVICE_LOCAL);
        info.flags_of(index).bits() | u32::from(is_local) << 31
    };
    (of(one) ^ of(other)).count_ones()
}

impl TypeMapping {
    /// Compares two devices; `None` if they have the same memory types.
    pub fn new(recorded: &DeviceInfo, here: &DeviceInfo) -> Option<Self> {
        if recorded.types == here.types && recorded.heaps.len() == here.heaps.len() {
            return None;
        }
        let (old, new) = (recorded.types.len() as u32, here.types.len() as u32);
        let nearest = |from: &DeviceInfo, index: u32, to: &DeviceInfo, count: u32| {
            (0..count).min_by_key(|it| distance((from, index), (to, *it))).unwrap_or(0)
        };
        Some(Self {
            recorded: (0..new).map(|it| nearest(here, it, recorded, old)).collect(),
            here: (0..old).map(|it| nearest(recorded, it, here, new)).collect(),
        })
    }

    /// Returns the memory type of the device for a recorded one.
    pub fn memory_type(&self, recorded: u32) -> u32 {
        self.here.get(recorded as usize).copied().unwrap_or(recorded)
    }

    /// Returns the bits of memory types of the device for recorded ones. At least one type is allowed if one was.
    pub fn bits(&self, recorded: u32) -> u32 {
        let allowed = self.recorded.iter().enumerate().filter(|(_, it)| recorded >> **it & 1 == 1);
        let bits = allowed.fold(0, |bits, (index, _)| bits | 1 << index);
        if bits != 0 || recorded == 0 {
            return bits;
        }
        let nearest = self.here.iter().enumerate().filter(|(old, _)| recorded >> old & 1 == 1);
        nearest.fold(0, |bits, (_, index)| bits | 1 << index)
    }

    /// Changes the memory types of a request.
    pub fn request(&self, request: &mut Request) {
        request.memory_type_bits = request.memory_type_bits.map(|it| self.bits(it));
        request.allowed_types = self.bits(request.allowed_types);
    }
}

/// Says in which properties another device differs: `heap 0 size: original x, current y`.
pub(super) fn differences(original: &DeviceInfo, current: &DeviceInfo) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |what: String, one: String, other: String| {
        if one != other {
            all.push(format!("{what}: original {one}, current {other}"));
        }
    };
    let (a, b) = (original, current);
    compare("name".into(), a.name.clone(), b.name.clone());
    compare("vendor".into(), format!("{:#x}", a.vendor_id), format!("{:#x}", b.vendor_id));
    compare("device".into(), format!("{:#x}", a.device_id), format!("{:#x}", b.device_id));
    compare("type".into(), format!("{:?}", a.device_type), format!("{:?}", b.device_type));
    let (l, r) = (&a.limits, &b.limits);
    for (name, one, other) in [
        (
            "maxMemoryAllocationCount",
            l.max_memory_allocation_count.into(),
            r.max_memory_allocation_count.into(),
        ),
        ("maxMemoryAllocationSize", l.max_memory_allocation_size, r.max_memory_allocation_size),
        ("bufferImageGranularity", l.buffer_image_granularity, r.buffer_image_granularity),
        ("nonCoherentAtomSize", l.non_coherent_atom_size, r.non_coherent_atom_size),
    ] {
        compare(name.into(), one.to_string(), other.to_string());
    }
    compare("heaps".into(), a.heaps.len().to_string(), b.heaps.len().to_string());
    for (index, (one, other)) in a.heaps.iter().zip(&b.heaps).enumerate() {
        compare(format!("heap {index} size"), one.size.to_string(), other.size.to_string());
        let flags = |it: MemoryHeapFlags| format!("{:#x}", it.bits());
        compare(format!("heap {index} flags"), flags(one.flags), flags(other.flags));
    }
    compare("memory types".into(), a.types.len().to_string(), b.types.len().to_string());
    for (index, (one, other)) in a.types.iter().zip(&b.types).enumerate() {
        compare(
            format!("memory type {index} heap"),
            one.heap_index.to_string(),
            other.heap_index.to_string(),
        );
        let flags = |bits: u32| format!("{bits:#x}");
        compare(
            format!("memory type {index} flags"),
            flags(one.flags.bits()),
            flags(other.flags.bits()),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use vkmem_engine::{MemoryPropertyFlags as Property, profile_info};

    use super::*;

    #[test]
    fn memory_types_of_another_device() {
        let (big, small) = (profile_info("nvidia-h200"), profile_info("integrated"));
        let (big, small) = (big.expect("a profile"), small.expect("a profile"));
        assert!(TypeMapping::new(&big, &big).is_none());
        let mapping = TypeMapping::new(&big, &small).expect("they differ");
        for index in 0..big.types.len() as u32 {
            let there = mapping.memory_type(index);
            let visible =
                |info: &DeviceInfo, index| info.flags_of(index).contains(Property::HOST_VISIBLE);
            assert!(!visible(&big, index) || visible(&small, there), "{index}");
            assert_ne!(mapping.bits(1 << index), 0);
        }
        assert_eq!(mapping.bits(u32::MAX), (1 << small.types.len()) - 1);
        assert_eq!(mapping.bits(0), 0);
        assert!(differences(&big, &big).is_empty());
        let told = differences(&big, &small);
        let heap =
            format!("heap 0 size: original {}, current {}", big.heaps[0].size, small.heaps[0].size);
        assert!(told.contains(&heap), "{told:?}");
    }
}
