//! [`Arena`]: all blocks of one pool under one index. Grows, shrinks, and prefetches the next block.

pub(crate) mod evicting;
pub(crate) mod exchange;
mod figures;
mod guarding;
mod many;
pub(crate) mod moving;
mod quarantine;
pub(crate) mod room;

use std::sync::Arc;

use crate::debugging::options::DebugOptions;
use crate::device::{HostAddress, MemoryAllocateInfo};
use crate::error::{Error, FailureFigures};
use crate::handle::{PoolKey, SlotKey};
use crate::heap::ledger::HeapUsage;
use crate::lock::{Condvar, Mutex, MutexGuard, rank};
use crate::pools::block_sizes::{BlockSizes, FIRST_BLOCK_HALVINGS};
use crate::pools::blocks::{Blocks, PlacedHandle, PlacedRegion};
use crate::pools::guard::Guard;
use crate::pools::margin::Margins;
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::pools::moves::MovingRegions;
use crate::pools::setup::{Setup, take_memory};
use crate::recording::order::mark;
use crate::recording::{Told, is_active};
use crate::request::PoolCreateInfo;
use crate::suballocator::{
    AnySuballocator, BlockIndex, RegionInfo, RegionRequest, RegionTag, Suballocator,
};
use crate::words::counted;

/// Whether an arena may allocate blocks from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Whether it may (`NEVER_ALLOCATE` is not set).
    pub allowed: bool,
    /// Whether it must stay within the heap's budget (`WITHIN_BUDGET` is set).
    pub within_budget: bool,
}

struct State {
    blocks: Blocks,
    /// Number of blocks that are being allocated from the driver, and the size of the smallest of them in
    /// bytes.
    growing: u32,
    growing_size: u64,
    /// Number of blocks that the driver refused so far.
    refusals: u64,
    /// Whether a block was requested ahead of time, or was refused and is not to be requested again.
    prefetching: bool,
    /// Regions that take part in moves.
    moving: MovingRegions,
}

impl State {
    /// Places a request in a mapped block and counts one map of it; `None` if there is no room or the
    /// block is not mapped.
    fn place_mapped(&mut self, request: &RegionRequest) -> Option<(PlacedRegion, HostAddress)> {
        let placed = self.blocks.place_unguarded(request)?;
        let mapped = placed.memory.map_if_mapped();
        if mapped.is_none() {
            self.blocks.take_back(&placed);
        }
        mapped.map(|address| (placed, address))
    }

    /// Frees a region and returns its tag; `None` if the key is stale. Pending driver calls are added to
    /// `release`. `before` is called with the block before it can be removed. The region goes to the quarantine, if the
    /// pool has one and it `may_stay`.
    #[inline]
    fn free(
        &mut self,
        key: SlotKey,
        may_stay: bool,
        release: &mut Release,
        before: impl FnOnce(&Blocks, BlockIndex),
    ) -> Option<RegionTag> {
        let blocks = &mut self.blocks;
        let freed = match blocks.guard.is_none() {
            true => blocks.free_unguarded(key)?,
            false => {
                if may_stay && let Some((tag, block)) = blocks.hold(key, release) {
                    before(blocks, block);
                    return Some(tag);
                }
                blocks.free(key)?
            }
        };
        before(blocks, freed.block);
        let tag = freed.tag;
        let maps = tag.maps();
        if maps > 0 {
            release.unmap(blocks.memory(freed.block).clone(), maps);
        }
        if freed.block_is_empty {
            blocks.keep_or_remove(freed.block, release);
        }
        Some(tag)
    }
}

/// All blocks of one pool under one index and one short lock; no driver call is made while it is held.
pub struct Arena {
    setup: Setup,
    pool_key: PoolKey,
    rules: PoolCreateInfo,
    sizes: BlockSizes,
    margins: Margins,
    state: Mutex<State, rank::Arena>,
    grown: Condvar,
}

impl Arena {
    /// Creates an arena without blocks.
    pub fn new(
        setup: &Setup,
        pool_key: PoolKey,
        sizes: BlockSizes,
        rules: &PoolCreateInfo,
        suballocator: AnySuballocator,
        debug: &DebugOptions,
    ) -> Self {
        let margins = Margins::new(debug.margin);
        let ledger = setup.ledger.clone();
        let (of_type, min_count) = (rules.memory_type_index, rules.min_block_count);
        let mut blocks = Blocks::new(suballocator, ledger, of_type, setup.retention, min_count);
        blocks.guard = Guard::new(debug, &setup.quarantines, pool_key);
        let (growing, growing_size, refusals, prefetching) = (0, 0, 0, false);
        let state = Mutex::new(State {
            blocks,
            growing,
            growing_size,
            refusals,
            prefetching,
            moving: MovingRegions::default(),
        });
        let (setup, grown) = (setup.clone(), Condvar::new());
        Self { setup, pool_key, rules: *rules, sizes, margins, state, grown }
    }

    /// Returns the block sizes.
    pub fn sizes(&self) -> BlockSizes {
        self.sizes
    }

    /// Places a request in existing blocks; `None` if there is no room. No driver call. Takes the time of
    /// [`Suballocator::allocate`].
    #[inline(always)]
    pub fn allocate_in_place(&self, request: &RegionRequest) -> Option<PlacedHandle> {
        let mut state = self.state.lock();
        let placed = state.blocks.place_handle(request);
        self.end(state);
        placed
    }

    /// Places a request in a mapped block and counts one map of it; `None` if there is no room or the
    /// block is not mapped. In the second case the region is taken back under the same lock: an ordinary
    /// free could free the block, which is a driver call.
    pub fn allocate_in_mapped_place(
        &self,
        request: &RegionRequest,
    ) -> Option<(PlacedRegion, HostAddress)> {
        let mut state = self.state.lock();
        let placed = state.place_mapped(request);
        self.end(state);
        placed
    }

    /// Places a request, in a new block if there is no room. The lock is not held during driver calls, so
    /// other threads can allocate in existing blocks meanwhile.
    ///
    /// # Errors
    /// The errors of the driver call, of the budget, or [`Error::OutOfDeviceMemory`] if a rule of the pool
    /// forbids another block.
    pub fn allocate(&self, request: &RegionRequest, growth: Growth) -> Result<PlacedRegion, Error> {
        let mut state = self.state.lock();
        let refusals = state.refusals;
        loop {
            if let Some(placed) = state.blocks.place(request) {
                self.end(state);
                return Ok(placed);
            }
            if state.blocks.suballocator.take_host_memory_failure() {
                return Err(Error::NoHostMemory("an allocation"));
            }
            if !growth.allowed {
                drop(state);
                let why = "no room in the blocks there are (NEVER_ALLOCATE)";
                return Err(self.no_room(why, request, request.size > self.sizes.preferred));
            }
            if request.size > self.sizes.preferred {
                drop(state);
                let why = match self.margins.are_on() {
                    true => "larger than a block, with its margins",
                    false => "larger than a block",
                };
                return Err(self.no_room(why, request, true));
            }
            // One thread allocates a block; the others wait for it instead of allocating one each.
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
                if request.upper && state.blocks.taken().0 > 0 {
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

    /// Releases the lock after a change, and requests the next block if this arena runs low.
    fn end(&self, mut state: MutexGuard<'_, State, rank::Arena>) {
        mark();
        self.check(&state);
        let Some(queue) = &self.setup.prefetch else { return };
        if self.runs_low(&state) && !std::mem::replace(&mut state.prefetching, true) {
            drop(state);
            queue.ask(self.pool_key);
        }
    }

    fn runs_low(&self, state: &State) -> bool {
        // A `pNext` chain of the caller's is only read during the caller's calls: its lifetime is
        // unknown.
        let is_plain = self.rules.memory_allocate_next == 0;
        is_plain && state.blocks.run_low() && !self.is_full(state)
    }

    /// Allocates the next block from the driver if the arena still runs low; within the budget only, as
    /// no caller has requested it yet.
    pub fn prefetch(&self) {
        let mut state = self.state.lock();
        if !self.runs_low(&state) {
            state.prefetching = false;
            return;
        }
        let least = self.sizes.preferred >> FIRST_BLOCK_HALVINGS;
        let size = self.begin_growth(&mut state, least);
        // Otherwise the next thread that maps an allocation would wait for the mapping of the new block.
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
        mark();
        self.check(&state);
        drop(state);
        drop(release);
        if is_active() {
            self.setup.ledger.recorder.tell(&Told::Prefetch(self.pool_key));
        }
        self.grown.notify_all();
    }

    /// Allows prefetching again after the driver refused a block.
    pub fn retry_prefetch(&self) {
        let mut state = self.state.lock();
        if state.growing == 0 {
            state.prefetching = false;
        }
    }

    /// Allocates the blocks that the pool keeps until it is destroyed (`min_block_count`).
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

    /// Counts a block that is about to be allocated; returns its size in bytes.
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
                // False for a smaller block after the driver refused a larger one.
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
                // A region that was freed meanwhile may have been the better fit.
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

    /// Returns the parameters of the `vkAllocateMemory` call for a block of `size` bytes.
    pub(crate) fn block_info(&self, size: u64) -> MemoryAllocateInfo {
        MemoryAllocateInfo {
            priority: self.rules.priority,
            next: self.rules.memory_allocate_next,
            export_handle_types: self.rules.all_export_handle_types(),
            ..MemoryAllocateInfo::of_type(self.rules.memory_type_index, size)
        }
    }

    /// Allocates a block from the driver, and tries smaller ones while it refuses. No lock is held.
    fn take_block(
        &self,
        first: u64,
        request: u64,
        within_budget: bool,
    ) -> Result<MemoryObject, Error> {
        let mut size = first;
        loop {
            let taken = take_memory(&self.setup, &self.block_info(size), within_budget, true);
            match taken {
                // A smaller object would count as one, too.
                Err(error)
                    if error.allows_fallback()
                        && !matches!(error, Error::TooManyObjects { .. }) =>
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

    /// Frees a region and returns its tag; `None` if the key is stale. Pending driver calls are added to
    /// `release`.
    #[inline]
    pub fn free(&self, key: SlotKey, release: &mut Release) -> Option<RegionTag> {
        self.free_and(key, release, |_, _| {})
    }

    /// Frees a region like [`free`](Self::free), and stores a lease that keeps its block's memory from
    /// being freed.
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
        let tag = state.free(key, true, release, before)?;
        mark();
        self.check(&state);
        Some(tag)
    }

    /// Removes retained empty blocks; those of `min_block_count` only if `all`.
    pub fn release_empties(&self, all: bool, release: &mut Release) {
        let mut state = self.state.lock();
        let least = if all { 0 } else { state.blocks.min_count() };
        state.blocks.remove_empties(least, release);
        self.check(&state);
    }

    /// Changes the tag of a region; returns the result with the region's memory object and description,
    /// `None` if the key is stale.
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
        let info = self.payload(blocks, key, info);
        Some((result, blocks.memory(info.block).clone(), info))
    }

    /// Returns how much is held and what is in use of it. O(1).
    pub fn usage(&self) -> HeapUsage {
        let blocks = &self.state.lock().blocks;
        let ((block_count, block_bytes), (allocation_count, allocation_bytes)) =
            (blocks.held(), blocks.live());
        HeapUsage { block_count, block_bytes, allocation_count, allocation_bytes }
    }

    /// Returns the bytes of bookkeeping. O(1).
    pub fn metadata_bytes(&self) -> usize {
        self.state.lock().blocks.suballocator.metadata_bytes()
    }

    /// Checks all invariants and returns the first one that is broken. O(regions).
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
