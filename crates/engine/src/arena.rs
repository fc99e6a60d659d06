//! All blocks of one memory type under one index: growth, shrinking, the spare block.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::budget::HeapLedger;
use crate::device::{DeviceError, DeviceMemory, HostAddress, MemoryAllocateInfo};
use crate::error::Error;
use crate::memory_object::{MemoryObject, Release};
use crate::request::PoolCreateInfo;
use crate::statistics::Statistics;
use crate::suballocator::{
    BlockIndex, RegionInfo, RegionKey, RegionRequest, RegionTag, Suballocator,
};

/// How often a first block is halved below the preferred size.
const RAMP: u32 = 3;
/// Blocks are not made smaller than this when the driver refuses larger ones.
const SMALLEST_BLOCK: u64 = 1 << 20;
/// Block sizes are multiples of this.
const BLOCK_ROUNDING: u64 = 32;
/// No block is larger, whatever is asked for: a suballocator keeps sizes in 60 bits.
const LARGEST_BLOCK: u64 = 1 << 59;

/// How large blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// In bytes.
    pub preferred: u64,
    /// The caller named the size: no ramp, no smaller block.
    pub explicit: bool,
}

impl BlockSizes {
    /// An eighth of a heap up to 1 GiB, else 256 MiB; `explicit` if the caller says.
    pub fn for_heap(heap_size: u64, explicit: Option<u64>) -> Self {
        let preferred = match explicit {
            Some(size) => size,
            None if heap_size <= 1 << 30 => heap_size / 8,
            None => 256 << 20,
        };
        let preferred = round(preferred.clamp(1, LARGEST_BLOCK));
        Self { preferred, explicit: explicit.is_some() }
    }

    /// What the first attempt takes for a request, beside blocks of up to `largest` bytes.
    fn first(self, request: u64, largest: u64, headroom: u64) -> u64 {
        let mut size = self.preferred;
        if self.explicit {
            return size;
        }
        for _ in 0..RAMP {
            let half = round(size / 2);
            if half <= largest || half < request.saturating_mul(2) {
                break;
            }
            size = half;
        }
        while size > headroom
            && let Some(half) = self.smaller(size, request)
        {
            size = half;
        }
        size
    }

    /// What the next attempt takes, if there is one.
    fn smaller(self, size: u64, request: u64) -> Option<u64> {
        // The last step goes to the floor itself: a heap may have that much left, and no more.
        let floor = round(SMALLEST_BLOCK.min(self.preferred / 8));
        let half = round(size / 2).max(floor);
        (!self.explicit && half >= request && half < size).then_some(half)
    }
}

fn round(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_ROUNDING)
}

/// When an arena may take memory from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// `NEVER_ALLOCATE` is not set.
    pub allowed: bool,
    /// `WITHIN_BUDGET` is set.
    pub within_budget: bool,
}

/// A place in an arena.
pub struct Placed {
    /// Of the region.
    pub key: RegionKey,
    /// The block's memory.
    pub memory: Arc<MemoryObject>,
    /// In that memory, in bytes.
    pub offset: u64,
}

struct State {
    suballocator: Box<dyn Suballocator>,
    /// By block index.
    memories: Vec<Option<Arc<MemoryObject>>>,
    block_count: u32,
    /// Empty blocks that are kept: those of `min_blocks`, or one, as the next allocation often comes
    /// soon.
    empties: Vec<BlockIndex>,
    min_blocks: u32,
    /// Blocks that are being asked of the driver, and the smallest of their sizes.
    growing: u32,
    growing_size: u64,
    /// Grows whenever the driver refused one.
    refusals: u64,
    allocation_count: u64,
    allocation_bytes: u64,
}

/// See the module.
pub struct Arena {
    device: Arc<dyn DeviceMemory>,
    ledger: Arc<HeapLedger>,
    rules: PoolCreateInfo,
    sizes: BlockSizes,
    state: Mutex<State>,
    grown: Condvar,
}

impl Arena {
    /// Without blocks.
    pub fn new(
        device: Arc<dyn DeviceMemory>,
        ledger: Arc<HeapLedger>,
        sizes: BlockSizes,
        rules: &PoolCreateInfo,
        suballocator: Box<dyn Suballocator>,
    ) -> Self {
        let state = Mutex::new(State {
            suballocator,
            memories: Vec::new(),
            block_count: 0,
            empties: Vec::new(),
            min_blocks: rules.min_block_count,
            growing: 0,
            growing_size: 0,
            refusals: 0,
            allocation_count: 0,
            allocation_bytes: 0,
        });
        Self { device, ledger, rules: *rules, sizes, state, grown: Condvar::new() }
    }

    /// How large its blocks are.
    pub fn sizes(&self) -> BlockSizes {
        self.sizes
    }

    /// Places a request in the blocks there are. O(1), no call of the driver.
    pub fn allocate_in_place(&self, request: &RegionRequest) -> Option<Placed> {
        let mut state = self.state.lock();
        let placed = state.place(request);
        self.check(&state);
        placed
    }

    /// The same, and counts a map of the block; `None` if the block is not mapped. What was placed
    /// is then taken back under the same lock: an ordinary free could give the block away, which is
    /// a call of the driver.
    pub fn allocate_in_mapped_place(
        &self,
        request: &RegionRequest,
    ) -> Option<(Placed, HostAddress)> {
        let mut state = self.state.lock();
        let placed = state.place(request)?;
        let mapped = placed.memory.map_if_mapped();
        if mapped.is_none() {
            let freed = state.suballocator.free(placed.key).expect("it was placed just now");
            state.allocation_count -= 1;
            state.allocation_bytes -= freed.info.size;
            if freed.block_is_empty {
                state.empties.push(freed.info.block);
            }
        }
        self.check(&state);
        mapped.map(|address| (placed, address))
    }

    /// Places a request, with a new block if there is no room. The lock is not held while the
    /// driver works: whoever finds room meanwhile is served.
    pub fn allocate(&self, request: &RegionRequest, growth: Growth) -> Result<Placed, Error> {
        let mut state = self.state.lock();
        let refusals = state.refusals;
        loop {
            if let Some(placed) = state.place(request) {
                self.check(&state);
                return Ok(placed);
            }
            if !growth.allowed {
                drop(state);
                return Err(
                    self.no_room("no room in the blocks there are (NEVER_ALLOCATE)", request)
                );
            }
            if request.size > self.sizes.preferred {
                drop(state);
                return Err(self.no_room("larger than a block", request));
            }
            // One thread grows, the others wait for its block rather than take one each.
            let worth_waiting = state.growing > 0
                && state.growing_size >= request.size
                && state.refusals == refusals;
            if !worth_waiting {
                let most = self.rules.max_block_count;
                if most != 0 && state.block_count + state.growing >= most {
                    drop(state);
                    let reason = format!("the pool is full: {most} blocks (max_block_count)");
                    return Err(self.no_room(&reason, request));
                }
                return self.grow(state, request, growth);
            }
            self.grown.wait(&mut state);
        }
    }

    /// Takes the blocks that a pool never gives back.
    pub fn take_first_blocks(&self) -> Result<(), Error> {
        let size = self.sizes.preferred;
        for _ in 0..self.rules.min_block_count {
            let memory = self.take_block(size, size, false)?;
            let mut state = self.state.lock();
            let block = state.add(memory);
            state.empties.push(block);
            self.check(&state);
        }
        Ok(())
    }

    fn no_room(&self, reason: &str, request: &RegionRequest) -> Error {
        let figures = self.ledger.figures(self.rules.memory_type_index, request.size);
        Error::OutOfDeviceMemory { reason: reason.into(), figures }
    }

    fn grow(
        &self,
        mut state: MutexGuard<'_, State>,
        request: &RegionRequest,
        growth: Growth,
    ) -> Result<Placed, Error> {
        let largest = state.memories.iter().flatten().map(|memory| memory.size).max().unwrap_or(0);
        let headroom = self.ledger.headroom(self.rules.memory_type_index);
        let first = self.sizes.first(request.size, largest, headroom);
        state.growing_size = if state.growing == 0 { first } else { state.growing_size.min(first) };
        state.growing += 1;
        drop(state);

        let taken = self.take_block(first, request.size, growth.within_budget);

        let mut state = self.state.lock();
        state.growing -= 1;
        let placed = match taken {
            Ok(memory) => {
                let block = state.add(memory);
                let placed = state.place(request);
                // A region that came free meanwhile may have been the better place.
                let unused = state.suballocator.is_block_empty(block);
                let surplus = if unused { state.keep_or_remove(block, false) } else { None };
                self.check(&state);
                drop(state);
                let mut release = Release::default();
                surplus.into_iter().for_each(|memory| release.free(memory));
                placed.ok_or_else(|| self.no_room("a new block did not serve", request))
            }
            Err(error) => {
                state.refusals += 1;
                drop(state);
                Err(error.about(request.size))
            }
        };
        self.grown.notify_all();
        placed
    }

    /// Asks the driver for a block, and for smaller ones while it refuses. No lock is held.
    fn take_block(
        &self,
        first: u64,
        request: u64,
        within_budget: bool,
    ) -> Result<MemoryObject, Error> {
        let mut size = first;
        loop {
            let taken = take_memory(
                &self.device,
                &self.ledger,
                &MemoryAllocateInfo {
                    priority: self.rules.priority,
                    next: self.rules.memory_allocate_next,
                    ..MemoryAllocateInfo::of_type(self.rules.memory_type_index, size)
                },
                within_budget,
                true,
            );
            match taken {
                Err(Error::OutOfDeviceMemory { reason, figures }) => {
                    match self.sizes.smaller(size, request) {
                        Some(smaller) => size = smaller,
                        None => return Err(Error::OutOfDeviceMemory { reason, figures }),
                    }
                }
                other => return other,
            }
        }
    }

    /// Frees a region. What the driver has to do is in the [`Release`].
    pub fn free(&self, key: RegionKey) -> Option<(Release, RegionTag)> {
        let over_budget = self.ledger.is_over_budget(self.rules.memory_type_index);
        let mut release = Release::default();
        let mut state = self.state.lock();
        let tag = state.suballocator.tag(key)?;
        let freed = state.suballocator.free(key)?;
        state.allocation_count -= 1;
        state.allocation_bytes -= freed.info.size;
        let maps = u64::from(tag.map_count) + u64::from(tag.persistently_mapped);
        if maps > 0 {
            release.unmap(state.memory(freed.info.block).clone(), maps);
        }
        if freed.block_is_empty
            && let Some(memory) = state.keep_or_remove(freed.info.block, over_budget)
        {
            release.free(memory);
        }
        self.check(&state);
        Some((release, tag))
    }

    /// Removes the spare block, so that another memory type of its heap may have the memory.
    pub fn release_spare(&self) -> Release {
        let mut release = Release::default();
        let mut state = self.state.lock();
        while state.block_count > state.min_blocks
            && let Some(spare) = state.empties.pop()
        {
            release.free(state.remove(spare));
        }
        self.check(&state);
        release
    }

    /// Changes the tag of a region, and gives the memory it lies in and its offset there.
    pub fn update_tag<R>(
        &self,
        key: RegionKey,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>, RegionInfo)> {
        let mut state = self.state.lock();
        let info = state.suballocator.region(key)?;
        let mut tag = state.suballocator.tag(key)?;
        let result = update(&mut tag);
        state.suballocator.set_tag(key, tag);
        Some((result, state.memory(info.block).clone(), info))
    }

    /// Live allocations and their bytes. O(1).
    pub fn live(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.allocation_count, state.allocation_bytes)
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let state = self.state.lock();
        let mut statistics = Statistics::default();
        for (block, memory) in state.blocks() {
            statistics.add_block(memory.size);
            state.suballocator.visit_block(block, &mut |region| match region.live {
                Some(_) => statistics.add_allocation(region.size),
                None => statistics.add_unused_range(region.size),
            });
        }
        statistics
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        self.state.lock().suballocator.metadata_bytes()
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        self.state.lock().validate()
    }

    fn check(&self, state: &State) {
        if cfg!(feature = "validate")
            && let Err(broken) = state.validate()
        {
            panic!("arena of memory type {}: {broken}", self.rules.memory_type_index);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let mut release = Release::default();
        state.memories.drain(..).flatten().for_each(|memory| release.free(memory));
    }
}

impl State {
    fn place(&mut self, request: &RegionRequest) -> Option<Placed> {
        let placement = self.suballocator.allocate(request)?;
        if let Some(at) = self.empties.iter().position(|&block| block == placement.block) {
            self.empties.swap_remove(at);
        }
        self.allocation_count += 1;
        self.allocation_bytes += request.size;
        let memory = self.memory(placement.block).clone();
        Some(Placed { key: placement.key, memory, offset: placement.offset })
    }

    fn memory(&self, block: BlockIndex) -> &Arc<MemoryObject> {
        self.memories[block.0 as usize].as_ref().expect("a block has memory until it is removed")
    }

    fn set_memory(&mut self, block: BlockIndex, memory: Option<Arc<MemoryObject>>) {
        let index = block.0 as usize;
        if index >= self.memories.len() {
            self.memories.resize(index + 1, None);
        }
        self.memories[index] = memory;
    }

    fn blocks(&self) -> impl Iterator<Item = (BlockIndex, &Arc<MemoryObject>)> {
        (0u32..)
            .zip(&self.memories)
            .filter_map(|(index, memory)| Some((BlockIndex(index), memory.as_ref()?)))
    }

    /// Takes a new block in.
    fn add(&mut self, memory: MemoryObject) -> BlockIndex {
        let block = self.suballocator.add_block(memory.size);
        self.set_memory(block, Some(Arc::new(memory)));
        self.block_count += 1;
        block
    }

    /// Keeps an empty block, or removes it or the one that was kept before it: the smaller one.
    fn keep_or_remove(
        &mut self,
        block: BlockIndex,
        over_budget: bool,
    ) -> Option<Arc<MemoryObject>> {
        if self.block_count <= self.min_blocks {
            self.empties.push(block);
            return None;
        }
        if over_budget {
            return Some(self.remove(block));
        }
        let Some(&kept) = self.empties.last() else {
            self.empties.push(block);
            return None;
        };
        if self.memory(block).size > self.memory(kept).size {
            self.empties.pop();
            self.empties.push(block);
            return Some(self.remove(kept));
        }
        Some(self.remove(block))
    }

    fn remove(&mut self, block: BlockIndex) -> Arc<MemoryObject> {
        self.suballocator.remove_block(block);
        self.block_count -= 1;
        self.memories[block.0 as usize].take().expect("a block has memory until it is removed")
    }

    fn validate(&self) -> Result<(), String> {
        self.suballocator.validate()?;
        let (mut count, mut bytes) = (0, 0);
        for (block, memory) in self.blocks() {
            let mut end = 0;
            self.suballocator.visit_block(block, &mut |region| {
                end = region.offset + region.size;
                if region.live.is_some() {
                    count += 1;
                    bytes += region.size;
                }
            });
            if end > memory.size {
                return Err(format!("a region ends at {end}, the memory at {}", memory.size));
            }
            if self.suballocator.is_block_empty(block) != self.empties.contains(&block) {
                return Err(format!("block {} is empty and not kept, or the other way", block.0));
            }
        }
        if self.empties.len() > self.min_blocks.max(1) as usize {
            return Err(format!("{} empty blocks are kept", self.empties.len()));
        }
        if self.blocks().count() != self.block_count as usize {
            return Err("blocks are counted wrongly".into());
        }
        if (count, bytes) != (self.allocation_count, self.allocation_bytes) {
            return Err(format!("{count} regions of {bytes} bytes, counted otherwise"));
        }
        Ok(())
    }
}

/// Books memory and asks the driver for it; takes the booking back if it refuses.
pub(crate) fn take_memory(
    device: &Arc<dyn DeviceMemory>,
    ledger: &Arc<HeapLedger>,
    info: &MemoryAllocateInfo,
    within_budget: bool,
    shared: bool,
) -> Result<MemoryObject, Error> {
    let (memory_type_index, size) = (info.memory_type_index, info.size);
    ledger.reserve(memory_type_index, size, within_budget)?;
    match device.allocate(info) {
        Ok(handle) => {
            let (device, ledger) = (device.clone(), ledger.clone());
            Ok(MemoryObject::new(device, ledger, handle, size, memory_type_index, shared))
        }
        Err(error) => {
            ledger.release(memory_type_index, size);
            let figures = ledger.figures(memory_type_index, size);
            Err(match error {
                DeviceError::OutOfDeviceMemory => {
                    Error::OutOfDeviceMemory { reason: "the driver refused".into(), figures }
                }
                DeviceError::OutOfHostMemory => Error::OutOfHostMemory(figures),
                DeviceError::TooManyObjects => Error::TooManyObjects {
                    limit: device.info().limits.max_memory_allocation_count,
                    figures,
                },
                other => other.into(),
            })
        }
    }
}
