//! What the readers make of files of other programs.

use std::collections::HashMap;

use vkmem_engine::{Algorithm, MemoryUsage, ResourceKind};
use vkmem_trace::{
    Call, Data, Event, Format, GroupKind, Kind, Object, Position, Resource, Trace, load, load_as,
    write_rmm_csv, write_vkmem, write_vma_csv,
};

const VEGA: &[u8] = include_bytes!("data/vma-1.8-vega.csv");
const ALL_CALLS: &[u8] = include_bytes!("data/vma-all-calls.csv");
const OLDEST: &[u8] = include_bytes!("data/vma-1.0.csv");
const RMM: &[u8] = include_bytes!("data/rmm.csv");
const RMM_EPOCH: &[u8] = include_bytes!("data/rmm-epoch.csv");
const SNAPSHOTS: [&[u8]; 7] = [
    include_bytes!("data/snapshot-0.pickle"),
    include_bytes!("data/snapshot-1.pickle"),
    include_bytes!("data/snapshot-2.pickle"),
    include_bytes!("data/snapshot-3.pickle"),
    include_bytes!("data/snapshot-4.pickle"),
    include_bytes!("data/snapshot-5.pickle"),
    include_bytes!("data/snapshot-whole.pickle"),
];

fn read(bytes: &[u8]) -> Trace {
    let trace = load(bytes).expect("it can be read");
    assert_eq!((trace.warnings(), trace.cut()), (&[][..], None));
    trace
}

fn count(trace: &Trace, kind: Kind) -> usize {
    trace.columns().kinds().iter().filter(|it| **it == kind as u8).count()
}

/// Calls of a trace, without what numbers its events.
fn calls(trace: &Trace) -> Vec<String> {
    let call = |event: Event<'_>| {
        format!("{} {} {} {:?}", event.thread, event.time, event.frame, event.call)
    };
    trace.events().map(call).collect()
}

fn line_of_error(text: &str) -> (u64, String) {
    let error = load(text.as_bytes()).expect_err("it is malformed");
    let Some(Position::Line(line)) = error.position else { panic!("{error} has no line") };
    (line, error.what)
}

#[test]
fn the_recording_of_a_vega() {
    let trace = read(VEGA);
    let description = trace.description();
    assert_eq!((description.format, description.version), (Format::VmaCsv, (1, 8)));
    let device = description.device.as_ref().expect("it is described");
    assert_eq!((device.name.as_str(), device.vendor_id), ("Radeon RX Vega", 4098));
    assert_eq!((device.heaps.len(), device.types.len()), (3, 4));
    assert_eq!(device.limits.non_coherent_atom_size, 128);
    assert_eq!(description.extensions.len(), 3);
    assert_eq!(description.setting("VMA_DEBUG_MARGIN"), Some("0"));
    assert_eq!(trace.len(), 19);
    let allocations: Vec<u32> = (0..8).collect();
    let made: Vec<Event<'_>> =
        trace.events().filter(|it| matches!(it.call, Call::Allocate { .. })).collect();
    assert_eq!(made.len(), allocations.len());
    let Call::Allocate { allocation, request, size, buffer_size, .. } = made[2].call else {
        panic!("the third is a buffer")
    };
    assert_eq!((allocation, size, buffer_size), (2, None, Some(768)));
    assert_eq!((request.kind, request.usage), (ResourceKind::Buffer, MemoryUsage::CpuOnly));
    assert_eq!(request.resource.class(), "other buffer");
    let name = trace.event(2);
    let object = Object::Allocation(0);
    assert_eq!(name.call, Call::Name { object, name: Some("Ala ma kota") });
    assert_eq!(name.time, 10_000_000);
    // Everything was freed.
    assert_eq!(count(&trace, Kind::Free), 8);
}

#[test]
fn every_call_of_vma() {
    let trace = read(ALL_CALLS);
    let device = trace.description().device.as_ref().expect("it is described");
    assert_eq!(device.name, "A name, with a comma");
    assert!(!device.amd_device_coherent);
    assert_eq!(trace.description().setting("SomethingNew,with,three"), Some("4"));
    let options = trace.description().options.as_ref().expect("of a macro");
    assert_eq!(options.preferred_block_size, Some(134_217_728));
    let events: Vec<Event<'_>> = trace.events().collect();
    let find = |kind: Kind| events.iter().filter(move |it| it.call.kind() == kind);
    let infos: Vec<_> = find(Kind::CreatePool)
        .map(|it| match &it.call {
            Call::CreatePool { pool, info, failure, .. } => (*pool, *info, failure.is_some()),
            _ => unreachable!("it was chosen by its kind"),
        })
        .collect();
    assert_eq!(infos[0].1.algorithm, Algorithm::Linear);
    assert_eq!((infos[0].1.block_size, infos[0].1.frames_in_use), (Some(1 << 20), Some(2)));
    assert_eq!((infos[1].1.algorithm, infos[1].1.max_block_count), (Algorithm::Buddy, 0));
    assert_eq!((infos[2].0, infos[2].2), (None, true));
    let named = find(Kind::Allocate).filter_map(|it| match it.call {
        Call::Allocate { name, .. } => name,
        _ => None,
    });
    assert_eq!(named.collect::<Vec<_>>(), ["a name, with commas", "name"]);
    let Call::Allocate { request, data, .. } = find(Kind::Allocate).nth(1).expect("one").call
    else {
        unreachable!("it was chosen by its kind")
    };
    assert_eq!(data, Data::Number(0xDEAD_BEEF));
    let Resource::Image(image) = request.resource else { panic!("it is an image") };
    assert_eq!((image.extent, image.mip_levels), ([128, 64, 1], 8));
    // First fit is the fastest search.
    let Call::Allocate { request, .. } = find(Kind::Allocate).nth(2).expect("one").call else {
        unreachable!("it was chosen by its kind")
    };
    assert_eq!(request.flags.bits(), 0x2_0000);
    let groups: Vec<_> = find(Kind::Group).map(|it| it.call.clone()).collect();
    assert_eq!(groups[0], Call::Group { kind: GroupKind::Allocate, count: 3 });
    // A call for no pages is none.
    assert_eq!(groups[1..], [Call::Group { kind: GroupKind::Free, count: 2 }]);
    let text: Vec<String> = events.iter().map(|it| format!("{:?}", it.call)).collect();
    assert!(text.contains(&"SetData { allocation: 2, data: Number(51966) }".into()));
    assert!(text.contains(&"SetData { allocation: 2, data: None }".into()));
    assert_eq!(count(&trace, Kind::BeginDefragmentation), 2);
    assert_eq!(count(&trace, Kind::EndDefragmentation), 2);
    assert_eq!(count(&trace, Kind::AllocateFailed), 1);
    assert_eq!(count(&trace, Kind::Free), 9);
    assert_eq!(count(&trace, Kind::BeginFrame), 3);
    assert_eq!(events.last().map(|it| (it.frame, it.thread)), Some((3, 7)));
}

#[test]
fn the_oldest_version_has_no_configuration() {
    let trace = read(OLDEST);
    assert_eq!(trace.description().version, (1, 0));
    assert_eq!(trace.description().device, None);
    assert_eq!(trace.columns().times()[1..3], [500_000_000, 500_000_000]);
    assert_eq!(count(&trace, Kind::BeginFrame), 2);
}

#[test]
fn vma_recordings_survive_the_way_through_ours() {
    for bytes in [VEGA, ALL_CALLS, OLDEST] {
        let trace = read(bytes);
        let ours = read(&write_vkmem(&trace));
        assert_eq!(calls(&ours), calls(&trace));
        let written = write_vma_csv(&trace);
        assert_eq!(written.left_out, []);
        let again = read(written.text.as_bytes());
        assert_eq!(calls(&again), calls(&trace));
        assert_eq!(again.description().device, trace.description().device);
        assert_eq!(again.description().extensions, trace.description().extensions);
        assert_eq!(again.description().settings, trace.description().settings);
        assert_eq!(again.description().options, trace.description().options);
        assert_eq!(
            write_vma_csv(&ours).text.lines().filter(|it| it.contains(",vma")).count(),
            written.text.lines().filter(|it| it.contains(",vma")).count()
        );
    }
}

#[test]
fn malformed_recordings_of_vma_name_the_line() {
    let with = |line: &str| {
        let text = "Vulkan Memory Allocator,Calls recording\n1,8\n1,0.0,0,vmaCreateAllocator\n";
        line_of_error(&format!("{text}{line}\n"))
    };
    assert_eq!(
        with("x,0.0,0,vmaMapMemory,1"),
        (4, "column 1 is not a number that fits: \"x\"".into())
    );
    assert_eq!(with("1,0.0,0"), (4, "column 4 is missing".into()));
    assert_eq!(with("1,0.0,0,vmaNew,1").1, "no version of VMA records a function \"vmaNew\"");
    assert_eq!(with("1,0.0,0,vmaMapMemory,0xZ").1, "column 5 is not a pointer: \"0xZ\"");
    assert_eq!(with("1,0.0,0,vmaMapMemory").1, "column 5 is missing");
    assert_eq!(with("1,0.0,0,vmaCreateBuffer,0,1,1,0,0,77,0,0,0,0,0,").1, "no memory usage is 77");
    assert_eq!(with("Config,Begin").1, "Config,Begin in the middle of the file");
    assert_eq!(with("Config,End").1, "Config,End without Config,Begin");
    let (line, what) = line_of_error("Vulkan Memory Allocator,Calls recording\n1,9\n");
    assert_eq!((line, what.as_str()), (2, "version 1,9; this library reads 1,0 to 1,8"));
    let many = "Vulkan Memory Allocator,Calls recording\n1,8\nConfig,Begin\n\
                PhysicalDeviceMemory,Heap,4000000000,size,1\n";
    assert_eq!(line_of_error(many), (4, "a device has 16 of these at most".into()));
}

#[test]
fn a_line_that_is_cut_off_ends_the_trace() {
    let whole = load(ALL_CALLS).expect("it can be read").len();
    let mut cuts = 0;
    for length in ALL_CALLS.len() / 2..ALL_CALLS.len() {
        let trace = load(&ALL_CALLS[..length]).expect("what is there can be read");
        assert!(trace.len() <= whole);
        cuts += usize::from(trace.cut().is_some());
    }
    assert!(cuts > 100);
}

#[test]
fn what_a_recording_does_not_explain_is_a_warning() {
    let text = "Vulkan Memory Allocator,Calls recording\n1,8\n\
                1,0.0,0,vmaMapMemory,00000000000000AB\n\
                1,0.0,0,vmaCreateBuffer,0,1,1,0,0,1,0,0,0,0,00000000000000AB,\n\
                1,0.0,0,vmaCreateBuffer,0,1,1,0,0,1,0,0,0,0,00000000000000AB,\n";
    let trace = load(text.as_bytes()).expect("it can be read");
    let warnings: Vec<String> = trace.warnings().iter().map(|it| it.what.clone()).collect();
    assert_eq!(
        warnings,
        ["allocation 0xab was not created", "allocation 0xab is created again, but was not freed"]
    );
    assert_eq!(trace.warnings()[1].position, Some(Position::Line(5)));
    assert_eq!((trace.len(), trace.warning_count()), (2, 2));
}

#[test]
fn a_log_of_rmm() {
    let trace = read(RMM);
    let events: Vec<Event<'_>> = trace.events().collect();
    // What was freed without having been allocated existed before.
    assert!(events[0].is_state && !events[1].is_state);
    let Call::Allocate { allocation: old, size: Some(4096), .. } = events[0].call else {
        panic!("{:?}", events[0])
    };
    let frees: Vec<_> = events
        .iter()
        .filter_map(|it| match it.call {
            Call::Free { allocation } => Some((allocation, it.time)),
            _ => None,
        })
        .collect();
    assert_eq!(frees[0], (old, 100_001_000));
    assert_eq!(frees[1], (0, 350_000_000));
    assert_eq!(events.last().map(|it| it.time), Some(500_000_000));
    let streams: Vec<_> = trace
        .events()
        .filter_map(|it| match it.call {
            Call::Allocate { request, .. } => Some(request.resource),
            _ => None,
        })
        .collect();
    let stream = Resource::Stream;
    assert_eq!(streams, [stream(0), stream(0), stream(1), stream(2)]);
    assert_eq!(count(&trace, Kind::AllocateFailed), 1);
    let sequences: Vec<u64> = (0..trace.len() as u64).collect();
    assert_eq!(trace.columns().sequences(), sequences);
}

#[test]
fn logs_of_rmm_survive_being_written() {
    for bytes in [RMM, RMM_EPOCH] {
        let trace = read(bytes);
        let written = write_rmm_csv(&trace);
        assert_eq!(written.left_out, []);
        let again = read(written.text.as_bytes());
        let (one, other) = (trace.columns(), again.columns());
        assert_eq!((one.kinds(), one.sizes()), (other.kinds(), other.sizes()));
        assert_eq!((one.times(), one.threads()), (other.times(), other.threads()));
        assert_eq!(trace.dictionary().requests(), again.dictionary().requests());
    }
    let epoch = read(RMM_EPOCH);
    assert_eq!(epoch.description().start, Some(1_596_000_000_250_000_000));
    assert_eq!(epoch.columns().times(), [0, 500_000_000]);
    let what = "Thread,Time,Action,Pointer,Size,Stream\n1,0:0:0.0,steal,0x1,1,0\n";
    assert_eq!(line_of_error(what), (2, "no action is \"steal\"".into()));
}

/// Bytes held, live blocks and live bytes at the end, as the events tell them.
fn totals(trace: &Trace) -> (u64, u64, u64) {
    let (mut memory, mut live) = (HashMap::new(), HashMap::new());
    for event in trace.events() {
        match event.call {
            Call::AllocateMemory { memory: Some(number), size, .. } => {
                assert!(memory.insert(number, size).is_none());
            }
            Call::FreeMemory { memory: number } => assert!(memory.remove(&number).is_some()),
            Call::Allocate { allocation, size, placed, .. } => {
                let (size, placed) = (size.expect("known"), placed.expect("it is in a segment"));
                let of = placed.memory.expect("known");
                assert!(placed.offset < memory[&of], "{placed:?}");
                assert!(live.insert(allocation, size).is_none());
            }
            Call::Free { allocation } => assert!(live.remove(&allocation).is_some()),
            _ => {}
        }
    }
    (memory.values().sum(), live.len() as u64, live.values().sum())
}

#[test]
fn snapshots_of_all_protocols() {
    for (protocol, bytes) in SNAPSHOTS.into_iter().enumerate() {
        let trace = read(bytes);
        assert_eq!(trace.description().format, Format::PyTorch);
        assert_eq!(trace.description().setting("max_split_size"), Some("-1"));
        let states = trace.columns().flags().iter().filter(|it| **it & 1 == 1).count();
        assert_eq!(states > 0, protocol != 6, "only the last begins at the beginning");
        let (held, count, live) = totals(&trace);
        assert!(held >= live && count >= 15 && live > 0);
        let site = trace.events().find_map(|it| it.site).expect("frames are told");
        let stack: Vec<_> = trace.stack(site).collect();
        assert_eq!(stack.len(), 3);
        assert_eq!((stack[2].file, stack[2].line, stack[2].function), ("train.py", 5, "main"));
        assert!(trace.columns().times().is_sorted());
        let ours = read(&write_vkmem(&trace));
        assert_eq!(calls(&ours), calls(&trace));
    }
}

/// A ring has the same end as the whole trace, so what is told of its beginning is right.
#[test]
fn what_existed_before_a_ring_began_is_what_the_whole_trace_says() {
    let (ring, whole) = (read(SNAPSHOTS[4]), read(SNAPSHOTS[6]));
    assert_eq!(totals(&ring), totals(&whole));
    let calls = |trace: &Trace| -> Vec<_> {
        let told = trace.events().filter(|it| !it.is_state);
        let figures = |it: Event<'_>| match it.call {
            Call::Allocate { size, placed, .. } => (size, placed.map(|it| it.offset)),
            Call::AllocateMemory { size, .. } => (Some(size), None),
            _ => (None, None),
        };
        told.map(|it| (it.allocator, it.call.kind(), figures(it))).collect()
    };
    for device in 0..2 {
        let of = |trace: &Trace| -> Vec<_> {
            calls(trace).into_iter().filter(|it| it.0 == device).collect()
        };
        let (ring, whole) = (of(&ring), of(&whole));
        assert!(ring.len() == 150 && whole.len() > 300);
        assert_eq!(ring, whole[whole.len() - ring.len()..]);
    }
}

#[test]
fn pickles_that_name_classes_are_refused() {
    let attacks: [(&[u8], u64); 6] = [
        (b"cos\nsystem\n(S'true'\ntR.", 0),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", 14),
        (b"\x80\x02}q\x00(X\x01\x00\x00\x00acbuiltins\neval\nu.", 12),
        (b"\x80\x02}R.", 3),
        (b"\x80\x02\x82\x01.", 2),
        (b"(Pid\n.", 1),
    ];
    for (bytes, offset) in attacks {
        let error = load_as(Format::PyTorch, bytes).expect_err("it is refused");
        assert_eq!(error.position, Some(Position::Offset(offset)), "{error}");
        assert!(error.what.contains("it is not read, as that could run code"), "{error}");
    }
}

#[test]
fn hostile_pickles_take_neither_time_nor_memory() {
    // A length of 2^60 bytes, of a list that is not there, a number of 2^31 bytes.
    for bytes in [
        &b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0f"[..],
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f",
        b"\x80\x04\x8b\xff\xff\xff\x7f",
        b"\x80\x04j\xff\xff\xff\xff.",
        b"\x80\x04(((((0000000.",
    ] {
        load_as(Format::PyTorch, bytes).expect_err("it is malformed");
    }
    // Lists in lists in lists, a million deep.
    let deep = [&b"\x80\x04"[..], &b"]".repeat(1_000_000), &b"a".repeat(999_999), b"."].concat();
    load_as(Format::PyTorch, &deep).expect_err("it is no snapshot");
    // Each list holds the one before a hundred times: 100^50 values if one followed them all.
    let mut bomb = b"\x80\x04}\x8c\x0ddevice_traces]\x94".to_vec();
    for _ in 0..50 {
        bomb.extend_from_slice(b"](");
        bomb.extend_from_slice(&[b'h', 0].repeat(100));
        bomb.extend_from_slice(b"e\x71\x00");
    }
    bomb.extend_from_slice(b"s.");
    load_as(Format::PyTorch, &bomb).expect_err("it is no snapshot");
    // One trace of ten thousand entries, ten thousand times.
    let mut wide =
        b"\x80\x04}\x8c\x0ddevice_traces](}(\x8c\x06action\x8c\x08snapshotuq\x01".to_vec();
    wide.extend_from_slice(&b"h\x01".repeat(10_000));
    wide.extend_from_slice(b"e]");
    let wide = [&wide[..wide.len() - 1], b"q\x020](", &b"h\x02".repeat(10_000), b"es."].concat();
    let error = load_as(Format::PyTorch, &wide).expect_err("it is too much");
    assert_eq!(
        error.to_string(),
        "PyTorch memory snapshot, it refers to the same values again and again"
    );
}

#[test]
fn a_file_of_no_format_is_refused() {
    for bytes in [&b""[..], b"hello", b"\x00\x00\x00\x00"] {
        assert!(load(bytes).expect_err("it is none").to_string().starts_with("this is no trace"));
    }
}
