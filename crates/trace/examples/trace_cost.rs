//! What recording costs: bytes and ns an event, and the time to read a recording, by program.
//!
//! `cargo run --release -p vkmem-trace --example trace_cost [EVENTS]`

use std::hint::black_box;
use std::time::Instant;

use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, MemoryRequirements, ResourceKind, ResourceUse,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Encoder, Event, Format, Placed, Request, Resource, VERSION,
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

/// Events of a program that creates and destroys buffers, `live` of them at a time, with as many kinds of request.
fn program(events: u64, live: usize, kinds: u64) -> Vec<Event<'static>> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut alive, mut time, mut next, mut made) = (Vec::new(), 0, 0, Vec::new());
    for sequence in 0..events {
        time += 150 + random.below(400);
        let call = if alive.len() < live || (random.below(2) == 0 && alive.len() < 2 * live) {
            let magnitude = 6 + random.below(18);
            let buffer_size = random.below(1 << magnitude) + 1;
            let size = buffer_size.next_multiple_of(256);
            let request = AllocationRequest {
                requirements: MemoryRequirements {
                    size,
                    alignment: 256,
                    memory_type_bits: 0x1F,
                    prefers_dedicated: false,
                    requires_dedicated: false,
                },
                create_info: AllocationCreateInfo::default(),
                kind: ResourceKind::Buffer,
                resource_use: ResourceUse::Device,
                dedicated: None,
            };
            let usage = 1 + random.below(kinds);
            let buffer = BufferInfo { flags: 0, usage, sharing_mode: 0 };
            alive.push(next);
            next += 1;
            Call::Allocate {
                allocation: next - 1,
                request: Request::of_engine(&request, None, Resource::Buffer(buffer)),
                size: Some(size),
                buffer_size: Some(buffer_size),
                placed: Some(Placed {
                    memory_type: Some(1),
                    memory: Some(random.below(8) as u32),
                    offset: random.below(1 << 20) * 256,
                    is_dedicated: false,
                }),
                name: None,
                data: Data::None,
            }
        } else {
            let at = random.below(alive.len() as u64) as usize;
            Call::Free { allocation: alive.swap_remove(at) }
        };
        made.push(Event { frame: sequence / 500, ..Event::new(sequence, time, call) });
    }
    made
}

/// The time that this thread has run, in ns: other programs do not count.
fn cpu_time() -> u64 {
    // The kernel brings it up to date when the thread gives way.
    std::thread::yield_now();
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    times.split(' ').next().and_then(|it| it.parse().ok()).expect("a number")
}

fn main() {
    let events = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1_000_000);
    println!("{events} events: live, kinds: bytes an event, ns an event, ms to load");
    for (live, kinds) in [(1, 1), (1000, 10), (100_000, 100)] {
        let program = program(events, live, kinds);
        let mut encoder = Encoder::new();
        let mut bytes = Encoder::head(&Description::new(Format::VkMem, VERSION));
        for event in &program {
            encoder.push(event);
        }
        encoder.end_block();
        encoder.take(&mut bytes);
        // Again and again events that fit in a cache, as those of a running program do.
        let (mut encoder, mut sink) = (Encoder::new(), Vec::new());
        let part = &program[program.len() - program.len().min(512)..];
        let rounds = 4_000_000 / part.len();
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            black_box(part).iter().for_each(|event| encoder.push(event));
            sink.clear();
            encoder.take(&mut sink);
            times.push(start.elapsed().as_nanos() as f64 / part.len() as f64);
        }
        // Other programs only make it slower.
        times.sort_by(f64::total_cmp);
        let encode = times[times.len() / 10];
        let mut load = f64::MAX;
        let mut walk = f64::MAX;
        for _ in 0..3 {
            let start = cpu_time();
            let trace = vkmem_trace::load(&bytes).expect("sound");
            load = load.min((cpu_time() - start) as f64 / 1e6);
            assert_eq!(trace.len(), program.len());
            let start = cpu_time();
            let sum: u64 =
                trace.events().map(|event| black_box(event).time).fold(0, u64::wrapping_add);
            black_box(sum);
            walk = walk.min((cpu_time() - start) as f64 / 1e6);
        }
        println!(
            "{live:>7} {kinds:>4}: {:>5.1} bytes {encode:>5.1} ns; load {:>5.0} ms, walk {:>5.0} ms",
            bytes.len() as f64 / program.len() as f64,
            load,
            walk,
        );
    }
}
