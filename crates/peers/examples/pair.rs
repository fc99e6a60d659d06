//! Profiling: one contestant under churn: `pair (ours|units|offset|vma) LIVE PAIRS`.

use vkmem_engine::Strategy::Balanced;
use vkmem_peers::cases::churn::room;
use vkmem_peers::cases::contestant::{
    ALIGNMENT, Churn, Contestant, InUnits, OffsetAllocator, Ours, Vma,
};
use vkmem_peers::vma::VirtualStrategy;

fn run(contestant: impl Contestant, live: usize, pairs: usize) {
    Churn::new(contestant, live, 1).warm(pairs);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse().expect("a number");
    let (n, pairs) = (number(2), number(3));
    match arguments[1].as_str() {
        "ours" => run(Ours::new(room(n), Balanced), n, pairs),
        "units" => run(InUnits(Ours::new(room(n) / ALIGNMENT, Balanced)), n, pairs),
        "offset" => run(OffsetAllocator::new(room(n), n), n, pairs),
        _ => run(Vma::new(room(n), VirtualStrategy::MinTime), n, pairs),
    }
}
