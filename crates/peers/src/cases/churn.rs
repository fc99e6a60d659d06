//! Free and allocate of a random victim in one virtual block.

use std::cell::RefCell;

use vkmem_engine::Strategy;

use super::Effort;
use super::contestant::{ALIGNMENT, Churn, Contestant, Ours, Step, Vma};
use super::lines::Lines;
use crate::measure::{Figure, Round, heap_bytes, in_turns};
use crate::random::Random;
use crate::report::{Bar, Peer, Report};
use crate::vma::VirtualStrategy;

/// Returns room for `n` allocations, however badly they are placed.
pub fn room(n: usize) -> u64 {
    (n as u64 * (1 << 20)).next_power_of_two().max(1 << 30)
}

const SEED: u64 = 1;

/// Returns the number of rounds and of pairs per round. A round is long enough for a contestant's tables
/// to return to the cache after the others evicted them; those of a million allocations never fit.
pub(super) fn turns(n: usize, effort: Effort) -> (usize, usize) {
    let rounds = match n {
        0..50_000 => 31,
        50_000..500_000 => 9,
        _ => 5,
    };
    let pairs = (4 * n).clamp(40_000, 400_000);
    if effort.quick { (rounds / 2 + 1, pairs.min(100_000)) } else { (rounds, pairs) }
}

/// Returns a contestant's rounds, each with a plan of its own, all made before the first round.
pub fn turn<'a, C: Contestant>(
    churn: &'a RefCell<Churn<C>>,
    rounds: usize,
    pairs: usize,
) -> Round<'a> {
    turn_of(churn, rounds, pairs, Churn::run)
}

/// Returns a contestant's rounds with another function that runs a plan.
fn turn_of<'a, C: Contestant>(
    churn: &'a RefCell<Churn<C>>,
    rounds: usize,
    pairs: usize,
    run: impl Fn(&mut Churn<C>, &[Step]) -> u64 + 'a,
) -> Round<'a> {
    let plans: Vec<_> = (0..rounds).map(|_| churn.borrow_mut().plan(pairs)).collect();
    let mut plans = plans.into_iter();
    Box::new(move || run(&mut churn.borrow_mut(), &plans.next().expect("a plan for each round")))
}

/// Returns the limits of our pair's cost relative to VMA's fastest and its default strategy.
fn bars(n: usize) -> (Option<f64>, Option<f64>) {
    match n {
        1_000 => (Some(0.55), Some(0.55)),
        10_000 => (Some(0.55), Some(0.45)),
        100_000 => (Some(0.45), Some(0.08)),
        1_000_000 => (Some(0.60), Some(0.04)),
        _ => (None, None),
    }
}

/// Returns a contestant with `n` live allocations, after some churn.
pub(super) fn warmed<C: Contestant>(contestant: C, n: usize, warm: usize) -> RefCell<Churn<C>> {
    let mut churn = Churn::new(contestant, n, SEED);
    churn.warm(warm);
    RefCell::new(churn)
}

fn ours(n: usize) -> RefCell<Churn<Ours>> {
    warmed(Ours::new(room(n), Strategy::Balanced), n, 2 * n)
}

fn theirs(n: usize, strategy: VirtualStrategy, warm: usize) -> RefCell<Churn<Vma>> {
    warmed(Vma::new(room(n), strategy), n, warm)
}

/// Measures the pair against each strategy of VMA, and its growth from the first of `counts` on.
pub fn pairs(report: &mut Report, effort: Effort, counts: &[usize]) {
    report.section("free + allocate of a random victim, one virtual block");
    let few = counts[0];
    // Measured beside each of the others, because the machine's speed varies.
    let small = ours(few);
    let their_small = theirs(few, VirtualStrategy::MinTime, 2 * few);
    for &n in counts {
        // A pair of VMA's default strategy takes 50 us with a million live: fewer rounds and not all
        // strategies.
        let huge = n >= 1_000_000;
        let strategies = if huge { &VirtualStrategy::TIMED[..2] } else { &VirtualStrategy::TIMED };
        let (rounds, pairs) = turns(n, effort);
        let pairs_of = |strategy| match strategy {
            VirtualStrategy::Default if huge => pairs / 20,
            _ => pairs,
        };
        let their_warm = if huge { n / 2 } else { 2 * n };
        let all: Vec<_> = strategies.iter().map(|&it| theirs(n, it, their_warm)).collect();
        let (ours, lines) = (ours(n), warmed(Lines::new(n), n, 2 * n));
        let quick = strategies.iter().position(|it| *it == VirtualStrategy::MinTime);
        let quick = quick.expect("it is timed at every count");
        let mut contestants = vec![
            turn(&ours, rounds, pairs),
            turn(&lines, rounds, pairs),
            turn(&small, rounds, pairs),
            turn(&their_small, rounds, pairs),
        ];
        let each = strategies.iter().zip(&all);
        contestants.extend(each.map(|(&strategy, it)| turn(it, rounds, pairs_of(strategy))));
        let figures = in_turns(rounds, &mut contestants);
        let [ours_taken, memory, small_taken, their_small_taken, taken @ ..] = &figures[..] else {
            unreachable!("one for each contestant")
        };

        let (bar_fastest, bar_default) = bars(n);
        let mut peers: Vec<_> = strategies
            .iter()
            .zip(taken)
            .map(|(strategy, figure)| {
                let bar = bar_default.filter(|_| *strategy == VirtualStrategy::Default);
                Peer::new(strategy.name(), figure).with(bar)
            })
            .collect();
        let fastest = taken.iter().min_by(|a, b| a.median.total_cmp(&b.median));
        peers.extend(fastest.map(|it| Peer::new("vma fastest", it).with(bar_fastest)));
        peers.push(Peer::new("memory alone", memory));
        report.add("churn pair", n as u64, "ns", ours_taken, &peers);
        if n == few {
            continue;
        }
        let name = strategies[quick].name();
        let case = format!("growth of a pair from {few} live");
        let growth = ours_taken.over(small_taken);
        let theirs = Peer::new(name, &taken[quick].over(their_small_taken));
        report.add_with_bar(&case, n as u64, "x", &growth, Some(Bar::AtMost(5.0)), &[theirs]);

        let figures = in_turns(
            rounds,
            &mut [
                turn_of(&ours, rounds, pairs, Churn::run_with_handles_at_hand),
                turn(&small, rounds, pairs),
                turn_of(&all[quick], rounds, pairs, Churn::run_with_handles_at_hand),
                turn(&their_small, rounds, pairs),
            ],
        );
        let theirs = Peer::new(name, &figures[2].over(&figures[3]));
        let case = format!("{case}, handles at hand");
        report.add(&case, n as u64, "x", &figures[0].over(&figures[1]), &[theirs]);
    }
}

/// Measures the end of the used range over live bytes, and metadata, after 5 n pairs.
pub fn packing(report: &mut Report, effort: Effort, counts: &[usize]) {
    let title = "after 5 n pairs (n at 1,000,000 and in the quick run): end of the used range over \
                 live bytes, and metadata";
    report.section(title);
    for &n in counts {
        let pairs = if effort.quick || n >= 1_000_000 { n } else { 5 * n };
        let (end, bytes) = packed(|| Ours::new(room(n), Strategy::Balanced), n, pairs);
        let strategy = VirtualStrategy::Default;
        let (vma_end, vma_bytes) = packed(|| Vma::new(room(n), strategy), n, pairs);
        let name = strategy.name();
        let peers = [Peer::new(name, &vma_end).at_most(1.0)];
        report.add("end over live bytes", n as u64, "x", &end, &peers);
        let (bar, peers) = (Some(Bar::AtMost(64.0)), [Peer::new(name, &vma_bytes)]);
        let case = "metadata a live allocation";
        report.add_with_bar(case, n as u64, "bytes", &bytes, bar, &peers);
    }
}

/// Returns end over live bytes, and the growth of the heap per live allocation.
pub(super) fn packed<C: Contestant>(
    make: impl FnOnce() -> C,
    n: usize,
    pairs: usize,
) -> (Figure, Figure) {
    let before = heap_bytes();
    let mut churn = Churn::new(make(), n, SEED);
    churn.warm(pairs);
    let grown = heap_bytes() - before - churn.own_bytes();
    (Figure::exact(churn.end_over_live()), Figure::exact(grown as f64 / n as f64))
}

/// Allocates, and frees now and then, until the first failure; returns the live bytes at that time.
fn filled<C: Contestant>(mut contestant: C, free_percent: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let (mut live, mut bytes) = (Vec::new(), 0);
    loop {
        if !live.is_empty() && random.below(100) < free_percent {
            let at = random.below(live.len() as u64) as usize;
            let (handle, size) = live.swap_remove(at);
            contestant.free(handle);
            bytes -= size;
            continue;
        }
        let size = random.size();
        let Some((handle, _)) = contestant.allocate(size, ALIGNMENT) else { return bytes };
        live.push((handle, size));
        bytes += size;
    }
}

/// Measures the live bytes in a 1 GiB block when the first request fails, over several seeds.
pub fn first_failure(report: &mut Report, effort: Effort) {
    report.section("live bytes in a 1 GiB block at the first failure, mean of the seeds");
    for free_percent in FREE_PERCENTS {
        let ours = || Ours::new(FILLED_BLOCK, Strategy::Balanced);
        let theirs = || Vma::new(FILLED_BLOCK, VirtualStrategy::Default);
        let theirs = mean_filled(theirs, free_percent, effort);
        report.add(
            "bytes at first failure",
            free_percent,
            "MiB",
            &mean_filled(ours, free_percent, effort),
            &[Peer::new("vma default", &theirs).at_least(1.0)],
        );
    }
}

/// How many of a hundred steps free, where a block is filled.
pub(super) const FREE_PERCENTS: [u64; 3] = [0, 30, 45];
/// Bytes of that block.
pub(super) const FILLED_BLOCK: u64 = 1 << 30;

/// MiB in a block when the first request fails, mean of the seeds.
pub(super) fn mean_filled<C: Contestant>(
    make: impl Fn() -> C,
    free_percent: u64,
    effort: Effort,
) -> Figure {
    let seeds = if effort.quick { 8 } else { 64 };
    let bytes: u64 = (0..seeds).map(|seed| filled(make(), free_percent, seed)).sum();
    Figure::exact(bytes as f64 / seeds as f64 / (1 << 20) as f64)
}
