//! The suballocators for any resource that is not Vulkan memory.

use crate::error::{Error, FailureFigures};
use crate::handle::SlotKey;
use crate::request::{Algorithm, ResourceKind, Strategy};
use crate::statistics::Statistics;
use crate::suballocator::{
    AnySuballocator, BlockIndex, Placement, RegionRequest, RegionView, Suballocator,
};

/// One request to a virtual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRequest {
    /// In the caller's unit, more than zero.
    pub size: u64,
    /// Of the offset; 0 and 1 ask for nothing. What is no power of two costs a division.
    pub alignment: u64,
    /// From the upper end (`VMA_VIRTUAL_ALLOCATION_CREATE_UPPER_ADDRESS_BIT`); linear only.
    pub upper: bool,
    /// How to search.
    pub strategy: Strategy,
}

impl VirtualRequest {
    /// Whether it could be, in a block that is linear or not.
    #[inline(always)]
    fn is_valid(&self, is_linear: bool) -> bool {
        self.size != 0 && (!self.upper || is_linear)
    }

    /// The same, and it is aligned as the quick way can.
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

/// A range of a virtual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualAllocation {
    /// The handle; stale after it is freed.
    pub key: SlotKey,
    /// In the caller's unit.
    pub offset: u64,
    /// As requested.
    pub size: u64,
}

/// Divides a range of numbers: bytes of a buffer, slots of a table, frames of a sound ...
pub struct VirtualBlock {
    suballocator: AnySuballocator,
    block: BlockIndex,
    size: u64,
    algorithm: Algorithm,
    allocation_count: u64,
    /// Of what the suballocator has not said yet that it was freed, too.
    allocated: u64,
}

impl VirtualBlock {
    /// Of `size` units, nothing allocated.
    pub fn new(size: u64, algorithm: Algorithm) -> Result<Self, Error> {
        check_size(size)?;
        let mut suballocator = AnySuballocator::of_one_block(algorithm);
        if !suballocator.try_reserve_block(size) {
            return Err(Error::NoHostMemory("a virtual block"));
        }
        let block = suballocator.add_block(size);
        Ok(Self { suballocator, block, size, algorithm, allocation_count: 0, allocated: 0 })
    }

    /// In the caller's unit.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What divides it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Live allocations and what they add up to. O(1).
    pub fn live(&self) -> (u64, u64) {
        (self.allocation_count, self.allocated - self.suballocator.unreported())
    }

    /// Takes memory for the bookkeeping of so many allocations more at once, and not bit by bit.
    pub fn reserve(&mut self, allocations: usize) {
        self.suballocator.reserve(allocations);
    }

    /// Finds a place. O(1), except for [`Strategy::MinOffset`].
    #[inline]
    pub fn allocate(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        let VirtualRequest { size, alignment, upper, strategy } = *request;
        if request.is_usual(self.is_linear()) {
            let (key, offset) = self.place(size, alignment, upper, strategy);
            if key != SlotKey::NONE {
                return Ok(VirtualAllocation { key, offset, size });
            }
        } else {
            return self.allocate_unusual(&{ *request });
        }
        Err(self.refusal(&{ *request }))
    }

    /// With an alignment that is no power of two, or wrong.
    #[cold]
    #[inline(never)]
    fn allocate_unusual(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        if !request.is_valid(self.is_linear()) {
            return Err(self.refusal(request));
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

    /// The same of many, up to the first that fails, whose error it is: `placed` hears of each. Where most
    /// are cut from one range, as in a new block, this is several times faster.
    pub fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = VirtualRequest>,
        mut placed: impl FnMut(VirtualAllocation),
    ) -> Result<(), Error> {
        let is_linear = self.is_linear();
        let mut requests = requests;
        loop {
            let (mut asked, mut last, mut unusual) = (0, None, false);
            let usual = requests.by_ref().map_while(|request| {
                last = Some(request);
                unusual = !request.is_usual(is_linear);
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

    /// The key and the offset, or [`SlotKey::NONE`] and anything. What it takes and gives fits into
    /// registers, so that a call costs little where it is not inlined.
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

    /// Why a request got no place.
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
        if self.suballocator.take_starved() {
            return Error::NoHostMemory("a virtual allocation");
        }
        let figures = FailureFigures { size, ..FailureFigures::default() };
        Error::VirtualBlockFull { figures, allocated: self.live().1, size: self.size }
    }

    /// Frees one. O(1).
    #[inline]
    pub fn free(&mut self, key: SlotKey) -> Result<(), Error> {
        if self.release(key) { Ok(()) } else { Err(Error::UseAfterFree) }
    }

    /// The same; whether it was live.
    #[inline(never)]
    fn release(&mut self, key: SlotKey) -> bool {
        let Some(bytes) = self.suballocator.release(key) else { return false };
        self.allocation_count = self.allocation_count.wrapping_sub(1);
        self.allocated -= bytes;
        true
    }

    /// Frees many, all or none. O(keys).
    pub fn free_many(
        &mut self,
        mut keys: impl Iterator<Item = SlotKey> + Clone,
    ) -> Result<(), Error> {
        // A key that stands there twice is live at the first look, and stale at the second free; so
        // all are looked at first, and doubles found by sorting.
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

    /// Where one is. O(1).
    pub fn info(&self, key: SlotKey) -> Result<VirtualAllocation, Error> {
        let region = self.suballocator.region(key).ok_or(Error::UseAfterFree)?;
        Ok(VirtualAllocation { key, offset: region.offset, size: region.size })
    }

    /// Frees all, however many there are. O(1), but for what the index of free ranges is made of.
    pub fn clear(&mut self) {
        self.suballocator.clear();
        (self.allocation_count, self.allocated) = (0, 0);
    }

    /// Makes it larger; what is allocated stays where it is. O(regions).
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

    /// Calls `visit` with all regions, by ascending offset. O(regions).
    pub fn visit(&self, visit: &mut dyn FnMut(RegionView)) {
        self.suballocator.visit_block(self.block, visit);
    }

    /// Counts everything. O(regions).
    pub fn statistics(&mut self) -> Statistics {
        self.suballocator.settle();
        self.counted()
    }

    fn counted(&self) -> Statistics {
        let mut statistics = Statistics::default();
        statistics.add_block(self.size);
        self.suballocator.count(&mut std::iter::once(self.block), &mut statistics);
        statistics
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        size_of::<Self>() + self.suballocator.metadata_bytes()
    }

    /// Walks everything and says what is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        self.suballocator.validate()?;
        let statistics = self.counted();
        let counted = (statistics.allocation_count, statistics.allocation_bytes);
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
