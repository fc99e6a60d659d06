//! A timeline that is written while a program runs is that of its recording.

mod common;

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use common::{Bytes, Random, buffer};
use vkmem_engine::recording::{Recorder, Told};
use vkmem_engine::{
    Algorithm, Allocation, AllocationId, Allocator, AllocatorOptions, DefragmentationAlgorithm,
    DefragmentationInfo, MoveEnd, MoveOutcome, PoolCreateInfo, PoolId, SimulatedDevice,
    profile_info,
};
use vkmem_trace::{
    AllocatorHead, Recording, RecordingOptions, Target, TimelineOptions, write_perfetto,
};

fn begin(bytes: &Bytes) -> Recording {
    let options = RecordingOptions { program: Some("a program".into()), ..Default::default() };
    Recording::begin(Target::Timeline(Box::new(bytes.clone())), options).expect("threads")
}

fn written(bytes: &Bytes) -> Vec<u8> {
    bytes.0.lock().expect("no panic").clone()
}

/// Tells two recordings the same.
struct Both(Arc<vkmem_trace::Source>, Arc<vkmem_trace::Source>);

impl Recorder for Both {
    fn tell(&self, number: u64, told: &Told<'_>) {
        self.0.tell(number, told);
        self.1.tell(number, told);
    }
}

/// A number, and where it ends.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
}

/// The packets that are complete, and how many bytes they are.
fn packets(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    while bytes.get(at) == Some(&0x0A)
        && let Some((length, start)) = varint(bytes, at + 1)
        && let Some(packet) = bytes.get(start..start + length as usize)
    {
        all.push(packet);
        at = start + length as usize;
    }
    (all, at)
}

/// Packets without their times: neither that of a packet nor those of the clocks.
fn timeless(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (packets, length) = packets(bytes);
    assert_eq!(length, bytes.len(), "the last packet is cut off");
    let without = |packet: &&[u8]| -> Vec<u8> {
        let (mut kept, mut at) = (Vec::new(), 0);
        while at < packet.len() {
            let (key, after) = varint(packet, at).expect("a key");
            let end = match key & 7 {
                0 => varint(packet, after).expect("a number").1,
                1 => after + 8,
                _ => {
                    let (length, start) = varint(packet, after).expect("a length");
                    start + length as usize
                }
            };
            if !matches!(key >> 3, 6 | 8) {
                kept.extend_from_slice(&packet[at..end]);
            }
            at = end;
        }
        kept
    };
    packets.iter().map(without).collect()
}

/// A random program with all that a timeline shows.
struct Program {
    random: Random,
    allocator: Allocator,
    live: Vec<Allocation>,
    pools: Vec<PoolId>,
    frame: u64,
}

impl Program {
    fn new(seed: u64) -> Self {
        let info = profile_info("discrete-8gib-bar").expect("a profile");
        let options =
            AllocatorOptions { preferred_block_size: Some(1 << 20), ..AllocatorOptions::default() };
        let device = Arc::new(SimulatedDevice::new(info));
        let allocator = Allocator::new(device, &options).expect("sound options");
        let (live, pools) = (Vec::new(), Vec::new());
        Self { random: Random(seed | 1), allocator, live, pools, frame: 0 }
    }

    fn create(&mut self) {
        let mut request = buffer(0x80);
        request.alignment = Some(256);
        // Types of both heaps, one after the other.
        let types = self.allocator.device().info().types.len() as u64;
        let most = if self.frame < 3 { 1 } else { types };
        request.memory_type_bits = Some(1 << self.random.below(most));
        request.usage = vkmem_engine::MemoryUsage::Unknown;
        let custom = self.random.below(2 * self.pools.len() as u64 + 1) as usize;
        let pool = self.pools.get(custom).copied();
        if pool.is_some() {
            request.memory_type_bits = Some(u32::MAX);
        }
        let size = match self.random.below(50) {
            0 => 1 << 40,
            _ => self.random.size(),
        };
        let request = request.to_engine(size, pool, 1).expect("it is complete");
        if let Ok(made) = self.allocator.allocate(&request) {
            self.live.push(made);
        }
    }

    fn defragment(&mut self) {
        let info = DefragmentationInfo {
            pool: None,
            algorithm: DefragmentationAlgorithm::Full,
            max_bytes_per_pass: 1 << 20,
            max_moves_per_pass: 8,
            max_regions_per_pass: 0,
            slides: true,
        };
        let Ok(mut run) = self.allocator.begin_defragmentation(&info) else { return };
        for _ in 0..2 {
            let moves = self.allocator.next_pass(&mut run, &|_| true);
            let outcomes = vec![MoveOutcome::Copy; moves.len()];
            let end = self.allocator.end_pass(&mut run, &moves, &outcomes);
            let places: HashMap<AllocationId, usize> =
                self.live.iter().enumerate().map(|(at, it)| (it.id, at)).collect();
            for (it, end) in moves.iter().zip(&end.ends) {
                if let MoveEnd::Moved(moved) = end {
                    self.live[places[&it.source.id]] = *moved;
                }
            }
        }
        self.allocator.end_defragmentation(run);
    }

    fn step(&mut self, tell: &dyn Recorder) {
        match self.random.below(60) {
            0 => {
                self.frame += 1;
                self.allocator.set_frame(self.frame);
                self.allocator.refresh_budget();
                let (block_count, block_bytes, usage) = (1, 1 << 20, 1 << 21);
                let budget = self.random.below(2) << 30;
                let told = Told::Budget { heap: 0, block_count, block_bytes, usage, budget };
                tell.tell(vkmem_engine::recording::next_number(), &told);
            }
            1 if self.pools.len() < 6 => {
                let info = PoolCreateInfo {
                    memory_type_index: 1,
                    block_size: Some(1 << 18),
                    min_block_count: self.random.below(2) as u32,
                    algorithm: Algorithm::Tlsf,
                    ..PoolCreateInfo::default()
                };
                let pool = self.allocator.create_pool(&info).expect("there is memory");
                self.pools.push(pool);
                if self.random.below(3) > 0 {
                    let number = vkmem_engine::recording::next_number();
                    tell.tell(number, &Told::NamePool(pool, Some("a pool")));
                }
            }
            2 => self.defragment(),
            3 => drop(self.allocator.trim()),
            _ if self.live.len() < 200 && self.random.below(5) > 1 => self.create(),
            _ => {
                let count = self.live.len() as u64;
                if count > 0 {
                    let it = self.live.swap_remove(self.random.below(count) as usize);
                    drop(self.allocator.free(it.id).expect("it is live"));
                }
            }
        }
    }
}

#[test]
fn it_is_the_export_of_the_recording() {
    for seed in 1..4 {
        let mut program = Program::new(seed);
        let (bytes, live) = (Bytes::default(), Bytes::default());
        let options = RecordingOptions { program: Some("a program".into()), ..Default::default() };
        let target = Target::Writer(Box::new(bytes.clone()));
        let (recording, timeline) =
            (Recording::begin(target, options).expect("threads"), begin(&live));
        let options = AllocatorOptions::default();
        let attach =
            |to: &Recording| to.attach(&program.allocator, &options, AllocatorHead::default());
        let both = Arc::new(Both(attach(&recording), attach(&timeline)));
        program.allocator.set_recorder(Some(both.clone()));
        for step in 0..6000 {
            if step % 6 == 0 {
                recording.mark(&format!("moment {step}"));
                timeline.mark(&format!("moment {step}"));
            }
            program.step(&*both);
            if step % 1000 == 999 {
                timeline.flush();
                let so_far = written(&live);
                assert_eq!(packets(&so_far).1, so_far.len(), "only whole packets are written");
            }
        }
        program.allocator.set_recorder(None);
        let (finished, drawn) = (recording.finish(), timeline.finish());
        assert!(drawn.error.is_none() && drawn.dropped == 0, "{drawn:?}");
        assert_eq!(finished.events, drawn.events);
        let options = TimelineOptions::default();
        let exported = write_perfetto(&bytes.load(), options, Vec::new()).expect("memory");
        let (expected, found) = (timeless(&exported), timeless(&written(&live)));
        assert!(expected.len() > 5000, "{}", expected.len());
        if let Some(at) = expected.iter().zip(&found).position(|(a, b)| a != b) {
            let shown = |it: &[Vec<u8>]| String::from_utf8_lossy(&it[at]).into_owned();
            panic!("packet {at}: {:?} instead of {:?}", shown(&found), shown(&expected));
        }
        assert_eq!(expected.len(), found.len());
        let text = String::from_utf8_lossy(&exported).into_owned();
        for part in ["pool 0", ": a pool live", "memory type 1 held", "heap 0 budget"] {
            assert!(text.contains(part), "{part}");
        }
        for part in ["move out", "defragmentation 0", "allocation failed", "frame 9", "pass"] {
            assert!(text.contains(part), "{part}");
        }
    }
}

/// An output that takes nothing until it is let.
struct Slow(Mutex<Receiver<()>>, Bytes);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The sender is gone once it is let.
        let _ = self.0.lock().expect("no panic").recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_call_waits_for_a_slow_disk() {
    let ((lets, wait), bytes) = (channel::<()>(), Bytes::default());
    let target = Target::Timeline(Box::new(Slow(Mutex::new(wait), bytes.clone())));
    let options = RecordingOptions { most_waiting: Some(1000), ..Default::default() };
    let recording = Recording::begin(target, options).expect("threads");
    // It hangs in its first write meanwhile.
    for _ in 0..20_000 {
        recording.mark("a mark");
    }
    drop(lets);
    let finished = recording.finish();
    assert!(finished.error.is_none() && finished.dropped > 10_000, "{finished:?}");
    let written = written(&bytes);
    assert_eq!(packets(&written).1, written.len());
    let text = String::from_utf8_lossy(&written).into_owned();
    let told: u64 = text
        .match_indices(" calls were not recorded")
        .map(|(at, _)| {
            let digits = text[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
            text[at - digits..at].parse::<u64>().expect("a number")
        })
        .sum();
    assert_eq!(told, finished.dropped);
}

#[test]
fn a_timeline_of_nothing_is_one() {
    let bytes = Bytes::default();
    let recording = begin(&bytes);
    recording.flush();
    assert!(written(&bytes).is_empty());
    assert_eq!(recording.finish().events, 0);
    let written = written(&bytes);
    let (packets, length) = packets(&written);
    assert_eq!(length, written.len());
    let text = String::from_utf8_lossy(&written).into_owned();
    assert!(packets.len() > 5 && text.contains("memory held") && text.contains("a program"));
}
