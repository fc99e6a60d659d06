//! Profiles and descriptions of devices.

use vkmem_engine::{
    DeviceInfo, DeviceMemory, DeviceType, MemoryPropertyFlags, SimulatedDevice, check_info,
    profile_info,
};

use super::{MIB, device, of_type, small_info};

#[test]
fn every_profile_is_a_possible_device() {
    for name in SimulatedDevice::profile_names() {
        let device = device(name);
        check_info(device.info()).unwrap();
        // Vulkan requires a type that is host-visible and coherent, and one that is device-local.
        let coherent = MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::HOST_COHERENT;
        let types = &device.info().types;
        assert!(types.iter().any(|kind| kind.flags.contains(coherent)), "{name}");
        let local = MemoryPropertyFlags::DEVICE_LOCAL;
        assert!(types.iter().any(|kind| kind.flags.contains(local)), "{name}");
        for (index, kind) in types.iter().enumerate() {
            let memory = device.allocate(&of_type(index as u32, 4096));
            let twin = kind.flags.contains(MemoryPropertyFlags::DEVICE_COHERENT_AMD);
            assert_eq!(memory.is_ok(), !twin, "{name}, type {index}");
            memory.into_iter().for_each(|memory| device.free(memory));
        }
        assert_eq!(device.live_memory_objects(), 0);
    }
    assert!(SimulatedDevice::profile("abacus").is_none());
}

#[test]
fn the_profiles_have_the_shapes_they_are_named_for() {
    let visible_local = MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::DEVICE_LOCAL;
    let reachable = |name: &str| {
        let info = profile_info(name).unwrap();
        let kinds = info.types.iter().filter(|kind| kind.flags.contains(visible_local));
        kinds.map(|kind| info.heaps[kind.heap_index as usize].size).max()
    };
    assert_eq!(reachable("discrete-8gib"), None);
    assert_eq!(reachable("discrete-8gib-bar"), Some(256 * MIB));
    assert_eq!(reachable("nvidia-h200"), Some(150_754_820_096));
    let h200 = profile_info("nvidia-h200").unwrap();
    assert_eq!(h200.limits.buffer_image_granularity, 1024);
    assert_eq!(h200.api_version, 0x40_4138);
    let pi = profile_info("raspberry-pi").unwrap();
    assert!(!pi.types.iter().any(|kind| kind.flags.contains(MemoryPropertyFlags::HOST_CACHED)));
    let apple = profile_info("moltenvk").unwrap();
    assert!(apple.types[2].flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED));
    let strict = profile_info("non-coherent").unwrap();
    assert!(strict.is_non_coherent(1) && strict.is_non_coherent(2) && !strict.is_non_coherent(4));
    assert_eq!(profile_info("lavapipe").unwrap().device_type, DeviceType::Cpu);
}

#[test]
fn impossible_devices_are_refused() {
    let refuse = |change: fn(&mut DeviceInfo), word: &str| {
        let mut info = small_info();
        change(&mut info);
        let message = SimulatedDevice::try_new(info).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    refuse(|info| info.heaps.clear(), "heaps");
    refuse(|info| info.types.clear(), "types");
    refuse(|info| info.heaps[0].size = 0, "a heap of more than 0 bytes");
    refuse(|info| info.types[0].heap_index = 1, "heap 1");
    refuse(|info| info.limits.non_coherent_atom_size = 48, "nonCoherentAtomSize");
    refuse(|info| info.limits.buffer_image_granularity = 3, "bufferImageGranularity");
}
