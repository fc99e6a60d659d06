//! Helpers of the allocator's tests.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, AllocationRequest, Allocator, AllocatorOptions,
    Call, DeviceInfo, MemoryEvent, MemoryEventKind, MemoryHandle, MemoryHeapFlags,
    MemoryPropertyFlags, MemoryRequirements, ResourceKind, ResourceUse, SimulatedDevice,
    simulated_info,
};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

pub const LOCAL: MemoryPropertyFlags = MemoryPropertyFlags::DEVICE_LOCAL;
pub const VISIBLE: MemoryPropertyFlags = MemoryPropertyFlags::HOST_VISIBLE;
pub const COHERENT: MemoryPropertyFlags = VISIBLE.union(MemoryPropertyFlags::HOST_COHERENT);

/// Returns a request for a buffer that the device uses: alignment 16 bytes, any memory type.
pub fn buffer(size: u64) -> AllocationRequest {
    AllocationRequest {
        requirements: MemoryRequirements {
            size,
            alignment: 16,
            memory_type_bits: u32::MAX,
            prefers_dedicated: false,
            requires_dedicated: false,
        },
        create_info: AllocationCreateInfo::default(),
        kind: ResourceKind::Buffer,
        resource_use: ResourceUse::Device,
        dedicated: None,
    }
}

/// Returns the request of [`buffer`] with flags.
pub fn flagged(size: u64, flags: AllocationCreateFlags) -> AllocationRequest {
    let mut request = buffer(size);
    request.create_info.flags = flags;
    request
}

/// Returns the request of [`buffer`], persistently mapped.
pub fn mapped(size: u64) -> AllocationRequest {
    use AllocationCreateFlags as Create;
    flagged(size, Create::MAPPED | Create::HOST_ACCESS_SEQUENTIAL_WRITE)
}

/// Returns options with blocks of `size` bytes in heaps of any size.
pub fn blocks_of(size: u64) -> AllocatorOptions {
    AllocatorOptions {
        preferred_block_size: Some(size),
        preferred_small_heap_block_size: Some(size),
        ..AllocatorOptions::default()
    }
}

/// Describes a device with one heap and one memory type with every property.
pub fn one_heap(size: u64) -> DeviceInfo {
    simulated_info(&[(size, MemoryHeapFlags::DEVICE_LOCAL)], &[(0, LOCAL.union(COHERENT))])
}

/// The memory objects that the allocator's events report as live: type and size by handle.
#[derive(Default)]
pub struct Told(BTreeMap<u64, (u32, u64)>);

impl Told {
    /// Applies the events since the last call. Fails if an object is reported twice, or freed without
    /// having been allocated.
    #[track_caller]
    pub fn hear(&mut self, allocator: &Allocator) {
        for event in allocator.take_memory_events() {
            let MemoryEvent { kind, memory, memory_type_index, size } = event;
            let known = match kind {
                MemoryEventKind::Allocate => self.0.insert(memory.0, (memory_type_index, size)),
                MemoryEventKind::Free => {
                    let known = self.0.remove(&memory.0);
                    assert_eq!(known, Some((memory_type_index, size)), "{memory:?} went");
                    None
                }
            };
            assert_eq!(known, None, "{memory:?} came twice");
        }
    }

    /// Asserts that the reported objects are those of the device.
    #[track_caller]
    pub fn agree_with(&self, device: &SimulatedDevice) {
        assert_eq!(self.0.len(), device.live_memory_objects());
        for (&memory, &(memory_type_index, size)) in &self.0 {
            let object = device.memory(MemoryHandle(memory)).expect("it lives");
            assert_eq!((object.memory_type_index, object.size), (memory_type_index, size));
        }
    }
}

/// A simulated device and an allocator for it.
pub struct World {
    pub device: Arc<SimulatedDevice>,
    pub allocator: Allocator,
}

impl World {
    pub fn new(info: DeviceInfo) -> Self {
        Self::with(info, &AllocatorOptions::default())
    }

    pub fn with(info: DeviceInfo, options: &AllocatorOptions) -> Self {
        let device = Arc::new(SimulatedDevice::new(info));
        let allocator = Allocator::new(device.clone(), options).expect("an allocator");
        Self { device, allocator }
    }

    /// Returns the number of driver calls so far, of any function.
    pub fn calls(&self) -> u64 {
        Call::ALL.iter().map(|&call| self.device.call_count(call)).sum()
    }

    pub fn allocate_calls(&self) -> u64 {
        self.device.call_count(Call::Allocate)
    }

    /// Asserts that nothing is held after everything was freed.
    #[track_caller]
    pub fn assert_empty(&self) {
        self.allocator.release_empty_blocks();
        self.device.assert_clean();
        assert_eq!(self.allocator.statistics(), Default::default());
        for budget in self.allocator.heap_budgets() {
            let counts = (budget.block_count, budget.allocation_count);
            let bytes = (budget.block_bytes, budget.allocation_bytes, budget.usage);
            assert_eq!((counts, bytes), ((0, 0), (0, 0, 0)));
        }
    }
}

/// A small, fast, reproducible generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// Returns a number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Returns a size up to 2^`bits`; each order of magnitude is equally likely.
    pub fn size(&mut self, bits: u64) -> u64 {
        let top = 1 << self.below(bits + 1);
        1 + self.below(top)
    }
}
