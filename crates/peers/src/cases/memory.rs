//! A common interface of all contestants that allocate Vulkan memory.

use std::sync::Arc;

use ash::vk;
use gpu_allocator::MemoryLocation;
use gpu_allocator::vulkan as gpu;
use parking_lot::Mutex;
use vkmem_engine::{
    AllocationCreateInfo, AllocationId, AllocationRequest, Allocator, AllocatorOptions, DeviceInfo,
    DeviceMemory, MemoryUsage, PoolCreateInfo, PoolId, SimulatedDevice, profile_info,
};

use super::contestant::ALIGNMENT;
use crate::fake::FakeVulkan;
use crate::random::Random;
use crate::vma;

/// An allocator that a trace can drive, from any thread.
pub trait Memory: Sync {
    /// The result of `allocate`, which `free` takes.
    type Handle: Send;

    /// Allocates memory of one of the types (bit i: type i) without a resource; `None` if there is no
    /// room.
    fn allocate(&self, size: u64, types: u32) -> Option<Self::Handle>;

    /// Frees a live allocation.
    fn free(&self, handle: Self::Handle);
}

/// Describes the H200 with a `bufferImageGranularity` of 1: otherwise memory without a resource shares no
/// page, and each size is rounded up to 1 KiB.
pub fn h200() -> DeviceInfo {
    let mut info = profile_info("nvidia-h200").expect("a profile");
    info.limits.buffer_image_granularity = 1;
    info
}

/// Creates a simulated device.
pub fn device(info: &DeviceInfo) -> Arc<SimulatedDevice> {
    Arc::new(SimulatedDevice::new(info.clone()))
}

/// Returns the create info of all traces of plain memory: the type bits alone decide.
pub fn plain() -> AllocationCreateInfo {
    AllocationCreateInfo { usage: MemoryUsage::Unknown, ..AllocationCreateInfo::default() }
}

/// Creates an allocator on the H200, and a pool whose blocks are allocated when they are needed (`max_block_count` of 0:
/// as many as the heap has room for).
///
/// # Panics
/// If the memory type is none of the device.
pub fn with_pool(
    memory_type_index: u32,
    block_size: u64,
    max_block_count: u32,
) -> (Allocator, PoolId) {
    let allocator = Allocator::new(device(&h200()), &AllocatorOptions::default());
    let allocator = allocator.expect("the device is one");
    let rules = PoolCreateInfo {
        memory_type_index,
        block_size: Some(block_size),
        max_block_count,
        ..PoolCreateInfo::default()
    };
    let pool = allocator.create_pool(&rules).expect("a pool");
    (allocator, pool)
}

/// This project's allocator.
pub struct Ours {
    /// The engine.
    pub allocator: Allocator,
    request: AllocationRequest,
}

impl Ours {
    /// Creates an allocator for a device.
    ///
    /// # Panics
    /// If the device violates Vulkan's limits.
    pub fn new(device: Arc<dyn DeviceMemory>, options: &AllocatorOptions) -> Self {
        let allocator = Allocator::new(device, options).expect("the device is one");
        Self { allocator, request: AllocationRequest::of_memory(1, ALIGNMENT, &plain()) }
    }

    /// Allocates everything from a pool whose blocks exist from the start.
    pub fn in_pool(mut self, memory_type_index: u32, block_size: u64, blocks: u32) -> Self {
        let rules = PoolCreateInfo {
            memory_type_index,
            block_size: Some(block_size),
            min_block_count: blocks,
            ..PoolCreateInfo::default()
        };
        let pool: PoolId = self.allocator.create_pool(&rules).expect("there is room");
        self.request.create_info.pool = Some(pool);
        self
    }
}

impl Memory for Ours {
    type Handle = AllocationId;

    #[inline]
    fn allocate(&self, size: u64, types: u32) -> Option<AllocationId> {
        let mut request = self.request;
        request.requirements.size = size;
        request.requirements.memory_type_bits = types;
        self.allocator.allocate(&request).ok().map(|it| it.id)
    }

    #[inline]
    fn free(&self, handle: AllocationId) {
        drop(self.allocator.free(handle).expect("it is live"));
    }
}

/// VMA's allocator.
pub struct Vma {
    /// Dropped before the device that it uses.
    pub allocator: vma::Allocator,
    pool: Option<vma::Pool>,
    // Boxed: VMA keeps its address.
    _fake: Box<FakeVulkan>,
}

impl Vma {
    /// Creates an allocator for a device.
    pub fn new(device: Arc<dyn DeviceMemory>, options: &vma::Options) -> Self {
        let fake = FakeVulkan::new(device);
        Self { allocator: vma::Allocator::over(&fake, options), pool: None, _fake: fake }
    }

    /// Allocates everything from a pool whose blocks exist from the start.
    pub fn in_pool(mut self, memory_type_index: u32, block_size: u64, blocks: u32) -> Self {
        let pool = self.allocator.create_pool(memory_type_index, block_size, (blocks as usize, 0));
        self.pool = Some(pool);
        self
    }
}

impl Memory for Vma {
    type Handle = vma::Allocation;

    #[inline]
    fn allocate(&self, size: u64, types: u32) -> Option<vma::Allocation> {
        let requirements =
            vk::MemoryRequirements { size, alignment: ALIGNMENT, memory_type_bits: types };
        self.allocator.allocate_from(&requirements, &plain(), self.pool).ok()
    }

    #[inline]
    fn free(&self, handle: vma::Allocation) {
        // SAFETY: the traces free each handle once.
        unsafe { self.allocator.free(handle) }
    }
}

impl Drop for Vma {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            // SAFETY: the pool has no live allocations: the traces free what they allocate.
            unsafe { self.allocator.destroy_pool(pool) }
        }
    }
}

/// `gpu-allocator`, which its user has to lock.
pub struct GpuAllocator {
    allocator: Mutex<gpu::Allocator>,
    _fake: Box<FakeVulkan>,
}

impl GpuAllocator {
    /// Creates an allocator for a device.
    ///
    /// # Panics
    /// If it refuses.
    pub fn new(device: Arc<dyn DeviceMemory>) -> Self {
        let fake = FakeVulkan::new(device);
        let (instance, device) = fake.ash();
        let allocator = gpu::Allocator::new(&gpu::AllocatorCreateDesc {
            instance,
            device,
            physical_device: fake.physical_device(),
            debug_settings: gpu_allocator::AllocatorDebugSettings::default(),
            buffer_device_address: false,
            allocation_sizes: gpu_allocator::AllocationSizes::default(),
        });
        Self { allocator: Mutex::new(allocator.expect("it opens on the fake device")), _fake: fake }
    }
}

impl Memory for GpuAllocator {
    type Handle = gpu::Allocation;

    #[inline]
    fn allocate(&self, size: u64, types: u32) -> Option<gpu::Allocation> {
        let made = self.allocator.lock().allocate(&gpu::AllocationCreateDesc {
            name: "",
            requirements: vk::MemoryRequirements {
                size,
                alignment: ALIGNMENT,
                memory_type_bits: types,
            },
            location: MemoryLocation::GpuOnly,
            linear: true,
            allocation_scheme: gpu::AllocationScheme::GpuAllocatorManaged,
        });
        made.ok()
    }

    #[inline]
    fn free(&self, handle: gpu::Allocation) {
        self.allocator.lock().free(handle).expect("it is live");
    }
}

/// Live allocations under churn, as in virtual blocks.
pub struct Churn<'a, M: Memory> {
    memory: &'a M,
    live: Vec<Option<M::Handle>>,
    types: u32,
    range: (u64, u64),
    random: Random,
}

impl<'a, M: Memory> Churn<'a, M> {
    /// Creates `n` live allocations of sizes from `range.0` to `range.1` bytes.
    pub fn new(memory: &'a M, n: usize, types: u32, range: (u64, u64), seed: u64) -> Self {
        let mut random = Random(seed);
        let live = (0..n).map(|_| memory.allocate(random.log_uniform(range.0, range.1), types));
        let live: Vec<_> = live.collect();
        assert!(live.iter().all(Option::is_some), "there is room");
        Self { memory, live, types, range, random }
    }

    /// Returns the next steps, made before they are timed.
    pub fn plan(&mut self, count: usize) -> Vec<super::contestant::Step> {
        let n = self.live.len() as u64;
        let step = |_| {
            let size = self.random.log_uniform(self.range.0, self.range.1);
            (self.random.below(n) as u32, size as u32)
        };
        (0..count).map(step).collect()
    }

    /// Frees and allocates: the timed part.
    pub fn run(&mut self, steps: &[super::contestant::Step]) -> u64 {
        for &(at, size) in steps {
            let slot = &mut self.live[at as usize];
            self.memory.free(slot.take().expect("it is live"));
            *slot = self.memory.allocate(u64::from(size), self.types);
            assert!(slot.is_some(), "there is room");
        }
        steps.len() as u64
    }
}

impl<M: Memory> Drop for Churn<'_, M> {
    fn drop(&mut self) {
        for slot in &mut self.live {
            if let Some(handle) = slot.take() {
                self.memory.free(handle);
            }
        }
    }
}
