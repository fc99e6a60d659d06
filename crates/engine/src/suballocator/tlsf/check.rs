//! Consistency checks of the index.

use super::super::bins::{Bins, CLASSES, class_of};
use super::super::granularity::conflict;
use super::super::node::{is_free_link, target};
use super::{Tlsf, kind_bits};
use crate::request::ResourceKind;

impl Tlsf {
    /// Checks every block and every size class. O(regions).
    pub(super) fn check(&self) -> Result<(), String> {
        let (mut regions, mut free, mut deferred) = (0, 0, 0);
        for (number, block) in self.blocks.iter().enumerate().filter(|(_, block)| block.used) {
            let at = |what: &str| format!("block {number}: {what}");
            let edge = block.edge;
            let (mut index, mut previous, mut end, mut live) =
                (target(self.regions.node(edge).next), edge, 0, 0);
            // The last live region's end and kind, to check shared pages.
            let mut last_live: Option<(u64, ResourceKind)> = None;
            while index != edge {
                let node = self.regions.node(index);
                regions += 1;
                if self.regions.block_of(index) != number as u32 {
                    return Err(at("a region that says it lies in another block"));
                }
                if target(node.previous) != previous || node.offset != end || node.size() == 0 {
                    return Err(at(&format!("regions do not follow each other at {end}")));
                }
                let is_free = |it: u32| it != edge && self.regions.node(it).is_free();
                let right = |link: u32| is_free_link(link) == is_free(target(link));
                if !right(node.previous) || !right(node.next) {
                    return Err(at(&format!("a link that does not know its neighbour at {end}")));
                }
                if node.is_free() {
                    if node.is_live() {
                        return Err(at("a free region with a key"));
                    }
                    free += 1;
                    if previous != edge && self.regions.node(previous).is_free() {
                        return Err(at(&format!("two free regions side by side at {end}")));
                    }
                } else if self.deferred.contains(index) || node.is_unmerged() {
                    if self.regions.live(self.regions.key_of(index)).is_some() {
                        return Err(at("a freed region that still has a key"));
                    }
                    if self.granularity != 1 && kind_bits(node.kind()) & !self.kinds != 0 {
                        return Err(at("a freed region of a kind that is not known to live here"));
                    }
                    deferred += 1;
                } else {
                    live += 1;
                    if self.granularity != 1 && kind_bits(node.kind()) & !self.kinds != 0 {
                        return Err(at("a kind that is not known to live here"));
                    }
                    if self.regions.key_of(index).generation().is_multiple_of(2) {
                        return Err(at("a live region without a key"));
                    }
                    let page = |offset: u64| offset & !(self.granularity - 1);
                    if self.granularity > 1
                        && let Some((last_end, kind)) = last_live
                        && page(last_end - 1) == page(node.offset)
                        && conflict(kind, node.kind())
                    {
                        return Err(at(&format!("conflicting kinds share the page of {end}")));
                    }
                    last_live = Some((node.offset + node.size(), node.kind()));
                }
                end = node.end();
                previous = index;
                index = target(node.next);
            }
            // The edge node of the block.
            regions += 1;
            if target(self.regions.node(edge).previous) != previous {
                return Err(at("its edge does not know the last region"));
            }
            if end != block.size || live != self.live_counts[number] {
                return Err(at("its regions do not add up to its size and count"));
            }
        }
        if deferred != self.deferred.count() {
            return Err("a freed region that waits is in no block".into());
        }
        if !self.regions.has_right_generations(|index| self.deferred.contains(index)) {
            return Err("a generation that is kept apart is wrong".into());
        }
        if regions != self.regions.used_slots() {
            return Err("region slots are lost".into());
        }
        // A removed block has no live region.
        if self.live_counts.iter().filter(|&&live| live > 0).count() as u32 != self.busy_blocks {
            return Err("blocks with live regions are counted wrongly".into());
        }
        self.check_classes(free)
    }

    fn check_classes(&self, mut free: usize) -> Result<(), String> {
        if !self.free.is_right() {
            return Err("a size class is marked wrongly".into());
        }
        for class in 0..CLASSES {
            for (position, entry) in self.free.positions_of_class(class) {
                let node = self.regions.node(entry.node());
                if !node.is_free()
                    || class_of(node.size()) != class
                    || node.position() != position
                    || !Bins::agrees(entry, node.size(), entry.node())
                    || free == 0
                {
                    return Err(format!("class {class} is broken"));
                }
                free -= 1;
            }
        }
        if free == 0 { Ok(()) } else { Err("free regions are missing from their classes".into()) }
    }
}
