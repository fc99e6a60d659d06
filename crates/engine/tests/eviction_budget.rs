//! Keeping a budget that shrinks, on each simulated device and with each algorithm.

mod common;

use std::sync::Arc;

use common::{KIB, World, buffer};
use vkmem_engine::{
    Algorithm, Allocation, Allocator, AllocatorOptions, Evictable, HeapBudget, PoolCreateInfo,
    PoolId, SimulatedDevice, profile_info, profile_names,
};

const BLOCK: u64 = 256 * KIB;
const IN_USE: u64 = 2;

struct Budgeted {
    world: World,
    pool: PoolId,
    heap: usize,
    all: Vec<(Allocation, Evictable)>,
}

impl Budgeted {
    /// A pool of ten blocks of four allocations, each used in a frame of its own, in a heap whose driver reports its
    /// budget.
    fn new(profile: &str, algorithm: Algorithm) -> Self {
        let info = profile_info(profile).unwrap();
        let device = Arc::new(SimulatedDevice::new(info.clone()));
        device.set_live_budget(info.heaps.iter().map(|heap| heap.size).collect());
        let options = AllocatorOptions { frames_in_use: IN_USE, ..AllocatorOptions::default() };
        let allocator = Allocator::new(device.clone(), &options).unwrap();
        let memory_type_index = allocator
            .find_memory_type_index(u32::MAX, &Default::default(), Default::default())
            .unwrap();
        let heap = info.heap_of(memory_type_index) as usize;
        let rules = PoolCreateInfo {
            memory_type_index,
            block_size: Some(BLOCK),
            algorithm,
            ..PoolCreateInfo::default()
        };
        let pool = allocator.create_pool(&rules).unwrap();
        let mut it = Self { world: World { device, allocator }, pool, heap, all: Vec::new() };
        for frame in 1..=40 {
            it.world.allocator.set_frame(frame);
            it.make();
        }
        assert_eq!(it.budget().block_bytes, 10 * BLOCK, "{profile} {algorithm:?}");
        it
    }

    fn make(&mut self) {
        let mut request = buffer(BLOCK / 4);
        request.create_info.pool = Some(self.pool);
        let made = self.world.allocator.allocate(&request).unwrap();
        self.all.push((made, self.world.allocator.make_evictable(&made, 0.5).unwrap()));
    }

    fn budget(&self) -> HeapBudget {
        self.world.allocator.refresh_budget();
        self.world.allocator.heap_budgets()[self.heap]
    }

    fn set_budget(&self, bytes: u64) {
        let heaps = &self.world.allocator.device().info().heaps;
        let mut budgets: Vec<u64> = heaps.iter().map(|heap| heap.size).collect();
        budgets[self.heap] = bytes;
        self.world.device.set_live_budget(budgets);
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&at| self.all[at].1.is_lost()).collect()
    }

    fn end(self) {
        self.world.allocator.validate().unwrap();
        for (made, evictable) in self.all {
            assert_eq!(evictable.end(), self.world.allocator.free(made.id).is_err());
        }
        self.world.allocator.destroy_pool(self.pool).unwrap();
        self.world.assert_empty();
    }
}

fn each(run: impl Fn(Budgeted, &str)) {
    for profile in profile_names() {
        for algorithm in Algorithm::ALL {
            run(Budgeted::new(profile, algorithm), &format!("{profile} {algorithm:?}"));
        }
    }
}

#[test]
fn a_budget_that_shrinks_by_a_third_is_kept_within_the_frames_in_use_and_one() {
    each(|it, what| {
        // All are used in the frame in which the budget shrinks.
        it.world.allocator.set_frame(100);
        assert!(it.all.iter().all(|it| it.1.touch()));
        it.set_budget(10 * BLOCK);
        assert_eq!(it.world.allocator.evict_over_budget(), 0, "{what}: it is just within");
        it.set_budget(7 * BLOCK);
        let before = it.budget();
        assert!(before.usage > before.budget, "{what}: {before:?}");
        assert_eq!(it.world.allocator.evict_over_budget(), 0, "{what}: all are in use");
        let mut frames = 0;
        while it.budget().usage > it.budget().budget {
            assert_eq!(it.lost(), [], "{what}");
            frames += 1;
            assert!(frames <= IN_USE + 1, "{what}: {frames} frames later");
            it.world.allocator.set_frame(100 + frames);
            it.world.allocator.evict_over_budget();
        }
        assert_eq!(frames, IN_USE + 1, "{what}: not before nobody uses them");
        assert_eq!(it.budget().usage, 7 * BLOCK, "{what}: and no more than needed");
        assert_eq!(it.lost().len(), 12, "{what}");
        assert_eq!(it.world.allocator.evict_over_budget(), 0, "{what}");
        it.end();
    });
}

#[test]
fn blocks_that_hold_a_few_old_ones_and_nothing_else_go_first() {
    each(|mut it, what| {
        let allocator = &it.world.allocator;
        let of_block = |all: &[(Allocation, Evictable)], at: usize| -> Vec<usize> {
            (0..all.len()).filter(|&other| all[other].0.memory == all[at].0.memory).collect()
        };
        // The oldest block has one that is used, the next one few old ones, and the third one many.
        let blocks: Vec<Vec<usize>> = (0..40).step_by(4).map(|at| of_block(&it.all, at)).collect();
        allocator.set_frame(100);
        assert!(it.all[blocks[0][3]].1.touch());
        for block in &blocks[3..] {
            assert!(block.iter().all(|&at| it.all[at].1.touch()));
        }
        let mut few = blocks[1].clone();
        for _ in 0..2 {
            // From the end, so that it is a stack's free as well.
            let gone = few.pop().unwrap();
            drop(allocator.free(it.all[gone].0.id).unwrap());
        }
        let spare: Vec<usize> = blocks[1][2..].to_vec();
        allocator.set_frame(101);
        it.set_budget(9 * BLOCK);
        assert!(it.budget().usage > it.budget().budget, "{what}");
        assert_eq!(allocator.evict_over_budget(), BLOCK, "{what}");
        assert_eq!(it.lost(), few, "{what}");
        it.set_budget(8 * BLOCK);
        assert_eq!(allocator.evict_over_budget(), BLOCK, "{what}");
        assert_eq!(it.lost().len(), few.len() + 4, "{what}");
        assert!(blocks[2].iter().all(|&at| it.all[at].1.is_lost()), "{what}");
        // The first block cannot become free, nor those that are used.
        it.set_budget(BLOCK);
        assert_eq!(allocator.evict_over_budget(), 0, "{what}");
        for at in spare.into_iter().rev() {
            assert!(!it.all.remove(at).1.end(), "{what}");
        }
        it.end();
    });
}
