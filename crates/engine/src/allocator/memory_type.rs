//! Choice of the memory type: what a usage requires, prefers and avoids, and the resulting cost of each
//! type.

use crate::device::{DeviceInfo, DeviceType, MemoryPropertyFlags as Property};
use crate::error::Error;
use crate::request::{
    AllocationCreateFlags as Create, AllocationCreateInfo, MemoryUsage, ResourceUse,
};

/// Required, preferred and avoided properties of a memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// A type without all of these is not used.
    pub required: Property,
    /// Each missing one adds 1 to the cost.
    pub preferred: Property,
    /// Each present one adds 1 to the cost.
    pub not_preferred: Property,
}

impl Preferences {
    /// Derives the preferences from usage and flags, on a device of some type.
    #[inline(always)]
    pub fn new(
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
        device_type: DeviceType,
    ) -> Self {
        let mut wish = Self {
            required: create_info.required_flags,
            preferred: create_info.preferred_flags,
            not_preferred: create_info.not_preferred_flags,
        };
        match create_info.usage {
            MemoryUsage::Unknown => {}
            MemoryUsage::GpuOnly => wish.prefer_device_memory(device_type),
            MemoryUsage::CpuOnly => {
                wish.required |= Property::HOST_VISIBLE | Property::HOST_COHERENT;
            }
            MemoryUsage::CpuToGpu => {
                wish.required |= Property::HOST_VISIBLE;
                wish.prefer_device_memory(device_type);
            }
            MemoryUsage::GpuToCpu => {
                wish.required |= Property::HOST_VISIBLE;
                wish.preferred |= Property::HOST_CACHED;
            }
            MemoryUsage::CpuCopy => wish.not_preferred |= Property::DEVICE_LOCAL,
            MemoryUsage::GpuLazilyAllocated => wish.required |= Property::LAZILY_ALLOCATED,
            MemoryUsage::Auto | MemoryUsage::AutoPreferDevice | MemoryUsage::AutoPreferHost => {
                wish.auto(create_info, resource_use, device_type);
            }
        }
        // AMD's uncached memory types are slow for everyone who did not request them.
        if !(wish.required | wish.preferred)
            .intersects(Property::DEVICE_COHERENT_AMD | Property::DEVICE_UNCACHED_AMD)
        {
            wish.not_preferred |= Property::DEVICE_UNCACHED_AMD;
        }
        wish
    }

    /// Prefers device-local memory, unless the caller prefers host-visible memory on an integrated GPU,
    /// where all memory is shared.
    fn prefer_device_memory(&mut self, device_type: DeviceType) {
        let wants_host = self.preferred.contains(Property::HOST_VISIBLE);
        if device_type != DeviceType::IntegratedGpu || !wants_host {
            self.preferred |= Property::DEVICE_LOCAL;
        }
    }

    fn auto(
        &mut self,
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
        device_type: DeviceType,
    ) {
        let prefer_host = create_info.usage == MemoryUsage::AutoPreferHost;
        let prefer_device = create_info.usage == MemoryUsage::AutoPreferDevice;
        let used_by_device = resource_use != ResourceUse::TransferOnly;
        let may_transfer = create_info.flags.contains(Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD);
        // On a discrete GPU, a transfer by the caller is faster than device access over the bus.
        let should_transfer = may_transfer
            && device_type != DeviceType::IntegratedGpu
            && used_by_device
            && !prefer_host;

        if create_info.flags.contains(Create::HOST_ACCESS_RANDOM) {
            self.preferred |= Property::HOST_CACHED;
            if should_transfer {
                // Not `HOST_VISIBLE`: with it, cached memory in the host's heap would cost less.
                self.preferred |= Property::DEVICE_LOCAL;
            } else {
                self.want_host_visible(may_transfer);
            }
        } else if create_info.flags.contains(Create::HOST_ACCESS_SEQUENTIAL_WRITE) {
            // Write-combined memory is faster for sequential writes.
            self.not_preferred |= Property::HOST_CACHED;
            self.want_host_visible(may_transfer);
            let device_local = if used_by_device { !prefer_host } else { prefer_device };
            self.prefer_device_local(device_local);
        } else {
            self.prefer_device_local(!prefer_host);
        }
    }

    /// Requires host-visible memory, or only prefers it if the caller can use a transfer instead. In that
    /// case a request cannot fail for want of it on any device.
    fn want_host_visible(&mut self, may_transfer: bool) {
        if may_transfer {
            self.preferred |= Property::HOST_VISIBLE;
        } else {
            self.required |= Property::HOST_VISIBLE;
        }
    }

    fn prefer_device_local(&mut self, to_device: bool) {
        if to_device {
            self.preferred |= Property::DEVICE_LOCAL;
        } else {
            self.not_preferred |= Property::DEVICE_LOCAL;
        }
    }

    /// Returns the cost of a type with these properties; `None` if it lacks a required one.
    pub fn cost(&self, flags: Property) -> Option<u32> {
        flags.contains(self.required).then(|| {
            let missing = self.preferred - flags;
            let unwanted = self.not_preferred & flags;
            // No property is in both.
            (missing | unwanted).bits().count_ones()
        })
    }
}

/// The memory types of a device, as bit masks for the choice among them.
#[derive(Clone, Debug)]
pub struct MemoryTypes {
    device_type: DeviceType,
    flags: Vec<Property>,
    /// Bit mask of the types that must not be used; the fields below are bit masks, too.
    forbidden: u32,
    protected: u32,
    lazily_allocated: u32,
}

impl MemoryTypes {
    /// Sorts the memory types of a device, at most 32.
    pub fn new(device: &DeviceInfo) -> Self {
        let with = |flag: Property| {
            let types = (0u32..).zip(&device.types);
            types.fold(0, |mask, (at, it)| mask | u32::from(it.flags.contains(flag)) << at)
        };
        let coherent = with(Property::DEVICE_COHERENT_AMD);
        let without_memory = (0..device.types.len() as u32)
            .filter(|&index| device.has_no_memory(index))
            .fold(0, |mask, index| mask | 1 << index);
        Self {
            device_type: device.device_type,
            flags: device.types.iter().map(|it| it.flags).collect(),
            forbidden: !mask_of_types(device)
                | without_memory
                | if device.amd_device_coherent { 0 } else { coherent },
            protected: with(Property::PROTECTED),
            lazily_allocated: with(Property::LAZILY_ALLOCATED),
        }
    }
}

/// The memory types that a request allows, as a bit mask; types that failed are removed.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    wish: Preferences,
    bits: u32,
}

impl Candidates {
    /// Selects the types in `memory_type_bits` that the device and the caller allow.
    #[inline(always)]
    pub fn new(
        types: &MemoryTypes,
        memory_type_bits: u32,
        create_info: &AllocationCreateInfo,
        resource_use: ResourceUse,
    ) -> Self {
        let wish = Preferences::new(create_info, resource_use, types.device_type);
        let mut bits = memory_type_bits & !types.forbidden;
        if create_info.memory_type_bits != 0 {
            bits &= create_info.memory_type_bits;
        }
        // Memory of these kinds is only for resources that request it, never a fallback.
        let asked = wish.required | wish.preferred;
        if !asked.contains(Property::PROTECTED) {
            bits &= !types.protected;
        }
        if !asked.contains(Property::LAZILY_ALLOCATED) {
            bits &= !types.lazily_allocated;
        }
        Self { wish, bits }
    }

    /// Returns the cheapest remaining type; the lowest index among equals.
    #[inline(always)]
    pub fn best(&self, types: &MemoryTypes) -> Option<u32> {
        if self.bits.is_power_of_two() {
            // A single type needs no comparison.
            let only = self.bits.trailing_zeros();
            return self.wish.cost(types.flags[only as usize]).map(|_| only);
        }
        let (mut best, mut least, mut left) = (None, u32::MAX, self.bits);
        while left != 0 && least > 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            if let Some(cost) = self.wish.cost(types.flags[index as usize])
                && cost < least
            {
                (best, least) = (Some(index), cost);
            }
        }
        best
    }

    /// Removes a type that failed.
    pub fn strike(&mut self, memory_type_index: u32) {
        self.bits &= !(1 << memory_type_index);
    }

    /// Returns the error that explains why no type is possible.
    pub fn none_found(
        &self,
        device: &DeviceInfo,
        memory_type_bits: u32,
        create_info: &AllocationCreateInfo,
    ) -> Error {
        let all = mask_of_types(device);
        let mut reason = format!("no memory type serves: required {}", names(self.wish.required));
        reason += &format!(", the resource allows {}", indices(memory_type_bits & all));
        if create_info.memory_type_bits != 0 {
            let asked = indices(create_info.memory_type_bits & all);
            reason += &format!(", memory_type_bits allows {asked}");
        }
        let there: Vec<String> = (0u32..)
            .zip(&device.types)
            .map(|(index, memory_type)| {
                let heap = if device.has_no_memory(index) { " (a heap of 0 bytes)" } else { "" };
                format!("{index} = {}{heap}", names(memory_type.flags))
            })
            .collect();
        reason += &format!("; the device has {}", there.join(", "));
        Error::FeatureNotPresent(reason)
    }
}

fn mask_of_types(device: &DeviceInfo) -> u32 {
    u32::MAX.checked_shr(32 - device.types.len() as u32).unwrap_or(0)
}

/// Formats a bit mask of types: `no type`, `type 3`, `types 1 3`.
fn indices(bits: u32) -> String {
    let all: Vec<String> =
        (0..32).filter(|index| bits >> index & 1 == 1).map(|index| index.to_string()).collect();
    match all.as_slice() {
        [] => "no type".into(),
        [one] => format!("type {one}"),
        _ => format!("types {}", all.join(" ")),
    }
}

/// Formats properties: `DEVICE_LOCAL|HOST_VISIBLE`.
pub fn names(flags: Property) -> String {
    let mut all: Vec<String> = flags.iter_names().map(|(name, _)| name.into()).collect();
    let unknown = flags.iter_names().fold(flags.bits(), |bits, (_, named)| bits & !named.bits());
    if unknown != 0 {
        all.push(format!("{unknown:#x}"));
    }
    if all.is_empty() { "nothing".into() } else { all.join("|") }
}
