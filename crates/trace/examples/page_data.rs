//! How long the data of a page take to build and how large they are; writes them for `vk_mem.view`.
//!
//! `cargo run --release -p vkmem-trace --example page_data -- TRACE|EVENTS [OUT]` reads a trace, or makes one: `hostile`, or of a
//! program that fills and empties scenes; OUT.json and OUT.bin are header and body, OUT.vkmem is the trace.

use std::sync::Arc;
use std::time::Instant;

use vkmem_engine::{
    AllocationCreateFlags as Create, DefragmentationAlgorithm, MemoryUsage, ResourceKind,
    ResourceUse, profile_info,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Event, Format, Frame, ImageInfo, Numbers, ReplaySettings,
    Request, Resource, Trace, TraceBuilder, VERSION, load, replay, timeline_data, write_vkmem,
};

fn random(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
}

fn request(state: &mut u64) -> Request {
    let (kind, resource) = if random(state, 4) == 0 {
        let side = 1 << (5 + random(state, 5));
        let image = ImageInfo {
            image_type: 1,
            format: 37,
            extent: [side, side, 1],
            mip_levels: 1,
            array_layers: 1,
            samples: 1,
            usage: [4, 0x14, 8][random(state, 3) as usize],
            ..ImageInfo::default()
        };
        (ResourceKind::ImageOptimal, Resource::Image(image))
    } else {
        let usage = [0x80, 0x40, 0x10, 0x20, 0x3][random(state, 5) as usize];
        (ResourceKind::Buffer, Resource::Buffer(BufferInfo { usage, ..BufferInfo::default() }))
    };
    let (resource_use, usage) = (ResourceUse::Device, MemoryUsage::Auto);
    Request { kind, resource, resource_use, usage, ..Request::default() }
}

fn alone(allocation: u32, request: Request, size: u64, name: &'static str) -> Call<'static> {
    let (is_image, data) = (matches!(request.resource, Resource::Image(_)), Data::None);
    Call::Allocate {
        allocation,
        request,
        size: None,
        buffer_size: (!is_image).then_some(size),
        placed: None,
        name: Some(name),
        data,
    }
}

fn defragment(trace: &mut TraceBuilder, run: u32, time: u64, frame: u64) {
    let none = Numbers::new(&[]);
    let mut calls = vec![Call::BeginDefragmentation {
        run,
        algorithm: Some(DefragmentationAlgorithm::Full),
        pools: none,
        allocations: none,
        max_bytes: 4 << 20,
        max_moves: 64,
        max_regions: 0,
        slides: false,
        limits: None,
    }];
    for _ in 0..6 {
        calls.push(Call::BeginPass { run, moves: 0 });
        calls.push(Call::EndPass { run, progressed: true });
    }
    calls.push(Call::EndDefragmentation {
        run,
        bytes_moved: 0,
        bytes_freed: 0,
        allocations_moved: 0,
        blocks_freed: 0,
    });
    for call in calls {
        let event = Event { frame, ..Event::new(trace.len() as u64, time, call) };
        trace.push(&event).expect("small");
    }
}

/// A program of scenes that are loaded, used and left, with a few that are forgotten.
fn program(events: usize) -> Trace {
    let description = Description {
        device: profile_info("discrete-8gib"),
        program: Some("scenes".into()),
        ..Description::new(Format::VkMem, VERSION)
    };
    let mut trace = TraceBuilder::new(description);
    let sites: Vec<_> = (0..40)
        .map(|number| {
            let main = Frame { file: "app/main.py", line: 12, function: "main" };
            let caller = trace.dictionary_mut().site(None, main);
            let names = ["load_mesh", "load_texture", "make_target", "stream"];
            let function = names[number % 4];
            let line = 20 + number as u32;
            trace
                .dictionary_mut()
                .site(Some(caller), Frame { file: "app/scene.py", line, function })
        })
        .collect();
    let names =
        ["mesh", "texture", "uniforms", "staging", "target", "shadow map", "particles", "font"];
    let (mut state, mut time, mut frame, mut next) = (7, 0, 0, 0_u32);
    let mut live: Vec<u32> = Vec::new();
    let most = (events / 40).clamp(50, 40_000);
    while trace.len() < events {
        let done = trace.len() as f64 / events as f64;
        let wanted = most as f64 * (0.35 + 0.6 * (done * 19.0).sin().abs() * (0.4 + done * 0.6));
        time += random(&mut state, 40_000);
        let number = trace.len() as u64;
        let dice = random(&mut state, 1000);
        let mut site = None;
        let kind = random(&mut state, 8) as usize;
        let name = format!("{} {}", names[kind], random(&mut state, 500));
        let call = if number.is_multiple_of((events as u64 / 12).max(100)) {
            let runs = number / (events as u64 / 12).max(100);
            defragment(&mut trace, runs as u32, time, frame);
            let (usage, budget) = (0, (6 << 30) - runs * (200 << 20));
            Call::Budget {
                heap: 0,
                block_count: 0,
                block_bytes: 0,
                allocation_count: 0,
                allocation_bytes: 0,
                usage,
                budget,
            }
        } else if number % (events as u64 / 5).max(50) == 7 {
            next += 1;
            let request = request(&mut state);
            alone(next - 1, request, 9 << 30, "too large")
        } else if number % (events as u64 / 3).max(60) == 23 {
            Call::MakeLost { pool: None, count: None }
        } else if dice == 0 || number % (events as u64 / 60).max(20) == 3 {
            frame += 1;
            Call::BeginFrame {}
        } else if number % (events as u64 / 20).max(80) == 11 {
            Call::Mark { text: "scene" }
        } else if (live.len() as f64) < wanted && random(&mut state, 100) < 65 {
            site = Some(sites[(kind * 5 + random(&mut state, 5) as usize) % sites.len()]);
            let size = match random(&mut state, (events as u64 / 8).clamp(100, 3000)) {
                0 => 64 << 20,
                _ => {
                    let most = 1 << random(&mut state, 10);
                    256 * (1 + random(&mut state, most))
                }
            };
            live.push(next);
            next += 1;
            let mut request = request(&mut state);
            request.prefers_dedicated = size > 32 << 20;
            let is_image = matches!(request.resource, Resource::Image(_));
            Call::Allocate {
                allocation: next - 1,
                request,
                size: None,
                buffer_size: (!is_image).then_some(size),
                placed: None,
                name: Some(&name),
                data: Data::None,
            }
        } else if dice < 30 {
            next += 1;
            let mut request = request(&mut state);
            request.flags |= Create::CAN_BECOME_LOST;
            alone(next - 1, request, 256 * (1 + random(&mut state, 800)), "cache entry")
        } else if live.is_empty() {
            Call::BeginFrame {}
        } else {
            let at = random(&mut state, live.len() as u64) as usize;
            Call::Free { allocation: live.swap_remove(at) }
        };
        let event = Event { frame, site, ..Event::new(number, time, call) };
        trace.push(&event).expect("small");
    }
    let settings = ReplaySettings { records: true, ..ReplaySettings::default() };
    let played = replay(&Arc::new(trace.finish()), &settings).expect("sound settings");
    played.into_trace().expect("it was recorded")
}

/// Names that a page has to survive.
fn hostile() -> Trace {
    let description = Description {
        device: profile_info("discrete-8gib"),
        program: Some("</title><script>alert(1)</script>".into()),
        ..Description::new(Format::VkMem, VERSION)
    };
    let mut trace = TraceBuilder::new(description);
    let long = "long ".repeat(2000);
    let names = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u{1F600} \u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
        &long,
        "\u{202E}reversed",
        "a\nb\tc\u{0}d",
        "__proto__",
        "",
    ];
    for (number, name) in (0..).zip(names.iter().cycle().take(64)) {
        let frame = Frame { file: name, line: 1 + number as u32, function: name };
        let site = trace.dictionary_mut().site(None, frame);
        let request = request(&mut (number + 5));
        let mut call = alone(number as u32, request, 4096 * (number + 1), "");
        if let Call::Allocate { name: given, data, .. } = &mut call {
            (*given, *data) = (Some(*name), Data::Text(name));
        }
        let event = Event { site: Some(site), ..Event::new(2 * number, number * 1000, call) };
        trace.push(&event).expect("small");
        let event = Event::new(2 * number + 1, number * 1000, Call::Mark { text: name });
        trace.push(&event).expect("small");
    }
    let settings = ReplaySettings { records: true, ..ReplaySettings::default() };
    let played = replay(&Arc::new(trace.finish()), &settings).expect("sound settings");
    played.into_trace().expect("it was recorded")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().unwrap_or_else(|| "1000000".into());
    let trace = match source.parse() {
        Ok(events) => program(events),
        Err(_) if source == "hostile" => hostile(),
        Err(_) => load(&std::fs::read(&source).expect("a file")).expect("a trace"),
    };
    let trace = Arc::new(trace);
    let start = Instant::now();
    let data = timeline_data(&trace);
    let (events, size, took) = (trace.len(), data.body.len() as f64 / 1e6, start.elapsed());
    println!("{events} events, {size:.1} MB in {took:?}");
    if let Some(out) = arguments.next() {
        std::fs::write(format!("{out}.json"), data.header).expect("written");
        std::fs::write(format!("{out}.bin"), data.body).expect("written");
        std::fs::write(format!("{out}.vkmem"), write_vkmem(&trace)).expect("written");
    }
}
