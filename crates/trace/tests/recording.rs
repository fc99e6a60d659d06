//! Recordings: a replay of one puts everything where it was.

mod common;

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use common::{Bytes, Random, buffer};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationId, AllocationRequest,
    Allocator, AllocatorOptions, DebugOptions, DefragmentationAlgorithm, DefragmentationInfo,
    Describe, Description, DeviceInfo, Evictable, EvictionOwner, MemoryPropertyFlags, MoveOutcome,
    PoolCreateInfo, PoolId, QuarantineLimit, ResourceKind, SimulatedDevice, profile_info,
    profile_names,
};
use vkmem_trace::{Kind, Recording, RecordingOptions, ReplaySettings, Target, Trace, load, replay};

/// Tells a dump no more than the engine knows.
struct Plain;

impl Describe for Plain {
    fn allocation(&self, _: AllocationId) -> Description<'_> {
        Description::default()
    }

    fn pool(&self, _: PoolId) -> Option<&str> {
        None
    }
}

/// Loses everything that it is asked for, but for every fourth question.
#[derive(Default)]
struct Owner(Mutex<u32>);

impl EvictionOwner for Owner {
    fn evict(
        &self,
        victims: &[AllocationId],
        commit: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Vec<AllocationId>> {
        let mut asked = self.0.lock().expect("no panic");
        *asked += 1;
        if asked.is_multiple_of(4) {
            return Err(victims[..1].to_vec());
        }
        drop(asked);
        Ok(commit())
    }
}

/// A random program on an allocator, with everything that decides where something goes.
struct Program {
    random: Random,
    device: Arc<SimulatedDevice>,
    allocator: Allocator,
    live: Vec<(Allocation, Option<Evictable>)>,
    /// Old places of allocations that have moved.
    left: Vec<AllocationId>,
    pools: Vec<PoolId>,
    mapped: Vec<AllocationId>,
    frame: u64,
}

impl Program {
    fn new(info: &DeviceInfo, options: &AllocatorOptions, seed: u64) -> Self {
        let device = Arc::new(SimulatedDevice::new(info.clone()));
        let allocator = Allocator::new(device.clone(), options).expect("sound options");
        allocator.set_eviction_owner(Some(Arc::new(Owner::default())));
        Self {
            random: Random(seed | 1),
            device,
            allocator,
            live: Vec::new(),
            left: Vec::new(),
            pools: Vec::new(),
            mapped: Vec::new(),
            frame: 0,
        }
    }

    fn create_pools(&mut self) {
        let info = self.allocator.device().info().clone();
        let types = info.types.iter().enumerate();
        let mut usable = types.filter(|(_, it)| {
            !it.flags.intersects(
                MemoryPropertyFlags::DEVICE_COHERENT_AMD | MemoryPropertyFlags::LAZILY_ALLOCATED,
            ) && info.heaps[it.heap_index as usize].size >= 1 << 28
        });
        let memory_type_index = usable.next_back().map_or(0, |it| it.0 as u32);
        for (number, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            for debugs in [false, true] {
                let debug = debugs.then_some(DebugOptions {
                    margin: 64,
                    quarantine: Some(QuarantineLimit::Bytes(1 << 20)),
                    ..DebugOptions::default()
                });
                let rules = PoolCreateInfo {
                    memory_type_index,
                    block_size: Some(1 << 22),
                    max_block_count: 4 * u32::from(debugs),
                    min_block_count: u32::from(algorithm == Algorithm::Buddy),
                    algorithm,
                    fallback: number != 1,
                    debug,
                    ..PoolCreateInfo::default()
                };
                self.pools.push(self.allocator.create_pool(&rules).expect("there is memory"));
            }
        }
    }

    fn request(&mut self) -> AllocationRequest {
        let size = self.random.size();
        let mut request = buffer(0x80);
        request.alignment = Some(1 << (4 + self.random.below(5)));
        request.memory_type_bits = Some(u32::MAX >> (32 - self.device_types()));
        request.kind = match self.random.below(4) {
            0 => ResourceKind::ImageOptimal,
            _ => ResourceKind::Buffer,
        };
        let mut pool = None;
        match self.random.below(12) {
            0 => request.flags |= Create::HOST_ACCESS_SEQUENTIAL_WRITE | Create::MAPPED,
            1 => request.flags |= Create::DEDICATED_MEMORY,
            2 => request.flags |= Create::STRATEGY_MIN_MEMORY,
            3 => request.flags |= Create::STRATEGY_MIN_OFFSET | Create::WITHIN_BUDGET,
            4 => {
                request.flags |= Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
                request.priority = Some((self.random.below(5) as f32 / 4.0).into());
            }
            5..9 if !self.pools.is_empty() => {
                pool = Some(self.random.below(self.pools.len() as u64) as usize);
            }
            9 => request.min_alignment = 1 << self.random.below(13),
            _ => {}
        }
        if pool == Some(2) && self.random.below(2) == 0 {
            request.flags |= Create::UPPER_ADDRESS;
        }
        if pool.is_some_and(|it| it % 2 == 1) {
            request.flags |= Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST;
        }
        let pool = pool.map(|it| self.pools[it]);
        request.to_engine(size, pool, 1).expect("it is complete")
    }

    fn device_types(&self) -> u32 {
        self.allocator.device().info().types.len() as u32
    }

    fn keep(&mut self, made: Allocation, request: &AllocationRequest) {
        let create = &request.create_info;
        let evictable = create.flags.contains(Create::CAN_BECOME_LOST).then(|| {
            let priority = create.priority.unwrap_or(0.5);
            self.allocator.make_evictable(&made, priority).expect("there is host memory")
        });
        self.live.push((made, evictable));
    }

    fn take(&mut self) -> Option<(Allocation, Option<Evictable>)> {
        let count = self.live.len() as u64;
        (count > 0).then(|| self.live.swap_remove(self.random.below(count) as usize))
    }

    fn free(&mut self) {
        let Some((made, evictable)) = self.take() else { return };
        if evictable.is_some_and(Evictable::end) {
            return;
        }
        if let Some(at) = self.mapped.iter().position(|it| *it == made.id) {
            self.mapped.swap_remove(at);
            self.allocator.unmap(made.id).expect("it is mapped");
        }
        drop(self.allocator.free(made.id).expect("it is live"));
    }

    fn group(&mut self) {
        let count = 1 + self.random.below(20) as usize;
        if self.random.below(2) == 0 {
            let mut request = self.request();
            request.create_info.flags -= Create::CAN_BECOME_LOST;
            let requests: Vec<_> = (0..count)
                .map(|_| {
                    let mut one = request;
                    one.requirements.size = self.random.size();
                    one
                })
                .collect();
            if let Ok(made) = self.allocator.allocate_many(&requests) {
                self.live.extend(made.into_iter().map(|it| (it, None)));
            }
        } else {
            let mut ids = Vec::new();
            for _ in 0..count {
                let Some((made, evictable)) = self.take() else { break };
                if self.mapped.contains(&made.id) {
                    self.live.push((made, evictable));
                } else if !evictable.is_some_and(Evictable::end) {
                    ids.push(made.id);
                }
            }
            drop(self.allocator.free_many(&ids));
        }
    }

    fn moved(&mut self, from: AllocationId, to: &Allocation) {
        let found = self.live.iter_mut().find(|it| it.0.id == from).expect("it is live");
        found.0 = *to;
        if let Some(evictable) = &found.1 {
            evictable.relocated(to).expect("within its pool");
        }
    }

    fn defragment(&mut self) {
        let custom = self.random.below(self.pools.len() as u64 + 1) as usize;
        let pool = self.pools.get(custom).copied();
        let info = DefragmentationInfo {
            pool,
            algorithm: DefragmentationAlgorithm::Full,
            max_bytes_per_pass: 1 << 22,
            max_moves_per_pass: 32,
            max_regions_per_pass: 0,
            slides: self.random.below(2) == 0,
        };
        let Ok(mut run) = self.allocator.begin_defragmentation(&info) else { return };
        let refused = self.random.below(7);
        for pass in 0..4 {
            if pass == 2 {
                run.set_limits(1 << 20, 20);
            }
            let places: HashMap<AllocationId, u64> =
                self.live.iter().map(|it| (it.0.id, it.0.offset)).collect();
            let may = |id| places.get(&id).is_some_and(|it| it / 4096 % 7 != refused);
            let moves = self.allocator.next_pass(&mut run, &may);
            for it in moves {
                match self.random.below(8) {
                    0 => drop(self.allocator.cancel_move(&mut run, &it)),
                    1..4 => match self.allocator.commit_move(&mut run, &it) {
                        Ok(moved) => {
                            if it.kind == vkmem_engine::MoveKind::Apart {
                                self.left.push(it.source.id);
                            }
                            self.moved(it.source.id, &moved);
                        }
                        Err(_) => drop(self.allocator.cancel_move(&mut run, &it)),
                    },
                    _ => {
                        let outcome = [MoveOutcome::Copy];
                        let end = self.allocator.end_pass(&mut run, &[it], &outcome);
                        if let vkmem_engine::MoveEnd::Moved(moved) = end.ends[0] {
                            self.moved(it.source.id, &moved);
                        }
                    }
                }
            }
            if self.random.below(2) == 0 {
                let left = std::mem::take(&mut self.left);
                drop(self.allocator.free_many(&left));
            }
        }
        self.allocator.end_defragmentation(run);
        for id in std::mem::take(&mut self.left) {
            drop(self.allocator.free(id).expect("it was left"));
        }
    }

    fn step(&mut self, most_live: usize) {
        match self.random.below(100) {
            0 => {
                self.frame += 1;
                self.allocator.set_frame(self.frame);
                self.allocator.end_overdue_quarantines();
                self.allocator.refresh_budget();
            }
            1 => self.group(),
            2 if self.random.below(4) == 0 => drop(self.allocator.trim()),
            2 => drop(self.allocator.statistics()),
            3 => _ = self.allocator.make_allocations_lost(None).expect("all pools"),
            4 if self.random.below(3) == 0 => self.defragment(),
            4 => drop(self.allocator.heap_budgets()),
            5 => _ = self.allocator.evict_over_budget(),
            6 if self.random.below(8) == 0 => _ = self.allocator.end_quarantines(),
            7..10 => {
                for (_, evictable) in &self.live {
                    if let Some(evictable) = evictable
                        && self.random.below(3) == 0
                    {
                        evictable.touch();
                    }
                }
            }
            10..14 => {
                let count = self.live.len() as u64;
                if count > 0 {
                    let (made, evictable) = &self.live[self.random.below(count) as usize];
                    let is_lost = evictable.as_ref().is_some_and(Evictable::is_lost);
                    if !is_lost && self.allocator.map(made.id).is_ok() {
                        self.allocator.flush(made.id, 0, u64::MAX).expect("the whole of it");
                        match self.mapped.contains(&made.id) || self.random.below(2) == 0 {
                            true => self.allocator.unmap(made.id).expect("it is mapped"),
                            false => self.mapped.push(made.id),
                        }
                    }
                    if !is_lost {
                        self.allocator.set_name(made.id, Some("a name")).expect("it is live");
                    }
                }
            }
            14 => {
                // Somebody else uses memory, or the driver fails.
                let heaps = self.allocator.device().info().heaps.len() as u64;
                let heap = self.random.below(heaps) as u32;
                self.device.occupy(heap, self.random.below(1 << 26));
            }
            _ if self.live.len() < most_live && self.random.below(5) > 1 => {
                let request = self.request();
                if let Ok(made) = self.allocator.allocate(&request) {
                    self.keep(made, &request);
                }
            }
            _ => self.free(),
        }
    }

    fn dump(&self) -> String {
        self.allocator.build_stats_string(true, &Plain).expect("there is host memory")
    }
}

/// Replays a trace; returns the dump.
fn check(trace: Trace, what: &str, least: u64) -> (String, Trace) {
    let trace = Arc::new(trace);
    let settings = ReplaySettings { records: true, ..ReplaySettings::default() };
    let played = replay(&trace, &settings).expect("sound settings");
    let report = played.report();
    let placements = &report.placements;
    if let Some(first) = &placements.first {
        for (index, event) in trace.events().enumerate().take(first.event + 3) {
            if index + 12 > first.event {
                eprintln!("{index}: {} {} {:?}", event.sequence, event.thread, event.call);
            }
        }
    }
    assert_eq!((placements.differing, &placements.first), (0, &None), "{what}");
    assert_eq!(report.skipped.iter().next(), None, "{what}: {report}");
    assert!(placements.checked >= least, "{what}: {report}");
    assert_eq!(report.failed_now.count + report.succeeded_now.count, 0, "{what}: {report}");
    let allocator = played.allocator(0).expect("it exists");
    let dump = allocator.build_stats_string(true, &Plain).expect("there is host memory");
    (dump, played.into_trace().expect("it was recorded"))
}

fn count(trace: &Trace, kind: Kind) -> usize {
    trace.columns().kinds().iter().filter(|it| **it == kind as u8).count()
}

#[test]
fn replays_put_everything_where_it_was() {
    for (seed, name) in profile_names().iter().enumerate() {
        let info = profile_info(name).expect("a profile");
        let options = AllocatorOptions {
            preferred_block_size: Some(8 << 20),
            debug: match seed % 3 {
                0 => DebugOptions { margin: 32, ..DebugOptions::default() },
                1 => DebugOptions {
                    quarantine: Some(QuarantineLimit::Frames(2)),
                    min_granularity: Some(4096),
                    ..DebugOptions::default()
                },
                _ => DebugOptions::default(),
            },
            frames_in_use: 1,
            ..AllocatorOptions::default()
        };
        let mut program = Program::new(&info, &options, 100 + seed as u64);
        let bytes = Bytes::default();
        let recording = bytes.begin();
        recording.attach(&program.allocator, &options, Default::default());
        program.create_pools();
        for _ in 0..4000 {
            program.step(250);
        }
        program.allocator.set_recorder(None);
        let finished = recording.finish();
        assert!(finished.error.is_none() && finished.dropped == 0, "{finished:?}");
        let trace = bytes.load();
        assert_eq!(finished.events, trace.len() as u64);
        for kind in [
            Kind::Lose,
            Kind::Touch,
            Kind::RefuseLosses,
            Kind::EndMove,
            Kind::KeepSource,
            Kind::RefuseMoves,
            Kind::LimitPasses,
            Kind::Group,
            Kind::EndQuarantine,
            Kind::QueryBudget,
            Kind::AllocateMemory,
            Kind::FreeMemory,
            Kind::Name,
        ] {
            assert!(count(&trace, kind) > 0, "{name}: {}", kind.name());
        }
        let (dump, _) = check(trace, name, 1500);
        assert_eq!(dump, program.dump(), "{name}");
    }
}

/// Threads that allocate and free in blocks that are there: what happens in a pool has one order.
#[test]
fn threads_replay_on_one() {
    let info = profile_info("discrete-8gib").expect("a profile");
    for algorithm in [Algorithm::Tlsf, Algorithm::Buddy] {
        let options = AllocatorOptions::default();
        let device = Arc::new(SimulatedDevice::new(info.clone()));
        let allocator = Allocator::new(device, &options).expect("sound options");
        let bytes = Bytes::default();
        let recording = bytes.begin();
        recording.attach(&allocator, &options, Default::default());
        let rules = PoolCreateInfo {
            memory_type_index: 0,
            block_size: Some(1 << 26),
            min_block_count: 1,
            algorithm,
            ..PoolCreateInfo::default()
        };
        let pool = allocator.create_pool(&rules).expect("there is memory");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let allocator = &allocator;
                scope.spawn(move || {
                    let mut random = Random(77 + thread);
                    let mut live: Vec<Allocation> = Vec::new();
                    for _ in 0..2000 {
                        if live.len() < 40 && random.below(5) > 1 {
                            let mut request = buffer(0x80);
                            request.alignment = Some(16);
                            request.memory_type_bits = Some(1);
                            let size = 1 + random.below(10_000);
                            let request = request.to_engine(size, Some(pool), 1);
                            let request = request.expect("it is complete");
                            live.push(allocator.allocate(&request).expect("there is room"));
                        } else if !live.is_empty() {
                            let at = random.below(live.len() as u64) as usize;
                            let freed = allocator.free(live.swap_remove(at).id);
                            drop(freed.expect("it is live"));
                        }
                    }
                });
            }
        });
        allocator.set_recorder(None);
        assert_eq!(recording.finish().dropped, 0);
        let trace = bytes.load();
        let threads: std::collections::HashSet<_> = trace.columns().threads().iter().collect();
        assert!(threads.len() >= 4);
        let (dump, _) = check(trace, algorithm.name(), 3000);
        let here = allocator.build_stats_string(true, &Plain).expect("there is host memory");
        assert_eq!(dump, here, "{}", algorithm.name());
    }
}

#[test]
fn a_ring_has_the_last_events() {
    let info = profile_info("discrete-8gib").expect("a profile");
    let options = AllocatorOptions::default();
    let mut program = Program::new(&info, &options, 5);
    let recording = Recording::begin(Target::Ring(500), RecordingOptions::default());
    let recording = recording.expect("there are threads");
    recording.attach(&program.allocator, &options, Default::default());
    program.create_pools();
    let (mut all, mut last) = (0, 0);
    for round in 0..8 {
        (0..300).for_each(|_| program.step(100));
        let mut file = Vec::new();
        let saved = recording.save(&mut file).expect("it is a ring").expect("memory takes all");
        let trace = load(&file).expect("a sound recording");
        assert_eq!(trace.len() as u64, saved);
        assert!(saved >= 500.min(recording.counts().0), "{saved}");
        assert!(round == 0 || saved < 2000, "{saved}");
        let newest = *trace.columns().sequences().last().expect("there are events");
        assert!(newest > last, "{newest}");
        (all, last) = (recording.counts().0, newest);
    }
    assert!(all > 2000);
    program.allocator.set_recorder(None);
    recording.finish();
}

#[test]
fn what_is_too_fast_is_left_out_and_counted() {
    struct Slow(Bytes);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let info = profile_info("discrete-8gib").expect("a profile");
    let options = AllocatorOptions::default();
    let mut program = Program::new(&info, &options, 6);
    let bytes = Bytes::default();
    let limits = RecordingOptions { most_waiting: Some(50), ..RecordingOptions::default() };
    let target = Target::Writer(Box::new(Slow(bytes.clone())));
    let recording = Recording::begin(target, limits).expect("there are threads");
    recording.attach(&program.allocator, &options, Default::default());
    program.create_pools();
    (0..3000).for_each(|_| program.step(100));
    program.allocator.set_recorder(None);
    let finished = recording.finish();
    assert!(finished.dropped > 1000, "{finished:?}");
    let trace = bytes.load();
    assert_eq!(trace.len() as u64, finished.events);
    assert!(count(&trace, Kind::Mark) > 0);
}

#[test]
fn an_output_that_fails_ends_the_recording_only() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let info = profile_info("discrete-8gib").expect("a profile");
    let options = AllocatorOptions::default();
    for room in [0, 100, 5000] {
        let mut program = Program::new(&info, &options, 7);
        let told = Arc::new(Mutex::new(0));
        let theirs = told.clone();
        let on_failure = vkmem_trace::OnFailure(Arc::new(move || {
            *theirs.lock().expect("no panic") += 1;
        }));
        let settings =
            RecordingOptions { on_failure: Some(on_failure), ..RecordingOptions::default() };
        let recording = Recording::begin(Target::Writer(Box::new(Full(room))), settings);
        let recording = recording.expect("there are threads");
        recording.attach(&program.allocator, &options, Default::default());
        program.create_pools();
        for _ in 0..5 {
            (0..500).for_each(|_| program.step(100));
            recording.flush();
        }
        assert!(recording.has_failed());
        program.allocator.set_recorder(None);
        let error = recording.finish().error.expect("it failed");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(*told.lock().expect("no panic"), 1);
        assert_eq!(program.allocator.validate(), Ok(()));
    }
}

#[test]
fn two_allocators_in_one_recording_replay_both() {
    let bytes = Bytes::default();
    let recording = bytes.begin();
    let options = AllocatorOptions::default();
    let info = profile_info("discrete-8gib").expect("a profile");
    let mut programs: Vec<Program> =
        (0..2).map(|it| Program::new(&info, &options, 50 + it)).collect();
    for program in &mut programs {
        recording.attach(&program.allocator, &options, Default::default());
        program.create_pools();
    }
    for _ in 0..1500 {
        programs.iter_mut().for_each(|it| it.step(150));
    }
    for program in &programs {
        program.allocator.set_recorder(None);
    }
    assert!(recording.finish().error.is_none());
    let played = replay(&Arc::new(bytes.load()), &ReplaySettings::default());
    let played = played.expect("sound settings");
    let placements = &played.report().placements;
    assert_eq!((placements.differing, &placements.first), (0, &None));
    assert!(placements.checked > 1000);
    for (number, program) in (0..).zip(&programs) {
        let dump = played.allocator(number).expect("it exists").build_stats_string(true, &Plain);
        assert_eq!(dump.expect("there is host memory"), program.dump());
    }
}
