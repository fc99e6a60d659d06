//! Deferred coalescing: blocks with so many regions that freed ones are merged later behave like small
//! ones.

use vkmem_engine::suballocator::{Algorithm, RegionRequest, SlotKey, Suballocator, Tlsf};
use vkmem_engine::{Error, ResourceKind, Statistics, Strategy, VirtualBlock, VirtualRequest};

/// More than the 4096 regions from which on merging is deferred.
const COUNT: usize = 20_000;
const SIZE: u64 = 256;

fn request(size: u64) -> VirtualRequest {
    VirtualRequest { size, alignment: SIZE, upper: false, strategy: Strategy::Balanced }
}

/// Returns a full block and its keys by ascending offset.
fn full() -> (VirtualBlock, Vec<SlotKey>) {
    let mut block = VirtualBlock::new(COUNT as u64 * SIZE, Algorithm::Tlsf).expect("a valid size");
    let mut placed: Vec<_> =
        (0..COUNT).map(|_| block.allocate(&request(SIZE)).expect("there is room")).collect();
    placed.sort_unstable_by_key(|it| it.offset);
    (block, placed.iter().map(|it| it.key).collect())
}

fn unused(block: &VirtualBlock) -> Vec<(u64, u64)> {
    let mut unused = Vec::new();
    block.visit(&mut |view| {
        if view.live.is_none() {
            unused.push((view.offset / SIZE, view.size / SIZE));
        }
    });
    unused
}

#[test]
fn what_was_freed_is_there_for_the_next_one() {
    let (mut block, keys) = full();
    assert!(block.allocate(&request(SIZE)).is_err());
    for at in [7, 19_999, 0, 4_000] {
        block.free(keys[at]).expect("it lives");
        let again = block.allocate(&request(SIZE)).expect("its place is free");
        assert_eq!(again.offset, at as u64 * SIZE);
        assert!(block.allocate(&request(SIZE)).is_err());
        block.validate().expect("valid");
    }
}

#[test]
fn neighbours_are_one_range_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut block, keys) = full();
        for at in order {
            block.free(keys[100 + at]).expect("it lives");
            block.validate().expect("valid");
        }
        assert_eq!(unused(&block), [(100, 3)]);
        let three = block.allocate(&request(3 * SIZE)).expect("three places in a row");
        assert_eq!(three.offset, 100 * SIZE);
        assert_eq!(unused(&block), []);
    }
}

#[test]
fn keys_are_stale_at_once() {
    let (mut block, keys) = full();
    for &key in &keys[50..60] {
        block.free(key).expect("it lives");
        assert!(matches!(block.free(key), Err(Error::UseAfterFree)));
        assert!(matches!(block.info(key), Err(Error::UseAfterFree)));
    }
    assert_eq!(block.live(), (COUNT as u64 - 10, (COUNT as u64 - 10) * SIZE));
}

#[test]
fn counted_and_walked_it_is_the_same() {
    let (mut block, keys) = full();
    for (step, &key) in keys.iter().step_by(3).chain(keys.iter().skip(1).step_by(3)).enumerate() {
        block.free(key).expect("it lives");
        if step % 1_500 == 0 {
            let mut walked = Statistics::default();
            walked.add_block(block.size());
            block.visit(&mut |view| match view.live {
                Some(_) => walked.add_allocation(view.size),
                None => walked.add_unused_range(view.size),
            });
            assert_eq!(block.statistics(), walked);
            block.validate().expect("valid");
        }
    }
}

#[test]
fn many_at_once_see_what_was_freed() {
    let (mut block, keys) = full();
    for &key in &keys[1_000..1_010] {
        block.free(key).expect("it lives");
    }
    for asked in [11, 10] {
        let mut made = Vec::new();
        let requests = (0..asked).map(|_| request(SIZE));
        let placed = block.allocate_many(requests, |it| made.push(it));
        assert_eq!(placed.is_ok(), asked == 10);
        let mut places: Vec<_> = made.iter().map(|it| it.offset / SIZE).collect();
        places.sort_unstable();
        assert_eq!(places, (1_000..1_010).collect::<Vec<_>>());
        made.iter().for_each(|it| block.free(it.key).expect("it lives"));
    }
}

#[test]
fn an_empty_block_is_one_range() {
    let (mut block, keys) = full();
    for key in keys {
        block.free(key).expect("it lives");
    }
    assert_eq!(unused(&block), [(0, COUNT as u64)]);
    assert_eq!(block.statistics().unused_range_count, 1);
    block.allocate(&request(COUNT as u64 * SIZE)).expect("all of it");
    let (mut block, keys) = full();
    block.free(keys[5]).expect("it lives");
    block.clear();
    assert_eq!(unused(&block), [(0, COUNT as u64)]);
    block.validate().expect("valid");
}

#[test]
fn what_waits_in_an_empty_block_hides_no_kind() {
    let mut tlsf = Tlsf::new(16, 1024).deferring_from(0);
    tlsf.add_block(1 << 20);
    let request = |size, kind| RegionRequest {
        size,
        alignment: 16,
        kind,
        upper: false,
        strategy: Strategy::Balanced,
    };
    let sizes = [512, 256, 256, 256];
    let [a, b, c, d] = sizes.map(|size| {
        tlsf.allocate(&request(size, ResourceKind::ImageOptimal)).expect("there is room").key
    });
    for key in [a, c, b, d] {
        tlsf.free(key).expect("it lives");
    }
    // Both would fit into the first page, which they must not share.
    for (size, kind) in [(512, ResourceKind::Buffer), (256, ResourceKind::ImageOptimal)] {
        tlsf.allocate(&request(size, kind)).expect("there is room");
        tlsf.validate().expect("no page is shared by kinds that conflict");
    }
}

#[test]
fn bytes_are_counted_at_once() {
    let mut block = VirtualBlock::new(1 << 30, Algorithm::Tlsf).expect("a valid size");
    let sizes = (0..COUNT as u64).map(|it| 1 + it * 7 % 1_000);
    let placed: Vec<_> =
        sizes.map(|size| block.allocate(&request(size)).expect("there is room")).collect();
    let (mut count, mut bytes) = (COUNT as u64, placed.iter().map(|it| it.size).sum::<u64>());
    for (step, it) in placed.iter().step_by(3).enumerate() {
        block.free(it.key).expect("it lives");
        (count, bytes) = (count - 1, bytes - it.size);
        assert_eq!(block.live(), (count, bytes));
        // Neither early merges nor failed calls change it.
        match step % 50 {
            10 => assert_eq!(block.statistics().allocation_bytes, bytes),
            20 => assert!(block.free(it.key).is_err()),
            30 => {
                let refused = block.allocate(&request(1 << 30));
                let Err(Error::VirtualBlockFull { allocated, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(allocated, bytes);
            }
            _ => {}
        }
        assert_eq!(block.live(), (count, bytes));
    }
    block.validate().expect("valid");
    block.clear();
    assert_eq!(block.live(), (0, 0));
}

#[test]
fn keys_stay_stale_when_a_block_was_cleared_and_filled_again() {
    let (mut block, old) = full();
    block.clear();
    let fill = |block: &mut VirtualBlock, count: usize| -> Vec<SlotKey> {
        let mut keys = Vec::new();
        let requests = (0..count).map(|_| request(SIZE));
        block.allocate_many(requests, |it| keys.push(it.key)).expect("there is room");
        keys
    };
    // First a small table, then across the limit within one call.
    let mut live = Vec::new();
    for count in [1_000, 2_000, 10_000] {
        live.extend(fill(&mut block, count));
        block.validate().expect("valid");
        for &key in old.iter().step_by(97) {
            assert!(block.free(key).is_err() && block.free_many([key].into_iter()).is_err());
        }
    }
    assert_eq!(block.live(), (13_000, 13_000 * SIZE));
    assert!(block.free_many(live.iter().copied().chain([live[5]])).is_err());
    block.free_many(live.iter().copied()).expect("all live");
    assert!(live.iter().all(|&key| block.free(key).is_err()));
    assert_eq!(block.live(), (0, 0));
    block.validate().expect("valid");
}
