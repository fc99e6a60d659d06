//! [`Blocks`]: the blocks of an arena and which empty ones are retained. Bookkeeping under the arena's
//! lock; no driver calls.

use std::sync::Arc;

use crate::device::MemoryHandle;
use crate::error::Error;
use crate::handle::{CacheHint, SlotKey};
use crate::heap::ledger::HeapLedger;
use crate::heap::retention::EmptyBlockRetention;
use crate::pools::guard::Guard;
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::suballocator::{
    AnySuballocator, BlockIndex, FreedRegion, Placement, RegionRequest, RegionTag, RegionView,
    Suballocator,
};
use crate::words;
use crate::words::counted;

/// The place of a region in an arena.
pub struct PlacedRegion {
    /// Key of the region.
    pub key: SlotKey,
    /// The memory object of its block.
    pub memory: Arc<MemoryObject>,
    /// Offset in that memory object, in bytes.
    pub offset: u64,
}

impl PlacedRegion {
    /// Returns the place without its reference to the memory object.
    pub fn handle(&self) -> PlacedHandle {
        let hint = CacheHint::default();
        PlacedHandle { key: self.key, memory: self.memory.handle, offset: self.offset, hint }
    }
}

/// [`PlacedRegion`] without its `Arc<MemoryObject>`: cloning that would cost as much as taking a lock.
#[derive(Clone, Copy)]
pub struct PlacedHandle {
    /// Key of the region.
    pub key: SlotKey,
    /// Handle of the memory object of its block.
    pub memory: MemoryHandle,
    /// Offset in that memory object, in bytes.
    pub offset: u64,
    /// The address to prefetch before the region is freed.
    pub hint: CacheHint,
}

/// The result of freeing a region; small enough for registers.
#[derive(Clone, Copy)]
pub struct FreedIn {
    /// The block of the region.
    pub block: BlockIndex,
    /// The bits that the owner stored with the region.
    pub tag: RegionTag,
    /// Whether the block has no live region any more.
    pub block_is_empty: bool,
}

/// The value of `empty_at` for a block that is not in `empties`.
const NOT_EMPTY: u32 = u32::MAX;

struct Block {
    /// The memory object of `lease`, stored here to save an indirection.
    memory: Arc<MemoryObject>,
    lease: Arc<Lease>,
}

/// The fields of a block that each allocation reads. In an array of their own, because with ten thousand
/// blocks an array of all fields would not fit into the cache.
#[derive(Clone, Copy)]
struct Front {
    memory: MemoryHandle,
    /// Its index in `empties`, or [`NOT_EMPTY`].
    empty_at: u32,
}

/// The blocks of an arena.
pub(crate) struct Blocks {
    pub suballocator: AnySuballocator,
    ledger: Arc<HeapLedger>,
    memory_type_index: u32,
    retention: EmptyBlockRetention,
    /// Number of blocks that are never freed.
    min_count: u32,
    /// The blocks, indexed by [`BlockIndex`].
    blocks: Vec<Option<Block>>,
    /// The hot fields of these blocks, by the same index.
    fronts: Vec<Front>,
    count: u32,
    bytes: u64,
    /// Bytes of the block that was added last.
    newest: u64,
    /// The retained empty blocks; the ledger counts their bytes.
    empties: Vec<BlockIndex>,
    /// Empty blocks that a call of [`place_many`](Self::place_many) has used; empty between calls.
    filled: Vec<BlockIndex>,
    /// Number and bytes of the live regions, whole ones with their margins.
    allocation_count: u64,
    allocation_bytes: u64,
    /// What is kept for debugging; `None` unless that is on.
    pub guard: Option<Box<Guard>>,
}

impl Blocks {
    /// Creates an arena's blocks, of which there are none yet.
    pub fn new(
        suballocator: AnySuballocator,
        ledger: Arc<HeapLedger>,
        memory_type_index: u32,
        retention: EmptyBlockRetention,
        min_count: u32,
    ) -> Self {
        Self {
            suballocator,
            ledger,
            memory_type_index,
            retention,
            min_count,
            blocks: Vec::new(),
            fronts: Vec::new(),
            count: 0,
            bytes: 0,
            newest: 0,
            empties: Vec::new(),
            filled: Vec::new(),
            allocation_count: 0,
            allocation_bytes: 0,
            guard: None,
        }
    }

    /// Returns the number of blocks.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of places for blocks, some of which may be vacant.
    pub fn places(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Returns the bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of live allocations and their bytes, without margins. O(1).
    pub fn live(&self) -> (u64, u64) {
        let (count, bytes) = self.guard.as_ref().map_or((0, 0), |guard| guard.held());
        (self.allocation_count - count, self.allocation_bytes - bytes)
    }

    /// Returns the number of blocks and their bytes. O(1).
    pub fn held(&self) -> (u64, u64) {
        (self.count.into(), self.bytes)
    }

    /// Returns the number of live regions and their bytes, with margins. O(1).
    pub fn taken(&self) -> (u64, u64) {
        (self.allocation_count, self.allocation_bytes)
    }

    /// Returns the bytes that no allocation uses.
    fn unused_bytes(&self) -> u64 {
        self.bytes - self.allocation_bytes
    }

    /// Returns whether no block is empty and all together have less than half of a block unused.
    pub fn run_low(&self) -> bool {
        self.count > 0 && self.empties.is_empty() && self.unused_bytes() < self.newest / 2
    }

    /// Places a request in an existing block.
    pub fn place(&mut self, request: &RegionRequest) -> Option<PlacedRegion> {
        let placed = self.place_unguarded(request)?;
        self.note_margins(placed.key, request.alignment);
        Some(placed)
    }

    /// Places a request in an existing block of a pool that is not being debugged.
    pub fn place_unguarded(&mut self, request: &RegionRequest) -> Option<PlacedRegion> {
        let Placement { key, block, offset } = self.find(request)?;
        Some(PlacedRegion { key, memory: self.memory(block).clone(), offset })
    }

    /// Places a request in an existing block, without counting a reference to its memory object.
    #[inline(always)]
    pub fn place_handle(&mut self, request: &RegionRequest) -> Option<PlacedHandle> {
        let Placement { key, block, offset } = self.find(request)?;
        let hint = self.suballocator.regions().hint(key);
        Some(PlacedHandle { key, memory: self.front(block).memory, offset, hint })
    }

    /// Places requests up to the first for which there is no room; returns the number placed.
    pub fn place_many(
        &mut self,
        requests: impl Iterator<Item = RegionRequest>,
        mut take: impl FnMut(PlacedHandle),
    ) -> usize {
        let (allocation_count, allocation_bytes) =
            (&mut self.allocation_count, &mut self.allocation_bytes);
        // Blocks that were empty before: at most a few. Memory for all of them is reserved.
        let mut filled = std::mem::take(&mut self.filled);
        let fronts = &self.fronts;
        let count = self.suballocator.allocate_many(requests, |request, placement| {
            let Placement { key, block: index, offset } = placement;
            let front = fronts[index.0 as usize];
            if front.empty_at != NOT_EMPTY && !filled.contains(&index) {
                filled.push(index);
            }
            *allocation_count += 1;
            *allocation_bytes += request.size;
            let hint = CacheHint::default();
            take(PlacedHandle { key, memory: front.memory, offset, hint });
        });
        filled.drain(..).for_each(|block| self.take_from_empties(block));
        self.filled = filled;
        count
    }

    #[inline(always)]
    fn find(&mut self, request: &RegionRequest) -> Option<Placement> {
        let key = self.find_key(request)?;
        Some(self.suballocator.regions().placement(key))
    }

    /// Returns only what fits into registers: see `RegionTable::placement`.
    #[inline(never)]
    fn find_key(&mut self, request: &RegionRequest) -> Option<SlotKey> {
        let placement = self.suballocator.allocate(request)?;
        if self.front(placement.block).empty_at != NOT_EMPTY {
            self.take_from_empties(placement.block);
        }
        self.allocation_count += 1;
        self.allocation_bytes += request.size;
        Some(placement.key)
    }

    /// Counts a region that was placed without [`place`](Self::place).
    pub fn note_placed(&mut self, block: BlockIndex, size: u64) {
        if self.front(block).empty_at != NOT_EMPTY {
            self.take_from_empties(block);
        }
        self.allocation_count += 1;
        self.allocation_bytes += size;
    }

    /// Counts that a region moved over a gap which was a region of `gap` bytes until then.
    pub fn note_slid(&mut self, gap: u64) {
        self.allocation_count -= 1;
        self.allocation_bytes -= gap;
    }

    /// Counts that regions of one block were replaced by others: number and bytes of both. At least one was placed.
    pub fn note_replaced(&mut self, freed: (usize, u64), placed: (usize, u64)) {
        self.allocation_count = self.allocation_count + placed.0 as u64 - freed.0 as u64;
        self.allocation_bytes = self.allocation_bytes + placed.1 - freed.1;
    }

    /// Returns whether the live regions of a block are exactly these, in any order. O(keys), and O(regions) for linear.
    pub fn holds_only(&mut self, block: BlockIndex, keys: &[SlotKey]) -> bool {
        let suballocator = &self.suballocator;
        let is_here = |&key: &SlotKey| suballocator.region(key).is_some_and(|it| it.block == block);
        keys.iter().all(is_here) && self.live_in(block) == keys.len()
    }

    /// Returns the number of live regions of a block. O(1); O(regions) for linear.
    fn live_in(&mut self, block: BlockIndex) -> usize {
        if let Some(suballocator) = self.suballocator.moving() {
            return suballocator.live_count(block) as usize;
        }
        let mut count = 0;
        self.suballocator.visit_live(block, &mut |_, _, _, _| count += 1);
        count
    }

    /// Removes an empty block, whatever the limits of retention say.
    pub fn remove_empty(&mut self, block: BlockIndex, release: &mut Release) {
        release.free(self.remove(block));
    }

    /// Undoes a [`place`](Self::place) that has just succeeded; makes no driver call.
    pub fn take_back(&mut self, placed: &PlacedRegion) {
        let freed = self.free(placed.key).expect("it was placed just now");
        // For the next attempt, which follows immediately.
        self.suballocator.settle();
        if freed.block_is_empty {
            self.keep(freed.block);
        }
    }

    /// Frees a region. If that leaves the block empty, the caller passes it to
    /// [`keep_or_remove`](Self::keep_or_remove).
    pub fn free(&mut self, key: SlotKey) -> Option<FreedIn> {
        self.forget_margins(key);
        self.free_unguarded(key)
    }

    /// Frees a region of a pool that is not being debugged; see [`free`](Self::free).
    #[inline(never)]
    pub fn free_unguarded(&mut self, key: SlotKey) -> Option<FreedIn> {
        let FreedRegion { info, tag, block_is_empty } = self.suballocator.free(key)?;
        self.allocation_count -= 1;
        self.allocation_bytes -= info.size;
        Some(FreedIn { block: info.block, tag, block_is_empty })
    }

    fn block(&self, block: BlockIndex) -> &Block {
        self.blocks[block.0 as usize].as_ref().expect("a block stays until it is removed")
    }

    fn front(&self, block: BlockIndex) -> &Front {
        &self.fronts[block.0 as usize]
    }

    fn front_mut(&mut self, block: BlockIndex) -> &mut Front {
        &mut self.fronts[block.0 as usize]
    }

    /// Returns whether there is a block of this index.
    pub fn contains(&self, block: BlockIndex) -> bool {
        self.blocks.get(block.0 as usize).is_some_and(Option::is_some)
    }

    /// Returns the memory object of a block.
    pub fn memory(&self, block: BlockIndex) -> &Arc<MemoryObject> {
        &self.block(block).memory
    }

    /// Returns a lease that keeps the memory object of a block from being freed.
    pub fn lease(&self, block: BlockIndex) -> Arc<Lease> {
        self.block(block).lease.clone()
    }

    /// Returns whether the memory object of a block is freed as soon as the block is removed: no thread is
    /// destroying a buffer in it.
    pub fn is_freed_with(&self, block: BlockIndex) -> bool {
        Arc::strong_count(&self.block(block).lease) == 1
    }

    /// Iterates over all blocks.
    pub fn iter(&self) -> impl Iterator<Item = (BlockIndex, &Arc<MemoryObject>)> {
        (0u32..)
            .zip(&self.blocks)
            .filter_map(|(index, block)| Some((BlockIndex(index), &block.as_ref()?.memory)))
    }

    /// Calls `visit` with the regions of a block, by ascending offset.
    pub fn visit(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        self.suballocator.visit_block(block, visit);
    }

    /// Reserves host memory for the bookkeeping of `blocks` more blocks and for their removal.
    pub fn try_reserve(&mut self, blocks: usize) -> Result<(), Error> {
        let all = self.blocks.len() + blocks;
        let reserved = self.blocks.try_reserve(blocks).is_ok()
            && self.fronts.try_reserve(blocks).is_ok()
            && self.empties.try_reserve(all - self.empties.len()).is_ok()
            && self.filled.try_reserve(all).is_ok();
        reserved.then_some(()).ok_or(Error::NoHostMemory("the blocks of a pool"))
    }

    /// Adds a new block, which is empty but not listed in `empties` yet. Without host memory for that,
    /// the error comes with the [`Release`] that frees the memory object.
    pub fn add(&mut self, memory: MemoryObject) -> Result<BlockIndex, (Error, Release)> {
        let size = memory.size;
        let reserved = self.try_reserve(1).and_then(|()| {
            let reserved = self.suballocator.try_reserve_block(size);
            reserved.then_some(()).ok_or(Error::NoHostMemory("a block"))
        });
        if let Err(error) = reserved {
            let mut release = Release::default();
            release.free(Lease::new(Arc::new(memory)));
            return Err((error, release));
        }
        let block = self.suballocator.add_block(size);
        let index = block.0 as usize;
        let front = Front { memory: memory.handle, empty_at: NOT_EMPTY };
        if index >= self.blocks.len() {
            self.blocks.resize_with(index + 1, || None);
            self.fronts.resize(index + 1, front);
        }
        self.fronts[index] = front;
        let memory = Arc::new(memory);
        let lease = Lease::new(memory.clone());
        self.blocks[index] = Some(Block { memory, lease });
        self.count += 1;
        self.bytes += size;
        self.newest = size;
        Ok(block)
    }

    /// Retains an empty block regardless of the limits.
    pub fn keep(&mut self, block: BlockIndex) {
        let size = self.memory(block).size;
        self.ledger.keep(self.memory_type_index, size, u64::MAX);
        self.push_empty(block);
    }

    fn push_empty(&mut self, block: BlockIndex) {
        self.front_mut(block).empty_at = self.empties.len() as u32;
        self.empties.push(block);
    }

    fn take_from_empties(&mut self, block: BlockIndex) {
        let at = std::mem::replace(&mut self.front_mut(block).empty_at, NOT_EMPTY) as usize;
        self.empties.swap_remove(at);
        if let Some(&moved) = self.empties.get(at) {
            self.front_mut(moved).empty_at = at as u32;
        }
        self.ledger.unkeep(self.memory_type_index, self.memory(block).size);
    }

    /// Retains a block that became empty, or frees it; or frees a smaller block that was retained before.
    pub fn keep_or_remove(&mut self, block: BlockIndex, release: &mut Release) {
        if self.count <= self.min_count {
            return self.keep(block);
        }
        if self.ledger.is_over_budget(self.memory_type_index) {
            return release.free(self.remove(block));
        }
        if self.keep_within_limits(block) {
            return;
        }
        let size = |&block: &BlockIndex| self.memory(block).size;
        let smallest = self.empties.iter().copied().min_by_key(size);
        if let Some(smaller) = smallest.filter(|it| size(it) < size(&block)) {
            release.free(self.remove(smaller));
            if self.keep_within_limits(block) {
                return;
            }
        }
        release.free(self.remove(block));
    }

    fn keep_within_limits(&mut self, block: BlockIndex) -> bool {
        let size = self.memory(block).size;
        let (kept, of_type) = (self.empties.len(), self.memory_type_index);
        let keep = self.retention.keep(&self.ledger, of_type, kept, size);
        if keep {
            self.push_empty(block);
        }
        keep
    }

    /// Removes empty blocks as long as there are more than `min_count` blocks.
    pub fn remove_empties(&mut self, min_count: u32, release: &mut Release) {
        while self.count > min_count
            && let Some(&empty) = self.empties.last()
        {
            release.free(self.remove(empty));
        }
    }

    /// Returns the number of blocks that are never freed.
    pub fn min_count(&self) -> u32 {
        self.min_count
    }

    fn remove(&mut self, block: BlockIndex) -> Arc<Lease> {
        if self.front(block).empty_at != NOT_EMPTY {
            self.take_from_empties(block);
        }
        self.suballocator.remove_block(block);
        let removed = self.blocks[block.0 as usize].take();
        let Block { memory, lease } = removed.expect("a block stays until it is removed");
        self.count -= 1;
        self.bytes -= memory.size;
        lease
    }

    /// Checks all invariants and returns the first one that is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        self.suballocator.validate()?;
        let (mut count, mut bytes, mut block_bytes, mut empty) = (0, 0, 0, 0);
        for (block, memory) in self.iter() {
            let mut end = 0;
            self.visit(block, &mut |region| {
                end = region.offset + region.size;
                if region.live.is_some() {
                    count += 1;
                    bytes += region.size;
                }
            });
            if end > memory.size {
                return Err(format!("a region ends at {end}, the memory at {}", memory.size));
            }
            block_bytes += memory.size;
            let at = self.front(block).empty_at;
            let listed = at != NOT_EMPTY;
            if listed && self.empties.get(at as usize) != Some(&block) {
                return Err(format!("block {} is not where the empty ones are listed", block.0));
            }
            if self.suballocator.is_block_empty(block) != listed {
                return Err(format!("block {} is empty and not kept, or the other way", block.0));
            }
            empty += usize::from(listed);
        }
        if self.empties.len() != empty {
            return Err(format!(
                "{} listed as empty, {empty} kept",
                counted(self.empties.len(), "block")
            ));
        }
        if (self.iter().count(), block_bytes) != (self.count as usize, self.bytes) {
            return Err("blocks are counted wrongly".into());
        }
        self.validate_guard()?;
        if (count, bytes) != self.taken() {
            return Err(format!(
                "{} of {}, counted otherwise",
                counted(count, "region"),
                words::bytes(bytes)
            ));
        }
        Ok(())
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        while let Some(&empty) = self.empties.last() {
            self.take_from_empties(empty);
        }
        let mut release = Release::default();
        self.blocks.drain(..).flatten().for_each(|block| release.free(block.lease));
    }
}
