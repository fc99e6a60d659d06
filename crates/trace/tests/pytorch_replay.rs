//! Snapshots of PyTorch: what its caching allocator held, and what the engine would have held for the same program.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::Random;
use vkmem_trace::{
    Call, Data, Description, Event, Format, Placed, ReplaySettings, Request, Resource, Trace,
    TraceBuilder, load, replay,
};

const MIB: u64 = 1 << 20;

/// The rules of PyTorch's caching allocator: sizes in multiples of 512 bytes; segments of 2 MiB up to 1 MiB, of 20 MiB up
/// to 10 MiB, else multiples of 2 MiB; best fit; what remains is split off, of large segments from 1 MiB on.
struct CachingAllocator {
    trace: TraceBuilder,
    /// Segments with their sizes; free ranges of each by offset.
    segments: Vec<(u64, BTreeMap<u64, u64>)>,
    live: BTreeMap<u32, (usize, u64, u64)>,
    next: u32,
    time: u64,
}

impl CachingAllocator {
    fn new() -> Self {
        let description =
            Description { resolution: 1000, ..Description::new(Format::PyTorch, (1, 0)) };
        Self {
            trace: TraceBuilder::new(description),
            segments: Vec::new(),
            live: BTreeMap::new(),
            next: 0,
            time: 0,
        }
    }

    fn push(&mut self, call: Call<'_>) {
        self.time += 1000;
        let event = Event::new(self.trace.len() as u64, self.time, call);
        self.trace.push(&event).expect("small");
    }

    fn allocate(&mut self, size: u64) -> u32 {
        let rounded = size.next_multiple_of(512);
        let is_small = rounded <= MIB;
        let of_kind = self.segments.iter().enumerate().filter(|it| (it.1.0 == 2 * MIB) == is_small);
        let best = of_kind
            .flat_map(|(index, (_, free))| {
                free.iter().map(move |(offset, length)| (*length, index, *offset))
            })
            .filter(|it| it.0 >= rounded)
            .min();
        let (length, index, offset) = best.unwrap_or_else(|| {
            let size = match rounded {
                _ if is_small => 2 * MIB,
                _ if rounded < 10 * MIB => 20 * MIB,
                _ => rounded.next_multiple_of(2 * MIB),
            };
            self.push(Call::AllocateMemory {
                memory: Some(self.segments.len() as u32),
                memory_type: None,
                size,
                priority: None,
                export_handle_types: 0,
                names_resource: false,
                is_imported: false,
                result: 0,
            });
            self.segments.push((size, BTreeMap::from([(0, size)])));
            (size, self.segments.len() - 1, 0)
        });
        let free = &mut self.segments[index].1;
        free.remove(&offset);
        let left = length - rounded;
        let splits = if is_small { left >= 512 } else { left > MIB };
        let taken = if splits { rounded } else { length };
        if splits {
            free.insert(offset + rounded, left);
        }
        let allocation = self.next;
        self.next += 1;
        self.live.insert(allocation, (index, offset, taken));
        self.push(Call::Allocate {
            allocation,
            request: Request { resource: Resource::Stream(0), ..Request::default() },
            size: Some(size),
            buffer_size: None,
            placed: Some(Placed {
                memory_type: None,
                memory: Some(index as u32),
                offset,
                is_dedicated: false,
            }),
            name: None,
            data: Data::None,
        });
        allocation
    }

    fn free(&mut self, allocation: u32) {
        let (index, mut offset, mut length) = self.live.remove(&allocation).expect("it is live");
        let free = &mut self.segments[index].1;
        if let Some((&before, &size)) = free.range(..offset).next_back()
            && before + size == offset
        {
            free.remove(&before);
            (offset, length) = (before, size + length);
        }
        if let Some(size) = free.remove(&(offset + length)) {
            length += size;
        }
        free.insert(offset, length);
        self.push(Call::Free { allocation });
    }

    fn held(&self) -> u64 {
        self.segments.iter().map(|it| it.0).sum()
    }
}

/// Steps of training: weights and moments that stay, activations of each layer that are freed backwards, gradients, and
/// buffers of a moment. Sequences differ in length from step to step, as batches of text do.
fn training(seed: u64, steps: u64, layers: u64, width: u64) -> (Trace, u64) {
    let (mut torch, mut random) = (CachingAllocator::new(), Random(seed));
    for _ in 0..layers {
        for factor in [12, 4, 1] {
            (0..3).for_each(|_| _ = torch.allocate(width * width * factor));
        }
        (0..6).for_each(|_| _ = torch.allocate(width * 4));
    }
    for _ in 0..steps {
        let length = 64 + random.below(192);
        let mut activations = Vec::new();
        for _ in 0..layers {
            let scratch = torch.allocate(length * width * 16);
            for bytes in [2, 2, 8, 2, 4] {
                activations.push(torch.allocate(length * width * bytes));
            }
            activations.push(torch.allocate(length * length * 32));
            torch.free(scratch);
        }
        let mut gradients = Vec::new();
        for _ in 0..layers {
            let scratch = torch.allocate(length * width * 12);
            gradients.push(torch.allocate(width * width * 4));
            (0..6).for_each(|_| torch.free(activations.pop().expect("as many")));
            torch.free(scratch);
        }
        gradients.into_iter().for_each(|it| torch.free(it));
    }
    let held = torch.held();
    (torch.trace.finish(), held)
}

#[test]
fn the_recorded_figures_are_those_of_pytorch() {
    let (trace, held) = training(7, 6, 6, 512);
    let trace = Arc::new(trace);
    let report = replay(&trace, &ReplaySettings::default()).expect("sound").into_report();
    let recorded = report.recorded.expect("the trace says it");
    // It gives nothing back.
    assert_eq!((recorded.peak_held.bytes, recorded.held), (held, held));
    assert_eq!(recorded.live, report.live);
    assert_eq!(recorded.peak_live, report.peak_live);
    assert!(recorded.held_per_live() > 1.05, "{report}");
    assert_eq!((report.skipped.len(), report.failed_now.count), (0, 0));
}

#[test]
fn less_is_held_for_what_is_live_than_by_pytorch() {
    for (seed, layers, width) in [(7, 6, 512), (8, 12, 768), (9, 4, 1024), (10, 24, 256)] {
        let trace = Arc::new(training(seed, 5, layers, width).0);
        let mut best = f64::MAX;
        let mut recorded = 0.0;
        for mib in [1, 2, 4, 8, 16, 32, 64] {
            let settings = ReplaySettings { block_size: Some(mib * MIB), ..Default::default() };
            let report = replay(&trace, &settings).expect("sound").into_report();
            best = report.held_per_live().min(best);
            recorded = report.recorded.expect("the trace says it").held_per_live();
        }
        assert!(best <= 1.05 && best < recorded, "{seed}: {best} of {recorded}");
    }
}

#[test]
fn snapshots_that_begin_in_the_middle_say_so() {
    let trace = Arc::new(load(include_bytes!("data/snapshot-4.pickle")).expect("sound"));
    let report = replay(&trace, &ReplaySettings::default()).expect("sound").into_report();
    assert!(report.begins_in_the_middle);
    assert!(report.to_string().contains("begins in the middle"));
    let recorded = report.recorded.expect("the trace says it");
    assert!(recorded.peak_held.bytes >= recorded.peak_live.bytes);
    assert_eq!(report.peak_live.bytes, recorded.peak_live.bytes);
}

#[test]
fn a_snapshot_of_an_h200_is_held_in_less() {
    let trace = load(include_bytes!("data/pytorch-2.11-h200.pickle")).expect("sound");
    assert_eq!((trace.len(), trace.warnings()), (984, &[][..]));
    let settings = ReplaySettings { block_size: Some(4 * MIB), ..Default::default() };
    let report = replay(&Arc::new(trace), &settings).expect("sound").into_report();
    let recorded = report.recorded.expect("the trace says it");
    // What `torch.cuda.memory_stats()` said in the same process: peaks of `reserved_bytes` and `requested_bytes`.
    assert_eq!(recorded.peak_held.bytes, 230_686_720);
    assert_eq!(recorded.peak_live.bytes, 184_620_264);
    assert_eq!(report.peak_live, recorded.peak_live);
    assert!(report.held_per_live() <= 1.05, "{report}");
    assert!(report.held_per_live() < recorded.held_per_live(), "{report}");
    assert_eq!((report.skipped.len(), report.failed_now.count), (0, 0));
}
