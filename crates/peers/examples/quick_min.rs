//! scratch
use std::time::Instant;
use vkmem_peers::cases::churn::room;
use vkmem_peers::cases::contestant::{Churn, Ours, Vma};
use vkmem_peers::vma::VirtualStrategy;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let rounds: usize = std::env::args().nth(2).map_or(300, |x| x.parse().unwrap());
    let pairs = 4000;
    let mut a = Churn::new(Ours::new(room(n), vkmem_engine::Strategy::Balanced), n, 1);
    let mut b = Churn::new(Vma::new(room(n), VirtualStrategy::MinTime), n, 1);
    let mut c = Churn::new(Vma::new(room(n), VirtualStrategy::Default), n, 1);
    a.warm(2 * n);
    b.warm(2 * n);
    c.warm(2 * n);
    let (mut ta, mut tb, mut tc) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let p = a.plan(pairs);
        let s = Instant::now();
        a.run(&p);
        ta.push(s.elapsed().as_nanos() as f64 / pairs as f64);
        let p = b.plan(pairs);
        let s = Instant::now();
        b.run(&p);
        tb.push(s.elapsed().as_nanos() as f64 / pairs as f64);
        let p = c.plan(pairs);
        let s = Instant::now();
        c.run(&p);
        tc.push(s.elapsed().as_nanos() as f64 / pairs as f64);
    }
    let q = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        (v[0], v[v.len() / 10], v[v.len() / 2])
    };
    let (a, b, c) = (q(&mut ta), q(&mut tb), q(&mut tc));
    println!(
        "n {n}: ours {:.0}/{:.0}/{:.0} min_time {:.0}/{:.0}/{:.0} default {:.0}/{:.0}/{:.0} ratio10 {:.3} med {:.3} | {:.3}",
        a.0,
        a.1,
        a.2,
        b.0,
        b.1,
        b.2,
        c.0,
        c.1,
        c.2,
        a.1 / b.1,
        a.2 / b.2,
        a.1 / c.1
    );
}
