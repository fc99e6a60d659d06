//! Eviction: what it costs to take allocations away and to touch them, and how often a cache hits.

use std::collections::{BTreeMap, HashMap};

use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationRequest, Allocator, Evictable, PoolId,
};

use super::Effort;
use super::blocks::LOCAL_TYPE;
use super::contestant::ALIGNMENT;
use super::memory::{plain, with_pool};
use crate::measure::{Figure, thread_time};
use crate::random::Random;
use crate::report::{Bar, Peer, Report};

const KIB: u64 = 1 << 10;
/// Bytes of a block.
const BLOCK: u64 = 64 << 20;

/// A resource as its owner keeps it.
type Resource = (Allocation, Evictable);

/// An allocator with a pool whose allocations may be lost.
struct Pool {
    allocator: Allocator,
    pool: PoolId,
    frame: u64,
}

impl Pool {
    fn new(block: u64, blocks: u32) -> Self {
        let (allocator, pool) = with_pool(LOCAL_TYPE, block, blocks);
        Self { allocator, pool, frame: 0 }
    }

    fn next_frame(&mut self) {
        self.frame += 1;
        self.allocator.set_frame(self.frame);
    }

    fn make(&self, size: u64) -> Option<Resource> {
        let mut request = AllocationRequest::of_memory(size, ALIGNMENT, &plain());
        request.create_info.pool = Some(self.pool);
        request.create_info.flags = Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
        let made = self.allocator.allocate(&request).ok()?;
        let evictable = self.allocator.make_evictable(&made, 0.5).expect("host memory");
        Some((made, evictable))
    }
}

/// Times requests that take ten allocations away among many, and touches.
pub fn costs(report: &mut Report, effort: Effort) {
    report.section("eviction: 64 KiB each; a request that takes ten away, and touches");
    let live: usize = if effort.quick { 100_000 } else { 1_000_000 };
    let requests = if effort.quick { 100 } else { 1_000 };
    const SIZE: u64 = 64 * KIB;
    for shuffled in [false, true] {
        let blocks = (live as u64 * SIZE).div_ceil(BLOCK) as u32;
        let mut pool = Pool::new(BLOCK, blocks);
        let most = (u64::from(blocks) * BLOCK / SIZE) as usize;
        let all: Vec<Resource> = (0..most).map(|_| pool.make(SIZE).expect("room")).collect();
        let mut order: Vec<usize> = (0..most).collect();
        if shuffled {
            let mut random = Random(super::blocks::SEED);
            for at in (1..most).rev() {
                order.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        for of_frame in order.chunks(1_000) {
            pool.next_frame();
            assert!(of_frame.iter().all(|&at| all[at].1.touch()));
        }
        let mut times = Vec::new();
        let mut made = Vec::new();
        for _ in 0..requests {
            pool.next_frame();
            let began = thread_time();
            made.push(pool.make(10 * SIZE).expect("ten can go"));
            times.push((thread_time() - began).as_nanos() as f64 / 1000.0);
        }
        let lost = all.iter().filter(|it| it.1.is_lost()).count();
        let what = if shuffled { "in random order" } else { "in order" };
        let figure = Figure::of(times);
        let bar = Some(Bar::AtMost(50.0));
        report.add_with_bar(&format!("ten, used {what}"), live as u64, "us", &figure, bar, &[]);
        let taken = Figure::exact(lost as f64 / requests as f64);
        let bar = Some(Bar::AtMost(10.0));
        report.add_with_bar(&format!("taken, used {what}"), live as u64, "", &taken, bar, &[]);
        if shuffled {
            touches(report, &mut pool, all);
        }
    }
}

/// Times touches of a thousand allocations that were made far apart.
fn touches(report: &mut Report, pool: &mut Pool, all: Vec<Resource>) {
    const ROUNDS: u32 = 1_000;
    let live: Vec<Evictable> =
        all.into_iter().map(|it| it.1).filter(|evictable| !evictable.is_lost()).collect();
    let step = live.len() / 1_000;
    let of: Vec<Evictable> = live.into_iter().step_by(step).take(1_000).collect();
    for (case, frames) in [("a touch", ROUNDS), ("a touch in a new frame", 1)] {
        let mut times = Vec::new();
        for _ in 0..9 {
            let began = thread_time();
            for round in 0..ROUNDS {
                if round % frames == 0 {
                    pool.next_frame();
                }
                let all = of.iter().filter(|it| it.touch()).count();
                assert_eq!(all, of.len());
            }
            let touches = f64::from(ROUNDS) * of.len() as f64;
            times.push((thread_time() - began).as_nanos() as f64 / touches);
        }
        let bar = Some(Bar::AtMost(10.0));
        let figure = Figure::of(times);
        report.add_with_bar(case, of.len() as u64, "ns", &figure, bar, &[]);
    }
}

/// What is drawn with a Zipf distribution: the item of rank r with a weight of r^-0.9.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(items: usize) -> Self {
        let mut sum = 0.0;
        let weights = (1..=items).map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        });
        Self { sums: weights.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let all = self.sums[self.sums.len() - 1];
        let at = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * all;
        self.sums.partition_point(|&sum| sum <= at).min(self.sums.len() - 1)
    }
}

/// Runs a trace in a cache on this project's allocator; returns the number of hits. Each touch is a frame.
fn our_hits(trace: &[usize], sizes: &[u64], block: u64, blocks: u32) -> u64 {
    let mut pool = Pool::new(block, blocks);
    let mut cache: Vec<Option<Resource>> = sizes.iter().map(|_| None).collect();
    let mut hits = 0;
    for &item in trace {
        pool.next_frame();
        if cache[item].as_ref().is_some_and(|it| it.1.touch()) {
            hits += 1;
        } else {
            cache[item] = None;
            cache[item] = pool.make(sizes[item]);
        }
    }
    hits
}

/// Runs a trace in an exact least-recently-used cache, in which every free byte is of use.
fn exact_hits(trace: &[usize], sizes: &[u64], budget: u64) -> u64 {
    let mut by_use: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last_use: HashMap<usize, usize> = HashMap::new();
    let (mut hits, mut used) = (0, 0);
    for (now, &item) in trace.iter().enumerate() {
        if let Some(before) = last_use.insert(item, now) {
            hits += 1;
            by_use.remove(&before);
        } else {
            used += sizes[item];
        }
        by_use.insert(now, item);
        while used > budget {
            let (_, gone) = by_use.pop_first().expect("something is used");
            last_use.remove(&gone);
            used -= sizes[gone];
        }
    }
    hits
}

/// A cache in blocks from which VMA 2.3's rule evicts: of all runs of neighbours that leave room, that with the fewest
/// victim bytes plus 1 MiB for each victim.
struct VmaRule {
    block: u64,
    /// Offset, size and item in each block, by offset.
    blocks: Vec<Vec<(u64, u64, usize)>>,
}

impl VmaRule {
    /// Finds the cheapest place: block, the run of victims, and the offset.
    fn place(&self, size: u64) -> Option<(usize, std::ops::Range<usize>, u64)> {
        let mut best: Option<(u64, usize, std::ops::Range<usize>, u64)> = None;
        for (number, regions) in self.blocks.iter().enumerate() {
            let (mut end, mut bytes) = (0, 0);
            for first in 0..=regions.len() {
                let start =
                    if first == 0 { 0 } else { regions[first - 1].0 + regions[first - 1].1 };
                end = end.max(first);
                let limit = |end: usize| regions.get(end).map_or(self.block, |it| it.0);
                while limit(end) < start + size && end < regions.len() {
                    bytes += regions[end].1;
                    end += 1;
                }
                if limit(end) >= start + size {
                    let cost = bytes + ((end - first) as u64 * (1 << 20));
                    if best.as_ref().is_none_or(|it| cost < it.0) {
                        best = Some((cost, number, first..end, start));
                    }
                }
                if end > first {
                    bytes -= regions[first].1;
                }
            }
        }
        best.map(|(_, number, run, start)| (number, run, start))
    }

    fn hits(trace: &[usize], sizes: &[u64], block: u64, blocks: u32) -> u64 {
        let blocks = (0..blocks).map(|_| Vec::new()).collect();
        let mut cache = Self { block, blocks };
        let mut is_there = vec![false; sizes.len()];
        let mut hits = 0;
        for &item in trace {
            if is_there[item] {
                hits += 1;
                continue;
            }
            let Some((number, run, offset)) = cache.place(sizes[item]) else { continue };
            let placed = (offset, sizes[item], item);
            for gone in cache.blocks[number].splice(run, [placed]) {
                is_there[gone.2] = false;
            }
            is_there[item] = true;
        }
        hits
    }
}

/// Compares the hits of a cache of half of what is used with those of an exact one, and of VMA's rule.
pub fn hits(report: &mut Report, effort: Effort) {
    report.section(
        "eviction: hits of a cache of half of all items, Zipf distribution with exponent 0.9",
    );
    let touches = if effort.quick { 100_000 } else { 1_000_000 };
    const ITEMS: usize = 4_096;
    const OF_BLOCK: u64 = 16 << 20;
    for (name, from, to) in [("one size", 64 * KIB, 64 * KIB), ("4 KiB to 1 MiB", 4 * KIB, 1 << 20)]
    {
        let mut random = Random(super::blocks::SEED);
        let zipf = Zipf::new(ITEMS);
        let size = |random: &mut Random| match from == to {
            true => from,
            false => random.log_uniform(from, to).next_multiple_of(ALIGNMENT),
        };
        let sizes: Vec<u64> = (0..ITEMS).map(|_| size(&mut random)).collect();
        let trace: Vec<usize> = (0..touches).map(|_| zipf.draw(&mut random)).collect();
        let blocks = (sizes.iter().sum::<u64>() / 2 / OF_BLOCK) as u32;
        let ours = our_hits(&trace, &sizes, OF_BLOCK, blocks);
        let exact = exact_hits(&trace, &sizes, u64::from(blocks) * OF_BLOCK);
        let theirs = VmaRule::hits(&trace, &sizes, OF_BLOCK, blocks);
        let [ours, exact, theirs] = [ours, exact, theirs].map(|it| Figure::exact(it as f64));
        let peers = [
            Peer::new("exact LRU", &exact).at_least(0.98),
            Peer::new("VMA's rule", &theirs).at_least(1.0),
        ];
        report.add(&format!("hits, {name}"), touches as u64, "", &ours, &peers);
    }
}
