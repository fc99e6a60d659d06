//! Statistics: both count the same after the same trace.
//!
//! Allocations and their bytes are compared exactly, per type. Blocks are compared where the policies
//! agree: in pools with a block size and in default blocks, for equal sizes that fill them. With other
//! sizes the placement decides which block is full and which becomes empty. With a preferred block size
//! the policies differ: VMA's first blocks are smaller even then, ours have the requested size. Unused
//! ranges depend on the placement and are not compared. VMA counts sizes rounded up to pages of up to 256
//! bytes (`bufferImageGranularity`), we count requested sizes, so sizes are multiples there.

mod common;

use common::trace::{Both, Outcome, wishes};
use common::{random_device, rounds};
use vkmem_engine::{MemoryHeapFlags, MemoryPropertyFlags, Statistics, simulated_info};
use vkmem_peers::random::Random;
use vkmem_peers::vma::DetailedStatistics;

fn assert_same_allocations(ours: &Statistics, theirs: &DetailedStatistics, what: &str) {
    let counts = |count: u64, bytes: u64, min: u64, max: u64| (count, bytes, min, max);
    assert_eq!(
        counts(
            ours.allocation_count,
            ours.allocation_bytes,
            ours.allocation_size_min,
            ours.allocation_size_max
        ),
        counts(
            u64::from(theirs.allocation_count),
            theirs.allocation_bytes,
            theirs.allocation_size_min,
            theirs.allocation_size_max
        ),
        "{what}"
    );
}

#[test]
fn the_same_allocations_after_the_same_trace() {
    let mut random = Random(201);
    let (mut steps, mut compared_types) = (0_u64, 0_u64);
    for _ in 0..rounds(300) {
        let mut info = random_device(&mut random);
        info.limits.max_memory_allocation_count = 4096;
        let mut both = Both::new(&info, 0);
        let types = info.types.len() as u32;
        for _ in 0..200 {
            steps += 1;
            if both.live.len() > 100 || (!both.live.is_empty() && random.below(3) == 0) {
                both.free_any(&mut random);
                continue;
            }
            let page = info.limits.buffer_image_granularity;
            let size = random.log_uniform(1, 4 << 20);
            let size = if page <= 256 { size.next_multiple_of(page) } else { size };
            let bits = random.bits() as u32 & (u32::MAX >> (32 - types));
            let alignment = 1 << random.below(13);
            let outcome = both.allocate(size, alignment, bits, &wishes());
            // Which type is used when one is full is tested elsewhere.
            assert!(matches!(outcome, Outcome::Both | Outcome::Neither | Outcome::OnlyTheirs));
        }
        // If VMA chooses a type that we never use unless requested, the counts of types differ.
        let plain = vkmem_engine::MemoryPropertyFlags::PROTECTED
            | vkmem_engine::MemoryPropertyFlags::LAZILY_ALLOCATED;
        let statistics = both.theirs.statistics();
        let differing = info.types.iter().any(|it| it.flags.intersects(plain));
        if !differing {
            for index in 0..types {
                compared_types += 1;
                let theirs = statistics.memory_type(index as usize);
                let what = format!("type {index} of {info:?}");
                assert_same_allocations(&both.ours.statistics_of_type(index), &theirs, &what);
            }
        }
        let (ours, theirs) = (both.ours.statistics(), statistics.total());
        assert_same_allocations(&ours, &theirs, "total");
        both.finish();
    }
    println!("{steps} steps, {compared_types} types compared");
    assert!(compared_types > 0);
}

/// Compares equal sizes that fill their blocks: wherever they are placed, the number of blocks is the
/// same.
fn assert_same_blocks(random: &mut Random, mut both: Both, size: u64, count: u64, one_size: bool) {
    let blocks = |both: &Both| {
        let (ours, theirs) = (both.ours.statistics(), both.theirs.statistics().total());
        assert_eq!(
            (ours.block_count, ours.block_bytes, ours.allocation_bytes, ours.unused_range_count),
            (
                u64::from(theirs.block_count),
                theirs.block_bytes,
                theirs.allocation_bytes,
                u64::from(theirs.unused_range_count)
            ),
        );
    };
    for _ in 0..count {
        assert_eq!(both.allocate(size, 256, 1, &wishes()), Outcome::Both);
        blocks(&both);
    }
    // First a free that leaves its block in use, then one that empties it: both retain one empty block.
    if !both.live.is_empty() {
        both.free_any(random);
        blocks(&both);
    }
    while !both.live.is_empty() {
        both.free(both.live.len() - 1);
    }
    if one_size {
        blocks(&both);
    } else {
        // Each retains one, not necessarily the same.
        let kept = (both.ours.statistics(), both.theirs.statistics().total());
        assert_eq!(kept.0.block_count, u64::from(kept.1.block_count));
    }
    both.finish();
}

#[test]
fn the_same_blocks_where_the_policies_agree() {
    let mut random = Random(202);
    for _ in 0..rounds(100) {
        // Whole MiB: an eighth of an odd heap is rounded up here, and halved by VMA.
        let heap = random.log_uniform(256, 64 << 10) << 20;
        let heaps = [(heap, MemoryHeapFlags::DEVICE_LOCAL)];
        let info = simulated_info(&heaps, &[(0, MemoryPropertyFlags::DEVICE_LOCAL)]);
        let pieces = 1 << (2 + random.below(6));
        let count = random.below(100);
        // Pools with blocks of one size.
        let block = 1 << (18 + random.below(3));
        let both = Both::new(&info, 0).in_pool(block, 0);
        assert_same_blocks(&mut random, both, block / pieces, count, true);
        // Default blocks, the first of which are smaller.
        let size = 1 << (12 + random.below(8));
        assert_same_blocks(&mut random, Both::new(&info, 0), size, count, false);
    }
}
