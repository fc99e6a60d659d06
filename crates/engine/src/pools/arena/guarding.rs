//! Regions with margins: placing them, and listing what nobody may write.

use super::{Arena, State};
use crate::debugging::guarded::{GuardBands, GuardedRange, GuardedUse};
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

    /// Returns where the last range ends.
    fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |it| it.offset + it.size)
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

    /// Notes that the margins of a region hold the pattern, also in the last `slack` bytes of its payload; `None` if
    /// the key is stale.
    pub(crate) fn note_filled(&self, key: SlotKey, slack: u64) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        let info = state.blocks.suballocator.region(key)?;
        let payload = self.payload(&state.blocks, key, info).size;
        let Some(guard) = &mut state.blocks.guard else { return Some(Ok(())) };
        let marked = guard.filled.mark(key, slack.min(payload));
        Some(marked.then_some(()).ok_or(Error::NoHostMemory("a margin")))
    }

    /// Notes that the margins of a region need not hold the pattern any more; returns the slack that they had, `None`
    /// if they did not hold it.
    pub(crate) fn note_unfilled(&self, key: SlotKey) -> Option<u64> {
        let mut state = self.state.lock();
        state.blocks.suballocator.region(key)?;
        state.blocks.guard.as_mut()?.filled.remove(key)
    }

    /// Returns where a region and its margins lie; `None` if the key is stale. O(1).
    pub(crate) fn hold_memory_of(&self, key: SlotKey) -> Option<AllocationMemory> {
        let state = self.state.lock();
        let blocks = &state.blocks;
        let info = blocks.suballocator.region(key)?;
        let Extent { offset, size } =
            blocks.payload(key, Extent { offset: info.offset, size: info.size });
        let memory = (blocks.memory(info.block).clone(), blocks.lease(info.block));
        let bands = blocks.bands_of(key);
        Some(AllocationMemory::new(self.id_of(key), memory, (offset, size), bands))
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
        let beside = with_neighbours.then(|| self.beside(&mut state, key));
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
                let margins = margins_at(&state, key, whole, id).into_iter().flatten();
                margins.map(|it| GuardedRange { neighbours, ..it }).collect()
            }
        };
        Some(Ok(self.with_memory(&state, info.block, ranges)))
    }

    /// Returns the next allocations below and above one in its block; `None` if only a walk over the block tells.
    fn beside(&self, state: &mut State, key: SlotKey) -> Option<[Option<AllocationId>; 2]> {
        let (blocks, moving) = (&mut state.blocks, &state.moving);
        let regions = blocks.suballocator.evicting().ok()?;
        let guard = blocks.guard.as_ref();
        // The place of a move is not an allocation yet.
        let is_held = |key| {
            guard.is_some_and(|guard| guard.is_quarantined(key))
                || !moving.is_empty() && moving.is_place(key)
        };
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
                // What a region was rounded up by is part of its margin.
                let (offset, end) = (whole.offset.max(list.end()), whole.offset + whole.size);
                if with_unused && offset < end {
                    let (size, from_start, is) = (end - offset, 0, GuardedUse::Unused);
                    list.add(GuardedRange { offset, size, from_start, is, id: None, neighbours });
                }
                return;
            };
            // The place of a move, or a gap that is held for it, is not an allocation yet.
            if !state.moving.is_empty() && state.moving.is_place(key) {
                return;
            }
            let Some(entry) = quarantine.and_then(|quarantine| quarantine.get(key)) else {
                let id = self.id_of(key);
                return list.add_live(id, margins_at(state, key, whole, id));
            };
            let id = self.id_of(entry.former);
            let margins = margins_at(state, key, whole, id);
            margins.iter().for_each(|[front, _]| list.add(*front));
            let payload = blocks.payload(key, whole);
            let (bands, is_filled) = blocks.bands_of(key);
            let bands = if is_filled { bands } else { GuardBands::default() };
            list.add(GuardedRange::quarantined(id, (payload.offset, payload.size), bands));
            margins.iter().for_each(|[_, back]| list.add(*back));
        });
        (!list.failed).then_some(list.ranges)
    }
}

/// Returns the ranges before and behind the contents of a region that hold the pattern.
fn margins_at(
    state: &State,
    key: SlotKey,
    whole: Extent,
    id: AllocationId,
) -> Option<[GuardedRange; 2]> {
    let (bands, is_filled) = state.blocks.bands_of(key);
    let payload = state.blocks.payload(key, whole);
    is_filled.then(|| GuardedRange::margins_of(id, (payload.offset, payload.size), bands))
}
