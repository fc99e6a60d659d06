//! Many blocks: their cost, and the number of blocks that a changing working set holds.

use std::cell::RefCell;
use std::sync::Arc;

use vkmem_engine::{AllocatorOptions, SimulatedDevice};

use super::Effort;
use super::memory::{Churn, GpuAllocator, Memory, Ours, Vma, device, h200};
use crate::measure::{Figure, Round, in_turns};
use crate::random::Random;
use crate::report::{Bar, Peer, Report};
use crate::vma;

/// A memory type that is only device-local, on the H200.
pub const LOCAL_TYPE: u32 = 1;
/// Seed of all traces here.
pub const SEED: u64 = 3;
/// Smallest and largest size in bytes of allocations in one block or in many; the mean is 11.6 KiB.
pub const SIZES: (u64, u64) = (256, 64 << 10);
/// Size in bytes of a block of many, which holds about ten allocations.
pub const BLOCK: u64 = 160 << 10;

fn turn<'a, M: Memory>(churn: &'a RefCell<Churn<'_, M>>, pairs: usize) -> Round<'a> {
    let mut plans: Vec<_> = (0..16).map(|_| churn.borrow_mut().plan(pairs)).collect();
    Box::new(move || churn.borrow_mut().run(&plans.pop().expect("at most 16 rounds")))
}

/// Measures free + allocate of memory in the default pools, where `gpu-allocator` can take part.
pub fn pairs(report: &mut Report, effort: Effort) {
    report.section("free + allocate of bare memory, one type, default blocks");
    let counts: &[usize] = if effort.quick { &[1_000, 10_000] } else { &[1_000, 10_000, 100_000] };
    let (rounds, pairs) = if effort.quick { (5, 10_000) } else { (9, 50_000) };
    let (types, range) = (1 << LOCAL_TYPE, (256, 2 << 20));
    for &n in counts {
        let ours = Ours::new(device(&h200()), &AllocatorOptions::default());
        let theirs = Vma::new(device(&h200()), &vma::Options::default());
        let third = GpuAllocator::new(device(&h200()));
        let ours = RefCell::new(Churn::new(&ours, n, types, range, SEED));
        let theirs = RefCell::new(Churn::new(&theirs, n, types, range, SEED));
        // It searches its free ranges linearly: with 10,000 live it takes a minute.
        let third = (n <= 1_000).then(|| RefCell::new(Churn::new(&third, n, types, range, SEED)));
        let mut contestants = vec![turn(&ours, pairs), turn(&theirs, pairs)];
        contestants.extend(third.iter().map(|it| turn(it, pairs / 10)));
        let figures = in_turns(rounds, &mut contestants);
        let mut peers = vec![Peer::new("vma default", &figures[1]).at_most(1.0)];
        peers.extend(figures.get(2).map(|it| Peer::new("gpu-allocator", it).at_most(1.0)));
        report.add("pair, default blocks", n as u64, "ns", &figures[0], &peers);
    }
}

/// Measures the same allocations in one block and in ten thousand blocks of the same total size.
pub fn growth(report: &mut Report, effort: Effort) {
    report.section("free + allocate of bare memory, one pool: the same in 1 block and in many");
    let (live, many) = if effort.quick { (10_000, 1_000) } else { (100_000, 10_000) };
    let (rounds, pairs) = if effort.quick { (5, 10_000) } else { (15, 50_000) };
    let total = BLOCK * u64::from(many);
    let info = h200();
    let shapes = [(total, 1), (BLOCK, many)];
    let ours = shapes.map(|(size, count)| {
        Ours::new(device(&info), &AllocatorOptions::default()).in_pool(LOCAL_TYPE, size, count)
    });
    let theirs = shapes.map(|(size, count)| {
        Vma::new(device(&info), &vma::Options::default()).in_pool(LOCAL_TYPE, size, count)
    });
    let ours =
        ours.each_ref().map(|it| RefCell::new(Churn::new(it, live, 1 << LOCAL_TYPE, SIZES, SEED)));
    let theirs = theirs
        .each_ref()
        .map(|it| RefCell::new(Churn::new(it, live, 1 << LOCAL_TYPE, SIZES, SEED)));
    for it in &ours {
        let warm = it.borrow_mut().plan(live);
        it.borrow_mut().run(&warm);
    }
    let mut contestants = [
        turn(&ours[0], pairs),
        turn(&ours[1], pairs),
        turn(&theirs[0], pairs),
        // VMA searches its blocks linearly: fewer pairs, or this would take minutes.
        turn(&theirs[1], pairs / 50),
    ];
    let figures = in_turns(rounds, &mut contestants);
    let (one, of_many) = (&figures[0], &figures[1]);
    report.add("pair, 1 block", live as u64, "ns", one, &[Peer::new("vma default", &figures[2])]);
    let case = format!("pair, {many} blocks");
    let peers =
        [Peer::new("ours in 1 block", one).at_most(1.5), Peer::new("vma default", &figures[3])];
    report.add(&case, live as u64, "ns", of_many, &peers);
}

/// One step of a changing working set: resources are loaded, streamed and unloaded.
#[derive(Clone, Copy)]
enum TraceStep {
    /// Allocates this many bytes.
    Allocate(u64),
    /// Frees one of the live allocations, selected by a number.
    Free(u64),
}

/// Returns the steps of levels that are loaded, streamed through, and unloaded except for a tenth, and
/// the range of steps of each unload.
fn day(levels: usize, bytes: u64) -> (Vec<TraceStep>, Vec<(usize, usize)>) {
    let mut random = Random(SEED);
    let (mut steps, mut unloads) = (Vec::new(), Vec::new());
    let mut live: Vec<u64> = Vec::new();
    let size = |random: &mut Random| match random.below(100) {
        // Mostly meshes and small buffers, some textures, few render targets.
        0..80 => random.log_uniform(256, 2 << 20),
        80..98 => random.log_uniform(1 << 20, 24 << 20),
        _ => random.log_uniform(16 << 20, 96 << 20),
    };
    for _ in 0..levels {
        let mut held: u64 = live.iter().sum();
        while held < bytes {
            let size = size(&mut random);
            steps.push(TraceStep::Allocate(size));
            live.push(size);
            held += size;
        }
        for _ in 0..4 * live.len() {
            // Within a tenth of the bytes that were loaded.
            if held > bytes || (held * 10 > bytes * 9 && random.below(2) == 0) {
                let at = random.below(live.len() as u64);
                held -= live.swap_remove(at as usize);
                steps.push(TraceStep::Free(at));
            } else {
                let size = size(&mut random);
                live.push(size);
                held += size;
                steps.push(TraceStep::Allocate(size));
            }
        }
        let start = steps.len();
        for _ in 0..live.len() * 9 / 10 {
            let at = random.below(live.len() as u64);
            live.swap_remove(at as usize);
            steps.push(TraceStep::Free(at));
        }
        unloads.push((start, steps.len()));
    }
    (steps, unloads)
}

/// Returns the bytes held after each step.
fn live_through<M: Memory>(memory: &M, device: &SimulatedDevice, steps: &[TraceStep]) -> Vec<u64> {
    let heap = h200().heap_of(LOCAL_TYPE);
    let mut live = Vec::new();
    let mut held = Vec::with_capacity(steps.len());
    for step in steps {
        match *step {
            TraceStep::Allocate(size) => {
                live.push(memory.allocate(size, 1 << LOCAL_TYPE).expect("there is room"));
            }
            TraceStep::Free(at) => memory.free(live.swap_remove(at as usize)),
        }
        held.push(device.live_bytes(heap));
    }
    live.into_iter().for_each(|it| memory.free(it));
    held
}

/// Measures block bytes over live bytes, and when blocks are freed.
pub fn day_in_the_life(report: &mut Report, effort: Effort) {
    report.section("a day of loading, streaming and unloading: bytes held in blocks of 256 MiB");
    let (levels, bytes) = if effort.quick { (2, 4 << 30) } else { (6, 16 << 30) };
    let (steps, unloads) = day(levels, bytes);
    let (mut live, mut sizes) = (Vec::with_capacity(steps.len()), Vec::new());
    let mut sum = 0;
    for step in &steps {
        match *step {
            TraceStep::Allocate(size) => {
                sizes.push(size);
                sum += size;
            }
            TraceStep::Free(at) => sum -= sizes.swap_remove(at as usize),
        }
        live.push(sum);
    }
    let devices: [Arc<SimulatedDevice>; 3] = std::array::from_fn(|_| device(&h200()));
    let ours = Ours::new(devices[0].clone(), &AllocatorOptions::default());
    let ours = live_through(&ours, &devices[0], &steps);
    let theirs = Vma::new(devices[1].clone(), &vma::Options::default());
    let theirs = live_through(&theirs, &devices[1], &steps);
    let third = live_through(&GpuAllocator::new(devices[2].clone()), &devices[2], &steps);

    let unloading = |at: &usize| unloads.iter().any(|(start, end)| (*start..*end).contains(at));
    let mean = |held: &[u64], unload: bool| {
        let all: Vec<usize> = (0..steps.len()).filter(|at| unloading(at) == unload).collect();
        let held: u128 = all.iter().map(|at| u128::from(held[*at])).sum();
        let live: u128 = all.iter().map(|at| u128::from(live[*at])).sum();
        Figure::exact(held as f64 / live as f64)
    };
    let n = steps.len() as u64;
    let phases =
        [("held over live, load and stream", false), ("held over live, while unloading", true)];
    for (case, phase) in phases {
        let peers = [
            Peer::new("vma default", &mean(&theirs, phase)).at_most(1.0),
            Peer::new("gpu-allocator", &mean(&third, phase)),
        ];
        report.add(case, n, "x", &mean(&ours, phase), &peers);
    }
    let after = |held: &[u64]| {
        let sum: u64 = unloads.iter().map(|(_, end)| held[end - 1]).sum();
        Figure::exact(sum as f64 / unloads.len() as f64 / (1 << 20) as f64)
    };
    let peers = [
        Peer::new("vma default", &after(&theirs)).at_most(1.0),
        Peer::new("gpu-allocator", &after(&third)),
    ];
    report.add("held after unloading", n, "MiB", &after(&ours), &peers);
    let behind = unloads.iter().flat_map(|(start, end)| *start..*end);
    let (steps, late) = behind.fold((0_u64, 0_u64), |(steps, late), at| {
        (steps + 1, late + u64::from(ours[at] > theirs[at]))
    });
    let share = Figure::exact(100.0 * late as f64 / steps as f64);
    let case = "frees while unloading with more held";
    report.add_with_bar(case, n, "%", &share, Some(Bar::AtMost(0.0)), &[]);
}
