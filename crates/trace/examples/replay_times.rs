//! How long a trace of a million calls takes to replay with ten settings, and to become a timeline.
//!
//! `cargo run --release -p vkmem-trace --example replay_times [CALLS] [TIMELINE]`

use std::sync::Arc;
use std::time::Instant;

use vkmem_engine::{
    Algorithm, AllocatorOptions, EmptyBlockRetention, MemoryUsage, ResourceKind, ResourceUse,
    profile_info,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Event, Format, ReplayDevice, ReplaySettings, Request,
    Resource, TimelineOptions, TraceBuilder, VERSION, compare, comparison_table, replay,
    write_chrome_json, write_perfetto,
};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A program that keeps some thousands of buffers of all sizes.
fn program(calls: u64) -> TraceBuilder {
    let description = Description {
        device: profile_info("nvidia-h200"),
        options: Some(AllocatorOptions::default()),
        ..Description::new(Format::VkMem, VERSION)
    };
    let mut trace = TraceBuilder::new(description);
    let (mut random, mut live, mut next) = (Random(0x9E37_79B9_7F4A_7C15), Vec::new(), 0);
    let mut time = 0;
    for number in 0..calls {
        time += 150 + random.below(2000);
        let call = if live.len() < 5000 || random.below(2) == 0 && live.len() < 10_000 {
            let size = random.below(1 << (8 + random.0 % 14)) + 1;
            live.push(next);
            next += 1;
            let buffer = BufferInfo { usage: 1 << random.below(9), ..BufferInfo::default() };
            Call::Allocate {
                allocation: next - 1,
                request: Request {
                    kind: ResourceKind::Buffer,
                    resource_use: ResourceUse::Device,
                    usage: MemoryUsage::Auto,
                    resource: Resource::Buffer(buffer),
                    ..Request::default()
                },
                size: None,
                buffer_size: Some(size),
                placed: None,
                name: None,
                data: Data::None,
            }
        } else {
            let at = random.below(live.len() as u64) as usize;
            Call::Free { allocation: live.swap_remove(at) }
        };
        trace.push(&Event::new(number, time, call)).expect("small");
    }
    trace
}

fn main() {
    let calls = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1_000_000);
    let trace = Arc::new(program(calls).finish());
    let mut settings = vec![ReplaySettings::default()];
    for mib in [16, 64, 128, 512] {
        let block_size = Some(mib << 20);
        let name = format!("blocks of {mib} MiB");
        settings.push(ReplaySettings { name, block_size, ..ReplaySettings::default() });
    }
    for profile in ["discrete-8gib", "integrated"] {
        let device = ReplayDevice::Simulated(profile_info(profile).expect("a profile"));
        settings.push(ReplaySettings { name: profile.into(), device, ..Default::default() });
    }
    let retention = Some(EmptyBlockRetention { count: Some(4), ..Default::default() });
    settings.push(ReplaySettings { name: "retains 4".into(), retention, ..Default::default() });
    for algorithm in [Algorithm::Buddy, Algorithm::Linear] {
        let name = algorithm.name().into();
        settings.push(ReplaySettings { name, algorithm: Some(algorithm), ..Default::default() });
    }
    let start = Instant::now();
    let reports = compare(&trace, &settings, 2).expect("sound settings");
    let time = start.elapsed().as_secs_f64();
    print!("{}", comparison_table(&reports));
    println!("{} settings, {calls} calls: {time:.2} s", settings.len());

    let records = ReplaySettings { records: true, ..ReplaySettings::default() };
    let ours = Arc::new(
        replay(&trace, &records).expect("sound settings").into_trace().expect("it was recorded"),
    );
    let report = replay(&ours, &ReplaySettings::default()).expect("sound settings").into_report();
    println!("{report}");
    let start = Instant::now();
    let bytes = write_perfetto(&ours, TimelineOptions::default(), Vec::new()).expect("memory");
    let time = start.elapsed().as_secs_f64();
    println!("Perfetto: {:.1} MB, {time:.2} s", bytes.len() as f64 / 1e6);
    if let Some(path) = std::env::args().nth(2) {
        std::fs::write(path, &bytes).expect("it can be written");
    }
    let start = Instant::now();
    let bytes = write_chrome_json(&ours, TimelineOptions::default(), Vec::new()).expect("memory");
    let time = start.elapsed().as_secs_f64();
    println!("Chrome: {:.1} MB, {time:.2} s", bytes.len() as f64 / 1e6);
}
