//! Eight threads on the cores that there are.

use std::sync::Barrier;
use std::time::Instant;

use vkmem_engine::{AllocatorOptions, DeviceInfo, MemoryType};

use super::Effort;
use super::memory::{Churn, GpuAllocator, Memory, Ours, Vma, device, h200};
use crate::measure::Figure;
use crate::report::{Peer, Report};
use crate::vma;

const THREADS: u32 = 8;
const LIVE: usize = 1_000;

/// Describes a device with a device-local type for each thread.
fn eight_types() -> DeviceInfo {
    let info = h200();
    let local = info.types[1];
    let types = vec![MemoryType { heap_index: 0, ..local }; THREADS as usize];
    DeviceInfo { types, ..info }
}

/// Returns nanoseconds per pair of all threads together.
fn round<M: Memory>(memory: &M, shared: bool, pairs: usize, seed: u64) -> f64 {
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let types = if shared { 1 } else { 1 << thread };
                    let seed = seed + u64::from(thread);
                    let mut churn = Churn::new(memory, LIVE, types, (256, 2 << 20), seed);
                    let plan = churn.plan(pairs);
                    barrier.wait();
                    let start = Instant::now();
                    churn.run(&plan);
                    let end = Instant::now();
                    // Freeing everything must not disturb threads that are still measuring.
                    barrier.wait();
                    (start, end)
                })
            })
            .collect();
        let times: Vec<_> =
            threads.into_iter().map(|it| it.join().expect("it does not panic")).collect();
        let start = times.iter().map(|it| it.0).min().expect("some threads");
        let end = times.iter().map(|it| it.1).max().expect("some threads");
        let taken = end.duration_since(start);
        taken.as_nanos() as f64 / (pairs as f64 * f64::from(THREADS))
    })
}

/// Measures with one memory type for each thread, and with one for all.
pub fn throughput(report: &mut Report, effort: Effort) {
    report.section("8 threads, 1,000 live each, free + allocate of bare memory: time a pair");
    let (rounds, pairs) = if effort.quick { (5, 10_000) } else { (9, 50_000) };
    for (case, shared) in [("own memory types", false), ("one shared memory type", true)] {
        let info = eight_types();
        let ours = Ours::new(device(&info), &AllocatorOptions::default());
        let theirs = Vma::new(device(&info), &vma::Options::default());
        let third = GpuAllocator::new(device(&info));
        let mut taken = [const { Vec::new() }; 3];
        for seed in 0..rounds {
            taken[0].push(round(&ours, shared, pairs, seed));
            taken[1].push(round(&theirs, shared, pairs, seed));
            taken[2].push(round(&third, shared, pairs / 10, seed));
        }
        let [ours, theirs, third] = taken.map(Figure::of);
        let peers =
            [Peer::new("vma default", &theirs).at_most(1.0), Peer::new("gpu-allocator", &third)];
        report.add(case, u64::from(THREADS), "ns", &ours, &peers);
    }
}
