//! Measures how long a pass of 128 moves takes to plan among 100,000 live allocations:
//! `cargo run --release -p vkmem-engine --example defragmentation_time`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, Allocator, AllocatorOptions,
    DefragmentationAlgorithm as Way, DefragmentationInfo, MoveOutcome, ResourceKind,
    SimulatedDevice, profile_info,
};

fn main() {
    for way in Way::ALL {
        measure(way);
    }
}

fn measure(way: Way) {
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
    loop {
        let start = Instant::now();
        let moves = allocator.next_pass(&mut run, &|_| true);
        let time = start.elapsed();
        if moves.is_empty() {
            last = last.max(time);
            break;
        }
        times.push(time);
        let outcomes = vec![MoveOutcome::Copy; moves.len()];
        drop(allocator.end_pass(&mut run, &moves, &outcomes).releases);
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
}
