//! `TestPool_Benchmark` of VMA 2.3 on eight threads: nothing that was touched within the frames in use is lost.
//!
//! `VKMEM_TOUCHES` sets the number of touches; 10,000,000 take some seconds in a release build.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{KIB, MIB, Random, World, one_heap};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocatorOptions, Evictable,
    PoolCreateInfo,
};

const THREADS: u64 = 8;
/// `frame_in_use_count` of the test.
const IN_USE: u64 = 1;
/// Items of a thread, and how many of them it uses in each frame.
const ITEMS: u64 = 200;
const USED: usize = 60;

fn touches() -> u64 {
    let asked = std::env::var("VKMEM_TOUCHES").ok();
    asked.map_or(120_000, |text| text.parse().expect("VKMEM_TOUCHES is a number"))
}

struct Item {
    allocation: Allocation,
    evictable: Evictable,
    /// A frame that was current when it was last used.
    used: u64,
}

#[derive(Default)]
struct Totals {
    touches: AtomicU64,
    made: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
    rounds: AtomicU64,
}

fn run_thread(
    world: &World,
    request: &vkmem_engine::AllocationRequest,
    (seed, ended): (u64, &Barrier),
    totals: &Totals,
) {
    let allocator = &world.allocator;
    let mut random = Random(seed);
    let mut items: Vec<Option<Item>> = (0..ITEMS).map(|_| None).collect();
    let mut used: Vec<u64> = (0..USED).map(|_| random.below(ITEMS)).collect();
    let most = touches() / THREADS;
    let mut done = 0;
    while done < most {
        allocator.set_frame(totals.rounds.fetch_add(1, Relaxed) / THREADS);
        for slot in &mut used {
            if random.one_in(50) {
                *slot = random.below(ITEMS);
            }
        }
        for &slot in &used {
            let item = &mut items[slot as usize];
            let before = allocator.frame();
            if let Some(it) = item {
                done += 1;
                if it.evictable.touch() {
                    it.used = before;
                    assert!(!it.evictable.is_lost() || allocator.frame() > before + IN_USE);
                    continue;
                }
                // It was lost in a frame that is not after the current one.
                let now = allocator.frame();
                assert!(it.used + IN_USE < now, "used in {}, lost by {now}", it.used);
                totals.lost.fetch_add(1, Relaxed);
            }
            if let Some(lost) = item.take() {
                assert!(lost.evictable.end());
                assert!(allocator.free(lost.allocation.id).is_err());
            }
            let mut request = *request;
            request.requirements.size = KIB * (1 + random.below(16));
            match allocator.allocate(&request) {
                Ok(allocation) => {
                    let evictable = allocator.make_evictable(&allocation, 0.5).unwrap();
                    *item = Some(Item { allocation, evictable, used: before });
                    totals.made.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    assert_eq!(error.vk_result(), Some(-2));
                    totals.refused.fetch_add(1, Relaxed);
                    // Its touches do not count, but its time does.
                    done += u64::from(random.one_in(4));
                }
            }
        }
    }
    totals.touches.fetch_add(done, Relaxed);
    // Until then all of them want the memory.
    ended.wait();
    for it in items.into_iter().flatten() {
        let was_lost = it.evictable.end();
        assert_eq!(was_lost, allocator.free(it.allocation.id).is_err());
        totals.lost.fetch_add(u64::from(was_lost), Relaxed);
    }
}

#[test]
fn nothing_that_was_touched_within_the_frames_in_use_is_lost() {
    for algorithm in [Algorithm::Tlsf, Algorithm::Buddy] {
        let options = AllocatorOptions { frames_in_use: IN_USE, ..AllocatorOptions::default() };
        let world = World::with(one_heap(64 * MIB), &options);
        let rules = PoolCreateInfo {
            block_size: Some(8 * MIB),
            max_block_count: 1,
            algorithm,
            ..PoolCreateInfo::default()
        };
        let pool = world.allocator.create_pool(&rules).unwrap();
        let mut request = common::buffer(1);
        request.create_info.pool = Some(pool);
        request.create_info.flags = Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
        let (totals, ended) = (Totals::default(), Barrier::new(THREADS as usize));
        std::thread::scope(|scope| {
            for seed in 0..THREADS {
                let (world, request, totals, ended) = (&world, &request, &totals, &ended);
                scope.spawn(move || run_thread(world, request, (seed, ended), totals));
            }
        });
        let [touched, made, lost, refused] =
            [&totals.touches, &totals.made, &totals.lost, &totals.refused]
                .map(|it| it.load(Relaxed));
        println!("{algorithm:?}: {touched} touches, {made} made, {lost} lost, {refused} refused");
        assert!(lost > 20, "{lost}");
        world.allocator.destroy_pool(pool).unwrap();
        world.assert_empty();
    }
}
