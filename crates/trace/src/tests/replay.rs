//! Traces that no program made: replays and timelines of them end, without a panic.

use std::sync::Arc;

use vkmem_engine::{Algorithm, DebugOptions, profile_info, profile_names};

use super::random::{Random, dictionary, events};
use crate::description::Description;
use crate::error::Format;
use crate::format::VERSION;
use crate::perfetto::{TimelineOptions, write_chrome_json, write_perfetto};
use crate::replay::{ReplaySettings, ReplayThreads, replay};
use crate::trace::{Trace, TraceBuilder};

fn random_trace(seed: u64, count: usize) -> Trace {
    let mut random = Random(seed | 1);
    let dictionary = dictionary(&mut random);
    let name = profile_names()[seed as usize % profile_names().len()];
    let description = Description {
        device: profile_info(name).filter(|_| !seed.is_multiple_of(5)),
        ..Description::new(Format::VkMem, VERSION)
    };
    let mut trace = TraceBuilder::new(description);
    *trace.dictionary_mut() = dictionary.clone();
    events(&mut random, count, &dictionary, &mut |event| {
        let mut event = event.clone();
        // So that most of what events refer to is there.
        event.allocator %= 3;
        event.is_state = false;
        trace.push(&event).expect("small");
    });
    trace.finish()
}

#[test]
fn random_events_are_played() {
    let mut calls = 0;
    for seed in 0..70 {
        let trace = Arc::new(random_trace(seed, 400));
        let debug = Some(DebugOptions { margin: 64, ..DebugOptions::default() });
        let algorithm = Some(Algorithm::ALL[seed as usize % 3]);
        for settings in [
            ReplaySettings { records: true, ..ReplaySettings::default() },
            ReplaySettings { algorithm, debug, min_alignment: 512, ..ReplaySettings::default() },
            ReplaySettings { threads: ReplayThreads::AsRecorded, ..ReplaySettings::default() },
        ] {
            let played = replay(&trace, &settings).expect("sound settings");
            let report = played.report();
            assert_eq!(report.events, trace.len());
            calls += report.calls();
            assert!(!report.to_string().is_empty() && report.to_json().ends_with('}'));
            for number in played.allocators() {
                played.dump(number, true).expect("it exists").expect("there is memory");
                assert_eq!(played.allocator(number).expect("it exists").validate(), Ok(()));
            }
            if let Some(ours) = played.into_trace() {
                let again = replay(&Arc::new(ours), &ReplaySettings::default());
                let placements = again.expect("sound settings").into_report().placements;
                assert_eq!((placements.differing, placements.first), (0, None), "{seed}");
            }
        }
    }
    assert!(calls > 10_000, "{calls}");
}

#[test]
fn random_events_become_timelines() {
    for seed in 100..140 {
        let trace = random_trace(seed, 400);
        let options = TimelineOptions { allocations: Some(0), resources: true };
        let bytes = write_perfetto(&trace, options, Vec::new()).expect("memory takes all");
        assert!(bytes.len() > 1000);
        let json = write_chrome_json(&trace, options, Vec::new()).expect("memory takes all");
        assert!(String::from_utf8(json).expect("it is UTF-8").ends_with("}\n"));
    }
}
