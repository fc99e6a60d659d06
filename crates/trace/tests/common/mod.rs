//! Programs as traces, for tests.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use vkmem_engine::{
    Algorithm, AllocationCreateFlags as Create, AllocatorOptions, DefragmentationAlgorithm,
    DeviceInfo, MemoryPropertyFlags, MemoryUsage, PoolCreateInfo, ResourceKind, ResourceUse,
    Strategy,
};
use vkmem_trace::{
    BufferInfo, Call, Data, Description, Event, Format, GroupKind, ImageInfo, Numbers, Object,
    Priority, Recording, RecordingOptions, ReplaySettings, Request, Resource, Target, Trace,
    TraceBuilder, VERSION, load, replay,
};

/// An output whose bytes can be looked at meanwhile.
#[derive(Clone, Default)]
pub struct Bytes(pub Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bytes {
    pub fn begin(&self) -> Recording {
        let target = Target::Writer(Box::new(self.clone()));
        Recording::begin(target, RecordingOptions::default()).expect("there are threads")
    }

    pub fn load(&self) -> Trace {
        load(&self.0.lock().expect("no panic")).expect("a sound recording")
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    pub fn size(&mut self) -> u64 {
        let magnitude = 4 + self.below(18);
        self.below(1 << magnitude) + 1
    }
}

pub fn buffer(usage: u64) -> Request {
    Request {
        kind: ResourceKind::Buffer,
        resource_use: ResourceUse::Device,
        usage: MemoryUsage::Auto,
        resource: Resource::Buffer(BufferInfo { usage, ..BufferInfo::default() }),
        ..Request::default()
    }
}

pub fn image(side: u32) -> Request {
    let image = ImageInfo {
        image_type: 1,
        format: 37,
        extent: [side, side, 1],
        mip_levels: 1,
        array_layers: 1,
        samples: 1,
        usage: 4,
        ..ImageInfo::default()
    };
    Request {
        kind: ResourceKind::ImageOptimal,
        resource_use: ResourceUse::Device,
        usage: MemoryUsage::Auto,
        resource: Resource::Image(image),
        ..Request::default()
    }
}

pub fn allocate(allocation: u32, request: Request, size: u64) -> Call<'static> {
    let is_image = matches!(request.resource, Resource::Image(_));
    Call::Allocate {
        allocation,
        request,
        size: None,
        buffer_size: (!is_image).then_some(size),
        placed: None,
        name: None,
        data: Data::None,
    }
}

/// A trace of this library on a device.
pub fn trace_of<'a>(device: &DeviceInfo, calls: impl IntoIterator<Item = Call<'a>>) -> Trace {
    let description = Description {
        device: Some(device.clone()),
        options: Some(AllocatorOptions::default()),
        ..Description::new(Format::VkMem, VERSION)
    };
    let (mut trace, mut frame) = (TraceBuilder::new(description), 0);
    for (number, call) in (0..).zip(calls) {
        frame += u64::from(call == Call::BeginFrame {});
        let event = Event::new(number, number * 1000, call);
        trace.push(&Event { frame, ..event }).expect("small");
    }
    trace.finish()
}

/// Records a replay with settings.
pub fn recorded(source: Trace, settings: &ReplaySettings) -> Arc<Trace> {
    let settings = ReplaySettings { records: true, ..settings.clone() };
    let played = replay(&Arc::new(source), &settings).expect("sound settings");
    Arc::new(played.into_trace().expect("it was recorded"))
}

/// The state of a random program.
pub struct Program {
    pub random: Random,
    pub calls: Vec<Call<'static>>,
    live: Vec<u32>,
    mapped: Vec<u32>,
    next: u32,
    pools: u32,
    virtuals: Vec<u32>,
    next_virtual: u32,
    device: DeviceInfo,
    runs: u32,
}

impl Program {
    pub fn new(device: &DeviceInfo, seed: u64) -> Self {
        let mut made = Self {
            random: Random(seed | 1),
            calls: vec![Call::CreateAllocator { options: Some(Box::default()) }],
            live: Vec::new(),
            mapped: Vec::new(),
            next: 0,
            pools: 0,
            virtuals: Vec::new(),
            next_virtual: 0,
            device: device.clone(),
            runs: 0,
        };
        made.create_pools();
        made
    }

    fn create_pools(&mut self) {
        let types = self.device.types.iter().enumerate();
        let mut usable = types.filter(|(_, it)| {
            !it.flags.intersects(
                MemoryPropertyFlags::DEVICE_COHERENT_AMD | MemoryPropertyFlags::LAZILY_ALLOCATED,
            ) && self.device.heaps[it.heap_index as usize].size >= 1 << 28
        });
        let memory_type_index = usable.next_back().map_or(0, |it| it.0 as u32);
        for algorithm in Algorithm::ALL {
            let info = PoolCreateInfo {
                memory_type_index,
                block_size: Some(1 << 22),
                algorithm,
                fallback: true,
                min_block_count: u32::from(algorithm == Algorithm::Buddy),
                ..PoolCreateInfo::default()
            };
            let pool = Some(self.pools);
            self.calls.push(Call::CreatePool { pool, info, has_next: false, failure: None });
            self.pools += 1;
        }
        let object = Object::Pool(0);
        self.calls.push(Call::Name { object, name: Some("a pool") });
        for (space, size) in [(0, Some(1 << 16)), (1, None)] {
            let (algorithm, alignment) = (Algorithm::Tlsf, 4);
            self.calls.push(Call::CreateSpace { space, size, algorithm, alignment, margin: None });
        }
        self.calls.push(Call::AddBlock { space: 1, block: 0, size: 1 << 14 });
    }

    fn request(&mut self) -> (Request, u64) {
        let size = self.random.size();
        let mut request = match self.random.below(6) {
            0 => image(1 + self.random.below(300) as u32),
            _ => buffer([0x80, 0x10, 0x20, 0x3][self.random.below(4) as usize]),
        };
        match self.random.below(12) {
            0 => request.flags |= Create::HOST_ACCESS_SEQUENTIAL_WRITE | Create::MAPPED,
            1 => request.flags |= Create::DEDICATED_MEMORY,
            2 => request.flags |= Create::STRATEGY_MIN_MEMORY,
            3 => request.flags |= Create::STRATEGY_MIN_OFFSET,
            4 => {
                request.flags |= Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
                request.priority = Some(Priority::from(self.random.below(5) as f32 / 4.0));
            }
            5 | 6 => request.pool = Some(self.random.below(u64::from(self.pools)) as u32),
            7 => request.min_alignment = 1 << self.random.below(13),
            _ => {}
        }
        if request.pool == Some(1) && self.random.below(2) == 0 {
            request.flags |= Create::UPPER_ADDRESS;
        }
        (request, size)
    }

    fn allocate(&mut self) {
        let (request, size) = self.request();
        let mut call = allocate(self.next, request, size);
        if let Call::Allocate { name, data, .. } = &mut call
            && self.random.below(4) == 0
        {
            (*name, *data) = (Some("named"), Data::Number(7));
        }
        if !request.flags.contains(Create::CAN_BECOME_LOST) {
            self.live.push(self.next);
        }
        self.next += 1;
        self.calls.push(call);
    }

    fn take(&mut self) -> Option<u32> {
        if self.live.is_empty() {
            return None;
        }
        let at = self.random.below(self.live.len() as u64) as usize;
        Some(self.live.swap_remove(at))
    }

    fn free(&mut self) {
        if let Some(allocation) = self.take() {
            if let Some(at) = self.mapped.iter().position(|it| *it == allocation) {
                self.mapped.swap_remove(at);
                self.calls.push(Call::Unmap { allocation });
            }
            self.calls.push(Call::Free { allocation });
        }
    }

    fn group(&mut self) {
        let count = 1 + self.random.below(20) as u32;
        if self.random.below(2) == 0 {
            let (mut request, size) = self.request();
            request.flags -= Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
            self.calls.push(Call::Group { kind: GroupKind::Allocate, count });
            for _ in 0..count {
                self.calls.push(allocate(self.next, request, size));
                self.live.push(self.next);
                self.next += 1;
            }
        } else {
            let freed: Vec<u32> = (0..count).filter_map(|_| self.take()).collect();
            let count = freed.len() as u32;
            self.calls.push(Call::Group { kind: GroupKind::Free, count });
            self.calls.extend(freed.into_iter().map(|allocation| Call::Free { allocation }));
        }
    }

    fn virtual_call(&mut self) {
        if self.random.below(3) > 0 || self.virtuals.is_empty() {
            let space = self.random.below(2) as u32;
            self.calls.push(Call::VirtualAllocate {
                space,
                allocation: self.next_virtual,
                size: 1 + self.random.below(200),
                alignment: [1, 4, 12, 64][self.random.below(4) as usize],
                upper: false,
                strategy: Strategy::Balanced,
                block: (space == 1).then_some(0),
                offset: 0,
            });
            self.virtuals.push(self.next_virtual * 2 + space);
            self.next_virtual += 1;
        } else {
            let at = self.random.below(self.virtuals.len() as u64) as usize;
            let it = self.virtuals.swap_remove(at);
            self.calls.push(Call::VirtualFree { space: it % 2, allocation: it / 2 });
        }
    }

    fn defragment(&mut self) {
        let run = self.runs;
        self.runs += 1;
        self.calls.push(Call::BeginDefragmentation {
            run,
            algorithm: Some(DefragmentationAlgorithm::Full),
            pools: Numbers::new(if run.is_multiple_of(2) { &[] } else { &[0] }),
            allocations: Numbers::new(&[]),
            max_bytes: 1 << 20,
            max_moves: 32,
            max_regions: 0,
            slides: run.is_multiple_of(3),
            limits: None,
        });
        for _ in 0..4 {
            self.calls.push(Call::BeginPass { run, moves: 0 });
            self.calls.push(Call::EndPass { run, progressed: true });
        }
        let (bytes_moved, bytes_freed, allocations_moved, blocks_freed) = (0, 0, 0, 0);
        self.calls.push(Call::EndDefragmentation {
            run,
            bytes_moved,
            bytes_freed,
            allocations_moved,
            blocks_freed,
        });
    }

    /// Appends a random call.
    pub fn step(&mut self, most_live: usize) {
        match self.random.below(100) {
            0 => self.calls.push(Call::BeginFrame {}),
            1 => self.group(),
            2 => self.calls.push(Call::Trim { bytes: 0 }),
            3 => self.calls.push(Call::MakeLost { pool: None, count: None }),
            4 if self.random.below(5) == 0 => self.defragment(),
            5..12 => self.virtual_call(),
            12..16 => {
                if let Some(&allocation) = self.live.last() {
                    self.calls.push(Call::Map { allocation });
                    let (offset, size) = (0, u64::MAX);
                    self.calls.push(Call::Flush { allocation, offset, size });
                    self.calls.push(Call::Unmap { allocation });
                }
            }
            16..18 => {
                if let Some(&it) = self.live.first() {
                    let object = Object::Allocation(it);
                    self.calls.push(Call::Name { object, name: Some("another") });
                }
            }
            _ if self.live.len() < most_live && self.random.below(5) > 1 => self.allocate(),
            _ => self.free(),
        }
    }

    /// Returns the program as a trace.
    pub fn finish(self) -> Trace {
        trace_of(&self.device, self.calls)
    }
}

/// A random program of a number of steps.
pub fn random_program(device: &DeviceInfo, seed: u64, steps: usize, most_live: usize) -> Trace {
    let mut program = Program::new(device, seed);
    (0..steps).for_each(|_| program.step(most_live));
    program.finish()
}
