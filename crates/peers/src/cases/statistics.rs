//! Statistics and dumps of a million allocations.

use std::hint::black_box;

use vkmem_engine::{AllocationId, AllocatorOptions, Describe, Description, DeviceInfo, PoolId};

use super::Effort;
use super::memory::{Churn, Ours, Vma, device, h200};
use crate::measure::in_turns;
use crate::report::{Peer, Report};
use crate::vma;

/// An owner that describes nothing of its allocations.
pub struct Nothing;

impl Describe for Nothing {
    fn allocation(&self, _: AllocationId) -> Description<'_> {
        Description::default()
    }

    fn pool(&self, _: PoolId) -> Option<&str> {
        None
    }
}

/// Describes a device with room for a million of the traces' sizes.
fn large() -> DeviceInfo {
    let mut info = h200();
    info.heaps[0].size = 1 << 40;
    info
}

/// Measures `vmaCalculateStatistics` and `vmaBuildStatsString`, and ours.
pub fn counting(report: &mut Report, effort: Effort) {
    report.section("statistics and JSON of everything, time an allocation");
    let n = if effort.quick { 100_000 } else { 1_000_000 };
    let rounds = if effort.quick { 3 } else { 5 };
    let ours = Ours::new(device(&large()), &AllocatorOptions::default());
    let theirs = Vma::new(device(&large()), &vma::Options::default());
    let sizes = (256, 2 << 20);
    // Some unused ranges between them.
    let mut churns = (Churn::new(&ours, n, 2, sizes, 5), Churn::new(&theirs, n, 2, sizes, 5));
    let plan = churns.0.plan(n / 10);
    churns.0.run(&plan);
    churns.1.run(&plan);
    let items = n as u64;
    // The time to read all tables once, of which counting reads most.
    let memory = vec![1u64; ours.allocator.metadata_bytes() / size_of::<u64>()];
    let figures = in_turns(
        rounds,
        &mut [
            Box::new(|| {
                assert_eq!(ours.allocator.statistics().allocation_count, items);
                items
            }),
            Box::new(|| {
                let total = theirs.allocator.statistics().total();
                assert_eq!(u64::from(total.allocation_count), items);
                items
            }),
            Box::new(|| {
                assert_eq!(black_box(&memory).iter().sum::<u64>(), memory.len() as u64);
                items
            }),
        ],
    );
    let peers = [
        Peer::new("vma default", &figures[1]).at_most(0.5),
        Peer::new("memory alone", &figures[2]),
    ];
    report.add("statistics", items, "ns", &figures[0], &peers);
    let figures = in_turns(
        rounds,
        &mut [
            Box::new(|| {
                assert!(ours.allocator.build_stats_string(true, &Nothing).unwrap().len() > n);
                items
            }),
            Box::new(|| {
                assert!(theirs.allocator.stats_string_length(true) > n);
                items
            }),
        ],
    );
    let peers = [Peer::new("vma default", &figures[1]).at_most(0.5)];
    report.add("JSON with all of them", items, "ns", &figures[0], &peers);
}
