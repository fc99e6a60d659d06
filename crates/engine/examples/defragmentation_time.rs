//! Measures how long a pass of 128 moves takes to plan among 100,000 live allocations:
//! `cargo run --release -p vkmem-engine --example defragmentation_time`. With `--features lock-times` also how long
//! the lock of the pool is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, Allocator, AllocatorOptions,
    DefragmentationAlgorithm as Way, DefragmentationInfo, MoveOutcome, ResourceKind,
    SimulatedDevice, profile_info,
};

fn main() {
    for way in Way::ALL {
        let runs: Vec<Holds> = (0..RUNS).map(|_| measure(way)).collect();
        for (at, what) in ["planned", "ended"].into_iter().enumerate() {
            print_holds(what, runs.iter().map(|run| &run[at][..]).collect());
        }
    }
}

/// Runs of each algorithm. They do the same, so the shortest time of each pass is that without other processes on
/// its core.
const RUNS: usize = if cfg!(feature = "lock-times") { 7 } else { 1 };

/// The longest time that the lock of the pool was held while each pass was planned, and while it was ended.
type Holds = [Vec<Duration>; 2];

fn print_holds(what: &str, runs: Vec<&[Duration]>) {
    let passes = runs.iter().map(|run| run.len()).min().unwrap_or(0);
    let shortest = |pass: usize| runs.iter().map(|run| run[pass]).min().unwrap_or_default();
    let mut holds: Vec<Duration> = (0..passes).map(shortest).collect();
    holds.sort_unstable();
    if let [.., longest] = holds[..] {
        let median = holds[passes / 2];
        let over = holds.iter().filter(|it| it.as_micros() >= 50).count();
        println!(
            "  lock of the pool while a pass is {what}: median {median:?}, longest {longest:?}, 50 us or more in {over} of \
             {passes} passes",
        );
    }
}

fn measure(way: Way) -> Holds {
    let device = Arc::new(SimulatedDevice::new(profile_info("nvidia-h200").expect("a profile")));
    let options = AllocatorOptions::default();
    let allocator = Allocator::new(device, &options).expect("an allocator");
    let mut state = 1u64;
    let mut random = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % end
    };
    let create_info = AllocationCreateInfo::default();
    let mut all = Vec::new();
    for _ in 0..200_000 {
        let size = 256 + 256 * random(255);
        let mut request = AllocationRequest::of_memory(size, 256, &create_info);
        request.kind = ResourceKind::Buffer;
        all.push(allocator.allocate(&request).expect("there is room"));
    }
    let mut live = 0;
    for it in &all {
        if random(2) == 0 {
            drop(allocator.free(it.id).expect("it lives"));
        } else {
            live += 1;
        }
    }
    let info = DefragmentationInfo {
        algorithm: way,
        max_moves_per_pass: 128,
        ..DefragmentationInfo::default()
    };
    let before = allocator.statistics().block_count;
    let mut run = allocator.begin_defragmentation(&info).expect("it can be");
    let mut times: Vec<Duration> = Vec::new();
    let mut last = Duration::ZERO;
    let mut holds = [Vec::new(), Vec::new()];
    note_hold(&mut Vec::new());
    loop {
        let start = Instant::now();
        let moves = allocator.next_pass(&mut run, &|_| true);
        let time = start.elapsed();
        note_hold(&mut holds[0]);
        if moves.is_empty() {
            last = last.max(time);
            break;
        }
        times.push(time);
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        drop(allocator.end_pass(&mut run, &moves, &outcomes).releases);
        note_hold(&mut holds[1]);
    }
    let done = allocator.end_defragmentation(run);
    let after = allocator.statistics().block_count;
    let first = times.first().copied().unwrap_or_default();
    times.sort_unstable();
    println!(
        "{way:?}: {live} live, {before} blocks -> {after}; {} moves in {} passes; first {first:?}, median {:?}, \
         longest {:?}, the empty one at the end {last:?}",
        done.allocations_moved,
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
    );
    holds
}

/// Adds the longest time that this thread held the lock of a pool since the last call, if that is measured.
fn note_hold(holds: &mut Vec<Duration>) {
    #[cfg(feature = "lock-times")]
    holds.push(vkmem_engine::lock::take_longest::<vkmem_engine::lock::rank::Arena>());
    let _ = holds;
}
