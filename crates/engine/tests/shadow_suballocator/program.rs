//! Random programs, and their execution on a suballocator and its model.

use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::sample::select;

use vkmem_engine::ResourceKind::{self, *};
use vkmem_engine::suballocator::{
    BlockIndex, RegionInfo, RegionRequest, RegionTag, SlotKey, Suballocator,
};
use vkmem_engine::{Statistics, Strategy as Search};

use super::Promises;
use super::common::Random;
use super::model::{Block, Model, Region};

const KINDS: [ResourceKind; 5] = [Unknown, Buffer, ImageUnknown, ImageLinear, ImageOptimal];

#[derive(Clone, Debug)]
pub enum Step {
    Allocate(RegionRequest),
    /// Selects a live region.
    Free(prop::sample::Index),
    Tag(prop::sample::Index, u8),
    AddBlock(u64),
    /// Selects an empty block.
    RemoveBlock(prop::sample::Index),
    FreeAll,
    Clear,
    Settle,
}

#[derive(Clone, Debug)]
pub struct Program {
    granule: u64,
    granularity: u64,
    steps: Vec<Step>,
}

fn sizes() -> impl Strategy<Value = u64> {
    let near_powers = (0u32..21, 0u64..3).prop_map(|(log2, by)| ((1 << log2) + by).max(2) - 1);
    prop_oneof![
        4 => 1u64..=64,
        6 => 1u64..=4096,
        3 => 1u64..=200_000,
        4 => near_powers,
        1 => select(vec![u64::MAX, u64::MAX - 15, 1 << 60, (1 << 60) - 1, 1 << 63]),
    ]
}

fn block_sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => 1u64..=100,
        2 => 1u64..=70_000,
        3 => (1u64..=64).prop_map(|pages| pages << 16),
        1 => Just(1 << 22),
    ]
}

fn requests(strategies: &'static [Search]) -> impl Strategy<Value = RegionRequest> {
    // Alignments up to 64 KiB, mostly small ones.
    let powers = prop_oneof![3 => 0u32..=8, 1 => 0u32..=16].prop_map(|log2| 1u64 << log2);
    // Vertex strides and similar alignments, for blocks without pages.
    let strides = prop_oneof![
        6 => select(vec![3u64, 12, 20, 36, 48, 100]),
        3 => 3u64..=300,
        1 => select(vec![(1 << 40) + 1, u64::MAX, u64::MAX - 1, 3 << 62]),
    ];
    let alignments = prop_oneof![4 => powers, 1 => strides];
    let upper = prop::bool::weighted(0.3);
    let parts = (sizes(), alignments, select(KINDS.to_vec()), upper, select(strategies));
    parts.prop_map(|(size, alignment, kind, upper, strategy)| RegionRequest {
        size,
        alignment,
        kind,
        upper,
        strategy,
    })
}

pub fn programs(
    promises: &'static Promises,
    length: Range<usize>,
) -> impl Strategy<Value = Program> {
    let step = prop_oneof![
        60 => requests(promises.strategies).prop_map(Step::Allocate),
        40 => any::<prop::sample::Index>().prop_map(Step::Free),
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, bits)| Step::Tag(at, bits)),
        4 => block_sizes().prop_map(Step::AddBlock),
        3 => any::<prop::sample::Index>().prop_map(Step::RemoveBlock),
        1 => Just(Step::FreeAll),
        1 => Just(Step::Clear),
        1 => Just(Step::Settle),
    ];
    let steps = prop::collection::vec(step, length);
    let parts = (select(promises.granules), select(promises.granularities), block_sizes(), steps);
    parts.prop_map(|(granule, granularity, block, mut steps)| {
        steps.insert(0, Step::AddBlock(block));
        if granularity != 1 {
            let steps = steps.iter_mut();
            steps.for_each(|step| {
                if let Step::Allocate(request) = step
                    && !request.alignment.is_power_of_two()
                {
                    request.alignment = 16;
                }
            });
        }
        Program { granule, granularity, steps }
    })
}

/// A suballocator, its model, and the keys that were returned.
struct Pair {
    promises: &'static Promises,
    subject: Box<dyn Suballocator>,
    model: Model,
    granule: u64,
    live: Vec<(SlotKey, BlockIndex, u64, RegionTag)>,
    dead: HashSet<SlotKey>,
    frees: u64,
    /// Bytes of released regions, and those of them that were reported.
    released: u64,
    told: u64,
    /// Requests that could have been placed and were not.
    misses: u64,
    requests: u64,
}

impl Pair {
    fn new(promises: &'static Promises, granule: u64, granularity: u64) -> Self {
        Self {
            promises,
            subject: (promises.make)(granule, granularity),
            model: Model { granularity, blocks: Default::default() },
            granule,
            live: Vec::new(),
            dead: HashSet::new(),
            frees: 0,
            released: 0,
            told: 0,
            misses: 0,
            requests: 0,
        }
    }

    fn add_block(&mut self, size: u64) {
        if !self.promises.many_blocks && !self.model.blocks.is_empty() {
            return;
        }
        let BlockIndex(index) = self.subject.add_block(size);
        let block = Block { size, ..Block::default() };
        assert!(self.model.blocks.insert(index, block).is_none(), "block {index} exists already");
        assert!(self.subject.is_block_empty(BlockIndex(index)));
    }

    fn remove_block(&mut self, choose: impl FnOnce(&[u32]) -> u32) {
        let empty = |(_, block): &(&u32, &Block)| block.regions.is_empty();
        let empty: Vec<u32> = self.model.blocks.iter().filter(empty).map(|(&it, _)| it).collect();
        if !empty.is_empty() {
            let index = choose(&empty);
            self.subject.remove_block(BlockIndex(index));
            self.model.blocks.remove(&index);
        }
    }

    fn allocate(&mut self, request: &RegionRequest) {
        self.requests += 1;
        let footprint = (self.promises.footprint)(request.size, self.granule);
        let unused = self.model.unused();
        let placed = if request.alignment.is_power_of_two() {
            self.subject.allocate(request)
        } else {
            self.subject.allocate_at_multiple(request)
        };
        let Some(placed) = placed else {
            if let Some(enough) = self.promises.complete_among {
                let places = self.model.places(footprint, request);
                let excused = unused.len() > enough;
                assert!(
                    excused || places.is_empty(),
                    "{request:?} was not placed among {} unused ranges; there was {:?}",
                    unused.len(),
                    places[0]
                );
                self.misses += u64::from(!places.is_empty());
            }
            return;
        };
        let BlockIndex(index) = placed.block;
        if let Some(wrong) = self.model.wrong(index, placed.offset, footprint, request) {
            panic!("{request:?}: {wrong}");
        }
        match request.strategy {
            Search::MinOffset if self.promises.lowest_offset => {
                let places = self.model.places(footprint, request);
                let (block, _, offset) = places[0];
                assert_eq!((index, placed.offset), (block, offset), "{request:?}: the lowest");
            }
            Search::MinMemory => self.check_best_fit(request, footprint, (index, placed.offset)),
            _ => {}
        }
        let RegionRequest { size, kind, alignment, .. } = *request;
        let holds = |(block, (start, end)): &&(u32, (u64, u64))| {
            *block == index && (*start..*end).contains(&placed.offset)
        };
        let (_, (_, end)) = unused.iter().find(holds).expect("it was placed in an unused range");
        let rounded = (self.promises.rounding)(size, footprint, alignment, self.granule);
        let footprint = rounded.min(end - placed.offset);
        let region = Region { key: placed.key, size, footprint, kind };
        let block = self.model.blocks.get_mut(&index).expect("checked above");
        block.regions.insert(placed.offset, region);
        assert!(self.live.iter().all(|(key, ..)| *key != placed.key), "a key of two regions");
        assert!(!self.dead.contains(&placed.key), "a key came back");
        assert_eq!(self.subject.tag(placed.key), Some(RegionTag::default()));
        self.live.push((placed.key, placed.block, placed.offset, RegionTag::default()));
    }

    fn check_best_fit(&self, request: &RegionRequest, footprint: u64, at: (u32, u64)) {
        let Some(best_fit) = self.promises.best_fit else { return };
        let size = |(start, end): (u64, u64)| end - start;
        let unused = self.model.unused();
        let holds = |(block, (start, end)): &&(u32, (u64, u64))| {
            *block == at.0 && (*start..*end).contains(&at.1)
        };
        let (_, taken) = unused.iter().find(holds).expect("it was placed in an unused range");
        let places = self.model.places(footprint, request);
        let best = places.iter().map(|(_, range, _)| size(*range)).min().expect("one is taken");
        let classes = (best_fit.class)(footprint)..=(best_fit.class)(best);
        let between =
            unused.iter().filter(|(_, it)| classes.contains(&(best_fit.class)(size(*it))));
        if between.count() <= best_fit.among {
            assert_eq!(size(*taken), best, "{request:?}: the best fit");
        }
    }

    fn free(&mut self, at: usize) {
        let (key, block, offset, tag) = self.live.swap_remove(at);
        let regions = &mut self.model.blocks.get_mut(&block.0).expect("it lives").regions;
        let Region { size, kind, .. } = regions.remove(&offset).expect("it lives");
        self.frees += 1;
        if !self.promises.releases || self.frees.is_multiple_of(7) {
            let freed = self.subject.free(key).expect("it lives");
            assert_eq!(freed.info, RegionInfo { block, offset, size, kind });
            assert_eq!((freed.tag, freed.block_is_empty), (tag, regions.is_empty()));
        } else {
            self.told += self.subject.release(key).expect("it lives");
            self.released += size;
            assert_eq!(self.subject.is_block_empty(block), regions.is_empty());
        }
        assert_eq!(self.told + self.subject.unreported(), self.released, "bytes are lost");
        assert_eq!(self.subject.free(key), None, "freed twice");
        // This may merge waiting regions, which the other steps are to see unmerged.
        if self.frees.is_multiple_of(4) {
            assert_eq!(self.subject.release(key), None, "freed twice");
        }
        self.dead.insert(key);
    }

    fn tag(&mut self, at: usize, bits: u8) {
        let tag =
            RegionTag { map_count: bits, persistently_mapped: bits & 1 != 0, named: bits & 2 != 0 };
        self.live[at].3 = tag;
        self.subject.set_tag(self.live[at].0, tag);
    }

    /// Compares the suballocator with the model.
    fn check(&self) {
        self.subject.validate().expect("valid");
        for &(key, block, offset, tag) in &self.live {
            let Region { size, kind, .. } = self.model.blocks[&block.0].regions[&offset];
            let info = RegionInfo { block, offset, size, kind };
            assert_eq!(self.subject.region(key), Some(info));
            assert_eq!(self.subject.tag(key), Some(tag));
        }
        let (mut walked, mut counted) = (Statistics::default(), Statistics::default());
        self.subject.count(&mut self.model.blocks.keys().map(|&it| BlockIndex(it)), &mut counted);
        for (&index, block) in &self.model.blocks {
            self.subject.visit_block(BlockIndex(index), &mut |view| match view.live {
                Some(_) => walked.add_allocation(view.size),
                None => walked.add_unused_range(view.size),
            });
            let (mut live, mut unused) = (Vec::new(), Vec::<(u64, u64)>::new());
            self.subject.visit_block(BlockIndex(index), &mut |view| match view.live {
                Some((key, kind)) => live.push((view.offset, view.size, key, kind)),
                None => {
                    let (start, end) = (view.offset, view.offset + view.size);
                    match unused.last_mut().filter(|last| last.1 == start) {
                        Some(last) if !self.promises.merges => last.1 = end,
                        _ => unused.push((start, end)),
                    }
                }
            });
            let expected: Vec<_> =
                block.regions.iter().map(|(&at, it)| (at, it.size, it.key, it.kind)).collect();
            assert_eq!(live, expected, "the walk over block {index}");
            assert_eq!(unused, block.gaps(), "the unused ranges of block {index}");
            let empty = self.subject.is_block_empty(BlockIndex(index));
            assert_eq!(empty, block.regions.is_empty());
        }
        assert_eq!(counted, walked, "counted in another order");
    }

    fn check_dead(&mut self) {
        for &key in &self.dead {
            assert_eq!(self.subject.region(key), None);
            assert_eq!(self.subject.tag(key), None);
            assert_eq!(self.subject.free(key), None);
            assert_eq!(self.subject.release(key), None);
            self.subject.set_tag(key, RegionTag { map_count: 9, ..RegionTag::default() });
        }
    }

    /// Frees all regions at once; their keys are stale then.
    fn clear(&mut self) {
        self.subject.clear();
        (self.released, self.told) = (0, 0);
        assert_eq!(self.subject.unreported(), 0);
        self.dead.extend(self.live.drain(..).map(|(key, ..)| key));
        self.model.blocks.values_mut().for_each(|block| block.regions.clear());
        self.check();
    }

    fn free_all(&mut self) {
        while !self.live.is_empty() {
            self.free(self.live.len() / 2);
        }
        self.check();
        for (&index, block) in &self.model.blocks {
            let mut seen = Vec::new();
            self.subject.visit_block(BlockIndex(index), &mut |view| {
                seen.push((view.offset, view.size, view.live));
            });
            if self.promises.merges {
                assert_eq!(seen, [(0, block.size, None)], "one range is left of an empty block");
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Allocate(request) => self.allocate(request),
            Step::Free(_) | Step::Tag(..) if self.live.is_empty() => {}
            Step::Free(which) => self.free(which.index(self.live.len())),
            Step::Tag(which, bits) => self.tag(which.index(self.live.len()), *bits),
            Step::AddBlock(size) => self.add_block(*size),
            Step::RemoveBlock(which) => self.remove_block(|empty| *which.get(empty)),
            Step::FreeAll => self.free_all(),
            Step::Clear => self.clear(),
            Step::Settle => self.subject.settle(),
        }
    }
}

pub fn run(promises: &'static Promises, program: &Program) {
    let mut pair = Pair::new(promises, program.granule, program.granularity);
    for step in &program.steps {
        pair.step(step);
        pair.check();
    }
    pair.check_dead();
    pair.check();
    pair.free_all();
    while !pair.model.blocks.is_empty() {
        pair.remove_block(|empty| empty[empty.len() / 2]);
    }
    pair.check();
}

fn random_request(random: &mut Random, strategies: &[Search], bits: u64) -> RegionRequest {
    RegionRequest {
        size: random.size(bits),
        alignment: 1 << random.below(random.0 % 17 + 1),
        kind: random.pick(&KINDS),
        upper: random.one_in(4),
        strategy: random.pick(strategies),
    }
}

/// Runs thousands of steps, with a full comparison only now and then.
pub fn run_long(promises: &'static Promises) {
    let mut random = Random(1);
    for &granularity in promises.granularities {
        let granule = random.pick(promises.granules);
        let mut pair = Pair::new(promises, granule, granularity);
        (0..12).for_each(|_| pair.add_block(1 << 20));
        for step in 0..6000_u64 {
            // Fills and empties in turns.
            let grows = step / 1000 % 2 == 0;
            match random.below(10) {
                it if pair.live.is_empty() || it < if grows { 7 } else { 3 } => {
                    let mut request = random_request(&mut random, promises.strategies, 16);
                    if granularity == 1 && random.one_in(4) {
                        request.alignment = 1 + random.size(7);
                    }
                    pair.allocate(&request);
                }
                9 if random.one_in(20) => pair.remove_block(|empty| empty[0]),
                9 if random.one_in(20) && pair.model.blocks.len() < 12 => {
                    pair.add_block(random.size(21));
                }
                _ => pair.free(random.below(pair.live.len() as u64) as usize),
            }
            if step % 50 == 0 {
                pair.check();
            }
        }
        pair.check_dead();
        pair.free_all();
    }
}

/// Thousands of unused ranges of which few suffice: what a bounded search may miss, and no more.
pub fn crowded(promises: &'static Promises) {
    // With ordinary alignments only pages of 64 KiB make ranges insufficient; with the largest ones
    // almost no range suffices. Each miss costs a new block, nothing worse.
    for (largest_alignment, allowed_percent) in [(256, 1), (1 << 16, 5)] {
        let mut random = Random(7);
        let (mut misses, mut requests) = (0, 0);
        for &granularity in promises.granularities {
            let mut pair = Pair::new(promises, promises.granules[0], granularity);
            (0..3).for_each(|_| pair.add_block(1 << 20));
            for _ in 0..2500 {
                let mut request = random_request(&mut random, promises.strategies, 12);
                request.alignment = request.alignment.min(64);
                pair.allocate(&request);
            }
            for _ in 0..pair.live.len() / 2 {
                pair.free(random.below(pair.live.len() as u64) as usize);
            }
            (pair.misses, pair.requests) = (0, 0);
            for _ in 0..600 {
                let mut request = random_request(&mut random, promises.strategies, 13);
                request.alignment = request.alignment.min(largest_alignment);
                pair.allocate(&request);
                if random.one_in(2) {
                    pair.free(random.below(pair.live.len() as u64) as usize);
                }
            }
            pair.check();
            misses += pair.misses;
            requests += pair.requests;
        }
        if promises.complete_among.is_some() {
            assert!(
                misses * 100 <= requests * allowed_percent,
                "{misses} of {requests} requests were missed, aligned to {largest_alignment}"
            );
        }
    }
}

pub fn refuses_to_remove(promises: &'static Promises) {
    let mut pair = Pair::new(promises, promises.granules[0], 1);
    pair.add_block(1 << 16);
    let request = RegionRequest {
        size: 64,
        alignment: 1,
        kind: Buffer,
        upper: false,
        strategy: Search::Balanced,
    };
    pair.allocate(&request);
    let block = pair.live[0].1;
    let removed = catch_unwind(AssertUnwindSafe(|| pair.subject.remove_block(block)));
    assert!(removed.is_err());
    pair.check();
    pair.free_all();
    pair.subject.remove_block(block);
}
