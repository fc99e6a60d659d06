//! Defragmentation of virtual blocks, compared with a copy of the contents.

mod common;

use std::collections::HashMap;

use common::Random;
use vkmem_engine::{
    Algorithm, DefragmentationAlgorithm as Way, Error, SlotKey, Strategy, VirtualBlock,
    VirtualMove, VirtualRequest,
};

const BOTH: [Algorithm; 2] = [Algorithm::Tlsf, Algorithm::Buddy];

fn request(size: u64, alignment: u64) -> VirtualRequest {
    VirtualRequest { size, alignment, upper: false, strategy: Strategy::Balanced }
}

/// A virtual block and the contents of each unit.
struct Model {
    block: VirtualBlock,
    units: Vec<u32>,
    /// Alignment and contents by key.
    live: HashMap<SlotKey, (u64, u32)>,
    next: u32,
}

impl Model {
    fn new(size: u64, algorithm: Algorithm) -> Self {
        let block = VirtualBlock::new(size, algorithm).unwrap();
        Self { block, units: vec![0; size as usize], live: HashMap::new(), next: 1 }
    }

    fn allocate(&mut self, size: u64, alignment: u64) -> Option<SlotKey> {
        let made = self.block.allocate(&request(size, alignment)).ok()?;
        self.units[made.offset as usize..(made.offset + size) as usize].fill(self.next);
        self.live.insert(made.key, (alignment, self.next));
        self.next += 1;
        Some(made.key)
    }

    fn free(&mut self, key: SlotKey) {
        self.block.free(key).unwrap();
        self.live.remove(&key);
    }

    fn free_some(&mut self, random: &mut Random, one_in: u64) {
        let mut keys: Vec<_> = self.live.keys().copied().collect();
        keys.sort_unstable();
        keys.retain(|_| random.one_in(one_in));
        keys.into_iter().for_each(|key| self.free(key));
    }

    fn defragment(&mut self, way: Way) -> Vec<VirtualMove> {
        let moves = self.block.defragment(way).unwrap();
        for it in &moves {
            assert!(it.new_offset < it.old_offset, "{it:?}");
            let old = it.old_offset as usize;
            self.units.copy_within(old..old + it.size as usize, it.new_offset as usize);
        }
        self.check();
        moves
    }

    fn check(&self) {
        self.block.validate().unwrap();
        for (&key, &(alignment, contents)) in &self.live {
            let it = self.block.info(key).unwrap();
            assert!(it.offset.is_multiple_of(alignment.max(1)), "{it:?}");
            let units = &self.units[it.offset as usize..(it.offset + it.size) as usize];
            assert!(units.iter().all(|&unit| unit == contents), "{it:?}");
        }
        assert_eq!(self.block.live().0, self.live.len() as u64);
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        self.block.visit(&mut |view| {
            if view.live.is_none() {
                gaps.push((view.offset, view.size));
            }
        });
        gaps
    }
}

#[test]
fn contents_handles_and_alignments_stay() {
    for algorithm in BOTH {
        for (seed, way) in (0..40).zip(Way::ALL.into_iter().cycle()) {
            let mut random = Random(seed);
            let mut model = Model::new(5000 + random.below(3000), algorithm);
            for _ in 0..6 {
                for _ in 0..120 {
                    let alignment = random.pick(&[0, 1, 1, 2, 4, 16, 3, 12, 64]);
                    model.allocate(random.size(7), alignment);
                }
                model.free_some(&mut random, 2);
                let runs = (0..100).take_while(|_| !model.defragment(way).is_empty()).count();
                assert!(runs < 100, "it ends");
            }
        }
    }
}

#[test]
fn in_full_nothing_but_alignments_stays_free_below() {
    for way in [Way::Full, Way::Extensive] {
        let mut random = Random(7);
        let mut model = Model::new(1 << 14, Algorithm::Tlsf);
        while model.allocate(random.size(8), 1).is_some() {}
        model.free_some(&mut random, 3);
        let moves = model.defragment(way);
        assert!(moves.is_sorted_by_key(|it| it.old_offset));
        let live = model.block.live().1;
        assert_eq!(model.gaps(), [(live, (1 << 14) - live)]);
        assert_eq!(model.defragment(way), []);
    }
}

#[test]
fn what_lies_above_a_smaller_gap_slides() {
    for (way, slides) in
        [(Way::Fast, false), (Way::Balanced, false), (Way::Full, true), (Way::Extensive, true)]
    {
        let mut model = Model::new(1 << 10, Algorithm::Tlsf);
        let gap = model.allocate(10, 1).unwrap();
        let key = model.allocate(900, 1).unwrap();
        model.free(gap);
        let moves = model.defragment(way);
        let expected = VirtualMove { key, old_offset: 10, new_offset: 0, size: 900 };
        assert_eq!(moves, if slides { vec![expected] } else { vec![] }, "{way:?}");
    }
    // Half of its size is enough for a balanced one.
    let mut model = Model::new(1 << 10, Algorithm::Tlsf);
    let gap = model.allocate(450, 1).unwrap();
    model.allocate(500, 1).unwrap();
    model.free(gap);
    assert_eq!(model.defragment(Way::Balanced).len(), 1);
}

#[test]
fn the_highest_moves_into_the_smallest_gap_that_fits() {
    let mut model = Model::new(1000, Algorithm::Tlsf);
    let keys: Vec<_> =
        [100, 1, 30, 1, 60, 1, 30].map(|size| model.allocate(size, 1).unwrap()).into();
    model.free(keys[0]);
    model.free(keys[2]);
    let moves = model.defragment(Way::Fast);
    assert_eq!(moves[0].key, keys[6]);
    assert_eq!(moves[0].new_offset, 101);
}

#[test]
fn free_ranges_of_the_buddy_system_are_joined() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut model = Model::new(1 << 12, Algorithm::Buddy);
        while model.allocate(random.size(7), 1).is_some() {}
        model.free_some(&mut random, 2);
        model.defragment(Way::Balanced);
        let mut sizes: Vec<u64> = Vec::new();
        let mut end = 0;
        // Rounding of live ranges is reported as unused too: only whole powers of two count here.
        model.block.visit(&mut |view| {
            if view.live.is_none() && view.offset == end && view.offset.is_multiple_of(view.size) {
                sizes.push(view.size);
            }
            end = match view.live {
                Some(_) => view.offset + view.size.next_power_of_two(),
                None => view.offset + view.size,
            };
        });
        sizes.sort_unstable();
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
    }
}

#[test]
fn a_linear_block_is_refused() {
    let mut block = VirtualBlock::new(100, Algorithm::Linear).unwrap();
    assert!(matches!(block.defragment(Way::Full), Err(Error::FeatureNotPresent(_))));
}

#[test]
fn allocating_goes_on_afterwards() {
    for algorithm in BOTH {
        let mut random = Random(3);
        // More than defers the merging of freed ranges.
        let mut model = Model::new(1 << 18, algorithm);
        for _ in 0..6000 {
            model.allocate(1 + random.below(30), 1);
        }
        for way in Way::ALL {
            model.free_some(&mut random, 3);
            model.defragment(way);
            for _ in 0..1000 {
                model.allocate(1 + random.below(50), 1);
            }
            model.check();
        }
    }
}
