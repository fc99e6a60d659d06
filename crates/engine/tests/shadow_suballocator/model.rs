//! The model: an interval map per block, and exhaustive search.

use std::collections::BTreeMap;

use vkmem_engine::ResourceKind::{self, *};
use vkmem_engine::suballocator::{RegionRequest, SlotKey};

#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub key: SlotKey,
    pub size: u64,
    pub footprint: u64,
    pub kind: ResourceKind,
}

#[derive(Debug, Default)]
pub struct Block {
    pub size: u64,
    /// Regions by offset.
    pub regions: BTreeMap<u64, Region>,
}

/// Start and end of a range that no region covers.
pub type Range = (u64, u64);

#[derive(Debug)]
pub struct Model {
    pub granularity: u64,
    /// Blocks by index.
    pub blocks: BTreeMap<u32, Block>,
}

/// Returns whether two kinds may share a page, by the specification: linear resources may share a page with each other, optimal images with
/// each other, unknown ones with nothing.
fn may_share(a: ResourceKind, b: ResourceKind) -> bool {
    matches!(
        (a, b),
        (Buffer, Buffer)
            | (Buffer, ImageLinear)
            | (ImageLinear, Buffer)
            | (ImageLinear, ImageLinear)
            | (ImageOptimal, ImageOptimal)
    )
}

impl Block {
    /// Returns the available ranges: those between the footprints of regions.
    pub fn unused(&self) -> Vec<Range> {
        self.between(|region| region.footprint)
    }

    /// Returns the ranges that a walk reports as unused: those between the requested bytes.
    pub fn gaps(&self) -> Vec<Range> {
        self.between(|region| region.size)
    }

    fn between(&self, takes: impl Fn(&Region) -> u64) -> Vec<Range> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for (&offset, region) in &self.regions {
            if offset > start {
                ranges.push((start, offset));
            }
            start = offset + takes(region);
        }
        if self.size > start {
            ranges.push((start, self.size));
        }
        ranges
    }

    /// Returns a region that overlaps a range.
    pub fn overlapping(&self, offset: u64, size: u64) -> Option<(u64, Region)> {
        let (&at, &region) = self.regions.range(..offset.checked_add(size)?).next_back()?;
        (at + region.footprint > offset).then_some((at, region))
    }

    /// Returns a region on a page of this range that it must not share, whatever lies between them.
    pub fn page_conflict(
        &self,
        (offset, size): (u64, u64),
        kind: ResourceKind,
        page: u64,
    ) -> Option<(u64, Region)> {
        if page == 1 {
            return None;
        }
        let pages = |offset: u64, size: u64| (offset / page, (offset + size - 1) / page);
        let (first, last) = pages(offset, size);
        // Regions do not overlap, which `wrong` sees to: those on these pages are neighbours.
        let until = (last + 1).saturating_mul(page);
        let before = self.regions.range(..until).rev();
        before
            .take_while(|(at, region)| pages(**at, region.size).1 >= first)
            .find(|(_, region)| !may_share(kind, region.kind))
            .map(|(&at, &region)| (at, region))
    }

    /// Returns the lowest offset inside an unused range, by trying.
    pub fn lowest_in(
        &self,
        (start, end): Range,
        footprint: u64,
        request: &RegionRequest,
        page: u64,
    ) -> Option<u64> {
        // For any other possible offset, one of these is lower and on the same pages or on fewer.
        let next_page = (start / page).checked_add(1)?.checked_mul(page)?;
        [start, next_page].into_iter().find_map(|from| {
            let offset = from.checked_next_multiple_of(request.alignment)?;
            let fits = offset.checked_add(footprint)? <= end;
            let alone = || self.page_conflict((offset, request.size), request.kind, page).is_none();
            (fits && alone()).then_some(offset)
        })
    }
}

impl Model {
    /// Returns all unused ranges with their block, in order.
    pub fn unused(&self) -> Vec<(u32, Range)> {
        let of_block = |(&index, block): (&u32, &Block)| {
            block.unused().into_iter().map(move |range| (index, range)).collect::<Vec<_>>()
        };
        self.blocks.iter().flat_map(of_block).collect()
    }

    /// Returns where a request can be placed: the lowest offset in every sufficient unused range.
    pub fn places(&self, footprint: u64, request: &RegionRequest) -> Vec<(u32, Range, u64)> {
        let mut places = Vec::new();
        for (index, block) in &self.blocks {
            for range in block.unused() {
                if range.1 - range.0 >= footprint
                    && let Some(offset) =
                        block.lowest_in(range, footprint, request, self.granularity)
                {
                    places.push((*index, range, offset));
                }
            }
        }
        places
    }

    /// Returns which property a new region violates, if any.
    pub fn wrong(
        &self,
        block: u32,
        offset: u64,
        footprint: u64,
        request: &RegionRequest,
    ) -> Option<String> {
        let Some(block) = self.blocks.get(&block) else {
            return Some(format!("block {block} does not exist"));
        };
        if !offset.is_multiple_of(request.alignment) {
            return Some(format!("{offset} is not aligned to {}", request.alignment));
        }
        if offset.checked_add(footprint).is_none_or(|end| end > block.size) {
            return Some(format!("{offset} + {footprint} is outside of {} bytes", block.size));
        }
        if let Some(other) = block.overlapping(offset, footprint) {
            return Some(format!("{offset} + {footprint} overlaps {other:?}"));
        }
        let other = block.page_conflict((offset, request.size), request.kind, self.granularity)?;
        Some(format!("{:?} at {offset} shares a page with {other:?}", request.kind))
    }
}
