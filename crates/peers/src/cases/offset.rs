//! One free and one allocate of a random victim beside the crate `offset-allocator`.

use std::cell::RefCell;

use vkmem_engine::Strategy;

use super::Effort;
use super::churn::{FILLED_BLOCK, FREE_PERCENTS, mean_filled, packed, room, turn, turns, warmed};
use super::contestant::{ALIGNMENT, Churn, Contestant, InUnits, OffsetAllocator, Ours};
use crate::measure::in_turns;
use crate::report::{Peer, Report};

const PEER: &str = "offset-allocator";

fn ours(n: usize) -> Ours {
    Ours::new(room(n), Strategy::Balanced)
}

fn ours_in_units(n: usize) -> InUnits<Ours> {
    InUnits(Ours::new(room(n) / ALIGNMENT, Strategy::Balanced))
}

fn theirs(n: usize) -> OffsetAllocator {
    OffsetAllocator::new(room(n), n)
}

/// The pair's time, of ours with bytes that are aligned, and with the other's units.
pub fn pairs(report: &mut Report, effort: Effort, counts: &[usize]) {
    report.section(
        "free + allocate of a random victim beside OffsetAllocator, which has no alignment",
    );
    for &n in counts {
        fn churn<C: Contestant>(contestant: C, n: usize) -> RefCell<Churn<C>> {
            warmed(contestant, n, 2 * n)
        }
        let (rounds, pairs) = turns(n, effort);
        let (ours, in_units) = (churn(ours(n), n), churn(ours_in_units(n), n));
        let theirs = churn(theirs(n), n);
        let figures = in_turns(
            rounds,
            &mut [
                turn(&ours, rounds, pairs),
                turn(&in_units, rounds, pairs),
                turn(&theirs, rounds, pairs),
            ],
        );
        let [ours, in_units, theirs] = &figures[..] else {
            unreachable!("one for each contestant")
        };
        // Bytes and an alignment are what a user gives us.
        let peer = Peer::new(PEER, theirs);
        let case = "virtual block pair beside OffsetAllocator";
        report.add(case, n as u64, "ns", ours, &[peer.clone().at_most(1.0)]);
        let case = "virtual block pair in its units beside OffsetAllocator";
        report.add(case, n as u64, "ns", in_units, &[peer]);
    }
}

/// End of the used range over live bytes, and metadata, after 5 n pairs.
pub fn packing(report: &mut Report, effort: Effort, counts: &[usize]) {
    report.section(
        "after 5 n pairs (n at 1,000,000 and in the quick run) beside OffsetAllocator: end of the used \
         range over live bytes, and metadata",
    );
    for &n in counts {
        let pairs = if effort.quick || n >= 1_000_000 { n } else { 5 * n };
        let (end, bytes) = packed(|| ours(n), n, pairs);
        let (their_end, their_bytes) = packed(|| theirs(n), n, pairs);
        let peers = [Peer::new(PEER, &their_end).at_most(1.0)];
        report.add("end over live bytes beside OffsetAllocator", n as u64, "x", &end, &peers);
        let peers = [Peer::new(PEER, &their_bytes)];
        let case = "metadata a live allocation beside OffsetAllocator";
        report.add(case, n as u64, "bytes", &bytes, &peers);
    }
}

/// Bytes in a block when the first request fails, over several seeds.
pub fn first_failure(report: &mut Report, effort: Effort) {
    report.section("live bytes in a 1 GiB block at the first failure beside OffsetAllocator");
    // More than it can hold of the mean size, so that it is never the table that is full.
    let live = (FILLED_BLOCK / ALIGNMENT / 64) as usize;
    for free_percent in FREE_PERCENTS {
        let ours = || Ours::new(FILLED_BLOCK, Strategy::Balanced);
        let theirs = || OffsetAllocator::new(FILLED_BLOCK, live);
        let theirs = mean_filled(theirs, free_percent, effort);
        report.add(
            "bytes at first failure beside OffsetAllocator",
            free_percent,
            "MiB",
            &mean_filled(ours, free_percent, effort),
            &[Peer::new(PEER, &theirs).at_least(1.0)],
        );
    }
}
