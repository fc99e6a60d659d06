//! One trace through both allocators.

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    AllocationCreateInfo, AllocationId, AllocationRequest, Allocator, AllocatorOptions, DeviceInfo,
    MemoryUsage, PoolCreateInfo, PoolId, SimulatedDevice,
};
use vkmem_peers::fake::FakeVulkan;
use vkmem_peers::random::Random;
use vkmem_peers::vma;

/// Both allocators, each on a device of its own of the same kind.
pub struct Both {
    pub ours: Allocator,
    pub theirs: vma::Allocator,
    pub our_device: Arc<SimulatedDevice>,
    pub their_device: Arc<SimulatedDevice>,
    pools: Option<(PoolId, vma::Pool)>,
    pub live: Vec<(AllocationId, vma::Allocation, u64)>,
    // After VMA, which keeps its address.
    _fake: Box<FakeVulkan>,
}

/// Which allocators could place a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Both,
    OnlyOurs,
    OnlyTheirs,
    Neither,
}

/// Returns a create info with which the type bits alone decide.
pub fn wishes() -> AllocationCreateInfo {
    AllocationCreateInfo { usage: MemoryUsage::Unknown, ..AllocationCreateInfo::default() }
}

impl Both {
    pub fn new(info: &DeviceInfo, block_size: u64) -> Self {
        let device = || Arc::new(SimulatedDevice::new(info.clone()));
        let (our_device, their_device) = (device(), device());
        let preferred_block_size = (block_size != 0).then_some(block_size);
        let options = AllocatorOptions { preferred_block_size, ..AllocatorOptions::default() };
        let ours = Allocator::new(our_device.clone(), &options).expect("the device is one");
        let fake = FakeVulkan::new(their_device.clone());
        let options = vma::Options {
            preferred_block_size: block_size,
            amd_device_coherent: info.amd_device_coherent,
            ..vma::Options::default()
        };
        let theirs = vma::Allocator::over(&fake, &options);
        Self { ours, theirs, our_device, their_device, pools: None, live: Vec::new(), _fake: fake }
    }

    /// Allocates everything from a pool of type 0 with blocks of one size and a maximum number of blocks.
    pub fn in_pool(mut self, block_size: u64, max_block_count: u32) -> Self {
        let rules = PoolCreateInfo {
            block_size: Some(block_size),
            max_block_count,
            ..PoolCreateInfo::default()
        };
        let ours = self.ours.create_pool(&rules).expect("there is room");
        let theirs = self.theirs.create_pool(0, block_size, (0, max_block_count as usize));
        self.pools = Some((ours, theirs));
        self
    }

    /// Allocates from both. If only one succeeds, its allocation is freed again, so that both hold the
    /// same.
    pub fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
        types: u32,
        wishes: &AllocationCreateInfo,
    ) -> Outcome {
        let mut request = AllocationRequest::of_memory(size, alignment, wishes);
        request.requirements.memory_type_bits = types;
        request.create_info.pool = self.pools.map(|it| it.0);
        let ours = self.ours.allocate(&request);
        let requirements = vk::MemoryRequirements { size, alignment, memory_type_bits: types };
        let theirs = self.theirs.allocate_from(&requirements, wishes, self.pools.map(|it| it.1));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                self.live.push((ours.id, theirs, size));
                Outcome::Both
            }
            (Ok(ours), Err(_)) => {
                drop(self.ours.free(ours.id).expect("it is live"));
                Outcome::OnlyOurs
            }
            (Err(_), Ok(theirs)) => {
                // SAFETY: allocated above.
                unsafe { self.theirs.free(theirs) };
                Outcome::OnlyTheirs
            }
            (Err(_), Err(_)) => Outcome::Neither,
        }
    }

    /// Frees a live allocation in both.
    pub fn free(&mut self, at: usize) -> u64 {
        let (ours, theirs, size) = self.live.swap_remove(at);
        drop(self.ours.free(ours).expect("it is live"));
        // SAFETY: the allocation is live.
        unsafe { self.theirs.free(theirs) };
        size
    }

    /// Frees a random live allocation in both.
    pub fn free_any(&mut self, random: &mut Random) -> u64 {
        self.free(random.below(self.live.len() as u64) as usize)
    }

    /// Frees everything, and checks what both left behind.
    pub fn finish(mut self) {
        while !self.live.is_empty() {
            self.free(self.live.len() - 1);
        }
        self.our_device.assert_no_violations();
        self.their_device.assert_no_violations();
        let (ours, theirs) = (self.ours.statistics(), self.theirs.statistics().total());
        assert_eq!((ours.allocation_count, theirs.allocation_count), (0, 0));
        if let Some((ours, theirs)) = self.pools.take() {
            self.ours.destroy_pool(ours).expect("it is empty");
            // SAFETY: the pool has no live allocations.
            unsafe { self.theirs.destroy_pool(theirs) };
        }
        self.ours.close();
        self.our_device.assert_clean();
    }
}
