//! Defragmentation: blocks that are left, bytes that are moved, and the time that planning takes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ash::vk;
use vkmem_engine::{
    Allocation, AllocationId, AllocationRequest, Allocator, Defragmentation,
    DefragmentationAlgorithm, DefragmentationInfo, MoveEnd, MoveOutcome, PoolId,
};

use super::Effort;
use super::blocks::LOCAL_TYPE;
use super::contestant::ALIGNMENT;
use super::memory::{device, h200, plain, with_pool};
use crate::fake::FakeVulkan;
use crate::measure::{Figure, thread_time};
use crate::random::Random;
use crate::report::{Bar, Peer, Report};
use crate::vma;

/// Number of blocks that each trace fills.
const BLOCKS: u32 = 64;
/// Bytes of a block where the blocks that are left are counted.
const BLOCK: u64 = 8 << 20;
/// Moves of a pass of which the planning is timed.
const MOVES: u32 = 128;
/// The most bytes of a pass of those traces that limit them.
const PASS_BYTES: u64 = 16 << 20;

type Algorithms = (DefragmentationAlgorithm, vma::DefragmentationAlgorithm, &'static str);

const BALANCED: Algorithms =
    (DefragmentationAlgorithm::Balanced, vma::DefragmentationAlgorithm::Balanced, "balanced");
const FULL: Algorithms =
    (DefragmentationAlgorithm::Full, vma::DefragmentationAlgorithm::Full, "full");

/// Sizes of the allocations of a trace, in bytes.
#[derive(Clone, Copy)]
enum Sizes {
    LogUniform(u64, u64),
    Classes(&'static [u64]),
}

impl Sizes {
    fn draw(self, random: &mut Random) -> u64 {
        match self {
            Self::LogUniform(from, to) => random.log_uniform(from, to),
            Self::Classes(classes) => random.pick(classes),
        }
    }
}

/// A trace: blocks are filled, and a share of the allocations is freed at random.
#[derive(Clone, Copy)]
struct Trace {
    name: &'static str,
    sizes: Sizes,
    /// Percentage of the allocations that are freed.
    freed: u64,
}

const TRACES: [Trace; 3] = [
    Trace { name: "half freed", sizes: Sizes::LogUniform(4 << 10, 1 << 20), freed: 50 },
    Trace { name: "80 % freed", sizes: Sizes::LogUniform(4 << 10, 1 << 20), freed: 80 },
    Trace {
        name: "few sizes",
        sizes: Sizes::Classes(&[4 << 10, 64 << 10, 192 << 10, 1 << 20]),
        freed: 50,
    },
];

/// This project's allocator with a pool.
struct Ours {
    allocator: Allocator,
    pool: PoolId,
    live: Vec<Option<Allocation>>,
    /// Where each is in `live`.
    places: HashMap<AllocationId, usize>,
}

impl Ours {
    fn new(block: u64, blocks: u32) -> Self {
        let (allocator, pool) = with_pool(LOCAL_TYPE, block, blocks);
        Self { allocator, pool, live: Vec::new(), places: HashMap::new() }
    }

    fn allocate(&mut self, size: u64) -> bool {
        let mut request = AllocationRequest::of_memory(size, ALIGNMENT, &plain());
        request.create_info.pool = Some(self.pool);
        let made = self.allocator.allocate(&request).ok();
        self.places.extend(made.map(|it| (it.id, self.live.len())));
        self.live.extend(made.map(Some));
        made.is_some()
    }

    fn free(&mut self, at: usize) {
        let freed = self.live[at].take().expect("it is live");
        self.places.remove(&freed.id);
        drop(self.allocator.free(freed.id).expect("it is live"));
    }

    fn begin(
        &self,
        algorithm: DefragmentationAlgorithm,
        limits: vma::PassLimits,
    ) -> Defragmentation {
        let info = DefragmentationInfo {
            pool: Some(self.pool),
            algorithm,
            max_bytes_per_pass: limits.max_bytes,
            max_moves_per_pass: limits.max_moves,
            ..DefragmentationInfo::default()
        };
        self.allocator.begin_defragmentation(&info).expect("the pool is one")
    }

    /// Plans one pass and accepts all of its moves; returns their number and the time of planning, `None` if
    /// no more moves are possible.
    fn pass(&mut self, run: &mut Defragmentation) -> Option<(u32, Duration)> {
        let began = thread_time();
        let moves = self.allocator.next_pass(run, &|_| true);
        let planned = thread_time() - began;
        if moves.is_empty() {
            return None;
        }
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        let end = self.allocator.end_pass(run, &moves, &outcomes);
        for (it, ended) in moves.iter().zip(&end.ends) {
            if let (Some(at), MoveEnd::Moved(moved)) = (self.places.remove(&it.source.id), ended) {
                self.places.insert(moved.id, at);
                self.live[at] = Some(*moved);
            }
        }
        Some((moves.len() as u32, planned))
    }

    fn blocks(&self) -> usize {
        let memory: HashSet<_> = self.live.iter().flatten().map(|it| it.memory.0).collect();
        memory.len()
    }
}

/// VMA with a pool.
struct Vma {
    /// Dropped before the device that it uses.
    allocator: vma::Allocator,
    pool: vma::Pool,
    live: Vec<Option<vma::Allocation>>,
    // Boxed: VMA keeps its address.
    _fake: Box<FakeVulkan>,
}

impl Vma {
    fn new(block: u64, blocks: u32) -> Self {
        let fake = FakeVulkan::new(device(&h200()));
        let allocator = vma::Allocator::over(&fake, &vma::Options::default());
        let pool = allocator.create_pool(LOCAL_TYPE, block, (0, blocks as usize));
        Self { allocator, pool, live: Vec::new(), _fake: fake }
    }

    fn allocate(&mut self, size: u64) -> bool {
        let requirements = vk::MemoryRequirements {
            size,
            alignment: ALIGNMENT,
            memory_type_bits: 1 << LOCAL_TYPE,
        };
        let made = self.allocator.allocate_from(&requirements, &plain(), Some(self.pool)).ok();
        self.live.extend(made.map(Some));
        made.is_some()
    }

    fn free(&mut self, at: usize) {
        let freed = self.live[at].take().expect("it is live");
        // SAFETY: it is live, and was taken out of the list of those that are.
        unsafe { self.allocator.free(freed) }
    }

    fn blocks(&self) -> usize {
        let memory = self.live.iter().flatten().map(|&it| {
            // SAFETY: it is live.
            unsafe { self.allocator.place(it).0 }
        });
        memory.collect::<HashSet<_>>().len()
    }
}

impl Drop for Vma {
    fn drop(&mut self) {
        for at in 0..self.live.len() {
            if self.live[at].is_some() {
                self.free(at);
            }
        }
        // SAFETY: nothing of the pool is live any more.
        unsafe { self.allocator.destroy_pool(self.pool) }
    }
}

/// Both allocators after the same trace, and the bytes that are live.
fn after(trace: &Trace, block: u64, blocks: u32, most: usize, seed: u64) -> (Ours, Vma, u64) {
    let mut random = Random(seed);
    let (mut ours, mut theirs) = (Ours::new(block, blocks), Vma::new(block, blocks));
    let mut sizes = Vec::new();
    while sizes.len() < most {
        let size = trace.sizes.draw(&mut random);
        if !ours.allocate(size) {
            break;
        }
        if !theirs.allocate(size) {
            ours.free(sizes.len());
            break;
        }
        sizes.push(size);
    }
    let mut live = 0;
    for (at, size) in sizes.into_iter().enumerate() {
        if random.below(100) < trace.freed {
            ours.free(at);
            theirs.free(at);
        } else {
            live += size.next_multiple_of(ALIGNMENT);
        }
    }
    (ours, theirs, live)
}

/// What runs over the traces of some seeds have led to; the worst is reported.
#[derive(Default)]
struct Packed {
    blocks: Vec<(f64, f64)>,
    bytes: Vec<(f64, f64)>,
    /// Blocks beyond those that the live bytes need.
    more: Vec<f64>,
}

/// Returns the pair with the largest ratio.
fn worst(pairs: &[(f64, f64)]) -> (Figure, Figure) {
    let by_ratio = |a: &&(f64, f64), b: &&(f64, f64)| (a.0 / a.1).total_cmp(&(b.0 / b.1));
    let &(ours, theirs) = pairs.iter().max_by(by_ratio).expect("one seed at least");
    (Figure::exact(ours), Figure::exact(theirs))
}

/// Counts the blocks that are left and the bytes that are moved, in whole runs.
pub fn packing(report: &mut Report, effort: Effort) {
    report.section("defragmentation, 64 blocks of 8 MiB, the worst of some seeds");
    let seeds = if effort.quick { 1..=1 } else { 1..=3 };
    let limits = [("", 0), (", 16 MiB a pass", PASS_BYTES)];
    for trace in TRACES {
        for (algorithm, of_vma, name) in [BALANCED, FULL] {
            for (limited, max_bytes) in limits {
                let mut packed = Packed::default();
                for seed in seeds.clone() {
                    let limits = vma::PassLimits { max_bytes, max_moves: 0 };
                    let (mut ours, theirs, live) = after(&trace, BLOCK, BLOCKS, usize::MAX, seed);
                    let mut run = ours.begin(algorithm, limits);
                    while ours.pass(&mut run).is_some() {}
                    let done = ours.allocator.end_defragmentation(run);
                    let run =
                        theirs.allocator.begin_defragmentation(Some(theirs.pool), of_vma, limits);
                    let their_done = run.expect("it begins").run();
                    let left = ours.blocks() as f64;
                    packed.blocks.push((left, theirs.blocks() as f64));
                    packed.bytes.push((done.bytes_moved as f64, their_done.bytes_moved as f64));
                    packed.more.push(left - live.div_ceil(BLOCK) as f64);
                }
                let n = u64::from(BLOCKS);
                let case = |what: &str| format!("{what}: {}, {name}{limited}", trace.name);
                let (ours, theirs) = worst(&packed.blocks);
                let peer = Peer::new("vma", &theirs).at_most(1.0);
                report.add(&case("left"), n, "blocks", &ours, &[peer]);
                let most = packed.more.iter().copied().fold(f64::MIN, f64::max);
                let bar = Some(Bar::AtMost(1.0));
                let more = Figure::exact(most);
                report.add_with_bar(&case("beyond need"), n, "blocks", &more, bar, &[]);
                let (ours, theirs) = worst(&packed.bytes);
                let peer = Peer::new("vma", &theirs).at_most(1.0);
                report.add(&case("moved"), n, "B", &ours, &[peer]);
            }
        }
    }
}

/// Times the planning of passes of some moves among many live allocations.
pub fn planning(report: &mut Report, effort: Effort) {
    report.section("defragmentation, planning a pass of 128 moves");
    let (live, passes) = if effort.quick { (10_000, 32) } else { (100_000, 200) };
    let trace = Trace { name: "half freed", sizes: Sizes::LogUniform(256, 64 << 10), freed: 50 };
    for (algorithm, of_vma, name) in [BALANCED, FULL] {
        let limits = vma::PassLimits { max_bytes: 0, max_moves: MOVES };
        let (mut ours, theirs, _) = after(&trace, 32 << 20, 0, 2 * live, super::blocks::SEED);
        let mut run = ours.begin(algorithm, limits);
        let their_run = theirs.allocator.begin_defragmentation(Some(theirs.pool), of_vma, limits);
        let mut their_run = their_run.expect("it begins");
        let (mut times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..passes {
            let (Some(pass), Some(their_pass)) = (ours.pass(&mut run), their_run.pass()) else {
                break;
            };
            let microseconds = |time: Duration| time.as_nanos() as f64 / 1000.0;
            times.push(microseconds(pass.1));
            their_times.push(microseconds(their_pass.1));
        }
        let _ = ours.allocator.end_defragmentation(run);
        their_run.end();
        let n = live as u64;
        let millisecond = Some(Bar::AtMost(1000.0));
        let (figure, their_figure) = (Figure::of(times), Figure::of(their_times));
        let peers = [Peer::new("vma", &their_figure).at_most(0.2)];
        report.add(&format!("a pass, {name}"), n, "us", &figure, &peers);
        let (slowest, theirs) = (Figure::exact(figure.high), Figure::exact(their_figure.high));
        let peers = [Peer::new("vma", &theirs).at_most(0.2)];
        let case = format!("the slowest pass, {name}");
        report.add_with_bar(&case, n, "us", &slowest, millisecond, &peers);
    }
}
