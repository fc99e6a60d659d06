//! Virtual blocks: the suballocators over plain numbers.

use vkmem_engine::suballocator::Algorithm;
use vkmem_engine::{Error, Strategy, VirtualAllocation, VirtualBlock, VirtualRequest};

fn request(size: u64, alignment: u64) -> VirtualRequest {
    VirtualRequest { size, alignment, upper: false, strategy: Strategy::Balanced }
}

fn upper(size: u64) -> VirtualRequest {
    VirtualRequest { upper: true, ..request(size, 1) }
}

fn take(block: &mut VirtualBlock, size: u64) -> VirtualAllocation {
    let made = block.allocate(&request(size, 1)).expect("there is room");
    block.validate().unwrap();
    made
}

#[test]
fn units_are_exact() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(64, algorithm).unwrap();
        let all: Vec<_> = (0..64).map(|_| take(&mut block, 1)).collect();
        assert!(matches!(block.allocate(&request(1, 1)), Err(Error::VirtualBlockFull { .. })));
        assert_eq!(block.live(), (64, 64));
        assert_eq!(block.statistics().unused_range_count, 0);
        all.iter().rev().for_each(|it| block.free(it.key).unwrap());
        block.validate().unwrap();
        assert_eq!(block.live(), (0, 0));
        assert_eq!(block.free(all[0].key), Err(Error::UseAfterFree));
    }
}

#[test]
fn nonsense_is_refused() {
    for algorithm in Algorithm::ALL {
        assert!(VirtualBlock::new(0, algorithm).is_err());
        assert!(VirtualBlock::new(u64::MAX, algorithm).is_err());
        let mut block = VirtualBlock::new(100, algorithm).unwrap();
        for bad in [request(0, 1), request(0, 0), request(0, 3), request(u64::MAX, 1)] {
            assert!(block.allocate(&bad).is_err());
        }
        for far in [request(1, 101), request(1, u64::MAX), request(u64::MAX, 3)] {
            block.allocate(&request(1, 0)).unwrap();
            assert!(matches!(block.allocate(&far), Err(Error::VirtualBlockFull { .. })));
        }
        assert!(block.grow(99).is_err());
        assert_eq!(block.allocate(&upper(1)).is_ok(), algorithm == Algorithm::Linear);
        block.validate().unwrap();
    }
}

#[test]
fn growing_keeps_what_is_there_and_gives_the_rest() {
    for algorithm in Algorithm::ALL {
        for before in [1, 5, 16, 60] {
            let mut block = VirtualBlock::new(before, algorithm).unwrap();
            let kept = take(&mut block, 1);
            block.grow(256).unwrap();
            block.validate().unwrap();
            assert_eq!(block.info(kept.key).unwrap(), kept);
            let large = take(&mut block, 128);
            assert!(large.offset >= 1);
            block.free(kept.key).unwrap();
            block.free(large.key).unwrap();
            // Everything was merged into one range.
            assert_eq!(take(&mut block, 256).offset, 0);
        }
    }
}

#[test]
fn clear_frees_all() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(1000, algorithm).unwrap();
        let old: Vec<_> = (1..20).map(|size| take(&mut block, size)).collect();
        block.clear();
        block.validate().unwrap();
        assert_eq!(block.live(), (0, 0));
        assert!(old.iter().all(|it| block.info(it.key) == Err(Error::UseAfterFree)));
        take(&mut block, 512);
    }
}

#[test]
fn many_are_freed_all_or_none() {
    let mut block = VirtualBlock::new(1000, Algorithm::Tlsf).unwrap();
    let keys: Vec<_> = (0..10).map(|_| take(&mut block, 10).key).collect();
    let twice = [keys[3], keys[4], keys[3]];
    assert_eq!(block.free_many(twice.into_iter()), Err(Error::UseAfterFree));
    assert_eq!(block.live(), (10, 100));
    block.free_many(keys.iter().copied()).unwrap();
    assert_eq!(block.free_many(keys.iter().copied()), Err(Error::UseAfterFree));
    assert_eq!(block.live(), (0, 0));
}

#[test]
fn a_linear_block_is_a_stack() {
    let mut block = VirtualBlock::new(100, Algorithm::Linear).unwrap();
    let a = take(&mut block, 40);
    let b = take(&mut block, 40);
    assert!(block.allocate(&request(40, 1)).is_err());
    block.free(b.key).unwrap();
    assert_eq!(take(&mut block, 60).offset, 40);
    assert_eq!(a.offset, 0);
}

#[test]
fn a_linear_block_is_a_double_stack() {
    let mut block = VirtualBlock::new(100, Algorithm::Linear).unwrap();
    let low = take(&mut block, 30);
    let high = block.allocate(&upper(30)).unwrap();
    let higher = block.allocate(&upper(30)).unwrap();
    assert_eq!((low.offset, high.offset, higher.offset), (0, 70, 40));
    assert!(block.allocate(&request(11, 1)).is_err());
    assert!(block.allocate(&upper(11)).is_err());
    block.free(higher.key).unwrap();
    assert_eq!(take(&mut block, 40).offset, 30);
    block.validate().unwrap();
}

#[test]
fn a_linear_block_is_a_ring() {
    let mut block = VirtualBlock::new(100, Algorithm::Linear).unwrap();
    let mut ring: std::collections::VecDeque<_> = (0..3).map(|_| take(&mut block, 30)).collect();
    for round in 0..100 {
        let oldest = ring.pop_front().unwrap();
        block.free(oldest.key).unwrap();
        let newest = take(&mut block, 30);
        // The oldest place is the next one.
        assert_eq!(newest.offset, oldest.offset, "round {round}");
        ring.push_back(newest);
    }
    // A ring buffer has no upper end.
    assert!(block.allocate(&upper(1)).is_err());
    // Too large for the place where the ring buffer would wrap around.
    let first = ring.pop_front().unwrap();
    block.free(first.key).unwrap();
    assert!(block.allocate(&request(50, 1)).is_err());
    block.validate().unwrap();
}

#[test]
fn buddies_are_powers_of_two_and_the_rest_is_unused() {
    let mut block = VirtualBlock::new(100, Algorithm::Buddy).unwrap();
    let unused = block.statistics();
    assert_eq!((unused.unused_range_count, unused.unused_range_size_max), (2, 64));
    assert_eq!(take(&mut block, 33).offset, 0);
    assert!(block.allocate(&request(1, 1)).is_err());
    block.clear();
    let offsets: Vec<_> = (0..4).map(|_| take(&mut block, 9).offset).collect();
    assert_eq!(offsets, [0, 16, 32, 48]);
}

#[test]
fn small_allocations_of_a_large_alignment_hide_nothing() {
    let mut block = VirtualBlock::new(160, Algorithm::Tlsf).unwrap();
    for _ in 0..10 {
        block.allocate(&request(1, 16)).unwrap();
    }
    // The range between them is still available.
    for _ in 0..150 {
        block.allocate(&request(1, 1)).unwrap();
    }
    assert!(block.allocate(&request(1, 1)).is_err());
}

#[test]
fn a_walk_covers_the_block_whatever_was_rounded() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(1 << 16, algorithm).unwrap();
        for size in [300, 17, 1000, 5] {
            block.allocate(&request(size, 256)).unwrap();
        }
        let (mut end, mut unused) = (0, 0);
        block.visit(&mut |range| {
            assert_eq!(range.offset, end, "{algorithm:?}");
            end += range.size;
            unused += if range.live.is_none() { range.size } else { 0 };
        });
        assert_eq!((end, unused), (1 << 16, (1 << 16) - 1322), "{algorithm:?}");
    }
}

const STRIDES: [u64; 8] = [12, 20, 36, 3, 48, 100, 7, 0];

#[test]
fn any_alignment_is_kept() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(1 << 20, algorithm).unwrap();
        let mut live = Vec::new();
        for step in 0u64..600 {
            let alignment = STRIDES[step as usize % STRIDES.len()];
            let made = block.allocate(&request(1 + step % 97, alignment)).unwrap();
            assert!(alignment == 0 || made.offset.is_multiple_of(alignment), "{algorithm:?}");
            assert_eq!(block.info(made.key), Ok(made));
            live.push(made);
            if step % 3 == 2 && algorithm != Algorithm::Linear {
                let freed = live.swap_remove(step as usize * 7 % live.len());
                block.free(freed.key).unwrap();
            }
            block.validate().unwrap();
        }
        live.sort_by_key(|it| it.offset);
        assert!(live.windows(2).all(|pair| pair[0].offset + pair[0].size <= pair[1].offset));
        live.iter().for_each(|it| block.free(it.key).unwrap());
        assert_eq!(take(&mut block, 1 << 20).offset, 0, "{algorithm:?}: whole again");
    }
}

#[test]
fn the_upper_end_keeps_any_alignment() {
    let mut block = VirtualBlock::new(1000, Algorithm::Linear).unwrap();
    let high = |block: &mut VirtualBlock| {
        block.allocate(&VirtualRequest { alignment: 36, ..upper(10) }).map(|it| it.offset)
    };
    assert_eq!([high(&mut block), high(&mut block)], [Ok(972), Ok(936)]);
    block.validate().unwrap();
}

#[test]
fn vertices_of_one_stride_leave_no_gaps() {
    for algorithm in [Algorithm::Tlsf, Algorithm::Linear] {
        let mut block = VirtualBlock::new(12 * 1000, algorithm).unwrap();
        let mut keys = Vec::new();
        for count in [10, 50, 3, 7, 30].into_iter().cycle().take(50) {
            keys.push(block.allocate(&request(12 * count, 12)).unwrap().key);
        }
        assert!(block.allocate(&request(1, 12)).is_err(), "all of it is in use");
        assert_eq!(block.live(), (50, 12_000));
        keys.into_iter().for_each(|key| block.free(key).unwrap());
    }
}

#[test]
fn a_buddy_finds_the_one_range_at_a_multiple() {
    let mut block = VirtualBlock::new(256, Algorithm::Buddy).unwrap();
    let all: Vec<_> = (0..32).map(|_| take(&mut block, 8)).collect();
    // Only the region of eight units at 72 starts at a multiple of 36.
    for offset in [16, 72, 136] {
        block.free(all[offset / 8].key).unwrap();
    }
    assert_eq!(block.allocate(&request(8, 36)).unwrap().offset, 72);
    assert!(block.allocate(&request(8, 36)).is_err());
    block.free(all[0].key).unwrap();
    assert_eq!(block.allocate(&request(8, 36)).unwrap().offset, 0);
    block.validate().unwrap();
}

#[test]
fn many_may_mix_alignments() {
    for algorithm in Algorithm::ALL {
        let mut block = VirtualBlock::new(1 << 16, algorithm).unwrap();
        let requests = (0..200).map(|it| request(30, [16, 12, 0, 36, 1][it % 5]));
        let mut made = Vec::new();
        block.allocate_many(requests.clone(), |it| made.push(it)).unwrap();
        block.validate().unwrap();
        assert_eq!((made.len(), block.live()), (200, (200, 6000)));
        for (it, asked) in made.iter().zip(requests) {
            assert!(it.offset.is_multiple_of(asked.alignment.max(1)));
        }
        // Up to the first that fails, whatever its alignment.
        for bad in [request(1 << 20, 12), request(0, 12), request(1 << 20, 16)] {
            let mut count = 0;
            let some = [request(5, 12), request(5, 16), bad, request(5, 12)];
            assert!(block.allocate_many(some.into_iter(), |_| count += 1).is_err());
            assert_eq!(count, 2, "{algorithm:?}");
        }
    }
}

#[test]
fn what_is_cut_is_right_at_either_end_and_of_more_than_the_index_can_say() {
    const GIB: u64 = 1 << 30;
    let mut block = VirtualBlock::new(1 << 40, Algorithm::Tlsf).unwrap();
    let mut made = Vec::new();
    for (size, alignment, offset) in [
        // From a range of more than 4 GiB, whose size the index does not know.
        (256, 256, 0),
        (5 * GIB, 1, 256),
        (100, 4096, 5 * GIB + 4096),
        // From what the last alignment left over: at its lower end, behind that, and exactly the rest.
        (256, 256, 5 * GIB + 256),
        (64, 1024, 5 * GIB + 1024),
        (512, 512, 5 * GIB + 512),
    ] {
        let it = block.allocate(&request(size, alignment)).unwrap();
        block.validate().unwrap();
        assert_eq!((it.offset, it.size), (offset, size));
        made.push(it);
    }
    for it in &made {
        block.free(it.key).unwrap();
        block.validate().unwrap();
        assert_eq!(block.free(it.key), Err(Error::UseAfterFree));
    }
    assert_eq!((block.live(), block.statistics().unused_range_count), ((0, 0), 1));
}
