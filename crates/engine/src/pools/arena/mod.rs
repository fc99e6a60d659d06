//! All blocks of one memory type under one index: growth, shrinking, the next block ahead of time.

mod many;

use std::sync::Arc;

use crate::device::{HostAddress, MemoryAllocateInfo};
use crate::error::{Error, FailureFigures};
use crate::handle::{Home, SlotKey};
use crate::lock::{Condvar, Mutex, MutexGuard, rank};
use crate::pools::block_sizes::{BlockSizes, RAMP};
use crate::pools::blocks::{Blocks, PlacedHandle, PlacedRegion};
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::setup::{Setup, take_memory};
use crate::pools::snapshot::{BlockSnapshot, BlocksSnapshot, NO_ROOM, RegionSnapshot};
use crate::request::PoolCreateInfo;
use crate::statistics::Statistics;
use crate::suballocator::{
    AnySuballocator, BlockIndex, RegionInfo, RegionRequest, RegionTag, Suballocator,
};
use crate::words::counted;

/// When an arena may take memory from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// `NEVER_ALLOCATE` is not set.
    pub allowed: bool,
    /// `WITHIN_BUDGET` is set.
    pub within_budget: bool,
}

struct State {
    blocks: Blocks,
    /// Blocks that are being asked of the driver, and the smallest of their sizes.
    growing: u32,
    growing_size: u64,
    /// Grows whenever the driver refused one.
    refusals: u64,
    /// A block was asked for ahead of time, or was refused and is not asked for again.
    prefetching: bool,
}

impl State {
    /// Places a request in a block that is mapped, counted as a map of it.
    fn place_mapped(&mut self, request: &RegionRequest) -> Option<(PlacedRegion, HostAddress)> {
        let placed = self.blocks.place(request)?;
        let mapped = placed.memory.map_if_mapped();
        if mapped.is_none() {
            self.blocks.take_back(&placed);
        }
        mapped.map(|address| (placed, address))
    }

    /// Frees a region; `None` if the key is stale. The driver's part goes to the release. `before` sees
    /// the block while it is still there.
    #[inline]
    fn free(
        &mut self,
        key: SlotKey,
        release: &mut Release,
        before: impl FnOnce(&Blocks, BlockIndex),
    ) -> Option<RegionTag> {
        let blocks = &mut self.blocks;
        let freed = blocks.free(key)?;
        before(blocks, freed.block);
        let tag = freed.tag;
        let maps = u64::from(tag.map_count) + u64::from(tag.persistently_mapped);
        if maps > 0 {
            release.unmap(blocks.memory(freed.block).clone(), maps);
        }
        if freed.block_is_empty {
            blocks.keep_or_remove(freed.block, release);
        }
        Some(tag)
    }
}

/// See the module.
pub struct Arena {
    setup: Setup,
    home: Home,
    rules: PoolCreateInfo,
    sizes: BlockSizes,
    state: Mutex<State, rank::Arena>,
    grown: Condvar,
}

impl Arena {
    /// Without blocks.
    pub fn new(
        setup: &Setup,
        home: Home,
        sizes: BlockSizes,
        rules: &PoolCreateInfo,
        suballocator: AnySuballocator,
    ) -> Self {
        let ledger = setup.ledger.clone();
        let (of_type, min_count) = (rules.memory_type_index, rules.min_block_count);
        let blocks = Blocks::new(suballocator, ledger, of_type, setup.retention, min_count);
        let (growing, growing_size, refusals, prefetching) = (0, 0, 0, false);
        let state = Mutex::new(State { blocks, growing, growing_size, refusals, prefetching });
        let (setup, grown) = (setup.clone(), Condvar::new());
        Self { setup, home, rules: *rules, sizes, state, grown }
    }

    /// How large its blocks are.
    pub fn sizes(&self) -> BlockSizes {
        self.sizes
    }

    /// Places a request in the blocks there are. O(1), no call of the driver.
    #[inline(always)]
    pub fn allocate_in_place(&self, request: &RegionRequest) -> Option<PlacedHandle> {
        let mut state = self.state.lock();
        let placed = state.blocks.place_spot(request);
        self.end(state);
        placed
    }

    /// The same, and counts a map of the block; `None` if the block is not mapped. What was placed
    /// is then taken back under the same lock: an ordinary free could give the block away, which is
    /// a call of the driver.
    pub fn allocate_in_mapped_place(
        &self,
        request: &RegionRequest,
    ) -> Option<(PlacedRegion, HostAddress)> {
        let mut state = self.state.lock();
        let placed = state.place_mapped(request);
        self.end(state);
        placed
    }

    /// Places a request, with a new block if there is no room. The lock is not held while the
    /// driver works: whoever finds room meanwhile is served.
    pub fn allocate(&self, request: &RegionRequest, growth: Growth) -> Result<PlacedRegion, Error> {
        let mut state = self.state.lock();
        let refusals = state.refusals;
        loop {
            if let Some(placed) = state.blocks.place(request) {
                self.end(state);
                return Ok(placed);
            }
            if state.blocks.suballocator.take_starved() {
                return Err(Error::NoHostMemory("an allocation"));
            }
            if !growth.allowed {
                drop(state);
                let why = "no room in the blocks there are (NEVER_ALLOCATE)";
                return Err(self.no_room(why, request, request.size > self.sizes.preferred));
            }
            if request.size > self.sizes.preferred {
                drop(state);
                return Err(self.no_room("larger than a block", request, true));
            }
            // One thread grows, the others wait for its block rather than take one each.
            let worth_waiting = state.growing > 0
                && state.growing_size >= request.size
                && state.refusals == refusals;
            if !worth_waiting {
                if self.is_full(&state) {
                    drop(state);
                    let most = self.rules.max_block_count;
                    let reason =
                        format!("the pool is full: {} (max_block_count)", counted(most, "block"));
                    return Err(self.no_room(&reason, request, false));
                }
                if request.upper && state.blocks.live().0 > 0 {
                    drop(state);
                    let why = "the upper end of a pool is that of its only block in use \
                               (UPPER_ADDRESS)";
                    return Err(self.no_room(why, request, false));
                }
                return self.grow(state, request, growth);
            }
            self.grown.wait(&mut state);
        }
    }

    fn is_full(&self, state: &State) -> bool {
        let most = self.rules.max_block_count;
        most != 0 && state.blocks.count() + state.growing >= most
    }

    /// Lets go of the lock after a change, and asks for the next block if this one runs low.
    fn end(&self, mut state: MutexGuard<'_, State, rank::Arena>) {
        self.check(&state);
        let Some(queue) = &self.setup.prefetch else { return };
        if self.runs_low(&state) && !std::mem::replace(&mut state.prefetching, true) {
            drop(state);
            queue.ask(self.home);
        }
    }

    fn runs_low(&self, state: &State) -> bool {
        // A chain of the caller's is read in the caller's calls only: nobody knows how long it stays.
        let is_plain = self.rules.memory_allocate_next == 0;
        is_plain && state.blocks.run_low() && !self.is_full(state)
    }

    /// Takes the next block from the driver, if it still runs low. Within the budget only: nobody
    /// has asked for it yet.
    pub fn prefetch(&self) {
        let mut state = self.state.lock();
        if !self.runs_low(&state) {
            state.prefetching = false;
            return;
        }
        let least = self.sizes.preferred >> RAMP;
        let size = self.begin_growth(&mut state, least);
        // Whoever maps here would have to wait for the mapping of the new block otherwise.
        let map = state.blocks.iter().any(|(_, memory)| memory.is_mapped());
        drop(state);

        let taken = self.take_block(size, least, true);
        if let (Ok(memory), true) = (&taken, map) {
            memory.map_for_good();
        }

        let mut state = self.state.lock();
        state.growing -= 1;
        let mut release = Release::default();
        match taken.map(|memory| state.blocks.add(memory)) {
            Ok(Ok(block)) => {
                state.blocks.keep(block);
                state.prefetching = false;
            }
            Ok(Err((_, unused))) => (state.refusals, release) = (state.refusals + 1, unused),
            Err(_) => state.refusals += 1,
        }
        self.check(&state);
        drop(state);
        drop(release);
        self.grown.notify_all();
    }

    /// A block that was refused ahead of time may be asked for again.
    pub fn retry_prefetch(&self) {
        let mut state = self.state.lock();
        if state.growing == 0 {
            state.prefetching = false;
        }
    }

    /// Takes the blocks that a pool never gives back.
    pub fn take_first_blocks(&self) -> Result<(), Error> {
        let size = self.sizes.preferred;
        self.state.lock().blocks.try_reserve(self.rules.min_block_count as usize)?;
        for _ in 0..self.rules.min_block_count {
            let memory = self.take_block(size, size, false)?;
            let mut state = self.state.lock();
            match state.blocks.add(memory) {
                Ok(block) => state.blocks.keep(block),
                Err((error, release)) => {
                    drop(state);
                    drop(release);
                    return Err(error);
                }
            }
            self.check(&state);
        }
        Ok(())
    }

    fn no_room(&self, reason: &str, request: &RegionRequest, can_never_succeed: bool) -> Error {
        let figures = self.setup.ledger.figures(self.rules.memory_type_index, request.size);
        let figures = FailureFigures { can_never_succeed, ..figures };
        Error::OutOfDeviceMemory { reason: reason.into(), figures }
    }

    /// Says that a block is on its way; how large it should be.
    fn begin_growth(&self, state: &mut State, request: u64) -> u64 {
        let largest = state.blocks.iter().map(|(_, memory)| memory.size).max().unwrap_or(0);
        let headroom = self.setup.ledger.headroom(self.rules.memory_type_index);
        let first = self.sizes.first(request, largest, headroom);
        state.growing_size = if state.growing == 0 { first } else { state.growing_size.min(first) };
        state.growing += 1;
        first
    }

    fn grow(
        &self,
        mut state: MutexGuard<'_, State, rank::Arena>,
        request: &RegionRequest,
        growth: Growth,
    ) -> Result<PlacedRegion, Error> {
        let first = self.begin_growth(&mut state, request.size);
        drop(state);

        let taken = self.take_block(first, request.size, growth.within_budget);

        let mut state = self.state.lock();
        state.growing -= 1;
        let placed = match taken {
            Ok(memory) => {
                // Not a smaller one for want of memory.
                let is_full_size = memory.size >= self.sizes.preferred;
                let block = match state.blocks.add(memory) {
                    Ok(block) => block,
                    Err((error, release)) => {
                        state.refusals += 1;
                        drop(state);
                        drop(release);
                        self.grown.notify_all();
                        return Err(error);
                    }
                };
                state.prefetching = false;
                let placed = state.blocks.place(request);
                // A region that came free meanwhile may have been the better place.
                let mut release = Release::default();
                if state.blocks.suballocator.is_block_empty(block) {
                    state.blocks.keep_or_remove(block, &mut release);
                }
                self.end(state);
                drop(release);
                placed
                    .ok_or_else(|| self.no_room("a new block did not serve", request, is_full_size))
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
                &self.setup,
                &MemoryAllocateInfo {
                    priority: self.rules.priority,
                    next: self.rules.memory_allocate_next,
                    export_handle_types: self.rules.all_export_handle_types(),
                    ..MemoryAllocateInfo::of_type(self.rules.memory_type_index, size)
                },
                within_budget,
                true,
            );
            match taken {
                // Of objects that are counted, smaller ones are no fewer.
                Err(error)
                    if error.leads_on() && !matches!(error, Error::TooManyObjects { .. }) =>
                {
                    match self.sizes.smaller(size, request) {
                        Some(smaller) => size = smaller,
                        None => return Err(error),
                    }
                }
                other => return other,
            }
        }
    }

    /// Frees a region; `None` if the key is stale. What the driver has to do goes to the [`Release`].
    #[inline]
    pub fn free(&self, key: SlotKey, release: &mut Release) -> Option<RegionTag> {
        self.free_and(key, release, |_, _| {})
    }

    /// The same, and keeps the driver from getting the memory back.
    #[inline]
    pub fn free_leased(
        &self,
        key: SlotKey,
        release: &mut Release,
        lease: &mut Option<Arc<Lease>>,
    ) -> Option<RegionTag> {
        self.free_and(key, release, |blocks, block| *lease = Some(blocks.lease(block)))
    }

    #[inline(always)]
    fn free_and(
        &self,
        key: SlotKey,
        release: &mut Release,
        before: impl FnOnce(&Blocks, BlockIndex),
    ) -> Option<RegionTag> {
        let mut state = self.state.lock();
        let tag = state.free(key, release, before)?;
        self.check(&state);
        Some(tag)
    }

    /// Removes empty blocks that are kept; those of `min_block_count` only if `all`.
    pub fn release_empties(&self, all: bool, release: &mut Release) {
        let mut state = self.state.lock();
        let least = if all { 0 } else { state.blocks.min_count() };
        state.blocks.remove_empties(least, release);
        self.check(&state);
    }

    /// Changes the tag of a region, and gives the memory it lies in and its offset there.
    pub fn update_tag<R>(
        &self,
        key: SlotKey,
        update: impl FnOnce(&mut RegionTag) -> R,
    ) -> Option<(R, Arc<MemoryObject>, RegionInfo)> {
        let mut state = self.state.lock();
        let blocks = &mut state.blocks;
        let info = blocks.suballocator.region(key)?;
        let mut tag = blocks.suballocator.tag(key)?;
        let result = update(&mut tag);
        blocks.suballocator.set_tag(key, tag);
        Some((result, blocks.memory(info.block).clone(), info))
    }

    /// Live allocations and their bytes. O(1).
    pub fn live(&self) -> (u64, u64) {
        self.state.lock().blocks.live()
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut state = self.state.lock();
        state.blocks.suballocator.settle();
        let mut statistics = Statistics::default();
        state.blocks.iter().for_each(|(_, memory)| statistics.add_block(memory.size));
        let mut blocks = state.blocks.iter().map(|(block, _)| block);
        state.blocks.suballocator.count(&mut blocks, &mut statistics);
        statistics
    }

    /// All blocks and regions at one moment. O(regions).
    pub(crate) fn copy_for_dump(&self) -> Result<BlocksSnapshot, Error> {
        let mut copied = BlocksSnapshot::default();
        // Most of the room before the lock.
        let most = self.live().0 as usize * 2;
        copied.regions.try_reserve(most).map_err(|_| NO_ROOM)?;
        let state = self.state.lock();
        copied.blocks.try_reserve(state.blocks.count() as usize).map_err(|_| NO_ROOM)?;
        for (block, memory) in state.blocks.iter() {
            let mut failed = false;
            state.blocks.visit(block, &mut |view| {
                failed = failed || copied.regions.try_reserve(1).is_err();
                if !failed {
                    let tag = view.live.and_then(|(key, _)| state.blocks.suballocator.tag(key));
                    let named = tag.is_some_and(|tag| tag.named);
                    copied.regions.push(RegionSnapshot { view, named });
                }
            });
            if failed {
                return Err(NO_ROOM);
            }
            let regions_end = copied.regions.len();
            copied.blocks.push(BlockSnapshot { id: block.0, memory: memory.clone(), regions_end });
        }
        Ok(copied)
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        self.state.lock().blocks.suballocator.metadata_bytes()
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        self.state.lock().blocks.validate()
    }

    fn check(&self, state: &State) {
        if cfg!(feature = "validate")
            && let Err(broken) = state.blocks.validate()
        {
            panic!("arena of memory type {}: {broken}", self.rules.memory_type_index);
        }
    }
}
