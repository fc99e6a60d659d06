//! Linear pools with several blocks: as a stack, as a ring buffer, and freed at once.

mod common;

use std::collections::VecDeque;

use common::{MIB, Random, World, buffer, one_heap};
use vkmem_engine::suballocator::Algorithm;
use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationRequest, EmptyBlockRetention, Error,
    PoolCreateInfo, PoolId,
};

const BLOCK: u64 = 8 * MIB;

struct Linear {
    world: World,
    pool: PoolId,
}

impl Linear {
    fn new(rules: PoolCreateInfo) -> Self {
        let world = World::new(one_heap(1 << 30));
        let rules = PoolCreateInfo { algorithm: Algorithm::Linear, ..rules };
        let pool = world.allocator.create_pool(&rules).unwrap();
        Self { world, pool }
    }

    fn of_blocks(max_block_count: u32) -> Self {
        let block_size = Some(BLOCK);
        Self::new(PoolCreateInfo { block_size, max_block_count, ..PoolCreateInfo::default() })
    }

    fn request(&self, size: u64) -> AllocationRequest {
        let mut request = buffer(size);
        request.create_info.pool = Some(self.pool);
        request
    }

    fn push(&self, size: u64) -> Result<Allocation, Error> {
        self.world.allocator.allocate(&self.request(size))
    }

    fn free(&self, it: Allocation) {
        drop(self.world.allocator.free(it.id).unwrap());
    }

    fn blocks(&self) -> u64 {
        self.statistics().block_count
    }

    fn statistics(&self) -> vkmem_engine::Statistics {
        self.world.allocator.statistics_of_pool(self.pool).unwrap()
    }

    /// Asserts that the statistics agree with each other and with the live allocations.
    fn check(&self, live: &[Allocation]) {
        let counted = self.statistics();
        let bytes: u64 = live.iter().map(|it| it.size).sum();
        assert_eq!((counted.allocation_count, counted.allocation_bytes), (live.len() as _, bytes));
        let held = self.world.device.live_memory_objects() as u64;
        assert_eq!(counted.block_count, held);
        assert_eq!(counted.block_bytes, self.world.device.live_bytes(0));
        let budget = self.world.allocator.heap_budgets()[0];
        assert_eq!((budget.block_bytes, budget.allocation_bytes), (counted.block_bytes, bytes));
        self.world.allocator.validate().unwrap();
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.world.allocator.destroy_pool(self.pool).unwrap();
            self.world.assert_empty();
        }
    }
}

#[test]
fn a_popped_top_is_used_again_while_an_empty_block_is_kept() {
    let linear = Linear::of_blocks(2);
    let mut stack: Vec<_> = (0..12).map(|_| linear.push(MIB).unwrap()).collect();
    stack.drain(4..).rev().for_each(|it| linear.free(it));
    for _ in 0..12 {
        stack.push(linear.push(MIB).expect("16 MiB hold 16 of 1 MiB"));
    }
    assert_eq!((stack.len(), linear.blocks()), (16, 2));
    assert!(matches!(linear.push(MIB), Err(Error::OutOfDeviceMemory { .. })));
    linear.check(&stack);
    stack.into_iter().rev().for_each(|it| linear.free(it));
}

#[test]
fn a_stack_that_goes_up_and_down_holds_what_its_peak_needs() {
    let linear = Linear::of_blocks(0);
    let mut stack: Vec<Allocation> = Vec::new();
    for round in 0..20 {
        while stack.len() < 31 {
            stack.push(linear.push(MIB).unwrap());
        }
        assert_eq!(linear.blocks(), 4, "round {round}: 31 MiB in blocks of 8");
        stack.drain(3 + round..).rev().for_each(|it| linear.free(it));
        linear.check(&stack);
    }
    while stack.len() < 23 {
        stack.push(linear.push(MIB).unwrap());
    }
    assert!(linear.blocks() <= 4, "{} blocks for 23 MiB", linear.blocks());
    stack.into_iter().rev().for_each(|it| linear.free(it));
}

#[test]
fn random_stacks_take_no_more_blocks_than_a_model_of_them() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let retention = EmptyBlockRetention { count: Some(0), bytes: None, share: None };
        let options = vkmem_engine::AllocatorOptions {
            // The number of retained blocks is not known here.
            empty_block_retention: if seed % 2 == 0 { retention } else { Default::default() },
            ..Default::default()
        };
        let world = World::with(one_heap(1 << 30), &options);
        let block_size = Some(BLOCK);
        let rules =
            PoolCreateInfo { algorithm: Algorithm::Linear, block_size, ..Default::default() };
        let pool = world.allocator.create_pool(&rules).unwrap();
        let linear = Linear { world, pool };
        // The live allocations of each block, and the bytes used in it.
        let (mut stack, mut model) = (Vec::<Allocation>::new(), Vec::<(usize, u64)>::new());
        for step in 0..600 {
            let grows = step / 50 % 2 == 0;
            if stack.is_empty() || random.below(10) < if grows { 7 } else { 3 } {
                let size = 16 * random.size(18);
                match model.last_mut() {
                    Some((count, used)) if *used + size <= BLOCK => {
                        (*count, *used) = (*count + 1, *used + size);
                    }
                    _ => model.push((1, size)),
                }
                stack.push(linear.push(size).unwrap());
            } else {
                let popped = stack.pop().unwrap();
                let (count, used) = model.last_mut().unwrap();
                (*count, *used) = (*count - 1, *used - popped.size);
                if *count == 0 {
                    model.pop();
                }
                linear.free(popped);
            }
            let kept = seed % 2;
            let (held, needed) = (linear.blocks(), model.len() as u64);
            assert!(
                (needed..=needed + kept).contains(&held),
                "seed {seed}, step {step}: {held} blocks, {needed} in use"
            );
            if step % 20 == 0 {
                linear.check(&stack);
            }
        }
        stack.into_iter().rev().for_each(|it| linear.free(it));
    }
}

#[test]
fn a_queue_over_several_blocks_takes_a_block_more_than_it_fills() {
    for live in [3, 8, 20, 30] {
        let linear = Linear::of_blocks(0);
        let mut queue: VecDeque<Allocation> = VecDeque::new();
        for step in 0..400 {
            if queue.len() == live {
                linear.free(queue.pop_front().unwrap());
            }
            queue.push_back(linear.push(MIB).unwrap());
            let most = (live as u64).div_ceil(8) + 1;
            assert!(linear.blocks() <= most, "step {step}: {} blocks", linear.blocks());
        }
        linear.check(queue.make_contiguous());
        queue.into_iter().for_each(|it| linear.free(it));
    }
}

#[test]
fn what_is_freed_at_once_leaves_its_blocks_to_what_comes_next() {
    let block_size = Some(BLOCK);
    let rules = PoolCreateInfo { block_size, min_block_count: 4, ..PoolCreateInfo::default() };
    let linear = Linear::new(rules);
    for _ in 0..5 {
        let mut frame: Vec<_> = (0..32).map(|_| linear.push(MIB).unwrap()).collect();
        linear.check(&frame);
        assert_eq!(linear.blocks(), 4);
        frame.rotate_left(7);
        frame.into_iter().for_each(|it| linear.free(it));
        linear.check(&[]);
    }
}

#[test]
fn a_large_request_finds_the_spare_block_that_holds_it() {
    // Growing block sizes: the first blocks are smaller.
    let linear = Linear::new(PoolCreateInfo { min_block_count: 1, ..PoolCreateInfo::default() });
    let small: Vec<_> = (0..200).map(|_| linear.push(MIB).unwrap()).collect();
    linear.check(&small);
    let before = linear.blocks();
    small.into_iter().for_each(|it| linear.free(it));
    let large = linear.push(60 * MIB).unwrap();
    assert!(linear.blocks() <= before);
    linear.check(&[large]);
    linear.free(large);
}

#[test]
fn two_stacks_share_one_block_and_take_no_other_in_vain() {
    let linear = Linear::of_blocks(0);
    let upper = |size| {
        let mut request = linear.request(size);
        request.create_info.flags |= Create::UPPER_ADDRESS;
        linear.world.allocator.allocate(&request)
    };
    let high = upper(3 * MIB).unwrap();
    assert_eq!(high.offset, 5 * MIB);
    let low = linear.push(4 * MIB).unwrap();
    let calls = linear.world.allocate_calls();
    // A second block would not help: the upper end is that of the block in use.
    assert!(matches!(upper(2 * MIB), Err(Error::OutOfDeviceMemory { .. })));
    assert_eq!(linear.world.allocate_calls(), calls);
    // A second block for the lower stack, and back to one.
    let second = linear.push(2 * MIB).unwrap();
    assert_ne!(second.memory, low.memory);
    assert!(upper(MIB).is_err());
    linear.free(second);
    let higher = upper(MIB).unwrap();
    assert_eq!((higher.memory, higher.offset), (high.memory, 4 * MIB));
    linear.check(&[high, low, higher]);
    [higher, high, low].into_iter().for_each(|it| linear.free(it));
}
