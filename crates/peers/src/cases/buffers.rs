//! Creation and destruction of buffers on the CPU driver.

use ash::vk;
use gpu_allocator::MemoryLocation;
use gpu_allocator::vulkan as gpu;
use vkmem_engine::{
    AllocationCreateInfo, AllocationId, Allocator, AllocatorOptions, CacheHint, DeviceMemory,
};
use vkmem_vulkan::{DeviceAllocator, Driver, ResourceHandle, prefetch_line};

use super::Effort;
use crate::driver::{ash_tables, open_cpu_driver, open_vma};
use crate::measure::{Round, in_turns};
use crate::random::Random;
use crate::report::{Peer, Report};
use crate::vma;

/// Smallest and largest size in bytes: 10,000 of them fit into the host's memory.
const SIZES: (u64, u64) = (256, 64 << 10);

/// An allocator that creates buffers.
pub trait Buffers {
    /// A buffer and its memory.
    type Made;

    /// Creates a bound buffer of `size` bytes.
    fn create(&mut self, size: u64) -> Self::Made;

    /// Destroys a buffer and frees its memory.
    fn destroy(&mut self, made: Self::Made);
}

/// Returns the create info that all contestants use.
pub fn buffer_info(size: u64) -> vk::BufferCreateInfo<'static> {
    let usage = vk::BufferUsageFlags::VERTEX_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
    vk::BufferCreateInfo { size, usage, ..Default::default() }
}

/// This project's allocator.
pub struct Ours<'a>(pub &'a DeviceAllocator);

impl Buffers for Ours<'_> {
    /// Handles only, as with VMA: the description of the allocation can be queried.
    type Made = (vk::Buffer, AllocationId, CacheHint);

    fn create(&mut self, size: u64) -> Self::Made {
        let info = AllocationCreateInfo::default();
        // SAFETY: the create info is valid.
        let made = unsafe { self.0.create_buffer(&buffer_info(size), &info, Allocator::allocate) };
        let (buffer, allocation) = made.expect("there is room");
        (buffer, allocation.id, allocation.hint)
    }

    fn destroy(&mut self, (buffer, allocation, hint): Self::Made) {
        prefetch_line(hint.0);
        // SAFETY: the buffer is live, and the device is idle.
        drop(unsafe { self.0.destroy(ResourceHandle::Buffer(buffer), Some(allocation)) });
    }
}

/// VMA.
pub struct Vma<'a>(pub &'a vma::Allocator);

impl Buffers for Vma<'_> {
    type Made = (vk::Buffer, vma::Allocation);

    fn create(&mut self, size: u64) -> Self::Made {
        // SAFETY: the create info is valid.
        let made =
            unsafe { self.0.create_buffer(&buffer_info(size), &AllocationCreateInfo::default()) };
        made.expect("there is room")
    }

    fn destroy(&mut self, (buffer, allocation): Self::Made) {
        // SAFETY: both are live, and the device is idle.
        unsafe { self.0.destroy_buffer(buffer, allocation) }
    }
}

struct GpuAllocator(gpu::Allocator, ash::Device);

impl Buffers for GpuAllocator {
    type Made = (vk::Buffer, gpu::Allocation);

    fn create(&mut self, size: u64) -> Self::Made {
        // SAFETY: the create info is valid, and buffer and memory are live and fit.
        unsafe {
            let buffer = self.1.create_buffer(&buffer_info(size), None).expect("there is room");
            let made = self.0.allocate(&gpu::AllocationCreateDesc {
                name: "",
                requirements: self.1.get_buffer_memory_requirements(buffer),
                location: MemoryLocation::GpuOnly,
                linear: true,
                allocation_scheme: gpu::AllocationScheme::GpuAllocatorManaged,
            });
            let made = made.expect("there is room");
            let bound = self.1.bind_buffer_memory(buffer, made.memory(), made.offset());
            bound.expect("the driver binds");
            (buffer, made)
        }
    }

    fn destroy(&mut self, (buffer, allocation): Self::Made) {
        // SAFETY: the buffer is live, and the device is idle.
        unsafe { self.1.destroy_buffer(buffer, None) };
        self.0.free(allocation).expect("it is live");
    }
}

/// The driver calls that every allocator makes, and nothing else: all buffers are bound to the start of
/// one memory object.
pub struct DriverAlone {
    device: ash::Device,
    memory: vk::DeviceMemory,
}

impl DriverAlone {
    /// Creates it on a device where every buffer may use memory type 0, like Mesa's CPU driver.
    pub fn new(device: ash::Device) -> Self {
        let info = vk::MemoryAllocateInfo { allocation_size: 1 << 20, ..Default::default() };
        // SAFETY: the create info is valid.
        let memory = unsafe { device.allocate_memory(&info, None) }.expect("there is room");
        Self { device, memory }
    }
}

impl Buffers for DriverAlone {
    type Made = vk::Buffer;

    fn create(&mut self, size: u64) -> vk::Buffer {
        // SAFETY: the create info is valid, and the memory is live and large enough.
        unsafe {
            let buffer = self.device.create_buffer(&buffer_info(size), None);
            let buffer = buffer.expect("there is room");
            let needs = self.device.get_buffer_memory_requirements(buffer);
            assert!(needs.size <= 1 << 20 && needs.memory_type_bits & 1 == 1);
            let bound = self.device.bind_buffer_memory(buffer, self.memory, 0);
            bound.expect("the driver binds");
            buffer
        }
    }

    fn destroy(&mut self, buffer: vk::Buffer) {
        // SAFETY: the buffer is live, and the device is idle.
        unsafe { self.device.destroy_buffer(buffer, None) }
    }
}

impl Drop for DriverAlone {
    fn drop(&mut self) {
        // SAFETY: the memory is live; all buffers bound to it have been destroyed.
        unsafe { self.device.free_memory(self.memory, None) }
    }
}

/// Live buffers under churn.
pub struct Churn<B: Buffers> {
    buffers: B,
    live: Vec<Option<B::Made>>,
    random: Random,
}

impl<B: Buffers> Churn<B> {
    /// Creates `n` live buffers.
    pub fn new(mut buffers: B, n: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let live =
            (0..n).map(|_| Some(buffers.create(random.log_uniform(SIZES.0, SIZES.1)))).collect();
        Self { buffers, live, random }
    }

    /// Returns the next pairs: the index of the victim and the size of its successor. Drawn before they
    /// are timed.
    pub fn plan(&mut self, pairs: usize) -> Vec<(u32, u64)> {
        let n = self.live.len() as u64;
        let mut pair = || (self.random.below(n) as u32, self.random.log_uniform(SIZES.0, SIZES.1));
        (0..pairs).map(|_| pair()).collect()
    }

    /// Destroys and creates the buffers of a plan: the timed part.
    pub fn run(&mut self, plan: &[(u32, u64)]) -> u64 {
        for &(at, size) in plan {
            if let Some(made) = self.live[at as usize].take() {
                self.buffers.destroy(made);
            }
            self.live[at as usize] = Some(self.buffers.create(size));
        }
        plan.len() as u64
    }

    /// Returns a round for [`in_turns`]; each round has a plan of its own.
    pub fn turn(&mut self, rounds: usize, pairs: usize) -> Round<'_> {
        let plans: Vec<_> = (0..rounds).map(|_| self.plan(pairs)).collect();
        let mut plans = plans.into_iter();
        Box::new(move || self.run(&plans.next().expect("a plan for each round")))
    }
}

impl<B: Buffers> Drop for Churn<B> {
    fn drop(&mut self) {
        for slot in &mut self.live {
            if let Some(made) = slot.take() {
                self.buffers.destroy(made);
            }
        }
    }
}

/// Measures destroy + create on the CPU driver, with all contestants on one `VkDevice`.
pub fn on_cpu_driver(report: &mut Report, effort: Effort) {
    report.section("destroy + create of a buffer on the CPU driver, 10,000 live");
    let device = match open_cpu_driver() {
        Ok(device) => device,
        Err(why) => {
            println!("  left out: {why}");
            return;
        }
    };
    // Each buffer is replaced several times per round, so that each contestant's tables are in the cache.
    let (rounds, pairs) = if effort.quick { (7, 20_000) } else { (15, 40_000) };
    let handles = device.handles();
    let n = 10_000;
    // SAFETY: the device outlives all of them.
    let opened = unsafe {
        let api_version = device.info().api_version;
        (open_vma(&handles, api_version), ash_tables(&handles))
    };
    let (theirs, (instance, table)) = (opened.0.expect("VMA"), opened.1.expect("the loader"));
    let ours = DeviceAllocator::new(device.clone(), &AllocatorOptions::default());
    let ours = ours.expect("the device is one");
    let third = gpu::Allocator::new(&gpu::AllocatorCreateDesc {
        instance,
        device: table.clone(),
        physical_device: ash::vk::Handle::from_raw(handles.physical_device),
        debug_settings: gpu_allocator::AllocatorDebugSettings::default(),
        buffer_device_address: false,
        allocation_sizes: gpu_allocator::AllocationSizes::default(),
    });
    let third = GpuAllocator(third.expect("gpu-allocator"), table.clone());
    let mut ours = Churn::new(Ours(&ours), n, 31);
    let mut vma = Churn::new(Vma(&theirs), n, 31);
    let mut third = Churn::new(third, n, 31);
    let mut alone = Churn::new(DriverAlone::new(table.clone()), n, 31);
    let figures = in_turns(
        rounds,
        &mut [
            ours.turn(rounds, pairs),
            vma.turn(rounds, pairs),
            third.turn(rounds, pairs / 20),
            alone.turn(rounds, pairs),
        ],
    );
    let peers = [
        Peer::new("vma default", &figures[1]).at_most(0.5),
        Peer::new("gpu-allocator", &figures[2]),
        Peer::new("driver alone", &figures[3]),
    ];
    report.add("buffer pair from Rust", n as u64, "ns", &figures[0], &peers);
}
