//! Margins in virtual blocks.

mod common;

use std::collections::HashMap;

use common::Random;
use vkmem_engine::{
    Algorithm, DefragmentationAlgorithm as Way, Error, SlotKey, Strategy, VirtualAllocation,
    VirtualBlock, VirtualBlocks, VirtualRequest,
};

fn request(size: u64, alignment: u64) -> VirtualRequest {
    VirtualRequest { size, alignment, upper: false, strategy: Strategy::Balanced }
}

fn check(block: &mut VirtualBlock, live: &HashMap<SlotKey, (VirtualAllocation, u64)>) {
    block.validate().unwrap();
    let margin = block.margin();
    let mut ranges = Vec::new();
    for (it, alignment) in live.values() {
        assert_eq!(block.info(it.key), Ok(*it));
        assert!(it.offset.is_multiple_of((*alignment).max(1)) && it.offset >= margin);
        ranges.push((it.offset - margin, it.offset + it.size + margin));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|two| two[0].1 <= two[1].0), "{ranges:?}");
    assert!(ranges.last().is_none_or(|last| last.1 <= block.size()));
    let units = live.values().map(|it| it.0.size).sum();
    assert_eq!(block.live(), (live.len() as u64, units));
    let statistics = block.statistics();
    assert_eq!((statistics.allocation_count, statistics.allocation_bytes), block.live());
    assert_eq!(statistics.margin_count, 2 * live.len() as u64);
    let counted = units + statistics.margin_bytes + statistics.unused_range_bytes;
    assert_eq!(counted, block.size());
    let mut end = 0;
    block.visit(&mut |view| {
        assert_eq!(view.offset, end);
        end += view.size;
        if let Some((key, _)) = view.live {
            assert_eq!((view.offset, view.size), (live[&key].0.offset, live[&key].0.size));
        }
    });
    assert_eq!(end, block.size());
}

#[test]
fn no_algorithm_lets_allocations_touch() {
    for algorithm in Algorithm::ALL {
        for seed in 0..30 {
            let mut random = Random(seed);
            let margin = 1 + random.below(40);
            let mut block = VirtualBlock::with_margin(20_000, algorithm, margin).unwrap();
            let mut live = HashMap::new();
            for step in 0..200 {
                if live.is_empty() || random.below(10) < if step / 50 % 2 == 0 { 7 } else { 4 } {
                    let alignment = random.pick(&[0, 1, 1, 4, 12, 64, 100]);
                    let mut wanted = request(random.size(9), alignment);
                    wanted.upper = algorithm == Algorithm::Linear && random.one_in(5);
                    if random.one_in(3) {
                        let mut made = Vec::new();
                        let _ = block.allocate_many([wanted; 3].into_iter(), |it| made.push(it));
                        live.extend(made.into_iter().map(|it| (it.key, (it, alignment))));
                    } else if let Ok(made) = block.allocate(&wanted) {
                        live.insert(made.key, (made, alignment));
                    }
                } else {
                    let mut keys: Vec<_> = live.keys().copied().collect();
                    keys.sort_unstable();
                    let key = random.pick(&keys);
                    live.remove(&key);
                    block.free(key).unwrap();
                    assert_eq!(block.free(key), Err(Error::UseAfterFree));
                }
                check(&mut block, &live);
                if algorithm != Algorithm::Linear && random.one_in(20) {
                    for it in block.defragment(random.pick(&Way::ALL)).unwrap() {
                        let (allocation, _) = live.get_mut(&it.key).unwrap();
                        assert_eq!((allocation.offset, allocation.size), (it.old_offset, it.size));
                        allocation.offset = it.new_offset;
                    }
                    check(&mut block, &live);
                }
            }
            block.clear();
            check(&mut block, &HashMap::new());
        }
    }
}

#[test]
fn a_set_finds_room_between_margins() {
    for algorithm in Algorithm::ALL {
        let mut blocks = VirtualBlocks::with_margin(algorithm, 16, 10);
        blocks.add(4096).unwrap();
        // A block alone, which forgets no room after a failure.
        let mut alone = VirtualBlock::with_margin(4096, algorithm, 10).unwrap();
        for size in [100, 17, 1] {
            for alignment in [1024, 256, 64, 16] {
                loop {
                    let made = blocks.allocate(size, alignment).unwrap().map(|it| it.1.offset);
                    let expected = alone.allocate(&request(size, alignment)).ok();
                    assert_eq!(made, expected.map(|it| it.offset), "{algorithm:?}");
                    if made.is_none() {
                        break;
                    }
                }
            }
        }
        assert!(alone.live().0 >= 2, "{algorithm:?}");
    }
}

#[test]
fn what_does_not_fit_with_its_margins_is_refused() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::with_margin(1024, algorithm, 8).unwrap();
        assert!(matches!(block.allocate(&request(1009, 1)), Err(Error::VirtualBlockFull { .. })));
        assert!(matches!(
            block.allocate(&request(u64::MAX, 1)),
            Err(Error::VirtualBlockFull { .. })
        ));
        assert!(matches!(block.allocate(&request(0, 1)), Err(Error::InvalidArgument(_))));
        assert_eq!(block.allocate(&request(1008, 1)).unwrap().offset, 8);
    }
    let refused = VirtualBlock::with_margin(1024, Algorithm::Tlsf, 1 << 32).err();
    assert!(matches!(refused, Some(Error::InvalidArgument(_))));
}
