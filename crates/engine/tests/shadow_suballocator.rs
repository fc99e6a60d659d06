//! Every suballocator beside a naive model of it: random programs, and what each may promise.
//!
//! A suballocator enrols with one `enrol!` at the end of this file: how it is made, and which of
//! the promises it gives. What all have to keep (no overlap, alignment, pages, sizes, stale keys)
//! is not up for choice.

mod common;
#[path = "shadow_suballocator/model.rs"]
mod model;
#[path = "shadow_suballocator/program.rs"]
mod program;

use vkmem_engine::Strategy;
use vkmem_engine::suballocator::{Buddy, Linear, Suballocator, Tlsf};

/// What a suballocator promises beyond being right.
pub(crate) struct Promises {
    /// From the granule and `bufferImageGranularity`.
    pub(crate) make: fn(u64, u64) -> Box<dyn Suballocator>,
    pub(crate) granules: &'static [u64],
    pub(crate) granularities: &'static [u64],
    pub(crate) strategies: &'static [Strategy],
    /// Whether it takes more than one block.
    pub(crate) many_blocks: bool,
    /// What a request of some size takes up, for a granule.
    pub(crate) footprint: fn(u64, u64) -> u64,
    /// What it takes up where there is room, for its size, what it takes up at least, its alignment and
    /// the granule.
    pub(crate) rounding: fn(u64, u64, u64, u64) -> u64,
    /// A walk shows what lies between the live regions in one piece: neighbours are merged.
    pub(crate) merges: bool,
    /// With at most so many unused ranges it places whatever can be placed.
    pub(crate) complete_among: Option<usize>,
    /// `MIN_OFFSET` gives the lowest block, and in it the lowest offset.
    pub(crate) lowest_offset: bool,
    /// `MIN_MEMORY` takes the smallest unused range that serves.
    pub(crate) best_fit: Option<BestFit>,
    /// Most are released, which it tells of later, and not freed.
    pub(crate) releases: bool,
}

/// How good the best fit has to be: the smallest range that serves, wherever at most `among` unused
/// ranges are of a size class from the request's own up to that of the smallest that serves. With
/// more, a bounded look may not have seen the best one.
#[derive(Clone, Copy)]
pub(crate) struct BestFit {
    pub(crate) among: usize,
    /// The class of a size, in order of sizes.
    pub(crate) class: fn(u64) -> u64,
}

macro_rules! enrol {
    ($name:ident, $promises:expr) => {
        mod $name {
            use super::*;
            use proptest::test_runner::Config;

            static PROMISES: Promises = $promises;

            proptest::proptest! {
                #![proptest_config(Config {
                    cases: 160,
                    failure_persistence: None,
                    ..Config::default()
                })]

                #[test]
                fn random_programs_agree_with_the_model(
                    program in program::programs(&PROMISES, 1..250)
                ) {
                    program::run(&PROMISES, &program);
                }
            }

            #[test]
            fn a_long_program_agrees_with_the_model() {
                program::run_long(&PROMISES);
            }

            #[test]
            fn a_crowd_of_useless_ranges_hides_little() {
                program::crowded(&PROMISES);
            }

            #[test]
            fn blocks_with_live_regions_are_not_removed() {
                program::refuses_to_remove(&PROMISES);
            }
        }
    };
}

/// 16 linear steps a power of two; below 16 each size is a class of its own.
fn tlsf_class(size: u64) -> u64 {
    match size.checked_ilog2() {
        Some(log2) if log2 >= 4 => u64::from(log2) << 32 | size >> (log2 - 4),
        _ => size,
    }
}

const TLSF: Promises = Promises {
    make: |granule, granularity| Box::new(Tlsf::new(granule, granularity)),
    granules: &[1, 16, 1024],
    granularities: &[1, 64, 1024, 65536],
    strategies: &[Strategy::Balanced, Strategy::MinMemory, Strategy::MinTime, Strategy::MinOffset],
    many_blocks: true,
    footprint: |size, granule| size.saturating_add(granule - 1) / granule * granule,
    rounding: |size, footprint, alignment, granule| {
        let rounded = if alignment.is_power_of_two() {
            footprint.next_multiple_of(alignment.min(256))
        } else if alignment <= 256 {
            size.next_multiple_of(alignment)
        } else {
            footprint
        };
        let rounds = rounded.is_multiple_of(granule)
            && rounded >= footprint
            && rounded - footprint <= footprint;
        if rounds { rounded } else { footprint }
    },
    merges: true,
    complete_among: Some(256),
    lowest_offset: true,
    best_fit: Some(BestFit { among: 64, class: tlsf_class }),
    releases: false,
};

enrol!(tlsf, TLSF);

enrol!(
    tlsf_that_merges_later,
    Promises {
        make: |granule, granularity| Box::new(Tlsf::new(granule, granularity).deferring_from(0)),
        ..TLSF
    }
);

enrol!(
    tlsf_with_generations_apart,
    Promises {
        make: |granule, granularity| {
            Box::new(Tlsf::new(granule, granularity).deferring_from(0).with_generations_apart())
        },
        releases: true,
        ..TLSF
    }
);

enrol!(
    linear,
    Promises {
        make: |granule, granularity| Box::new(Linear::new(granule, granularity)),
        granules: &[1, 16],
        granularities: &[1, 64, 1024, 65536],
        strategies: &[Strategy::Balanced],
        many_blocks: true,
        footprint: |size, granule| size.saturating_add(granule - 1) / granule * granule,
        rounding: |_, footprint, _, _| footprint,
        merges: true,
        complete_among: None,
        lowest_offset: false,
        best_fit: None,
        releases: false,
    }
);

enrol!(
    linear_of_one_block,
    Promises {
        make: |granule, granularity| Box::new(Linear::new(granule, granularity)),
        granules: &[1, 16],
        granularities: &[1, 64, 1024, 65536],
        strategies: &[Strategy::Balanced],
        // Both stacks and the ring.
        many_blocks: false,
        footprint: |size, granule| size.saturating_add(granule - 1) / granule * granule,
        rounding: |_, footprint, _, _| footprint,
        merges: true,
        complete_among: None,
        lowest_offset: false,
        best_fit: None,
        releases: false,
    }
);

enrol!(
    buddy,
    Promises {
        make: |granule, granularity| Box::new(Buddy::new(granule, granularity)),
        granules: &[1, 16],
        granularities: &[1, 64, 1024, 65536],
        strategies: &[Strategy::Balanced],
        many_blocks: true,
        footprint: |size, granule| size.max(granule).checked_next_power_of_two().unwrap_or(size),
        rounding: |_, footprint, _, _| footprint,
        // Only buddies are joined.
        merges: false,
        complete_among: None,
        lowest_offset: false,
        best_fit: None,
        releases: false,
    }
);
