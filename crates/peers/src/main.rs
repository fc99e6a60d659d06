//! `make bench`: runs all cases and prints the ratios. The argument `quick` reduces the work; other
//! arguments choose sections by name.

use vkmem_peers::cases::{
    Effort, blocks, buffers, churn, defragmentation, eviction, linear, offset, statistics, tail,
    threads,
};
use vkmem_peers::report::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let effort = Effort { quick: arguments.iter().any(|it| it == "quick") };
    let chosen: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|it| *it != "quick").collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.contains(&name);
    let counts: &[usize] =
        if effort.quick { &[1_000, 10_000, 100_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    let mut report = Report::default();
    if wanted("churn") {
        churn::pairs(&mut report, effort, counts);
    }
    if wanted("packing") {
        churn::packing(&mut report, effort, counts);
        churn::first_failure(&mut report, effort);
    }
    if wanted("offset") {
        offset::pairs(&mut report, effort, counts);
        offset::packing(&mut report, effort, counts);
        offset::first_failure(&mut report, effort);
    }
    if wanted("linear") {
        linear::patterns(&mut report, effort);
        linear::buddy(&mut report, effort);
    }
    if wanted("blocks") {
        blocks::pairs(&mut report, effort);
        blocks::growth(&mut report, effort);
    }
    if wanted("day") {
        blocks::day_in_the_life(&mut report, effort);
    }
    if wanted("threads") {
        threads::throughput(&mut report, effort);
    }
    if wanted("statistics") {
        statistics::counting(&mut report, effort);
    }
    if wanted("buffers") {
        buffers::on_cpu_driver(&mut report, effort);
    }
    if wanted("tail") {
        tail::tail(&mut report, effort);
    }
    if wanted("defragmentation") {
        defragmentation::packing(&mut report, effort);
        defragmentation::planning(&mut report, effort);
    }
    if wanted("eviction") {
        eviction::costs(&mut report, effort);
        eviction::hits(&mut report, effort);
    }
    let (met, missed) = report.verdict();
    println!("\n{met} bars met, {} missed", missed.len());
    missed.iter().for_each(|it| println!("  {it}"));
    let path = "bench/results.json";
    match report.write(path) {
        Ok(()) => println!("\nwritten to {path}"),
        Err(error) => {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    }
}
