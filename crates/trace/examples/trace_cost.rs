//! What recording costs: bytes and ns an event, and the time to read a recording, by program.
//!
//! `cargo run --release -p vkmem-trace --example trace_cost [EVENTS]`

use std::hint::black_box;
use std::time::Instant;

use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, MemoryRequirements, ResourceKind, ResourceUse,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Encoder, Event, Format, Placed, Request, Resource,
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

fn main() {
    let events = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1_000_000);
    println!(
        "{events} events: live, kinds: bytes an event, ns an event, ms to load, bytes in memory"
    );
    for (live, kinds) in [(1, 1), (1000, 10), (100_000, 100)] {
        let program = program(events, live, kinds);
        // Parts that fit in a cache, as the events of a running program do; their median, as others run as well.
        let (mut encoder, mut times) = (Encoder::new(), Vec::new());
        let mut bytes = Encoder::head(&Description::new(Format::VkMem, (1, 0)));
        for part in program.chunks(1024) {
            let part = black_box(part.to_vec());
            let start = Instant::now();
            part.iter().for_each(|event| encoder.push(event));
            times.push(start.elapsed().as_secs_f64() * 1e9 / part.len() as f64);
            encoder.take(&mut bytes);
        }
        encoder.end_block();
        encoder.take(&mut bytes);
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let mut load = f64::MAX;
        let mut walk = f64::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let trace = vkmem_trace::load(&bytes).expect("sound");
            load = load.min(start.elapsed().as_secs_f64());
            assert_eq!(trace.len(), program.len());
            let start = Instant::now();
            let sum: u64 =
                trace.events().map(|event| black_box(event).time).fold(0, u64::wrapping_add);
            black_box(sum);
            walk = walk.min(start.elapsed().as_secs_f64());
        }
        println!(
            "{live:>7} {kinds:>4}: {:>5.1} bytes {median:>5.1} ns; load {:>5.0} ms, walk {:>5.0} ms",
            bytes.len() as f64 / program.len() as f64,
            load * 1e3,
            walk * 1e3,
        );
    }
}
