//! The debugger of memory on simulated devices: what it writes, what it finds, and what failures leave behind.

mod corruption;
mod failures;
mod fills;
mod margins;
mod regions;

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationCreateInfo, AllocationId,
    AllocationRequest, AllocatorOptions, DebugOptions, DeviceInfo, DeviceMemory,
    MemoryPropertyFlags as Flags, MemoryRequirements, PoolCreateInfo, PoolId, QuarantineLimit,
    ResourceKind, ResourceUse, profile_info,
};
use vkmem_vulkan::{
    Checked, DeviceAllocator, FillTarget, MemoryDebugger, ResourceHandle, SimulatedDriver,
};

const MIB: u64 = 1 << 20;
const MARGIN: u64 = 16;
/// What new and what freed memory is filled with here.
const NEW: u8 = 0xDC;
const FREED: u8 = 0xEF;

/// Returns a device like an existing one, all of whose memory types may be used.
fn driver(profile: &str) -> SimulatedDriver {
    let info = DeviceInfo { amd_device_coherent: true, ..profile_info(profile).unwrap() };
    SimulatedDriver::of_info(info, Some(profile)).unwrap()
}

/// A simulated device with an allocator whose memory is debugged.
struct World {
    driver: Arc<SimulatedDriver>,
    allocator: DeviceAllocator,
    debugger: MemoryDebugger,
}

fn options() -> DebugOptions {
    DebugOptions {
        margin: MARGIN,
        quarantine: Some(QuarantineLimit::Bytes(64 * MIB)),
        ..DebugOptions::default()
    }
}

impl World {
    fn new(profile: &str) -> Self {
        Self::with(driver(profile), options())
    }

    fn with(driver: SimulatedDriver, debug: DebugOptions) -> Self {
        let driver = Arc::new(driver);
        let options = AllocatorOptions { debug, ..AllocatorOptions::default() };
        let allocator = DeviceAllocator::new(driver.clone(), &options).unwrap();
        Self { driver, allocator, debugger: MemoryDebugger::new(0x1234_5678_9ABC_DEF0) }
    }

    fn flags(&self, index: u32) -> Flags {
        self.driver.info().flags_of(index)
    }

    /// Returns the memory types that any buffer may use.
    fn types(&self) -> Vec<u32> {
        let (info, rules) = (self.driver.info(), self.driver.rules());
        (0..info.types.len() as u32)
            .filter(|&it| rules.buffer_types >> it & 1 == 1 && !info.has_no_memory(it))
            .filter(|&it| !self.flags(it).intersects(Flags::LAZILY_ALLOCATED | Flags::PROTECTED))
            .collect()
    }

    /// Returns a memory type that cannot be mapped.
    fn hidden_type(&self) -> u32 {
        let hidden = |it: &u32| !self.flags(*it).contains(Flags::HOST_VISIBLE);
        self.types().into_iter().find(hidden).expect("a type that cannot be mapped")
    }

    fn visible_type(&self) -> u32 {
        let visible = |it: &u32| self.flags(*it).contains(Flags::HOST_VISIBLE);
        self.types().into_iter().find(visible).expect("a type that can be mapped")
    }

    /// Creates a pool, whose allocations have memory of their own without an algorithm.
    fn pool(&self, memory_type_index: u32, algorithm: Option<Algorithm>) -> PoolId {
        let rules = PoolCreateInfo {
            memory_type_index,
            block_size: algorithm.map(|_| 4 * MIB),
            algorithm: algorithm.unwrap_or_default(),
            ..PoolCreateInfo::default()
        };
        self.allocator.engine().create_pool(&rules).unwrap()
    }

    /// Allocates memory without a resource; of its own in a pool that allows it.
    fn memory(&self, pool: PoolId, size: u64, alignment: u64) -> Allocation {
        let rules = self.allocator.engine().pool_info(pool).unwrap();
        let flags = match rules.block_size {
            Some(_) => Create::empty(),
            None => Create::DEDICATED_MEMORY,
        };
        let request = AllocationRequest {
            requirements: MemoryRequirements {
                size,
                alignment,
                memory_type_bits: 1 << rules.memory_type_index,
                prefers_dedicated: false,
                requires_dedicated: false,
            },
            create_info: AllocationCreateInfo { flags, pool: Some(pool), ..Default::default() },
            kind: ResourceKind::Buffer,
            resource_use: ResourceUse::Device,
            dedicated: None,
        };
        self.allocator.engine().allocate(&request).unwrap()
    }

    fn buffer(
        &self,
        memory_type_index: u32,
        size: u64,
        usage: vk::BufferUsageFlags,
        flags: Create,
    ) -> (FillTarget, Allocation) {
        let info = vk::BufferCreateInfo::default().size(size).usage(usage);
        let create = AllocationCreateInfo {
            flags,
            memory_type_bits: 1 << memory_type_index,
            ..Default::default()
        };
        // SAFETY: a plain create info.
        let (buffer, allocation) = unsafe {
            self.allocator.create_buffer(&info, &create, |on, request| on.allocate(request))
        }
        .unwrap();
        let target = FillTarget {
            handle: ResourceHandle::Buffer(buffer),
            usage: usage.as_raw().into(),
            buffer_size: size,
            image: None,
            id: allocation.id,
        };
        (target, allocation)
    }

    /// Returns what the device sees of an allocation.
    fn contents(&self, allocation: &Allocation) -> Vec<u8> {
        self.read(allocation, 0, allocation.size)
    }

    /// Returns what the device sees from an offset of an allocation on.
    fn read(&self, allocation: &Allocation, offset: i64, size: u64) -> Vec<u8> {
        let at = allocation.offset.checked_add_signed(offset).unwrap();
        self.driver.device().device_read(allocation.memory, at, size)
    }

    fn check(&self) -> Checked {
        self.debugger.check(&self.allocator, (!0, None), &|_| Some(FREED), &|| false).unwrap()
    }

    #[track_caller]
    fn assert_intact(&self) -> Checked {
        let checked = self.check();
        assert_eq!((&checked.findings[..], &checked.unchecked[..]), (&[][..], &[][..]));
        checked
    }

    fn prepare(&self, targets: &[FillTarget]) -> Vec<vkmem_vulkan::LeftOut> {
        // SAFETY: the tests' targets are live and not in use.
        unsafe { self.debugger.prepare(&self.allocator, targets, Some(NEW)) }.unwrap()
    }

    /// Fills what is about to be freed, and frees it.
    fn free(&self, target: &FillTarget) {
        // SAFETY: the tests' targets are live and not in use.
        let left_out = unsafe {
            self.debugger.fill_freed(&self.allocator, std::slice::from_ref(target), FREED)
        };
        assert_eq!(left_out, Ok(vec![]));
        // SAFETY: live and not in use.
        drop(unsafe { self.allocator.destroy(target.handle, Some(target.id)) });
    }

    /// Ends everything, and asserts that no rule of Vulkan was broken and nothing is left.
    #[track_caller]
    fn end(self, targets: &[FillTarget]) {
        for it in targets {
            // SAFETY: live and not in use.
            drop(unsafe { self.allocator.destroy(it.handle, Some(it.id)) });
        }
        self.allocator.engine().close();
        drop(self.allocator);
        self.driver.assert_clean();
    }
}

/// Returns the target for memory without a resource.
fn bare(id: AllocationId) -> FillTarget {
    FillTarget { handle: ResourceHandle::Memory, usage: 0, buffer_size: 0, image: None, id }
}
