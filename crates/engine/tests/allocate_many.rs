//! Random batches: `allocate_many` places requests as well as single calls do.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use vkmem_engine::suballocator::{
    Algorithm, AnySuballocator, Placement, RegionRequest, Suballocator,
};
use vkmem_engine::{ResourceKind, Strategy as Search, VirtualBlock, VirtualRequest};

const KINDS: [ResourceKind; 3] =
    [ResourceKind::Buffer, ResourceKind::ImageOptimal, ResourceKind::Unknown];
const SEARCHES: [Search; 4] =
    [Search::Balanced, Search::MinTime, Search::MinMemory, Search::MinOffset];

/// Generates mostly small requests of one alignment, as those are cut from one region.
fn request() -> impl Strategy<Value = RegionRequest> {
    let size = prop_oneof![6 => 1u64..600, 1 => 600u64..20_000];
    let alignment = prop_oneof![6 => Just(4u32), 1 => 0u32..12];
    let search = prop_oneof![6 => Just(0usize), 3 => Just(1), 1 => 0usize..4];
    let kind = prop_oneof![8 => Just(0usize), 1 => 0usize..3];
    (size, alignment, search, kind).prop_map(|(size, alignment, search, kind)| RegionRequest {
        size,
        alignment: 1 << alignment,
        kind: KINDS[kind],
        upper: false,
        strategy: SEARCHES[search],
    })
}

#[derive(Clone, Debug)]
enum Step {
    Many(Vec<RegionRequest>),
    /// Frees each live region whose number times this value ends in a small byte.
    FreeSome(u8),
    AddBlock(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(request(), 1..60).prop_map(Step::Many),
        3 => (1u8..).prop_map(Step::FreeSome),
        1 => (1u64..40_000).prop_map(Step::AddBlock),
    ]
}

fn all_apart(live: &[(RegionRequest, Placement)]) -> bool {
    let mut places: Vec<_> =
        live.iter().map(|(it, at)| (at.block.0, at.offset, at.offset + it.size)).collect();
    places.sort_unstable();
    places.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1)
}

fn run(mut suballocator: AnySuballocator, steps: &[Step]) {
    suballocator.add_block(60_000);
    let mut live: Vec<(RegionRequest, Placement)> = Vec::new();
    for step in steps {
        match step {
            Step::Many(requests) => {
                let before = live.len();
                let asked = requests.iter().copied();
                let count = suballocator.allocate_many(asked, |request, at| {
                    assert_eq!(at.offset % request.alignment, 0);
                    live.push((*request, at));
                });
                assert_eq!(live.len() - before, count);
                assert!(live[before..].iter().map(|it| it.0).eq(requests[..count].iter().copied()));
                suballocator.validate().unwrap();
                if let Some(failed) = requests.get(count) {
                    assert_eq!(suballocator.allocate(failed), None, "it would have had a place");
                }
            }
            Step::FreeSome(factor) => live.retain(|(request, at)| {
                let stays = at.key.index().wrapping_mul(u32::from(*factor)) & 0xff > 90;
                if !stays {
                    let freed = suballocator.free(at.key).expect("it is live");
                    assert_eq!((freed.info.offset, freed.info.size), (at.offset, request.size));
                }
                stays
            }),
            Step::AddBlock(size) => {
                suballocator.add_block(*size);
            }
        }
        suballocator.validate().unwrap();
        assert!(all_apart(&live));
    }
    for (_, at) in live {
        assert!(suballocator.free(at.key).is_some());
    }
    suballocator.validate().unwrap();
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn runs_keep_every_rule(steps in vec(step(), 1..24), granularity in 0u32..12) {
        run(AnySuballocator::new(Algorithm::Tlsf, 16, 1 << granularity), &steps);
        run(AnySuballocator::new(Algorithm::Tlsf, 1, 1), &steps);
    }
}

#[test]
fn a_new_block_is_filled_without_holes() {
    for (algorithm, strategy) in [
        (Algorithm::Tlsf, Search::Balanced),
        (Algorithm::Tlsf, Search::MinTime),
        (Algorithm::Linear, Search::Balanced),
    ] {
        let mut block = VirtualBlock::new(1000 * 256, algorithm).unwrap();
        let request = |_| VirtualRequest { size: 256, alignment: 256, upper: false, strategy };
        let mut offsets = Vec::new();
        block.allocate_many((0..1000).map(request), |made| offsets.push(made.offset)).unwrap();
        assert!(offsets.iter().copied().eq((0..1000).map(|it| it * 256)));
        assert_eq!(block.live(), (1000, 256_000));
        assert!(block.allocate_many(std::iter::once(0).map(request), |_| ()).is_err());
        block.validate().unwrap();
    }
}

#[test]
fn the_first_that_fails_ends_it_and_says_why() {
    let mut block = VirtualBlock::new(100, Algorithm::Tlsf).unwrap();
    let of = |size| VirtualRequest { size, alignment: 1, upper: false, strategy: Search::Balanced };
    for (sizes, placed, why) in
        [([10, 0, 10], 1, "size is 0"), ([10, 200, 10], 1, "200"), ([10, 10, 90], 2, "90")]
    {
        let mut made = Vec::new();
        let failed = block.allocate_many(sizes.map(of).into_iter(), |it| made.push(it));
        assert_eq!(made.len(), placed);
        let said = failed.unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
        made.iter().for_each(|it| block.free(it.key).unwrap());
        assert_eq!(block.live(), (0, 0));
    }
}

#[test]
fn a_caller_that_panics_in_between_leaves_it_sound() {
    let mut block = VirtualBlock::new(1 << 20, Algorithm::Tlsf).unwrap();
    let of = |size| VirtualRequest { size, alignment: 1, upper: false, strategy: Search::Balanced };
    let mut made = Vec::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = block.allocate_many((0..10).map(|_| of(64)), |it| {
            made.push(it);
            assert!(made.len() < 3, "the third is one too many");
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(block.live(), (3, 192));
    block.validate().unwrap();
    made.iter().for_each(|it| block.free(it.key).unwrap());
    block.validate().unwrap();
    assert_eq!(block.allocate(&of(1 << 20)).unwrap().offset, 0);
}
