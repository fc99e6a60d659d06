//! Consistency checks of the linear suballocator.

use super::super::granularity::{Neighbour, conflict};
use super::super::interface::Suballocator;
use super::super::node::NONE;
use super::super::values::BlockIndex;
use super::{Block, Linear, RunKind};

impl Linear {
    /// See [`Suballocator::validate`].
    pub(super) fn check(&self) -> Result<(), String> {
        let mut slots = 0;
        for (number, block) in (0u32..).zip(&self.blocks).filter(|(_, block)| block.used) {
            let at = |what: &str| Err(format!("block {number}: {what}"));
            let mut live = 0;
            for (which, run) in block.runs.iter().enumerate() {
                let (mut index, mut previous) = (run.first, NONE);
                while index != NONE {
                    let node = self.regions.node(index);
                    slots += 1;
                    live += u32::from(!node.is_free());
                    if node.previous != previous || self.regions.block_of(index) != number {
                        return at("a run is linked wrongly");
                    }
                    previous = index;
                    index = node.next;
                }
                if previous != run.last {
                    return at("a run does not end at its last region");
                }
                let last = (run.last != NONE).then(|| self.regions.node(run.last));
                let upper = which == RunKind::Upper as usize;
                let edge = match last {
                    Some(last) if upper => last.offset,
                    Some(last) => last.end(),
                    None => block.size * u64::from(upper),
                };
                if run.edge != edge {
                    return at("a run does not know where it goes on");
                }
                let ends = [run.first, run.last];
                if !run.is_empty() && ends.iter().any(|&end| self.regions.node(end).is_free()) {
                    return at("a freed region at the end of a run");
                }
            }
            if live != block.live {
                return at("live regions are counted wrongly");
            }
            self.validate_order(BlockIndex(number))?;
        }
        self.validate_lists()?;
        if slots == self.regions.used_slots() {
            Ok(())
        } else {
            Err("region slots are lost".into())
        }
    }

    fn validate_lists(&self) -> Result<(), String> {
        let (mut height, mut spares) = (0, 0);
        for (last, count, spare) in
            [(self.top, &mut height, false), (self.spare, &mut spares, true)]
        {
            let (mut block, mut above) = (last, NONE);
            while block != NONE {
                let Block { used, live, below, above: linked, .. } = self.blocks[block as usize];
                let is_alone = block == self.top && below == NONE;
                if !used || linked != above || (live == 0) != spare && !(live == 0 && is_alone) {
                    return Err(format!("block {block} is in the wrong list of blocks"));
                }
                *count += 1;
                (block, above) = (below, block);
            }
        }
        let used = self.blocks.iter().filter(|block| block.used).count();
        if height != self.stack_height || height + spares != used || (used > 0 && height == 0) {
            return Err("blocks are lost".into());
        }
        Ok(())
    }

    fn validate_order(&self, block: BlockIndex) -> Result<(), String> {
        let size = self.block(block).size;
        let mut broken = None;
        let mut last: Option<Neighbour> = None;
        self.visit_live(block, &mut |offset, size, key, kind| {
            let before = last.map_or(0, |it| it.edge);
            if offset < before {
                broken = Some(format!("block {}: regions overlap at {before}", block.0));
            }
            let page = |offset: u64| offset & !(self.granularity - 1);
            if self.granularity > 1
                && let Some(last) = last
                && page(last.edge - 1) == page(offset)
                && conflict(last.kind, kind)
            {
                broken = Some(format!("block {}: conflicting kinds at {offset}", block.0));
            }
            debug_assert!(self.regions.live(key).is_some());
            last = Some(Neighbour { edge: offset + size, kind });
        });
        let end = last.map_or(0, |it| it.edge);
        if end > size {
            broken = Some(format!("block {}: a region ends at {end} of {size}", block.0));
        }
        broken.map_or(Ok(()), Err)
    }
}
