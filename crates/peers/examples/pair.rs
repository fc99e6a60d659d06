//! Profiling: one contestant under churn: `pair (ours|vma) LIVE PAIRS`.

use vkmem_peers::cases::churn::room;
use vkmem_peers::cases::contestant::{Churn, Ours, Vma};
use vkmem_peers::vma::VirtualStrategy;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse().expect("a number");
    let (n, pairs) = (number(2), number(3));
    if arguments[1] == "ours" {
        Churn::new(Ours::new(room(n), vkmem_engine::Strategy::Balanced), n, 1).warm(pairs);
    } else {
        Churn::new(Vma::new(room(n), VirtualStrategy::MinTime), n, 1).warm(pairs);
    }
}
