//! Every suballocator compared with a naive model: random programs, and the properties that each
//! promises.
//!
//! A suballocator enrols with one `enrol!` at the end of this file: how it is created, and which
//! properties it promises. The properties that all must have (no overlap, alignment, pages, sizes, stale
//! keys) are not optional.

mod common;
#[path = "shadow_suballocator/model.rs"]
mod model;
#[path = "shadow_suballocator/program.rs"]
mod program;

use vkmem_engine::Strategy;
use vkmem_engine::suballocator::{Buddy, Linear, Suballocator, Tlsf};

/// What a suballocator promises beyond correctness.
pub(crate) struct Promises {
    /// Creates it from the granule and `bufferImageGranularity`.
    pub(crate) make: fn(u64, u64) -> Box<dyn Suballocator>,
    pub(crate) granules: &'static [u64],
    pub(crate) granularities: &'static [u64],
    pub(crate) strategies: &'static [Strategy],
    /// Whether it accepts more than one block.
    pub(crate) many_blocks: bool,
    /// Returns the bytes that a request of some size takes up, for a granule.
    pub(crate) footprint: fn(u64, u64) -> u64,
    /// Returns the bytes that a request takes up where there is room, from its size, its minimum
    /// footprint, its alignment and the granule.
    pub(crate) rounding: fn(u64, u64, u64, u64) -> u64,
    /// Whether neighbouring unused ranges are always merged.
    pub(crate) merges: bool,
    /// With at most this many unused ranges it places every request that can be placed.
    pub(crate) complete_among: Option<usize>,
    /// Whether `MIN_OFFSET` returns the lowest offset of the lowest block.
    pub(crate) lowest_offset: bool,
    /// Whether `MIN_MEMORY` takes the smallest sufficient unused range.
    pub(crate) best_fit: Option<BestFit>,
    /// Whether most regions are released (reported later) instead of freed.
    pub(crate) releases: bool,
}

/// The required quality of the best fit: the smallest sufficient range, wherever at most `among` unused
/// ranges are in the size classes from the request's own up to that of this range. With more, a bounded
/// search may miss the best one.
#[derive(Clone, Copy)]
pub(crate) struct BestFit {
    pub(crate) among: usize,
    /// Returns the class of a size; classes are ordered by size.
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

/// Returns one of 16 linear classes per power of two; below 16 each size has its own class.
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
        // Both stacks and the ring buffer.
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
        // Only buddies are merged.
        merges: false,
        complete_among: None,
        lowest_offset: false,
        best_fit: None,
        releases: false,
    }
);
