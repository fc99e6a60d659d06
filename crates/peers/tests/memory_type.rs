//! The choice of the memory type: the same as VMA's on random devices, or one of the listed exceptions.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ash::vk;
use common::{random_device, rounds};
use vkmem_engine::{
    AllocationCreateFlags as Create, AllocationCreateInfo, AllocatorOptions, DeviceInfo,
    DeviceType, MemoryPropertyFlags as Property, MemoryUsage, ResourceUse, SimulatedDevice,
};
use vkmem_peers::fake::FakeVulkan;
use vkmem_peers::random::Random;
use vkmem_peers::vma;
use vkmem_vulkan::{DeviceAllocator, RequirementRules, SimulatedDriver};

/// The cases in which our choice differs, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exception {
    /// VMA returns protected memory that was not requested: an ordinary resource cannot be bound to it,
    /// nor can an ordinary submission use it.
    Protected,
    /// VMA returns lazily allocated memory that was not requested: it is for transient attachments, and a
    /// driver may refuse others.
    LazilyAllocated,
}

impl Exception {
    const ALL: [Self; 2] = [Self::Protected, Self::LazilyAllocated];
    const DEVICES: u64 = 100_000;
    const REQUESTS: u64 = 4;

    fn property(self) -> Property {
        match self {
            Self::Protected => Property::PROTECTED,
            Self::LazilyAllocated => Property::LAZILY_ALLOCATED,
        }
    }
}

/// Returns a request that both accept: contradictory ones are rejected here and fail an assertion in VMA.
fn random_create_info(random: &mut Random, auto: bool) -> AllocationCreateInfo {
    let usages = [
        MemoryUsage::Unknown,
        MemoryUsage::GpuOnly,
        MemoryUsage::CpuOnly,
        MemoryUsage::CpuToGpu,
        MemoryUsage::GpuToCpu,
        MemoryUsage::CpuCopy,
        MemoryUsage::GpuLazilyAllocated,
        MemoryUsage::Auto,
        MemoryUsage::AutoPreferDevice,
        MemoryUsage::AutoPreferHost,
    ];
    let count = if auto { usages.len() } else { 7 };
    // The newer usages decide more, so they are more frequent.
    let usage = if auto && random.below(2) == 0 {
        random.pick(&usages[7..])
    } else {
        random.pick(&usages[..count])
    };
    let mut flags = Create::empty();
    let lazily = usage == MemoryUsage::GpuLazilyAllocated;
    match random.below(3) {
        0 => {}
        _ if lazily => {}
        kind => {
            flags |= if kind == 1 {
                Create::HOST_ACCESS_SEQUENTIAL_WRITE
            } else {
                Create::HOST_ACCESS_RANDOM
            };
            if random.below(2) == 0 {
                flags |= Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD;
            }
            if random.below(2) == 0 {
                flags |= Create::MAPPED;
            }
        }
    }
    if random.below(4) == 0 {
        flags |= random.pick(&[
            Create::DEDICATED_MEMORY,
            Create::WITHIN_BUDGET,
            Create::STRATEGY_MIN_TIME,
            Create::STRATEGY_MIN_MEMORY,
        ]);
    }
    // Mostly none, sometimes one or two.
    let mut some = || match random.below(4) {
        0 => Property::from_bits_retain(1 << random.below(9)),
        1 => Property::from_bits_retain(1 << random.below(4) | 1 << random.below(4)),
        _ => Property::empty(),
    };
    let (required_flags, preferred_flags) = (some(), some());
    let memory_type_bits = if random.below(4) == 0 { random.bits() as u32 } else { 0 };
    AllocationCreateInfo {
        usage,
        flags,
        required_flags,
        preferred_flags,
        memory_type_bits,
        ..AllocationCreateInfo::default()
    }
}

/// Both allocators on one device.
struct Sides {
    ours: DeviceAllocator,
    theirs: vma::Allocator,
    fake: Box<FakeVulkan>,
}

impl Sides {
    fn new(info: &DeviceInfo, random: &mut Random) -> Self {
        let memory = Arc::new(SimulatedDevice::new(info.clone()));
        let mut rules = RequirementRules::of_device(info);
        rules.buffer_types &= random.bits() as u32 | random.bits() as u32;
        rules.optimal_image_types &= random.bits() as u32 | random.bits() as u32;
        let driver = SimulatedDriver::with_rules(memory.clone(), rules, Vec::new());
        let ours = DeviceAllocator::new(Arc::new(driver), &AllocatorOptions::default());
        let fake = FakeVulkan::new(memory);
        let options = vma::Options {
            amd_device_coherent: info.amd_device_coherent,
            ..vma::Options::default()
        };
        let theirs = vma::Allocator::over(&fake, &options);
        Self { ours: ours.expect("the device is one"), theirs, fake }
    }
}

/// The requested resource.
#[derive(Clone, Debug)]
enum Resource {
    None { memory_type_bits: u32 },
    Buffer(vk::BufferCreateInfo<'static>),
    Image(vk::ImageCreateInfo<'static>),
}

impl Resource {
    fn random(random: &mut Random) -> Self {
        match random.below(5) {
            0 => Self::None { memory_type_bits: random.bits() as u32 | random.bits() as u32 },
            1 | 2 => {
                // Whether there are only transfers decides the choice.
                let bits = if random.below(2) == 0 { 0x1ff } else { 0x3 };
                let usage = vk::BufferUsageFlags::from_raw(1 + random.below(bits) as u32);
                let size = random.size();
                Self::Buffer(vk::BufferCreateInfo { size, usage, ..Default::default() })
            }
            _ => {
                let usages = [
                    vk::ImageUsageFlags::TRANSFER_SRC,
                    vk::ImageUsageFlags::TRANSFER_DST,
                    vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST,
                    vk::ImageUsageFlags::TRANSFER_DST | vk::ImageUsageFlags::SAMPLED,
                    vk::ImageUsageFlags::STORAGE,
                    vk::ImageUsageFlags::COLOR_ATTACHMENT,
                    vk::ImageUsageFlags::COLOR_ATTACHMENT
                        | vk::ImageUsageFlags::TRANSIENT_ATTACHMENT,
                ];
                let side = 1 << random.below(10);
                Self::Image(vk::ImageCreateInfo {
                    image_type: vk::ImageType::TYPE_2D,
                    format: vk::Format::R8G8B8A8_UNORM,
                    extent: vk::Extent3D { width: side, height: side, depth: 1 },
                    mip_levels: 1,
                    array_layers: 1,
                    samples: vk::SampleCountFlags::TYPE_1,
                    tiling: vk::ImageTiling::OPTIMAL,
                    usage: random.pick(&usages),
                    ..Default::default()
                })
            }
        }
    }

    /// Returns whether this is a case in which `ALLOW_TRANSFER_INSTEAD` behaves like VMA 3.4, but not
    /// like the VMA 3.3 used here: that requires `HOST_VISIBLE` nevertheless on integrated GPUs, with
    /// `PREFER_HOST`, and for resources that are only copied.
    fn differs_since_3_4(&self, wishes: &AllocationCreateInfo, info: &DeviceInfo) -> bool {
        let is_only_copied = match self {
            Self::None { .. } => false,
            Self::Buffer(it) => it.usage.as_raw() & !0x3 == 0,
            Self::Image(it) => it.usage.as_raw() & !0x3 == 0,
        };
        wishes.usage == MemoryUsage::AutoPreferHost
            || info.device_type == DeviceType::IntegratedGpu
            || is_only_copied
    }

    fn ours(&self, sides: &Sides, wishes: &AllocationCreateInfo) -> Option<u32> {
        let ours = &sides.ours;
        // SAFETY: the create infos are valid and have no chains.
        let found = unsafe {
            match self {
                Self::None { memory_type_bits } => {
                    let engine = ours.engine();
                    engine.find_memory_type_index(*memory_type_bits, wishes, ResourceUse::Unknown)
                }
                Self::Buffer(info) => ours.find_memory_type_for_buffer(info, wishes),
                Self::Image(info) => ours.find_memory_type_for_image(info, wishes),
            }
        };
        match found {
            Ok(index) => Some(index),
            Err(vkmem_engine::Error::FeatureNotPresent(_)) => None,
            Err(other) => panic!("{self:?} {wishes:?}: {other}"),
        }
    }

    /// Returns VMA's choice; its fake driver reports the requirements of our simulated one.
    fn theirs(&self, sides: &Sides, wishes: &AllocationCreateInfo) -> Option<u32> {
        let (driver, theirs) = (sides.ours.driver(), &sides.theirs);
        let says = |bits: u32| sides.fake.memory_type_bits.store(bits, Ordering::Relaxed);
        // SAFETY: the create infos are valid and have no chains.
        unsafe {
            match self {
                Self::None { memory_type_bits } => {
                    theirs.find_memory_type_index(*memory_type_bits, wishes)
                }
                Self::Buffer(info) => {
                    let needs = driver.buffer_requirements_of_info(info).expect("a lawful buffer");
                    says(needs.memory_type_bits);
                    theirs.find_memory_type_index_for_buffer(info, wishes)
                }
                Self::Image(info) => {
                    let needs = driver.image_requirements_of_info(info).expect("a lawful image");
                    says(needs.memory_type_bits);
                    theirs.find_memory_type_index_for_image(info, wishes)
                }
            }
        }
    }
}

/// Returns the exceptions that explain a difference: VMA chose memory of a kind that was not requested,
/// and without all such memory it chooses like us. `None` if they do not explain it.
fn explain(
    sides: &Sides,
    resource: &Resource,
    wishes: &AllocationCreateInfo,
    ours: Option<u32>,
    theirs: Option<u32>,
) -> Option<Vec<Exception>> {
    let info = sides.fake.memory().info();
    let mut asked = wishes.required_flags | wishes.preferred_flags;
    if wishes.usage == MemoryUsage::GpuLazilyAllocated {
        asked |= Property::LAZILY_ALLOCATED;
    }
    let unasked = |flags: Property| {
        Exception::ALL
            .map(|it| it.property())
            .into_iter()
            .any(|property| flags.contains(property) && !asked.contains(property))
    };
    let taken = info.flags_of(theirs?);
    let found: Vec<_> = Exception::ALL
        .into_iter()
        .filter(|it| taken.contains(it.property()) && !asked.contains(it.property()))
        .collect();
    let kept = (0..info.types.len() as u32).filter(|index| !unasked(info.flags_of(*index)));
    let mut allowed = kept.fold(0, |bits, index| bits | 1 << index);
    if wishes.memory_type_bits != 0 {
        allowed &= wishes.memory_type_bits;
    }
    // An empty mask would allow all types.
    let again = if allowed == 0 {
        None
    } else {
        resource.theirs(sides, &AllocationCreateInfo { memory_type_bits: allowed, ..*wishes })
    };
    (!found.is_empty() && again == ours).then_some(found)
}

#[test]
fn the_same_memory_type_as_vma() {
    let mut random = Random(101);
    let mut seen = BTreeMap::new();
    let (mut compared, mut none) = (0, 0);
    for device in 0..rounds(Exception::DEVICES) {
        let info = random_device(&mut random);
        let sides = Sides::new(&info, &mut random);
        for _ in 0..Exception::REQUESTS {
            let resource = Resource::random(&mut random);
            let auto = !matches!(resource, Resource::None { .. });
            let mut wishes = random_create_info(&mut random, auto);
            if resource.differs_since_3_4(&wishes, &info) {
                wishes.flags -= Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD;
            }
            let (ours, theirs) = (resource.ours(&sides, &wishes), resource.theirs(&sides, &wishes));
            compared += 1;
            none += u64::from(theirs.is_none());
            if ours == theirs {
                continue;
            }
            let found = explain(&sides, &resource, &wishes, ours, theirs).unwrap_or_else(|| {
                panic!(
                    "device {device}: ours {ours:?}, VMA {theirs:?}\n{resource:?}\n{wishes:?}\n\
                     {info:?}"
                )
            });
            found.into_iter().for_each(|it| *seen.entry(it).or_insert(0_u64) += 1);
        }
    }
    println!("{compared} compared, {none} without any type, exceptions {seen:?}");
    assert!(compared >= 4 * 100_000);
    for exception in Exception::ALL {
        assert!(seen.contains_key(&exception), "{exception:?} is listed and never happens");
    }
}
