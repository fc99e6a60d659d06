//! [`VirtualBlock`]: the suballocators for anything but Vulkan memory.

use crate::error::{Error, FailureFigures};
use crate::handle::SlotKey;
use crate::request::{Algorithm, ResourceKind, Strategy};
use crate::statistics::Statistics;
use crate::suballocator::{
    AnySuballocator, BlockIndex, Placement, RegionRequest, RegionView, Suballocator,
};
use crate::virtual_block::margins::VirtualMargins;

/// A request to a virtual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRequest {
    /// Size in the caller's unit, more than zero.
    pub size: u64,
    /// The offset is a multiple of this; 0 and 1 have no effect. An alignment that is not a power of two
    /// costs an integer division.
    pub alignment: u64,
    /// Allocate from the upper end (`VMA_VIRTUAL_ALLOCATION_CREATE_UPPER_ADDRESS_BIT`); linear algorithm
    /// only.
    pub upper: bool,
    /// The search strategy.
    pub strategy: Strategy,
}

impl VirtualRequest {
    /// Returns a request with the defaults: from the lower end, with the balanced strategy.
    pub fn new(size: u64, alignment: u64) -> Self {
        Self { size, alignment, upper: false, strategy: Strategy::Balanced }
    }

    /// Returns whether the request is valid in a block with the linear algorithm or another one.
    #[inline(always)]
    fn is_valid(&self, is_linear: bool) -> bool {
        self.size != 0 && (!self.upper || is_linear)
    }

    /// Returns whether the request is valid and its alignment a power of two, as the fast path requires.
    #[inline(always)]
    fn is_usual(&self, is_linear: bool) -> bool {
        self.alignment.is_power_of_two() && self.is_valid(is_linear)
    }

    #[inline(always)]
    fn of_region(self) -> RegionRequest {
        let Self { size, alignment, upper, strategy } = self;
        RegionRequest { size, alignment, kind: ResourceKind::Buffer, upper, strategy }
    }
}

/// An allocated range of a virtual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualAllocation {
    /// The handle; stale once the range is freed.
    pub key: SlotKey,
    /// Offset in the caller's unit.
    pub offset: u64,
    /// Requested size in the caller's unit.
    pub size: u64,
}

/// Divides a range of numbers: bytes of a buffer, slots of a table, samples of a sound.
pub struct VirtualBlock {
    suballocator: AnySuballocator,
    block: BlockIndex,
    size: u64,
    algorithm: Algorithm,
    allocation_count: u64,
    /// Units allocated with their margins, including freed ones that the suballocator has not reported yet.
    allocated: u64,
    margins: Option<Box<VirtualMargins>>,
}

impl VirtualBlock {
    /// Creates a block of `size` units in which nothing is allocated.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of 0 or 2^60 and more; [`Error::NoHostMemory`].
    pub fn new(size: u64, algorithm: Algorithm) -> Result<Self, Error> {
        Self::with_margin(size, algorithm, 0)
    }

    /// Creates a block like [`new`](Self::new) with at least `margin` units before and exactly so many behind each
    /// allocation that belong to none.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); [`Error::InvalidArgument`] for a margin of 2^32 and more.
    pub fn with_margin(size: u64, algorithm: Algorithm, margin: u64) -> Result<Self, Error> {
        check_size(size)?;
        if margin > u64::from(u32::MAX) {
            return Err(Error::InvalidArgument(format!("margin is {margin}, above {}", u32::MAX)));
        }
        let mut suballocator = AnySuballocator::of_one_block(algorithm);
        if !suballocator.try_reserve_block(size) {
            return Err(Error::NoHostMemory("a virtual block"));
        }
        let block = suballocator.add_block(size);
        let margins = (margin != 0).then(|| Box::new(VirtualMargins::new(margin)));
        let (allocation_count, allocated) = (0, 0);
        Ok(Self { suballocator, block, size, algorithm, allocation_count, allocated, margins })
    }

    /// Returns the units before and behind each allocation that nobody may write: `margin` directly before its
    /// offset, and `margin` directly behind its end.
    pub fn margin(&self) -> u64 {
        self.margins.as_ref().map_or(0, |margins| margins.margin)
    }

    /// Returns the size in the caller's unit.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the algorithm that divides the block.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the block's index and the suballocator that divides it.
    pub(super) fn parts(&mut self) -> (BlockIndex, &mut AnySuballocator) {
        self.suballocator.settle();
        (self.block, &mut self.suballocator)
    }

    /// Returns the number of live allocations and their size in units. O(1).
    pub fn live(&self) -> (u64, u64) {
        let margins = self.margins.as_ref().map_or(0, |margins| margins.units);
        (self.allocation_count, self.allocated - self.suballocator.unreported() - margins)
    }

    /// Reserves host memory for the bookkeeping of `allocations` more allocations, as far as the system
    /// has it.
    ///
    /// # Time complexity
    /// O(`allocations`) at most, and one request for host memory per 16,384 of them.
    pub fn reserve(&mut self, allocations: usize) {
        self.suballocator.reserve(allocations);
    }

    /// Allocates a range.
    ///
    /// # Errors
    /// [`Error::VirtualBlockFull`] if there is no room; [`Error::InvalidArgument`];
    /// [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// TLSF and linear: O(1); buddy: O(log size). With [`Strategy::MinOffset`] O(*n*), *n* being the
    /// number of ranges.
    #[inline]
    pub fn allocate(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        let VirtualRequest { size, alignment, upper, strategy } = *request;
        if request.is_usual(self.is_linear()) && self.margins.is_none() {
            let (key, offset) = self.place(size, alignment, upper, strategy);
            if key != SlotKey::NONE {
                return Ok(VirtualAllocation { key, offset, size });
            }
        } else {
            return self.allocate_unusual(&{ *request });
        }
        Err(self.refusal(&{ *request }))
    }

    /// Allocates with margins or an alignment that is not a power of two, or returns the error of an
    /// invalid request.
    #[cold]
    #[inline(never)]
    fn allocate_unusual(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        if !request.is_valid(self.is_linear()) {
            return Err(self.refusal(request));
        }
        if self.margins.is_some() {
            return self.allocate_guarded(request);
        }
        if request.alignment == 0 {
            return self.allocate(&VirtualRequest { alignment: 1, ..*request });
        }
        let placed = self.suballocator.allocate_at_multiple(&request.of_region());
        let Some(Placement { key, offset, .. }) = placed else { return Err(self.refusal(request)) };
        self.allocation_count += 1;
        self.allocated += request.size;
        Ok(VirtualAllocation { key, offset, size: request.size })
    }

    fn allocate_guarded(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        let (size, alignment) = (request.size, request.alignment.max(1));
        let Some(margins) = &mut self.margins else { return Err(self.refusal(request)) };
        let front = margins.front(alignment);
        let whole = front.and_then(|front| size.checked_add(front)?.checked_add(margins.margin));
        let (Some(front), Some(whole)) = (front, whole) else { return Err(self.refusal(request)) };
        if !margins.try_reserve() {
            return Err(Error::NoHostMemory("a virtual allocation"));
        }
        let region = VirtualRequest { size: whole, alignment, ..*request }.of_region();
        let placed = match alignment.is_power_of_two() {
            true => self.suballocator.allocate(&region),
            false => self.suballocator.allocate_at_multiple(&region),
        };
        let Some(Placement { key, offset, .. }) = placed else { return Err(self.refusal(request)) };
        margins.insert(key, front);
        self.allocation_count += 1;
        self.allocated += whole;
        Ok(VirtualAllocation { key, offset: offset + front, size })
    }

    /// Allocates many ranges, up to the first that fails, and calls `placed` for each. Several times
    /// faster than [`allocate`](Self::allocate) where most ranges are cut from one free range, as in a
    /// new block.
    ///
    /// # Errors
    /// The errors of [`allocate`](Self::allocate), for the first request that fails; earlier ones stay
    /// allocated.
    ///
    /// # Time complexity
    /// The bound of [`allocate`](Self::allocate), for each request.
    pub fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = VirtualRequest>,
        mut placed: impl FnMut(VirtualAllocation),
    ) -> Result<(), Error> {
        let (is_linear, has_margins) = (self.is_linear(), self.margins.is_some());
        let mut requests = requests;
        loop {
            let (mut asked, mut last, mut unusual) = (0, None, false);
            let usual = requests.by_ref().map_while(|request| {
                last = Some(request);
                unusual = has_margins || !request.is_usual(is_linear);
                asked += usize::from(!unusual);
                (!unusual).then(|| request.of_region())
            });
            let (allocation_count, allocated) = (&mut self.allocation_count, &mut self.allocated);
            let count = self.suballocator.allocate_many(usual, |request, placement| {
                let Placement { key, offset, .. } = placement;
                *allocation_count += 1;
                *allocated += request.size;
                placed(VirtualAllocation { key, offset, size: request.size });
            });
            match last {
                Some(request) if count != asked => return Err(self.refusal(&request)),
                Some(request) if unusual => placed(self.allocate_unusual(&request)?),
                _ => return Ok(()),
            }
        }
    }

    /// Returns key and offset, or [`SlotKey::NONE`]. Parameters and results fit into registers, which
    /// makes a call that is not inlined cheap.
    #[inline(never)]
    fn place(
        &mut self,
        size: u64,
        alignment: u64,
        upper: bool,
        strategy: Strategy,
    ) -> (SlotKey, u64) {
        let request = VirtualRequest { size, alignment, upper, strategy }.of_region();
        match self.suballocator.allocate(&request) {
            Some(placement) => {
                // A table has fewer than 2^31 regions.
                self.allocation_count = self.allocation_count.wrapping_add(1);
                self.allocated += size;
                (placement.key, placement.offset)
            }
            None => (SlotKey::NONE, 0),
        }
    }

    fn is_linear(&self) -> bool {
        self.algorithm == Algorithm::Linear
    }

    /// Returns the reason why a request failed.
    #[cold]
    fn refusal(&mut self, request: &VirtualRequest) -> Error {
        let VirtualRequest { size, upper, .. } = *request;
        if size == 0 {
            return Error::InvalidArgument("size is 0".into());
        }
        if upper && !self.is_linear() {
            let reason = "only a linear block allocates from its upper end";
            return Error::InvalidArgument(reason.into());
        }
        if self.suballocator.take_host_memory_failure() {
            return Error::NoHostMemory("a virtual allocation");
        }
        let figures = FailureFigures { size, ..FailureFigures::default() };
        let units = self.margins.as_ref().map_or(0, |margins| margins.units);
        let (allocated, margins) = (self.live().1, (self.margin(), units));
        Error::VirtualBlockFull { figures, allocated, size: self.size, margins }
    }

    /// Frees a range.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the key is stale.
    ///
    /// # Time complexity
    /// TLSF: O(1). Linear: O(1) amortised. Buddy: O(log size).
    #[inline]
    pub fn free(&mut self, key: SlotKey) -> Result<(), Error> {
        if self.release(key) { Ok(()) } else { Err(Error::UseAfterFree) }
    }

    /// Frees a range; returns whether the key was valid.
    #[inline(never)]
    fn release(&mut self, key: SlotKey) -> bool {
        let Some(bytes) = self.suballocator.release(key) else { return false };
        if let Some(margins) = &mut self.margins {
            margins.remove(key);
        }
        self.allocation_count = self.allocation_count.wrapping_sub(1);
        self.allocated -= bytes;
        true
    }

    /// Frees all ranges or, if a key is stale or occurs twice, none.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`]; [`Error::TooManyItems`] without host memory for the check.
    ///
    /// # Time complexity
    /// O(*k* log *k*) for *k* keys, which are sorted to find duplicates, plus *k* times that of
    /// [`free`](Self::free).
    pub fn free_many(
        &mut self,
        mut keys: impl Iterator<Item = SlotKey> + Clone,
    ) -> Result<(), Error> {
        // A key that occurs twice is valid until its first free; so all are checked first, and duplicates
        // are found by sorting.
        let mut sorted: Vec<SlotKey> = Vec::new();
        for key in keys.clone() {
            if sorted.try_reserve(1).is_err() {
                return Err(Error::TooManyItems(sorted.len()));
            }
            sorted.push(key);
        }
        if sorted.iter().any(|key| !self.suballocator.regions().contains(*key)) {
            return Err(Error::UseAfterFree);
        }
        sorted.sort_unstable_by_key(|key| key.index());
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::UseAfterFree);
        }
        keys.try_for_each(|key| self.free(key))
    }

    /// Returns offset and size of an allocation.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the key is stale.
    ///
    /// # Time complexity
    /// O(1).
    pub fn info(&self, key: SlotKey) -> Result<VirtualAllocation, Error> {
        let region = self.suballocator.region(key).ok_or(Error::UseAfterFree)?;
        let (offset, size) = self.payload(key, region.offset, region.size);
        Ok(VirtualAllocation { key, offset, size })
    }

    /// Returns offset and size of the allocation in a live range.
    pub(super) fn payload(&self, key: SlotKey, offset: u64, size: u64) -> (u64, u64) {
        match &self.margins {
            None => (offset, size),
            Some(margins) => margins.payload(key, offset, size),
        }
    }

    /// Frees all ranges.
    ///
    /// # Time complexity
    /// O(*n* / 16,384), *n* being the number of ranges: tables are cleared row by row.
    pub fn clear(&mut self) {
        self.suballocator.clear();
        (self.allocation_count, self.allocated) = (0, 0);
        if let Some(margins) = &mut self.margins {
            margins.clear();
        }
    }

    /// Makes the block larger; allocations keep their offsets.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `size` is smaller than now or too large; [`Error::NoHostMemory`].
    ///
    /// # Time complexity
    /// TLSF and linear: O(1). Buddy: O(*n*), *n* being the number of ranges.
    pub fn grow(&mut self, size: u64) -> Result<(), Error> {
        check_size(size)?;
        if size < self.size {
            return Err(Error::InvalidArgument(format!(
                "a virtual block of {} cannot shrink to {size}",
                self.size
            )));
        }
        if !self.suballocator.try_reserve_block(size) {
            return Err(Error::NoHostMemory("a larger virtual block"));
        }
        self.suballocator.grow_block(self.block, size);
        self.size = size;
        Ok(())
    }

    /// Calls `visit` with each live region and unused range, by ascending offset. Margins are unused ranges.
    /// O(ranges).
    pub fn visit(&self, visit: &mut dyn FnMut(RegionView)) {
        self.visit_ranges(&mut |view, _| visit(view));
    }

    /// Calls `visit` with each live allocation, by ascending offset. O(ranges).
    pub fn visit_live(&self, visit: &mut dyn FnMut(VirtualAllocation)) {
        self.visit(&mut |range| {
            if let Some((key, _)) = range.live {
                let (offset, size) = (range.offset, range.size);
                visit(VirtualAllocation { key, offset, size });
            }
        });
    }

    /// Calls `visit` with each range, and whether it is a margin.
    fn visit_ranges(&self, visit: &mut dyn FnMut(RegionView, bool)) {
        self.suballocator.visit_block(self.block, &mut |view| {
            let Some((key, _)) = view.live.filter(|_| self.margins.is_some()) else {
                return visit(view, false);
            };
            let (offset, size) = self.payload(key, view.offset, view.size);
            let before = RegionView { offset: view.offset, size: offset - view.offset, live: None };
            let behind = RegionView { offset: offset + size, size: self.margin(), live: None };
            visit(before, true);
            visit(RegionView { offset, size, ..view }, false);
            visit(behind, true);
        });
    }

    /// Counts allocations and unused ranges. O(ranges).
    pub fn statistics(&mut self) -> Statistics {
        self.suballocator.settle();
        self.counted()
    }

    fn counted(&self) -> Statistics {
        let mut statistics = Statistics::default();
        statistics.add_block(self.size);
        if self.margins.is_some() {
            self.visit_ranges(&mut |view, is_margin| match view.live {
                Some(_) => statistics.add_allocation(view.size),
                None if is_margin => statistics.add_margin(view.size),
                None => statistics.add_unused_range(view.size),
            });
            return statistics;
        }
        self.suballocator.count(&mut std::iter::once(self.block), &mut statistics);
        statistics
    }

    /// Returns whether freed ranges wait to be merged, which [`statistics`](Self::statistics) does. O(1).
    pub fn has_unmerged(&self) -> bool {
        self.suballocator.has_unmerged()
    }

    /// Returns the bytes of bookkeeping. O(1).
    pub fn metadata_bytes(&self) -> usize {
        size_of::<Self>() + self.suballocator.metadata_bytes()
    }

    /// Checks all invariants and returns the first one that is broken. O(ranges).
    pub fn validate(&self) -> Result<(), String> {
        self.suballocator.validate()?;
        let statistics = self.counted();
        let counted = (statistics.allocation_count, statistics.allocation_bytes);
        if statistics.margin_bytes != self.margins.as_ref().map_or(0, |margins| margins.units) {
            return Err("margins are counted wrongly".into());
        }
        if counted == self.live() { Ok(()) } else { Err("allocations are counted wrongly".into()) }
    }
}

fn check_size(size: u64) -> Result<(), Error> {
    const LARGEST: u64 = (1 << 60) - 1;
    if size == 0 || size > LARGEST {
        return Err(Error::InvalidArgument(format!(
            "a virtual block has 1 to {LARGEST} units, not {size}"
        )));
    }
    Ok(())
}
