//! Regions with margins: placing them, and listing what nobody may write.

use super::{Arena, State};
use crate::debugging::guarded::{GuardedRange, GuardedUse};
use crate::device::HostAddress;
use crate::error::Error;
use crate::handle::{AllocationId, SlotKey};
use crate::pools::blocks::{Blocks, PlacedRegion};
use crate::pools::guarded_memory::{AllocationMemory, GuardedMemory};
use crate::pools::margin::Extent;
use crate::suballocator::{BlockIndex, RegionInfo, RegionRequest, Suballocator};

/// The ranges of one block while they are listed.
#[derive(Default)]
struct List {
    ranges: Vec<GuardedRange>,
    /// The last live allocation, and the number of ranges before it: those behind have no upper neighbour yet.
    live: Option<AllocationId>,
    named: usize,
    failed: bool,
}

impl List {
    fn add(&mut self, range: GuardedRange) {
        self.failed = self.failed || self.ranges.try_reserve(1).is_err();
        if !self.failed {
            let neighbours = [self.live, None];
            self.ranges.push(GuardedRange { neighbours, ..range });
        }
    }

    /// Adds a live allocation with its margins, whose neighbours are those of the allocation.
    fn add_live(&mut self, id: AllocationId, margins: Option<[GuardedRange; 2]>) {
        self.ranges[self.named..].iter_mut().for_each(|it| it.neighbours[1] = Some(id));
        self.named = self.ranges.len();
        margins.into_iter().flatten().for_each(|it| self.add(it));
        self.live = Some(id);
    }
}

impl Arena {
    /// Places a request in existing blocks and counts its margins; `None` if there is no room. With `mapped` the
    /// block has to be mapped, and one map of it is counted. No driver call.
    pub(crate) fn allocate_guarded_in_place(
        &self,
        request: &RegionRequest,
        mapped: bool,
    ) -> Option<(PlacedRegion, Option<HostAddress>)> {
        let mut state = self.state.lock();
        let mut placed = state.blocks.place(request).map(|placed| (placed, None));
        if mapped && let Some((region, address)) = &mut placed {
            *address = region.memory.map_if_mapped();
            if address.is_none() {
                state.blocks.take_back(region);
                placed = None;
            }
        }
        self.end(state);
        placed
    }

    /// Returns the description of a region without its margins.
    #[inline]
    pub(super) fn payload(&self, blocks: &Blocks, key: SlotKey, info: RegionInfo) -> RegionInfo {
        if !self.margins.are_on() {
            return info;
        }
        let Extent { offset, size } =
            blocks.payload(key, Extent { offset: info.offset, size: info.size });
        RegionInfo { offset, size, ..info }
    }

    /// Notes that the margins of a region hold the pattern; `None` if the key is stale.
    pub(crate) fn note_filled(&self, key: SlotKey) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        state.blocks.suballocator.region(key)?;
        let Some(guard) = &mut state.blocks.guard else { return Some(Ok(())) };
        let marked = guard.filled.mark(key);
        Some(marked.then_some(()).ok_or(Error::NoHostMemory("a margin")))
    }

    /// Returns where a region and its margins lie; `None` if the key is stale. O(1).
    pub(crate) fn hold_memory_of(&self, key: SlotKey) -> Option<AllocationMemory> {
        let state = self.state.lock();
        let blocks = &state.blocks;
        let info = blocks.suballocator.region(key)?;
        let Extent { offset, size } =
            blocks.payload(key, Extent { offset: info.offset, size: info.size });
        let memory = (blocks.memory(info.block).clone(), blocks.lease(info.block));
        let margin = (blocks.margin_of(key), blocks.is_filled(key));
        Some(AllocationMemory::new(self.id_of(key), memory, (offset, size), margin))
    }

    /// Adds the ranges of each block that nobody may write to `found`, one lock for each block; returns false
    /// without host memory. O(regions).
    pub(crate) fn guarded(&self, with_unused: bool, found: &mut Vec<GuardedMemory>) -> bool {
        let places = self.state.lock().blocks.places();
        for block in (0..places).map(BlockIndex) {
            let state = self.state.lock();
            if !state.blocks.contains(block) {
                continue;
            }
            let Some(ranges) = self.list(&state, block, with_unused) else { return false };
            if !ranges.is_empty() {
                if found.try_reserve(1).is_err() {
                    return false;
                }
                found.push(self.with_memory(&state, block, ranges));
            }
        }
        true
    }

    /// Returns the margins of a region, none if they do not hold the pattern; `None` if the key is stale. O(1), with
    /// neighbours plus the number of regions before them that are free or in quarantine; linear pools are walked.
    pub(crate) fn guarded_of(
        &self,
        key: SlotKey,
        with_neighbours: bool,
    ) -> Option<Result<GuardedMemory, Error>> {
        let mut state = self.state.lock();
        let info = state.blocks.suballocator.region(key)?;
        let beside = with_neighbours.then(|| self.beside(&mut state.blocks, key));
        let id = self.id_of(key);
        let ranges = match beside {
            Some(None) => {
                let Some(mut ranges) = self.list(&state, info.block, false) else {
                    return Some(Err(Error::NoHostMemory("the margins of an allocation")));
                };
                ranges.retain(|range| range.id == Some(id));
                ranges
            }
            known => {
                let neighbours = known.flatten().unwrap_or_default();
                let whole = Extent { offset: info.offset, size: info.size };
                let margins = self.margins_at(&state, key, whole, id).into_iter().flatten();
                margins.map(|it| GuardedRange { neighbours, ..it }).collect()
            }
        };
        Some(Ok(self.with_memory(&state, info.block, ranges)))
    }

    /// Returns the next allocations below and above one in its block; `None` if only a walk over the block tells.
    fn beside(&self, blocks: &mut Blocks, key: SlotKey) -> Option<[Option<AllocationId>; 2]> {
        let regions = blocks.suballocator.evicting().ok()?;
        let guard = blocks.guard.as_ref();
        let is_held = |key| guard.is_some_and(|guard| guard.is_quarantined(key));
        Some([false, true].map(|upwards| {
            let mut next = regions.neighbour(key, upwards);
            while let Some(it) = next.filter(|it| is_held(it.key)) {
                next = regions.neighbour(it.key, upwards);
            }
            next.map(|it| self.id_of(it.key))
        }))
    }

    fn with_memory(
        &self,
        state: &State,
        block: BlockIndex,
        ranges: Vec<GuardedRange>,
    ) -> GuardedMemory {
        let (memory, lease) = (state.blocks.memory(block).clone(), state.blocks.lease(block));
        GuardedMemory::new(self.pool_key, memory, lease, ranges)
    }

    fn id_of(&self, key: SlotKey) -> AllocationId {
        AllocationId::new(self.pool_key, false, key)
    }

    /// Returns the bytes before and behind the payload of a region that hold the pattern.
    fn margins_at(
        &self,
        state: &State,
        key: SlotKey,
        whole: Extent,
        id: AllocationId,
    ) -> Option<[GuardedRange; 2]> {
        let guard = state.blocks.guard.as_ref()?;
        let payload = state.blocks.payload(key, whole);
        if payload == whole || !guard.filled.contains(key) {
            return None;
        }
        let place = (payload.offset, payload.size);
        Some(GuardedRange::margins_of(id, place, self.margins.bytes()))
    }

    /// Lists the ranges of a block that nobody may write, by ascending offset; `None` without host memory.
    fn list(
        &self,
        state: &State,
        block: BlockIndex,
        with_unused: bool,
    ) -> Option<Vec<GuardedRange>> {
        let blocks = &state.blocks;
        let quarantine = blocks.guard.as_ref().and_then(|guard| guard.quarantine.as_ref());
        let quarantine = quarantine.filter(|it| it.held().0 > 0);
        let mut list = List::default();
        blocks.visit(block, &mut |view| {
            let whole = Extent { offset: view.offset, size: view.size };
            let neighbours = [None; 2];
            let Some((key, _)) = view.live else {
                if with_unused {
                    let is = GuardedUse::Unused;
                    let Extent { offset, size } = whole;
                    list.add(GuardedRange { offset, size, is, id: None, neighbours });
                }
                return;
            };
            let Some(entry) = quarantine.and_then(|quarantine| quarantine.get(key)) else {
                let id = self.id_of(key);
                return list.add_live(id, self.margins_at(state, key, whole, id));
            };
            let id = self.id_of(entry.former);
            let margins = self.margins_at(state, key, whole, id);
            margins.iter().for_each(|[front, _]| list.add(*front));
            let Extent { offset, size } = blocks.payload(key, whole);
            let is = GuardedUse::Quarantined;
            list.add(GuardedRange { offset, size, is, id: Some(id), neighbours });
            margins.iter().for_each(|[_, back]| list.add(*back));
        });
        (!list.failed).then_some(list.ranges)
    }
}
