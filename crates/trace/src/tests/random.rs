//! Random events of every kind, for tests.

use crate::bytes::{Input, put};
use crate::dictionary::{Dictionary, Frame, SiteId};
use crate::event::{Call, Event, Kind};
use crate::values::{BufferInfo, ImageInfo, Placed, Request, Resource};

/// A generator of numbers (xorshift), the same for the same seed.
#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number of any magnitude.
    pub fn any(&mut self) -> u64 {
        self.next() >> self.below(64)
    }
}

/// What events refer to: texts, requests and call sites.
pub(crate) fn dictionary(random: &mut Random) -> Dictionary {
    let mut dictionary = Dictionary::default();
    for text in ["", "a name", "a, \"comma\"", "größer", "line\nbreak", "6", "7"] {
        dictionary.text(text);
    }
    for number in 0..20 {
        let mut caller = None;
        for depth in 0..number % 5 + 1 {
            let function = if depth < 2 { "main" } else { "inner" };
            let line = random.below(3) as u32 + depth;
            caller = Some(dictionary.site(caller, Frame { file: "a name", line, function }));
        }
    }
    while dictionary.requests().len() < 50 {
        // Whatever bytes mean a request is one.
        let mut bytes = Vec::new();
        (0..40).for_each(|at| {
            put(
                &mut bytes,
                match at {
                    0 => random.below(512),
                    _ if random.below(3) == 0 => random.any(),
                    _ => random.below(5),
                },
            )
        });
        let found = Request::decode(&mut Input::new(&bytes, 0));
        found.iter().for_each(|it| _ = dictionary.request(it));
    }
    for resource in [
        Resource::Buffer(BufferInfo { flags: 1, usage: 1 << 40, sharing_mode: 1 }),
        Resource::Image(ImageInfo { extent: [7, 8, 9], usage: 6, ..ImageInfo::default() }),
    ] {
        dictionary.request(&Request { resource, ..Request::default() });
    }
    dictionary
}

/// A random call of a kind: whatever bytes mean one. `bytes` is filled with them.
fn call<'a>(
    kind: Kind,
    random: &mut Random,
    dictionary: &'a Dictionary,
    bytes: &'a mut Vec<u8>,
) -> Call<'a> {
    loop {
        bytes.clear();
        for _ in 0..120 {
            let number = match random.below(10) {
                0 => random.any(),
                1..=3 => random.below(7),
                _ => random.below(2),
            };
            put(bytes, number);
        }
        if Call::get(kind, &mut Input::new(bytes, 0), dictionary).is_ok() {
            return Call::get(kind, &mut Input::new(bytes, 0), dictionary).expect("as before");
        }
    }
}

/// What a trace cannot tell from something else is made one: sizes of 0 are not known, and so on.
fn normal(call: Call<'_>) -> Call<'_> {
    let known = |size: Option<u64>| size.filter(|it| *it != 0);
    let place = |placed: Option<Placed>| {
        placed.map(|it| Placed {
            memory_type: it.memory_type.filter(|it| *it < 255),
            memory: it.memory.filter(|it| *it != u32::MAX),
            ..it
        })
    };
    match call {
        Call::Allocate { allocation, request, size, buffer_size, placed, name, data } => {
            let is_buffer = matches!(request.resource, Resource::Buffer(_));
            let buffer_size = known(buffer_size).filter(|_| is_buffer);
            let (size, placed) = (known(size), place(placed));
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data }
        }
        Call::VirtualAllocate {
            space,
            allocation,
            size,
            alignment,
            upper,
            strategy,
            block,
            offset,
        } => {
            let block = block.filter(|it| *it != u32::MAX);
            Call::VirtualAllocate {
                space,
                allocation,
                size,
                alignment,
                upper,
                strategy,
                block,
                offset,
            }
        }
        // No NaN is itself.
        Call::MakeEvictable { allocation, priority } => {
            Call::MakeEvictable { allocation, priority: priority.filter(|it| !it.is_nan()) }
        }
        call => call,
    }
}

/// Calls `use_event` with random events; all kinds occur. Numbers of sequence have gaps.
pub(crate) fn events(
    random: &mut Random,
    count: usize,
    dictionary: &Dictionary,
    use_event: &mut dyn FnMut(&Event<'_>),
) {
    let (mut sequence, mut time) = (random.below(1000), random.any());
    let (mut thread, mut frame, mut allocator) = (0, 0, 0);
    for index in 0..count {
        let kind = match Kind::ALL.get(index) {
            Some(kind) => *kind,
            None => Kind::ALL[random.below(Kind::ALL.len() as u64) as usize],
        };
        if random.below(5) == 0 {
            thread = random.any() as u32;
            frame = random.any();
            allocator = random.any() as u16;
        }
        sequence += 1 + if random.below(9) == 0 { random.below(1000) } else { 0 };
        time = match random.below(10) {
            0 => random.any(),
            _ => time.wrapping_add(random.below(10_000)).wrapping_sub(50),
        };
        let site = random.below(2 * dictionary.site_count() as u64) as u32;
        let mut bytes = Vec::new();
        use_event(&Event {
            sequence,
            time,
            thread,
            frame,
            allocator,
            site: ((site as usize) < dictionary.site_count()).then_some(SiteId(site)),
            is_state: random.below(4) == 0,
            call: normal(call(kind, random, dictionary, &mut bytes)),
        });
    }
}
