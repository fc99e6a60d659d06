//! Blocks whose regions have margins.

use crate::debugging::guarded::GuardBands;
use crate::handle::SlotKey;
use crate::pools::blocks::Blocks;
use crate::pools::margin::{Extent, LEAST_ALIGNMENT, Margins};
use crate::pools::memory_object::Release;
use crate::pools::quarantine::Entry;
use crate::pools::snapshot::{RangeUse, RangeView};
use crate::statistics::Statistics;
use crate::suballocator::{AnySuballocator, BlockIndex, RegionTag, Suballocator};

/// The bytes behind a region that its block has rounded it up by are part of its margin up to this many: buddy rounds
/// up to twice the size.
const MOST_PADDING: u64 = 64 << 10;

impl Blocks {
    /// Returns the margins of the regions.
    pub fn margins(&self) -> Margins {
        self.guard.as_ref().map_or(Margins::default(), |guard| guard.margins)
    }

    /// Returns the payload of a live region.
    pub fn payload(&self, key: SlotKey, region: Extent) -> Extent {
        match &self.guard {
            None => region,
            Some(guard) => {
                guard.margins.payload(self.suballocator.regions().alignment(key), region)
            }
        }
    }

    /// Returns the bytes of the margins of a live region.
    pub fn margins_of(&self, key: SlotKey) -> u64 {
        let alignment = self.suballocator.regions().alignment(key);
        self.margins().sum(alignment)
    }

    /// Returns the margins of a live region, which reach to the ends of what it takes up, and whether they hold the
    /// pattern.
    pub fn bands_of(&self, key: SlotKey) -> (GuardBands, bool) {
        let regions = self.suballocator.regions();
        let [front, back] = self.margins().around(regions.alignment(key));
        if [front, back] == [0, 0] {
            return (GuardBands::default(), false);
        }
        let slack = self.guard.as_ref().and_then(|guard| guard.filled.slack(key));
        let rest = regions.padding(key).min(MOST_PADDING);
        let bands = GuardBands { front, slack: slack.unwrap_or(0), back: back + rest };
        (bands, slack.is_some())
    }

    /// Counts the margins of a new region, which was asked for with an alignment.
    pub fn note_margins(&mut self, key: SlotKey, alignment: u64) {
        let Some(guard) = &mut self.guard else { return };
        if let AnySuballocator::Linear(linear) = &mut self.suballocator {
            // The others note it themselves.
            linear.regions_mut().note_alignment(key, alignment);
        }
        guard.margin_bytes += guard.margins.sum(alignment);
    }

    /// Returns the bytes of the margins of live regions.
    pub fn margins_of_all<'a>(&self, keys: impl IntoIterator<Item = &'a SlotKey>) -> u64 {
        match &self.guard {
            None => 0,
            Some(_) => keys.into_iter().map(|&key| self.margins_of(key)).sum(),
        }
    }

    /// Counts that regions with `gone` bytes of margins were replaced by others, each with the alignment that it was
    /// asked for with.
    pub fn note_replaced_margins(
        &mut self,
        gone: u64,
        made: impl IntoIterator<Item = (SlotKey, u64)>,
    ) {
        if let Some(guard) = &mut self.guard {
            guard.margin_bytes -= gone;
            made.into_iter().for_each(|(key, alignment)| self.note_margins(key, alignment));
        }
    }

    /// Counts the margins of a region that is about to be freed.
    pub fn forget_margins(&mut self, key: SlotKey) {
        let sum = self.margins_of(key);
        if let Some(guard) = &mut self.guard {
            guard.margin_bytes -= sum;
        }
    }

    /// Returns whether a live region was freed and is in quarantine.
    pub fn is_quarantined(&self, key: SlotKey) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_quarantined(key))
    }

    /// Ends an allocation and keeps its region in quarantine; returns its tag and its block, `None` if the key is
    /// stale, if there is no quarantine or no host memory for it. Pending driver calls are added to `release`.
    pub fn hold(&mut self, key: SlotKey, release: &mut Release) -> Option<(RegionTag, BlockIndex)> {
        self.guard.as_ref()?.quarantine.as_ref()?;
        let region = self.suballocator.region(key)?;
        let (tag, memory) = (self.suballocator.tag(key)?, self.memory(region.block).clone());
        let size = self.payload(key, Extent { offset: region.offset, size: region.size }).size;
        let is_linear = matches!(self.suballocator, AnySuballocator::Linear(_));
        let regions = self.suballocator.regions_mut();
        let guard = self.guard.as_mut()?;
        let quarantine = guard.quarantine.as_mut()?;
        // A gap that was held for an allocation that slides was nobody's. Linear has none.
        let is_gap = !is_linear && regions.alignment(key) < LEAST_ALIGNMENT;
        if is_gap || !quarantine.try_reserve() {
            return None;
        }
        let kept = regions.renew(key)?;
        if let Some(slack) = guard.filled.slack(key) {
            // The slot has a mark already.
            let _ = guard.filled.mark(kept, slack);
        }
        let frame = guard.shared.frame();
        quarantine.push(kept, Entry { former: key, size, frame, memory: () });
        let maps = u64::from(tag.map_count) + u64::from(tag.persistently_mapped);
        release.unmap(memory, maps);
        if quarantine.is_overdue(frame) {
            release.end_overdue(guard.shared.clone(), guard.pool_key);
        }
        Some((tag, region.block))
    }

    /// Calls `visit` with what a block is divided into, by ascending offset: payloads, margins and unused ranges.
    /// O(regions of the block).
    pub fn visit_ranges(&self, block: BlockIndex, visit: &mut dyn FnMut(RangeView)) {
        self.visit(block, &mut |view| {
            let whole = Extent { offset: view.offset, size: view.size };
            let Some((key, kind)) = view.live else {
                return visit(RangeView::new(whole, RangeUse::Unused));
            };
            let payload = self.payload(key, whole);
            let margin = |offset: u64, end: u64, visit: &mut dyn FnMut(RangeView)| {
                if offset < end {
                    let extent = Extent { offset, size: end - offset };
                    visit(RangeView::new(extent, RangeUse::Margin));
                }
            };
            margin(whole.offset, payload.offset, visit);
            let is = match self.is_quarantined(key) {
                true => RangeUse::Quarantined,
                false => RangeUse::Live(key, kind),
            };
            visit(RangeView::new(payload, is));
            margin(payload.offset + payload.size, whole.offset + whole.size, visit);
        });
    }

    /// Counts blocks, allocations, margins and unused ranges by visiting them. O(regions).
    pub fn count_guarded(&self, statistics: &mut Statistics) {
        for (block, memory) in self.iter() {
            statistics.add_block(memory.size);
            self.visit_ranges(block, &mut |range| range.add_to(statistics));
        }
    }

    /// Checks the counts of what is kept for debugging and returns the first one that is broken. O(regions).
    pub fn validate_guard(&self) -> Result<(), String> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let mut statistics = Statistics::default();
        self.count_guarded(&mut statistics);
        if statistics.margin_bytes != guard.margin_bytes {
            return Err(format!(
                "margins of {} bytes, counted as {}",
                statistics.margin_bytes, guard.margin_bytes
            ));
        }
        if (statistics.allocation_count, statistics.allocation_bytes) != self.live() {
            return Err("allocations without their margins are counted wrongly".into());
        }
        Ok(())
    }
}
