//! Timelines: a decoder of its own finds in them what the trace and its replay say.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::{allocate, buffer, random_program, recorded, trace_of};
use vkmem_engine::{DeviceMemory, SimulatedDevice, profile_info};
use vkmem_trace::{
    Call, Description, Event, Format, Frame, Kind, ReplayDevice, ReplaySettings, TimelineOptions,
    Trace, TraceBuilder, VERSION, load, replay, write_chrome_json, write_perfetto,
};

/// A field of a message: its number, and a number or bytes.
#[derive(Clone, Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a number is cut off");
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Number(u64::from_le_bytes(number.try_into().expect("8 bytes")))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (inside, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(inside)
            }
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, field));
    }
    all
}

struct Message<'a>(Vec<(u64, Field<'a>)>);

impl<'a> Message<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(fields(bytes))
    }

    fn number(&self, field: u64) -> Option<u64> {
        self.0.iter().find_map(|(number, it)| match it {
            Field::Number(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(number, it)| match it {
            Field::Bytes(bytes) if *number == field => Some(*bytes),
            _ => None,
        })
    }

    fn message(&self, field: u64) -> Option<Message<'a>> {
        self.all(field).next().map(Message::of)
    }

    fn text(&self, field: u64) -> Option<&'a str> {
        self.all(field).next().map(|it| std::str::from_utf8(it).expect("it is UTF-8"))
    }
}

#[derive(Clone, Debug, Default)]
struct Slice {
    time: u64,
    kind: u64,
    name: String,
    values: BTreeMap<String, String>,
    starts: Option<u64>,
    ends: Option<u64>,
    stack: Vec<(String, String, u64)>,
}

/// A decoded timeline.
#[derive(Default)]
struct Decoded {
    tracks: HashMap<u64, String>,
    /// Values of each counter, with their times.
    counters: BTreeMap<String, Vec<(u64, u64)>>,
    /// Slices and instants of each track; ends have no name.
    slices: BTreeMap<String, Vec<Slice>>,
    /// Bytes of memory objects by memory type, and of bound resources, as the operations sum up.
    memory: BTreeMap<u64, i64>,
    bound: BTreeMap<u64, i64>,
    start: u64,
    packets: usize,
    /// How often the sequence began anew.
    restarts: u32,
}

fn decode(bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let mut interned: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut now = 0;
    for packet in Message::of(bytes).all(1) {
        let packet = Message::of(packet);
        decoded.packets += 1;
        assert_eq!(packet.number(10), Some(1));
        if let Some(snapshot) = packet.message(6) {
            let is_first = decoded.packets == 1;
            assert_eq!((packet.number(13), packet.number(87)), (Some(3), is_first.then_some(1)));
            assert_eq!(packet.message(59).expect("defaults").number(58), Some(64));
            let clocks: Vec<_> = snapshot.all(1).map(Message::of).collect();
            assert_eq!((clocks[0].number(1), clocks[0].number(3)), (Some(64), Some(1)));
            assert_eq!(snapshot.number(2), clocks[1].number(1));
            assert_eq!(clocks[0].number(2), Some(now));
            let start = clocks[1].number(2).expect("a time") - now;
            assert!(is_first || start == decoded.start);
            decoded.start = start;
            // The sequence begins anew: what was interned counts no more.
            decoded.restarts += u32::from(!is_first);
            interned.clear();
            continue;
        }
        if let Some(track) = packet.message(60) {
            let uuid = track.number(1).expect("a number");
            let process = track.message(3);
            let name = process.as_ref().map_or_else(|| track.text(2), |it| it.text(6));
            let old = decoded.tracks.insert(uuid, name.expect("a name").into());
            assert_eq!(old, None, "a track is declared once");
            let parent = track.number(5);
            assert!(parent.is_none_or(|it| decoded.tracks.contains_key(&it)));
            continue;
        }
        if let Some(data) = packet.message(12) {
            for (field, value) in &data.0 {
                let Field::Bytes(bytes) = value else { panic!("{value:?}") };
                let number = Message::of(bytes).number(1).expect("a number");
                assert!(number > 0);
                assert!(interned.insert((*field, number), bytes.to_vec()).is_none());
            }
            continue;
        }
        assert_eq!(packet.number(13), Some(2));
        now += packet.number(8).expect("a time");
        let named = |field: u64, number: u64| {
            let bytes = interned.get(&(field, number)).expect("it was stored before");
            Message::of(bytes).text(2).expect("a text").to_string()
        };
        if let Some(it) = packet.message(62) {
            let is_memory = it.number(1) == Some(3);
            let sums = if is_memory { &mut decoded.memory } else { &mut decoded.bound };
            let begins = matches!(it.number(2), Some(1 | 3));
            let size = it.number(6).expect("a size") as i64;
            *sums.entry(it.number(18).expect("a type")).or_default() +=
                if begins { size } else { -size };
            continue;
        }
        let event = packet.message(11).expect("nothing else is written");
        let track = decoded.tracks[&event.number(11).expect("a track")].clone();
        let kind = event.number(9).expect("a kind");
        if kind == 4 {
            let value = event.number(30).expect("a value");
            decoded.counters.entry(track).or_default().push((now, value));
            continue;
        }
        let values = event.all(4).map(|it| {
            let it = Message::of(it);
            let value = it.number(3).map(|it| it.to_string());
            let value = value.or_else(|| it.text(6).map(String::from)).expect("a value");
            (named(3, it.number(1).expect("a key")), value)
        });
        let stack = event.number(56).map_or(Vec::new(), |number| {
            let frames = Message::of(&interned[&(7, number)]);
            let frames = frames.0.iter().filter(|(field, _)| *field == 2).map(|(_, it)| match it {
                Field::Number(number) => *number,
                Field::Bytes(_) => panic!("frames are numbers"),
            });
            frames
                .map(|frame| {
                    let frame = Message::of(&interned[&(6, frame)]);
                    let number = |field| frame.number(field).expect("a number");
                    (named(5, number(2)), named(18, number(5)), number(6))
                })
                .collect()
        });
        let slice = Slice {
            time: now,
            kind,
            name: event.number(10).map_or(String::new(), |it| named(2, it)),
            values: values.collect(),
            starts: event.number(47),
            ends: event.number(48),
            stack,
        };
        decoded.slices.entry(track).or_default().push(slice);
    }
    decoded
}

impl Decoded {
    fn of(trace: &Trace, options: TimelineOptions) -> Self {
        decode(&write_perfetto(trace, options, Vec::new()).expect("memory takes all"))
    }

    /// The value of a counter after all that happened up to a time; 0 if it has none.
    fn counter(&self, name: &str, time: u64) -> u64 {
        let values = self.counters.get(name).map_or(&[][..], Vec::as_slice);
        let count = values.partition_point(|(at, _)| *at <= time);
        values[..count].last().map_or(0, |it| it.1)
    }

    /// Each slice ends, on each track in the reverse order.
    fn check_slices(&self) {
        for (track, slices) in &self.slices {
            let mut depth = 0;
            for it in slices {
                match it.kind {
                    1 => depth += 1,
                    2 => depth -= 1,
                    _ => assert_eq!(it.kind, 3),
                }
                assert!(depth >= 0, "{track}");
            }
            assert_eq!(depth, 0, "{track}");
        }
    }
}

/// Events after which a replay stands where the recorded program stood: the last ones of their time, not within a group.
fn moments(trace: &Trace) -> Vec<usize> {
    let times = trace.columns().times();
    let (mut all, mut group) = (Vec::new(), 0);
    for (index, event) in trace.events().enumerate() {
        if let Call::Group { count, .. } = event.call {
            group = index + count as usize;
        }
        if index >= group && times.get(index + 1) != Some(&times[index]) {
            all.push(index);
        }
    }
    all
}

#[test]
fn counters_are_the_statistics_of_a_replay() {
    for (seed, name) in ["discrete-8gib-bar", "integrated", "nvidia-h200"].into_iter().enumerate() {
        let device = profile_info(name).expect("a profile");
        let source = random_program(&device, 40 + seed as u64, 2500, 200);
        let trace = recorded(source, &ReplaySettings::default());
        let decoded =
            Decoded::of(&trace, TimelineOptions { resources: true, ..Default::default() });
        decoded.check_slices();
        let moments = moments(&trace);
        let mut checked = 0;
        for &moment in moments.iter().step_by(moments.len() / 60) {
            let settings =
                ReplaySettings { until: Some(moment + 1), samples: 0, ..Default::default() };
            let played = replay(&trace, &settings).expect("sound settings");
            let allocator = played.allocator(0).expect("it exists");
            let time = trace.columns().times()[moment];
            for (heap, budget) in allocator.heap_budgets().iter().enumerate() {
                let of = |what: &str| decoded.counter(&format!("heap {heap} {what}"), time);
                let shown = (of("held"), of("live"));
                let expected = (budget.block_bytes, budget.allocation_bytes);
                assert_eq!(shown, expected, "{name}: heap {heap} after event {moment}");
                checked += 1;
            }
            for index in 0..device.types.len() as u32 {
                let name = format!("memory type {index}");
                if decoded.counters.contains_key(&format!("{name} held")) {
                    let statistics = allocator.statistics_of_type(index);
                    let of = |what: &str| decoded.counter(&format!("{name} {what}"), time);
                    let shown = (of("held"), of("live"));
                    let expected = (statistics.block_bytes, statistics.allocation_bytes);
                    assert_eq!(shown, expected, "{name} after event {moment}");
                    checked += 1;
                }
            }
        }
        assert!(checked >= 60, "{checked}");
        // The operations of Vulkan's memory add up to what is held in the end, but for what moved.
        let played = replay(&trace, &ReplaySettings::default()).expect("sound settings");
        let allocator = played.allocator(0).expect("it exists");
        for (&index, &bytes) in &decoded.memory {
            let statistics = allocator.statistics_of_type(index as u32);
            assert_eq!(bytes as u64, statistics.block_bytes, "memory type {index}");
        }
        assert!(decoded.bound.values().all(|it| *it >= 0));
        // Chrome's format has the same counters.
        let json =
            write_chrome_json(&trace, TimelineOptions::default(), Vec::new()).expect("memory");
        let json = String::from_utf8(json).expect("it is UTF-8");
        let mut counters: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for line in json.lines().filter(|it| it.contains(r#""ph":"C""#)) {
            let after = |key: &str| {
                let rest = line.split_once(key).expect("it is there").1;
                rest.split(['"', ',', '}']).next().expect("a value").to_string()
            };
            let (micros, nanos) = after(r#""ts":"#)
                .split_once('.')
                .map(|(a, b)| {
                    (a.parse::<u64>().expect("a number"), b.parse::<u64>().expect("a number"))
                })
                .expect("a fraction");
            let value = after(r#""bytes":"#).parse().expect("a number");
            let name = after(r#""name":""#);
            counters.entry(name).or_default().push((micros * 1000 + nanos, value));
        }
        assert_eq!(counters, decoded.counters);
        assert!(json.starts_with("{\"traceEvents\":[\n{") && json.ends_with("\"ns\"}\n"));
        assert!(!json.contains(",]") && !json.contains(",,") && !json.contains("[,"));
    }
}

#[test]
fn frames_failures_and_losses() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let description = Description {
        device: Some(device.clone()),
        program: Some("a game".into()),
        process: Some(4321),
        start: Some(1_700_000_000_000_000_000),
        ..Description::new(Format::VkMem, VERSION)
    };
    let mut trace = TraceBuilder::new(description);
    let frame = |function, line| Frame { file: "game.py", line, function };
    let main = trace.dictionary_mut().site(None, frame("main", 3));
    let site = trace.dictionary_mut().site(Some(main), frame("load", 70));
    let failure = vkmem_trace::Failure {
        reason: vkmem_trace::FailureReason::OutOfDeviceMemory,
        message: Some("no room"),
        ..Default::default()
    };
    let lost = [0_u32];
    let calls = [
        (1000, 1, Call::BeginFrame {}),
        (1500, 1, allocate(0, buffer(1), 4096)),
        (
            2000,
            1,
            Call::AllocateFailed {
                request: buffer(1),
                size: None,
                buffer_size: Some(77),
                failure: Some(Box::new(failure)),
            },
        ),
        (2000, 1, Call::Lose { allocations: vkmem_trace::Numbers::new(&lost) }),
        (5000, 2, Call::BeginFrame {}),
        (6000, 2, Call::Mark { text: "level 2" }),
    ];
    for (number, (time, frame, call)) in (0..).zip(calls) {
        let event = Event::new(number, time, call);
        trace.push(&Event { frame, site: Some(site), ..event }).expect("small");
    }
    let trace = trace.finish();
    let options = TimelineOptions { allocations: Some(4096), ..Default::default() };
    let decoded = Decoded::of(&trace, options);
    decoded.check_slices();
    assert_eq!(decoded.start, 1_700_000_000_000_000_000);
    assert_eq!(decoded.tracks[&1], "a game");
    let frames: Vec<_> =
        decoded.slices["frames"].iter().map(|it| (it.time, it.name.as_str())).collect();
    assert_eq!(frames, [(1000, "frame 1"), (5000, ""), (5000, "frame 2"), (6000, "")]);
    let failed = &decoded.slices["failures"][0];
    assert_eq!((failed.time, failed.name.as_str()), (2000, "allocation failed"));
    let values: Vec<_> =
        failed.values.iter().map(|(key, it)| (key.as_str(), it.as_str())).collect();
    assert_eq!(values, [("message", "no room"), ("reason", "OutOfDeviceMemory"), ("size", "77")]);
    // From the outermost function on.
    let stack: Vec<_> = failed
        .stack
        .iter()
        .map(|(name, path, line)| (name.as_str(), path.as_str(), *line))
        .collect();
    assert_eq!(stack, [("main", "game.py", 3), ("load", "game.py", 70)]);
    let lost = &decoded.slices["evictions"][0];
    assert_eq!((lost.name.as_str(), lost.values["size"].as_str()), ("lost", "4096"));
    assert_eq!(decoded.slices["allocations 0"].len(), 2);
    assert_eq!(decoded.slices["marks"][0].name, "level 2");
}

#[test]
fn moves_are_arrows_between_memory_objects() {
    let device = profile_info("integrated").expect("a profile");
    let source = random_program(&device, 99, 4000, 300);
    let trace = recorded(source, &ReplaySettings::default());
    let decoded = Decoded::of(&trace, TimelineOptions::default());
    decoded.check_slices();
    let moved = trace.events().filter(|it| {
        matches!(it.call, Call::EndMove { result: vkmem_trace::MoveResult::Moved, .. })
    });
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for slice in decoded.slices.values().flatten() {
        starts.extend(slice.starts);
        ends.extend(slice.ends);
    }
    starts.sort_unstable();
    ends.sort_unstable();
    assert_eq!(starts.len(), moved.count());
    assert!(!starts.is_empty());
    assert_eq!(starts, ends);
    assert_eq!(starts.last().copied(), Some(starts.len() as u64));
    let passes = decoded.slices["defragmentation 0"].iter().filter(|it| it.name == "pass");
    let begun = trace.columns().kinds().iter().filter(|it| **it == Kind::BeginPass as u8);
    assert_eq!(passes.count(), begun.count());
}

#[test]
fn memory_objects_are_slices() {
    let info = profile_info("discrete-8gib").expect("a profile");
    let device = Arc::new(SimulatedDevice::new(info.clone()));
    device.occupy(0, info.heaps[0].size - (100 << 20));
    let calls = (0..9).map(|number| allocate(number, buffer(0x80), 30 << 20));
    let settings = ReplaySettings {
        device: ReplayDevice::Other(device as Arc<dyn DeviceMemory>),
        ..Default::default()
    };
    let trace = recorded(trace_of(&info, calls), &settings);
    let decoded = Decoded::of(&trace, TimelineOptions::default());
    decoded.check_slices();
    let held: Vec<u64> = trace
        .events()
        .filter_map(|it| match it.call {
            Call::AllocateMemory { memory: Some(_), size, .. } => Some(size),
            _ => None,
        })
        .collect();
    let blocks = decoded.slices.iter().filter(|(track, _)| track.starts_with("block "));
    let mut sizes: Vec<u64> = blocks
        .flat_map(|(_, slices)| slices.iter().filter_map(|it| it.values.get("size")))
        .map(|it| it.parse().expect("a number"))
        .collect();
    sizes.sort_unstable();
    let mut expected = held.clone();
    expected.sort_unstable();
    assert_eq!(sizes, expected);
    // What the driver refused is told.
    let refused = decoded.slices["failures"].iter().find(|it| it.values.contains_key("VkResult"));
    assert_eq!(refused.expect("it was refused").values["VkResult"], "-2");
}

#[test]
fn traces_without_a_device_have_one_counter() {
    let trace = load(include_bytes!("data/snapshot-4.pickle")).expect("sound");
    let decoded = Decoded::of(&trace, TimelineOptions::default());
    decoded.check_slices();
    let mut names: Vec<_> = decoded.counters.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["memory held", "memory live"]);
    for bytes in [&include_bytes!("data/vma-all-calls.csv")[..], include_bytes!("data/rmm.csv")] {
        let trace = load(bytes).expect("sound");
        Decoded::of(&trace, TimelineOptions { allocations: Some(0), resources: true })
            .check_slices();
    }
}

/// A writer that takes some bytes and then none.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let device = profile_info("integrated").expect("a profile");
    let calls = (0..20_000).map(|number| allocate(number, buffer(0x80), 100));
    let trace = recorded(trace_of(&device, calls), &ReplaySettings::default());
    for limit in [0, 100_000] {
        let failed = write_perfetto(&trace, TimelineOptions::default(), Full(limit)).err();
        assert_eq!(failed.expect("it is full").kind(), std::io::ErrorKind::StorageFull);
        let failed = write_chrome_json(&trace, TimelineOptions::default(), Full(limit)).err();
        assert_eq!(failed.expect("it is full").kind(), std::io::ErrorKind::StorageFull);
    }
}

#[test]
fn interned_values_are_bounded() {
    let description = Description { start: Some(5), ..Description::new(Format::VkMem, VERSION) };
    let mut trace = TraceBuilder::new(description);
    let site = trace.dictionary_mut().site(None, Frame { file: "a.py", line: 3, function: "f" });
    let texts: Vec<String> = (0..4000).map(|it| format!("{it:01000}")).collect();
    for (number, text) in (0..).zip(&texts) {
        let event = Event::new(number, 10 * number, Call::Mark { text });
        trace.push(&Event { site: Some(site), ..event }).expect("small");
    }
    let decoded = Decoded::of(&trace.finish(), TimelineOptions::default());
    assert!((3..10).contains(&decoded.restarts), "{}", decoded.restarts);
    let marks = &decoded.slices["marks"];
    assert_eq!(marks.len(), texts.len());
    for ((mark, text), number) in marks.iter().zip(&texts).zip(0..) {
        assert_eq!((&mark.name, mark.time), (text, 10 * number));
        assert_eq!(mark.stack, [("f".to_string(), "a.py".to_string(), 3)]);
    }
}

/// A memory type has counters once a second one of its heap is in use; before that it is as its heap.
#[test]
fn counters_come_when_they_are_needed() {
    let device = profile_info("discrete-8gib-bar").expect("a profile");
    let heaps: Vec<u32> = device.types.iter().map(|it| it.heap_index).collect();
    let first = heaps.iter().position(|it| *it == heaps[0]).expect("it is there") as u32;
    let second = heaps.iter().skip(1).position(|it| *it == heaps[0]).expect("another") as u32 + 1;
    let memory = |number, memory_type| Call::AllocateMemory {
        memory: Some(number),
        memory_type: Some(memory_type),
        size: 100,
        priority: None,
        export_handle_types: 0,
        names_resource: false,
        is_imported: false,
        result: 0,
    };
    let name = |name| Call::Name { object: vkmem_trace::Object::Pool(0), name: Some(name) };
    let pool = || Call::CreatePool {
        pool: Some(0),
        info: Default::default(),
        has_next: false,
        failure: None,
    };
    let calls = [memory(0, first), memory(1, first), memory(2, second), pool(), name("early")];
    let later = [name("last"), Call::DestroyPool { pool: 0 }];
    let trace = trace_of(&device, calls.into_iter().chain(later));
    let decoded = Decoded::of(&trace, TimelineOptions::default());
    let heap = format!("heap {} held", heaps[0]);
    assert_eq!(decoded.counters[&heap], [(0, 100), (1000, 200), (2000, 300)]);
    assert_eq!(decoded.counters[&format!("memory type {first} held")], [(2000, 200)]);
    assert_eq!(decoded.counters[&format!("memory type {second} held")], [(2000, 100)]);
    let types = decoded.tracks.values().filter(|it| it.starts_with("memory type")).count();
    assert_eq!(types, 4);
    // The memory object before it is that of the pool.
    assert_eq!(decoded.counters["pool 0: last held"], [(4000, 300), (6000, 0)]);
    assert!(!decoded.tracks.values().any(|it| it.contains("budget") || it.contains("early")));
}
