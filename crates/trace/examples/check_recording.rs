//! Whether a replay of a recording puts everything where it was.
//!
//! `cargo run -p vkmem-trace --example check_recording FILE...`

use std::sync::Arc;

use vkmem_trace::{ReplaySettings, load, replay};

fn main() {
    let mut differing = 0;
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).expect("the file can be read");
        let trace = Arc::new(load(&bytes).expect("a sound recording"));
        let played = replay(&trace, &ReplaySettings::default()).expect("sound settings");
        let report = played.report();
        println!(
            "{path}: {} events, {} bytes, {:?}, skipped {:?}, failed now {}, succeeded now {}",
            trace.len(),
            bytes.len(),
            report.placements,
            report.skipped,
            report.failed_now.count,
            report.succeeded_now.count,
        );
        if let Some(first) = &report.placements.first {
            for index in first.event.saturating_sub(12)..(first.event + 3).min(trace.len()) {
                println!("{index}: {:?}", trace.event(index));
            }
        }
        differing += report.placements.differing;
    }
    std::process::exit(i32::from(differing > 0));
}
