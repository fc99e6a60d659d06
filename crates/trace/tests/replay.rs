//! Replays: recordings of this library come out as they were recorded, others as well as they can.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{allocate, buffer, image, random_program, recorded, trace_of};
use vkmem_engine::{
    Algorithm, AllocationCreateFlags as Create, DebugOptions, DeviceMemory, EmptyBlockRetention,
    MemoryHeapFlags, MemoryPropertyFlags, PoolCreateInfo, SimulatedDevice, profile_info,
    profile_names, simulated_info,
};
use vkmem_trace::{
    Call, Clock, Kind, ReplayDevice, ReplaySettings, ReplayThreads, Replayed, Trace, compare,
    comparison_table, load, replay,
};

const MIB: u64 = 1 << 20;

fn play(trace: &Arc<Trace>, settings: &ReplaySettings) -> Replayed {
    replay(trace, settings).expect("sound settings")
}

fn small_device() -> vkmem_engine::DeviceInfo {
    let local = MemoryPropertyFlags::DEVICE_LOCAL
        | MemoryPropertyFlags::HOST_VISIBLE
        | MemoryPropertyFlags::HOST_COHERENT;
    simulated_info(&[(256 * MIB, MemoryHeapFlags::DEVICE_LOCAL)], &[(0, local)])
}

fn count(trace: &Trace, kind: Kind) -> usize {
    trace.columns().kinds().iter().filter(|it| **it == kind as u8).count()
}

#[test]
fn our_recordings_come_out_as_recorded_on_all_devices() {
    for (seed, name) in profile_names().iter().enumerate() {
        let device = profile_info(name).expect("a profile");
        let source = random_program(&device, 77 + seed as u64, 4000, 300);
        let first = play(
            &Arc::new(source.clone()),
            &ReplaySettings { records: true, ..Default::default() },
        );
        let dump = first.dump(0, true).expect("it exists").expect("there is memory");
        assert_eq!(first.report().skipped.values().sum::<u64>(), 0, "{name}: {}", first.report());
        let ours = Arc::new(first.into_trace().expect("it was recorded"));
        assert!(count(&ours, Kind::EndMove) > 0, "{name}");
        let again = play(&ours, &ReplaySettings::default());
        let report = again.report();
        assert!(report.placements.checked > 2000, "{name}: {report}");
        assert_eq!((report.placements.differing, &report.placements.first), (0, &None), "{name}");
        assert_eq!(report.failed_now.count + report.succeeded_now.count, 0, "{name}: {report}");
        assert_eq!(again.dump(0, true).expect("it exists"), Ok(dump), "{name}");
        // Recorded again it is the same trace.
        let settings = ReplaySettings { records: true, ..Default::default() };
        let third = play(&ours, &settings).into_trace().expect("it was recorded");
        let calls = |trace: &Trace| -> Vec<String> {
            trace.events().map(|it| format!("{:?}", it.call)).collect()
        };
        for (index, (one, other)) in calls(&ours).into_iter().zip(calls(&third)).enumerate() {
            assert_eq!(one, other, "{name}: event {index}");
        }
        assert_eq!(ours.len(), third.len());
    }
}

#[test]
fn a_difference_is_told_with_its_event() {
    let device = small_device();
    let calls = (0..10).map(|number| allocate(number, buffer(0x80), 1000 + u64::from(number)));
    let ours = recorded(trace_of(&device, calls), &ReplaySettings::default());
    // The same recording, but one allocation was somewhere else.
    let mut changed = trace_of(&device, ours.events().map(|it| it.call)).clone();
    let at =
        changed.events().position(|it| matches!(it.call, Call::Allocate { allocation: 6, .. }));
    let at = at.expect("it is there");
    let calls = changed.events().enumerate().map(|(index, mut event)| {
        if index == at
            && let Call::Allocate { placed: Some(placed), .. } = &mut event.call
        {
            placed.offset += 4096;
        }
        event.call
    });
    let calls: Vec<Call<'_>> = calls.collect();
    changed = trace_of(&device, calls);
    let played = play(&Arc::new(changed), &ReplaySettings::default());
    let placements = &played.report().placements;
    assert_eq!((placements.checked, placements.differing), (10, 1));
    let first = placements.first.as_ref().expect("there is one");
    assert_eq!(first.event, at);
    assert!(first.recorded.contains("offset"), "{first:?}");
    assert_ne!(first.recorded, first.now);
}

#[test]
fn the_driver_fails_where_it_failed() {
    let info = profile_info("discrete-8gib").expect("a profile");
    let device = Arc::new(SimulatedDevice::new(info.clone()));
    // Other processes leave little: the driver refuses what the allocator thinks there is.
    device.occupy(0, info.heaps[0].size - 200 * MIB);
    let calls = (0..30).map(|number| allocate(number, buffer(0x80), 20 * MIB));
    let settings = ReplaySettings {
        device: ReplayDevice::Other(device.clone() as Arc<dyn DeviceMemory>),
        records: true,
        ..Default::default()
    };
    let first = play(&Arc::new(trace_of(&info, calls)), &settings);
    let failed = first.report().driver[0].failed;
    assert!(failed > 3, "{}", first.report());
    let ours = Arc::new(first.into_trace().expect("it was recorded"));
    let report = play(&ours, &ReplaySettings::default()).into_report();
    assert_eq!((report.placements.differing, &report.placements.first), (0, &None));
    assert_eq!(report.driver[0].failed, failed);
    let settings = ReplaySettings { injects_failures: false, ..Default::default() };
    let report = play(&ours, &settings).into_report();
    assert_eq!((report.driver[0].failed, report.placements.checked), (0, 0));
    device.assert_no_violations();
}

#[test]
fn failures_then_and_now() {
    let device = small_device();
    let calls = (0..4).map(|number| allocate(number, buffer(0x80), 60 * MIB)).chain([
        Call::AllocateFailed {
            request: buffer(0x80),
            size: None,
            buffer_size: Some(MIB),
            failure: Some(Box::default()),
        },
        Call::AllocateFailed {
            request: buffer(0x80),
            size: None,
            buffer_size: Some(1 << 40),
            failure: Some(Box::default()),
        },
    ]);
    let trace = Arc::new(trace_of(&device, calls));
    let settings = ReplaySettings { heap_size_limits: Some(vec![130 * MIB]), ..Default::default() };
    let report = play(&trace, &settings).into_report();
    assert_eq!((report.failed_now.count, report.failed_now.bytes), (2, 120 * MIB));
    assert_eq!(report.failed_now.first[0].event, 2);
    assert!(report.failed_now.first[0].what.contains("out of device memory"), "{report}");
    assert_eq!((report.succeeded_now.count, report.succeeded_now.bytes), (1, MIB));
    assert_eq!(report.failed_again, 1);
    assert_eq!(report.leftovers.allocations, 2);
    assert_eq!((report.live, report.peak_live.bytes), (120 * MIB, 121 * MIB - MIB));
    let text = report.to_string();
    assert!(text.contains("failed now, succeeded in the recording: 2 of 120.0 MiB"), "{text}");
    assert!(text.contains("never freed: 2 allocations of 120.0 MiB"), "{text}");
    let json = report.to_json();
    assert!(
        json.contains(r#""failed_now":{"count":2,"bytes":125829120,"first":[{"event":2,"#),
        "{json}"
    );
}

#[test]
fn settings_change_what_they_say() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let trace = Arc::new(random_program(&device, 5, 3000, 200));
    let played = |settings: ReplaySettings| play(&trace, &settings).into_report();
    let plain = played(ReplaySettings::default());
    let small = played(ReplaySettings { block_size: Some(MIB * 4), ..Default::default() });
    assert!(small.peak_held.bytes < plain.peak_held.bytes, "{small}{plain}");
    assert!(small.driver[0].count > plain.driver[0].count);
    let none = EmptyBlockRetention { count: Some(0), ..Default::default() };
    let none = played(ReplaySettings { retention: Some(none), ..Default::default() });
    assert!(none.driver[0].count > plain.driver[0].count);
    let dedicated = Some(DebugOptions { always_dedicated: true, ..Default::default() });
    let dedicated = played(ReplaySettings { debug: dedicated, ..Default::default() });
    // But for pools with blocks of their own.
    assert!(dedicated.driver[0].count > 5 * plain.driver[0].count, "{dedicated}{plain}");
    assert!(dedicated.peak_held.bytes < plain.peak_held.bytes / 2, "{dedicated}{plain}");
    let margin = Some(DebugOptions { margin: 1 << 16, ..Default::default() });
    let margin = played(ReplaySettings { debug: margin, ..Default::default() });
    assert_eq!(margin.peak_live.bytes, plain.peak_live.bytes);
    assert!(margin.peak_held.bytes > plain.peak_held.bytes, "{margin}{plain}");
    for algorithm in [Algorithm::Buddy, Algorithm::Linear] {
        let settings = ReplaySettings { algorithm: Some(algorithm), ..Default::default() };
        let other = Arc::new(
            play(&trace, &ReplaySettings { records: true, ..settings.clone() })
                .into_trace()
                .expect("it was recorded"),
        );
        let of_pools = other.events().filter(|it| match &it.call {
            Call::CreatePool { info, .. } => {
                assert_eq!(info.algorithm, algorithm);
                true
            }
            _ => false,
        });
        assert!(of_pools.count() > 3);
        // What was recorded with another algorithm can be played as recorded, too.
        let again = play(&other, &ReplaySettings::default()).into_report();
        assert_eq!((again.placements.differing, &again.placements.first), (0, &None));
        assert!(again.placements.checked > 1000);
    }
}

#[test]
fn another_device_has_other_memory_types() {
    let here = profile_info("nvidia-h200").expect("a profile");
    let trace = Arc::new(random_program(&here, 9, 2000, 200));
    let ours = recorded((*trace).clone(), &ReplaySettings::default());
    for name in profile_names() {
        let info = profile_info(name).expect("a profile");
        let settings =
            ReplaySettings { device: ReplayDevice::Simulated(info), ..Default::default() };
        let report = play(&ours, &settings).into_report();
        assert_eq!(report.failed_now.count, 0, "{name}: {report}");
        assert_eq!(report.device_differences.is_empty(), *name == "nvidia-h200", "{name}");
        assert_eq!(report.placements.checked, 0);
    }
}

#[test]
fn threads_as_recorded_leave_the_same_live() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let source = random_program(&device, 3, 6000, 300);
    let mut builder = vkmem_trace::TraceBuilder::new(source.description().clone());
    let mut group = 0;
    for (index, mut event) in source.events().enumerate() {
        if let Call::Group { count, .. } = event.call {
            group = index + count as usize;
        }
        event.thread = if index <= group { 7 } else { 1000 + index as u32 % 5 };
        builder.push(&event).expect("small");
    }
    let trace = Arc::new(builder.finish());
    let one = play(&trace, &ReplaySettings::default()).into_report();
    let settings = ReplaySettings { threads: ReplayThreads::AsRecorded, ..Default::default() };
    let many = play(&trace, &settings);
    assert_eq!(many.allocator(0).expect("it exists").validate(), Ok(()));
    let many = many.into_report();
    assert_eq!((many.events, many.threads), (trace.len(), 6));
    assert_eq!(many.calls(), one.calls());
    assert_eq!(many.failed_now.count, 0);
    assert_eq!((many.live, many.leftovers.allocations), (one.live, one.leftovers.allocations));
    let settings = ReplaySettings { records: true, ..settings };
    assert!(replay(&trace, &settings).is_err());
}

#[test]
fn a_replay_stops_before_an_event() {
    let device = small_device();
    let calls = (0..10).map(|number| allocate(number, buffer(0x80), 1000));
    let trace = Arc::new(trace_of(&device, calls));
    for until in 0..=12 {
        let settings = ReplaySettings { until: Some(until), ..Default::default() };
        let played = play(&trace, &settings);
        let live = until.min(10) as u64;
        assert_eq!(played.report().leftovers.allocations, live);
        let counted = played.allocator(0).map(|it| it.statistics().allocation_count);
        assert_eq!(counted.unwrap_or(0), live);
        assert_eq!(played.allocation(9).is_some(), until >= 10);
    }
}

#[test]
fn a_clock_sees_every_call_and_may_end_it() {
    let device = small_device();
    let calls = (0..10).map(|number| allocate(number, buffer(0x80), 1000));
    let trace = Arc::new(trace_of(&device, calls));
    for threads in [ReplayThreads::One, ReplayThreads::AsRecorded] {
        let seen = Arc::new(AtomicUsize::new(0));
        let inside = seen.clone();
        let clock = Clock::new(move |index, time| {
            assert_eq!(time, index as u64 * 1000);
            inside.fetch_add(1, Ordering::Relaxed);
            if index == 6 {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        });
        let settings = ReplaySettings { clock: Some(clock), threads, ..Default::default() };
        let report = play(&trace, &settings).into_report();
        assert_eq!((report.events, report.leftovers.allocations), (6, 6));
        assert_eq!(seen.load(Ordering::Relaxed), 7);
    }
    let settings = ReplaySettings { clock: Some(Clock::recorded(0.001)), ..Default::default() };
    // 9 us, a thousand times slower.
    assert!(play(&trace, &settings).report().wall_time >= 9_000_000);
}

#[test]
fn budgets_of_the_recording_and_others() {
    let device = small_device();
    let mut within = buffer(0x80);
    within.flags |= Create::WITHIN_BUDGET;
    let budget = |budget| Call::Budget {
        heap: 0,
        block_count: 0,
        block_bytes: 0,
        allocation_count: 0,
        allocation_bytes: 0,
        usage: 5 * MIB,
        budget,
    };
    let calls = [
        Call::CreateAllocator { options: Some(Box::default()) },
        budget(100 * MIB),
        Call::BeginFrame {},
        allocate(0, within, 40 * MIB),
        budget(30 * MIB),
        Call::BeginFrame {},
        allocate(1, within, 40 * MIB),
    ];
    let trace = Arc::new(trace_of(&device, calls));
    let report = play(&trace, &ReplaySettings::default()).into_report();
    assert_eq!((report.failed_now.count, report.leftovers.allocations), (1, 1));
    let settings = ReplaySettings { budgets: Some(vec![200 * MIB]), ..Default::default() };
    assert_eq!(play(&trace, &settings).report().failed_now.count, 0);
    let settings = ReplaySettings { budgets: Some(vec![10 * MIB]), ..Default::default() };
    assert_eq!(play(&trace, &settings).report().failed_now.count, 2);
}

#[test]
fn the_recording_of_a_vega_plays_without_a_warning() {
    let trace = load(include_bytes!("data/vma-1.8-vega.csv")).expect("sound");
    let report = play(&Arc::new(trace), &ReplaySettings::default()).into_report();
    assert_eq!(report.skipped.len(), 0, "{report}");
    assert_eq!((report.failed_now.count, report.leftovers.allocations), (0, 0));
    assert_eq!((report.live, report.held), (0, 0));
    assert_eq!(report.device, "Radeon RX Vega");
    let classes: Vec<_> = report.classes.iter().map(|(name, it)| (*name, it.count)).collect();
    let expected = [
        ("depth/stencil image", 2),
        ("linear image", 1),
        ("other buffer", 2),
        ("sampled image", 1),
        ("vertex/index/indirect buffer", 2),
    ];
    assert_eq!(classes, expected);
    // 1424 x 704 of D16, twice, and what lives beside it.
    assert!(report.peak_live.bytes > 1424 * 704 * 2, "{report}");
    assert_eq!(report.recorded_time, 695_000_000);
}

#[test]
fn every_call_of_other_formats_is_played() {
    for bytes in [
        &include_bytes!("data/vma-all-calls.csv")[..],
        include_bytes!("data/vma-1.0.csv"),
        include_bytes!("data/rmm.csv"),
        include_bytes!("data/rmm-epoch.csv"),
        include_bytes!("data/snapshot-4.pickle"),
        include_bytes!("data/snapshot-whole.pickle"),
    ] {
        let trace = Arc::new(load(bytes).expect("sound"));
        for threads in [ReplayThreads::One, ReplayThreads::AsRecorded] {
            let settings = ReplaySettings { threads, ..Default::default() };
            let played = play(&trace, &settings);
            let report = played.report();
            assert_eq!(report.events, trace.len());
            // Only what is not possible is passed over.
            let passed_over: Vec<_> = report.skipped.keys().copied().collect();
            assert!(passed_over.iter().all(|it| it.contains("cannot")), "{report}");
            for number in played.allocators() {
                assert_eq!(played.allocator(number).expect("it exists").validate(), Ok(()));
            }
        }
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let trace = Arc::new(trace_of(&small_device(), []));
    let refused =
        |settings: ReplaySettings| replay(&trace, &settings).err().expect("refused").to_string();
    assert_eq!(
        refused(ReplaySettings { min_alignment: 3, ..Default::default() }),
        "min_alignment is 3, not a power of two"
    );
    let debug = Some(DebugOptions { margin: 3, ..Default::default() });
    assert!(refused(ReplaySettings { debug, ..Default::default() }).contains("margin"));
    assert!(refused(ReplaySettings { block_size: Some(0), ..Default::default() }).contains("is 0"));
    let mut none = small_device();
    none.heaps.clear();
    let device = ReplayDevice::Simulated(none);
    assert!(refused(ReplaySettings { device, ..Default::default() }).contains("heaps"));
}

#[test]
fn comparisons_are_in_the_order_of_the_settings() {
    let device = profile_info("integrated").expect("a profile");
    let trace = Arc::new(random_program(&device, 21, 1000, 100));
    let settings: Vec<ReplaySettings> = (0..6)
        .map(|it| ReplaySettings {
            name: format!("blocks of {} MiB", 1 << it),
            block_size: Some(MIB << it),
            ..Default::default()
        })
        .collect();
    let reports = compare(&trace, &settings, 3).expect("sound settings");
    let names: Vec<_> = reports.iter().map(|it| it.name.clone()).collect();
    let expected: Vec<_> = settings.iter().map(|it| it.name.clone()).collect();
    assert_eq!(names, expected);
    let table = comparison_table(&reports);
    assert_eq!(table.lines().count(), 7);
    assert!(table.lines().nth(3).expect("a line").starts_with("blocks of 4 MiB"), "{table}");
    // One thread finds the same.
    for (one, other) in compare(&trace, &settings, 1).expect("sound settings").iter().zip(&reports)
    {
        assert_eq!((one.peak_held, one.peak_live), (other.peak_held, other.peak_live));
        assert_eq!(one.driver, other.driver);
    }
}

#[test]
fn pools_that_failed_and_what_is_in_them() {
    let device = small_device();
    let info = PoolCreateInfo {
        block_size: Some(200 * MIB),
        min_block_count: 1,
        ..PoolCreateInfo::default()
    };
    let create = |pool| Call::CreatePool {
        pool,
        info,
        has_next: false,
        failure: pool.is_none().then(Box::default),
    };
    let mut inside = image(64);
    inside.pool = Some(1);
    let calls = [create(Some(0)), create(None), create(Some(1)), allocate(0, inside, 0)];
    let report =
        play(&Arc::new(trace_of(&device, calls)), &ReplaySettings::default()).into_report();
    assert_eq!((report.failed_again, report.failed_now.count), (1, 1));
    assert_eq!(
        report.skipped.into_iter().collect::<Vec<_>>(),
        [("what it refers to is not there", 1)]
    );
    assert_eq!((report.leftovers.pools, report.held), (1, 200 * MIB));
}

/// Large tables of the engine merge freed regions later; to look at them would merge them at once.
#[test]
fn samples_do_not_change_where_things_go() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let source = random_program(&device, 11, 60_000, 6000);
    let plain = recorded(source, &ReplaySettings { samples: 7, ..Default::default() });
    for samples in [0, 3, 500] {
        let settings = ReplaySettings { samples, ..Default::default() };
        let played = play(&plain, &settings);
        let placements = &played.report().placements;
        assert!(placements.checked > 10_000);
        assert_eq!((placements.differing, &placements.first), (0, &None), "{samples} samples");
        let last = played.report().samples.last().copied().expect("that of the end");
        let statistics = played.allocator(0).expect("it exists").statistics();
        assert_eq!(last.held, statistics.block_bytes);
        assert_eq!(
            (last.live, last.allocations),
            (statistics.allocation_bytes, statistics.allocation_count)
        );
        assert!(
            (last.fragmentation - statistics.fragmentation()).abs() < 0.05,
            "{last:?} {statistics:?}"
        );
    }
}
