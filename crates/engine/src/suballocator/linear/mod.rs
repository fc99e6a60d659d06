//! The linear algorithm: regions one behind the other, for memory that is freed in a known order.
//!
//! ```text
//!   at once, stack   [ Lower > > >|                          ]      by `RunKind`; `edge` is the open end `|`
//!   double stack     [ Lower > > >|            |< < < Upper ]
//!   ring buffer      [ Wrapped > >|    |Lower > > > > > > > ]
//! ```
//!
//! A run only grows at its open end. A region that is freed inside a run stays there until everything
//! between it and one end of the run is freed.
//!
//! The blocks form a stack as well: a request goes to the top block and, if that has no room, to an empty
//! block, which becomes the top. A block that becomes empty leaves the stack, wherever it is; so once the
//! top is empty, the block below continues where it stopped. While the stack has several blocks, neither
//! the upper end nor the ring is used.

mod check;
mod evicting;
mod stack;

use super::granularity::{Gap, Neighbour, align_up, conflict, place_in_gap};
use super::interface::Suballocator;
use super::node::{MAX_SIZE, NONE, Node};
use super::region::{RegionTable, Slots};
use super::slab::Entries;
use super::values::{BlockIndex, FreedRegion, Placement, RegionRequest};
use crate::handle::SlotKey;
use crate::request::ResourceKind;

/// Regions linked in the order of their placement. The first and the last one are live.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    last: u32,
    /// Offset in bytes where the next region goes: the end of the last region, or its start in an upper
    /// run.
    edge: u64,
}

impl Run {
    /// Creates an empty run that starts at `edge`.
    fn at(edge: u64) -> Self {
        Self { first: NONE, last: NONE, edge }
    }

    fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// The three runs of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunKind {
    Lower = 0,
    Upper = 1,
    Wrapped = 2,
}

#[derive(Debug)]
struct Block {
    size: u64,
    used: bool,
    live: u32,
    /// Indexed by [`RunKind`].
    runs: [Run; 3],
    /// Neighbours in the stack, or in the list of spare blocks.
    below: u32,
    above: u32,
}

impl Block {
    fn run(&self, which: RunKind) -> &Run {
        &self.runs[which as usize]
    }

    fn run_mut(&mut self, which: RunKind) -> &mut Run {
        &mut self.runs[which as usize]
    }

    /// Returns the runs of an empty block.
    fn no_runs(size: u64) -> [Run; 3] {
        [Run::at(0), Run::at(size), Run::at(0)]
    }
}

/// A place in a block; `NOWHERE` if there is none. An `Option` of this size would be returned through
/// memory.
#[derive(Clone, Copy)]
struct Position {
    which: RunKind,
    offset: u64,
}

const NOWHERE: Position = Position { which: RunKind::Lower, offset: u64::MAX };

impl Position {
    fn is_found(self) -> bool {
        self.offset != u64::MAX
    }
}

/// Evaluates an expression with the nodes of a table (as one row or several), its free list of slots, and
/// the block of each slot.
macro_rules! nodes {
    ($regions:expr, $nodes:ident, $slots:ident, $blocks:ident => $call:expr) => {{
        let (nodes, $blocks, $slots) = $regions.parts();
        if let Some(mut $nodes) = nodes.near() {
            $call
        } else {
            let mut $nodes = nodes.far();
            $call
        }
    }};
}

/// How a freed region left its run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunRemoval {
    /// It was an end of its run; its slot is vacant.
    TakenOff,
    /// It was an end of its run and its neighbour had been freed before: the run has to be trimmed.
    Trims(RunKind),
    /// It lies inside a run and stays in it.
    Stays,
}

/// Removes a freed region from its run if it is an end of it.
#[inline(always)]
fn take_off(
    block: &mut Block,
    index: u32,
    freed: &Node,
    nodes: &mut impl Entries<Node>,
    slots: &mut Slots,
) -> RunRemoval {
    for which in [RunKind::Lower, RunKind::Upper, RunKind::Wrapped] {
        let run = block.run_mut(which);
        let at_last = run.last == index;
        if !at_last && run.first != index {
            continue;
        }
        let neighbour = if at_last { freed.previous } else { freed.next };
        // Usually the neighbour is live and becomes the end.
        if neighbour == NONE || nodes[neighbour].is_free() {
            return RunRemoval::Trims(which);
        }
        let node = &mut nodes[neighbour];
        if at_last {
            run.last = neighbour;
            run.edge = if which == RunKind::Upper { node.offset } else { node.padded_end() };
            node.next = NONE;
        } else {
            run.first = neighbour;
            node.previous = NONE;
        }
        slots.give_back(index, nodes);
        return RunRemoval::TakenOff;
    }
    RunRemoval::Stays
}

/// Linear suballocator: stack, double stack or ring buffer, according to the order of its calls.
///
/// # Time complexity
/// `allocate`: O(1) in the block on top; if that is full, O(spare blocks). `free`: O(1) amortised, as
/// each region is trimmed off its run once; O(regions of the run) in the worst case. Everything else as
/// [`Suballocator`] says.
#[derive(Debug)]
pub struct Linear {
    regions: RegionTable,
    blocks: Vec<Block>,
    vacant_blocks: Vec<u32>,
    /// The top of the stack, which holds all blocks with live regions, or one empty block if there are
    /// none.
    top: u32,
    stack_height: usize,
    /// The block of the list of spare (empty) blocks that was added last.
    spare: u32,
    granule: u64,
    granularity: u64,
    host_memory_failed: bool,
}

impl Linear {
    /// Creates a suballocator without blocks; see [`Tlsf::new`](super::Tlsf::new) for the parameters.
    pub fn new(granule: u64, granularity: u64) -> Self {
        assert!(granule.is_power_of_two() && granularity.is_power_of_two());
        Self {
            regions: RegionTable::default(),
            blocks: Vec::new(),
            vacant_blocks: Vec::new(),
            top: NONE,
            stack_height: 0,
            spare: NONE,
            granule,
            granularity,
            host_memory_failed: false,
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

    /// Returns the place for a request in a block.
    #[inline(always)]
    fn place(&self, block: &Block, size: u64, request: &RegionRequest) -> Position {
        if self.granularity != 1 {
            return self.place_beside(block, size, request);
        }
        // Neither addition overflows: offsets and sizes are below 2^60, alignments are powers of two.
        let last = request.alignment - 1;
        let up = |offset: u64| offset.wrapping_add(last) & !last;
        self.place_alone(block, size, request.upper, up, |offset| offset & !last)
    }

    /// Like [`place`](Self::place), for any alignment.
    fn place_at_any(&self, block: &Block, size: u64, request: &RegionRequest) -> Position {
        let alignment = request.alignment;
        if alignment.is_power_of_two() {
            return self.place(block, size, request);
        }
        debug_assert!(self.granularity == 1);
        // Stands for an offset past the end of every block, and is small enough for sums not to overflow.
        const FAR: u64 = 1 << 62;
        let up = |offset: u64| offset.checked_next_multiple_of(alignment).unwrap_or(FAR).min(FAR);
        let down = |offset: u64| offset / alignment * alignment;
        self.place_alone(block, size, request.upper, up, down)
    }

    /// Returns the place for a request where no neighbour can conflict; `up` and `down` round an offset
    /// to the alignment.
    #[inline(always)]
    fn place_alone(
        &self,
        block: &Block,
        size: u64,
        is_upper: bool,
        up: impl Fn(u64) -> u64,
        down: impl Fn(u64) -> u64,
    ) -> Position {
        let between = |which, edge: u64, end: u64| {
            let offset = up(edge);
            if offset.wrapping_add(size) <= end { Position { which, offset } } else { NOWHERE }
        };
        let alone = self.stack_height == 1;
        let [lower, upper, wrapped] = &block.runs;
        if is_upper {
            let offset = down(upper.edge.wrapping_sub(size));
            let fits = size <= upper.edge && offset >= lower.edge;
            let free = alone && wrapped.is_empty();
            return if free && fits { Position { which: RunKind::Upper, offset } } else { NOWHERE };
        }
        if wrapped.is_empty() {
            let behind = between(RunKind::Lower, lower.edge, upper.edge);
            if behind.is_found() || !alone || !upper.is_empty() || lower.is_empty() {
                return behind;
            }
        }
        between(RunKind::Wrapped, wrapped.edge, self.regions.node(lower.first).offset)
    }

    /// Returns the place for a request where `bufferImageGranularity` matters.
    #[inline(never)]
    fn place_beside(&self, block: &Block, size: u64, request: &RegionRequest) -> Position {
        let alone = self.stack_height == 1;
        let [lower, upper, wrapped] = &block.runs;
        let at = |which, offset: Option<u64>| {
            offset.map_or(NOWHERE, |offset| Position { which, offset })
        };
        if request.upper {
            let free = alone && wrapped.is_empty();
            return if free {
                at(RunKind::Upper, self.place_upper(block, size, request))
            } else {
                NOWHERE
            };
        }
        if wrapped.is_empty() {
            let offset = self.between(lower.last, upper.last, block.size, size, request);
            if offset.is_some() || !alone || !upper.is_empty() || lower.is_empty() {
                return at(RunKind::Lower, offset);
            }
        }
        let offset = self.between(wrapped.last, lower.first, block.size, size, request);
        at(RunKind::Wrapped, offset)
    }

    /// Returns the first fit between the regions `before` and `after`, or the borders of the block.
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

    fn place_upper(&self, block: &Block, size: u64, request: &RegionRequest) -> Option<u64> {
        let page_of = |offset: u64| offset & !(self.granularity - 1);
        let below = self.neighbour(block.run(RunKind::Lower).last, true);
        let above = self.neighbour(block.run(RunKind::Upper).last, false);
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

    /// Appends a region at the open end of a run.
    #[inline(always)]
    fn push(&mut self, block: u32, at: Position, size: u64, request: &RegionRequest) -> Placement {
        self.regions.prepare_block(block);
        let inside = &mut self.blocks[block as usize];
        inside.live = inside.live.wrapping_add(1);
        let run = inside.run_mut(at.which);
        // A place lies within its block.
        let end = at.offset.wrapping_add(size);
        run.edge = if at.which == RunKind::Upper { at.offset } else { end };
        nodes!(self.regions, nodes, slots, blocks => {
            let index = slots.take_for(block, &nodes, blocks);
            let last = std::mem::replace(&mut run.last, index);
            if last == NONE {
                run.first = index;
            }
            if last != NONE {
                nodes[last].next = index;
            }
            let node = &mut nodes[index];
            node.previous = last;
            node.next = NONE;
            node.set_live(at.offset, request.size, request.kind, size.wrapping_sub(request.size));
            let key = slots.begin_life(index, node);
            Placement { key, block: BlockIndex(block), offset: at.offset }
        })
    }

    /// Removes freed regions from both ends of a run.
    #[cold]
    #[inline(never)]
    fn trim(&mut self, block: u32, which: RunKind) {
        let mut run = *self.blocks[block as usize].run(which);
        while run.last != NONE {
            let node = self.regions.node(run.last);
            if !node.is_free() {
                run.edge = if which == RunKind::Upper { node.offset } else { node.end() };
                break;
            }
            let gone = std::mem::replace(&mut run.last, node.previous);
            self.regions.give_back(gone);
        }
        if run.last == NONE {
            let size = self.blocks[block as usize].size;
            run = Run::at(if which == RunKind::Upper { size } else { 0 });
        } else {
            self.regions.node_mut(run.last).next = NONE;
            // The last region is live, so the loop ends.
            while self.regions.node(run.first).is_free() {
                let next = self.regions.node(run.first).next;
                let gone = std::mem::replace(&mut run.first, next);
                self.regions.give_back(gone);
            }
            self.regions.node_mut(run.first).previous = NONE;
        }
        *self.blocks[block as usize].run_mut(which) = run;
    }
}

impl Suballocator for Linear {
    fn try_reserve_block(&mut self, _size: u64) -> bool {
        let blocks = self.blocks.len();
        let next = self.vacant_blocks.last().copied().unwrap_or(blocks as u32);
        self.blocks.try_reserve(1).is_ok()
            && self.vacant_blocks.try_reserve(blocks + 1).is_ok()
            && self.regions.try_prepare_block(next, 0)
    }

    fn take_host_memory_failure(&mut self) -> bool {
        std::mem::take(&mut self.host_memory_failed)
    }

    fn add_block(&mut self, size: u64) -> BlockIndex {
        assert!(size > 0 && size <= MAX_SIZE, "a block of {size} bytes");
        assert!(self.try_reserve_block(size), "host memory for a block");
        let runs = Block::no_runs(size);
        let made = Block { size, used: true, live: 0, runs, below: NONE, above: NONE };
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
        self.enter(block);
        BlockIndex(block)
    }

    fn remove_block(&mut self, BlockIndex(block): BlockIndex) {
        assert!(
            self.is_block_empty(BlockIndex(block)),
            "a block with live regions cannot be removed"
        );
        self.leave(block);
        self.blocks[block as usize].used = false;
        self.vacant_blocks.push(block);
    }

    fn is_block_empty(&self, block: BlockIndex) -> bool {
        self.block(block).live == 0
    }

    #[inline(always)]
    fn allocate(&mut self, request: &RegionRequest) -> Option<Placement> {
        debug_assert!(request.size > 0 && request.alignment.is_power_of_two());
        if !self.regions.has_room_for(1) && !self.regions.try_grow() {
            self.host_memory_failed = true;
            return None;
        }
        let size = align_up(request.size, self.granule).filter(|&size| size <= MAX_SIZE)?;
        let block = self.top;
        let at = self.place(self.blocks.get(block as usize)?, size, request);
        if at.is_found() {
            Some(self.push(block, at, size, request))
        } else {
            let key = self.allocate_in_spare(size, &{ *request })?;
            Some(self.regions.placement(key))
        }
    }

    #[inline(never)]
    fn allocate_at_multiple(&mut self, request: &RegionRequest) -> Option<Placement> {
        if !self.regions.has_room_for(1) && !self.regions.try_grow() {
            self.host_memory_failed = true;
            return None;
        }
        let size = request.size.checked_next_multiple_of(self.granule);
        let size = size.filter(|&size| size <= MAX_SIZE)?;
        let block = self.top;
        let at = self.place_at_any(self.blocks.get(block as usize)?, size, request);
        if at.is_found() {
            return Some(self.push(block, at, size, request));
        }
        let key = self.allocate_in_spare(size, request)?;
        Some(self.regions.placement(key))
    }

    #[inline(always)]
    fn free(&mut self, key: SlotKey) -> Option<FreedRegion> {
        let (index, block_of) = (key.index(), self.regions.block_of_any(key.index()));
        let (node, gone) = nodes!(self.regions, nodes, slots, _blocks => {
            let node = *nodes.get(index).filter(|node| node.is_of(key))?;
            let block = &mut self.blocks[block_of as usize];
            let at_end = node.previous == NONE || node.next == NONE;
            let gone = if at_end {
                take_off(block, index, &node, &mut nodes, slots)
            } else {
                RunRemoval::Stays
            };
            if gone != RunRemoval::TakenOff {
                nodes[index].end_life(node.offset, node.footprint());
            }
            (node, gone)
        });
        if let RunRemoval::Trims(which) = gone {
            self.trim(block_of, which);
        }
        let block = &mut self.blocks[block_of as usize];
        let [lower, _, wrapped] = &mut block.runs;
        if lower.is_empty() && !wrapped.is_empty() {
            *lower = std::mem::replace(wrapped, Run::at(0));
        }
        block.live = block.live.wrapping_sub(1);
        let block_is_empty = block.live == 0;
        if block_is_empty && self.stack_height > 1 {
            self.leave_stack(block_of);
        }
        Some(FreedRegion { info: node.info(block_of), tag: node.tag(), block_is_empty })
    }

    fn clear(&mut self) {
        self.regions.clear();
        for block in self.blocks.iter_mut().filter(|block| block.used) {
            block.live = 0;
            block.runs = Block::no_runs(block.size);
        }
        while self.stack_height > 1 {
            self.leave_stack(self.top);
        }
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
        let block = &mut self.blocks[block.0 as usize];
        block.size = size;
        // An upper run that has regions continues below them; the new end of the block is for the next
        // upper run.
        let upper = block.run_mut(RunKind::Upper);
        if upper.is_empty() {
            upper.edge = size;
        }
    }

    fn block_size(&self, block: BlockIndex) -> u64 {
        self.block(block).size
    }

    fn visit_live(
        &self,
        block: BlockIndex,
        visit: &mut dyn FnMut(u64, u64, SlotKey, ResourceKind),
    ) {
        let [lower, upper, wrapped] = &self.block(block).runs;
        for run in [wrapped, lower] {
            self.regions.visit_live(run.first, NONE, visit);
        }
        let mut index = upper.last;
        while index != NONE {
            let node = self.regions.node(index);
            if !node.is_free() {
                visit(node.offset, node.size(), self.regions.key_of(index), node.kind());
            }
            index = node.previous;
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.regions.bytes()
            + self.blocks.capacity() * size_of::<Block>()
            + self.vacant_blocks.capacity() * size_of::<u32>()
    }

    fn validate(&self) -> Result<(), String> {
        self.check()
    }
}
