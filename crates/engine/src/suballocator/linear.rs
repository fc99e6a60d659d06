//! Regions one behind the other: for memory that is freed in an order that is known.
//!
//! ```text
//!   at once, stack   [ lower > > >|                          ]
//!   double stack     [ lower > > >|            |< < < upper ]
//!   ring buffer      [ wrapped > >|    |lower > > > > > > > ]
//! ```
//!
//! A run only grows at its open end. What is freed inside a run stays where it is until the run is
//! freed up to there, from either side. With several blocks there is neither an upper stack nor a
//! ring.

use super::granularity::{Gap, Neighbour, align_up, conflict, place_in_gap};
use super::region::{MAX_SIZE, NONE, RegionTable};
use super::{
    BlockIndex, FreedRegion, Placement, RegionKey, RegionRequest, RegionView, Suballocator,
};

/// Regions linked in the order in which they were placed. The nodes at both ends are live.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    last: u32,
}

impl Run {
    const EMPTY: Self = Self { first: NONE, last: NONE };

    fn is_empty(self) -> bool {
        self.first == NONE
    }
}

/// Which run of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Lower,
    Upper,
    Wrapped,
}

#[derive(Debug)]
struct Block {
    size: u64,
    used: bool,
    live: u32,
    lower: Run,
    upper: Run,
    wrapped: Run,
    /// Neighbours in the order in which blocks were added.
    older: u32,
    newer: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Linear {
    regions: RegionTable,
    blocks: Vec<Block>,
    vacant_blocks: Vec<u32>,
    newest: u32,
    block_count: usize,
    /// A block without live regions that is not the newest, if there is one.
    empty: u32,
    granule: u64,
    granularity: u64,
}

impl Linear {
    /// Without blocks; see [`Tlsf::new`](super::Tlsf::new) for the numbers.
    pub fn new(granule: u64, granularity: u64) -> Self {
        assert!(granule.is_power_of_two() && granularity.is_power_of_two());
        Self {
            regions: RegionTable::default(),
            blocks: Vec::new(),
            vacant_blocks: Vec::new(),
            newest: NONE,
            block_count: 0,
            empty: NONE,
            granule,
            granularity,
        }
    }

    fn block(&self, block: BlockIndex) -> &Block {
        let block = &self.blocks[block.0 as usize];
        assert!(block.used, "the block was removed");
        block
    }

    fn neighbour(&self, index: u32, before: bool) -> Option<Neighbour> {
        (index != NONE).then(|| {
            let node = self.regions.node(index);
            Neighbour { edge: if before { node.end() } else { node.offset }, kind: node.kind() }
        })
    }

    /// The first fit between the regions `before` and `after`, or the borders of the block.
    fn between(
        &self,
        before: u32,
        after: u32,
        block_size: u64,
        size: u64,
        request: &RegionRequest,
    ) -> Option<u64> {
        let (before, after) = (self.neighbour(before, true), self.neighbour(after, false));
        let gap = Gap {
            start: before.map_or(0, |it| it.edge),
            end: after.map_or(block_size, |it| it.edge),
            before,
            after,
        };
        place_in_gap(&gap, size, request.alignment, request.kind, self.granularity)
    }

    fn place(&self, block: &Block, size: u64, request: &RegionRequest) -> Option<(Which, u64)> {
        let alone = self.block_count == 1;
        if request.upper {
            let free = alone && block.wrapped.is_empty();
            let offset = if free { self.place_upper(block, size, request) } else { None };
            return offset.map(|offset| (Which::Upper, offset));
        }
        if !block.wrapped.is_empty() {
            let (before, after) = (block.wrapped.last, block.lower.first);
            let offset = self.between(before, after, block.size, size, request)?;
            return Some((Which::Wrapped, offset));
        }
        let behind = self.between(block.lower.last, block.upper.last, block.size, size, request);
        if let Some(offset) = behind {
            return Some((Which::Lower, offset));
        }
        if !alone || !block.upper.is_empty() || block.lower.is_empty() {
            return None;
        }
        let offset = self.between(NONE, block.lower.first, block.size, size, request)?;
        Some((Which::Wrapped, offset))
    }

    fn place_upper(&self, block: &Block, size: u64, request: &RegionRequest) -> Option<u64> {
        let page_of = |offset: u64| offset & !(self.granularity - 1);
        let below = self.neighbour(block.lower.last, true);
        let above = self.neighbour(block.upper.last, false);
        let end = above.map_or(block.size, |it| it.edge);
        let mut offset = end.checked_sub(size)? & !(request.alignment - 1);
        if let Some(above) = above
            && conflict(above.kind, request.kind)
            && page_of(offset + size - 1) == page_of(above.edge)
        {
            offset = page_of(above.edge).checked_sub(size)? & !(request.alignment - 1);
        }
        let below_conflicts = below.is_some_and(|below| {
            conflict(below.kind, request.kind) && page_of(below.edge - 1) == page_of(offset)
        });
        (offset >= below.map_or(0, |it| it.edge) && !below_conflicts).then_some(offset)
    }

    fn run(&mut self, block: u32, which: Which) -> &mut Run {
        let block = &mut self.blocks[block as usize];
        match which {
            Which::Lower => &mut block.lower,
            Which::Upper => &mut block.upper,
            Which::Wrapped => &mut block.wrapped,
        }
    }

    /// Drops freed regions from both ends of a run.
    fn trim(&mut self, block: u32, which: Which) {
        loop {
            let Run { first, last } = *self.run(block, which);
            if first == NONE {
                return;
            }
            if self.regions.node(last).is_free() {
                let previous = self.regions.node(last).previous;
                self.regions.give_back(last);
                *self.run(block, which) =
                    if previous == NONE { Run::EMPTY } else { Run { first, last: previous } };
                if previous != NONE {
                    self.regions.node_mut(previous).next = NONE;
                }
            } else if self.regions.node(first).is_free() {
                // Not the last one, which is live.
                let next = self.regions.node(first).next;
                self.regions.give_back(first);
                self.regions.node_mut(next).previous = NONE;
                self.run(block, which).first = next;
            } else {
                return;
            }
        }
    }

    fn runs(&self, block: BlockIndex) -> [Run; 3] {
        let block = self.block(block);
        [block.wrapped, block.lower, block.upper]
    }
}

impl Suballocator for Linear {
    fn add_block(&mut self, size: u64) -> BlockIndex {
        assert!(size > 0 && size <= MAX_SIZE, "a block of {size} bytes");
        let older = self.newest;
        let made = Block {
            size,
            used: true,
            live: 0,
            lower: Run::EMPTY,
            upper: Run::EMPTY,
            wrapped: Run::EMPTY,
            older,
            newer: NONE,
        };
        let block = match self.vacant_blocks.pop() {
            Some(block) => {
                self.blocks[block as usize] = made;
                block
            }
            None => {
                self.blocks.push(made);
                (self.blocks.len() - 1) as u32
            }
        };
        if older != NONE {
            self.blocks[older as usize].newer = block;
            if self.blocks[older as usize].live == 0 {
                self.empty = older;
            }
        }
        self.newest = block;
        self.block_count += 1;
        BlockIndex(block)
    }

    fn remove_block(&mut self, block: BlockIndex) {
        let Block { live, older, newer, .. } = *self.block(block);
        assert!(live == 0, "a block with live regions cannot be removed");
        if older != NONE {
            self.blocks[older as usize].newer = newer;
        }
        if newer != NONE {
            self.blocks[newer as usize].older = older;
        } else {
            self.newest = older;
        }
        if self.empty == block.0 || self.empty == self.newest {
            self.empty = NONE;
        }
        self.blocks[block.0 as usize].used = false;
        self.vacant_blocks.push(block.0);
        self.block_count -= 1;
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        self.block(block).live == 0
    }

    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        let size = align_up(request.size, self.granule)?;
        let candidates = [self.newest, self.empty];
        let (block, (which, offset)) =
            candidates.into_iter().filter(|&block| block != NONE).find_map(|block| {
                Some((block, self.place(&self.blocks[block as usize], size, request)?))
            })?;
        if block == self.empty {
            self.empty = NONE;
        }
        let index = self.regions.take(block);
        let run = self.run(block, which);
        let last = std::mem::replace(&mut run.last, index);
        if last == NONE {
            run.first = index;
        } else {
            self.regions.node_mut(last).next = index;
        }
        let node = self.regions.node_mut(index);
        node.previous = last;
        node.next = NONE;
        node.set_live(offset, request.size, request.kind, size - request.size);
        let key = RegionKey::new(index, node.begin_life());
        self.blocks[block as usize].live += 1;
        Some(Placement { key, block: BlockIndex(block), offset })
    }

    fn free(&mut self, key: RegionKey) -> Option<FreedRegion> {
        let node = self.regions.end_life(key)?;
        let index = self.regions.block_of(key.index());
        self.regions.node_mut(key.index()).set_free(node.offset, node.footprint());
        // Inside a run it stays.
        if node.previous == NONE || node.next == NONE {
            for which in [Which::Lower, Which::Upper, Which::Wrapped] {
                let Run { first, last } = *self.run(index, which);
                if first == key.index() || last == key.index() {
                    self.trim(index, which);
                    break;
                }
            }
        }
        let block = &mut self.blocks[index as usize];
        if block.lower.is_empty() {
            block.lower = std::mem::replace(&mut block.wrapped, Run::EMPTY);
        }
        block.live -= 1;
        let block_is_empty = block.live == 0;
        if block_is_empty && index != self.newest {
            self.empty = index;
        }
        Some(FreedRegion { info: node.info(index), block_is_empty })
    }

    fn regions(&self) -> &RegionTable {
        &self.regions
    }

    fn regions_mut(&mut self) -> &mut RegionTable {
        &mut self.regions
    }

    fn grow_block(&mut self, block: BlockIndex, size: u64) {
        let before = self.block(block).size;
        assert!(size >= before && size <= MAX_SIZE, "a block of {before} bytes grows to {size}");
        // An upper stack goes on below what it holds; the new end is for the next one.
        self.blocks[block.0 as usize].size = size;
    }

    fn visit_block(&self, block: BlockIndex, visit: &mut dyn FnMut(RegionView)) {
        let mut end = 0;
        let mut emit = |index: u32| {
            let node = self.regions.node(index);
            if node.is_free() {
                return;
            }
            if node.offset > end {
                visit(RegionView { offset: end, size: node.offset - end, live: None });
            }
            let live = Some((self.regions.key_of(index), node.kind()));
            visit(RegionView { offset: node.offset, size: node.size(), live });
            end = node.end();
        };
        let [wrapped, lower, upper] = self.runs(block);
        for run in [wrapped, lower] {
            let mut index = run.first;
            while index != NONE {
                emit(index);
                index = self.regions.node(index).next;
            }
        }
        let mut index = upper.last;
        while index != NONE {
            emit(index);
            index = self.regions.node(index).previous;
        }
        let size = self.block(block).size;
        if end < size {
            visit(RegionView { offset: end, size: size - end, live: None });
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.blocks.capacity() * size_of::<Block>()
            + self.vacant_blocks.capacity() * size_of::<u32>()
    }

    fn validate(&self) -> Result<(), String> {
        let mut slots = 0;
        for (number, block) in (0u32..).zip(&self.blocks).filter(|(_, block)| block.used) {
            let at = |what: &str| Err(format!("block {number}: {what}"));
            let mut live = 0;
            for run in self.runs(BlockIndex(number)) {
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
        if slots == self.regions.used_slots() {
            Ok(())
        } else {
            Err("region slots are lost".into())
        }
    }
}

impl Linear {
    fn validate_order(&self, block: BlockIndex) -> Result<(), String> {
        let size = self.block(block).size;
        let mut end = 0;
        let mut broken = None;
        let mut last_live: Option<Neighbour> = None;
        self.visit_block(block, &mut |region| {
            if region.offset < end {
                broken = Some(format!("block {}: regions overlap at {end}", block.0));
            }
            end = region.offset + region.size;
            let Some((_, kind)) = region.live else { return };
            let page = |offset: u64| offset & !(self.granularity - 1);
            if self.granularity > 1
                && let Some(last) = last_live
                && page(last.edge - 1) == page(region.offset)
                && conflict(last.kind, kind)
            {
                broken = Some(format!("block {}: conflicting kinds at {}", block.0, region.offset));
            }
            last_live = Some(Neighbour { edge: end, kind });
        });
        if end > size {
            broken = Some(format!("block {}: a region ends at {end} of {size}", block.0));
        }
        broken.map_or(Ok(()), Err)
    }
}
