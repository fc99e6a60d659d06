//! Profiling: 100,000 allocations of one contestant in a given number of blocks of one pool: `blocks
//! (ours|vma) BLOCKS PAIRS`.

use vkmem_engine::AllocatorOptions;
use vkmem_peers::cases::blocks::{BLOCK, LOCAL_TYPE, SEED, SIZES};
use vkmem_peers::cases::memory::{Churn, Memory, Ours, Vma, device, h200};
use vkmem_peers::vma::Options;

const LIVE: usize = 100_000;
/// Total size of all blocks in bytes.
const TOTAL: u64 = 10_000 * BLOCK;

fn run(memory: &impl Memory, pairs: usize) {
    let mut churn = Churn::new(memory, LIVE, 1 << LOCAL_TYPE, SIZES, SEED);
    let plan = churn.plan(pairs);
    churn.run(&plan);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse::<u32>().expect("a number");
    let (blocks, pairs) = (number(2), number(3) as usize);
    let (device, size) = (device(&h200()), TOTAL / u64::from(blocks));
    if arguments[1] == "ours" {
        let ours = Ours::new(device, &AllocatorOptions::default());
        run(&ours.in_pool(LOCAL_TYPE, size, blocks), pairs);
    } else {
        run(&Vma::new(device, &Options::default()).in_pool(LOCAL_TYPE, size, blocks), pairs);
    }
}
