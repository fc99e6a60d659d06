//! The linear and the buddy algorithm.

use std::cell::RefCell;
use std::collections::VecDeque;

use vkmem_engine::suballocator::{Algorithm, SlotKey};
use vkmem_engine::{Strategy, VirtualBlock, VirtualRequest};

use super::Effort;
use super::churn::{room, turn};
use super::contestant::{ALIGNMENT, Churn, Ours, Vma};
use crate::measure::in_turns;
use crate::random::Random;
use crate::report::{Peer, Report};
use crate::vma::{self, VirtualStrategy};

/// A virtual block with two ends.
trait Ends {
    type Handle: Copy;
    fn allocate(&mut self, size: u64, upper: bool) -> Self::Handle;
    fn free(&mut self, handle: Self::Handle);
    fn clear(&mut self);
}

struct OurBlock(VirtualBlock);

impl Ends for OurBlock {
    type Handle = SlotKey;

    #[inline]
    fn allocate(&mut self, size: u64, upper: bool) -> SlotKey {
        let strategy = Strategy::Balanced;
        let request = VirtualRequest { size, alignment: ALIGNMENT, upper, strategy };
        self.0.allocate(&request).expect("there is room").key
    }

    #[inline]
    fn free(&mut self, handle: SlotKey) {
        self.0.free(handle).expect("it is live");
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

struct TheirBlock(vma::VirtualBlock);

impl Ends for TheirBlock {
    type Handle = u64;

    #[inline]
    fn allocate(&mut self, size: u64, upper: bool) -> u64 {
        let placed = self.0.allocate(size, ALIGNMENT, VirtualStrategy::Default, upper);
        placed.expect("there is room").0
    }

    #[inline]
    fn free(&mut self, handle: u64) {
        // SAFETY: the patterns free each handle once.
        unsafe { self.0.free(handle) }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    FreeAtOnce,
    Stack,
    DoubleStack,
    Ring,
}

impl Pattern {
    const ALL: [(Self, &'static str); 4] = [
        (Self::FreeAtOnce, "free at once"),
        (Self::Stack, "stack"),
        (Self::DoubleStack, "double stack"),
        (Self::Ring, "ring"),
    ];

    /// Repeats the pattern, as a single run takes only 2 ms, less than the intervals at which the
    /// machine's speed changes.
    fn turn<B: Ends>(self, block: &mut B, sizes: &[u64], live: &mut VecDeque<B::Handle>) -> u64 {
        (0..10).map(|_| self.run(block, sizes, live)).sum()
    }

    /// Allocates and frees each size once.
    fn run<B: Ends>(self, block: &mut B, sizes: &[u64], live: &mut VecDeque<B::Handle>) -> u64 {
        match self {
            Self::FreeAtOnce => {
                for &size in sizes {
                    live.push_back(block.allocate(size, false));
                }
                block.clear();
                live.clear();
            }
            Self::Stack | Self::DoubleStack => {
                for (at, &size) in sizes.iter().enumerate() {
                    live.push_back(block.allocate(size, self == Self::DoubleStack && at & 1 == 1));
                }
                while let Some(handle) = live.pop_back() {
                    block.free(handle);
                }
            }
            Self::Ring => {
                let window = sizes.len() / 4;
                for &size in sizes {
                    if live.len() == window {
                        block.free(live.pop_front().expect("a window that is full"));
                    }
                    live.push_back(block.allocate(size, false));
                }
                while let Some(handle) = live.pop_front() {
                    block.free(handle);
                }
            }
        }
        sizes.len() as u64
    }
}

/// Measures VMA's four patterns, against its linear blocks and against TLSF.
pub fn patterns(report: &mut Report, effort: Effort) {
    report.section("linear virtual blocks, one allocate and its free, on VMA's four patterns");
    let n = if effort.quick { 10_000 } else { 100_000 };
    let rounds = if effort.quick { 9 } else { 15 };
    let mut random = Random(9);
    let sizes: Vec<u64> = (0..n).map(|_| random.size()).collect();
    for (pattern, name) in Pattern::ALL {
        // The ring buffer wraps around several times; the others fit as they are.
        let total: u64 = sizes.iter().map(|it| it.next_multiple_of(ALIGNMENT)).sum();
        let size = if pattern == Pattern::Ring { total / 3 } else { total + (1 << 20) };
        let block = |algorithm| OurBlock(VirtualBlock::new(size, algorithm).expect("a valid size"));
        let mut ours = (block(Algorithm::Linear), VecDeque::with_capacity(n));
        let mut tlsf = (
            OurBlock(VirtualBlock::new(room(n), Algorithm::Tlsf).expect("valid")),
            VecDeque::with_capacity(n),
        );
        let mut theirs =
            (TheirBlock(vma::VirtualBlock::new(size, true)), VecDeque::with_capacity(n));
        let mut their_tlsf =
            (TheirBlock(vma::VirtualBlock::new(room(n), false)), VecDeque::with_capacity(n));
        // TLSF has no upper end.
        let plain = if pattern == Pattern::DoubleStack { Pattern::Stack } else { pattern };
        let figures = in_turns(
            rounds,
            &mut [
                Box::new(|| pattern.turn(&mut ours.0, &sizes, &mut ours.1)),
                Box::new(|| pattern.turn(&mut theirs.0, &sizes, &mut theirs.1)),
                Box::new(|| plain.turn(&mut tlsf.0, &sizes, &mut tlsf.1)),
                Box::new(|| plain.turn(&mut their_tlsf.0, &sizes, &mut their_tlsf.1)),
            ],
        );
        let peers = [
            Peer::new("vma linear", &figures[1]).at_most(1.0),
            Peer::new("our tlsf", &figures[2]),
            Peer::new("vma tlsf", &figures[3]).at_most(1.0),
        ];
        report.add(&format!("linear, {name}"), n as u64, "ns", &figures[0], &peers);
    }
}

/// Measures the churn pair with the buddy algorithm.
pub fn buddy(report: &mut Report, effort: Effort) {
    report.section("free + allocate of a random victim, one buddy block");
    let counts: &[usize] = if effort.quick { &[1_000, 10_000] } else { &[1_000, 10_000, 100_000] };
    for &n in counts {
        let (rounds, pairs) = if effort.quick { (5, 20_000) } else { (9, 50_000) };
        // Powers of two waste up to half.
        let ours = |algorithm| {
            let block = VirtualBlock::new(2 * room(n), algorithm).expect("a valid size");
            let ours = Ours { block, strategy: Strategy::Balanced };
            let mut churn = Churn::new(ours, n, 1);
            churn.warm(n);
            RefCell::new(churn)
        };
        let theirs = |strategy| {
            let mut churn = Churn::new(Vma::new(2 * room(n), strategy), n, 1);
            churn.warm(n);
            RefCell::new(churn)
        };
        let (buddy, tlsf) = (ours(Algorithm::Buddy), ours(Algorithm::Tlsf));
        let (default, quickest) =
            (theirs(VirtualStrategy::Default), theirs(VirtualStrategy::MinTime));
        let figures = in_turns(
            rounds,
            &mut [
                turn(&buddy, rounds, pairs),
                turn(&tlsf, rounds, pairs),
                turn(&default, rounds, pairs),
                turn(&quickest, rounds, pairs),
            ],
        );
        let peers = [
            Peer::new("our tlsf", &figures[1]),
            Peer::new("vma default", &figures[2]).at_most(1.0),
            Peer::new("vma min_time", &figures[3]).at_most(1.0),
        ];
        report.add("buddy pair", n as u64, "ns", &figures[0], &peers);
    }
}
